//! Whether the daemon can run with a configuration: every problem at once, in words that say what to write instead.
//!
//! Types and unknown keys are already settled when this runs ([`super::load`]); here are ranges, alphabets, pairs of keys that belong
//! together, and files that must be there.

use std::{collections::BTreeSet, fmt::Display, path::Path};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    AuthMode, Camera, CameraKind, Config,
    load::{Problem, secret_path},
    units::{Bytes, Span},
};
use crate::domain::{ids::UserId, job::MAX_MERGED};

/// Keys whose text is one of a few words. `schema.json` shows the same lists.
pub const CHOICES: &[(&str, &[&str])] = &[
    ("auth.mode", &["token", "open"]),
    ("upload.order", &["oldest", "newest"]),
    ("inference.require", &["", "tensorrt", "cuda", "cpu"]),
    ("inference.precision", &["auto", "fp32", "fp16"]),
    ("quality.mode", &["gate", "report", "off"]),
    ("enhance.scope", &["iris", "photo"]),
    ("retention.on_full", &["evict_uploaded", "reject"]),
    ("camera.NAME.kind", &["v4l", "folder", "synthetic"]),
    ("camera.NAME.format", &["auto", "mjpeg", "yuyv"]),
    ("log.format", &["auto", "text", "json"]),
];

/// What `inference.providers` may list.
pub const PROVIDERS: &[&str] = &["tensorrt", "cuda", "cpu"];

/// S3 takes no smaller part, save the last (AWS, "Multipart upload limits").
const SMALLEST_PART: Bytes = Bytes::mib(5);
/// Presigned URLs live at most seven days (AWS, Signature Version 4).
const LONGEST_PRESIGN: Span = Span::minutes(7 * 24 * 60);
/// px; an iris photo of more would not fit the memory of the smallest device, and one of less shows no iris.
const PIXEL_LIMIT: std::ops::RangeInclusive<u64> = 10_000..=400_000_000;

#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn need(&mut self, fine: bool, key: impl Display, message: impl Display) {
        if !fine {
            self.0.push(Problem { at: None, key: key.to_string(), message: message.to_string() });
        }
    }

    fn within<T: PartialOrd + Display>(&mut self, key: impl Display, value: T, least: T, most: T) {
        let fine = least <= value && value <= most;
        self.need(fine, key, format!("{value} is out of range; it must lie between {least} and {most}"));
    }

    fn choice(&mut self, key: impl Display, listed_as: &str, value: &str) {
        let (_, words) = CHOICES.iter().find(|(k, _)| *k == listed_as).expect("every choice that is checked is listed");
        self.need(words.contains(&value), key, format!("{value:?} is not one of {}", words.join(", ")));
    }

    /// An empty path means "not set".
    fn file(&mut self, key: &str, path: &Path) {
        let real = secret_path(path);
        self.need(path.as_os_str().is_empty() || real.is_file(), key, format!("there is no file {}", real.display()));
    }

    fn both_or_none(&mut self, keys: [&str; 2], set: [bool; 2]) {
        let name = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
        for (i, other) in [(0, 1), (1, 0)] {
            self.need(set[i] || !set[other], keys[i], format!("is missing while {} is set; both or none", name(keys[other])));
        }
    }
}

fn given(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

/// `scheme://host[:port]`, with nothing behind it but, where allowed, a path.
fn is_url(url: &str, schemes: &[&str], path_allowed: bool) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let host_fine = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._[]:".contains(c));
    schemes.contains(&scheme) && host_fine && port.is_none_or(|p| p.parse::<u16>().is_ok()) && (path_allowed || path.is_empty())
}

/// An address as a problem may show it: what stands before an `@` could be a password.
pub fn without_login(url: &str) -> String {
    let Some((front, host)) = url.rsplit_once('@') else { return url.to_owned() };
    let scheme = front.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
    format!("{scheme}...@{host}")
}

/// Local hours, "22:00-06:00": minutes of the day from and to.
pub fn parse_window(text: &str) -> Option<(u16, u16)> {
    let minutes = |t: &str| {
        let (h, m) = t.split_once(':')?;
        let (h, m): (u16, u16) = (h.parse().ok()?, m.parse().ok()?);
        (h < 24 && m < 60).then_some(h * 60 + m)
    };
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minutes(from.trim())?, minutes(to.trim())?);
    (from != to).then_some((from, to))
}

impl Config {
    /// The device's name in topics and logs: `device.id`, else the host's name, cut down to `[a-z0-9-]`.
    pub fn device_id(&self) -> String {
        if !self.device.id.is_empty() {
            return self.device.id.clone();
        }
        sanitised(&rustix::system::uname().nodename().to_string_lossy())
    }

    /// Everything that is wrong; empty when the daemon can run with it.
    pub fn validate(&self) -> Vec<Problem> {
        let mut f = Findings::default();
        self.check_device(&mut f);
        self.check_doors(&mut f);
        self.check_mqtt(&mut f);
        self.check_bucket(&mut f);
        self.check_models(&mut f);
        self.check_quality(&mut f);
        self.check_limits(&mut f);
        for (name, camera) in &self.camera {
            check_camera(&mut f, name, camera);
        }
        f.0
    }

    fn check_device(&self, f: &mut Findings) {
        let id = &self.device.id;
        let fine = id.len() <= 63 && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        f.need(fine, "device.id", format!("{id:?} may hold a-z, 0-9 and - alone, 63 at most"));
        f.need(self.paths.state.is_absolute(), "paths.state", "must be the path of a folder");
        f.file("paths.onnxruntime", &self.paths.onnxruntime);
        let level = self.log.level.as_str();
        // A filter takes a lone word that is no level for the name of a part, and is silent about all others.
        let word = |part: &str| part.contains(['=', '[']) || part.trim().parse::<LevelFilter>().is_ok();
        let fine = EnvFilter::builder().parse(level).is_ok() && !level.is_empty() && level.split(',').all(word);
        f.need(
            fine,
            "log.level",
            format!("{level:?} is no level; write error, warn, info, debug, trace or off, or a filter such as \"info,irisd=debug\""),
        );
        f.choice("log.format", "log.format", &self.log.format);
    }

    fn check_doors(&self, f: &mut Findings) {
        let http = &self.http;
        f.within("http.max_upload", http.max_upload, Bytes(1024), Bytes::gib(1));
        f.within("http.max_pixels", http.max_pixels, *PIXEL_LIMIT.start(), *PIXEL_LIMIT.end());
        f.both_or_none(["http.tls_cert", "http.tls_key"], [given(&http.tls_cert), given(&http.tls_key)]);
        f.file("http.tls_cert", &http.tls_cert);
        f.file("http.tls_key", &http.tls_key);
        for origin in &http.allowed_origins {
            let fine = is_url(origin, &["http", "https"], false);
            f.need(fine, "http.allowed_origins", format!("{origin:?} is no origin; write it as \"https://kiosk.example:8443\""));
        }
        f.need(
            self.auth.mode == AuthMode::Token || http.listen.ip().is_loopback(),
            "auth.mode",
            format!("\"open\" lets everybody in, and {} can be reached from outside; use \"token\" or listen on 127.0.0.1", http.listen),
        );
    }

    fn check_mqtt(&self, f: &mut Findings) {
        let mqtt = &self.mqtt;
        let fine = mqtt.url.is_empty() || is_url(&mqtt.url, &["mqtt", "mqtts"], false);
        f.need(fine, "mqtt.url", format!(
            "{:?} is no broker; write it as \"mqtt://host:1883\" or \"mqtts://host:8883\", with the login in username and password_file",
            without_login(&mqtt.url)
        ));
        f.need(!given(&mqtt.password_file) || !mqtt.username.is_empty(), "mqtt.username", "is missing while password_file is set");
        f.both_or_none(["mqtt.client_cert", "mqtt.client_key"], [given(&mqtt.client_cert), given(&mqtt.client_key)]);
        for (key, path) in [
            ("mqtt.password_file", &mqtt.password_file),
            ("mqtt.ca_file", &mqtt.ca_file),
            ("mqtt.client_cert", &mqtt.client_cert),
            ("mqtt.client_key", &mqtt.client_key),
        ] {
            f.file(key, path);
        }
        let prefix = &mqtt.topic_prefix;
        let fine = !prefix.is_empty() && !prefix.contains(['#', '+', '\0', '$']) && !prefix.starts_with('/') && !prefix.ends_with('/');
        f.need(fine, "mqtt.topic_prefix", format!("{prefix:?} is no topic; no # + $, no / at its ends, not empty"));
    }

    fn check_bucket(&self, f: &mut Findings) {
        let s3 = &self.s3;
        let fine = s3.endpoint.is_empty() || is_url(&s3.endpoint, &["http", "https"], true);
        f.need(
            fine,
            "s3.endpoint",
            format!(
                "{:?} is no endpoint; write it as \"https://s3.example:9000\", with the keys in access_key_file and secret_key_file",
                without_login(&s3.endpoint)
            ),
        );
        if !s3.bucket.is_empty() {
            let letters = s3.bucket.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
            f.need(letters && (3..=63).contains(&s3.bucket.len()), "s3.bucket", "3 to 63 of a-z, 0-9, - and .");
            f.need(!s3.region.is_empty(), "s3.region", "is missing; most servers that are not AWS take \"us-east-1\"");
            f.need(given(&s3.access_key_file), "s3.access_key_file", "is missing while s3.bucket is set");
            f.need(given(&s3.secret_key_file), "s3.secret_key_file", "is missing while s3.bucket is set");
        }
        f.file("s3.access_key_file", &s3.access_key_file);
        f.file("s3.secret_key_file", &s3.secret_key_file);
        f.file("s3.ca_file", &s3.ca_file);
        f.within("s3.presign_ttl", s3.presign_ttl, Span::seconds(1), LONGEST_PRESIGN);
        let upload = &self.upload;
        let rate = upload.max_rate.parse::<Bytes>();
        f.need(
            upload.max_rate.is_empty() || rate.is_ok_and(|r| r.0 > 0),
            "upload.max_rate",
            format!("{:?} is no size a second; write it as \"2MiB\", or \"\" for no cap", upload.max_rate),
        );
        f.need(
            upload.window.is_empty() || parse_window(&upload.window).is_some(),
            "upload.window",
            format!("{:?} is no window of local hours; write it as \"22:00-06:00\", or \"\" for always", upload.window),
        );
        f.within("upload.part_size", upload.part_size, SMALLEST_PART, Bytes::gib(1));
        f.within("upload.parallel", upload.parallel, 1, 16);
    }

    fn check_models(&self, f: &mut Findings) {
        let inference = &self.inference;
        f.need(!inference.providers.is_empty(), "inference.providers", "is empty; [\"cpu\"] is the least");
        for name in &inference.providers {
            let known = PROVIDERS.contains(&name.as_str());
            f.need(known, "inference.providers", format!("{name:?} is not one of {}", PROVIDERS.join(", ")));
        }
        let different: BTreeSet<&String> = inference.providers.iter().collect();
        f.need(different.len() == inference.providers.len(), "inference.providers", "names one twice");
        f.choice("inference.require", "inference.require", &inference.require);
        let listed = inference.require.is_empty() || inference.providers.contains(&inference.require);
        f.need(listed, "inference.require", format!("{:?} is not among inference.providers", inference.require));
        f.within("inference.threads", inference.threads, 0, 256);
        f.choice("inference.precision", "inference.precision", &inference.precision);
        f.need(
            inference.idle_unload.is_empty() || inference.idle_unload.parse::<Span>().is_ok(),
            "inference.idle_unload",
            format!("{:?} is not a length of time; write it as \"10m\", or \"\" for never", inference.idle_unload),
        );
        f.need(
            inference.memory.is_empty() || inference.memory.parse::<Bytes>().is_ok_and(|m| m.0 > 0),
            "inference.memory",
            format!("{:?} is no size; write it as \"1GiB\", or \"\" for what is free", inference.memory),
        );
        f.need(!self.segment.model.is_empty(), "segment.model", "is empty; write auto, classical or a name of `irisd weights list`");
        f.need(!self.enhance.model.is_empty(), "enhance.model", "is empty; write auto, lanczos or a name of `irisd weights list`");
        let method = &self.reflections.method;
        f.need(!method.is_empty(), "reflections.method", "is empty; write auto, classical, off or a name of `irisd weights list`");
        f.within("enhance.scale", self.enhance.scale, 1, 4);
        f.within("enhance.tile", self.enhance.tile, 64, 1024);
    }

    fn check_quality(&self, f: &mut Findings) {
        let q = &self.quality;
        f.within("segment.min_coverage", self.segment.min_coverage, 0.0, 1.0);
        for (key, share) in [
            ("quality.min_confidence", q.min_confidence),
            ("quality.min_limbus_edge", q.min_limbus_edge),
            ("quality.min_pupil_inside", q.min_pupil_inside),
            ("quality.min_concentricity", q.min_concentricity),
            ("quality.max_motion", q.max_motion),
            ("quality.min_iris_sclera_contrast", q.min_iris_sclera_contrast),
            ("quality.min_iris_pupil_contrast", q.min_iris_pupil_contrast),
            ("quality.max_clipped", q.max_clipped),
            ("quality.max_glare", q.max_glare),
            ("quality.max_pupil_glare", q.max_pupil_glare),
            ("quality.min_usable_area", q.min_usable_area),
            ("quality.min_inside", q.min_inside),
            ("quality.min_pupil_ratio", q.min_pupil_ratio),
            ("quality.max_pupil_ratio", q.max_pupil_ratio),
        ] {
            f.within(key, share, 0.0, 1.0);
        }
        f.within("quality.min_iris_diameter", q.min_iris_diameter, 0.0, 10_000.0);
        f.within("quality.min_sharpness", q.min_sharpness, 0.0, 100.0);
        f.within("quality.min_lightness", q.min_lightness, 0.0, 100.0);
        f.within("quality.max_lightness", q.max_lightness, 0.0, 100.0);
        f.within("quality.max_gaze", q.max_gaze, 0.0, 90.0);
        f.need(q.min_lightness < q.max_lightness, "quality.min_lightness", "must lie below max_lightness");
        f.need(q.min_pupil_ratio < q.max_pupil_ratio, "quality.min_pupil_ratio", "must lie below max_pupil_ratio");
    }

    fn check_limits(&self, f: &mut Findings) {
        f.within("queue.max_pending", self.queue.max_pending, 1, 1_000_000);
        f.within("queue.ageing", self.queue.ageing, Span::seconds(1), Span::minutes(24 * 60));
        f.within("queue.job_timeout", self.queue.job_timeout, Span::seconds(1), Span::minutes(24 * 60));
        f.need(
            self.queue.memory.is_empty() || self.queue.memory.parse::<Bytes>().is_ok_and(|m| m.0 > 0),
            "queue.memory",
            format!("{:?} is no size; write it as \"2GiB\", or \"\" for half of what there is", self.queue.memory),
        );
        f.within("queue.crash_limit", self.queue.crash_limit, 1, 100);
        f.need(self.retention.cap >= self.http.max_upload, "retention.cap", "is below http.max_upload: not one photo would fit");
    }
}

fn check_camera(f: &mut Findings, name: &str, camera: &Camera) {
    let key = |k: &str| format!("camera.{name}.{k}");
    let fine = (1..=32).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    f.need(fine, format!("camera.{name}"), "a camera's name may hold a-z, 0-9, - and _ alone, 32 at most");
    f.need(camera.owner.parse::<UserId>().is_ok(), key("owner"), format!("{:?} must be 1 to 64 of a-z, 0-9, . _ -", camera.owner));
    f.choice(key("format"), "camera.NAME.format", &camera.format);
    let device = &camera.device;
    match camera.kind {
        CameraKind::V4l => f.need(device.is_empty() || device.starts_with("/dev/"), key("device"), "must be a device such as /dev/video0"),
        CameraKind::Folder => f.need(Path::new(device).is_absolute(), key("device"), "must be the absolute path of the folder to watch"),
        CameraKind::Synthetic => {
            f.need(device.is_empty() || device.parse::<u64>().is_ok(), key("device"), "must be the seed of the first eye, a whole number");
        }
    }
    f.within(key("width"), camera.width, 0, 16_384);
    f.within(key("height"), camera.height, 0, 16_384);
    f.within(key("fps"), camera.fps, 0, 240);
    f.within(key("burst"), camera.burst, 1, 60);
    f.within(key("merge"), camera.merge, 0, MAX_MERGED as u32);
    let frames = format!("must be above camera.{name}.merge ({}): the photo is a frame of its own", camera.merge);
    f.need(camera.merge == 0 || camera.burst > camera.merge, key("burst"), frames);
    f.need(camera.merge == 0 || camera.kind != CameraKind::Folder, key("merge"), "must be 0: a watched folder has no bursts");
    f.within(key("settle"), camera.settle, Span::millis(0), Span::seconds(60));
}

fn sanitised(host: &str) -> String {
    let dashed: String =
        host.to_lowercase().chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).take(63).collect();
    let name = dashed.trim_matches('-');
    if name.is_empty() { "irisd".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fine() {
        assert_eq!(Config::default().validate(), []);
    }

    #[test]
    fn every_kind_of_mistake_is_named_by_its_key_all_at_once() {
        let text = r#"
            [device]
            id = "Room 1"
            [paths]
            state = "here"
            onnxruntime = "/nowhere/lib.so"
            [http]
            listen = "0.0.0.0:80"
            max_pixels = 0
            tls_cert = "/nowhere/cert.pem"
            allowed_origins = ["kiosk"]
            [auth]
            mode = "open"
            [mqtt]
            url = "http://broker"
            password_file = "/nowhere/pw"
            topic_prefix = "a/#"
            [s3]
            endpoint = "s3.example"
            bucket = "photos"
            presign_ttl = "30d"
            [upload]
            max_rate = "fast"
            window = "22-6"
            part_size = "1MiB"
            parallel = 0
            [inference]
            providers = ["gpu", "cpu", "cpu"]
            require = "cuda"
            precision = "int4"
            idle_unload = "soon"
            memory = "much"
            [segment]
            model = ""
            min_coverage = 5
            [quality]
            max_gaze = 200
            min_lightness = 90
            [reflections]
            method = ""
            [enhance]
            scale = 0
            tile = 7
            [queue]
            crash_limit = 0
            memory = "much"
            [retention]
            cap = "1MiB"
            [log]
            level = "irisd=noisy"
            format = "xml"
            [camera.Big-One]
            kind = "folder"
            owner = "A B"
            burst = 0
        "#;
        let problems = toml::from_str::<Config>(text).unwrap().validate();
        let keys: BTreeSet<&str> = problems.iter().map(|p| p.key.as_str()).collect();
        let expected = "device.id paths.state paths.onnxruntime http.max_pixels http.tls_cert http.tls_key http.allowed_origins auth.mode \
            mqtt.url mqtt.username mqtt.password_file mqtt.topic_prefix s3.endpoint s3.access_key_file s3.secret_key_file s3.presign_ttl \
            upload.max_rate upload.window upload.part_size upload.parallel inference.providers inference.require inference.precision \
            inference.idle_unload inference.memory segment.model segment.min_coverage quality.max_gaze quality.min_lightness reflections.method \
            enhance.scale enhance.tile queue.crash_limit queue.memory retention.cap log.level log.format camera.Big-One.owner camera.Big-One.burst \
            camera.Big-One.device camera.Big-One";
        for key in expected.split_whitespace() {
            assert!(keys.iter().any(|k| k.starts_with(key)), "{key} was not named: {problems:#?}");
        }
    }

    #[test]
    fn frames_are_merged_only_from_a_burst_that_has_them_beside_the_photo() {
        let said = |kind: &str, burst: u32, merge: u32| {
            let text = format!("camera.a.kind = {kind:?}\ncamera.a.device = \"/in\"\ncamera.a.burst = {burst}\ncamera.a.merge = {merge}");
            let problems = toml::from_str::<Config>(&text).unwrap().validate();
            let of_camera = problems.into_iter().filter(|p| p.key.starts_with("camera.a.") && p.key != "camera.a.device");
            of_camera.map(|p| p.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(said("v4l", 3, 2), [""; 0]);
        assert_eq!(said("v4l", 1, 0), [""; 0]);
        let burst = said("v4l", 2, 2);
        assert!(burst.len() == 1 && burst[0].contains("camera.a.burst") && burst[0].contains("above camera.a.merge (2)"), "{burst:?}");
        assert!(said("v4l", 9, 3)[0].contains("camera.a.merge"), "two others at most");
        assert!(said("folder", 5, 1)[0].contains("no bursts"));
    }

    #[test]
    fn addresses_are_told_from_what_only_looks_like_one() {
        for fine in ["mqtt://h:1883", "mqtt://broker.local", "mqtt://[::1]:1883", "mqtt://[::1]"] {
            assert!(is_url(fine, &["mqtt"], false), "{fine}");
        }
        for bad in ["", "h:1883", "mqtt://", "mqtt://:1883", "mqtt://h:port", "mqtt://h:70000", "mqtt://h/x", "mqtt://a b", "mqtt://u:p@h"]
        {
            assert!(!is_url(bad, &["mqtt"], false), "{bad}");
        }
        assert!(is_url("https://s3.example/base", &["https"], true));
    }

    #[test]
    fn windows_may_cross_midnight() {
        assert_eq!(parse_window("22:00-06:30"), Some((22 * 60, 6 * 60 + 30)));
        for bad in ["", "22:00", "24:00-01:00", "22:00-22:00", "a-b", "10:60-11:00"] {
            assert_eq!(parse_window(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_hosts_name_becomes_a_device_id_whatever_it_is() {
        assert_eq!(sanitised("Jetson_Orin.local"), "jetson-orin-local");
        assert_eq!(sanitised("---"), "irisd");
        let id = Config::default().device_id();
        assert!(Config { device: super::super::Device { id }, ..Config::default() }.validate().is_empty());
    }
}

//! `irisd doctor`: what this device can do, and what it lacks. Exit code 1 if the daemon could not work.
//!
//! `fail`: the daemon would not start, or not do what the configuration demands of it. `warn`: it works, with less.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use jiff::{Timestamp, ToSpan};
use serde::Serialize;
use serde_json::json;

use super::{Ended, Output, Stop, environment, print, remote::Daemon, startable};
use crate::{
    app::parts::{self, engine},
    config::{Camera, CameraKind, Config, load, validate::without_login},
    inference::{
        Engine, meets,
        weights::{self, State},
    },
    ports::ObjectStoreError,
};

/// For a broker or a bucket to let us in.
const ANSWER_LIMIT: Duration = Duration::from_secs(6);
const CONFIGURATION: &str = "configuration";
/// No device of ours is older than its program: an earlier clock was never set (a Jetson without a battery boots in 1970).
const BUILT: Timestamp = Timestamp::constant(1_763_769_600, 0);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Health {
    Ok,
    Warn,
    Fail,
    /// Not configured.
    Off,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    name: String,
    state: Health,
    detail: String,
}

impl Finding {
    pub(super) fn is_of_configuration(&self) -> bool {
        self.name == CONFIGURATION
    }
}

fn finding(name: impl Into<String>, state: Health, detail: impl Into<String>) -> Finding {
    Finding { name: name.into(), state, detail: detail.into() }
}

pub(super) fn doctor(config: Option<&Path>, arguments: &Arguments) -> Ended {
    let findings = findings(config);
    let fine = findings.iter().all(|f| f.state != Health::Fail);
    if arguments.output.json {
        print(json!({ "ok": fine, "version": env!("CARGO_PKG_VERSION"), "checks": findings }))?;
    } else {
        for f in &findings {
            let state = match f.state {
                Health::Ok => "ok",
                Health::Warn => "warn",
                Health::Fail => "FAIL",
                Health::Off => "off",
            };
            print(format!("{state:<5} {:<28} {}", f.name, f.detail))?;
        }
    }
    if fine { Ok(()) } else { Err(Stop::Said) }
}

/// Everything that can be looked at. A wrong configuration is a finding too; the rest is then seen with what could be read of it.
pub(super) fn findings(flag: Option<&Path>) -> Vec<Finding> {
    let (config, mut all) = match startable(flag) {
        Ok(config) => (config, vec![finding(CONFIGURATION, Health::Ok, "every key is right")]),
        Err(problems) => {
            let rows = problems.iter().map(|p| finding(CONFIGURATION, Health::Fail, p.to_string())).collect();
            (load::load_unchecked(flag, environment()).unwrap_or_default(), rows)
        }
    };
    all.extend(networks(&config));
    all.extend(config.camera.iter().map(|(name, c)| camera(name, c)));
    if config.camera.is_empty() {
        all.push(finding("camera", Health::Off, "none is configured; photos come over HTTP"));
    }
    all.push(state_folder(&config));
    all.push(disk(&config));
    all.push(clock(Timestamp::now()));
    all.push(broker(&config));
    all.push(bucket(&config));
    all.push(door(&config, answers(&config)));
    all.push(daemon(&config));
    all
}

/// The library, what is installed, and what really ran each network.
fn networks(config: &Config) -> Vec<Finding> {
    let engine = match engine(config) {
        Ok(engine) => engine,
        Err(e) => return vec![finding("weights", Health::Fail, e.to_string())],
    };
    // Named in the configuration: a job fails without it. auto: the classical way is taken.
    let named = |name: &str| config.segment.model == name || config.enhance.model == name;
    let any_named = engine.manifest().models().iter().any(|m| named(&m.name)) || !config.inference.require.is_empty();
    let mut all = vec![match engine.runtime() {
        Ok(about) => finding("runtime", Health::Ok, about),
        Err(why) => finding("runtime", if any_named { Health::Fail } else { Health::Warn }, format!("{why}; classical methods are used")),
    }];
    for row in weights::verify(engine.manifest()) {
        let detail = row.detail.clone().unwrap_or_default();
        let name = format!("weights {}", row.name);
        all.push(match row.state {
            State::Present => ran(&engine, &row.name, &config.inference.require),
            State::Tampered => finding(name, Health::Fail, detail),
            State::Missing if named(&row.name) => finding(name, Health::Fail, detail),
            State::Missing => finding(name, if row.ships { Health::Warn } else { Health::Off }, detail),
        });
    }
    all
}

fn ran(engine: &Engine, name: &str, require: &str) -> Finding {
    let title = format!("network {name}");
    if let Err(why) = engine.runtime() {
        return finding(title, Health::Off, format!("installed; {why}"));
    }
    match engine.runs_on(name) {
        Ok(on) => {
            let state = if require.is_empty() || meets(require, &on.provider) { Health::Ok } else { Health::Fail };
            let why = engine.status().into_iter().find(|m| m.name == name).and_then(|m| m.degraded());
            let why = why.map(|why| format!("; degraded: {why}")).unwrap_or_default();
            finding(title, state, format!("runs on {}, {} ({}){why}", on.provider, on.precision, on.by_nodes()))
        }
        Err(e) => finding(title, Health::Fail, e.to_string()),
    }
}

fn camera(name: &str, camera: &Camera) -> Finding {
    let title = format!("camera {name}");
    match camera.kind {
        CameraKind::Synthetic => finding(title, Health::Ok, "synthetic eyes"),
        CameraKind::Folder => match fs::read_dir(&camera.device) {
            Ok(_) => finding(title, Health::Ok, &camera.device),
            Err(e) => finding(title, Health::Warn, format!("{}: {e}", camera.device)),
        },
        CameraKind::V4l => {
            let device = if camera.device.is_empty() { "/dev/video0" } else { &camera.device };
            match fs::OpenOptions::new().read(true).write(true).open(device) {
                Ok(_) => finding(title, Health::Ok, device),
                Err(e) => finding(title, Health::Warn, format!("{device}: {e}; is it plugged in, and is the user in group video?")),
            }
        }
    }
}

/// The folder, or the one in which it would be made.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn state_folder(config: &Config) -> Finding {
    let state = &config.paths.state;
    let there = existing(state);
    let probe = there.join(format!(".irisd-doctor-{}", std::process::id()));
    match fs::write(&probe, b"x").and_then(|()| fs::remove_file(&probe)) {
        Ok(()) => finding("state folder", Health::Ok, state.display().to_string()),
        Err(e) => finding("state folder", Health::Fail, format!("{} cannot be written to by this user: {e}", there.display())),
    }
}

fn disk(config: &Config) -> Finding {
    match rustix::fs::statvfs(existing(&config.paths.state)) {
        Err(e) => finding("disk", Health::Fail, e.to_string()),
        Ok(fs) => {
            let free = fs.f_bavail * fs.f_frsize;
            let (reserve, gib) = (config.retention.reserve.0, |b: u64| b as f64 / f64::from(1 << 30));
            let state = if free <= reserve { Health::Fail } else { Health::Ok };
            finding("disk", state, format!("{:.1} GiB free, {:.1} GiB of them kept in reserve", gib(free), gib(reserve)))
        }
    }
}

fn clock(now: Timestamp) -> Finding {
    let detail = now.to_string();
    match now {
        n if n < BUILT => {
            finding("clock", Health::Warn, format!("{detail}: never set; S3 and TLS need the time, photos are taken all the same"))
        }
        n if BUILT.checked_add((24 * 365 * 20).hours()).is_ok_and(|late| n > late) => {
            finding("clock", Health::Warn, format!("{detail}: far ahead"))
        }
        _ => finding("clock", Health::Ok, detail),
    }
}

/// Whether it lets us in, with the address, names and keys that are configured.
fn broker(config: &Config) -> Finding {
    let url = &without_login(&config.mqtt.url);
    match asked(parts::try_broker(config)) {
        Ok(None) => finding("broker", Health::Off, "not configured"),
        Ok(Some(Ok(()))) => finding("broker", Health::Ok, format!("{url} lets this device in")),
        Ok(Some(Err(why))) => finding("broker", Health::Warn, format!("{url}: {why}; what is to be said waits on the disk")),
        Err(why) => finding("broker", Health::Warn, format!("{url}: {why}; what is to be said waits on the disk")),
    }
}

fn bucket(config: &Config) -> Finding {
    let s3 = &config.s3;
    let place = if s3.endpoint.is_empty() {
        format!("{} at AWS, {}", s3.bucket, s3.region)
    } else {
        format!("{} at {}", s3.bucket, without_login(&s3.endpoint))
    };
    let warn = |why: String| finding("bucket", Health::Warn, format!("{place}: {why}; results wait on the disk"));
    match asked(parts::try_bucket(config)) {
        Ok(None) => finding("bucket", Health::Off, "not configured; results stay on this device"),
        Ok(Some(Ok(()))) => finding("bucket", Health::Ok, format!("{place} lets this device in")),
        Ok(Some(Err(ObjectStoreError::Denied(why)))) => {
            warn(format!("it refuses ({why}); check s3.bucket, the two key files and the keys' rights"))
        }
        Ok(Some(Err(e))) => warn(e.to_string()),
        Err(why) => warn(why),
    }
}

/// What `question` comes to within [`ANSWER_LIMIT`].
fn asked<T>(question: impl Future<Output = anyhow::Result<T>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let answer = runtime.block_on(async { tokio::time::timeout(ANSWER_LIMIT, question).await });
    runtime.shutdown_background(); // a name that is still being looked up would hold up the end
    answer.map_err(|_| format!("no answer within {} s", ANSWER_LIMIT.as_secs()))?.map_err(|e| format!("{e:#}"))
}

/// Whether the daemon of this state folder is there; a dead one may have left its address behind.
fn answers(config: &Config) -> bool {
    let asking = async { Ok(Daemon::default().client(config)?.get("/livez").await?) };
    asked(asking).is_ok()
}

/// Whether somebody can listen where the configuration says; our own daemon may already.
fn door(config: &Config, running: bool) -> Finding {
    let address = config.http.listen;
    match TcpListener::bind(address) {
        Ok(_) => finding("http", Health::Ok, format!("{address} is free")),
        Err(e) if running && e.kind() == io::ErrorKind::AddrInUse => finding("http", Health::Ok, format!("{address} is the daemon's")),
        Err(e) => {
            finding("http", Health::Fail, format!("nothing can listen on {address}: {e}; set http.listen to a free address of this device"))
        }
    }
}

fn daemon(config: &Config) -> Finding {
    match Daemon::default().address(&config.paths.state) {
        Ok(url) => finding("daemon", Health::Ok, format!("started at {url}")),
        Err(_) => finding("daemon", Health::Off, "does not run with this state folder"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_configured_is_off_and_what_does_not_answer_is_no_reason_not_to_start() {
        let mut config = Config::default();
        assert_eq!((broker(&config).state, bucket(&config).state), (Health::Off, Health::Off));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        config.mqtt.url = format!("mqtt://{free}");
        config.s3.bucket = "eyes".into();
        config.s3.endpoint = format!("http://{free}");
        assert_eq!((broker(&config).state, bucket(&config).state), (Health::Warn, Health::Warn));
    }

    #[test]
    fn an_address_that_somebody_else_has_fails_the_device_and_one_that_our_daemon_has_does_not() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::default();
        config.http.listen = taken.local_addr().unwrap();
        assert_eq!((door(&config, false).state, door(&config, true).state), (Health::Fail, Health::Ok));
        drop(taken);
        assert_eq!(door(&config, false).state, Health::Ok);
    }

    #[test]
    fn a_clock_that_was_never_set_is_said_and_does_not_fail_the_device() {
        assert_eq!(clock(Timestamp::UNIX_EPOCH).state, Health::Warn);
        assert_eq!(clock(BUILT).state, Health::Ok);
    }

    #[test]
    fn a_state_folder_that_cannot_be_written_to_fails_the_device() {
        let mut config = Config::default();
        config.paths.state = "/proc/irisd".into();
        assert_eq!(state_folder(&config).state, Health::Fail);
    }
}

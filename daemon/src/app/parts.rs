//! Each adapter made from its part of the configuration: small option structs, secrets read from their files.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio_rustls::TlsAcceptor;

use crate::{
    adapters::{
        camera_folder::{FolderCamera, FolderOptions},
        camera_synthetic::{Eyes, SyntheticCamera, SyntheticOptions},
        model_ort::{OrtOptions, OrtRuntime},
        mqtt::{self, MqttSink},
        s3::{self, S3Bucket},
    },
    camera::CameraSetup,
    config::{
        self, CameraKind, Config, OnFull,
        load::{Problem, read_secret},
        units::{Bytes, Span},
    },
    http::serve::tls::acceptor,
    inference::{Builds, Engine, Options, manifest::Manifest, memory::Texts},
    outbox::{payload::Topics, window::Window},
    pipeline::{Pipeline, Settings},
    ports::{CameraOpener, Clock, ModelRuntime, ObjectStore, ObjectStoreError},
    store, worker,
};

/// Where a system does not say how much memory it has: the smallest box that irisd is made for, bytes.
const UNKNOWN_MEMORY: u64 = 4 << 30;

/// The models of this device, for a command. A library that cannot be loaded is a fact for `status`, not an error: the classical stages
/// work. It is loaded when a network is asked for.
pub fn engine(config: &Config) -> anyhow::Result<Engine> {
    models(config, Builds::Never)
}

/// The same for the daemon, which builds the engines that are not there, and says at its start what it runs on.
pub fn building_engine(config: &Config) -> anyhow::Result<Engine> {
    let engine = models(config, Builds::InBackground)?;
    let _ = engine.runtime(); // loaded now, and not while somebody waits for a photo
    Ok(engine)
}

fn models(config: &Config, builds: Builds) -> anyhow::Result<Engine> {
    let manifest = Manifest::load(&config.paths.state, &config.paths.weights).context("the manifest of the networks")?;
    let options = OrtOptions { library: config.paths.onnxruntime.clone(), threads: config.inference.threads };
    let open = || {
        let runtime = OrtRuntime::open(options).map(|r| Arc::new(r) as Arc<dyn ModelRuntime>);
        runtime.inspect_err(|e| tracing::warn!(reason = %e, "no networks: the classical stages do the work"))
    };
    let c = &config.inference;
    let options = Options {
        providers: c.providers.clone(),
        fp16: c.precision == "fp16",
        tile: config.enhance.tile as usize,
        idle_unload: c.idle_unload.parse::<Span>().ok().map(|s| s.0),
        engines: engine_folder(&config.paths.state).map(|folder| (folder, builds)),
        free: memory_free,
        memory: c.memory.parse::<Bytes>().ok().map(|b| b.0),
    };
    Ok(Engine::opening(manifest, open, options))
}

/// `<state>/engines`. None where there is no state folder or it is somebody else's (root's `irisd doctor`): an engine that root left there
/// would be one that the daemon cannot replace.
fn engine_folder(state: &Path) -> Option<PathBuf> {
    let ours = fs::metadata(state).is_ok_and(|about| about.uid() == rustix::process::geteuid().as_raw());
    ours.then(|| state.join("engines"))
}

pub fn pipeline(config: &Config, engine: Engine, clock: Arc<dyn Clock>) -> Pipeline {
    Pipeline::new(Settings::from_config(config), engine, clock)
}

pub fn store_options(config: &Config, clock: Arc<dyn Clock>) -> store::Options {
    store::Options {
        state: config.paths.state.clone(),
        clock,
        uploads: !config.s3.bucket.is_empty(),
        upload_originals: config.upload.originals,
        upload_synthetic: config.upload.synthetic_map,
        max_pending: config.queue.max_pending,
        crash_limit: config.queue.crash_limit,
        mqtt: !config.mqtt.url.is_empty(),
        cap: config.retention.cap.0,
        reserve: config.retention.reserve.0,
        evict_uploaded: config.retention.on_full == OnFull::EvictUploaded,
    }
}

/// What the jobs in work may need together, bytes.
pub fn memory(queue: &config::Queue) -> u64 {
    queue.memory.parse::<Bytes>().map_or_else(|_| worker::memory::share(memory_available()), |said| said.0)
}

/// The memory that this process can have: of the machine, or less where its control group (systemd's MemoryHigh, a container) says so.
fn memory_available() -> u64 {
    let machine = text("/proc/meminfo").lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    let limits = ["memory.max", "memory.high"].into_iter();
    let limits = limits.filter_map(|file| of_the_group(file).trim().parse::<u64>().ok());
    limits.chain(machine.map(|kib: u64| kib << 10)).min().unwrap_or(UNKNOWN_MEMORY)
}

/// The memory that is free for this process now: of the machine, or less where its control group says so. None: neither says.
fn memory_free() -> Option<u64> {
    let [max, high, current, stat] = ["memory.max", "memory.high", "memory.current", "memory.stat"].map(of_the_group);
    Texts { meminfo: &text("/proc/meminfo"), limits: [&max, &high], current: &current, stat: &stat }.free()
}

/// A file of this process' control group; empty where there is none.
fn of_the_group(file: &str) -> String {
    let group = text("/proc/self/cgroup").lines().find_map(|l| l.strip_prefix("0::").map(str::to_owned)).unwrap_or_default();
    text(&format!("/sys/fs/cgroup{group}/{file}"))
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// None: no bucket is configured, results stay here.
pub fn bucket(config: &Config) -> anyhow::Result<Option<Arc<dyn ObjectStore>>> {
    bucket_with(config, config.paths.state.join("multiparts"))
}

/// For a command: whether the bucket is there and lets us in. None: no bucket is configured. Nothing is left in the state folder, which may be
/// somebody else's.
pub async fn try_bucket(config: &Config) -> anyhow::Result<Option<Result<(), ObjectStoreError>>> {
    let notes = std::env::temp_dir().join(format!("irisd-try-{}", std::process::id()));
    let Some(bucket) = bucket_with(config, notes.clone())? else { return Ok(None) };
    let answer = bucket.probe().await;
    let _ = fs::remove_dir_all(&notes); // empty; at worst it stays until the next start of the machine
    Ok(Some(answer))
}

fn bucket_with(config: &Config, open_uploads: PathBuf) -> anyhow::Result<Option<Arc<dyn ObjectStore>>> {
    let Some(options) = bucket_options(config, open_uploads)? else { return Ok(None) };
    let bucket = S3Bucket::new(options).context("the configuration of the bucket")?;
    Ok(Some(Arc::new(bucket)))
}

/// None: no bucket is configured.
fn bucket_options(config: &Config, open_uploads: PathBuf) -> anyhow::Result<Option<s3::Options>> {
    let c = &config.s3;
    if c.bucket.is_empty() {
        return Ok(None);
    }
    Ok(Some(s3::Options {
        endpoint: c.endpoint.clone(),
        region: c.region.clone(),
        bucket: c.bucket.clone(),
        path_style: c.path_style,
        access_key: secret("s3.access_key_file", &c.access_key_file)?,
        secret_key: secret("s3.secret_key_file", &c.secret_key_file)?,
        ca_pem: pem("s3.ca_file", &c.ca_file)?,
        part_size: config.upload.part_size.0,
        open_uploads,
        max_rate: config.upload.max_rate.parse::<Bytes>().ok().map(|b| b.0),
    }))
}

/// What the configuration names and nothing can be done with: certificates that are none, keys that do not fit them, secrets that are no text.
/// What this user may not read may be right.
pub fn unusable(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut look = |key: &str, usable: anyhow::Result<()>| {
        if let Err(e) = usable
            && !e.chain().filter_map(|c| c.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::PermissionDenied)
        {
            problems.push(Problem { at: None, key: key.to_owned(), message: format!("{e:#}") });
        }
    };
    look("http.tls_cert", tls(config).map(drop));
    look("mqtt.url", broker_options(config).and_then(|options| options.map_or(Ok(()), |o| Ok(mqtt::check(&o)?))));
    look("s3.bucket", bucket_options(config, PathBuf::new()).and_then(|options| options.map_or(Ok(()), |o| Ok(s3::check(&o)?))));
    problems
}

/// None: no certificate is configured, the daemon speaks HTTP.
pub fn tls(config: &Config) -> anyhow::Result<Option<TlsAcceptor>> {
    let http = &config.http;
    if http.tls_cert.as_os_str().is_empty() {
        return Ok(None);
    }
    Ok(Some(acceptor(&http.tls_cert, &http.tls_key).context("http.tls_cert and http.tls_key")?))
}

pub fn topics(config: &Config) -> Topics {
    Topics { prefix: config.mqtt.topic_prefix.clone(), device: config.device_id() }
}

/// None: uploads are always welcome.
pub fn window(text: &str) -> Option<Window> {
    text.parse().ok()
}

/// None: no broker is configured. Starts to connect.
pub fn broker(config: &Config, topics: &Topics, subscriptions: Vec<String>) -> anyhow::Result<Option<Arc<MqttSink>>> {
    let Some(options) = broker_options(config)? else { return Ok(None) };
    let options = mqtt::Options { will: Some(topics.will()), subscriptions, ..options };
    Ok(Some(Arc::new(MqttSink::start(options).context("the configuration of the broker")?)))
}

/// For a command, beside a daemon that may run: whether the broker lets us in. None: no broker is configured.
pub async fn try_broker(config: &Config) -> anyhow::Result<Option<Result<(), String>>> {
    let Some(options) = broker_options(config)? else { return Ok(None) };
    let client_id = format!("{}-try-{}", options.client_id, std::process::id());
    Ok(Some(mqtt::probe(&mqtt::Options { client_id, ..options }).await))
}

/// None: no broker is configured.
fn broker_options(config: &Config) -> anyhow::Result<Option<mqtt::Options>> {
    let c = &config.mqtt;
    if c.url.is_empty() {
        return Ok(None);
    }
    let client_cert = match (pem("mqtt.client_cert", &c.client_cert)?, pem("mqtt.client_key", &c.client_key)?) {
        (Some(cert), Some(key)) => Some((cert, key)),
        _ => None,
    };
    let password = if c.password_file.as_os_str().is_empty() { String::new() } else { secret("mqtt.password_file", &c.password_file)? };
    Ok(Some(mqtt::Options {
        url: c.url.clone(),
        username: c.username.clone(),
        password,
        ca: pem("mqtt.ca_file", &c.ca_file)?,
        client_cert,
        client_id: format!("irisd-{}", config.device_id()),
        will: None,
        subscriptions: Vec::new(),
    }))
}

pub fn camera_setup(name: &str, camera: &config::Camera, max_upload: u64) -> anyhow::Result<CameraSetup> {
    let kind = match camera.kind {
        CameraKind::V4l => "v4l",
        CameraKind::Folder => "folder",
        CameraKind::Synthetic => "synthetic",
    };
    Ok(CameraSetup {
        name: name.to_owned(),
        kind: kind.to_owned(),
        owner: camera.owner.parse().with_context(|| format!("camera.{name}.owner"))?,
        opener: opener(camera, max_upload)?,
        // Each frame of the synthetic camera is another eye, unless they are to be merged: a burst would choose between people. And more
        // than are merged would only take the time to draw them.
        burst: if camera.kind == CameraKind::Synthetic { 1 + camera.merge } else { camera.burst.max(1) },
        merge: camera.merge,
        // A folder's settle is how long a file must be still; only a lens needs time after it opens.
        settle: if camera.kind == CameraKind::V4l { camera.settle.0 } else { Duration::ZERO },
        watched: camera.kind == CameraKind::Folder,
    })
}

fn opener(camera: &config::Camera, max_upload: u64) -> anyhow::Result<Arc<dyn CameraOpener>> {
    Ok(match camera.kind {
        CameraKind::Folder => {
            Arc::new(FolderCamera::new(FolderOptions { folder: (&camera.device).into(), settle: camera.settle.0, max_bytes: max_upload }))
        }
        CameraKind::Synthetic => Arc::new(SyntheticCamera::new(SyntheticOptions {
            seed: camera.device.parse().unwrap_or(1),
            width: camera.width,
            height: camera.height,
            eyes: if camera.merge == 0 { Eyes::OneAFrame } else { Eyes::OneACapture },
        })),
        CameraKind::V4l => v4l(camera)?,
    })
}

#[cfg(target_os = "linux")]
fn v4l(camera: &config::Camera) -> anyhow::Result<Arc<dyn CameraOpener>> {
    use crate::adapters::camera_v4l::{PixelFormat, V4lCamera, V4lOptions};
    let format = match camera.format.as_str() {
        "mjpeg" => Some(PixelFormat::Mjpeg),
        "yuyv" => Some(PixelFormat::Yuyv),
        _ => None,
    };
    let options = V4lOptions { device: (&camera.device).into(), format, width: camera.width, height: camera.height, fps: camera.fps };
    Ok(Arc::new(V4lCamera::new(options)))
}

#[cfg(not(target_os = "linux"))]
fn v4l(_: &config::Camera) -> anyhow::Result<Arc<dyn CameraOpener>> {
    anyhow::bail!("cameras of kind v4l need Linux")
}

fn secret(key: &str, path: &Path) -> anyhow::Result<String> {
    read_secret(path).with_context(|| format!("{key}: {} cannot be read", path.display()))
}

fn pem(key: &str, path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let path = config::load::secret_path(path);
    std::fs::read(&path).map(Some).with_context(|| format!("{key}: {} cannot be read", path.display()))
}

/// How long jobs in work may go on after the shutdown began, and again how long they have to reach a checkpoint and be put back.
pub const DRAIN: Duration = Duration::from_secs(8);

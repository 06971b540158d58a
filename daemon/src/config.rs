//! One typed configuration: every key of the contract with its unit and default.
//!
//! Sources, later ones win: built-in defaults, `/etc/irisd/irisd.toml`, `/etc/irisd/conf.d/*.toml` (by name), `IRISD_<SECTION>__<KEY>`.
//! `--config FILE` takes the place of the files below `/etc`. Unknown keys are errors. [`Config::validate`] names every problem at once.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use self::units::{Bytes, Span};

pub mod load;
pub mod schema;
pub mod units;
pub mod validate;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub device: Device,
    pub paths: Paths,
    pub http: Http,
    pub auth: Auth,
    pub mqtt: Mqtt,
    pub s3: S3,
    pub upload: Upload,
    pub inference: Inference,
    pub segment: Segment,
    pub quality: Quality,
    pub reflections: Reflections,
    pub enhance: Enhance,
    pub queue: Queue,
    pub retention: Retention,
    pub privacy: Privacy,
    pub camera: BTreeMap<String, Camera>,
    pub log: Log,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Device {
    /// `[a-z0-9-]`, part of MQTT topics. Empty: the host's name.
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Paths {
    /// Store, photos, results.
    pub state: PathBuf,
    /// Looked up after `<state>/weights`.
    pub weights: PathBuf,
    /// Path of libonnxruntime.so; empty: searched.
    pub onnxruntime: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Port 0: any free port.
    pub listen: SocketAddr,
    pub max_upload: Bytes,
    /// px, upright width x height.
    pub max_pixels: u64,
    /// PEM files; both or none.
    pub tls_cert: PathBuf,
    pub tls_key: PathBuf,
    /// Origins beside our own that browsers may call from.
    pub allowed_origins: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    Token,
    /// Refused unless `http.listen` is a loopback address.
    Open,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    pub mode: AuthMode,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// mqtt://host:1883 or mqtts://host:8883; empty: off.
    pub url: String,
    pub username: String,
    pub password_file: PathBuf,
    pub ca_file: PathBuf,
    pub client_cert: PathBuf,
    pub client_key: PathBuf,
    pub topic_prefix: String,
    /// Home Assistant discovery.
    pub discovery: bool,
    /// Listens to cmd/capture and cmd/submit.
    pub commands: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    pub endpoint: String,
    pub region: String,
    /// Empty: off, results stay here.
    pub bucket: String,
    pub path_style: bool,
    pub access_key_file: PathBuf,
    pub secret_key_file: PathBuf,
    pub ca_file: PathBuf,
    pub presign_ttl: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadOrder {
    Oldest,
    Newest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upload {
    pub originals: bool,
    pub order: UploadOrder,
    /// Bytes a second, as "2MiB"; empty: no cap.
    pub max_rate: String,
    /// Local hours "22:00-06:00"; empty: always.
    pub window: String,
    pub part_size: Bytes,
    pub parallel: usize,
    /// Uploads synthetic.png as a fourth object.
    pub synthetic_map: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Inference {
    /// Tried in this order: tensorrt, cuda, cpu.
    pub providers: Vec<String>,
    /// Not ready unless this one really runs; empty: no demand.
    pub require: String,
    /// 0: the cores there are.
    pub threads: usize,
    /// auto | fp32 | fp16
    pub precision: String,
    /// Frees a model after this long without a job; empty: never.
    pub idle_unload: String,
    /// What one network may take, bytes; empty: what is free.
    pub memory: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Segment {
    /// auto | classical | a name of the manifest
    pub model: String,
    /// Iris mask / photo, 0..1.
    pub min_coverage: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QualityMode {
    Gate,
    /// A quality_issue becomes a warning of the report.
    Report,
    Off,
}

/// Thresholds of the quality gate. What each figure is: `imaging/quality.rs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quality {
    pub mode: QualityMode,
    /// 0..1, of the segmentation.
    pub min_confidence: f64,
    /// 0..1, contrast across the limbus, mean of left and right.
    pub min_limbus_edge: f64,
    /// Part of the pupil's edge within the limbus, 0..1.
    pub min_pupil_inside: f64,
    /// 1 - distance of pupil's and limbus' centres / limbus radius, 0..1.
    pub min_concentricity: f64,
    /// px, limbus diameter.
    pub min_iris_diameter: f64,
    /// %, fine detail / coarse detail of the visible iris at a fixed scale.
    pub min_sharpness: f64,
    /// How much less fine detail there is along one direction than across it, 0..1.
    pub max_motion: f64,
    /// Mean L* inside the iris, 0..100.
    pub min_lightness: f64,
    pub max_lightness: f64,
    /// Iris pixels with two channels burnt out / visible iris, 0..1.
    pub max_clipped: f64,
    /// Glare / iris mask, 0..1.
    pub max_glare: f64,
    /// Glare in the pupil / visible pupil, 0..1.
    pub max_pupil_glare: f64,
    /// Visible iris / whole limbus disc, 0..1.
    pub min_usable_area: f64,
    /// Part of the limbus disc inside the photo, 0..1.
    pub min_inside: f64,
    /// Pupil radius / limbus radius.
    pub min_pupil_ratio: f64,
    pub max_pupil_ratio: f64,
    /// Degrees off the camera's axis (from the limbus' axis ratio).
    pub max_gaze: f64,
    /// 0..1; warns only, and the next.
    pub min_iris_sclera_contrast: f64,
    pub min_iris_pupil_contrast: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reflections {
    /// auto | classical | off | a name of the manifest
    pub method: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Iris,
    Photo,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Enhance {
    /// auto | lanczos | a name of the manifest
    pub model: String,
    pub scope: Scope,
    /// 1..=4
    pub scale: u32,
    /// px of the photo.
    pub tile: u32,
    /// Sharpening within the photo's noise, where no network enlarges.
    pub detail: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    pub max_pending: usize,
    /// A default job that waited this long goes before high ones.
    pub ageing: Span,
    pub job_timeout: Span,
    /// What the jobs in work may need together, bytes; empty: half of what the process can have.
    pub memory: String,
    /// Deaths of the process in a row in one step of a job before it is set aside.
    pub crash_limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// Oldest uploaded originals and results go first.
    EvictUploaded,
    /// New photos are refused (507).
    Reject,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// For blobs and results together.
    pub cap: Bytes,
    /// Free bytes of the disk that intake leaves alone.
    pub reserve: Bytes,
    pub on_full: OnFull,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Privacy {
    /// EXIF/XMP/IPTC cut out of what leaves the device; the original on disk stays as received.
    pub strip_metadata: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CameraKind {
    V4l,
    Folder,
    Synthetic,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Camera {
    pub kind: CameraKind,
    pub owner: String,
    /// v4l: /dev/video0; folder: the folder; synthetic: the seed of its first eye.
    pub device: String,
    /// v4l: auto | mjpeg | yuyv
    pub format: String,
    /// 0: the camera's largest.
    pub width: u32,
    pub height: u32,
    pub fps: u32,
    /// Frames of one capture; the sharpest is the photo.
    pub burst: u32,
    /// So many of the burst's next sharpest frames are kept as photos, too, and merged into it.
    pub merge: u32,
    /// Frames are dropped for this long after the start (exposure, focus); folder: a file must have been still for this long.
    pub settle: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// error | warn | info | debug | trace, or a tracing filter
    pub level: String,
    /// auto | text | json
    pub format: String,
}

impl Default for Paths {
    fn default() -> Self {
        Self { state: "/var/lib/irisd".into(), weights: "/usr/share/irisd/weights".into(), onnxruntime: PathBuf::new() }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            max_upload: Bytes::mib(64),
            max_pixels: 60_000_000,
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
            allowed_origins: Vec::new(),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self { mode: AuthMode::Token }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            url: String::new(),
            username: String::new(),
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            client_cert: PathBuf::new(),
            client_key: PathBuf::new(),
            topic_prefix: "irisd".into(),
            discovery: true,
            commands: false,
        }
    }
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            region: "us-east-1".into(),
            bucket: String::new(),
            path_style: true,
            access_key_file: PathBuf::new(),
            secret_key_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            presign_ttl: Span::minutes(15),
        }
    }
}

impl Default for Upload {
    fn default() -> Self {
        Self {
            originals: true,
            order: UploadOrder::Oldest,
            max_rate: String::new(),
            window: String::new(),
            part_size: Bytes::mib(8),
            parallel: 2,
            synthetic_map: false,
        }
    }
}

impl Default for Inference {
    fn default() -> Self {
        Self {
            providers: vec!["tensorrt".into(), "cuda".into(), "cpu".into()],
            require: String::new(),
            threads: 0,
            precision: "auto".into(),
            idle_unload: String::new(),
            memory: String::new(),
        }
    }
}

impl Default for Segment {
    fn default() -> Self {
        Self { model: "auto".into(), min_coverage: 0.05 }
    }
}

impl Default for Quality {
    fn default() -> Self {
        Self {
            mode: QualityMode::Gate,
            min_confidence: 0.5,
            min_limbus_edge: 0.05,
            min_pupil_inside: 0.9,
            min_concentricity: 0.75,
            min_iris_diameter: 60.0,
            min_sharpness: 20.0,
            max_motion: 0.38,
            min_lightness: 2.0,
            max_lightness: 75.0,
            max_clipped: 0.15,
            max_glare: 0.35,
            max_pupil_glare: 0.85,
            min_usable_area: 0.47,
            min_inside: 0.75,
            min_pupil_ratio: 0.1,
            max_pupil_ratio: 0.8,
            max_gaze: 55.0,
            min_iris_sclera_contrast: 0.05,
            min_iris_pupil_contrast: 0.3,
        }
    }
}

impl Default for Reflections {
    fn default() -> Self {
        Self { method: "auto".into() }
    }
}

impl Default for Enhance {
    fn default() -> Self {
        Self { model: "auto".into(), scope: Scope::Iris, scale: 4, tile: 256, detail: false }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { max_pending: 10_000, ageing: Span::seconds(60), job_timeout: Span::minutes(10), memory: String::new(), crash_limit: 3 }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { cap: Bytes::gib(20), reserve: Bytes::gib(1), on_full: OnFull::EvictUploaded }
    }
}

impl Default for Privacy {
    fn default() -> Self {
        Self { strip_metadata: true }
    }
}

impl Default for Camera {
    fn default() -> Self {
        Self {
            kind: CameraKind::V4l,
            owner: "local".into(),
            device: String::new(),
            format: "auto".into(),
            width: 0,
            height: 0,
            fps: 0,
            burst: 5,
            merge: 0,
            settle: Span::millis(500),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: "auto".into() }
    }
}

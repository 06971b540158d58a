//! `report.json`, schema 1: everything that a result says about itself. Names are the contract's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ids::Sha256,
    photo::Source,
    quality::{Metric, Verdict},
    stage::StepMs,
    time,
};

pub const SCHEMA: u32 = 1;
/// Stands in every report: the picture is for people to look at, not to diagnose from.
pub const NOTICE: &str = "enhanced, not for diagnosis";

/// An ellipse in px of the upright photo; pixel centres lie at .5. `angle_deg` turns the rx axis counter-clockwise from +x, -90..90.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ellipse {
    pub cx: f64,
    pub cy: f64,
    pub rx: f64,
    pub ry: f64,
    pub angle_deg: f64,
}

/// A rectangle in px of the upright photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhotoFacts {
    pub sha256: Sha256,
    /// Upright, px.
    pub width: u32,
    pub height: u32,
    pub orientation_applied: bool,
    pub source: Source,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IrisFacts {
    pub limbus: Ellipse,
    pub pupil: Option<Ellipse>,
    /// Iris mask pixels (visible iris with the pupil) / photo pixels, 0..1.
    pub coverage: f64,
    /// 0..1; below 0.5 is low.
    pub confidence: f64,
    /// "onnx" or "classical".
    pub method: String,
    pub model: Option<String>,
    pub model_sha256: Option<Sha256>,
    /// The execution provider that really ran; null without a network.
    #[serde(default)]
    pub provider: Option<String>,
    /// Why it is classical where `segment.model` is `auto`: no network is installed, or what kept it from running (then a warning, too).
    #[serde(default)]
    pub fallback_reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReflectionFacts {
    /// Highlights found, filled or (method "off") left as they are.
    pub count: u32,
    /// Theirs, px of the upright photo.
    pub area_px: u64,
    /// Made-up pixels / mask pixels, 0..1: 0 with "off", whatever was found.
    pub synthetic_share: f64,
    /// "radial", "network" or "off".
    pub method: String,
    #[serde(default)]
    pub model: Option<String>,
    #[serde(default)]
    pub model_sha256: Option<Sha256>,
    /// The execution provider that really ran; null without a network.
    #[serde(default)]
    pub provider: Option<String>,
    /// Why it is not what was asked for.
    #[serde(default)]
    pub fallback_reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnhanceFacts {
    /// "network" or "clahe_lanczos".
    pub method: String,
    pub model: Option<String>,
    pub model_sha256: Option<Sha256>,
    /// The execution provider that really ran: "cpu", "cuda", "tensorrt"; null without a network.
    pub provider: Option<String>,
    pub precision: Option<String>,
    /// px of the photo.
    pub tile: Option<u32>,
    pub overlap: Option<u32>,
    pub tiles: Option<u32>,
    /// Why it is not what was asked for.
    pub fallback_reason: Option<String>,
    /// What `enhance.detail` did; not there where it is off or a network made the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<DetailFacts>,
}

/// Sharpening within the photo's noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetailFacts {
    /// Deviation of the photo's noise, levels of 0..=255.
    pub noise: f64,
    /// The largest change of a px, levels.
    pub largest_change: u8,
}

/// Photos of one eye laid over each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeFacts {
    /// The first is the one that the others were laid on.
    pub photos: Vec<MergedPhoto>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergedPhoto {
    pub sha256: Sha256,
    /// Pixels of the iris mask that are this photo's; what was made up is nobody's.
    pub px: u64,
    /// Of the iris' texture with the first photo's, -1..1; null for the first.
    pub correlation: Option<f64>,
}

/// A file of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    pub sha256: Sha256,
    pub bytes: u64,
    pub width: u32,
    pub height: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportFiles {
    pub image: FileFacts,
    pub mask: FileFacts,
    pub synthetic: FileFacts,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub schema: u32,
    pub program: String,
    pub version: String,
    #[serde(with = "time")]
    pub created_at: Timestamp,
    pub notice: String,
    pub photo: PhotoFacts,
    /// Part of the upright photo that the image shows; the image is crop x scale.
    pub crop: Rect,
    pub scale: u32,
    pub iris: IrisFacts,
    pub quality: BTreeMap<String, Metric>,
    pub verdict: Verdict,
    /// Sentences for the person: quality findings that did not stop the job (`quality.mode` report or off, or warn-only figures), a network
    /// that could not run, a photo that was not merged.
    pub warnings: Vec<String>,
    /// Networks of this result that did not run as configured: "iris: cuda wanted, cpu ran, because ...".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
    pub reflections: ReflectionFacts,
    /// Where more than one photo went in: which, and how much of the iris each gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeFacts>,
    pub enhance: EnhanceFacts,
    pub step_ms: StepMs,
    pub processing_time_ms: u64,
    pub files: ReportFiles,
    /// The pixels are those of an earlier run over the same photo; `step_ms` and `processing_time_ms` are that run's.
    #[serde(default)]
    pub cached: bool,
}

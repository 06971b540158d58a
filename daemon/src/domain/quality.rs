//! The verdict over a photo: named figures against their thresholds (ISO/IEC 29794-6 in spirit).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One measured figure. `pass` is kept beside value and threshold because some figures must lie above theirs, some below.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    pub value: f64,
    /// "px", "%", "ratio", "dB", ...
    pub unit: String,
    pub threshold: f64,
    pub pass: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    Warn,
    Fail,
}

/// All the figures of one photo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    pub verdict: Verdict,
    pub metrics: BTreeMap<String, Metric>,
}

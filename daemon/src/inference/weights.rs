//! `irisd weights`: what is installed, whether it is right, and how a file comes onto the device.
//!
//! ```text
//!   list     what the manifest names, and whether a file lies there
//!   verify   + each file's sha256            + each network loaded and tried, where there is a runtime
//!   add      a file onto the device, by its content; or with a row of its own ([`add`])
//!   fetch    build time: the script beside the manifest
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Serialize;

use super::{
    Engine,
    manifest::{InputPort, Manifest, MaskPort, ModelRow, OutputPort},
};
use crate::{
    domain::{fault::Code, ids::Sha256},
    ports::ModelError,
};

pub mod add;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There; its bytes are the right ones ([`verify`]), or were not looked at ([`list`]).
    Present,
    Missing,
    /// There, with other bytes than the manifest says.
    Tampered,
}

/// One row of `weights list` and `weights verify`.
#[derive(Debug, Clone, Serialize)]
pub struct WeightStatus {
    pub name: String,
    pub role: &'static str,
    pub file: String,
    pub path: Option<PathBuf>,
    pub bytes: Option<u64>,
    pub sha256: Sha256,
    pub state: State,
    /// The error code that a job would end with ("weights_missing", "model_mismatch" ...); None: nothing is known to be wrong.
    pub code: Option<String>,
    /// What is wrong, and what to do.
    pub detail: Option<String>,
    /// What it ran on; None: it was not tried.
    pub provider: Option<String>,
    pub precision: Option<String>,
    pub input: InputPort,
    pub mask: Option<MaskPort>,
    pub output: OutputPort,
    pub scale: usize,
    pub max_error: f32,
    pub memory_mb: u32,
    pub ships: bool,
    pub licence: String,
    pub source: String,
}

/// Why weights could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(
        "there is no fetch.sh in {0}: weights are made at build time (weights/fetch.sh in the source tree, on a machine with internet); \
         bring the file here and run `irisd weights add FILE`"
    )]
    NoScript(PathBuf),
    #[error("{path} could not be run: {source}")]
    NotRun { path: PathBuf, source: io::Error },
    #[error("{path} failed ({status}); its words stand above")]
    Failed { path: PathBuf, status: std::process::ExitStatus },
}

impl WeightStatus {
    fn of(row: &ModelRow, path: Option<PathBuf>) -> Self {
        let detail = path.is_none().then(|| match row.ships {
            true => format!("part of the package: install it again, or `irisd weights add {}`", row.file),
            false => format!("optional: `irisd weights fetch`, or `irisd weights add {}`", row.file),
        });
        Self {
            name: row.name.clone(),
            role: row.role.name(),
            file: row.file.clone(),
            bytes: path.as_ref().and_then(|p| fs::metadata(p).ok()).map(|m| m.len()),
            sha256: row.sha256,
            state: if path.is_some() { State::Present } else { State::Missing },
            code: path.is_none().then(|| Code::WeightsMissing.name()),
            path,
            detail,
            provider: None,
            precision: None,
            input: row.input.clone(),
            mask: row.mask.clone(),
            output: row.output.clone(),
            scale: row.scale,
            max_error: row.max_error,
            memory_mb: row.memory_mb,
            ships: row.ships,
            licence: row.licence.clone(),
            source: row.source.clone(),
        }
    }

    /// Whether this is how it should be: there, right and runnable; or missing and optional.
    pub fn is_fine(&self) -> bool {
        match self.state {
            State::Present => self.code.is_none(),
            State::Missing => !self.ships,
            State::Tampered => false,
        }
    }

    fn found(&mut self, e: ModelError) {
        self.code = Some(e.code.name());
        self.detail.get_or_insert(e.detail);
    }
}

/// What is there, without hashing it.
pub fn list(manifest: &Manifest) -> Vec<WeightStatus> {
    manifest.models().iter().map(|row| WeightStatus::of(row, manifest.locate(row))).collect()
}

/// What is there, each file hashed.
pub fn verify(manifest: &Manifest) -> Vec<WeightStatus> {
    let mut rows = list(manifest);
    for (status, row) in rows.iter_mut().zip(manifest.models()) {
        if let Err(e) = manifest.verified(row) {
            status.state = if e.code == Code::WeightsTampered { State::Tampered } else { State::Missing };
            status.found(e);
        }
    }
    rows
}

/// What is there, each file hashed, and each network that is right loaded and tried. Without a runtime the rows say that they were
/// not tried, and why; that is no fault of theirs.
pub fn verify_and_run(engine: &Engine) -> Vec<WeightStatus> {
    let mut rows = verify(engine.manifest());
    for status in rows.iter_mut().filter(|status| status.state == State::Present) {
        if let Err(why) = engine.runtime() {
            status.detail = Some(format!("not tried: {why}"));
            continue;
        }
        match engine.runs_on(&status.name) {
            Ok(on) => (status.provider, status.precision, status.detail) = (Some(on.provider), Some(on.precision), on.reason),
            Err(e) => status.found(e.into()),
        }
    }
    rows
}

/// Runs the build-time script `fetch.sh` of `folder` (a checkout's `weights/`); its output goes to stderr.
pub fn fetch(folder: &Path) -> Result<(), FetchError> {
    let path = folder.join("fetch.sh");
    if !path.is_file() {
        return Err(FetchError::NoScript(folder.to_owned()));
    }
    let run = Command::new("sh").arg(&path).stdin(Stdio::null()).stdout(io::stderr()).status();
    match run {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(FetchError::Failed { path, status }),
        Err(source) => Err(FetchError::NotRun { path, source }),
    }
}

//! `irisd weights`: what is installed, whether it is right, and how a file comes onto the device.
//!
//! ```text
//!   list     what the manifest names, and whether a file lies there
//!   verify   + each file's sha256            + each network loaded and run once, where there is a runtime ([`try_out`])
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
    Engine, RunsOn,
    manifest::{InputPort, Manifest, MaskPort, ModelRow, OutputPort},
};
use crate::{
    domain::{fault::Code, ids::Sha256},
    ports::{ModelError, Tensor},
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

/// What is there, each file hashed, and each network that is right loaded and run once. Without a runtime the rows say that they were
/// not tried, and why; that is no fault of theirs.
pub fn verify_and_run(engine: &Engine) -> Vec<WeightStatus> {
    let mut rows = verify(engine.manifest());
    for (status, row) in rows.iter_mut().zip(engine.manifest().models()).filter(|(status, _)| status.state == State::Present) {
        if let Err(why) = engine.runtime() {
            status.detail = Some(format!("not tried: {why}"));
            continue;
        }
        match try_out(engine, row) {
            Ok(on) => (status.provider, status.precision, status.detail) = (Some(on.provider), Some(on.precision), on.reason),
            Err(e) => status.found(e),
        }
    }
    rows
}

/// Loads a network and runs it once, on grey: names, shapes and scale must be those of its row.
/// Errors: as [`Engine::run`]; ModelMismatch, with both shapes, for an answer of another size.
pub fn try_out(engine: &Engine, row: &ModelRow) -> Result<RunsOn, ModelError> {
    let shape = row.canary();
    let input = Tensor { data: vec![0.5; shape.iter().product()], shape };
    let [n, _, height, width] = input.shape[..] else { unreachable!("a canary has four sides") };
    let wanted = [n, row.output.shape[1], height * row.scale, width * row.scale];
    for answer in engine.run(&row.name, &input)? {
        if answer.shape != wanted {
            let (is, from) = (&answer.shape, &input.shape);
            let detail = format!("{}: {} of {from:?} came out as {is:?}, {wanted:?} is wanted", row.name, row.output.name);
            return Err(ModelError { code: Code::ModelMismatch, detail });
        }
    }
    Ok(engine.runs_on(&row.name)?)
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

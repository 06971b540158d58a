//! `irisd weights`: what is installed, whether it is right, and how a file comes onto the device.
//!
//! Adding is by content: the file's sha256 must be that of a manifest row, whatever the file is called. It is written beside its
//! place, fsynced and renamed, so that a power cut leaves the old file or the new one.

use std::{
    fs::{self, File},
    io::{self, Seek},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Serialize;

use super::manifest::{Manifest, hash, hash_all};
use crate::domain::{fault::Code, ids::Sha256};

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
    pub state: State,
    pub ships: bool,
    pub licence: String,
    pub source: String,
    /// What is wrong, and what to do.
    pub detail: Option<String>,
}

/// Why a file was not added. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    #[error("{path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} (sha256 {sha256}) is none of the networks of the manifest; `irisd weights list` names them")]
    Unknown { path: PathBuf, sha256: Sha256 },
    #[error("{path} cannot be written: {source}; the old file is still there")]
    Unwritable { path: PathBuf, source: io::Error },
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

/// What is there, without hashing it.
pub fn list(manifest: &Manifest) -> Vec<WeightStatus> {
    manifest
        .models()
        .iter()
        .map(|row| {
            let path = manifest.locate(row);
            let detail = path.is_none().then(|| match row.ships {
                true => format!("part of the package: install it again, or `irisd weights add {}`", row.file),
                false => format!("optional: `irisd weights fetch`, or `irisd weights add {}`", row.file),
            });
            WeightStatus {
                name: row.name.clone(),
                role: row.role.name(),
                file: row.file.clone(),
                bytes: path.as_ref().and_then(|p| fs::metadata(p).ok()).map(|m| m.len()),
                state: if path.is_some() { State::Present } else { State::Missing },
                path,
                ships: row.ships,
                licence: row.licence.clone(),
                source: row.source.clone(),
                detail,
            }
        })
        .collect()
}

/// What is there, each file hashed.
pub fn verify(manifest: &Manifest) -> Vec<WeightStatus> {
    let mut rows = list(manifest);
    for (status, row) in rows.iter_mut().zip(manifest.models()) {
        if let Err(e) = manifest.verified(row) {
            status.state = if e.code == Code::WeightsTampered { State::Tampered } else { State::Missing };
            status.detail.get_or_insert(e.detail);
        }
    }
    rows
}

/// Copies `file`, whose name is `path`, to `<state>/weights`, if it is one of the manifest's networks. Returns its name and its place.
pub fn add(manifest: &Manifest, path: &Path, file: &mut File) -> Result<(String, PathBuf), AddError> {
    let unreadable = |source| AddError::Unreadable { path: path.to_owned(), source };
    let sha256 = hash_all(file).and_then(|sha256| file.rewind().map(|()| sha256)).map_err(unreadable)?;
    let row = manifest.models().iter().find(|m| m.sha256 == sha256);
    let row = row.ok_or_else(|| AddError::Unknown { path: path.to_owned(), sha256 })?;
    let to = manifest.own_place().join(&row.file);
    let tmp = to.with_extension("tmp");
    let mut copy = || -> io::Result<()> {
        fs::create_dir_all(manifest.own_place())?;
        io::copy(file, &mut File::create(&tmp)?)?;
        File::open(&tmp)?.sync_all()?;
        // The copy is hashed, not trusted: the source may have changed, the disk may have lied.
        if hash(&tmp)? != sha256 {
            return Err(io::Error::other("the copy has other bytes than the file"));
        }
        fs::rename(&tmp, &to)?;
        File::open(manifest.own_place())?.sync_all()
    };
    copy().map_err(|source| {
        let _ = fs::remove_file(&tmp); // best effort: it may never have been made
        AddError::Unwritable { path: to.clone(), source }
    })?;
    Ok((row.name.clone(), to))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_added_by_its_content_and_anything_else_is_refused() {
        let dir = tempfile::tempdir().expect("temp folder");
        let manifest = Manifest::load(dir.path(), &dir.path().join("none")).expect("manifest");
        let stranger = dir.path().join("iris.onnx");
        fs::write(&stranger, b"not a network").expect("write");
        assert!(matches!(add(&manifest, &stranger, &mut File::open(&stranger).expect("open")), Err(AddError::Unknown { .. })));
        assert!(!manifest.own_place().exists(), "nothing was changed");

        let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights/iris.onnx");
        let renamed = dir.path().join("download (1).bin");
        fs::copy(real, &renamed).expect("copy");
        let (name, place) = add(&manifest, &renamed, &mut File::open(&renamed).expect("open")).expect("added");
        assert_eq!((name.as_str(), place), ("iris", dir.path().join("weights/iris.onnx")));
        let rows = verify(&manifest);
        assert_eq!(rows.iter().find(|r| r.name == "iris").map(|r| r.state), Some(State::Present));
        assert!(rows.iter().any(|r| r.state == State::Missing && r.detail.is_some()));
    }
}

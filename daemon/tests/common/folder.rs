//! Where a daemon or a server of the tests keeps its files: a temporary folder, or a given one that the next run finds again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

pub enum Folder {
    /// Removed when it is dropped.
    Passing(TempDir),
    Lasting(PathBuf),
}

impl Folder {
    pub fn passing(prefix: &str) -> Self {
        Self::Passing(tempfile::Builder::new().prefix(prefix).tempdir().unwrap())
    }

    /// Made where it is missing; what is in it stays.
    pub fn lasting(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        Self::Lasting(fs::canonicalize(path).unwrap())
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Passing(dir) => dir.path(),
            Self::Lasting(path) => path,
        }
    }
}

//! Files of the state folder: where they lie, and how they get there in one piece.
//!
//! A file appears under its name only when its bytes are on the platter: written elsewhere, fsynced, linked or renamed, folder
//! fsynced. `blobs/<aa>/<sha256>` are originals; `blobs/in/` holds photos on their way in and is emptied at the start.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::domain::ids::{JobId, Sha256};

/// Makes a folder's entries durable.
pub fn fsync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub fn blob_name(sha256: &Sha256) -> String {
    let hex = sha256.to_string();
    format!("blobs/{}/{hex}", &hex[..2])
}

pub fn result_name(id: JobId) -> String {
    format!("results/{id}")
}

/// Where the picture of a refused photo lies: `results` has completed jobs alone.
pub fn refused_name(id: JobId) -> String {
    format!("refused/{id}")
}

pub fn incoming_dir(state: &Path) -> PathBuf {
    state.join("blobs/in")
}

/// Gives an fsynced temporary file its name as a blob, durably. The temporary name stays: whoever made it removes it once the
/// photo's row is committed, so that a delete of the same bytes at the same time cannot take the only copy.
pub fn place(state: &Path, sha256: &Sha256, tmp: &Path) -> io::Result<()> {
    let target = state.join(blob_name(sha256));
    let folder = target.parent().expect("a blob lies in a folder");
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        fsync_dir(&state.join("blobs"))?;
    }
    match fs::hard_link(tmp, &target) {
        // These bytes were just read and hashed; those that lie there may be damaged since.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let again = tmp.with_extension("again");
            fs::hard_link(tmp, &again)?;
            let renamed = fs::rename(&again, &target);
            // Two names of one file stay as they are (rename(2)).
            remove(&again)?;
            renamed?;
        }
        linked => linked?,
    }
    fsync_dir(folder)
}

/// Removes what is there; a missing one is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Entries of a folder; none where it is missing.
pub fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(list) => list.map(|e| e.map(|e| e.path())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

//! Multiparts that this device has open at the bucket, remembered on disk: one small file each, there from before the first part is sent
//! until the server was told that it is complete or not wanted any more.
//!
//! A process that died in the middle leaves its file; the next one aborts exactly that upload. A bucket may be shared and its keys need
//! not allow listing, so nothing is looked for there.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// One open multipart. `bucket`: endpoint and name, so that another bucket of a later configuration is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    pub bucket: String,
    pub key: String,
    /// Escaped for a URL.
    pub upload: String,
}

/// The folder of these files.
#[derive(Debug, Clone)]
pub struct OpenUploads(PathBuf);

impl OpenUploads {
    pub fn in_folder(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self(folder.to_owned()))
    }

    pub fn note(&self, open: &Open) -> io::Result<()> {
        let mut file = File::create(self.path(open))?;
        file.write_all(format!("{}\n{}\n{}\n", open.bucket, open.key, open.upload).as_bytes())?;
        file.sync_all()?;
        File::open(&self.0)?.sync_all()
    }

    /// Not synced: a name that comes back after a power cut costs one needless request.
    pub fn forget(&self, open: &Open) {
        if let Err(e) = fs::remove_file(self.path(open))
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(error = %e, "the note of an upload stays; it is aborted once more at the next start");
        }
    }

    /// What an earlier process left. A file that is cut short names nothing that was begun, and goes.
    pub fn left(&self) -> io::Result<Vec<Open>> {
        let mut left = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            let text = fs::read_to_string(&path)?;
            let lines: Vec<&str> = text.lines().collect();
            match (lines.as_slice(), text.ends_with('\n')) {
                ([bucket, key, upload], true) => {
                    left.push(Open { bucket: (*bucket).to_owned(), key: (*key).to_owned(), upload: (*upload).to_owned() });
                }
                _ => fs::remove_file(path)?,
            }
        }
        Ok(left)
    }

    fn path(&self, open: &Open) -> PathBuf {
        let name = Sha256::digest(format!("{}\n{}\n{}", open.bucket, open.key, open.upload));
        self.0.join(&hex::encode(name)[..32])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_and_not_forgotten_is_left_for_the_next_process_and_a_torn_note_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let notes = OpenUploads::in_folder(&dir.path().join("multiparts")).expect("made");
        let open = |n: u8| Open { bucket: "http://a/b".into(), key: format!("photos/{n}.jpg"), upload: format!("id-{n}") };
        for n in 0..3 {
            notes.note(&open(n)).expect("noted");
        }
        notes.forget(&open(1));
        notes.forget(&open(1));
        fs::write(dir.path().join("multiparts/torn"), "http://a/b\nphotos/9").expect("written");
        let mut left = notes.left().expect("read");
        left.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(left, [open(0), open(2)]);
        assert!(!dir.path().join("multiparts/torn").exists());
    }
}

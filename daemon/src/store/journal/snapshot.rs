//! A snapshot: the whole state as one file, written beside the logs that go on meanwhile.
//!
//! ```text
//! create .tmp -> put rows, synced every few MB -> sync (last frame, fsync) -> publish (rename, fsync the folder, drop what came before)
//! ```
//! Its rows may be newer than its lsn: frames are absolute puts and deletes, so the logs from that lsn on, read behind it, lead to the
//! same state. What must not happen is a row older than the lsn, and a snapshot whose log is not there.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    frames::{FRAME_HEADER, Frames, MAGIC, frame, header, put},
    list,
};
use crate::store::blobs::{self, fsync_dir};

/// Frames of a snapshot are cut at about this size.
const FRAME: usize = 1 << 20;
/// Written back this often, so that the last fsync (and each commit's, which the filesystem may couple with it) has little left to do.
const SYNC_EVERY: usize = 8 << 20;

/// Removes its unfinished file when dropped: half a snapshot on a full disk would take the room that the journal itself needs.
pub struct SnapshotWriter {
    dir: PathBuf,
    tmp: PathBuf,
    lsn: u64,
    out: File,
    chunk: Vec<u8>,
    written: u64,
    unsynced: usize,
}

impl SnapshotWriter {
    /// A snapshot of the state before frame `lsn`, or newer.
    pub fn create(dir: &Path, lsn: u64) -> io::Result<Self> {
        let tmp = dir.join(format!("{lsn:016x}.tmp"));
        let out = File::create(&tmp)?;
        let mut writer = Self { dir: dir.to_owned(), tmp, lsn, out, chunk: Vec::new(), written: 0, unsynced: 0 };
        writer.write(MAGIC)?;
        Ok(writer)
    }

    pub fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        put(&mut self.chunk, key, value);
        if self.chunk.len() >= FRAME { self.cut() } else { Ok(()) }
    }

    fn cut(&mut self) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(self.chunk.len() + FRAME_HEADER);
        frame(&mut bytes, self.lsn, &self.chunk);
        self.chunk.clear();
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        self.unsynced += bytes.len();
        if self.unsynced >= SYNC_EVERY {
            self.out.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// The last frame; after this the file is whole and on the platter, under its temporary name.
    pub fn sync(&mut self) -> io::Result<()> {
        if !self.chunk.is_empty() {
            self.cut()?;
        }
        self.cut()?;
        self.out.sync_all()
    }

    /// Gives the synced file its name and drops the snapshots and logs before it; its size in bytes.
    pub fn publish(self) -> io::Result<u64> {
        fs::rename(&self.tmp, self.tmp.with_extension("snap"))?;
        fsync_dir(&self.dir)?;
        let old = list(&self.dir)?;
        for (lsn, path) in old.snaps.into_iter().chain(old.logs) {
            if lsn < self.lsn {
                fs::remove_file(path)?;
            }
        }
        fsync_dir(&self.dir)?;
        Ok(self.written)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if let Err(e) = blobs::remove(&self.tmp) {
            tracing::warn!(error = %e, "an unfinished snapshot could not be removed; the next start does it");
        }
    }
}

/// Whether every frame is good and the last one is the empty one.
pub fn is_whole(path: &Path) -> bool {
    let Ok(mut frames) = Frames::open(path) else { return false };
    let mut last_empty = false;
    loop {
        match frames.read() {
            Ok(Some(frame)) => last_empty = frame.payload.is_empty(),
            Ok(None) => return last_empty && frames.good == frames.total,
            Err(_) => return false,
        }
    }
}

/// Whether it ends as a snapshot of `lsn` does: enough where nothing is to be read from it.
pub fn has_its_end(path: &Path, lsn: u64) -> bool {
    let read = || -> io::Result<bool> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-(FRAME_HEADER as i64)))?;
        let mut found = [0; FRAME_HEADER];
        file.read_exact(&mut found)?;
        let mut wanted = Vec::new();
        frame(&mut wanted, lsn, &[]);
        Ok(header(&found) == header(&wanted))
    };
    read().unwrap_or(false)
}

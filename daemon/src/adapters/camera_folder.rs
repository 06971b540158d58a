//! A watched folder as a camera: whatever a camera's own program, a scanner or a share drops there is a photo.
//!
//! ```text
//! seen --(size and time unchanged for `settle`)--> still --> delivered by `next`, oldest first
//!   ^------------- changed again ------------------/
//! ```
//!
//! Invariants: no file is ever moved, changed or deleted; a file is delivered once per run and content (a restart delivers it again: the
//! intake knows its bytes); hidden files, `*.tmp`, `*.part`, links, sub-folders and what is no JPEG, PNG or WebP by its first bytes are
//! left alone. Folders are polled, because change notices do not cross network shares.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs, io,
    io::Read,
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;

use crate::{
    domain::photo::ImageFormat,
    ports::{CameraError, CameraOpener, Frame, FramePixels, FrameSource},
};

/// A file that could not be read is looked at again after this long.
const READ_AGAIN: Duration = Duration::from_secs(60);
/// Between two looks at the folder: soon enough for a person who waits, and little work for a share.
const POLL: Duration = Duration::from_millis(250);

#[derive(Debug, Clone)]
pub struct FolderOptions {
    pub folder: PathBuf,
    /// A file must have been unchanged for this long.
    pub settle: Duration,
    /// Larger files are left alone (the intake would refuse them).
    pub max_bytes: u64,
}

pub struct FolderCamera {
    options: FolderOptions,
}

impl FolderCamera {
    pub fn new(options: FolderOptions) -> Self {
        Self { options }
    }
}

impl CameraOpener for FolderCamera {
    fn open(&self) -> Result<Box<dyn FrameSource>, CameraError> {
        fs::read_dir(&self.options.folder).map_err(|e| gone(&self.options, &e))?;
        Ok(Box::new(FolderSource { options: self.options.clone(), files: HashMap::new() }))
    }
}

/// What tells one content of a file from the next, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: SystemTime,
}

struct Known {
    stamp: Stamp,
    /// Since when it looks like this.
    since: Instant,
    /// Delivered, or found to be no photo.
    done: bool,
    photo: bool,
}

struct FolderSource {
    options: FolderOptions,
    /// Only what lies in the folder now: bounded by the folder.
    files: HashMap<OsString, Known>,
}

impl FolderSource {
    fn look(&mut self) -> Result<(), CameraError> {
        let now = Instant::now();
        let mut there = HashMap::new();
        for entry in fs::read_dir(&self.options.folder).map_err(|e| gone(&self.options, &e))? {
            let entry = entry.map_err(|e| gone(&self.options, &e))?;
            let name = entry.file_name();
            if is_unfinished(&name) {
                continue;
            }
            // Of the entry itself, not of what a link leads to. A file that went away meanwhile is no error.
            let Ok(meta) = entry.metadata() else { continue };
            let (true, Ok(modified)) = (meta.is_file() && meta.len() > 0, meta.modified()) else { continue };
            let stamp = Stamp { bytes: meta.len(), modified };
            let known = match self.files.remove(&name) {
                Some(known) if known.stamp == stamp => known,
                _ => Known { stamp, since: now, done: false, photo: false },
            };
            there.insert(name, known);
        }
        self.files = there;
        Ok(())
    }

    /// Still files, oldest first.
    fn still(&self, wanted: impl Fn(&Known) -> bool) -> Vec<(OsString, Stamp)> {
        let mut names: Vec<_> = self
            .files
            .iter()
            .filter(|(_, k)| k.since.elapsed() >= self.options.settle && wanted(k))
            .map(|(name, k)| (name.clone(), k.stamp))
            .collect();
        names.sort_by(|a, b| a.1.modified.cmp(&b.1.modified).then_with(|| a.0.cmp(&b.0)));
        names
    }

    /// The file as a frame; None where it is no photo, or changed under our hands (then it is looked at again).
    fn read(&mut self, name: &OsString, stamp: Stamp) -> Option<Frame> {
        let done = |source: &mut Self, photo: bool| {
            if let Some(k) = source.files.get_mut(name) {
                (k.done, k.photo) = (true, photo);
            }
        };
        if stamp.bytes > self.options.max_bytes {
            tracing::warn!(
                bytes = stamp.bytes,
                limit = self.options.max_bytes,
                "a file of the watched folder is above the limit and is left alone"
            );
            done(self, false);
            return None;
        }
        let bytes = match read_unchanged(&self.options.folder.join(name), stamp) {
            Ok(bytes) => bytes?,
            Err(e) => {
                // A share that hiccups, or not readable for us: it stays in the folder, and is tried again.
                tracing::warn!(error = %e, "a file of the watched folder cannot be read; it is tried again in a minute");
                if let Some(k) = self.files.get_mut(name) {
                    k.since = Instant::now() + READ_AGAIN;
                }
                return None;
            }
        };
        let photo = ImageFormat::sniff(&bytes).is_some();
        done(self, photo);
        photo.then(|| Frame {
            width: 0,
            height: 0,
            pixels: FramePixels::File(bytes),
            captured_at: Timestamp::try_from(stamp.modified).ok(),
        })
    }
}

impl FrameSource for FolderSource {
    /// The oldest new photo; [`CameraError::Empty`] where none came within `timeout`.
    fn next(&mut self, timeout: Duration) -> Result<Frame, CameraError> {
        let end = Instant::now() + timeout;
        loop {
            self.look()?;
            for (name, stamp) in self.still(|k| !k.done) {
                if let Some(frame) = self.read(&name, stamp) {
                    return Ok(frame);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CameraError::Empty("no new photo came into the folder".to_owned()));
            }
            thread::sleep(left.min(POLL));
        }
    }

    fn newest(&mut self, timeout: Duration) -> Result<Frame, CameraError> {
        let end = Instant::now() + timeout;
        loop {
            self.look()?;
            // A photo that is still being written is worth the wait: it is the one that was just taken.
            let moving = self.files.values().any(|k| k.since.elapsed() < self.options.settle);
            let left = end.saturating_duration_since(Instant::now());
            if !moving || left.is_zero() {
                for (name, stamp) in self.still(|k| !k.done || k.photo).into_iter().rev() {
                    // Reading is not delivering: `next` still gives a file that only a capture took.
                    let delivered = self.files.get(&name).is_some_and(|k| k.done);
                    if let Some(frame) = self.read(&name, stamp) {
                        if let Some(k) = self.files.get_mut(&name) {
                            k.done = delivered;
                        }
                        return Ok(frame);
                    }
                }
                return Err(CameraError::Empty("there is no photo in the folder yet; take one, then capture again".to_owned()));
            }
            thread::sleep(left.min(POLL));
        }
    }
}

/// Names that programs use while they write.
fn is_unfinished(name: &OsString) -> bool {
    let name = name.to_string_lossy().to_ascii_lowercase();
    name.starts_with('.') || name.ends_with('~') || [".tmp", ".part", ".partial", ".crdownload"].iter().any(|e| name.ends_with(e))
}

/// The whole file, if it still is what was looked at.
fn read_unchanged(path: &PathBuf, stamp: Stamp) -> io::Result<Option<Vec<u8>>> {
    let mut file = match fs::File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::with_capacity(stamp.bytes as usize);
    (&mut file).take(stamp.bytes + 1).read_to_end(&mut bytes)?;
    let after = file.metadata()?;
    Ok((bytes.len() as u64 == stamp.bytes && after.len() == stamp.bytes && after.modified()? == stamp.modified).then_some(bytes))
}

fn gone(options: &FolderOptions, e: &io::Error) -> CameraError {
    CameraError::Gone(format!("the folder {} cannot be read: {e}", options.folder.display()))
}

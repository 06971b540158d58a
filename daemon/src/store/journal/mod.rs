//! The journal: what was acknowledged is in here, whatever happens to the index.
//!
//! Constraints
//! - A group of frames is on the platter (fdatasync) before anybody is answered.
//! - A torn tail (power cut in the middle of a write) costs only frames that nobody was told of.
//! - The files from the newest snapshot on hold the whole state: the index can be made again from them.
//! - Commits never wait for a snapshot: it is written by another thread (`indexer.rs`) while frames go on into a new log.
//!
//! Format, little endian
//! ```text
//! journal/<lsn of its first frame, 16 hex>.snap   the whole state before that frame, or newer, as one run of put frames (optional)
//! journal/<lsn of its first frame, 16 hex>.log    frames after it, up to the next log's first
//! file  = "irisdj01" frame*
//! frame = u32 payload length | u32 CRC-32 of (lsn, payload) | u64 lsn | payload
//! payload = op*      op = u8 1 (put) u16 key length, key, u32 value length, value | u8 2 (delete) u16 key length, key
//! ```
//! A bad frame with good ones behind it is damage, not a torn tail: the good ones are read all the same, the log is kept as
//! `.log.damaged` and the loss is said.
//!
//! A .snap file is written as .tmp, fsynced and renamed; its last frame has an empty payload, so a short one is never believed.
//! Logs before a snapshot are removed only once it is on the platter.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

pub use self::{frames::Op, snapshot::SnapshotWriter};
use self::{
    frames::{Frames, MAGIC, frame, ops, payload},
    snapshot::{has_its_end, is_whole},
};
use super::blobs::fsync_dir;

mod frames;
mod snapshot;

/// Snapshot when the logs since the last one are this long and longer than the last snapshot: the journal stays below some three
/// times the live rows (four while a snapshot is written).
const SNAPSHOT_EVERY: u64 = 32 << 20;
/// Added to the name of a log with damage in its middle.
const DAMAGED: &str = "log.damaged";

/// The file that is being appended to.
pub struct Journal {
    dir: PathBuf,
    file: File,
    /// Bytes that are known to be good; a failed append is cut back to here.
    len: u64,
    next_lsn: u64,
    /// Of all logs since the last snapshot.
    log_bytes: u64,
    snapshot_bytes: u64,
    /// What `log_bytes` was when the snapshot that is being written began.
    snapshot_from: Option<u64>,
    /// A snapshot that failed is not tried again before the logs have this length.
    next_try: u64,
    /// A failed append could not be taken back: what follows would be unreadable.
    broken: bool,
}

/// What reading the journal gave.
pub struct Replay {
    /// lsn after the last good frame.
    pub next_lsn: u64,
    /// Bytes of a torn tail that were cut off.
    pub cut: u64,
    /// Frames in the middle are missing or damaged; those behind them were read.
    pub damage: Option<String>,
}

impl Journal {
    /// Reads the frames that are not known yet (`apply(lsn, ops, false)`), before them the newest snapshot (all its frames with its
    /// lsn and `true`), cuts a torn tail, and opens the last file for appending.
    ///
    /// `known`: frames up to this lsn are in the index; a snapshot and whole logs of such frames are not read.
    pub fn open(dir: &Path, known: Option<u64>, mut apply: impl FnMut(u64, Vec<Op>, bool) -> io::Result<()>) -> io::Result<(Self, Replay)> {
        fs::create_dir_all(dir)?;
        for path in super::blobs::entries(dir)?.iter().filter(|p| p.extension().is_some_and(|e| e == "tmp")) {
            fs::remove_file(path)?;
        }
        let mut files = list(dir)?;
        let wanted = |lsn: u64| known.is_none_or(|known| known + 1 < lsn);
        let usable = |(lsn, path): &&(u64, PathBuf)| if wanted(*lsn) { is_whole(path) } else { has_its_end(path, *lsn) };
        let snapshot = files.snaps.iter().rev().find(usable).cloned();
        let from = snapshot.as_ref().map_or(0, |s| s.0);
        let mut snapshot_bytes = 0;
        if let Some((lsn, path)) = &snapshot {
            snapshot_bytes = fs::metadata(path)?.len();
            let mut frames = Frames::open(path)?;
            while let Some(frame) = if wanted(*lsn) { frames.read()? } else { None } {
                apply(*lsn, ops(&frame.payload)?, true)?;
            }
        }
        files.logs.retain(|(lsn, _)| *lsn >= from);
        let mut replay = Replay { next_lsn: from.max(1), cut: 0, damage: None };
        let mut log_bytes = 0;
        let mut tail = None;
        for (i, (first, path)) in files.logs.iter().enumerate() {
            let next = files.logs.get(i + 1).map(|(lsn, _)| *lsn);
            if *first > replay.next_lsn {
                replay.damage = Some(format!("frames {} to {first} are missing", replay.next_lsn));
                replay.next_lsn = *first;
            }
            // The name alone does not say where the next log begins: one that could not be begun on a full disk may lie there.
            let next_begins =
                |next: &u64| known.is_some_and(|known| *next <= known + 1) && first_frame(&files.logs[i + 1].1) == Some(*next);
            if let Some(next) = next.filter(next_begins) {
                log_bytes += fs::metadata(path)?.len();
                replay.next_lsn = next;
                continue;
            }
            let mut frames = Frames::open(path)?;
            while let Some(frame) = frames.next_good(replay.next_lsn)? {
                if frame.lsn > replay.next_lsn {
                    replay.damage = Some(format!("{}: frames {} to {} are damaged", path.display(), replay.next_lsn, frame.lsn));
                }
                if known.is_none_or(|known| frame.lsn > known) {
                    apply(frame.lsn, ops(&frame.payload)?, false)?;
                }
                replay.next_lsn = frame.lsn + 1;
            }
            log_bytes += frames.good;
            if frames.good < frames.total && next.is_some() {
                replay.damage.get_or_insert_with(|| format!("{} is damaged at byte {}", path.display(), frames.good));
            }
            replay.cut = frames.total - frames.good;
            tail = Some((path.clone(), frames.good));
        }
        let (file, len) = match tail {
            Some((path, good)) if replay.damage.is_none() => append_to(&path, good)?,
            _ => {
                if replay.damage.is_some() {
                    keep_damaged(dir, &files.logs, replay.next_lsn)?;
                }
                new_log(dir, replay.next_lsn)?
            }
        };
        let journal = Self {
            dir: dir.to_owned(),
            file,
            len,
            next_lsn: replay.next_lsn,
            log_bytes,
            snapshot_bytes,
            snapshot_from: None,
            next_try: 0,
            broken: false,
        };
        Ok((journal, replay))
    }

    /// The index knows more than the journal (whose end was lost): the next frame is `lsn`. A snapshot must follow at once.
    pub fn skip_to(&mut self, lsn: u64) {
        self.next_lsn = lsn;
    }

    pub fn next_lsn(&self) -> u64 {
        self.next_lsn
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Appends one frame for each transaction and syncs once. On an error nothing of the group stays in the file.
    pub fn append(&mut self, transactions: &[Vec<Op>]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the journal could not take back a failed write; the next start mends it"));
        }
        let mut bytes = Vec::new();
        for (i, ops) in transactions.iter().enumerate() {
            let payload = payload(ops);
            if u32::try_from(payload.len()).is_err() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a transaction above 4 GiB"));
            }
            frame(&mut bytes, self.next_lsn + i as u64, &payload);
        }
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if let Err(e) = written {
            // The frames were not acknowledged: they must not come back at the next start.
            self.broken = self.take_back().is_err();
            return Err(e);
        }
        self.len += bytes.len() as u64;
        self.log_bytes += bytes.len() as u64;
        self.next_lsn += transactions.len() as u64;
        Ok(())
    }

    fn take_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        self.file.sync_data()
    }

    /// No append can succeed any more in this run.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    pub fn wants_snapshot(&self) -> bool {
        self.snapshot_from.is_none() && self.log_bytes > SNAPSHOT_EVERY.max(self.snapshot_bytes).max(self.next_try)
    }

    /// Frames go on into a new log; whoever holds the rows up to here writes the snapshot of this lsn and says how it went
    /// ([`Journal::snapshot_ended`]). On an error the old log goes on.
    pub fn begin_snapshot(&mut self) -> io::Result<u64> {
        self.next_try = self.log_bytes + SNAPSHOT_EVERY;
        (self.file, self.len) = new_log(&self.dir, self.next_lsn)?;
        self.snapshot_from = Some(self.log_bytes);
        Ok(self.next_lsn)
    }

    /// Its size in bytes; None: it failed, and all that came before is still there.
    pub fn snapshot_ended(&mut self, bytes: Option<u64>) {
        let from = self.snapshot_from.take().unwrap_or(0);
        if let Some(bytes) = bytes {
            (self.snapshot_bytes, self.next_try) = (bytes, 0);
            self.log_bytes -= from;
        }
    }

    /// Writes the whole state while nobody commits (at the start), begins a new log behind it and drops what came before. On an error
    /// everything is as before.
    pub fn snapshot<E: From<io::Error>>(&mut self, rows: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), E>>) -> Result<(), E> {
        let mut writer = SnapshotWriter::create(&self.dir, self.next_lsn)?;
        for row in rows {
            let (key, value) = row?;
            writer.put(&key, &value)?;
        }
        writer.sync()?;
        // The log first: a snapshot without the log that follows it would hide the frames that went on into the old one.
        (self.file, self.len) = new_log(&self.dir, self.next_lsn)?;
        (self.log_bytes, self.snapshot_bytes, self.next_try) = (0, writer.publish()?, 0);
        Ok(())
    }

    /// Lets every append fail from now on, as a full disk does.
    #[cfg(test)]
    pub fn write_to(&mut self, file: File) {
        self.file = file;
    }
}

/// Gives damaged logs a second name, under which they stay. Under the first they are read again at the next start, until the snapshot that
/// takes their place is on the platter: a process that dies before it must not leave their good frames to nobody.
fn keep_damaged(dir: &Path, logs: &[(u64, PathBuf)], next: u64) -> io::Result<()> {
    for (first, path) in logs {
        match fs::hard_link(path, path.with_extension(DAMAGED)) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        // A log without one good frame stands where the next one is to begin, which would empty both names' file.
        if *first == next {
            fs::remove_file(path)?;
        }
    }
    fsync_dir(dir)
}

/// Notes that frames from this one on are lost without a trace, for [`was_damaged`]: an empty file in the place of a damaged log.
pub fn mark_damaged(dir: &Path, lsn: u64) -> io::Result<()> {
    let path = dir.join(format!("{lsn:016x}.{DAMAGED}"));
    OpenOptions::new().create(true).append(true).open(path)?.sync_all()?;
    fsync_dir(dir)
}

/// Whether a damaged log is kept: until somebody has looked at it, nothing that might belong to it is removed.
pub fn was_damaged(dir: &Path) -> io::Result<bool> {
    Ok(super::blobs::entries(dir)?.iter().any(|p| p.to_string_lossy().ends_with(DAMAGED)))
}

/// Reads every frame of every file, changing nothing: bytes read, and what is wrong with them.
pub fn verify(dir: &Path, mut progress: impl FnMut(u64)) -> io::Result<(u64, Vec<String>)> {
    let (mut read, mut wrong) = (0, Vec::new());
    let files = list(dir)?;
    for (_, path) in files.snaps.iter().filter(|(_, path)| !is_whole(path)) {
        wrong.push(format!("{} is no whole snapshot", path.display()));
    }
    for (first, path) in &files.logs {
        let (mut frames, mut next) = (Frames::open(path)?, *first);
        while let Some(frame) = frames.next_good(next)? {
            if frame.lsn > next {
                wrong.push(format!("{}: frames {next} to {} are damaged or missing", path.display(), frame.lsn));
            }
            next = frame.lsn + 1;
            progress(read + frames.good);
        }
        // Bytes behind the last good frame of the newest log are a write that was cut off before anybody was answered.
        if frames.good < frames.total && Some(path) != files.logs.last().map(|(_, last)| last) {
            wrong.push(format!("{} is damaged at byte {}", path.display(), frames.good));
        }
        read += frames.total;
    }
    Ok((read, wrong))
}

/// Opens a log behind its last good frame; what follows (a torn tail) is cut off.
fn append_to(path: &Path, good: u64) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.set_len(good)?;
    if good < MAGIC.len() as u64 {
        file.write_all(MAGIC)?;
    }
    file.sync_all()?;
    let len = file.seek(SeekFrom::End(0))?;
    Ok((file, len))
}

fn new_log(dir: &Path, lsn: u64) -> io::Result<(File, u64)> {
    let path = dir.join(format!("{lsn:016x}.log"));
    let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
    let begun = file.write_all(MAGIC).and_then(|()| file.sync_all()).and_then(|()| fsync_dir(dir));
    if let Err(e) = begun {
        super::blobs::remove(&path)?;
        return Err(e);
    }
    Ok((file, MAGIC.len() as u64))
}

/// lsn of a log's first frame.
fn first_frame(path: &Path) -> Option<u64> {
    Frames::open(path).ok()?.read().ok()?.map(|frame| frame.lsn)
}

#[derive(Default)]
struct Files {
    snaps: Vec<(u64, PathBuf)>,
    logs: Vec<(u64, PathBuf)>,
}

fn list(dir: &Path) -> io::Result<Files> {
    let mut files = Files::default();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let lsn = path.file_stem().and_then(|s| s.to_str()).and_then(|s| u64::from_str_radix(s, 16).ok());
        match (lsn, path.extension().and_then(|e| e.to_str())) {
            (Some(lsn), Some("snap")) => files.snaps.push((lsn, path)),
            (Some(lsn), Some("log")) => files.logs.push((lsn, path)),
            _ => {}
        }
    }
    files.snaps.sort();
    files.logs.sort();
    Ok(files)
}

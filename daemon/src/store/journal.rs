//! The journal: what was acknowledged is in here, whatever happens to the index.
//!
//! Constraints
//! - A group of frames is on the platter (fdatasync) before anybody is answered.
//! - A torn tail (power cut in the middle of a write) costs only frames that nobody was told of.
//! - The files from the newest snapshot on hold the whole state: the index can be made again from them.
//!
//! Format, little endian
//! ```text
//! journal/<lsn of its first frame, 16 hex>.snap   the whole state before that frame, as one run of put frames (optional)
//! journal/<lsn of its first frame, 16 hex>.log    frames after it
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
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::blobs::fsync_dir;

const MAGIC: &[u8; 8] = b"irisdj01";
const FRAME_HEADER: usize = 16;
/// How far ahead a frame behind damage may be numbered.
const NEAR: u64 = 1 << 20;
/// Snapshot when the log since the last one is this long and twice the last snapshot.
const SNAPSHOT_EVERY: u64 = 32 << 20;
/// Added to the name of a log with damage in its middle.
const DAMAGED: &str = "log.damaged";
/// Frames of a snapshot are cut at about this size.
const SNAPSHOT_FRAME: usize = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Put { key: Vec<u8>, value: Vec<u8> },
    Delete { key: Vec<u8> },
}

/// The file that is being appended to.
pub struct Journal {
    dir: PathBuf,
    file: File,
    /// Bytes that are known to be good; a failed append is cut back to here.
    len: u64,
    next_lsn: u64,
    log_bytes: u64,
    snapshot_bytes: u64,
    /// A snapshot that failed is not tried again before the log has this length.
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
    /// Reads every frame (`apply(lsn, ops)`; snapshot frames come first, all with the snapshot's lsn and `true`), cuts a torn
    /// tail, and opens the last file for appending.
    pub fn open(dir: &Path, mut apply: impl FnMut(u64, Vec<Op>, bool) -> io::Result<()>) -> io::Result<(Self, Replay)> {
        fs::create_dir_all(dir)?;
        let mut files = list(dir)?;
        let snapshot = files.snaps.iter().rev().find(|(_, p)| snapshot_is_whole(p)).cloned();
        let from = snapshot.as_ref().map_or(0, |s| s.0);
        let mut snapshot_bytes = 0;
        if let Some((lsn, path)) = &snapshot {
            snapshot_bytes = fs::metadata(path)?.len();
            let mut frames = Frames::open(path)?;
            while let Some(frame) = frames.read()? {
                apply(*lsn, ops(&frame.payload)?, true)?;
            }
        }
        files.logs.retain(|(lsn, _)| *lsn >= from);
        let mut replay = Replay { next_lsn: from.max(1), cut: 0, damage: None };
        let mut log_bytes = 0;
        let last = files.logs.len().saturating_sub(1);
        let mut tail = None;
        for (i, (first, path)) in files.logs.iter().enumerate() {
            if *first > replay.next_lsn {
                replay.damage = Some(format!("frames {} to {first} are missing", replay.next_lsn));
                replay.next_lsn = *first;
            }
            let mut frames = Frames::open(path)?;
            while let Some(frame) = frames.next_good(replay.next_lsn)? {
                if frame.lsn > replay.next_lsn {
                    replay.damage = Some(format!("{}: frames {} to {} are damaged", path.display(), replay.next_lsn, frame.lsn));
                }
                apply(frame.lsn, ops(&frame.payload)?, false)?;
                replay.next_lsn = frame.lsn + 1;
            }
            log_bytes += frames.good;
            if frames.good < frames.total && i != last {
                replay.damage.get_or_insert_with(|| format!("{} is damaged at byte {}", path.display(), frames.good));
            }
            replay.cut = frames.total - frames.good;
            tail = Some((path.clone(), frames.good));
        }
        let (file, len) = match tail {
            Some((path, good)) if replay.damage.is_none() => append_to(&path, good)?,
            _ => {
                for (_, path) in files.logs.iter().filter(|_| replay.damage.is_some()) {
                    fs::rename(path, path.with_extension(DAMAGED))?;
                }
                new_log(dir, replay.next_lsn)?
            }
        };
        let next_lsn = replay.next_lsn;
        let journal = Self { dir: dir.to_owned(), file, len, next_lsn, log_bytes, snapshot_bytes, next_try: 0, broken: false };
        Ok((journal, replay))
    }

    /// The index knows more than the journal (whose end was lost): the next frame is `lsn`. A snapshot must follow at once.
    pub fn skip_to(&mut self, lsn: u64) {
        self.next_lsn = lsn;
    }

    pub fn next_lsn(&self) -> u64 {
        self.next_lsn
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
        self.log_bytes > SNAPSHOT_EVERY.max(2 * self.snapshot_bytes).max(self.next_try)
    }

    /// Writes the whole state, starts a new log behind it and drops what came before. On an error everything is as before.
    pub fn snapshot<E: From<io::Error>>(&mut self, rows: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), E>>) -> Result<(), E> {
        self.next_try = self.log_bytes + SNAPSHOT_EVERY;
        let name = self.dir.join(format!("{:016x}.snap", self.next_lsn));
        let tmp = name.with_extension("tmp");
        if let Err(e) = write_snapshot(&tmp, self.next_lsn, rows) {
            // Half a snapshot on a full disk would take the room that the journal itself needs.
            fs::remove_file(&tmp)?;
            return Err(e);
        }
        // The log first: a snapshot without the log that follows it would hide the frames that went on into the old one.
        let (file, len) = new_log(&self.dir, self.next_lsn)?;
        fs::rename(&tmp, &name)?;
        fsync_dir(&self.dir)?;
        (self.file, self.len) = (file, len);
        (self.log_bytes, self.snapshot_bytes, self.next_try) = (0, fs::metadata(&name)?.len(), 0);
        let old = list(&self.dir)?;
        for (lsn, path) in old.snaps.into_iter().chain(old.logs) {
            if lsn < self.next_lsn {
                fs::remove_file(path)?;
            }
        }
        fsync_dir(&self.dir)?;
        Ok(())
    }
}

/// Whether a damaged log is kept: until somebody has looked at it, nothing that might belong to it is removed.
pub fn was_damaged(dir: &Path) -> io::Result<bool> {
    Ok(super::blobs::entries(dir)?.iter().any(|p| p.to_string_lossy().ends_with(DAMAGED)))
}

fn write_snapshot<E: From<io::Error>>(path: &Path, lsn: u64, rows: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), E>>) -> Result<(), E> {
    let mut out = File::create(path)?;
    let mut bytes = MAGIC.to_vec();
    let mut chunk = Vec::new();
    for row in rows {
        let (key, value) = row?;
        put(&mut chunk, &key, &value);
        if chunk.len() >= SNAPSHOT_FRAME {
            frame(&mut bytes, lsn, &chunk);
            out.write_all(&bytes)?;
            (bytes, chunk) = (Vec::new(), Vec::new());
        }
    }
    if !chunk.is_empty() {
        frame(&mut bytes, lsn, &chunk);
    }
    frame(&mut bytes, lsn, &[]);
    out.write_all(&bytes)?;
    out.sync_all()?;
    Ok(())
}

fn damage(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
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
    let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(dir.join(format!("{lsn:016x}.log")))?;
    file.write_all(MAGIC)?;
    file.sync_all()?;
    fsync_dir(dir)?;
    Ok((file, MAGIC.len() as u64))
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
            (_, Some("tmp")) => fs::remove_file(path)?,
            _ => {}
        }
    }
    files.snaps.sort();
    files.logs.sort();
    Ok(files)
}

fn snapshot_is_whole(path: &Path) -> bool {
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

struct Frame {
    lsn: u64,
    payload: Vec<u8>,
}

struct Frames {
    from: BufReader<File>,
    /// Bytes up to the end of the last good frame.
    good: u64,
    total: u64,
}

impl Frames {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let total = file.metadata()?.len();
        let mut from = BufReader::with_capacity(1 << 18, file);
        let mut magic = [0; 8];
        let good = if fill(&mut from, &mut magic)? && &magic == MAGIC { 8 } else { 0 };
        Ok(Self { from, good, total })
    }

    /// The frame that stands here; None: the file ends here, or what stands here is none. Err: the disk does not answer.
    fn read(&mut self) -> io::Result<Option<Frame>> {
        let mut head = [0; FRAME_HEADER];
        if self.good == 0 || !fill(&mut self.from, &mut head)? {
            return Ok(None);
        }
        let (len, crc, lsn) = header(&head);
        if self.good + (FRAME_HEADER + len) as u64 > self.total {
            return Ok(None);
        }
        let mut payload = vec![0; len];
        self.from.read_exact(&mut payload)?;
        if checksum(lsn, &payload) != crc {
            return Ok(None);
        }
        self.good += (FRAME_HEADER + len) as u64;
        Ok(Some(Frame { lsn, payload }))
    }

    /// The next frame from `lsn` on; steps over damage where a good frame stands behind it.
    fn next_good(&mut self, lsn: u64) -> io::Result<Option<Frame>> {
        match self.read()? {
            Some(frame) if frame.lsn >= lsn => return Ok(Some(frame)),
            Some(_) => return self.next_good(lsn),
            None if self.good >= self.total => return Ok(None),
            None => {}
        }
        let start = self.good.max(1) as usize;
        let mut rest = Vec::new();
        self.from.seek(SeekFrom::Start(start as u64))?;
        self.from.read_to_end(&mut rest)?;
        let found = (0..rest.len().saturating_sub(FRAME_HEADER - 1)).find(|at| {
            let (len, crc, number) = header(&rest[*at..*at + FRAME_HEADER]);
            let payload = rest.get(at + FRAME_HEADER..).and_then(|p| p.get(..len));
            // A number near the expected one, before the costly sum: noise is full of small lengths.
            (lsn..lsn + NEAR).contains(&number) && payload.is_some_and(|p| checksum(number, p) == crc)
        });
        let Some(at) = found else { return Ok(None) };
        self.good = (start + at) as u64;
        self.from.seek(SeekFrom::Start(self.good))?;
        self.read()
    }
}

/// Length of the payload, checksum, lsn.
fn header(head: &[u8]) -> (usize, u32, u64) {
    let word = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    (word(0) as usize, word(4), u64::from(word(8)) | u64::from(word(12)) << 32)
}

fn checksum(lsn: u64, payload: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&lsn.to_le_bytes());
    hash.update(payload);
    hash.finalize()
}

/// Whether the buffer could be filled.
fn fill(from: &mut impl Read, buf: &mut [u8]) -> io::Result<bool> {
    let mut at = 0;
    while at < buf.len() {
        match from.read(&mut buf[at..])? {
            0 => return Ok(false),
            n => at += n,
        }
    }
    Ok(true)
}

fn frame(out: &mut Vec<u8>, lsn: u64, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum(lsn, payload).to_le_bytes());
    out.extend_from_slice(&lsn.to_le_bytes());
    out.extend_from_slice(payload);
}

fn put(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.push(1);
    out.extend_from_slice(&(key.len() as u16).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
}

fn payload(ops: &[Op]) -> Vec<u8> {
    let mut out = Vec::new();
    for op in ops {
        match op {
            Op::Put { key, value } => put(&mut out, key, value),
            Op::Delete { key } => {
                out.push(2);
                out.extend_from_slice(&(key.len() as u16).to_le_bytes());
                out.extend_from_slice(key);
            }
        }
    }
    out
}

fn ops(mut payload: &[u8]) -> io::Result<Vec<Op>> {
    fn take<'a>(from: &mut &'a [u8], n: usize) -> io::Result<&'a [u8]> {
        let (head, rest) = from.split_at_checked(n).ok_or_else(|| damage("a frame ends inside an operation".into()))?;
        *from = rest;
        Ok(head)
    }
    let mut out = Vec::new();
    while !payload.is_empty() {
        let kind = take(&mut payload, 1)?[0];
        let len = take(&mut payload, 2)?;
        let key = take(&mut payload, usize::from(u16::from_le_bytes([len[0], len[1]])))?.to_vec();
        out.push(match kind {
            1 => {
                let len = take(&mut payload, 4)?;
                let value = take(&mut payload, u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize)?.to_vec();
                Op::Put { key, value }
            }
            2 => Op::Delete { key },
            other => return Err(damage(format!("operation {other} is unknown"))),
        });
    }
    Ok(out)
}

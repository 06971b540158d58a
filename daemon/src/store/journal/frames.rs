//! Frames of the journal as bytes, and files of them read one by one. The layout stands in the journal's own header.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

pub const MAGIC: &[u8; 8] = b"irisdj01";
pub const FRAME_HEADER: usize = 16;
/// How far ahead a frame behind damage may be numbered.
const NEAR: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Put { key: Vec<u8>, value: Vec<u8> },
    Delete { key: Vec<u8> },
}

impl Op {
    pub fn key(&self) -> &[u8] {
        match self {
            Op::Put { key, .. } | Op::Delete { key } => key,
        }
    }

    /// The row after it; None: there is none.
    pub fn value(&self) -> Option<&[u8]> {
        match self {
            Op::Put { value, .. } => Some(value),
            Op::Delete { .. } => None,
        }
    }
}

pub fn damage(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

pub struct Frame {
    pub lsn: u64,
    pub payload: Vec<u8>,
}

pub struct Frames {
    from: BufReader<File>,
    /// Bytes up to the end of the last good frame.
    pub good: u64,
    pub total: u64,
}

impl Frames {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let total = file.metadata()?.len();
        let mut from = BufReader::with_capacity(1 << 18, file);
        let mut magic = [0; 8];
        let good = if fill(&mut from, &mut magic)? && &magic == MAGIC { 8 } else { 0 };
        Ok(Self { from, good, total })
    }

    /// The frame that stands here; None: the file ends here, or what stands here is none. Err: the disk does not answer.
    pub fn read(&mut self) -> io::Result<Option<Frame>> {
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
    pub fn next_good(&mut self, lsn: u64) -> io::Result<Option<Frame>> {
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
pub fn header(head: &[u8]) -> (usize, u32, u64) {
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

pub fn frame(out: &mut Vec<u8>, lsn: u64, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum(lsn, payload).to_le_bytes());
    out.extend_from_slice(&lsn.to_le_bytes());
    out.extend_from_slice(payload);
}

pub fn put(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.push(1);
    out.extend_from_slice(&(key.len() as u16).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
}

pub fn payload(ops: &[Op]) -> Vec<u8> {
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

pub fn ops(mut payload: &[u8]) -> io::Result<Vec<Op>> {
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

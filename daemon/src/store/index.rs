//! sled as an index that can be lost.
//!
//! Constraints
//! - Holds what the journal's frames up to `lsn` say, or says so (`load`): nobody is told lies.
//! - Each group of frames is applied as one sled batch together with `meta`, so that a process death leaves whole groups.
//! - Never asked for durability: sled 0.34's `flush` is no fsync (docs/decisions/0001); after a power cut the journal brings it up to date.
//!
//! Format: one tree; the rows of `rows.rs` as `record.rs` writes them, some of them together (`blocks.rs`), and under the key `!` the meta row:
//! `u64 lsn | u64 rows | u64 digest | u32 CRC-32`, little endian. The digest is the wrapping sum of a hash of each (key, row): a
//! zeroed block, a lost or a doubled row shows in one scan.

use std::{
    collections::BTreeMap,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{
    StoreError,
    blocks::{self, META, Row},
    journal::Op,
    overlay::{Newer, Overlay},
    record,
};

/// sled's default of 1 GiB would be the device's. It counts a page as the bytes that it takes on the disk, and in memory a page of small rows is
/// three times that; of its 256 parts each keeps the page that it was asked for last, however small they are: a megabyte or two, six where all are pages of blocks,
/// and what is asked for again and again (the queue, the newest jobs) is among it.
const CACHE_BYTES: u64 = 1 << 16;
/// sled learns which pages are in use in blocks of 64 reads for each 256th of its pages, and drops none before it has learnt of it. Rows
/// that are written or walked past once would stay for ever: what is written is read this often, and so is each block that a scan meets.
const READS_OF_WRITTEN: usize = 8;
/// A page of blocks is several times as large as one of lone rows: whoever reads here and there must not fill the memory with them before
/// sled hears of it.
const READS_OF_READ: usize = 4;
/// Rows that a sweep reads, each [`READS_OF_WRITTEN`] times: neighbouring pages enough that every part of sled's cache is among them.
const SWEPT: usize = 8192;
/// How long sled's own lock may outlive its last handle.
const LOCK_TRIES: usize = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Rows turned over to a newer format in one batch.
const UPGRADED_AT_ONCE: usize = 4096;

pub struct Index {
    db: sled::Db,
    meta: Meta,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Meta {
    lsn: u64,
    sum: Sum,
}

/// How many rows there are, and a digest over all of them that does not depend on their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    rows: u64,
    digest: u64,
}

impl Sum {
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        self.digest = self.digest.wrapping_add(hash(key, value));
    }

    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.rows = self.rows.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(hash(key, value));
    }

    /// One row becomes another, comes or goes.
    pub fn replace(&mut self, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        if let Some(old) = old {
            self.remove(key, old);
        }
        if let Some(new) = new {
            self.add(key, new);
        }
    }
}

impl Index {
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let db = unlocked(dir)?;
        let meta = match db.get(META)? {
            None if db.iter().next().is_none() => Meta::default(),
            None => return Err(StoreError::Index("the index has rows but no meta row".into())),
            Some(bytes) => Meta::decode(&bytes).ok_or_else(|| StoreError::Index("the index' meta row is damaged".into()))?,
        };
        Ok(Self { db, meta })
    }

    /// Frames up to this one are in here.
    pub fn lsn(&self) -> u64 {
        self.meta.lsn
    }

    pub fn is_new(&self) -> bool {
        self.meta == Meta::default()
    }

    pub fn sum(&self) -> Sum {
        self.meta.sum
    }

    /// Hands every row, sorted by key, to `row`; an error where they are not the rows that were written, or where `row` says no.
    pub fn load(&self, mut row: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let scan = AssertUnwindSafe(|| {
            let mut seen = Sum::default();
            for found in self.after(None) {
                let (key, value) = found?;
                seen.add(&key, &value);
                row(&key, &value)?;
            }
            if seen == self.meta.sum {
                Ok(())
            } else {
                Err(StoreError::Index(format!("the index holds {seen:?}, not {:?}", self.meta.sum)))
            }
        });
        catch_unwind(scan).map_err(|_| StoreError::Index("sled panicked while it was read".into()))?
    }

    /// All rows, sorted by key.
    pub fn rows(&self) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + use<> {
        self.after(None).map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    /// The rows whose key is greater, sorted by key.
    pub fn after(&self, key: Option<&[u8]>) -> impl Iterator<Item = Result<Row, StoreError>> + use<> {
        let db = self.db.clone();
        blocks::range(&self.db, key.map_or(Bound::Unbounded, Bound::Excluded), move |fence, value| {
            let reads = if blocks::is_block(value) { READS_OF_WRITTEN } else { 1 };
            read_again(&db, fence, reads)
        })
    }

    /// Applies the frames up to `lsn` as one batch; `changed(key, old, new)` hears of each row once.
    pub fn apply<'a>(
        &mut self,
        lsn: u64,
        ops: impl IntoIterator<Item = &'a Op>,
        mut changed: impl FnMut(&[u8], Option<&[u8]>, Option<&[u8]>),
    ) -> Result<(), StoreError> {
        // The last operation on a key wins: the digest must count each key once.
        let last: BTreeMap<&[u8], Option<&[u8]>> = ops.into_iter().map(|op| (op.key(), op.value())).collect();
        let mut meta = Meta { lsn, ..self.meta };
        let mut batch = sled::Batch::default();
        let written = blocks::write(&self.db, &last, &mut batch, |key, old, new| {
            meta.sum.replace(key, old, new);
            changed(key, old, new);
        })?;
        batch.insert(META, &meta.encode()[..]);
        self.db.apply_batch(batch)?;
        self.meta = meta;
        written.iter().try_for_each(|fence| read_again(&self.db, fence, READS_OF_WRITTEN))
    }

    /// Has sled drop the pages that it took in to move them (it cleans segments) or to be walked past, and forgot: each part of its cache is
    /// read from until it looks at what it holds. Some 40 ms.
    pub fn sweep(&self) -> Result<(), StoreError> {
        for row in self.db.scan_prefix(b"e").take(SWEPT) {
            read_again(&self.db, &row?.0, READS_OF_WRITTEN)?;
        }
        Ok(())
    }

    /// Writes rows of older formats in the newest one; how many there were. A death in the middle leaves rows of both, which both read.
    pub fn upgrade(&mut self) -> Result<usize, StoreError> {
        let (mut upgraded, mut at) = (0, None);
        loop {
            let mut batch = Vec::new();
            let mut last = None;
            for row in self.after(at.as_deref()) {
                let (key, value) = row?;
                if let Some(value) = record::upgraded(&value) {
                    batch.push(Op::Put { key: key.to_vec(), value });
                }
                last = Some(key);
                if batch.len() >= UPGRADED_AT_ONCE {
                    break;
                }
            }
            if batch.is_empty() {
                return Ok(upgraded);
            }
            upgraded += batch.len();
            self.apply(self.meta.lsn, &batch, |_, _, _| {})?;
            at = last;
        }
    }

    /// Hands everything to the system, so that the next start finds it in one piece.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        Ok(())
    }

    /// A reader beside the one who writes; what sled does not have yet it finds in `overlay`. What cannot be read sets `damaged`.
    pub fn reader(&self, overlay: Arc<Overlay>, damaged: watch::Sender<bool>) -> Reader {
        Reader { db: self.db.clone(), overlay, damaged }
    }
}

/// Reads durable rows; sees whole groups only.
#[derive(Clone)]
pub struct Reader {
    db: sled::Db,
    overlay: Arc<Overlay>,
    damaged: watch::Sender<bool>,
}

impl Reader {
    pub fn row<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        // The overlay first: a row leaves it only once sled has it.
        let newer = self.overlay.get(key);
        self.told(self.get(key, newer, &mut Vec::new()))
    }

    /// The row under each of these keys, each block read once for neighbours that stand in it.
    pub fn rows_under<T: DeserializeOwned>(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<T>>, StoreError> {
        // For all keys before any block is read: what leaves the overlay later is newer than a block that was read already.
        let newer: Vec<_> = keys.iter().map(|key| self.overlay.get(key)).collect();
        let mut beside = Vec::new();
        self.told(keys.iter().zip(newer).map(|(key, newer)| self.get(key, newer, &mut beside)).collect())
    }

    /// At most `limit` rows whose key starts with `prefix` and lies at or after `from`, sorted.
    pub fn rows<T: DeserializeOwned>(&self, prefix: u8, from: &[u8], limit: usize) -> Result<Vec<T>, StoreError> {
        let rows = self.range(prefix, from, limit);
        self.told(rows.and_then(|rows| rows.iter().map(|(_, bytes)| Ok(record::decode(bytes)?)).collect()))
    }

    /// A row that does not read would be missing from every answer for ever: the daemon ends, and the next process makes the index anew.
    fn told<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(e) = &read {
            tracing::error!(error = %e, "the index cannot be read");
            self.damaged.send_replace(true);
        }
        read
    }

    /// `newer`: what the overlay says of it; `beside`: the rows that the last row stood beside.
    fn get<T: DeserializeOwned>(&self, key: &[u8], newer: Option<Newer>, beside: &mut Vec<Row>) -> Result<Option<T>, StoreError> {
        let row = match newer {
            Some(row) => row,
            None => match blocks::find(beside, key) {
                Some(row) => Some(row),
                None => {
                    *beside = blocks::beside(&self.db, key, |fence, value| {
                        let reads = if blocks::is_block(value) { READS_OF_READ } else { 0 };
                        read_again(&self.db, fence, reads)
                    })?;
                    blocks::find(beside, key)
                }
            },
        };
        Ok(row.map(|bytes| record::decode(&bytes)).transpose()?)
    }

    fn range(&self, prefix: u8, from: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, sled::IVec)>, StoreError> {
        let mut newer = self.overlay.range(prefix, from);
        let mut found = Vec::new();
        for row in blocks::range(&self.db, Bound::Included(from), |_, _| Ok(())) {
            let (key, value) = row?;
            if key.first() != Some(&prefix) || found.len() >= limit {
                break;
            }
            let rest = newer.split_off(&key[..]);
            found.extend(std::mem::replace(&mut newer, rest).into_iter().filter_map(|(key, row)| Some((key, row?))));
            match newer.remove(&key[..]) {
                Some(row) => found.extend(row.map(|row| (key.to_vec(), row))),
                None => found.push((key.to_vec(), value)),
            }
        }
        found.extend(newer.into_iter().filter_map(|(key, row)| Some((key, row?))));
        found.truncate(limit);
        Ok(found)
    }

    /// Waits until sled has all that was acknowledged.
    #[cfg(test)]
    pub fn settle(&self) {
        while !self.overlay.is_empty() {
            std::thread::yield_now();
        }
    }
}

/// Without sled's own flusher: the indexer flushes, once it has looked whether the disk has room.
///
/// sled's own lock may outlive its last handle by a moment: its threads let go of the file when they end. The state folder's lock is held by
/// whoever opens an index, so nobody else can have this one.
fn unlocked(dir: &Path) -> Result<sled::Db, StoreError> {
    let mut tries = (0..LOCK_TRIES).rev();
    loop {
        // sled answers some damage with a panic.
        let open = AssertUnwindSafe(|| sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None).open());
        match catch_unwind(open).map_err(|_| StoreError::Index("sled panicked while it opened".into()))? {
            Err(sled::Error::Io(e)) if e.to_string().contains("could not acquire lock") && tries.next().is_some() => {
                thread::sleep(LOCK_PAUSE)
            }
            opened => return Ok(opened?),
        }
    }
}

fn read_again(db: &sled::Db, key: &[u8], times: usize) -> Result<(), StoreError> {
    for _ in 0..times {
        db.get(key)?;
    }
    Ok(())
}

fn hash(key: &[u8], value: &[u8]) -> u64 {
    u64::from(crc32fast::hash(key)) << 32 | u64::from(crc32fast::hash(value))
}

impl Meta {
    fn encode(self) -> [u8; 28] {
        let mut out = [0; 28];
        for (i, n) in [self.lsn, self.sum.rows, self.sum.digest].into_iter().enumerate() {
            out[i * 8..i * 8 + 8].copy_from_slice(&n.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[..24]);
        out[24..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, crc) = bytes.split_at_checked(24)?;
        if crc != crc32fast::hash(head).to_le_bytes() {
            return None;
        }
        let word = |i: usize| head[i * 8..i * 8 + 8].try_into().map(u64::from_le_bytes).ok();
        Some(Self { lsn: word(0)?, sum: Sum { rows: word(1)?, digest: word(2)? } })
    }
}

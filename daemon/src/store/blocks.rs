//! Several rows of the store in each row of sled.
//!
//! Constraints
//! - sled splits a page at its 17th row whatever its size, and remembers some 340 bytes of each page for ever, in memory, though the page lies on the
//!   disk. What stays for ever (photos, jobs, hashes) goes by [`KEPT`] or [`JOBS`] rows to one of sled's.
//! - What comes and goes in its order (events, uploads) stays alone: a page of small rows is what sled's cache is cheapest with.
//!
//! Format: a block stands under its fence, a key that is not greater than any key in it, and smaller than the next block's fence.
//! ```text
//! 03 | u16 bytes of the key | key | u32 bytes of the row | row | the next one ...      little endian, sorted by key
//! ```
//! A row that stands alone under its own key is written as it is (`record.rs`: its first byte is another). That is all that
//! programs before blocks wrote, so their index is read, too.

use std::{collections::BTreeMap, ops::Bound};

use sled::IVec;

use super::{
    StoreError,
    record::{self, BLOCK},
};

/// Where the index keeps its own count: no row, and before all of them.
pub const META: &[u8] = b"!";
/// Rows of some 100 bytes in a block: eight of sled's pages become one. More would make each write of a row dearer than its page is.
const KEPT: usize = 8;
/// A finished job is 650 bytes, and is written nine times until it is.
const JOBS: usize = 4;

/// A row: key and value.
pub type Row = (IVec, IVec);
type Rows = Vec<Row>;

/// Rows that stand together, for a key like this one.
fn most(key: &[u8]) -> usize {
    match key.first() {
        Some(b'p' | b'd' | b'c' | b'k') => KEPT,
        Some(b'j') => JOBS,
        _ => 1,
    }
}

fn malformed() -> StoreError {
    StoreError::Index("a block of rows does not unpack".into())
}

fn decode(fence: IVec, value: IVec) -> Result<Rows, StoreError> {
    if record::is_record(&value) {
        return Ok(vec![(fence, value)]);
    }
    if !is_block(&value) {
        return Err(malformed());
    }
    let (mut rows, mut at) = (Rows::new(), 1);
    while at < value.len() {
        let key = part(&value, &mut at, 2).ok_or_else(malformed)?;
        // A damaged block must not pass for one that lacks a row.
        let rises = rows.last().map_or(key >= fence, |(before, _)| key > *before);
        rows.push((key, part(&value, &mut at, 4).filter(|row| rises && record::is_record(row)).ok_or_else(malformed)?));
    }
    Ok(rows)
}

pub fn is_block(value: &[u8]) -> bool {
    value.first() == Some(&BLOCK)
}

/// Bytes behind their length, a number of `width` bytes.
fn part(block: &IVec, at: &mut usize, width: usize) -> Option<IVec> {
    let mut number = [0; 8];
    number[..width].copy_from_slice(block.get(*at..*at + width)?);
    let (start, len) = (*at + width, usize::try_from(u64::from_le_bytes(number)).ok()?);
    *at = start.checked_add(len).filter(|end| *end <= block.len())?;
    Some(block.subslice(start, len))
}

fn encode(fence: &[u8], rows: &[Row]) -> IVec {
    if let [(key, value)] = rows
        && key == fence
    {
        return value.clone();
    }
    let mut out = vec![BLOCK];
    for (key, value) in rows {
        // A key is a few dozen bytes, a row some hundreds.
        out.extend_from_slice(&(key.len() as u16).to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(value);
    }
    out.into()
}

/// The block that holds `key` or would: its fence and its rows as they lie in sled.
fn holder(db: &sled::Db, key: &[u8]) -> Result<Option<Row>, StoreError> {
    if most(key) == 1 {
        return Ok(db.get(key)?.map(|value| (key.into(), value)));
    }
    Ok(db.range(&key[..1]..=key).next_back().transpose()?)
}

/// The rows that stand where this key does or would; `met(fence, value)` hears of what they lie in.
pub fn beside(db: &sled::Db, key: &[u8], met: impl FnOnce(&IVec, &IVec) -> Result<(), StoreError>) -> Result<Vec<Row>, StoreError> {
    let Some((fence, value)) = holder(db, key)? else { return Ok(Vec::new()) };
    met(&fence, &value)?;
    decode(fence, value)
}

pub fn find(rows: &[Row], key: &[u8]) -> Option<IVec> {
    rows.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone())
}

/// The rows from `from` on, sorted by key; `met(fence, value)` hears of what they lie in. A key that does not rise is an error: a block that
/// was split, of which sled lost one half's writing (or that is split meanwhile: who reads beside the writer asks for lone rows).
pub fn range<M: FnMut(&IVec, &IVec) -> Result<(), StoreError>>(
    db: &sled::Db,
    from: Bound<&[u8]>,
    mut met: M,
) -> impl Iterator<Item = Result<Row, StoreError>> + use<M> {
    let start = match from {
        Bound::Unbounded => Ok(Bound::Unbounded),
        Bound::Included(key) | Bound::Excluded(key) => {
            holder(db, key).map(|found| Bound::Included(found.map_or_else(|| key.into(), |(fence, _)| fence)))
        }
    };
    let (blocks, failed) = match start {
        Ok(start) => (Some(db.range::<IVec, _>((start, Bound::Unbounded))), None),
        Err(e) => (None, Some(Err(e))),
    };
    let mut last = None;
    let mut rows_of = move |(fence, value): Row| {
        met(&fence, &value)?;
        let rows = decode(fence, value)?;
        if last.as_ref().zip(rows.first()).is_some_and(|(last, (first, _))| first <= last) {
            return Err(StoreError::Index("two blocks of rows overlap".into()));
        }
        last = rows.last().map(|(key, _)| key.clone()).or(last.take());
        Ok(rows)
    };
    let blocks = blocks.into_iter().flatten().filter(|block| !matches!(block, Ok((fence, _)) if fence == META));
    let rows = blocks.flat_map(move |block| match block.map_err(StoreError::from).and_then(&mut rows_of) {
        Ok(rows) => rows.into_iter().map(Ok).collect(),
        Err(e) => vec![Err(e)],
    });
    let from = from.map(IVec::from);
    failed.into_iter().chain(rows).filter(move |row| match (row, &from) {
        (Err(_), _) | (_, Bound::Unbounded) => true,
        (Ok((key, _)), Bound::Included(from)) => key >= from,
        (Ok((key, _)), Bound::Excluded(from)) => key > from,
    })
}

/// A block while a batch is made.
struct Open {
    fence: IVec,
    rows: Rows,
    /// The last key that it had.
    end: Option<IVec>,
    /// A key came before it.
    within: bool,
}

impl Open {
    fn set(&mut self, key: &[u8], new: Option<&[u8]>) -> Option<IVec> {
        let place = self.rows.binary_search_by(|(k, _)| k.as_ref().cmp(key));
        match (place, new) {
            (Ok(i), Some(new)) => Some(std::mem::replace(&mut self.rows[i].1, new.into())),
            (Ok(i), None) => Some(self.rows.remove(i).1),
            (Err(i), Some(new)) => {
                self.within |= self.end.as_ref().is_some_and(|end| key < end.as_ref());
                self.rows.insert(i, (key.into(), new.into()));
                None
            }
            (Err(_), None) => None,
        }
    }

    fn write(mut self, batch: &mut sled::Batch, written: &mut Vec<IVec>) {
        if self.rows.is_empty() {
            return batch.remove(self.fence);
        }
        let most = most(&self.fence);
        let blocks = self.rows.len().div_ceil(most);
        // Keys that rise (ids) fill blocks to the brim; of keys in no order (hashes) a full block's halves have room again.
        let size = if self.within { self.rows.len().div_ceil(blocks) } else { most };
        while !self.rows.is_empty() {
            let rest = self.rows.split_off(size.min(self.rows.len()));
            batch.insert(self.fence.clone(), encode(&self.fence, &self.rows));
            written.push(self.fence);
            self.fence = rest.first().map(|(key, _)| key.clone()).unwrap_or_default();
            self.rows = rest;
        }
    }
}

/// Writes rows (None: removes them) into `batch`; `changed(key, old, new)` hears of each. The fences of the blocks that were written.
pub fn write<'a>(
    db: &sled::Db,
    changes: &BTreeMap<&'a [u8], Option<&'a [u8]>>,
    batch: &mut sled::Batch,
    mut changed: impl FnMut(&[u8], Option<&[u8]>, Option<&[u8]>),
) -> Result<Vec<IVec>, StoreError> {
    let (mut written, mut open) = (Vec::new(), None::<Open>);
    for (key, new) in changes {
        let found = holder(db, key)?;
        // Keys come sorted: one that sled has no block for belongs to the block that was begun for a smaller one, if there is any.
        let goes_on = open.as_ref().is_some_and(|o| match &found {
            Some((fence, _)) => o.fence == *fence,
            None => most(key) > 1 && o.fence.first() == key.first(),
        });
        if !goes_on {
            if let Some(done) = open.take() {
                done.write(batch, &mut written);
            }
            open = Some(match found {
                Some((fence, value)) => {
                    let rows = decode(fence.clone(), value)?;
                    Open { fence, end: rows.last().map(|(key, _)| key.clone()), rows, within: false }
                }
                None => Open { fence: (*key).into(), rows: Rows::new(), end: None, within: false },
            });
        }
        if let Some(block) = &mut open {
            let old = block.set(key, *new);
            changed(key, old.as_deref(), *new);
        }
    }
    if let Some(done) = open.take() {
        done.write(batch, &mut written);
    }
    Ok(written)
}

#[cfg(test)]
mod tests;

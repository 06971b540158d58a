//! Rows that are durable in the journal and not yet in sled.
//!
//! The journal's fsync is the acknowledgement; sled follows on its own thread, and is slow now and then (a merge, a segment to clean).
//! Until it has a group, every reader finds the group's rows here first, so nobody sees a store behind what was answered.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::journal::Op;

/// A row, or its absence.
pub type Newer = Option<sled::IVec>;
/// And the last lsn of the group that wrote it.
type Entry = (u64, Newer);
type Rows = BTreeMap<Vec<u8>, Entry>;

#[derive(Default)]
pub struct Overlay(RwLock<Rows>);

impl Overlay {
    fn read(&self) -> RwLockReadGuard<'_, Rows> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Rows> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A group that was just made durable, up to `lsn`.
    pub fn add(&self, lsn: u64, frames: &[Vec<Op>]) {
        let mut rows = self.write();
        for op in frames.iter().flatten() {
            rows.insert(op.key().to_vec(), (lsn, op.value().map(sled::IVec::from)));
        }
    }

    /// sled has these now, unless a later group wrote them again.
    pub fn applied(&self, lsn: u64, frames: &[Vec<Op>]) {
        let mut rows = self.write();
        for op in frames.iter().flatten() {
            if rows.get(op.key()).is_some_and(|(of, _)| *of <= lsn) {
                rows.remove(op.key());
            }
        }
    }

    /// None: ask sled. Some(None): the row is gone.
    pub fn get(&self, key: &[u8]) -> Option<Newer> {
        self.read().get(key).map(|(_, row)| row.clone())
    }

    /// Rows with this prefix from `from` on, in order; None for those that are gone.
    pub fn range(&self, prefix: u8, from: &[u8]) -> BTreeMap<Vec<u8>, Newer> {
        let rows = self.read();
        let found = rows.range(from.to_vec()..).take_while(|(key, _)| key.first() == Some(&prefix));
        found.map(|(key, (_, row))| (key.clone(), row.clone())).collect()
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }
}

//! The photos in memory: by seq, by id, and how many rows need each blob.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hashbrown::HashTable;
use uuid::Uuid;

use super::table::{Labels, Table};
use crate::domain::ids::{PhotoId, Seq, Sha256};

/// For as long as the photo is known; what only those need that lie here is in [`Original`].
pub struct PhotoEntry {
    pub id: PhotoId,
    /// Place of its newest job, from 1; 0: none.
    pub newest_job: u32,
}

/// A photo's bytes on this device.
#[derive(Debug, Clone, Copy)]
pub struct Original {
    pub sha256: Sha256,
    pub bytes: u64,
    /// The bucket has it, too.
    pub uploaded: bool,
}

#[derive(Default)]
pub struct Photos {
    pub table: Table<PhotoEntry>,
    ids: HashTable<u32>,
    /// What lies here: as much as the disk holds, beside all photos that ever were.
    here: BTreeMap<Seq, Original>,
    /// Of these, how many rows need each blob.
    users: HashMap<Sha256, u32>,
    /// Of these, what the bucket has.
    evictable: BTreeSet<Seq>,
    /// Bytes of the blobs that rows need, each once.
    pub bytes: u64,
}

/// Ids are made here and end in random bits: they are their own hash.
fn id_hash(id: &Uuid) -> u64 {
    let (high, low) = id.as_u64_pair();
    high.rotate_left(32) ^ low
}

impl Photos {
    pub fn place_of(&self, id: PhotoId) -> Option<usize> {
        let table = &self.table;
        self.ids.find(id_hash(&id.0), |place| table.at(*place as usize).id == id).map(|place| *place as usize)
    }

    /// Rows that need these bytes.
    pub fn users(&self, sha256: &Sha256) -> u32 {
        self.users.get(sha256).copied().unwrap_or(0)
    }

    /// Photos whose original the bucket has and which lies here, oldest first, with its bytes; a blob that a second row needs would stay,
    /// nothing is won.
    pub fn evictable(&self) -> impl Iterator<Item = (Seq, PhotoId, u64)> {
        let originals = self.evictable.iter().filter_map(|seq| Some((*seq, self.here.get(seq)?)));
        let alone = originals.filter(|(_, original)| self.users(&original.sha256) == 1);
        alone.filter_map(|(seq, original)| Some((seq, self.table.at(self.table.place_of(seq)?).id, original.bytes)))
    }

    /// While the store is read: rows in any order, each once; [`Photos::loaded`] must follow.
    pub fn load(&mut self, seq: Seq, labels: &Labels<'_>, id: PhotoId, original: Option<Original>) {
        self.lay(seq, original);
        self.table.push(seq, labels, PhotoEntry { id, newest_job: 0 });
    }

    /// What of the photo lies here from now on.
    fn lay(&mut self, seq: Seq, original: Option<Original>) {
        let before = match original {
            Some(new) => self.here.insert(seq, new),
            None => self.here.remove(&seq),
        };
        if let Some(new) = original {
            let users = self.users.entry(new.sha256).or_insert(0);
            *users += 1;
            if *users == 1 {
                self.bytes += new.bytes;
            }
        }
        if let Some(old) = before
            && let Some(users) = self.users.get_mut(&old.sha256)
        {
            *users -= 1;
            if *users == 0 {
                self.users.remove(&old.sha256);
                self.bytes -= old.bytes;
            }
        }
        if original.is_some_and(|new| new.uploaded) {
            self.evictable.insert(seq)
        } else {
            self.evictable.remove(&seq)
        };
    }

    pub fn loaded(&mut self) {
        if !self.table.is_sorted() || self.table.gone() > 0 {
            self.table.make_anew();
        }
        let table = &self.table;
        self.ids.clear();
        self.ids.reserve(table.places(), |place| id_hash(&table.at(*place as usize).id.0));
        for place in 0..self.table.places() {
            self.enter(place);
        }
    }

    /// Their chains of jobs are made anew.
    pub fn forget_jobs(&mut self) {
        for place in 0..self.table.places() {
            self.table.at_mut(place).newest_job = 0;
        }
    }

    fn enter(&mut self, place: usize) {
        let table = &self.table;
        self.ids.insert_unique(id_hash(&table.at(place).id.0), place as u32, |place| id_hash(&table.at(*place as usize).id.0));
    }

    /// A new row, or a known one as it is now.
    pub fn put(&mut self, seq: Seq, labels: &Labels<'_>, id: PhotoId, original: Option<Original>) {
        self.lay(seq, original);
        if let Some(place) = self.place_of(id) {
            return self.table.label(place, labels);
        }
        let place = self.table.push(seq, labels, PhotoEntry { id, newest_job: 0 });
        if self.table.ends_sorted() { self.enter(place) } else { self.loaded() }
    }

    pub fn remove(&mut self, id: PhotoId) {
        let Some(place) = self.place_of(id) else { return };
        self.lay(self.table.seq_at(place), None);
        let table = &self.table;
        if let Ok(known) = self.ids.find_entry(id_hash(&id.0), |place| table.at(*place as usize).id == id) {
            known.remove();
        }
        self.table.remove(place);
        if self.table.gone() > 1024 && self.table.gone() > self.table.places() / 2 {
            self.loaded();
        }
    }
}

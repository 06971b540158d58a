//! The photos in memory: by seq, by id, and how many rows need each blob.

use std::collections::BTreeSet;

use hashbrown::{HashTable, hash_table::Entry};
use uuid::Uuid;

use super::table::{Labels, Table};
use crate::domain::ids::{PhotoId, Seq, Sha256};

pub struct PhotoEntry {
    pub id: PhotoId,
    pub sha256: Sha256,
    pub bytes: u64,
    pub on_disk: bool,
    pub uploaded: bool,
    /// Place of its newest job, from 1; 0: none.
    pub newest_job: u32,
}

/// A blob: a place of any photo that has these bytes (it may be gone; its hash stands there still), and how many rows need them.
struct Blob {
    photo: u32,
    users: u32,
}

#[derive(Default)]
pub struct Photos {
    pub table: Table<PhotoEntry>,
    ids: HashTable<u32>,
    blobs: HashTable<Blob>,
    /// Bytes of the blobs that rows need, each once.
    pub bytes: u64,
    /// Those whose original the bucket has and which lies here.
    evictable: BTreeSet<Seq>,
}

/// Ids are made here and end in random bits: they are their own hash.
fn id_hash(id: &Uuid) -> u64 {
    let (high, low) = id.as_u64_pair();
    high.rotate_left(32) ^ low
}

fn sha_hash(sha256: &Sha256) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&sha256.0[..8]);
    u64::from_le_bytes(head)
}

impl Photos {
    pub fn place_of(&self, id: PhotoId) -> Option<usize> {
        let table = &self.table;
        self.ids.find(id_hash(&id.0), |place| table.at(*place as usize).id == id).map(|place| *place as usize)
    }

    /// Rows that need these bytes.
    pub fn users(&self, sha256: &Sha256) -> u32 {
        let table = &self.table;
        self.blobs.find(sha_hash(sha256), |blob| table.at(blob.photo as usize).sha256 == *sha256).map_or(0, |blob| blob.users)
    }

    /// Photos whose original the bucket has and which lies here, oldest first; a blob that a second row needs would stay, nothing is won.
    pub fn evictable(&self) -> impl Iterator<Item = (Seq, &PhotoEntry)> {
        let photos = self.evictable.iter().filter_map(|seq| Some((*seq, self.table.at(self.table.place_of(*seq)?))));
        photos.filter(|(_, photo)| self.users(&photo.sha256) == 1)
    }

    /// While the store is read: rows in any order, each once; [`Photos::loaded`] must follow.
    pub fn load(&mut self, seq: Seq, labels: &Labels<'_>, entry: PhotoEntry) {
        self.count(seq, &entry);
        self.table.push(seq, labels, entry);
    }

    fn count(&mut self, seq: Seq, entry: &PhotoEntry) {
        if entry.uploaded && entry.on_disk {
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
        self.blobs.clear();
        self.bytes = 0;
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
        let entry = table.at(place);
        self.ids.insert_unique(id_hash(&entry.id.0), place as u32, |place| id_hash(&table.at(*place as usize).id.0));
        if entry.on_disk {
            self.need_blob(place);
        }
    }

    fn need_blob(&mut self, place: usize) {
        let table = &self.table;
        let (sha256, bytes) = (table.at(place).sha256, table.at(place).bytes);
        let same = |blob: &Blob| table.at(blob.photo as usize).sha256 == sha256;
        let hash = |blob: &Blob| sha_hash(&table.at(blob.photo as usize).sha256);
        match self.blobs.entry(sha_hash(&sha256), same, hash) {
            Entry::Occupied(mut blob) => blob.get_mut().users += 1,
            Entry::Vacant(none) => {
                none.insert(Blob { photo: place as u32, users: 1 });
                self.bytes += bytes;
            }
        }
    }

    fn release_blob(&mut self, place: usize) {
        let table = &self.table;
        let (sha256, bytes) = (table.at(place).sha256, table.at(place).bytes);
        let found = self.blobs.find_entry(sha_hash(&sha256), |blob| table.at(blob.photo as usize).sha256 == sha256);
        let Ok(mut blob) = found else { return };
        blob.get_mut().users -= 1;
        if blob.get().users == 0 {
            blob.remove();
            self.bytes -= bytes;
        }
    }

    /// A new row, or a known one as it is now.
    pub fn put(&mut self, seq: Seq, labels: &Labels<'_>, entry: PhotoEntry) {
        self.count(seq, &entry);
        let Some(place) = self.place_of(entry.id) else {
            let place = self.table.push(seq, labels, entry);
            if self.table.ends_sorted() {
                self.enter(place)
            } else {
                self.loaded()
            }
            return;
        };
        let was_here = self.table.at(place).on_disk;
        self.table.label(place, labels);
        let known = self.table.at_mut(place);
        let newest_job = known.newest_job;
        *known = PhotoEntry { newest_job, ..entry };
        match (was_here, self.table.at(place).on_disk) {
            (false, true) => self.need_blob(place),
            (true, false) => self.release_blob(place),
            _ => {}
        }
    }

    pub fn remove(&mut self, id: PhotoId) {
        let Some(place) = self.place_of(id) else { return };
        self.evictable.remove(&self.table.seq_at(place));
        if self.table.at(place).on_disk {
            self.release_blob(place);
        }
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

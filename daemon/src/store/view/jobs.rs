//! The jobs in memory: by seq, and chained by photo, newest first.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    photos::Photos,
    table::{Labels, Table},
};
use crate::{
    domain::ids::{JobId, PhotoId, Seq},
    store::blobs::{refused_name, result_name},
};

/// What lies in a job's folder on this device.
#[derive(Debug, Clone, Copy)]
pub enum Here {
    Nothing,
    /// Of a completed job. `uploaded`: the bucket has it.
    Result {
        bytes: u64,
        uploaded: bool,
    },
    /// The picture of a refused photo: made again from the original at any time, so it may always go.
    Annotated {
        bytes: u64,
    },
}

impl Here {
    fn bytes(self) -> u64 {
        match self {
            Here::Nothing => 0,
            Here::Result { bytes, .. } | Here::Annotated { bytes } => bytes,
        }
    }

    fn is_evictable(self) -> bool {
        matches!(self, Here::Result { uploaded: true, .. } | Here::Annotated { .. })
    }
}

/// For ever; what only those need that have files here is in [`Here`].
pub struct JobEntry {
    pub id: JobId,
    pub photo: PhotoId,
    /// Place of the same photo's job before it, from 1; 0: none.
    earlier: u32,
}

impl JobEntry {
    pub fn new(id: JobId, photo: PhotoId) -> Self {
        Self { id, photo, earlier: 0 }
    }
}

#[derive(Default)]
pub struct Jobs {
    pub table: Table<JobEntry>,
    /// Bytes of the results and pictures that lie here.
    pub bytes: u64,
    /// What lies here: as much as the disk holds, beside all jobs that ever were.
    here: BTreeMap<Seq, Here>,
    /// Of these, what may go: whoever needs room asks for the oldest.
    evictable: BTreeSet<Seq>,
}

impl Jobs {
    /// While the store is read: rows in any order, each once; [`Jobs::loaded`] must follow.
    pub fn load(&mut self, seq: Seq, labels: &Labels<'_>, entry: JobEntry, here: Here) {
        self.lay(seq, here);
        self.table.push(seq, labels, entry);
    }

    /// What of the job lies here from now on.
    fn lay(&mut self, seq: Seq, here: Here) {
        let before = match here {
            Here::Nothing => self.here.remove(&seq),
            _ => self.here.insert(seq, here),
        };
        self.bytes += here.bytes();
        self.bytes -= before.map_or(0, Here::bytes);
        if here.is_evictable() {
            self.evictable.insert(seq)
        } else {
            self.evictable.remove(&seq)
        };
    }

    pub fn loaded(&mut self, photos: &mut Photos) {
        if !self.table.is_sorted() {
            self.table.make_anew();
        }
        photos.forget_jobs();
        for place in 0..self.table.places() {
            self.table.at_mut(place).earlier = 0;
            self.chain(place, photos);
        }
    }

    fn chain(&mut self, place: usize, photos: &mut Photos) {
        let entry = self.table.at_mut(place);
        // A photo that was deleted needs no chain: nobody can ask for its jobs by it.
        let Some(photo) = photos.place_of(entry.photo) else { return };
        entry.earlier = std::mem::replace(&mut photos.table.at_mut(photo).newest_job, place as u32 + 1);
    }

    /// A new row, or a known one as it is now.
    pub fn put(&mut self, seq: Seq, labels: &Labels<'_>, entry: JobEntry, here: Here, photos: &mut Photos) {
        self.lay(seq, here);
        let Some(place) = self.table.place_of(seq) else {
            let place = self.table.push(seq, labels, entry);
            if self.table.ends_sorted() {
                self.chain(place, photos)
            } else {
                self.loaded(photos)
            }
            return;
        };
        self.table.label(place, labels);
        let known = self.table.at_mut(place);
        *known = JobEntry { earlier: known.earlier, ..entry };
    }

    fn id_of(&self, seq: Seq) -> Option<JobId> {
        self.table.place_of(seq).map(|place| self.table.at(place).id)
    }

    /// The folders of all jobs that have files here, below the state folder.
    pub fn folders(&self) -> impl Iterator<Item = String> {
        self.here.iter().filter_map(|(seq, here)| {
            let id = self.id_of(*seq)?;
            match here {
                Here::Nothing => None,
                Here::Result { .. } => Some(result_name(id)),
                Here::Annotated { .. } => Some(refused_name(id)),
            }
        })
    }

    pub fn has_result_here(&self, place: usize) -> bool {
        matches!(self.here.get(&self.table.seq_at(place)), Some(Here::Result { .. }))
    }

    /// Jobs whose files here may go, oldest first, with their bytes: results that the bucket has, pictures of refused photos.
    pub fn evictable(&self) -> impl Iterator<Item = (Seq, JobId, u64)> {
        self.evictable.iter().filter_map(|seq| Some((*seq, self.id_of(*seq)?, self.here.get(seq)?.bytes())))
    }

    /// Places of a photo's jobs, newest first.
    pub fn of_photo(&self, id: PhotoId, photos: &Photos) -> impl Iterator<Item = usize> {
        self.chain_from(photos.place_of(id).map_or(0, |place| photos.table.at(place).newest_job))
    }

    /// Places of the same photo's jobs before the one at this place, newest first.
    pub fn before(&self, place: usize) -> impl Iterator<Item = usize> {
        self.chain_from(self.table.at(place).earlier)
    }

    /// `newest`: a place from 1; 0: none.
    fn chain_from(&self, newest: u32) -> impl Iterator<Item = usize> {
        let place = |n: u32| n.checked_sub(1).map(|n| n as usize);
        std::iter::successors(place(newest), move |at| place(self.table.at(*at).earlier))
    }
}

//! The jobs in memory: by seq, and chained by photo, newest first.

use std::collections::BTreeSet;

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

pub struct JobEntry {
    pub id: JobId,
    pub photo: PhotoId,
    here: Here,
    /// Place of the same photo's job before it, from 1; 0: none.
    earlier: u32,
}

impl JobEntry {
    pub fn new(id: JobId, photo: PhotoId, here: Here) -> Self {
        Self { id, photo, here, earlier: 0 }
    }

    pub fn has_result_here(&self) -> bool {
        matches!(self.here, Here::Result { .. })
    }

    /// Where its files lie, below the state folder.
    pub fn folder(&self) -> Option<String> {
        match self.here {
            Here::Nothing => None,
            Here::Result { .. } => Some(result_name(self.id)),
            Here::Annotated { .. } => Some(refused_name(self.id)),
        }
    }

    pub fn bytes_here(&self) -> u64 {
        match self.here {
            Here::Nothing => 0,
            Here::Result { bytes, .. } | Here::Annotated { bytes } => bytes,
        }
    }

    fn is_evictable(&self) -> bool {
        matches!(self.here, Here::Result { uploaded: true, .. } | Here::Annotated { .. })
    }
}

#[derive(Default)]
pub struct Jobs {
    pub table: Table<JobEntry>,
    /// Bytes of the results and pictures that lie here.
    pub bytes: u64,
    /// Few beside all jobs that ever were: whoever needs room asks for the oldest of these.
    evictable: BTreeSet<Seq>,
}

impl Jobs {
    /// While the store is read: rows in any order, each once; [`Jobs::loaded`] must follow.
    pub fn load(&mut self, seq: Seq, labels: &Labels<'_>, entry: JobEntry) {
        self.count(seq, &entry);
        self.table.push(seq, labels, entry);
    }

    fn count(&mut self, seq: Seq, entry: &JobEntry) {
        self.bytes += entry.bytes_here();
        if entry.is_evictable() {
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
    pub fn put(&mut self, seq: Seq, labels: &Labels<'_>, entry: JobEntry, photos: &mut Photos) {
        self.count(seq, &entry);
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
        self.bytes -= known.bytes_here();
        let earlier = known.earlier;
        *known = JobEntry { earlier, ..entry };
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Seq, &JobEntry)> {
        self.table.iter()
    }

    /// Jobs whose files here may go, oldest first: results that the bucket has, pictures of refused photos.
    pub fn evictable(&self) -> impl Iterator<Item = (Seq, &JobEntry)> {
        self.evictable.iter().filter_map(|seq| Some((*seq, self.table.at(self.table.place_of(*seq)?))))
    }

    /// Places of a photo's jobs, newest first.
    pub fn of_photo(&self, id: PhotoId, photos: &Photos) -> impl Iterator<Item = usize> {
        let newest = photos.place_of(id).map_or(0, |place| photos.table.at(place).newest_job);
        let place = |n: u32| n.checked_sub(1).map(|n| n as usize);
        std::iter::successors(place(newest), move |at| place(self.table.at(*at).earlier))
    }
}

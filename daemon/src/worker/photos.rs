//! The photos that a job works on: its own, and those that it merges.

use super::memory;
use crate::{
    domain::{job::Job, photo::Photo},
    store::{Store, StoreError},
};

/// None: the row is gone.
pub struct Photos {
    pub own: Option<Photo>,
    /// In the order of the job's row.
    pub others: Vec<Option<Photo>>,
}

impl Photos {
    pub fn of(store: &Store, job: &Job) -> Result<Self, StoreError> {
        let others = job.merged().iter().map(|id| store.photo(*id)).collect::<Result<_, _>>()?;
        Ok(Self { own: store.photo(job.photo_id)?, others })
    }

    /// Of its own photo: what its place in the queue is told by.
    pub fn megapixels(&self) -> f64 {
        self.own.as_ref().map_or(0.0, Photo::megapixels)
    }

    /// Bytes that the job may come to need.
    pub fn need(&self) -> u64 {
        let px = |photo: &Photo| u64::from(photo.width) * u64::from(photo.height);
        let others: Vec<u64> = self.others.iter().flatten().map(px).collect();
        self.own.as_ref().map_or(0, |own| memory::need(px(own), &others))
    }
}

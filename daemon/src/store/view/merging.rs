//! Which photos unfinished jobs merge: these must stay, though none of those jobs is theirs. Few at any time, as the queue is.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::domain::ids::{JobId, PhotoId};

#[derive(Default)]
pub struct Merging(BTreeSet<(PhotoId, JobId)>);

impl Merging {
    pub fn needed(&mut self, photos: &[PhotoId], by: JobId) {
        self.0.extend(photos.iter().map(|photo| (*photo, by)));
    }

    /// The job has ended.
    pub fn no_more(&mut self, photos: &[PhotoId], by: JobId) {
        for photo in photos {
            self.0.remove(&(*photo, by));
        }
    }

    pub fn jobs_of(&self, photo: PhotoId) -> impl Iterator<Item = JobId> {
        self.0.range((photo, JobId(Uuid::nil()))..=(photo, JobId(Uuid::max()))).map(|(_, job)| *job)
    }
}

//! Retained MQTT states that are to be cleared, by job: one for each job that ended within the hour.

use std::{collections::VecDeque, time::Duration};

use crate::domain::ids::{JobId, Seq};

pub struct Clear {
    pub id: JobId,
    /// The job's last event: its state must have been published before.
    pub after: Seq,
    /// Monotonic.
    pub due: Duration,
}

/// Sorted by id. Ids rise with time, so jobs come at the end and go from the front; a tree would take twice the memory.
#[derive(Default)]
pub struct Clears(VecDeque<Clear>);

impl Clears {
    pub fn insert(&mut self, clear: Clear) {
        match self.0.binary_search_by_key(&clear.id, |c| c.id) {
            Ok(at) => self.0[at] = clear,
            Err(at) => self.0.insert(at, clear),
        }
    }

    pub fn remove(&mut self, id: JobId) {
        if let Ok(at) = self.0.binary_search_by_key(&id, |c| c.id) {
            self.0.remove(at);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Clear> {
        self.0.iter()
    }
}

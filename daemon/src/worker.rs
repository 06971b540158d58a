//! The loop that claims a job, runs the pipeline, writes its transitions, yields and retries.
//!
//! INTERFACE DRAFT (bodies follow).

use tokio::sync::broadcast;

use crate::domain::{event::ProgressTick, ids::JobId, job::Job};

/// Where running jobs are just now, and how long steps take. Cheap to clone.
#[derive(Clone)]
pub struct Live {}

#[allow(clippy::todo, unused_variables)]
impl Live {
    pub fn progress(&self, job: JobId) -> Option<ProgressTick> {
        todo!()
    }
    /// At most two ticks a second for each job.
    pub fn subscribe(&self) -> broadcast::Receiver<ProgressTick> {
        todo!()
    }
    /// Expected time until the job is done, ms; None: final, or nothing was measured yet.
    pub fn eta_ms(&self, job: &Job, queue_position: Option<usize>) -> Option<u64> {
        todo!()
    }
    /// A job was cancelled in the store: its pipeline stops at the next checkpoint.
    pub fn stop(&self, job: JobId) {
        todo!()
    }
}

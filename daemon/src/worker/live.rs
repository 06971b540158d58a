//! Where running jobs are just now, how to stop them, and how long jobs take: what the worker knows and the store does not.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::sync::broadcast;

use crate::domain::{
    event::ProgressTick,
    ids::{JobId, UserId},
    job::{Job, Status},
    stage::Stage,
};

/// Between two ticks of one job, unless a new step begins.
const TICK_EVERY: Duration = Duration::from_millis(500);
/// Ticks that a slow reader may be behind; it loses the older ones, which say nothing any more.
const TICK_BUFFER: usize = 256;
/// Weight of the newest job in the running mean of job times.
const NEWEST: f64 = 0.2;

/// Why a pipeline was told to stop. The first reason stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    Cancelled = 1,
    TimedOut = 2,
    ShuttingDown = 3,
}

/// One job in work.
pub struct Run {
    tick: ProgressTick,
    sent_at: Duration,
    stop: Arc<StopFlag>,
}

/// Set once, read at each checkpoint.
#[derive(Default)]
pub struct StopFlag(AtomicU8);

impl StopFlag {
    pub fn set(&self, reason: Reason) {
        // Err: there is a reason already.
        let _first = self.0.compare_exchange(0, reason as u8, Ordering::SeqCst, Ordering::SeqCst);
    }

    pub fn get(&self) -> Option<Reason> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(Reason::Cancelled),
            2 => Some(Reason::TimedOut),
            _ => Some(Reason::ShuttingDown),
        }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Live {
    runs: Arc<Mutex<HashMap<JobId, Run>>>,
    ticks: broadcast::Sender<ProgressTick>,
    mean_ms: Arc<Mutex<Option<f64>>>,
}

impl Default for Live {
    fn default() -> Self {
        Self { runs: Arc::default(), ticks: broadcast::channel(TICK_BUFFER).0, mean_ms: Arc::default() }
    }
}

impl Live {
    pub fn progress(&self, job: JobId) -> Option<ProgressTick> {
        self.runs().get(&job).map(|r| r.tick.clone())
    }

    /// Each new step of each job, and at most two ticks a second beside.
    pub fn subscribe(&self) -> broadcast::Receiver<ProgressTick> {
        self.ticks.subscribe()
    }

    /// Expected time until the job is done, ms; None: final, or nothing was measured yet.
    pub fn eta_ms(&self, job: &Job, queue_position: Option<usize>) -> Option<u64> {
        let mean = (*self.mean_ms.lock().unwrap_or_else(PoisonError::into_inner))?;
        let left = |progress: u8| mean * f64::from(100 - progress.min(100)) / 100.0;
        let running: f64 = self.runs().values().map(|r| left(r.tick.progress)).sum();
        match job.status {
            Status::Processing => Some(left(self.progress(job.id).map_or(job.progress, |t| t.progress)) as u64),
            Status::Pending => Some((running + mean * (queue_position.unwrap_or(0) + 1) as f64) as u64),
            _ => None,
        }
    }

    /// A job was cancelled in the store: its pipeline stops at the next checkpoint.
    pub fn stop(&self, job: JobId) {
        self.stop_for(job, Reason::Cancelled);
    }

    pub fn stop_for(&self, job: JobId, reason: Reason) {
        if let Some(run) = self.runs().get(&job) {
            run.stop.set(reason);
        }
    }

    pub fn begin(&self, job: JobId, user_id: UserId) -> Arc<StopFlag> {
        let stop = Arc::<StopFlag>::default();
        let tick = ProgressTick { job_id: job, user_id, current_step: Stage::Load, progress: 0 };
        self.runs().insert(job, Run { tick, sent_at: Duration::ZERO, stop: Arc::clone(&stop) });
        stop
    }

    /// Progress never falls within a run.
    pub fn advance(&self, job: JobId, stage: Stage, percent: u8, now: Duration) {
        let mut runs = self.runs();
        let Some(run) = runs.get_mut(&job) else { return };
        let new_step = run.tick.current_step != stage;
        let percent = percent.max(run.tick.progress);
        let moved = new_step || percent > run.tick.progress;
        (run.tick.current_step, run.tick.progress) = (stage, percent);
        if new_step || (moved && now >= run.sent_at + TICK_EVERY) {
            run.sent_at = now;
            let _nobody_listens = self.ticks.send(run.tick.clone());
        }
    }

    /// `took_ms`: the whole run, where it gave a result.
    pub fn end(&self, job: JobId, took_ms: Option<u64>) {
        self.runs().remove(&job);
        if let Some(ms) = took_ms {
            let mut mean = self.mean_ms.lock().unwrap_or_else(PoisonError::into_inner);
            *mean = Some(mean.map_or(ms as f64, |m| m + NEWEST * (ms as f64 - m)));
        }
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<JobId, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::transition::tests::pending;

    #[test]
    fn each_step_is_told_at_once_and_what_lies_between_at_most_twice_a_second() {
        let live = Live::default();
        let mut ticks = live.subscribe();
        let job = pending();
        live.begin(job.id, job.user_id);
        for (ms, stage, percent) in
            [(0, Stage::Segment, 10), (100, Stage::Segment, 20), (510, Stage::Segment, 30), (520, Stage::Enhance, 60)]
        {
            live.advance(job.id, stage, percent, Duration::from_millis(ms));
        }
        let told: Vec<u8> = std::iter::from_fn(|| ticks.try_recv().ok()).map(|t| t.progress).collect();
        assert_eq!(told, [10, 30, 60]);
        live.advance(job.id, Stage::Enhance, 50, Duration::from_secs(9));
        assert_eq!(live.progress(job.id).map(|t| t.progress), Some(60), "progress fell");
    }

    #[test]
    fn a_waiting_job_expects_those_before_it_and_itself() {
        let live = Live::default();
        let job = pending();
        assert_eq!(live.eta_ms(&job, Some(0)), None);
        live.begin(job.id, job.user_id.clone());
        live.end(job.id, Some(1000));
        assert_eq!(live.eta_ms(&job, Some(2)), Some(3000));
    }

    #[test]
    fn the_first_reason_to_stop_stands() {
        let flag = StopFlag::default();
        flag.set(Reason::TimedOut);
        flag.set(Reason::ShuttingDown);
        assert_eq!(flag.get(), Some(Reason::TimedOut));
    }
}

//! Where running jobs are just now, how to stop them, and when they will be done: what the worker knows and the store does not.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::broadcast;

use super::{
    pace::{self, Estimate, Pace},
    run::{Reason, Run},
};
use crate::{
    domain::{
        event::ProgressTick,
        ids::JobId,
        job::{Job, Lane, Status},
        stage::{Stage, StepMs},
    },
    store::Ahead,
};

/// Between two ticks of one job, unless a new step begins.
const TICK_EVERY: Duration = Duration::from_millis(500);
/// Ticks that a slow reader may be behind; it loses the older ones, which say nothing any more.
const TICK_BUFFER: usize = 256;

/// One job in work, as others see it.
struct Shown {
    tick: ProgressTick,
    sent_at: Duration,
    /// Expected times of its steps, as they were at its start: what is left of it only falls.
    estimate: Estimate,
    lane: Lane,
    run: Arc<Run>,
}

impl Shown {
    fn left_ms(&self) -> f64 {
        pace::left(&self.estimate, self.tick.current_step, self.tick.progress)
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Live {
    runs: Arc<Mutex<HashMap<JobId, Shown>>>,
    ticks: broadcast::Sender<ProgressTick>,
    pace: Arc<Mutex<Pace>>,
    /// Jobs wait for room on the disk.
    held: Arc<AtomicBool>,
}

impl Default for Live {
    fn default() -> Self {
        Self { runs: Arc::default(), ticks: broadcast::channel(TICK_BUFFER).0, pace: Arc::default(), held: Arc::default() }
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

    /// Expected time until the job is done, ms; None: it has ended. `ahead`: of a job that waits.
    pub fn eta_ms(&self, job: &Job, ahead: Ahead, megapixels: f64) -> Option<u64> {
        let pace = *self.pace();
        let runs = self.runs();
        let in_work: f64 = runs.values().map(Shown::left_ms).sum();
        let ms = match (job.status, runs.get(&job.id)) {
            (Status::Processing, Some(run)) => {
                // A default job stands still for the high ones in work.
                let high = runs.values().filter(|r| r.lane == Lane::HighPriority && run.lane == Lane::Default);
                run.left_ms() + high.map(Shown::left_ms).sum::<f64>()
            }
            (Status::Pending | Status::Processing, _) => {
                let before = ahead.high as f64 * pace.usual_ms(Lane::HighPriority) + ahead.default as f64 * pace.usual_ms(Lane::Default);
                // A high job does not wait for a default one.
                let in_work = if job.lane == Lane::Default { in_work } else { high_left(&runs) };
                in_work + before + pace.estimate(job.lane, megapixels).iter().sum::<f64>()
            }
            _ => return None,
        };
        Some(ms.ceil() as u64)
    }

    /// A finished job of this or an earlier run of the daemon.
    pub fn learn(&self, lane: Lane, megapixels: f64, took: &StepMs) {
        self.pace().learn(lane, megapixels, took);
    }

    /// A job was cancelled in the store: its pipeline stops at the next checkpoint.
    pub fn stop(&self, job: JobId) {
        if let Some(shown) = self.runs().get(&job) {
            shown.run.stop(Reason::Cancelled);
        }
    }

    /// Whether jobs wait for room on the disk.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    pub(super) fn begin(&self, job: &Job, megapixels: f64, run: &Arc<Run>) {
        let tick = ProgressTick { job_id: job.id, user_id: job.user_id.clone(), current_step: Stage::Load, progress: 0 };
        let estimate = self.pace().estimate(job.lane, megapixels);
        let shown = Shown { tick, sent_at: Duration::ZERO, estimate, lane: job.lane, run: Arc::clone(run) };
        self.runs().insert(job.id, shown);
    }

    /// Progress never falls within a run.
    pub(super) fn advance(&self, job: JobId, stage: Stage, percent: u8, now: Duration) {
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

    /// The run is over. A later run of the same job is left alone.
    pub(super) fn end(&self, job: JobId, run: &Arc<Run>) {
        let mut runs = self.runs();
        if runs.get(&job).is_some_and(|shown| Arc::ptr_eq(&shown.run, run)) {
            runs.remove(&job);
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<JobId, Shown>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn high_left(runs: &HashMap<JobId, Shown>) -> f64 {
    runs.values().filter(|r| r.lane == Lane::HighPriority).map(Shown::left_ms).sum()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::transition::tests::pending;

    fn job(n: u128, lane: Lane, status: Status) -> Job {
        Job { id: JobId(Uuid::from_u128(n)), lane, status, ..pending() }
    }

    fn begun(live: &Live, job: &Job) -> Arc<Run> {
        let run = Arc::new(Run::new(Duration::ZERO));
        live.begin(job, 1.0, &run);
        run
    }

    #[test]
    fn each_step_is_told_at_once_and_what_lies_between_at_most_twice_a_second() {
        let live = Live::default();
        let mut ticks = live.subscribe();
        let job = pending();
        begun(&live, &job);
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
        let took = StepMs { load: Some(100), segment: Some(200), reflections: Some(100), enhance: Some(500), save: Some(100) };
        let waiting = job(1, Lane::Default, Status::Pending);
        assert!(live.eta_ms(&waiting, Ahead::default(), 2.0) > Some(0), "a rough figure before the first job");
        live.learn(Lane::Default, 2.0, &took);
        assert_eq!(live.eta_ms(&waiting, Ahead { high: 0, default: 2 }, 2.0), Some(3000));
        let running = job(2, Lane::Default, Status::Processing);
        begun(&live, &running);
        let alone = live.eta_ms(&running, Ahead::default(), 2.0).expect("it runs");
        assert!(live.eta_ms(&waiting, Ahead::default(), 2.0) > Some(1000), "the job in work comes first");
        let high = job(3, Lane::HighPriority, Status::Pending);
        assert_eq!(live.eta_ms(&high, Ahead::default(), 2.0), Some(1000), "a high job does not wait for it");
        begun(&live, &Job { status: Status::Processing, ..high });
        assert!(live.eta_ms(&running, Ahead::default(), 2.0) > Some(alone), "it stands still for the high one");
        assert_eq!(live.eta_ms(&job(4, Lane::Default, Status::Failed), Ahead::default(), 2.0), None);
    }

    #[test]
    fn the_expected_end_of_a_running_job_comes_nearer_with_every_checkpoint() {
        let live = Live::default();
        let job = job(1, Lane::Default, Status::Processing);
        begun(&live, &job);
        let mut last = u64::MAX;
        for stage in Stage::ALL {
            for tenth in 0..=10u8 {
                live.advance(job.id, stage, stage.percent(f32::from(tenth) / 10.0), Duration::ZERO);
                let eta = live.eta_ms(&job, Ahead::default(), 1.0).expect("it runs");
                assert!(eta <= last, "{eta} ms after {last} ms");
                last = eta;
            }
        }
        assert!(last <= 1, "{last} ms at the end");
    }

    #[test]
    fn the_end_of_an_old_run_leaves_the_new_run_of_the_same_job_alone() {
        let live = Live::default();
        let job = pending();
        let old = begun(&live, &job);
        let new = begun(&live, &job);
        live.end(job.id, &old);
        assert!(live.progress(job.id).is_some());
        live.end(job.id, &new);
        assert!(live.progress(job.id).is_none());
    }
}

//! One run of one job, as the worker's loop and the job's own thread share it: why to stop, how long it worked, who writes its end.
//!
//! ```text
//!  thread:  Working --(the pipeline ended)--> Settling     it alone writes the job's end
//!  loop:    Working --(stuck in one step)---> Abandoned    the loop wrote the job's end; the thread writes nothing any more
//! ```
//! The one that gets there first owns the end: a run that comes back late can touch neither the job nor its files.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use crate::ports::RunStop;

/// A job that passes no checkpoint for this long after its time is over (or for its whole time again, if that is shorter) is given up.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Why a pipeline was told to stop. The first reason stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    Cancelled = 1,
    TimedOut = 2,
    ShuttingDown = 3,
    /// An interactive job needs the memory.
    GivesPlace = 4,
}

const WORKING: u8 = 0;
const SETTLING: u8 = 1;
const ABANDONED: u8 = 2;

/// Time in work without the time that the job stood still for another. Pure.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    began: Duration,
    paused: Duration,
    standing_since: Option<Duration>,
}

impl Stopwatch {
    pub fn new(now: Duration) -> Self {
        Self { began: now, paused: Duration::ZERO, standing_since: None }
    }

    pub fn stand(&mut self, now: Duration) {
        self.standing_since.get_or_insert(now);
    }

    pub fn go_on(&mut self, now: Duration) {
        self.paused = self.paused(now);
        self.standing_since = None;
    }

    pub fn paused(&self, now: Duration) -> Duration {
        self.paused + self.standing_since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    pub fn worked(&self, now: Duration) -> Duration {
        now.saturating_sub(self.began).saturating_sub(self.paused(now))
    }
}

/// What the loop finds when it looks at a run's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    No,
    /// It was told to stop and has some time to reach a checkpoint.
    Told,
    /// It passed none.
    Stuck,
}

pub struct Run {
    reason: AtomicU8,
    /// Ends the network's run that the thread may be in.
    network: RunStop,
    owner: AtomicU8,
    time: Mutex<Stopwatch>,
}

impl Run {
    pub fn new(now: Duration) -> Self {
        Self { reason: AtomicU8::new(0), network: RunStop::default(), owner: AtomicU8::new(WORKING), time: Mutex::new(Stopwatch::new(now)) }
    }

    pub fn stop(&self, reason: Reason) {
        // Err: there is a reason already.
        let _first = self.reason.compare_exchange(0, reason as u8, Ordering::SeqCst, Ordering::SeqCst);
        self.network.stop();
    }

    pub fn run_stop(&self) -> RunStop {
        self.network.clone()
    }

    pub fn stopped(&self) -> Option<Reason> {
        match self.reason.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(Reason::Cancelled),
            2 => Some(Reason::TimedOut),
            3 => Some(Reason::ShuttingDown),
            _ => Some(Reason::GivesPlace),
        }
    }

    /// The thread is out of the pipeline. False: the loop gave the run up.
    pub fn settle(&self) -> bool {
        self.take(SETTLING)
    }

    /// The loop gives the run up. False: the thread is writing its end just now.
    pub fn abandon(&self) -> bool {
        self.take(ABANDONED)
    }

    pub fn is_abandoned(&self) -> bool {
        self.owner.load(Ordering::SeqCst) == ABANDONED
    }

    fn take(&self, who: u8) -> bool {
        match self.owner.compare_exchange(WORKING, who, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(owner) => owner == who,
        }
    }

    /// Looks at the time; a run whose time is over is told to stop.
    pub fn check(&self, limit: Duration, now: Duration) -> Overdue {
        let worked = self.time().worked(now);
        if worked <= limit {
            return Overdue::No;
        }
        self.stop(Reason::TimedOut);
        if worked > limit + STUCK_AFTER.min(limit) { Overdue::Stuck } else { Overdue::Told }
    }

    pub fn paused(&self, now: Duration) -> Duration {
        self.time().paused(now)
    }

    pub fn stand(&self, now: Duration) {
        self.time().stand(now);
    }

    pub fn go_on(&self, now: Duration) {
        self.time().go_on(now);
    }

    fn time(&self) -> std::sync::MutexGuard<'_, Stopwatch> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_reason_to_stop_stands() {
        let run = Run::new(S);
        run.stop(Reason::TimedOut);
        run.stop(Reason::ShuttingDown);
        assert_eq!(run.stopped(), Some(Reason::TimedOut));
    }

    #[test]
    fn the_time_limit_of_a_job_does_not_run_while_it_stands_still() {
        let run = Run::new(10 * S);
        run.stand(15 * S);
        assert_eq!(run.check(6 * S, 500 * S), Overdue::No, "it worked for five seconds");
        assert_eq!(run.paused(500 * S), 485 * S);
        run.go_on(500 * S);
        run.stand(500 * S);
        run.go_on(600 * S);
        assert_eq!(run.check(6 * S, 601 * S), Overdue::No);
        assert_eq!(run.stopped(), None);
        assert_eq!(run.check(6 * S, 602 * S), Overdue::Told);
        assert_eq!(run.stopped(), Some(Reason::TimedOut));
    }

    #[test]
    fn a_job_that_passes_no_checkpoint_is_stuck_some_time_after_it_was_told_to_stop() {
        let run = Run::new(S);
        assert_eq!(run.check(60 * S, 70 * S), Overdue::Told);
        assert_eq!(run.check(60 * S, 72 * S), Overdue::Stuck);
        assert_eq!(run.check(2 * S, 6 * S), Overdue::Stuck, "a short limit gives a short grace");
    }

    #[test]
    fn either_the_thread_or_the_loop_writes_the_end_of_a_run_never_both() {
        let run = Run::new(S);
        assert!(run.abandon() && run.abandon(), "given up is given up");
        assert!(!run.settle());
        let run = Run::new(S);
        assert!(run.settle());
        assert!(!run.abandon());
    }
}

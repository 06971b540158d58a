//! Whether the daemon is alive: the systemd watchdog is fed only while real work gets on.
//!
//! Each loop that must never stand still (worker, committer, HTTP) registers a [`Beat`] with the longest time it may be silent, and
//! touches it wherever it gets on: a checkpoint of a job, a commit, a turn of the loop. A loop with nothing to do wakes up often enough
//! to say so. A timer thread that merely runs proves nothing and has no beat.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// One loop's sign of life. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Beat {
    name: &'static str,
    /// Longest silence.
    limit: Duration,
    /// Monotonic time of the last sign, ms.
    last_ms: Arc<AtomicU64>,
}

impl Beat {
    /// `now`: monotonic ([`crate::ports::Clock::mono`]).
    pub fn touch(&self, now: Duration) {
        self.last_ms.fetch_max(millis(now), Ordering::Relaxed);
    }

    fn seen(&self) -> Seen {
        Seen { name: self.name, last: Duration::from_millis(self.last_ms.load(Ordering::Relaxed)), limit: self.limit }
    }
}

/// One beat at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub name: &'static str,
    /// Monotonic time of the last sign.
    pub last: Duration,
    pub limit: Duration,
}

/// The loops that have been silent for longer than they may.
pub fn silent(now: Duration, beats: &[Seen]) -> Vec<&'static str> {
    beats.iter().filter(|b| now.saturating_sub(b.last) > b.limit).map(|b| b.name).collect()
}

/// Whether every loop gets on. No loop at all: nothing is known to be alive.
pub fn alive(now: Duration, beats: &[Seen]) -> bool {
    !beats.is_empty() && silent(now, beats).is_empty()
}

/// All the beats of the process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Heartbeats(Arc<Mutex<Vec<Beat>>>);

impl Heartbeats {
    /// A new loop, alive from `now` on.
    pub fn register(&self, name: &'static str, limit: Duration, now: Duration) -> Beat {
        let beat = Beat { name, limit, last_ms: Arc::new(AtomicU64::new(millis(now))) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(beat.clone());
        beat
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Beat::seen).collect()
    }

    pub fn alive(&self, now: Duration) -> bool {
        alive(now, &self.seen())
    }

    /// The names of the loops that stand still, for the log.
    pub fn silent(&self, now: Duration) -> Vec<&'static str> {
        silent(now, &self.seen())
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn one_loop_that_stands_still_is_enough_to_stop_feeding_the_watchdog() {
        let beats = Heartbeats::default();
        assert!(!beats.alive(S), "nothing has started: nothing is alive");
        let worker = beats.register("worker", 10 * S, S);
        let http = beats.register("http", 5 * S, S);
        assert!(beats.alive(6 * S));
        http.touch(6 * S);
        assert!(beats.alive(11 * S));
        http.touch(11 * S);
        assert_eq!(beats.silent(12 * S), ["worker"]);
        worker.touch(12 * S);
        assert!(beats.alive(12 * S));
    }

    #[test]
    fn a_beat_never_goes_back_in_time() {
        let beats = Heartbeats::default();
        let worker = beats.register("worker", S, 9 * S);
        worker.touch(3 * S);
        assert!(beats.alive(10 * S));
    }
}

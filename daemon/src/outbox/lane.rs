//! Who may upload when: the state of the way to the bucket, and how long a failed object waits. Pure.
//!
//! ```text
//!            put unreachable, and so is a probe; or put denied
//!   +------+ ----------------------------------------------------> +------+
//!   | Open |                                                       | Down | <--+ probe fails: 1 s .. 8 s to the next
//!   +------+ <--------- success ---------- +-------+ <- probe ok - +------+ ---+
//!      all                                 | Trial | -- put denied ---^
//!                                          +-------+    one object at a time
//! ```
//!
//! While the bucket is away no object is blamed: rows keep their place and are tried when it is back. A failure that is the object's own
//! (the probe works) waits longer each time, up to five minutes. A refused probe counts as "there": keys that may put but not list
//! are a sensible choice.

use std::time::Duration;

/// Longest pause between probes. With the probe's own time-out it stays below the 15 s of the contract.
const LONGEST_PROBE_PAUSE: Duration = Duration::from_secs(8);
/// Longest wait of a single object.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// A refused object steps aside for this long at least, so that the next trial is another's: the rights may differ by prefix.
pub const DENIED_BACKOFF: Duration = Duration::from_secs(10);
/// Failed probes before it is an alert: a line that hiccups is nobody's business.
const LOUD_AFTER: u32 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Trial,
    /// No request before this monotonic time.
    Down {
        until: Duration,
    },
}

/// The way to the bucket.
#[derive(Debug, Clone)]
pub struct Lane {
    state: State,
    /// Times that it went or stayed down since the last success.
    downs: u32,
}

impl Lane {
    pub fn new() -> Self {
        Self { state: State::Open, downs: 0 }
    }

    /// How many uploads may run at once now.
    pub fn slots(&self, parallel: usize) -> usize {
        match self.state {
            State::Open => parallel.max(1),
            State::Trial => 1,
            State::Down { .. } => 0,
        }
    }

    /// When to ask the bucket whether it is there; None: no need.
    pub fn probe_at(&self) -> Option<Duration> {
        match self.state {
            State::Down { until } => Some(until),
            _ => None,
        }
    }

    /// One object tries: let it be one that was not refused before.
    pub fn is_trial(&self) -> bool {
        self.state == State::Trial
    }

    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down { .. })
    }

    /// Away for long enough to tell a person.
    pub fn is_loud(&self) -> bool {
        self.downs >= LOUD_AFTER
    }

    pub fn succeeded(&mut self) {
        *self = Self::new();
    }

    pub fn goes_down(&mut self, now: Duration) {
        let pause = Duration::from_secs(1 << self.downs.min(10)).min(LONGEST_PROBE_PAUSE);
        self.downs = self.downs.saturating_add(1);
        self.state = State::Down { until: now + pause };
    }

    /// The bucket answered a probe: one object may try.
    pub fn answered(&mut self) {
        if self.is_down() {
            self.state = State::Trial;
        }
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self::new()
    }
}

/// Wait of one object after its n-th failure (from 0): doubling, 1 s to 5 min, `jitter` (0..1) takes up to half of it, so that objects
/// which failed together do not come back together.
pub fn backoff(failures: u32, jitter: f64) -> Duration {
    let full = Duration::from_secs(1 << failures.min(16)).min(LONGEST_BACKOFF);
    full.mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0)).max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_is_away_for_an_hour_is_probed_at_least_every_15_s() {
        /// The adapter's time-out of a probe.
        const PROBE: Duration = Duration::from_secs(5);
        let (mut now, mut last, mut lane) = (Duration::ZERO, Duration::ZERO, Lane::new());
        lane.goes_down(now);
        while now < Duration::from_secs(3600) {
            assert_eq!(lane.slots(2), 0);
            now = lane.probe_at().expect("it will be probed");
            assert!(now - last <= Duration::from_secs(15));
            last = now;
            now += PROBE;
            lane.goes_down(now);
        }
        assert!(lane.is_loud());
        lane.answered();
        assert_eq!((lane.slots(2), lane.probe_at()), (1, None), "one object tries first");
        lane.succeeded();
        assert_eq!(lane.slots(2), 2);
        assert!(!lane.is_loud());
    }

    #[test]
    fn a_bucket_that_answers_probes_but_refuses_objects_is_tried_with_one_at_a_time_and_ever_more_slowly() {
        let mut lane = Lane::new();
        let mut pauses = Vec::new();
        for _ in 0..5 {
            lane.goes_down(Duration::ZERO);
            pauses.push(lane.probe_at().expect("down").as_secs());
            lane.answered();
            assert_eq!(lane.slots(4), 1);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 8]);
    }

    #[test]
    fn a_failed_object_waits_longer_each_time_from_1_s_to_5_min() {
        for (failures, jitter, s) in [(0, 0.0, 1.0), (0, 1.0, 1.0), (3, 0.0, 8.0), (3, 1.0, 4.0), (20, 0.0, 300.0), (u32::MAX, 1.0, 150.0)]
        {
            assert_eq!(backoff(failures, jitter).as_secs_f64(), s, "{failures} {jitter}");
        }
    }
}

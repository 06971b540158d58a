//! Time: the device's own clock, and one that tests move by hand.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::ports::Clock;

/// The device's clock. `now` is cut to milliseconds: that is what rows and JSON keep, so a time read back equals the time written.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(Timestamp::now().as_millisecond()).expect("a timestamp cut to milliseconds stays in range")
    }

    fn mono(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is moved: for tests of policy.
#[derive(Debug)]
pub struct ManualClock {
    at: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// `mono` starts at zero.
    pub fn at(now: Timestamp) -> Self {
        Self { at: Mutex::new((now, Duration::ZERO)) }
    }

    /// Both clocks go forward.
    pub fn advance(&self, by: Duration) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.0 = at.0.checked_add(by).expect("tests stay in the calendar's range");
        at.1 += by;
    }

    /// The wall clock jumps (NTP, a person); the monotonic one does not.
    pub fn jump_to(&self, now: Timestamp) {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).0 = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn mono(&self) -> Duration {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_gives_whole_milliseconds_and_a_monotonic_time_that_never_falls() {
        let clock = SystemClock::new();
        assert_eq!(clock.now().as_nanosecond() % 1_000_000, 0);
        let a = clock.mono();
        assert!(clock.mono() >= a);
    }

    #[test]
    fn a_jump_of_the_wall_clock_leaves_the_monotonic_one_alone() {
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        clock.advance(Duration::from_secs(5));
        clock.jump_to("2030-01-01T00:00:00Z".parse().expect("a time"));
        assert_eq!(clock.mono(), Duration::from_secs(5));
        assert_eq!(clock.now().to_string(), "2030-01-01T00:00:00Z");
    }
}

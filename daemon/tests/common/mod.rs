//! The harness of the black-box tests: the real binary, a real broker, a real S3 server, and clients that are not ours.
//!
//! Nothing here knows the inside of the daemon: it is driven by the contract alone. Every test has its own state folder and its own
//! ports, waits by polling with a deadline, and leaves no process behind (children are killed by pid when their owner is dropped).
#![allow(dead_code, clippy::unwrap_used)] // each test binary uses a part of it; a panic is how a test fails

pub mod broker;
pub mod bucket;
pub mod client;
pub mod daemon;
pub mod eyes;
pub mod files;
pub mod folder;
pub mod live;
pub mod raw;

use std::time::{Duration, Instant};

/// Deadline of what should be there at once (a row, an event, an answer) on a busy two-core machine.
pub const SOON: Duration = Duration::from_secs(30);
/// Deadline of a job, its queueing and a slow machine included.
pub const JOB: Duration = Duration::from_secs(180);

const PAUSE: Duration = Duration::from_millis(15);

/// Asks until there is an answer. Panics with `what` when the deadline passes.
#[track_caller]
pub fn eventually<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {within:?} in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// The path of the program under test.
pub const IRISD: &str = env!("CARGO_BIN_EXE_irisd");

/// A number generator with a seed (xorshift64*): random tests must be repeatable.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// 0..n
    pub fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

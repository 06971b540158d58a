//! For the tests of the stages: a clock that stands still, somebody who watches, a runtime's word.

use std::{cell::Cell, sync::Mutex, time::Duration};

use super::{Steps, Stop, Watch};
use crate::{
    domain::stage::{Stage, StepMs},
    inference::RunsOn,
    ports::Clock,
};

struct Still;

impl Clock for Still {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }
    fn mono(&self) -> Duration {
        Duration::ZERO
    }
}

/// Remembers what was reported, and stops at one checkpoint.
#[derive(Default)]
pub struct Seen {
    pub done: Mutex<Vec<f32>>,
    pub stop_at: Option<usize>,
}

impl Watch for Seen {
    fn enter(&self, _: Stage, _: StepMs) -> Result<(), Stop> {
        Ok(())
    }
    fn checkpoint(&self, _: Stage, done: f32) -> Result<(), Stop> {
        let mut all = self.done.lock().expect("lock");
        all.push(done);
        if self.stop_at == Some(all.len() - 1) { Err(Stop) } else { Ok(()) }
    }
}

pub fn steps(seen: &Seen) -> Steps<'_> {
    Steps {
        watch: seen,
        clock: &Still,
        begun: Duration::ZERO,
        current: None,
        ms: StepMs::default(),
        reached: Cell::new(0.0),
        stood_in: Cell::new(false),
    }
}

pub fn on(provider: &str, precision: &str) -> RunsOn {
    RunsOn { provider: provider.into(), precision: precision.into(), reason: None, nodes: Vec::new() }
}

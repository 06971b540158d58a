//! One network's place: its session, taken by one at a time, and what is told about it, which never waits.

use std::{
    ops::{Deref, DerefMut},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{manifest::ModelRow, trial::RunsOn};
use crate::ports::{Model, RunStop};

/// How often one who waits for a session looks whether it was told to stop.
const LOOK: Duration = Duration::from_millis(50);

/// A lock is poisoned by a panic; what it guards is still whole (a session is dropped on any doubt).
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Slot {
    pub row: ModelRow,
    /// None: somebody has it.
    session: Mutex<Option<Session>>,
    given_back: Condvar,
    shown: Mutex<Shown>,
}

/// What goes from hand to hand.
#[derive(Default)]
pub struct Session {
    pub model: Option<Box<dyn Model>>,
    pub last_use: Option<Instant>,
    /// Runs in a row that failed.
    pub failures: u32,
    /// What its runs were admitted with, bytes: they hold it until the network leaves memory.
    pub held: u64,
}

impl Session {
    pub fn unload(&mut self) {
        (self.model, self.held) = (None, 0);
    }
}

/// As `/device` says it (contract: Providers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    NotLoaded,
    Warming,
    Ready,
    Degraded,
    Failed,
}

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            State::NotLoaded => "not_loaded",
            State::Warming => "warming",
            State::Ready => "ready",
            State::Degraded => "degraded",
            State::Failed => "failed",
        }
    }
}

/// An engine of TensorRT's on its way.
#[derive(Debug, Clone, Default)]
pub enum Build {
    #[default]
    None,
    Running(Instant),
    /// Not tried again by this process: it would fail for hours.
    Failed(String),
}

#[derive(Debug, Clone)]
pub struct Shown {
    pub state: State,
    pub runs_on: Option<RunsOn>,
    pub reason: Option<String>,
    pub build: Build,
}

/// Told to stop while it waited.
pub struct Stopped;

/// A session in somebody's hands; given back when dropped.
pub struct Taken<'a> {
    slot: &'a Slot,
    session: Session,
}

impl Slot {
    pub fn new(row: ModelRow) -> Self {
        let shown = Shown { state: State::NotLoaded, runs_on: None, reason: None, build: Build::None };
        Self { row, session: Mutex::new(Some(Session::default())), given_back: Condvar::new(), shown: Mutex::new(shown) }
    }

    /// Waits until nobody else has it.
    pub fn take(&self, stop: &RunStop) -> Result<Taken<'_>, Stopped> {
        let mut place = lock(&self.session);
        loop {
            if stop.is_stopped() {
                return Err(Stopped);
            }
            if let Some(session) = place.take() {
                return Ok(Taken { slot: self, session });
            }
            place = self.given_back.wait_timeout(place, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// None: somebody has it.
    pub fn try_take(&self) -> Option<Taken<'_>> {
        lock(&self.session).take().map(|session| Taken { slot: self, session })
    }

    pub fn shown(&self) -> Shown {
        lock(&self.shown).clone()
    }

    pub fn show(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut lock(&self.shown));
    }

    /// What works, as it works.
    pub fn show_loaded(&self, runs_on: &RunsOn) {
        self.show(|shown| {
            shown.state = if runs_on.reason.is_none() { State::Ready } else { State::Degraded };
            (shown.reason, shown.runs_on) = (runs_on.reason.clone(), Some(runs_on.clone()));
        });
    }
}

impl Deref for Taken<'_> {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Taken<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *lock(&self.slot.session) = Some(std::mem::take(&mut self.session));
        self.slot.given_back.notify_one();
    }
}

//! Which job next, and who gives way to whom. Pure policy: no clock, no I/O, no synchronisation; `worker` owns the loop.
//!
//! ```text
//! in work:   nothing           one default job                   one high job                    two
//! next job:  1 an aged one     a high one, if its memory fits    an aged default one, if its     none
//!            2 a high one      beside; else the default one is   memory fits beside: it waits
//!            3 a default one   put back, once, and goes first    its turn at its first checkpoint
//! ```
//!
//! Promises, with `A` = `queue.ageing` and `S` = the longest time that a default job works:
//!
//! 1. Each lane is served in the order of its seq; high jobs go before default ones.
//! 2. A high job starts beside a default one, which stands still at its next checkpoint (a step, a tile, a strip of rows).
//! 3. The default job at place n (1 = first) starts within `n x max(A, A/2 + S)` of its arrival, however many high ones come: the lane's
//!    first job has aged once 15/16 of `A` have passed since it came and since the lane's last start (the rest is for the loop to look and to
//!    claim), and a default job in work stands still for `A/2` altogether at most. For jobs below half of `A` that is `n x A`.
//! 4. Two jobs together never need more memory than there is; one alone is always worked on. A default job is put back for an interactive
//!    one once at most: from then on the interactive one waits for its end. (A job that comes back takes its old place again, and is one
//!    more place for those behind it.)

use std::time::Duration;

use crate::{
    domain::{ids::JobId, job::Lane},
    store::Waiting,
};

/// Jobs in work at once: one, and an interactive one that makes it stand still.
pub const SLOTS: usize = 2;

/// A job in work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InWork {
    pub id: JobId,
    pub lane: Lane,
    /// Memory that it may come to need.
    pub bytes: u64,
    /// It has not been put back for an interactive job before.
    pub may_go_back: bool,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing is due, or both slots are taken.
    Nothing,
    Start(JobId),
    /// This job's memory is needed: it is stopped and waits again, in its old place.
    PutBack(JobId),
    /// A high job is due and finds no room beside the default one in work, which must get on.
    NoRoom,
}

#[derive(Debug, Clone)]
pub struct Policy {
    ageing: Duration,
    /// For both jobs in work together, bytes.
    memory: u64,
    /// When the lane's last default job was started (monotonic).
    last_default: Duration,
}

impl Policy {
    pub fn new(ageing: Duration, memory: u64, now: Duration) -> Self {
        Self { ageing, memory, last_default: now }
    }

    /// `need`: bytes that a waiting job may come to need; `taken`: bytes that are in use beside the jobs in work.
    pub fn next(&self, in_work: &[InWork], taken: u64, waiting: &[Waiting], need: impl Fn(JobId) -> u64, now: Duration) -> Next {
        let fits = |other: &InWork, id| other.bytes.saturating_add(taken).saturating_add(need(id)) <= self.memory;
        match in_work {
            [] => self.pick(waiting, now).map_or(Next::Nothing, Next::Start),
            [one] if one.lane == Lane::Default => match first(waiting, Lane::HighPriority, now) {
                None => Next::Nothing,
                Some(high) if fits(one, high.id) => Next::Start(high.id),
                Some(_) if one.may_go_back => Next::PutBack(one.id),
                Some(_) => Next::NoRoom,
            },
            [one] => match self.aged(waiting, now) {
                Some(default) if fits(one, default.id) => Next::Start(default.id),
                _ => Next::Nothing,
            },
            _ => Next::Nothing,
        }
    }

    fn pick(&self, waiting: &[Waiting], now: Duration) -> Option<JobId> {
        let next = self.aged(waiting, now).or(first(waiting, Lane::HighPriority, now)).or(first(waiting, Lane::Default, now));
        next.map(|w| w.id)
    }

    /// The lane's first default job, where its turn has come whatever else waits.
    fn aged<'a>(&self, waiting: &'a [Waiting], now: Duration) -> Option<&'a Waiting> {
        first(waiting, Lane::Default, now).filter(|w| now >= self.turn(w))
    }

    fn turn(&self, default: &Waiting) -> Duration {
        default.since.max(self.last_default) + self.ageing * 15 / 16
    }

    pub fn started(&mut self, lane: Lane, now: Duration) {
        if lane == Lane::Default {
            self.last_default = now;
        }
    }

    /// Whether a job in work has to stand still at its checkpoint.
    pub fn gives_way(&self, lane: Lane, high_in_work_or_next: bool, paused_so_far: Duration) -> bool {
        lane == Lane::Default && high_in_work_or_next && paused_so_far < self.ageing / 2
    }

    /// When, if nothing else happens before, there may be something to start: a retry becomes due, a default job has aged.
    pub fn next_due(&self, waiting: &[Waiting], now: Duration) -> Option<Duration> {
        let retries = waiting.iter().filter_map(|w| w.not_before);
        let turns = first(waiting, Lane::Default, now).map(|w| self.turn(w));
        retries.chain(turns).filter(|t| *t > now).min()
    }
}

fn first(waiting: &[Waiting], lane: Lane, now: Duration) -> Option<&Waiting> {
    waiting.iter().filter(|w| w.lane == lane && w.is_due(now)).min_by_key(|w| w.seq)
}

#[cfg(test)]
mod tests;

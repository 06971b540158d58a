//! The loop that claims a job, runs the pipeline, writes its transitions, yields and retries: the only place where scheduler,
//! pipeline and store meet.
//!
//! ```text
//! store changed / job ended / retry due --> policy.next --> claim (stored) --> thread: pipeline --> complete | fail | put back
//!                                                                |  enter: step stored    |
//!                                                                +--checkpoint: stop? time out? give way? ------+
//! ```
//!
//! `run.rs`: one run's flags and time; `work.rs`: the job's own thread; `live.rs`, `pace.rs`: what is told about it; `photos.rs`, `memory.rs`: what
//! it needs.
//!
//! - A job that gives way blocks its own thread at a checkpoint; nothing is announced and nothing is stored.
//! - A job that is stuck in one step is given up: its slot is free, its thread writes nothing any more. Threads cannot be killed: after
//!   [`MOST_STUCK`] of them the daemon ends, to be started again.
//! - A full disk fails no job: it is put back, and the queue is held until there is room.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};

pub use self::live::Live;
use self::{
    photos::Photos,
    run::{Overdue, Reason, Run},
    work::{Context, Finished, How},
};
use crate::{
    domain::{
        fault::{Code, Fault},
        ids::JobId,
        job::Status,
        stage::StepMs,
    },
    pipeline::Pipeline,
    ports::Clock,
    scheduler::{InWork, Next, Policy, SLOTS},
    store::{Filter, Page, Store, StoreError},
};

mod live;
pub mod memory;
mod pace;
mod photos;
mod run;
mod work;

/// Between two tries of something that the store or the disk could not take; also the longest time without a look at the jobs in work.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Threads that may be stuck at once: each keeps its memory, and perhaps a network.
const MOST_STUCK: usize = 4;
/// The queue is held this long after a job met a full disk, twice as long after the next one, up to the longest.
const HOLD: Duration = Duration::from_secs(5);
const LONGEST_HOLD: Duration = Duration::from_secs(300);
/// Finished jobs that are looked at once, at the start, to know this device's pace.
const HISTORY: usize = 30;

pub struct Options {
    pub ageing: Duration,
    pub job_timeout: Duration,
    /// How long running jobs may go on after the shutdown began; then they are put back.
    pub drain: Duration,
    /// For the jobs in work together, bytes.
    pub memory: u64,
}

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Drained,
    /// Too many jobs are stuck in a step; only a new process helps.
    Stuck,
}

/// Runs until `shutdown` is true and the jobs in work have ended or were put back.
pub async fn run(
    store: Store,
    pipeline: Arc<Pipeline>,
    live: Live,
    clock: Arc<dyn Clock>,
    options: Options,
    beat: impl Fn() + Send,
    mut shutdown: watch::Receiver<bool>,
) -> End {
    let policy = Policy::new(options.ageing, options.memory, clock.mono());
    // Room for every thread's word: telling never waits.
    let (told, mut endings) = mpsc::channel::<Finished>(2 * SLOTS + MOST_STUCK);
    let context = Context::new(store, pipeline, live, clock, policy.clone(), &options, told, shutdown.clone());
    remember_the_pace(&context);
    let mut changed = context.store.changed();
    let mut floor = Floor { context, policy, in_work: Vec::new(), stuck: Vec::new(), went_back: HashSet::new(), hold: Hold::default() };
    while !*shutdown.borrow() && floor.stuck.len() < MOST_STUCK {
        beat();
        changed.borrow_and_update();
        floor.give_up_the_stuck().await;
        if floor.start_next().await {
            continue;
        }
        let rest = floor.rest();
        tokio::select! {
            _ = changed.changed() => {}
            _ = shutdown.changed() => {}
            Some(end) = endings.recv() => floor.forget(&end),
            () = tokio::time::sleep(rest) => {}
        }
    }
    let end = if floor.stuck.len() < MOST_STUCK { End::Drained } else { End::Stuck };
    floor.drain(&mut endings, options.drain).await;
    end
}

/// The newest finished jobs tell how fast this device is.
fn remember_the_pace(context: &Context) {
    let page = Page { limit: HISTORY, offset: 0, before: None };
    let filter = Filter { status: Some(Status::Completed), ..Default::default() };
    match context.store.jobs(&filter, page) {
        Ok(listed) => {
            for job in listed.items.iter().rev().filter(|job| !job.cached) {
                if let Ok(Some(photo)) = context.store.photo(job.photo_id) {
                    context.live.learn(job.lane, photo.megapixels(), &job.step_ms);
                }
            }
        }
        Err(e) => tracing::warn!(error = %e, "how long jobs took before is not known"),
    }
}

/// A job in work and its run.
struct Busy {
    job: InWork,
    run: Arc<Run>,
}

/// When the queue is held because of the disk.
#[derive(Default)]
struct Hold {
    until: Duration,
    /// Jobs in a row that met a full disk.
    times: u32,
}

impl Hold {
    fn grow(&mut self, now: Duration) {
        self.until = now + (HOLD * 2u32.saturating_pow(self.times)).min(LONGEST_HOLD);
        self.times = (self.times + 1).min(16);
    }
}

/// Where the jobs are worked on.
struct Floor {
    context: Context,
    policy: Policy,
    in_work: Vec<Busy>,
    /// Given up; their threads still run.
    stuck: Vec<Busy>,
    /// Jobs that gave their place to an interactive one before.
    went_back: HashSet<JobId>,
    hold: Hold,
}

impl Floor {
    /// Does what the policy says; true: look again at once.
    async fn start_next(&mut self) -> bool {
        let (waiting, now) = (self.context.store.candidates(), self.context.clock.mono());
        let jobs: Vec<InWork> = self.in_work.iter().map(|b| b.job).collect();
        let taken = self.stuck.iter().map(|b| b.job.bytes).sum();
        let need = |id| self.photos_of(id).map_or(0, |photos| photos.need());
        let next = self.policy.next(&jobs, taken, &waiting, need, now);
        let mut no_room = next == Next::NoRoom;
        let again = match next {
            Next::Nothing | Next::NoRoom => {
                // Nobody starts, so nobody else would see that there is room again.
                if self.context.live.is_held() {
                    self.disk_has_room(now).await;
                }
                false
            }
            Next::PutBack(id) => {
                self.went_back.insert(id);
                self.in_work.iter().filter(|b| b.job.id == id).for_each(|b| b.run.stop(Reason::GivesPlace));
                false
            }
            Next::Start(id) => {
                no_room = !self.disk_has_room(now).await;
                !no_room && self.start(id, now).await
            }
        };
        self.context.no_room.send_replace(no_room);
        again
    }

    async fn start(&mut self, id: JobId, now: Duration) -> bool {
        // Before it is claimed: a row that does not read just now says nothing about the photo.
        let Some(photos) = self.photos_of(id) else {
            tokio::time::sleep(STORE_RETRY).await;
            return true;
        };
        match self.context.store.claim(id).await {
            Ok(job) => {
                self.policy.started(job.lane, now);
                let bytes = photos.need();
                let run = Arc::new(Run::new(self.context.clock.mono()));
                let in_work = InWork { id, lane: job.lane, bytes, may_go_back: !self.went_back.contains(&id) };
                self.in_work.push(Busy { job: in_work, run: Arc::clone(&run) });
                self.tell_lanes();
                self.context.start(job, photos, run);
            }
            // Cancelled in the meantime: the next look no longer sees it.
            Err(StoreError::Refused(_) | StoreError::NotFound(_)) => {}
            Err(e) => {
                tracing::error!(error = %e, "a job could not be claimed");
                tokio::time::sleep(STORE_RETRY).await;
            }
        }
        true
    }

    /// None: its row or theirs cannot be read.
    fn photos_of(&self, id: JobId) -> Option<Photos> {
        let job = self.context.store.job(id).ok().flatten()?;
        Photos::of(&self.context.store, &job).ok()
    }

    /// Whether the disk has room for another result.
    async fn disk_has_room(&self, now: Duration) -> bool {
        let room = now >= self.hold.until && self.context.store.has_room_to_work().await;
        if room == self.context.live.is_held() {
            self.context.live.hold(!room);
            if room {
                tracing::info!("there is room on the disk again; the queue goes on");
            } else {
                tracing::warn!("the disk is full; the jobs wait until there is room");
            }
        }
        room
    }

    /// Until the next thing that nobody announces.
    fn rest(&self) -> Duration {
        let now = self.context.clock.mono();
        let due = self.policy.next_due(&self.context.store.candidates(), now);
        due.map_or(STORE_RETRY, |due| due.saturating_sub(now).min(STORE_RETRY))
    }

    /// Jobs whose time is over are told to stop; those that do not hear it are given up.
    async fn give_up_the_stuck(&mut self) {
        let now = self.context.clock.mono();
        let limit = self.context.job_timeout;
        let is_stuck = |b: &Busy| b.run.check(limit, now) == Overdue::Stuck && b.run.abandon();
        let (given_up, left): (Vec<Busy>, Vec<Busy>) = std::mem::take(&mut self.in_work).into_iter().partition(is_stuck);
        self.in_work = left;
        for busy in given_up {
            let fault = Fault::new(Code::JobTimeout, format!("above {limit:?}, and stuck inside one step"));
            match self.context.fail(busy.job.id, fault, StepMs::default()).await {
                // Cancelled while it was stuck: it has its end.
                Ok(_) | Err(StoreError::Refused(_) | StoreError::NotFound(_)) => {
                    tracing::error!(job = %busy.job.id, "a job is stuck inside one step; it is given up, its thread stays behind");
                    self.context.live.end(busy.job.id, &busy.run);
                    self.stuck.push(busy);
                }
                Err(e) => {
                    tracing::error!(job = %busy.job.id, error = %e, "a stuck job's end could not be stored; trying again");
                    self.in_work.push(busy);
                }
            }
        }
        // A thread that came back after all holds its run no more.
        self.stuck.retain(|b| Arc::strong_count(&b.run) > 1);
        self.tell_lanes();
    }

    fn forget(&mut self, end: &Finished) {
        tracing::debug!(job = %end.id, how = ?end.how, "out of work");
        let other = |b: &Busy| !Arc::ptr_eq(&b.run, &end.run);
        // One that was given up stays until its end is stored.
        self.in_work.retain(|b| other(b) || b.run.is_abandoned());
        self.stuck.retain(other);
        match end.how {
            How::DiskFull => self.hold.grow(self.context.clock.mono()),
            How::Ended => {
                self.hold = Hold::default();
                self.went_back.remove(&end.id);
            }
            How::PutBack => {}
        }
        self.tell_lanes();
    }

    fn tell_lanes(&self) {
        self.context.lanes.send_replace(self.in_work.iter().map(|b| b.job.lane).collect());
    }

    async fn drain(&mut self, endings: &mut mpsc::Receiver<Finished>, limit: Duration) {
        self.wait_for_ends(endings, limit).await;
        for busy in &self.in_work {
            busy.run.stop(Reason::ShuttingDown);
        }
        // A checkpoint comes within a tile or a strip of rows; what is not back by then runs again after the next start.
        self.wait_for_ends(endings, limit).await;
        // A long tile on a slow machine: the job is put back under its feet, and what its thread still makes is nobody's.
        for busy in self.in_work.iter().filter(|b| b.run.abandon()) {
            if let Err(e) = self.context.store.put_back(busy.job.id).await {
                tracing::warn!(job = %busy.job.id, error = %e, "a job in work could not be put back; the next start does it");
            }
        }
    }

    async fn wait_for_ends(&mut self, endings: &mut mpsc::Receiver<Finished>, limit: Duration) {
        let until = tokio::time::Instant::now() + limit;
        while !self.in_work.is_empty() {
            match tokio::time::timeout_at(until, endings.recv()).await {
                Ok(Some(end)) => self.forget(&end),
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_stays_full_is_tried_ever_more_seldom_and_never_given_up() {
        let mut hold = Hold::default();
        let mut waits = Vec::new();
        for _ in 0..10 {
            hold.grow(Duration::ZERO);
            waits.push(hold.until.as_secs());
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]);
    }
}

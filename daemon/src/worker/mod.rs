//! The loop that claims a job, runs the pipeline, writes its transitions, yields and retries: the only place where scheduler,
//! pipeline and store meet.
//!
//! ```text
//! store changed / job ended / retry due --> policy.next --> claim (stored) --> thread: pipeline --> complete | fail | put back
//!                                                                |  enter: step stored    |
//!                                                                +--checkpoint: stop? time out? give way? ------+
//! ```
//!
//! A job that gives way blocks its own thread at a checkpoint; nothing is announced and nothing is stored.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use rand::Rng;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

pub use self::live::Live;
use self::live::{Reason, StopFlag};
use crate::{
    domain::{
        fault::{Code, Fault},
        ids::JobId,
        job::{Job, Lane},
        stage::{Stage, StepMs},
    },
    pipeline::{Done, Earlier, Ended, Input, Pipeline, Stop, Watch},
    ports::Clock,
    scheduler::{Policy, SLOTS},
    store::{Store, StoreError, blobs},
};

mod live;

/// The one automatic retry comes after this, plus up to as much again: two photos that failed together do not come back together.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How often a paused job looks whether it may go on, and a running one is checked for its time limit.
const PAUSE_POLL: Duration = Duration::from_millis(20);
/// Between two tries to write a job's end into a store that could not take it.
const STORE_RETRY: Duration = Duration::from_secs(1);

pub struct Options {
    pub ageing: Duration,
    pub job_timeout: Duration,
    /// How long running jobs may go on after the shutdown began; then they are put back.
    pub drain: Duration,
}

/// What a job's thread says at its end.
struct Finished {
    id: JobId,
    lane: Lane,
}

/// Says at its end that a job is out of work, however that came.
struct Told(mpsc::Sender<Finished>, JobId, Lane);

impl Drop for Told {
    fn drop(&mut self) {
        // Err: the loop is gone, the process ends.
        let _told = self.0.try_send(Finished { id: self.1, lane: self.2 });
    }
}

#[derive(Clone)]
struct Context {
    store: Store,
    pipeline: Arc<Pipeline>,
    live: Live,
    clock: Arc<dyn Clock>,
    /// Lanes in work, for those who must give way.
    lanes: watch::Sender<Vec<Lane>>,
    policy: Arc<Policy>,
    job_timeout: Duration,
    /// True: nobody waits for a place any more, so nobody gives way.
    draining: watch::Receiver<bool>,
    runtime: Handle,
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
) {
    let mut policy = Policy::new(options.ageing, clock.mono());
    let mut changed = store.changed();
    // Room for every slot's word: telling never waits.
    let (ended, mut endings) = mpsc::channel::<Finished>(2 * SLOTS);
    let context = Context {
        store: store.clone(),
        pipeline,
        live,
        clock: Arc::clone(&clock),
        lanes: watch::Sender::new(Vec::new()),
        policy: Arc::new(policy.clone()),
        job_timeout: options.job_timeout,
        draining: shutdown.clone(),
        runtime: Handle::current(),
    };
    let mut running: Vec<(JobId, Lane)> = Vec::new();
    while !*shutdown.borrow() {
        beat();
        changed.borrow_and_update();
        let (waiting, now) = (store.candidates(), clock.mono());
        let lanes: Vec<Lane> = running.iter().map(|r| r.1).collect();
        if let Some(id) = policy.next(&lanes, &waiting, now) {
            match store.claim(id).await {
                Ok(job) => {
                    policy.started(job.lane, now);
                    running.push((job.id, job.lane));
                    context.lanes.send_replace(running.iter().map(|r| r.1).collect());
                    context.start(job, ended.clone());
                }
                // Cancelled in the meantime: the next look no longer sees it.
                Err(StoreError::Refused(_) | StoreError::NotFound(_)) => {}
                Err(e) => {
                    tracing::error!(error = %e, "a job could not be claimed");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
            continue;
        }
        let wait = Policy::next_due(&waiting, now).map_or(STORE_RETRY, |due| (due - now).min(STORE_RETRY));
        tokio::select! {
            _ = changed.changed() => {}
            _ = shutdown.changed() => {}
            Some(end) = endings.recv() => forget(&mut running, &end, &context),
            () = tokio::time::sleep(wait) => {}
        }
    }
    drain(running, &mut endings, &context, options.drain).await;
}

fn forget(running: &mut Vec<(JobId, Lane)>, end: &Finished, context: &Context) {
    tracing::debug!(job = %end.id, lane = end.lane.name(), "out of work");
    running.retain(|r| r.0 != end.id);
    context.lanes.send_replace(running.iter().map(|r| r.1).collect());
}

async fn drain(mut running: Vec<(JobId, Lane)>, endings: &mut mpsc::Receiver<Finished>, context: &Context, limit: Duration) {
    let until = tokio::time::Instant::now() + limit;
    while !running.is_empty() {
        match tokio::time::timeout_at(until, endings.recv()).await {
            Ok(Some(end)) => forget(&mut running, &end, context),
            Ok(None) => return,
            Err(_) => break,
        }
    }
    for (id, _) in &running {
        context.live.stop_for(*id, Reason::ShuttingDown);
    }
    // A checkpoint comes within a tile or a strip of rows; what is not back by then runs again after the next start.
    let last = tokio::time::Instant::now() + limit;
    while !running.is_empty() {
        match tokio::time::timeout_at(last, endings.recv()).await {
            Ok(Some(end)) => forget(&mut running, &end, context),
            _ => break,
        }
    }
    // A long tile on a slow machine: the job is put back under its feet, so that a clean end does not count as a crash. What it
    // still makes is refused by the store and removed.
    for (id, _) in running {
        if let Err(e) = context.store.put_back(id).await {
            tracing::warn!(job = %id, error = %e, "a job in work could not be put back; it counts as crashed");
        }
    }
}

impl Context {
    /// Gives the job a thread of its own.
    fn start(&self, job: Job, ended: mpsc::Sender<Finished>) {
        let context = self.clone();
        let (id, lane) = (job.id, job.lane);
        let name = format!("pipeline-{}", lane.name());
        let work = move || {
            // Told even if this thread panics: a slot that nobody gives back would block its lane for ever.
            let _told = Told(ended, id, lane);
            context.work(&job);
        };
        std::thread::Builder::new().name(name).spawn(work).expect("the system can start one more thread");
    }

    fn work(&self, job: &Job) {
        let stop = self.live.begin(job.id, job.user_id.clone());
        let began = self.clock.mono();
        let watched = Watched { context: self, job, stop: &stop, began, paused: std::sync::Mutex::new(Duration::ZERO) };
        let result = self.input(job).and_then(|input| {
            if let Some(done) = self.reused(job, &input) {
                return Ok(done);
            }
            catch_unwind(AssertUnwindSafe(|| self.pipeline.run(&input, &watched)))
                .unwrap_or_else(|_| Err(Ended::Fault(Box::new(Fault::new(Code::Internal, "a pipeline step panicked")), StepMs::default())))
        });
        let took = result.as_ref().ok().filter(|d| !d.outcome.cached).map(|d| d.outcome.processing_time_ms);
        self.runtime.block_on(self.settle(job, result, &stop));
        self.live.end(job.id, took);
    }

    /// An earlier result of this very photo, where nobody asked for a new run.
    fn reused(&self, job: &Job, input: &Input) -> Option<Done> {
        if job.reprocess_of.is_some() {
            return None;
        }
        let earlier = self.store.earlier_result(job.photo_id, self.pipeline.fingerprint());
        let earlier = earlier.unwrap_or_else(|e| {
            tracing::warn!(job = %job.id, error = %e, "earlier results were not looked at");
            None
        })?;
        self.pipeline.reuse(input, &Earlier { folder: &self.store.result_dir(earlier.id), artifacts: earlier.artifacts.as_ref()? })
    }

    fn input(&self, job: &Job) -> Result<Input, Ended> {
        let fault = |code, detail: String| Ended::Fault(Box::new(Fault::new(code, detail)), StepMs::default());
        let photo = self.store.photo(job.photo_id).map_err(|e| fault(Code::StorageBusy, e.to_string()))?;
        let photo = photo.filter(|p| p.on_disk).ok_or_else(|| fault(Code::OriginalMissing, "no original on this device".into()))?;
        Ok(Input {
            photo: self.store.blob_path(&photo.sha256),
            sha256: photo.sha256,
            source: photo.source,
            out: self.store.result_dir(job.id),
        })
    }

    /// Writes the job's end. A store that cannot take it is asked again: the result is on disk and must not be forgotten.
    async fn settle(&self, job: &Job, result: Result<Done, Ended>, stop: &StopFlag) {
        loop {
            let written = match (&result, stop.get()) {
                (Ok(done), _) => self.store.complete(job.id, done.outcome.clone()).await,
                (Err(Ended::Fault(fault, step_ms)), _) => self.fail(job, Fault::clone(fault), *step_ms).await,
                (Err(Ended::Stopped), Some(Reason::ShuttingDown)) => self.store.put_back(job.id).await,
                (Err(Ended::Stopped), Some(Reason::TimedOut)) => {
                    let fault = Fault::new(Code::JobTimeout, format!("above {:?}", self.job_timeout));
                    self.fail(job, fault, StepMs::default()).await
                }
                // Cancelled, or the store did not take a step: it knows already, or the next start will.
                (Err(Ended::Stopped), _) => return,
            };
            match written {
                Ok(job) => {
                    let ms = job.processing_time_ms;
                    tracing::info!(job = %job.id, status = job.status.name(), attempt = job.attempt, ms, "job");
                    return;
                }
                // Cancelled while it ran: what it made goes.
                Err(StoreError::Refused(_) | StoreError::NotFound(_)) => {
                    if let Err(e) = blobs::remove(&self.store.result_dir(job.id)) {
                        tracing::warn!(error = %e, "the result of a cancelled job stays until the next start");
                    }
                    return;
                }
                Err(StoreError::Closed) => return,
                Err(e) => {
                    tracing::error!(job = %job.id, error = %e, "the job's end could not be stored; trying again");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
    }

    async fn fail(&self, job: &Job, fault: Fault, step_ms: StepMs) -> Result<Job, StoreError> {
        tracing::warn!(job = %job.id, code = fault.code.name(), detail = %fault.detail, "a job ended without a result");
        let retry_in = RETRY_AFTER.mul_f64(1.0 + rand::rng().random::<f64>());
        self.store.fail(job.id, fault, step_ms, retry_in).await
    }
}

/// The pipeline's view of the worker.
struct Watched<'a> {
    context: &'a Context,
    job: &'a Job,
    stop: &'a StopFlag,
    began: Duration,
    /// Time spent giving way; it does not count against the job's limit.
    paused: std::sync::Mutex<Duration>,
}

impl Watched<'_> {
    fn paused(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.paused.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn must_stop(&self) -> Result<(), Stop> {
        let worked = self.context.clock.mono().saturating_sub(self.began + *self.paused());
        if worked > self.context.job_timeout {
            self.stop.set(Reason::TimedOut);
        }
        if self.stop.get().is_some() { Err(Stop) } else { Ok(()) }
    }

    /// Stands still while an interactive job runs or waits for this one's place.
    fn give_way(&self) -> Result<(), Stop> {
        while self.job.lane == Lane::Default && !*self.context.draining.borrow() {
            let now = self.context.clock.mono();
            let high = self.context.lanes.borrow().contains(&Lane::HighPriority) || self.context.store.high_job_is_due();
            if !self.context.policy.gives_way(self.job.lane, high, *self.paused()) {
                return Ok(());
            }
            std::thread::sleep(PAUSE_POLL);
            *self.paused() += self.context.clock.mono().saturating_sub(now);
            self.must_stop()?;
        }
        Ok(())
    }
}

impl Watch for Watched<'_> {
    fn enter(&self, stage: Stage, step_ms: StepMs) -> Result<(), Stop> {
        self.checkpoint(stage, 0.0)?;
        match self.context.runtime.block_on(self.context.store.step(self.job.id, stage, step_ms)) {
            Ok(_) => Ok(()),
            Err(StoreError::Refused(_) | StoreError::NotFound(_)) => {
                self.stop.set(Reason::Cancelled);
                Err(Stop)
            }
            Err(e) => {
                // The step is for people and for the crash count; the work itself can go on.
                tracing::warn!(job = %self.job.id, error = %e, "a step was not stored");
                Ok(())
            }
        }
    }

    fn checkpoint(&self, stage: Stage, done: f32) -> Result<(), Stop> {
        self.must_stop()?;
        self.context.live.advance(self.job.id, stage, stage.percent(done), self.context.clock.mono());
        self.give_way()
    }
}

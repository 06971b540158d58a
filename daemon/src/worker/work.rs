//! A job on its own thread: the pipeline, watched, and the writing of its end.
//!
//! A run fills a folder of its own, `results/<job>.<attempt>.tmp`: a run that was given up and comes back late cannot touch the files of the
//! one that took its place. The folder, of a result or of a refused photo's picture, gets the job's name just before the job's end is
//! committed; without that commit the next start sweeps it.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rand::Rng;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use super::{
    Live, Options, STORE_RETRY,
    photos::Photos,
    run::{Reason, Run},
};
use crate::{
    domain::{
        fault::{Code, Fault},
        ids::JobId,
        job::{Job, Lane, Misfit},
        photo::Photo,
        stage::{Stage, StepMs},
        transition::Refusal,
    },
    inference::give_way,
    pipeline::{Another, Done, Earlier, Ended, Input, Others, Pipeline, Stop, Watch},
    ports::{Clock, RunStop},
    scheduler::Policy,
    store::{Store, StoreError, blobs, is_full},
};

/// The one automatic retry comes after this, plus up to as much again: two photos that failed together do not come back together.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How often a paused job looks whether it may go on.
const PAUSE_POLL: Duration = Duration::from_millis(20);

/// How a run left the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Its job has its end, or waits for its one retry.
    Ended,
    /// Its job waits again in its old place.
    PutBack,
    /// The same, because there was no room on the disk.
    DiskFull,
}

/// What a job's thread says at its end.
pub struct Finished {
    pub id: JobId,
    pub run: Arc<Run>,
    pub how: How,
}

/// Says at its end that a job is out of work, however that came.
struct Told {
    to: mpsc::Sender<Finished>,
    id: JobId,
    run: Arc<Run>,
    how: How,
}

impl Drop for Told {
    fn drop(&mut self) {
        // Err: the loop is gone, the process ends.
        let _told = self.to.try_send(Finished { id: self.id, run: Arc::clone(&self.run), how: self.how });
    }
}

#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub live: Live,
    pub clock: Arc<dyn Clock>,
    /// Lanes in work, for those who must give way.
    pub lanes: watch::Sender<Vec<Lane>>,
    /// True: the high job that waits cannot start, for want of memory or disk; nobody need stand still for it.
    pub no_room: watch::Sender<bool>,
    pub job_timeout: Duration,
    pipeline: Arc<Pipeline>,
    policy: Arc<Policy>,
    told: mpsc::Sender<Finished>,
    /// True: nobody waits for a place any more, so nobody gives way.
    draining: watch::Receiver<bool>,
    runtime: Handle,
}

impl Context {
    #[expect(clippy::too_many_arguments, reason = "the loop's own parts, put together once")]
    pub fn new(
        store: Store,
        pipeline: Arc<Pipeline>,
        live: Live,
        clock: Arc<dyn Clock>,
        policy: Policy,
        options: &Options,
        told: mpsc::Sender<Finished>,
        draining: watch::Receiver<bool>,
    ) -> Self {
        Self {
            store,
            live,
            clock,
            lanes: watch::Sender::new(Vec::new()),
            no_room: watch::Sender::new(false),
            job_timeout: options.job_timeout,
            pipeline,
            policy: Arc::new(policy),
            told,
            draining,
            runtime: Handle::current(),
        }
    }

    /// Gives the job a thread of its own.
    pub fn start(&self, job: Job, photos: Photos, run: Arc<Run>) {
        self.live.begin(&job, photos.megapixels(), &run);
        let context = self.clone();
        let name = format!("pipeline-{}", job.lane.name());
        let work = move || {
            give_way();
            // Told even if this thread panics: a slot that nobody gives back would block its lane for ever.
            let mut told = Told { to: context.told.clone(), id: job.id, run: Arc::clone(&run), how: How::Ended };
            told.how = context.work(&job, photos, &run);
        };
        std::thread::Builder::new().name(name).spawn(work).expect("the system can start one more thread");
    }

    fn work(&self, job: &Job, photos: Photos, run: &Arc<Run>) -> How {
        let watched = Watched { context: self, job, run };
        let megapixels = photos.megapixels();
        let result = self.input(job, photos).and_then(|(input, others)| {
            let misfit = job.merge.as_ref().map_or(Misfit::Fails, |merge| merge.misfit);
            let others = Others { photos: &others, misfit };
            if let Some(done) = self.reused(job, &input, &others) {
                return Ok(done);
            }
            catch_unwind(AssertUnwindSafe(|| self.pipeline.merge(&input, &others, &watched)))
                .unwrap_or_else(|_| Err(Ended::Fault(Box::new(Fault::new(Code::Internal, "a pipeline step panicked")), StepMs::default())))
        });
        let how = if run.settle() { self.settled(job, result, megapixels, run) } else { How::Ended };
        if let Err(e) = blobs::remove(&self.folder(job)) {
            tracing::warn!(job = %job.id, error = %e, "an unfinished result stays until the next start");
        }
        self.live.end(job.id, run);
        how
    }

    /// An earlier result of these very photos, where nobody asked for a new run.
    fn reused(&self, job: &Job, input: &Input, others: &Others<'_>) -> Option<Done> {
        if job.reprocess_of.is_some() {
            return None;
        }
        let earlier = self.store.earlier_result(job, self.pipeline.fingerprint(others));
        let earlier = earlier.unwrap_or_else(|e| {
            tracing::warn!(job = %job.id, error = %e, "earlier results were not looked at");
            None
        })?;
        let earlier = Earlier { folder: &self.store.result_dir(earlier.id), artifacts: earlier.artifacts.as_ref()? };
        self.pipeline.reuse(input, others, &earlier)
    }

    fn settled(&self, job: &Job, result: Result<Done, Ended>, megapixels: f64, run: &Run) -> How {
        // What has files in the folder gets its name; without one it is as good as not made.
        let made = match &result {
            Ok(done) => Some(done.outcome.step_ms),
            Err(Ended::Refused(_, step_ms)) => Some(*step_ms),
            Err(_) => None,
        };
        let named = if result.is_ok() { self.store.result_dir(job.id) } else { self.store.refused_dir(job.id) };
        let unpublished = made.and_then(|step_ms| Some((self.publish(job, &named).err()?, step_ms)));
        let result = unpublished.map_or(result, |(e, step_ms)| {
            // It may have its name already, and nobody will ask for it.
            let _stays = blobs::remove(&named);
            let code = if is_full(&e) { Code::DiskFull } else { Code::StorageBusy };
            Err(Ended::Fault(Box::new(Fault::new(code, e.to_string())), step_ms))
        });
        if let Ok(done) = &result
            && !done.outcome.cached
        {
            self.live.learn(job.lane, megapixels, &done.outcome.step_ms);
        }
        self.runtime.block_on(self.write_end(job, result, run))
    }

    /// Where this run of the job fills its result.
    fn folder(&self, job: &Job) -> PathBuf {
        let mut folder = self.store.result_dir(job.id).into_os_string();
        folder.push(format!(".{}.tmp", job.attempt));
        folder.into()
    }

    /// What the run made gets its name, durably.
    fn publish(&self, job: &Job, named: &Path) -> io::Result<()> {
        blobs::remove(named)?;
        fs::rename(self.folder(job), named)?;
        named.parent().map_or(Ok(()), blobs::fsync_dir)
    }

    /// A photo that is merged is looked for when it is its turn: what becomes of one that is missing is the pipeline's to say. Its row stays
    /// as long as the job is unfinished.
    fn input(&self, job: &Job, photos: Photos) -> Result<(Input, Vec<Another>), Ended> {
        let missing = || Ended::Fault(Box::new(Fault::new(Code::OriginalMissing, "no original on this device")), StepMs::default());
        let path = |photo: &Photo| self.store.blob_path(&photo.sha256);
        let own = photos.own.filter(|p| p.on_disk).ok_or_else(missing)?;
        let another = |photo: Option<Photo>| photo.map(|p| Another { photo: path(&p), sha256: p.sha256 });
        let others = photos.others.into_iter().map(another).collect::<Option<Vec<_>>>().ok_or_else(missing)?;
        Ok((Input { photo: path(&own), sha256: own.sha256, source: own.source, out: self.folder(job) }, others))
    }

    /// Writes the job's end. A store that cannot take it is asked again: the result is on disk and must not be forgotten.
    async fn write_end(&self, job: &Job, result: Result<Done, Ended>, run: &Run) -> How {
        let full = matches!(&result, Err(Ended::Fault(fault, _)) if fault.code == Code::DiskFull);
        loop {
            let (written, how) = match (&result, run.stopped()) {
                (Ok(done), _) => (self.store.complete(job.id, done.outcome.clone()).await, How::Ended),
                // Room comes back; the photo is not to blame and nobody should have to press a button for it.
                (Err(Ended::Fault(..)), _) if full => (self.store.put_back(job.id).await, How::DiskFull),
                (Err(Ended::Fault(fault, step_ms)), _) => (self.fail(job.id, Fault::clone(fault), *step_ms).await, How::Ended),
                (Err(Ended::Refused(refusal, step_ms)), _) => (self.refuse(job.id, refusal, *step_ms).await, How::Ended),
                (Err(Ended::Stopped(_)), Some(Reason::ShuttingDown | Reason::GivesPlace)) => {
                    (self.store.put_back(job.id).await, How::PutBack)
                }
                (Err(Ended::Stopped(step_ms)), Some(Reason::TimedOut)) => {
                    let fault = Fault::new(Code::JobTimeout, format!("above {:?}", self.job_timeout));
                    (self.fail(job.id, fault, *step_ms).await, How::Ended)
                }
                // Cancelled: the store knows already.
                (Err(Ended::Stopped(_)), _) => return How::Ended,
            };
            match written {
                Ok(job) => {
                    let ms = job.processing_time_ms;
                    tracing::info!(job = %job.id, status = job.status.name(), attempt = job.attempt, ms, "job");
                    return how;
                }
                // Cancelled while it ran: what it made goes.
                Err(StoreError::Refused(_) | StoreError::NotFound(_)) => {
                    let made = [self.store.result_dir(job.id), self.store.refused_dir(job.id)];
                    if let Err(e) = made.iter().try_for_each(|folder| blobs::remove(folder)) {
                        tracing::warn!(error = %e, "the result of a cancelled job stays until the next start");
                    }
                    return How::Ended;
                }
                Err(StoreError::Closed) => return How::Ended,
                Err(e) => {
                    tracing::error!(job = %job.id, error = %e, "the job's end could not be stored; trying again");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
    }

    async fn refuse(&self, id: JobId, refusal: &Refusal, step_ms: StepMs) -> Result<Job, StoreError> {
        tracing::info!(job = %id, code = refusal.fault.code.name(), detail = %refusal.fault.detail, "a photo was refused");
        self.store.refuse(id, refusal.clone(), step_ms).await
    }

    pub async fn fail(&self, id: JobId, fault: Fault, step_ms: StepMs) -> Result<Job, StoreError> {
        tracing::warn!(job = %id, code = fault.code.name(), detail = %fault.detail, "a job ended without a result");
        let retry_in = RETRY_AFTER.mul_f64(1.0 + rand::rng().random::<f64>());
        self.store.fail(id, fault, step_ms, retry_in).await
    }
}

/// The pipeline's view of the worker.
struct Watched<'a> {
    context: &'a Context,
    job: &'a Job,
    run: &'a Run,
}

impl Watched<'_> {
    fn must_stop(&self) -> Result<(), Stop> {
        self.run.check(self.context.job_timeout, self.context.clock.mono());
        if self.run.stopped().is_some() { Err(Stop) } else { Ok(()) }
    }

    /// Stands still while an interactive job runs or waits for this one's place.
    fn give_way(&self) -> Result<(), Stop> {
        if self.job.lane != Lane::Default {
            return Ok(());
        }
        while self.has_to_wait() {
            self.run.stand(self.context.clock.mono());
            std::thread::sleep(PAUSE_POLL);
            self.must_stop()?;
        }
        self.run.go_on(self.context.clock.mono());
        Ok(())
    }

    fn has_to_wait(&self) -> bool {
        let c = self.context;
        if *c.draining.borrow() {
            return false;
        }
        let high = c.lanes.borrow().contains(&Lane::HighPriority) || (!*c.no_room.borrow() && c.store.high_job_is_due());
        c.policy.gives_way(self.job.lane, high, self.run.paused(c.clock.mono()))
    }
}

impl Watch for Watched<'_> {
    fn enter(&self, stage: Stage, step_ms: StepMs) -> Result<(), Stop> {
        self.checkpoint(stage, 0.0)?;
        match self.context.runtime.block_on(self.context.store.step(self.job.id, stage, step_ms)) {
            Ok(_) => Ok(()),
            Err(StoreError::Refused(_) | StoreError::NotFound(_)) => {
                self.run.stop(Reason::Cancelled);
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

    fn paused(&self) -> Duration {
        self.run.paused(self.context.clock.mono())
    }

    fn run_stop(&self) -> RunStop {
        self.run.run_stop()
    }
}

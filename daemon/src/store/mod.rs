//! The store: one door to everything that must survive.
//!
//! Constraints
//! 1. Every async write is answered only after its journal frame is on the platter (one fsync for all who wait: `commit.rs`).
//! 2. A job's state, its announcement and its uploads change in one transaction.
//! 3. The index (sled) can be lost: opening finds out and makes it again from the journal (`recover.rs`).
//! 4. Readers see durable rows only.
//! 5. Rows are small; pixels lie in files that are complete once they have their name (`blobs.rs`).
//!
//! ```text
//!            writes                                    reads
//! http, worker, outbox --closure--> committer       anybody --> view (memory) + reader (overlay, then sled)
//!                                      |  journal/  fsync
//!                                      +--> overlay, view, events, `changed`
//!                                      +--> indexer --> store/v1 (sled), snapshots of the journal
//! ```
//!
//! Layout: `journal/` frames and snapshots, `record.rs` and `pack.rs` rows as bytes, `rows.rs` keys, `index.rs` and `blocks.rs` sled, `overlay.rs` what
//! sled lacks yet; operations in `jobs.rs`, `photos.rs`, `uploads.rs`, `idempotency.rs`, `outbox.rs`, `space.rs`. Bytes stand in
//! their headers.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::AtomicU64},
    thread::JoinHandle,
};

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use self::{
    commit::{QUEUE, Request, Tx, call},
    index::Reader,
    rows::Idem,
    view::View,
};
pub use self::{
    space::{Evicted, is_full},
    types::{
        Ahead, Answer, Events, Filter, First, Idempotency, Listed, NewJobs, NewPhoto, OpenReport, Options, Page, QueueCounts, Space,
        StoreError, UploadCounts, UploadRow, UploadTask, Waiting,
    },
};
use crate::domain::{
    event::JobEvent,
    ids::{JobId, PhotoId, Seq, Sha256},
    job::{Job, Lane},
    photo::Photo,
};

mod ballast;
pub mod blobs;
mod blocks;
mod commit;
mod idempotency;
mod index;
mod indexer;
mod jobs;
mod journal;
mod outbox;
mod overlay;
mod pack;
mod photos;
mod record;
mod recover;
mod rows;
mod space;
mod types;
mod uploads;
mod view;

#[cfg(test)]
mod tests;

/// Results of one photo that are looked at for one that may be given out again. Photos have one or two; a row is read for each.
const RESULTS_LOOKED_AT: usize = 4;

/// A handle; clones share the one store.
#[derive(Clone)]
pub struct Store {
    options: Arc<Options>,
    reader: Reader,
    view: Arc<RwLock<View>>,
    requests: mpsc::Sender<Request>,
    events: broadcast::Sender<Arc<JobEvent>>,
    changed: watch::Sender<u64>,
    damaged: watch::Sender<bool>,
    evicted: Arc<Mutex<Evicted>>,
    /// Bytes of the last photo that there was no room for; 0: there is none.
    refused: Arc<AtomicU64>,
    /// Taken by whoever closes.
    thread: Arc<Mutex<Option<Running>>>,
}

/// Reads the whole journal of a stopped daemon and changes nothing: its size in bytes, and what is wrong with it. `progress` gets the
/// bytes read so far.
pub fn verify_journal(state: &Path, progress: impl FnMut(u64)) -> Result<(u64, Vec<String>), StoreError> {
    let _lock = recover::lock(state)?;
    Ok(journal::verify(&state.join("journal"), progress)?)
}

/// The committer's thread, and the folder's lock for as long as it runs.
type Running = (JoinHandle<()>, recover::Lock);

impl Store {
    /// Opens, repairs, settles what the last end left undone. Blocking; seconds for a large store.
    pub fn open(options: Options) -> Result<(Store, OpenReport), StoreError> {
        let lock = recover::lock(&options.state)?;
        let (mut committer, mut report) = recover::open(Arc::new(options))?;
        recover::settle(&mut committer, &mut report)?;
        recover::sweep(&committer)?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let store = Store {
            options: Arc::clone(&committer.options),
            reader: committer.reader.clone(),
            view: Arc::clone(&committer.view),
            requests,
            events: committer.events.clone(),
            changed: committer.changed.clone(),
            damaged: committer.damaged.clone(),
            evicted: Arc::default(),
            refused: Arc::default(),
            thread: Arc::default(),
        };
        let thread = committer.spawn(queue)?;
        *store.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some((thread, lock));
        Ok((store, report))
    }

    async fn commit<R: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Tx<'_>) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let (request, answer) = call(run);
        self.requests.send(request).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn photo(&self, id: PhotoId) -> Result<Option<Photo>, StoreError> {
        self.reader.row(&rows::photo(id))
    }

    pub fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.reader.row(&rows::job(id))
    }

    /// Each of these, or None where there is none.
    pub fn photos_under(&self, ids: impl IntoIterator<Item = PhotoId>) -> Result<Vec<Option<Photo>>, StoreError> {
        self.reader.rows_under(&ids.into_iter().map(rows::photo).collect::<Vec<_>>())
    }

    pub fn photos(&self, filter: &Filter, page: Page) -> Result<Listed<Photo>, StoreError> {
        let (ids, total, next) = self.view().list_photos(filter, page);
        let items = self.photos_under(ids)?.into_iter().flatten().collect();
        Ok(Listed { items, total, next })
    }

    pub fn jobs(&self, filter: &Filter, page: Page) -> Result<Listed<Job>, StoreError> {
        let (ids, total, next) = self.view().list_jobs(filter, page);
        let items = self.reader.rows_under(&ids.into_iter().map(rows::job).collect::<Vec<_>>())?.into_iter().flatten().collect();
        Ok(Listed { items, total, next })
    }

    /// Jobs of a photo, oldest first.
    pub fn jobs_of_photo(&self, id: PhotoId) -> Vec<JobId> {
        self.view().jobs_of_photo(id)
    }

    /// A result of this job's photo that lies here, if a pipeline with this fingerprint made it: one of the newest few before the job (merged
    /// with others and by itself a photo has two), then after it. A photo has one owner: what others sent, the same bytes too, is never looked at.
    pub fn earlier_result(&self, job: &Job, made_by: Sha256) -> Result<Option<Job>, StoreError> {
        let newest: Vec<JobId> = self.view().results_for(job).take(RESULTS_LOOKED_AT).collect();
        let fits = |job: &Job| job.artifacts.as_ref().is_some_and(|a| a.on_disk && a.made_by == Some(made_by));
        for id in newest {
            if let Some(job) = self.job(id)?.filter(fits) {
                return Ok(Some(job));
            }
        }
        Ok(None)
    }

    /// None: the job does not wait.
    pub fn ahead(&self, job: &Job) -> Option<Ahead> {
        self.view().ahead(job)
    }

    /// The waiting jobs that may be next: of each lane the first that could start now, and those before it that wait for a retry.
    pub fn candidates(&self) -> Vec<Waiting> {
        let now = self.options.clock.mono();
        let view = self.view();
        let mut found = Vec::new();
        for lane in [Lane::HighPriority, Lane::Default] {
            for w in view.lane(lane) {
                found.push(w.clone());
                if w.is_due(now) {
                    break;
                }
            }
        }
        found
    }

    /// All waiting jobs, in the order of their submission.
    #[cfg(test)]
    fn waiting(&self) -> Vec<Waiting> {
        let mut all: Vec<Waiting> = self.view().waiting.values().cloned().collect();
        all.sort_by_key(|w| w.seq);
        all
    }

    /// Whether a high job could start now.
    pub fn high_job_is_due(&self) -> bool {
        let now = self.options.clock.mono();
        self.view().lane(Lane::HighPriority).any(|w| w.is_due(now))
    }

    pub fn queue(&self) -> QueueCounts {
        let now = self.options.clock.mono();
        let view = self.view();
        QueueCounts {
            pending_high: view.pending(Lane::HighPriority),
            pending_default: view.pending(Lane::Default),
            running: view.running.len(),
            oldest_wait: view.waiting.values().map(|w| now.saturating_sub(w.since)).max().unwrap_or_default(),
        }
    }

    /// Seq of the newest event.
    pub fn last_event(&self) -> Seq {
        self.view().last_event
    }

    /// Every event from now on, after its fsync. A receiver that lags reads `events_after`.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<JobEvent>> {
        self.events.subscribe()
    }

    /// Counts up with each commit: something may have changed.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// True once the index answered nonsense: the daemon ends, and the next start rebuilds it.
    pub fn damaged(&self) -> watch::Receiver<bool> {
        self.damaged.subscribe()
    }

    pub fn blob_path(&self, sha256: &Sha256) -> PathBuf {
        self.options.state.join(blobs::blob_name(sha256))
    }

    /// `refused/<job_id>`: what a refused photo left.
    pub fn refused_dir(&self, id: JobId) -> PathBuf {
        self.options.state.join(blobs::refused_name(id))
    }

    /// `results/<job_id>`; the pipeline fills a folder beside it and renames.
    pub fn result_dir(&self, id: JobId) -> PathBuf {
        self.options.state.join(blobs::result_name(id))
    }

    pub fn state_dir(&self) -> &Path {
        &self.options.state
    }

    /// What this key was answered with before.
    pub fn replay(&self, idempotency: &Idempotency) -> Result<Option<Answer>, StoreError> {
        match self.reader.row::<Idem>(&rows::idempotency(idempotency))? {
            Some(row) if row.body != idempotency.body => Err(StoreError::IdempotencyMismatch),
            row => Ok(row.map(|r| r.answer)),
        }
    }

    /// Drops what nobody can ask for any more: old events, expired Idempotency-Keys; puts the ballast back that a full disk took. To be
    /// called every few minutes.
    pub async fn tidy_up(&self) -> Result<(), StoreError> {
        ballast::take(&self.options.state);
        self.trim_events().await?;
        let now = self.options.clock.mono();
        let expired: Vec<Vec<u8>> = self.view().idempotency.iter().filter(|(_, due)| **due <= now).map(|(key, _)| key.clone()).collect();
        if expired.is_empty() {
            return Ok(());
        }
        self.commit(move |tx| {
            expired.into_iter().for_each(|key| tx.delete(key));
            Ok(())
        })
        .await
    }

    /// The end was asked for: jobs that run when the process goes away, however it does, did not kill it.
    pub fn expect_the_end(&self) {
        if let Err(e) = std::fs::write(self.options.state.join(recover::STOPPING), "") {
            tracing::warn!(error = %e, "should the process be killed now, its running jobs count as crashed");
        }
    }

    /// Waits for the queue of commits, then closes. Later writes get `Closed`.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.requests.send(Request::Close(done)).await.is_ok() {
            // Err: the committer was gone already.
            let _closed = closed.await;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((thread, lock)) = thread {
            let _joined = thread.join();
            drop(lock);
        }
    }
}

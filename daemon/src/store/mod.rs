//! The store: one door to everything that must survive.
//!
//! INTERFACE DRAFT (bodies follow). Every async write is answered only after its journal frame was fsynced.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

use crate::{
    domain::{
        event::JobEvent,
        fault::Fault,
        ids::{JobId, PhotoId, Seq, Sha256, UserId},
        job::{Job, Lane, Status},
        photo::{ClientInfo, Eye, ImageFormat, Photo, Source},
        stage::{Stage, StepMs},
        transition::{Outcome, Refused},
    },
    ports::{Clock, PutObject},
};

pub struct Options {
    /// `paths.state`: `store/`, `journal/`, `blobs/`, `results/` and `lock` lie in it.
    pub state: PathBuf,
    pub clock: Arc<dyn Clock>,
    /// A bucket is configured.
    pub uploads: bool,
    pub upload_originals: bool,
    pub upload_synthetic: bool,
    pub max_pending: usize,
    pub crash_limit: u32,
    /// Bytes of blobs and results together.
    pub cap: u64,
    /// Free bytes of the disk below which intake stops.
    pub reserve: u64,
    pub evict_uploaded: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{pending} jobs wait already; the limit is {limit}")]
    QueueFull { pending: usize, limit: usize },
    #[error("{free} bytes are free on the disk; {reserve} are kept in reserve")]
    DiskReserve { free: u64, reserve: u64 },
    #[error("the photo has an unfinished job")]
    PhotoInUse,
    #[error("the original is no longer on this device")]
    OriginalEvicted,
    #[error("this Idempotency-Key came with another body before")]
    IdempotencyMismatch,
    #[error("another irisd uses this state folder")]
    Locked,
    #[error("the store is closing")]
    Closed,
    #[error("store: {0}")]
    Io(#[from] std::io::Error),
    #[error("store: {0}")]
    Index(String),
}

/// An Idempotency-Key and the hash of what came with it (method, path and body), scoped by owner.
#[derive(Debug, Clone)]
pub struct Idempotency {
    pub key: String,
    pub body: Sha256,
}

/// What a key was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Photo(PhotoId),
    Jobs(Vec<JobId>),
    Capture { photo: PhotoId, job: Option<JobId> },
}

/// A photo whose bytes already lie fsynced under `blobs/`.
pub struct NewPhoto {
    pub user_id: UserId,
    pub sha256: Sha256,
    pub bytes: u64,
    pub width: u32,
    pub height: u32,
    pub content_type: ImageFormat,
    pub source: Source,
    pub client: ClientInfo,
}

pub struct NewJobs {
    /// Must own the photos (admin callers pass the photo's owner).
    pub user_id: UserId,
    /// In the order in which they are to be served. All or none.
    pub photo_ids: Vec<PhotoId>,
    pub lane: Lane,
    /// Where a field is None, the photo's own is taken.
    pub client: ClientInfo,
    pub reprocess_of: Option<JobId>,
}

#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// None: everybody's (viewer, admin).
    pub owner: Option<UserId>,
    pub status: Option<Status>,
    pub photo: Option<PhotoId>,
    pub client_ref: Option<String>,
    pub eye: Option<Eye>,
}

#[derive(Debug, Clone, Copy)]
pub struct Page {
    pub limit: usize,
    pub offset: usize,
    /// Rows older than this one (its `seq`).
    pub before: Option<Seq>,
}

#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// Newest first.
    pub items: Vec<T>,
    /// Rows that the filter lets through, on all pages.
    pub total: usize,
    /// Pass as `before` for the next page; None: this was the last.
    pub next: Option<Seq>,
}

/// A job that waits, as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub id: JobId,
    pub seq: Seq,
    pub lane: Lane,
    /// Monotonic time since when it waits (jobs found at the start wait since the start).
    pub since: Duration,
    /// Monotonic time before which a retry must not start.
    pub not_before: Option<Duration>,
}

#[derive(Debug, Clone, Default)]
pub struct QueueCounts {
    pub pending_high: usize,
    pub pending_default: usize,
    pub running: usize,
    pub oldest_wait: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadTask {
    Put(PutObject),
    Delete(String),
}

/// One thing that the bucket is still to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRow {
    pub seq: Seq,
    pub task: UploadTask,
    pub attempts: u32,
}

#[derive(Debug, Clone, Default)]
pub struct UploadCounts {
    pub pending: usize,
    pub bytes: u64,
    pub last_confirmed: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
pub struct Space {
    /// Bytes of blobs and results.
    pub used: u64,
    pub cap: u64,
    /// Free bytes of the filesystem.
    pub free: u64,
    pub reserve: u64,
}

/// A slice of the event log. `gap`: events after the asked-for one were already dropped.
#[derive(Debug, Clone)]
pub struct Events {
    pub events: Vec<JobEvent>,
    pub gap: bool,
}

/// What opening had to do.
#[derive(Debug, Clone, Default)]
pub struct OpenReport {
    /// Set when the index was damaged and rebuilt: where the damaged one lies.
    pub rebuilt_from: Option<PathBuf>,
    /// Jobs that ran when the process died.
    pub recovered_jobs: usize,
}

#[derive(Clone)]
pub struct Store {}

#[allow(clippy::todo, unused_variables)]
impl Store {
    pub fn open(options: Options) -> Result<(Store, OpenReport), StoreError> {
        todo!()
    }

    // ---- reads: short, synchronous, see every acknowledged write
    pub fn photo(&self, id: PhotoId) -> Result<Option<Photo>, StoreError> {
        todo!()
    }
    pub fn photos(&self, filter: &Filter, page: Page) -> Result<Listed<Photo>, StoreError> {
        todo!()
    }
    pub fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        todo!()
    }
    pub fn jobs(&self, filter: &Filter, page: Page) -> Result<Listed<Job>, StoreError> {
        todo!()
    }
    /// Place among the waiting jobs in the order in which they will be served, from 0; None: it does not wait.
    pub fn queue_position(&self, id: JobId) -> Option<usize> {
        todo!()
    }
    /// All waiting jobs, by seq.
    pub fn waiting(&self) -> Vec<Waiting> {
        todo!()
    }
    pub fn queue(&self) -> QueueCounts {
        todo!()
    }
    pub fn uploads(&self) -> UploadCounts {
        todo!()
    }
    pub fn space(&self) -> Space {
        todo!()
    }
    /// Events after `after`, oldest first.
    pub fn events_after(&self, after: Seq, limit: usize) -> Result<Events, StoreError> {
        todo!()
    }
    /// Seq of the newest event.
    pub fn last_event(&self) -> Seq {
        todo!()
    }
    /// Every event from now on, after its fsync. A receiver that lags reads `events_after`.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<JobEvent>> {
        todo!()
    }
    /// Counts up with each commit: something may have changed.
    pub fn changed(&self) -> watch::Receiver<u64> {
        todo!()
    }
    pub fn blob_path(&self, sha256: &Sha256) -> PathBuf {
        todo!()
    }
    /// `results/<job_id>`; the pipeline fills a folder beside it and renames.
    pub fn result_dir(&self, id: JobId) -> PathBuf {
        todo!()
    }
    pub fn state_dir(&self) -> &Path {
        todo!()
    }
    pub fn replay(&self, owner: &UserId, idempotency: &Idempotency) -> Result<Option<Answer>, StoreError> {
        todo!()
    }

    // ---- writes: from the door
    /// Err(DiskReserve) when intake must stop. Asked before any byte is taken.
    pub fn admit(&self, bytes: u64) -> Result<(), StoreError> {
        todo!()
    }
    /// The photo, and whether it is new (false: this owner sent these bytes before, and gets the same row).
    pub async fn add_photo(&self, new: NewPhoto, idempotency: Option<Idempotency>) -> Result<(Photo, bool), StoreError> {
        todo!()
    }
    pub async fn submit(&self, new: NewJobs, idempotency: Option<Idempotency>) -> Result<Vec<Job>, StoreError> {
        todo!()
    }
    pub async fn cancel(&self, id: JobId) -> Result<Job, StoreError> {
        todo!()
    }
    /// Removes original, its jobs' local results; queues the deletion of objects and retained states.
    pub async fn delete_photo(&self, id: PhotoId) -> Result<(), StoreError> {
        todo!()
    }
    /// Remembers a capture's answer under its key.
    pub async fn remember(&self, owner: &UserId, idempotency: Idempotency, answer: Answer) -> Result<(), StoreError> {
        todo!()
    }

    // ---- writes: from the worker
    pub async fn claim(&self, id: JobId) -> Result<Job, StoreError> {
        todo!()
    }
    pub async fn step(&self, id: JobId, stage: Stage, step_ms: StepMs) -> Result<Job, StoreError> {
        todo!()
    }
    pub async fn complete(&self, id: JobId, outcome: Outcome) -> Result<Job, StoreError> {
        todo!()
    }
    pub async fn fail(&self, id: JobId, fault: Fault, step_ms: StepMs, retry_in: Duration) -> Result<Job, StoreError> {
        todo!()
    }
    pub async fn put_back(&self, id: JobId) -> Result<Job, StoreError> {
        todo!()
    }

    // ---- deliveries: for the outbox
    /// The last event that the broker confirmed.
    pub fn mqtt_cursor(&self) -> Seq {
        todo!()
    }
    pub async fn mqtt_confirmed(&self, up_to: Seq) -> Result<(), StoreError> {
        todo!()
    }
    /// Jobs whose retained MQTT state is due to be cleared (an hour after their end, or at once after a delete).
    pub fn mqtt_clears(&self) -> Vec<JobId> {
        todo!()
    }
    pub async fn mqtt_cleared(&self, id: JobId) -> Result<(), StoreError> {
        todo!()
    }
    /// Rows that are due now (their backoff has passed), in the order of their seq; `newest_first` turns it round.
    pub fn due_uploads(&self, limit: usize, newest_first: bool) -> Vec<UploadRow> {
        todo!()
    }
    /// When the next row that backs off becomes due (monotonic).
    pub fn next_upload_due(&self) -> Option<Duration> {
        todo!()
    }
    /// The row's first attempt begins: the job shows `uploading`.
    pub async fn upload_started(&self, row: Seq) -> Result<(), StoreError> {
        todo!()
    }
    /// The server vouched. The job's last row makes it `uploaded` and announces that, in the same transaction.
    pub async fn upload_confirmed(&self, row: Seq) -> Result<(), StoreError> {
        todo!()
    }
    /// Tried and failed: again after `backoff`.
    pub async fn upload_deferred(&self, row: Seq, backoff: Duration) -> Result<(), StoreError> {
        todo!()
    }
    /// The local file is gone for good: the row goes, its job shows `failed`.
    pub async fn upload_given_up(&self, row: Seq) -> Result<(), StoreError> {
        todo!()
    }

    /// Waits for the queue of commits, then closes.
    pub async fn close(&self) {
        todo!()
    }
}

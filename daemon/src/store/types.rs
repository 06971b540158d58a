//! The words in which the rest of the house speaks with the store.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::BadRecord;
use crate::{
    domain::{
        event::JobEvent,
        ids::{JobId, PhotoId, Seq, Sha256, UserId},
        job::{Lane, Merge, Status},
        photo::{ClientInfo, Eye, ImageFormat, Source},
        transition::Refused,
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
    /// A broker is configured: events wait for it.
    pub mqtt: bool,
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
    #[error("{used} bytes of photos and results are kept; the cap is {cap}")]
    OverCap { used: u64, cap: u64 },
    #[error("an unfinished job needs the photo")]
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
    /// The index answered nonsense; it is set aside and rebuilt from the journal at the next start.
    #[error("store: {0}")]
    Index(String),
}

impl From<sled::Error> for StoreError {
    fn from(e: sled::Error) -> Self {
        match e {
            sled::Error::Io(e) => Self::Io(e),
            other => Self::Index(other.to_string()),
        }
    }
}

impl From<BadRecord> for StoreError {
    fn from(e: BadRecord) -> Self {
        Self::Index(e.to_string())
    }
}

/// An Idempotency-Key, whose it is, and the hash of what came with it (method, path and body). A key is its caller's, whoever owns the rows that
/// the request writes (an admin's jobs belong to the photo's owner).
#[derive(Debug, Clone)]
pub struct Idempotency {
    pub caller: UserId,
    pub key: String,
    pub body: Sha256,
}

/// Which uploads go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    Oldest,
    Newest,
    /// Rows that are refused time and again must not stand before all others.
    LeastTried,
}

/// What a key was answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Photo(PhotoId),
    /// An upload of bytes that were known.
    KnownPhoto(PhotoId),
    Jobs(Vec<JobId>),
    Capture {
        photo: PhotoId,
        job: Option<JobId>,
        /// The burst's other frames that were kept.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<PhotoId>,
    },
}

/// A photo whose bytes already lie fsynced under `blobs/`.
#[derive(Clone)]
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
    /// Of each of the jobs; `user_id` must own these photos as well.
    pub merge: Option<Merge>,
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
    /// This very instant.
    pub captured_at: Option<Timestamp>,
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

impl Waiting {
    pub fn is_due(&self, now: Duration) -> bool {
        self.not_before.is_none_or(|t| t <= now)
    }
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
    /// Key of an object that is to go.
    Delete(String),
}

/// One thing that the bucket is still to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRow {
    pub seq: Seq,
    pub task: UploadTask,
    pub attempts: u32,
}

/// Jobs before a waiting one, in the order in which they will be served, ageing aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ahead {
    pub high: usize,
    pub default: usize,
}

impl Ahead {
    /// The job's place, from 0.
    pub fn place(self) -> usize {
        self.high + self.default
    }
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
    /// Set when the index was rebuilt from the journal: why.
    pub rebuilt: Option<String>,
    /// Set when frames of the journal were lost: what is known about it.
    pub journal_damage: Option<String>,
    /// Rows of an older format that were written anew.
    pub upgraded: usize,
    /// Jobs that ran when the process died.
    pub recovered_jobs: usize,
}

//! A row as the view needs it: the few facts that lists, queue and counts are made of, read before anybody has to wait for it.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::{UploadEntry, jobs::Here};
use crate::{
    domain::{
        event::EventKind,
        ids::{JobId, PhotoId, Seq, Sha256, UserId},
        job::{Annotated, Lane, Merge, Status, UploadStatus},
        photo::Eye,
    },
    store::{
        journal::Op,
        record::{self, BadRecord},
        rows::{self, Clear, Idem, UploadRecord},
    },
};

/// An upload, and a job's retry, never wait longer than this after a restart, whatever the wall clock says.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
pub const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// A finished job's retained state stands for this long after a restart, whatever the wall clock says.
const SHORTEST_STATE: Duration = Duration::from_secs(600);
/// An Idempotency-Key is answered for 24 h (contract).
const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3600);

/// The two clocks at the moment of a commit.
#[derive(Clone, Copy)]
pub struct Instant {
    pub wall: Timestamp,
    pub mono: Duration,
}

impl Instant {
    /// Monotonic time at which `wall` is reached; a wall clock that jumped costs at most `limit`.
    pub fn due(self, wall: Timestamp, limit: Duration) -> Duration {
        let wait = Duration::try_from(wall.duration_since(self.wall)).unwrap_or_default();
        self.mono + wait.min(limit)
    }
}

/// Of a job row; the rest of it is read when somebody asks for the job.
#[derive(Deserialize)]
pub struct JobFacts {
    pub id: JobId,
    pub seq: Seq,
    pub photo_id: PhotoId,
    #[serde(default)]
    merge: Option<Merge>,
    pub user_id: UserId,
    pub lane: Lane,
    pub status: Status,
    artifacts: Option<ArtifactFacts>,
    #[serde(default)]
    annotated: Option<Annotated>,
    pub upload: UploadStatus,
    pub not_before: Option<Timestamp>,
    #[serde(default)]
    pub client_ref: Option<String>,
    #[serde(default)]
    pub eye: Option<Eye>,
    #[serde(default)]
    pub captured_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct ArtifactFacts {
    files: FileFacts,
    report_bytes: u64,
    #[serde(default)]
    thumb_bytes: u64,
    on_disk: bool,
}

#[derive(Deserialize)]
struct FileFacts {
    image: Size,
    mask: Size,
    synthetic: Size,
}

#[derive(Deserialize)]
struct Size {
    bytes: u64,
}

impl JobFacts {
    pub fn merged(&self) -> &[PhotoId] {
        self.merge.as_ref().map_or(&[], |merge| &merge.with)
    }

    /// What of it lies on this device.
    pub fn here(&self) -> Here {
        let result = self.artifacts.as_ref().filter(|a| a.on_disk);
        let annotated = self.annotated.filter(|a| a.on_disk);
        match (result, annotated) {
            (Some(a), _) => {
                let bytes = a.files.image.bytes + a.files.mask.bytes + a.files.synthetic.bytes + a.report_bytes + a.thumb_bytes;
                Here::Result { bytes, uploaded: self.upload == UploadStatus::Uploaded }
            }
            (None, Some(a)) => Here::Annotated { bytes: a.bytes },
            (None, None) => Here::Nothing,
        }
    }
}

/// Of a photo row.
#[derive(Deserialize)]
pub struct PhotoFacts {
    pub id: PhotoId,
    pub seq: Seq,
    pub user_id: UserId,
    pub sha256: Sha256,
    pub bytes: u64,
    pub on_disk: bool,
    pub uploaded: bool,
    #[serde(default)]
    pub client_ref: Option<String>,
    #[serde(default)]
    pub eye: Option<Eye>,
    #[serde(default)]
    pub captured_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct EventFacts {
    seq: Seq,
    ts: Timestamp,
    event: EventKind,
}

/// What a row means for the view, read before anybody has to wait for it.
pub enum Change {
    /// A row that is only ever asked for by its key.
    Nothing,
    Photo(Box<PhotoFacts>),
    NoPhoto(PhotoId),
    Job(Box<JobFacts>, Instant),
    /// The second is the time of an upload that it confirms.
    Event(Seq, Option<Timestamp>),
    NoEvent(Seq),
    Upload(Seq, UploadEntry),
    NoUpload(Seq),
    Cursor(Seq),
    Clear(JobId, Seq, Duration),
    NoClear(JobId),
    Key(Vec<u8>, Duration),
    NoKey(Vec<u8>),
}

impl Change {
    pub fn of(op: &Op, at: Instant) -> Result<Self, BadRecord> {
        match op {
            Op::Put { key, value } => Self::put(key, value, at),
            Op::Delete { key } => Ok(Self::deleted(key)),
        }
    }

    pub fn put(key: &[u8], value: &[u8], at: Instant) -> Result<Self, BadRecord> {
        Ok(match key.first() {
            Some(b'p') => Self::Photo(record::decode(value)?),
            Some(b'j') => Self::Job(record::decode(value)?, at),
            Some(b'e') => {
                let event: EventFacts = record::decode(value)?;
                Self::Event(event.seq, (event.event == EventKind::Uploaded).then_some(event.ts))
            }
            Some(b'u') => {
                let Some(seq) = rows::seq_of(key) else { return Ok(Self::Nothing) };
                let u: UploadRecord = record::decode(value)?;
                let due = u.not_before.map_or(at.mono, |t| at.due(t, LONGEST_WAIT));
                let bytes = u.file.as_ref().map_or(0, |f| f.bytes);
                Self::Upload(seq, UploadEntry { bytes, attempts: u.attempts, due, s3_key: u.s3_key, subject: u.subject, in_flight: false })
            }
            Some(b'q') => Self::Cursor(record::decode(value)?),
            Some(b'c') => {
                let Some(id) = rows::job_of(key) else { return Ok(Self::Nothing) };
                let clear: Clear = record::decode(value)?;
                let end = clear.since + jiff::SignedDuration::from_millis(clear.wait_ms.min(3_600_000) as i64);
                // A clock that jumped ahead over a restart must not clear the state of a job that ended a minute ago.
                let kept = Duration::from_millis(clear.wait_ms).min(SHORTEST_STATE);
                Self::Clear(id, clear.after, at.due(end, Duration::from_secs(3600)).max(at.mono + kept))
            }
            Some(b'k') => {
                let idem: Idem = record::decode(value)?;
                let age = Duration::try_from(at.wall.duration_since(idem.at)).unwrap_or_default();
                // A clock that jumped ahead over a restart must not forget a key that came a minute ago.
                let left = IDEMPOTENCY_KEPT.saturating_sub(age).max(Duration::from_secs(3600));
                Self::Key(key.to_vec(), at.mono + left)
            }
            _ => {
                record::check(value)?;
                Self::Nothing
            }
        })
    }

    fn deleted(key: &[u8]) -> Self {
        let change = match key.first() {
            Some(b'p') => key.get(1..).and_then(|id| uuid::Uuid::from_slice(id).ok()).map(|id| Self::NoPhoto(PhotoId(id))),
            Some(b'u') => rows::seq_of(key).map(Self::NoUpload),
            Some(b'c') => rows::job_of(key).map(Self::NoClear),
            Some(b'k') => Some(Self::NoKey(key.to_vec())),
            Some(b'e') => rows::seq_of(key).map(Self::NoEvent),
            _ => None,
        };
        change.unwrap_or(Self::Nothing)
    }
}

//! What the store keeps in memory to answer at once: lists, the queue, counts. Made by reading every row once, kept by the same
//! [`View::apply`] after each commit; only durable rows come in here, so nobody is shown what a power cut could take back.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    journal::Op,
    record::{self, BadRecord},
    rows::{self, Clear, Idem, Subject, UploadRecord},
    types::{Filter, Waiting},
};
use crate::domain::{
    event::{EventKind, JobEvent},
    ids::{JobId, PhotoId, Seq, Sha256, UserId},
    job::{Job, Lane, Status, UploadStatus},
    photo::{Eye, Photo},
};

/// An upload, and a job's retry, never wait longer than this after a restart, whatever the wall clock says.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// A finished job's retained state stands for this long after a restart, whatever the wall clock says.
const SHORTEST_STATE: Duration = Duration::from_secs(600);
/// An Idempotency-Key is answered for 24 h (contract).
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3600);

pub struct JobEntry {
    pub id: JobId,
    pub photo: PhotoId,
    pub owner: UserId,
    pub status: Status,
    client: ClientKey,
    result_bytes: u64,
    /// The bucket has the result, and it still lies here.
    pub evictable: bool,
}

pub struct PhotoEntry {
    pub id: PhotoId,
    pub owner: UserId,
    pub sha256: Sha256,
    client: ClientKey,
    pub bytes: u64,
    pub on_disk: bool,
    pub uploaded: bool,
}

/// What lists filter by; the reference as a hash, since a million of them would not fit.
#[derive(PartialEq, Eq)]
struct ClientKey {
    eye: Option<Eye>,
    reference: Option<u32>,
    captured_at: Option<Timestamp>,
}

pub struct UploadEntry {
    pub bytes: u64,
    pub due: Duration,
    pub s3_key: String,
    pub subject: Subject,
    /// An attempt runs just now (known in this run only).
    pub in_flight: bool,
}

#[derive(Default)]
pub struct View {
    pub jobs: BTreeMap<Seq, JobEntry>,
    pub photos: BTreeMap<Seq, PhotoEntry>,
    pub photo_seq: HashMap<PhotoId, Seq>,
    pub jobs_of_photo: HashMap<PhotoId, Vec<JobId>>,
    /// The newest job of a photo whose result lies here.
    pub results: HashMap<PhotoId, (Seq, JobId)>,
    /// Photo rows that need the blob.
    pub blobs: HashMap<Sha256, u32>,
    /// In the order in which they are served, ageing aside.
    pub waiting: BTreeMap<(Lane, Seq), Waiting>,
    pub running: HashSet<JobId>,
    pub uploads: BTreeMap<Seq, UploadEntry>,
    /// Objects that an attempt is under way for.
    pub busy: HashMap<Seq, String>,
    pub clears: BTreeMap<JobId, (Seq, Duration)>,
    pub idempotency: BTreeMap<Vec<u8>, Duration>,
    pub first_event: Option<Seq>,
    pub last_event: Seq,
    pub cursor: Seq,
    pub used_bytes: u64,
    pub last_confirmed: Option<Timestamp>,
}

/// What a row means for the view, read before anybody has to wait for it.
pub enum Change {
    /// A row that is only ever asked for by its key.
    Nothing,
    Photo(Box<Photo>),
    NoPhoto(PhotoId),
    Job(Box<Job>, Instant),
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
                let event: JobEvent = record::decode(value)?;
                Self::Event(event.seq, (event.event == EventKind::Uploaded).then_some(event.ts))
            }
            Some(b'u') => {
                let Some(seq) = rows::seq_of(key) else { return Ok(Self::Nothing) };
                let u: UploadRecord = record::decode(value)?;
                let due = u.not_before.map_or(at.mono, |t| at.due(t, LONGEST_WAIT));
                let bytes = u.file.as_ref().map_or(0, |f| f.bytes);
                Self::Upload(seq, UploadEntry { bytes, due, s3_key: u.s3_key, subject: u.subject, in_flight: false })
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

/// The two clocks at the moment of a commit.
#[derive(Clone, Copy)]
pub struct Instant {
    pub wall: Timestamp,
    pub mono: Duration,
}

impl Instant {
    /// Monotonic time at which `wall` is reached; a wall clock that jumped costs at most `limit`.
    fn due(self, wall: Timestamp, limit: Duration) -> Duration {
        let wait = Duration::try_from(wall.duration_since(self.wall)).unwrap_or_default();
        self.mono + wait.min(limit)
    }
}

fn client_key(c: &crate::domain::photo::ClientInfo) -> ClientKey {
    ClientKey { eye: c.eye, reference: c.client_ref.as_ref().map(|r| crc32fast::hash(r.as_bytes())), captured_at: c.captured_at }
}

fn matches_client(key: &ClientKey, filter: &Filter) -> bool {
    filter.eye.is_none_or(|e| key.eye == Some(e))
        && filter.captured_at.is_none_or(|t| key.captured_at == Some(t))
        && filter.client_ref.as_ref().is_none_or(|r| key.reference == Some(crc32fast::hash(r.as_bytes())))
}

impl JobEntry {
    pub fn has_result_here(&self) -> bool {
        self.result_bytes > 0
    }

    pub fn result_bytes(&self) -> u64 {
        self.result_bytes
    }

    pub fn passes(&self, f: &Filter) -> bool {
        f.owner.as_ref().is_none_or(|o| *o == self.owner)
            && f.status.is_none_or(|s| s == self.status)
            && f.photo.is_none_or(|p| p == self.photo)
            && matches_client(&self.client, f)
    }
}

impl PhotoEntry {
    pub fn passes(&self, f: &Filter) -> bool {
        f.owner.as_ref().is_none_or(|o| *o == self.owner) && f.photo.is_none_or(|p| p == self.id) && matches_client(&self.client, f)
    }
}

impl View {
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::Photo(p) => self.put_photo(*p),
            Change::NoPhoto(id) => self.forget_photo(id),
            Change::Job(j, at) => self.put_job(*j, at),
            Change::Event(seq, confirmed) => {
                self.first_event = Some(self.first_event.map_or(seq, |f| f.min(seq)));
                self.last_event = self.last_event.max(seq);
                self.last_confirmed = self.last_confirmed.max(confirmed);
            }
            Change::NoEvent(seq) => self.first_event = self.first_event.map(|f| f.max(Seq(seq.0 + 1))),
            Change::Upload(seq, entry) => {
                let in_flight = self.uploads.get(&seq).is_some_and(|e| e.in_flight);
                self.uploads.insert(seq, UploadEntry { in_flight, ..entry });
            }
            Change::NoUpload(seq) => {
                self.uploads.remove(&seq);
            }
            Change::Cursor(seq) => self.cursor = seq,
            Change::Clear(id, after, due) => {
                self.clears.insert(id, (after, due));
            }
            Change::NoClear(id) => {
                self.clears.remove(&id);
            }
            Change::Key(key, until) => {
                self.idempotency.insert(key, until);
            }
            Change::NoKey(key) => {
                self.idempotency.remove(&key);
            }
        }
    }

    fn put_photo(&mut self, p: Photo) {
        self.forget_photo(p.id);
        if p.on_disk {
            let users = self.blobs.entry(p.sha256).or_insert(0);
            if *users == 0 {
                self.used_bytes += p.bytes;
            }
            *users += 1;
        }
        self.photo_seq.insert(p.id, p.seq);
        let client = client_key(&p.client);
        let entry =
            PhotoEntry { id: p.id, owner: p.user_id, sha256: p.sha256, client, bytes: p.bytes, on_disk: p.on_disk, uploaded: p.uploaded };
        self.photos.insert(p.seq, entry);
    }

    fn forget_photo(&mut self, id: PhotoId) {
        let Some(old) = self.photo_seq.remove(&id).and_then(|seq| self.photos.remove(&seq)) else { return };
        if old.on_disk
            && let Some(users) = self.blobs.get_mut(&old.sha256)
        {
            *users -= 1;
            if *users == 0 {
                self.blobs.remove(&old.sha256);
                self.used_bytes -= old.bytes;
            }
        }
    }

    fn put_job(&mut self, j: Job, at: Instant) {
        let result_bytes = j
            .artifacts
            .as_ref()
            .filter(|a| a.on_disk)
            .map_or(0, |a| a.files.image.bytes + a.files.mask.bytes + a.files.synthetic.bytes + a.report_bytes);
        let first_seen = !self.jobs.contains_key(&j.seq);
        if first_seen {
            self.jobs_of_photo.entry(j.photo_id).or_default().push(j.id);
        }
        match j.status {
            Status::Pending => {
                let since = self.waiting.get(&(j.lane, j.seq)).map_or(at.mono, |w| w.since);
                let not_before = j.not_before.map(|t| at.due(t, LONGEST_RETRY));
                self.waiting.insert((j.lane, j.seq), Waiting { id: j.id, seq: j.seq, lane: j.lane, since, not_before });
                self.running.remove(&j.id);
            }
            Status::Processing => {
                self.waiting.remove(&(j.lane, j.seq));
                self.running.insert(j.id);
            }
            _ => {
                self.waiting.remove(&(j.lane, j.seq));
                self.running.remove(&j.id);
            }
        }
        let newest = self.results.get(&j.photo_id).copied();
        if result_bytes > 0 && newest.is_none_or(|(seq, _)| seq <= j.seq) {
            self.results.insert(j.photo_id, (j.seq, j.id));
        } else if result_bytes == 0 && newest.is_some_and(|(_, id)| id == j.id) {
            self.results.remove(&j.photo_id);
        }
        let client = client_key(&j.client);
        let evictable = j.upload == UploadStatus::Uploaded && result_bytes > 0;
        let entry = JobEntry { id: j.id, photo: j.photo_id, owner: j.user_id, status: j.status, client, result_bytes, evictable };
        let old = self.jobs.insert(j.seq, entry);
        self.used_bytes = self.used_bytes + result_bytes - old.map_or(0, |o| o.result_bytes);
    }

    /// An attempt at an upload begins or ends. The object stays busy even where its row was taken back in the meantime.
    pub fn set_in_flight(&mut self, seq: Seq, now: bool) {
        if let Some(entry) = self.uploads.get_mut(&seq) {
            entry.in_flight = now;
            if now {
                self.busy.insert(seq, entry.s3_key.clone());
            }
        }
        if !now {
            self.busy.remove(&seq);
        }
    }

    /// A waiting job's place, from 0.
    pub fn position(&self, job: &Job) -> Option<usize> {
        let key = (job.lane, job.seq);
        self.waiting.contains_key(&key).then(|| self.waiting.range(..key).count())
    }

    /// Waiting jobs of one lane, in their order.
    pub fn lane(&self, lane: Lane) -> impl Iterator<Item = &Waiting> {
        self.waiting.range((lane, Seq(0))..=(lane, Seq(u64::MAX))).map(|(_, w)| w)
    }

    pub fn pending(&self, lane: Lane) -> usize {
        self.lane(lane).count()
    }
}

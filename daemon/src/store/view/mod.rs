//! What the store keeps in memory to answer at once: lists, the queue, counts. Made by reading every row once, kept by the same
//! [`View::apply`] after each commit; only durable rows come in here, so nobody is shown what a power cut could take back.
//!
//! Ids are 16 bytes here and owners numbers; a finished job is 48 bytes, a photo some 40, and more only while files of theirs lie here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;

pub use self::change::{Change, Instant};
use self::{
    change::{JobFacts, PhotoFacts},
    clears::{Clear, Clears},
    jobs::{JobEntry, Jobs},
    merging::Merging,
    photos::{Original, Photos},
    ranks::Ranks,
    table::{Labels, Owners},
};
use super::{
    rows::Subject,
    types::{Ahead, Filter, Page, Waiting},
};
use crate::domain::{
    ids::{JobId, PhotoId, Seq, Sha256},
    job::{Job, Lane, Status},
};

mod change;
mod clears;
mod jobs;
mod merging;
mod photos;
mod ranks;
mod table;

pub struct UploadEntry {
    pub bytes: u64,
    pub attempts: u32,
    pub due: Duration,
    pub s3_key: String,
    pub subject: Subject,
    /// An attempt runs just now (known in this run only).
    pub in_flight: bool,
}

#[derive(Default)]
pub struct View {
    owners: Owners,
    pub jobs: Jobs,
    pub photos: Photos,
    /// Rows come in the order of their keys, each once, until [`View::loaded`].
    loading: bool,
    /// In the order in which they are served, ageing aside.
    pub waiting: BTreeMap<(Lane, Seq), Waiting>,
    /// Their seqs, by lane.
    ranks: [Ranks; 2],
    pub running: HashSet<JobId>,
    merging: Merging,
    pub uploads: BTreeMap<Seq, UploadEntry>,
    subjects: BTreeSet<(Subject, Seq)>,
    /// Objects that an attempt is under way for.
    pub busy: HashMap<Seq, String>,
    pub clears: Clears,
    pub idempotency: BTreeMap<Vec<u8>, Duration>,
    pub first_event: Option<Seq>,
    pub last_event: Seq,
    pub cursor: Seq,
    pub last_confirmed: Option<Timestamp>,
}

impl View {
    /// From here on rows come in the order of their keys, each once; [`View::loaded`] must follow before anybody asks.
    pub fn load(&mut self) {
        self.loading = true;
    }

    pub fn loaded(&mut self) {
        self.loading = false;
        self.photos.loaded();
        self.jobs.loaded(&mut self.photos);
    }

    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::Photo(p) => self.put_photo(*p),
            Change::NoPhoto(id) => self.photos.remove(id),
            Change::Job(j, at) => self.put_job(*j, at),
            Change::Event(seq, confirmed) => {
                self.first_event = Some(self.first_event.map_or(seq, |f| f.min(seq)));
                self.last_event = self.last_event.max(seq);
                self.last_confirmed = self.last_confirmed.max(confirmed);
            }
            Change::NoEvent(seq) => self.first_event = self.first_event.map(|f| f.max(Seq(seq.0 + 1))),
            Change::Upload(seq, entry) => {
                let in_flight = self.uploads.get(&seq).is_some_and(|e| e.in_flight);
                self.subjects.insert((entry.subject, seq));
                self.uploads.insert(seq, UploadEntry { in_flight, ..entry });
            }
            Change::NoUpload(seq) => {
                if let Some(entry) = self.uploads.remove(&seq) {
                    self.subjects.remove(&(entry.subject, seq));
                }
            }
            Change::Cursor(seq) => self.cursor = seq,
            Change::Clear(id, after, due) => {
                self.clears.insert(Clear { id, after, due });
            }
            Change::NoClear(id) => self.clears.remove(id),
            Change::Key(key, until) => {
                self.idempotency.insert(key, until);
            }
            Change::NoKey(key) => {
                self.idempotency.remove(&key);
            }
        }
    }

    fn put_photo(&mut self, p: PhotoFacts) {
        // A photo has no status: any will do, as long as it is always the same.
        let status = Status::Completed;
        let owner = self.owners.number(&p.user_id);
        let labels = Labels { owner, status, eye: p.eye, reference: p.client_ref.as_deref(), captured_at: p.captured_at };
        let original = p.on_disk.then_some(Original { sha256: p.sha256, bytes: p.bytes, uploaded: p.uploaded });
        if self.loading { self.photos.load(p.seq, &labels, p.id, original) } else { self.photos.put(p.seq, &labels, p.id, original) }
    }

    fn put_job(&mut self, j: JobFacts, at: Instant) {
        if j.status.is_final() {
            self.merging.no_more(j.merged(), j.id);
        } else {
            self.merging.needed(j.merged(), j.id);
        }
        match j.status {
            Status::Pending => self.wait(&j, at),
            Status::Processing => {
                self.wait_no_more(j.lane, j.seq);
                self.running.insert(j.id);
            }
            _ => {
                self.wait_no_more(j.lane, j.seq);
                self.running.remove(&j.id);
            }
        }
        let owner = self.owners.number(&j.user_id);
        let labels = Labels { owner, status: j.status, eye: j.eye, reference: j.client_ref.as_deref(), captured_at: j.captured_at };
        let (entry, here) = (JobEntry::new(j.id, j.photo_id), j.here());
        if self.loading {
            self.jobs.load(j.seq, &labels, entry, here)
        } else {
            self.jobs.put(j.seq, &labels, entry, here, &mut self.photos)
        }
    }

    fn wait(&mut self, j: &JobFacts, at: Instant) {
        let since = self.waiting.get(&(j.lane, j.seq)).map_or(at.mono, |w| w.since);
        let not_before = j.not_before.map(|t| at.due(t, change::LONGEST_RETRY));
        self.waiting.insert((j.lane, j.seq), Waiting { id: j.id, seq: j.seq, lane: j.lane, since, not_before });
        self.ranks[j.lane as usize].insert(j.seq.0);
        self.running.remove(&j.id);
    }

    fn wait_no_more(&mut self, lane: Lane, seq: Seq) {
        if self.waiting.remove(&(lane, seq)).is_some() {
            self.ranks[lane as usize].remove(seq.0);
        }
    }

    /// Newest first: ids, how many there are in all, where the next page begins.
    pub fn list_jobs(&self, filter: &Filter, page: Page) -> (Vec<JobId>, usize, Option<Seq>) {
        let table = &self.jobs.table;
        let (places, total, next) = match filter.photo {
            Some(photo) => {
                let among: Vec<usize> = match self.photos.place_of(photo) {
                    Some(_) => self.jobs.of_photo(photo, &self.photos).collect(),
                    // The photo was deleted: its jobs' rows stay.
                    None => (0..table.places()).rev().filter(|place| table.at(*place).photo == photo).collect(),
                };
                table.page_among(&among, filter, &self.owners, page)
            }
            None => table.page(filter, &self.owners, page),
        };
        (places.into_iter().map(|place| table.at(place).id).collect(), total, next)
    }

    /// The same of photos; their status is not asked for.
    pub fn list_photos(&self, filter: &Filter, page: Page) -> (Vec<PhotoId>, usize, Option<Seq>) {
        let table = &self.photos.table;
        let filter = &Filter { status: None, ..filter.clone() };
        let (places, total, next) = match filter.photo {
            Some(photo) => {
                let among: Vec<usize> = self.photos.place_of(photo).into_iter().collect();
                table.page_among(&among, filter, &self.owners, page)
            }
            None => table.page(filter, &self.owners, page),
        };
        (places.into_iter().map(|place| table.at(place).id).collect(), total, next)
    }

    /// Oldest first.
    pub fn jobs_of_photo(&self, id: PhotoId) -> Vec<JobId> {
        let mut ids: Vec<JobId> = self.jobs.of_photo(id, &self.photos).map(|place| self.jobs.table.at(place).id).collect();
        ids.reverse();
        ids
    }

    /// The jobs of this job's photo whose results lie here, newest first: those before it, then those after it. A queue is mostly served in its
    /// order, so thousands that wait after it are mostly not looked at.
    pub fn results_for(&self, job: &Job) -> impl Iterator<Item = JobId> {
        let own = self.jobs.table.place_of(job.seq);
        let before = own.into_iter().flat_map(|place| self.jobs.before(place));
        let after = self.jobs.of_photo(job.photo_id, &self.photos).take_while(move |place| Some(*place) != own);
        let places = before.chain(after).filter(|place| self.jobs.has_result_here(*place));
        places.map(|place| self.jobs.table.at(place).id)
    }

    /// Jobs that may need this photo's original: its own, finished ones too, and unfinished ones that merge it.
    pub fn users_of(&self, id: PhotoId) -> Vec<JobId> {
        let mut ids = self.jobs_of_photo(id);
        ids.extend(self.merging.jobs_of(id));
        ids
    }

    /// Whether an unfinished job needs this photo's original.
    fn needs(&self, id: PhotoId) -> bool {
        let unfinished = |place: usize| {
            let (seq, job) = (self.jobs.table.seq_at(place), self.jobs.table.at(place).id);
            self.running.contains(&job) || [Lane::HighPriority, Lane::Default].iter().any(|lane| self.waiting.contains_key(&(*lane, seq)))
        };
        self.merging.jobs_of(id).next().is_some() || self.jobs.of_photo(id, &self.photos).any(unfinished)
    }

    /// Originals that may go: the bucket has them, nobody else needs the blob, no unfinished job needs them. Oldest first.
    pub fn evictable_originals(&self) -> impl Iterator<Item = (Seq, PhotoId, u64)> {
        self.photos.evictable().filter(|(_, id, _)| !self.needs(*id))
    }

    /// Photo rows that need the blob.
    pub fn blob_users(&self, sha256: &Sha256) -> u32 {
        self.photos.users(sha256)
    }

    /// Bytes of originals and results on the disk.
    pub fn used_bytes(&self) -> u64 {
        self.photos.bytes + self.jobs.bytes
    }

    /// Uploads about this, oldest first.
    pub fn uploads_of(&self, subject: Subject) -> impl Iterator<Item = Seq> {
        self.subjects.range((subject, Seq(0))..=(subject, Seq(u64::MAX))).map(|(_, seq)| *seq)
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

    /// Who comes before a waiting job.
    pub fn ahead(&self, job: &Job) -> Option<Ahead> {
        if !self.waiting.contains_key(&(job.lane, job.seq)) {
            return None;
        }
        let before = self.ranks[job.lane as usize].below(job.seq.0);
        Some(match job.lane {
            Lane::HighPriority => Ahead { high: before, default: 0 },
            Lane::Default => Ahead { high: self.pending(Lane::HighPriority), default: before },
        })
    }

    /// Waiting jobs of one lane, in their order.
    pub fn lane(&self, lane: Lane) -> impl Iterator<Item = &Waiting> {
        self.waiting.range((lane, Seq(0))..=(lane, Seq(u64::MAX))).map(|(_, w)| w)
    }

    pub fn pending(&self, lane: Lane) -> usize {
        self.ranks[lane as usize].len()
    }
}

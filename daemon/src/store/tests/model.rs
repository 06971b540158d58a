//! What must be true of a store, as plain values without a disk: `machine.rs` does the same things to both.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{domain::event::EventKind, scheduler::InWork};

/// Bytes that a photo, a result and the picture of a refused photo of the tests take.
const PHOTO_BYTES: u64 = 1;
const RESULT_BYTES: u64 = 40;
const PICTURE_BYTES: u64 = 9;
const RETRY: u64 = 3000;
const STATE_KEPT: u64 = 3_600_000;
const STATE_AFTER_START: u64 = 600_000;

struct PhotoModel {
    n: u8,
    id: PhotoId,
    key: String,
    here: bool,
    uploaded: bool,
    deleted: bool,
}

struct JobModel {
    id: JobId,
    /// Its place among the photos.
    photo: usize,
    /// Of one photo that it merges.
    merges: Option<usize>,
    lane: Lane,
    status: Status,
    attempt: u32,
    retried: bool,
    not_before: Option<u64>,
    since: u64,
    step: Option<Stage>,
    /// The step in which the process died last, and how often in a row.
    deaths: (Option<Stage>, u32),
    here: bool,
    upload: UploadStatus,
    /// Objects that it waits for.
    owes: BTreeSet<String>,
    /// Its retained state goes once the broker has this event and it is so late.
    clear: Option<(u64, u64)>,
    /// How long it stands, counted from the end or the deletion, and at least for this long after a start.
    stands: u64,
}

/// A row for the bucket: its key, and whether the object is to go.
type Row = (String, bool);

#[derive(Default)]
pub struct Model {
    /// ms; the two clocks go together.
    pub now: u64,
    photos: Vec<PhotoModel>,
    /// In the order of their submission.
    jobs: Vec<JobModel>,
    events: Vec<(JobId, EventKind)>,
    /// When each may be tried.
    owed: BTreeMap<Row, u64>,
    bucket: BTreeSet<String>,
    /// Events that the broker has, and those of them that it confirmed.
    told: u64,
    cursor: u64,
}

impl Model {
    fn photo_at(&self, n: u8) -> Option<usize> {
        self.photos.iter().position(|p| p.n == n && !p.deleted)
    }

    pub fn photo_id(&self, n: u8) -> Option<PhotoId> {
        self.photo_at(n).map(|at| self.photos[at].id)
    }

    pub fn is_here(&self, n: u8) -> bool {
        self.photo_at(n).is_some_and(|at| self.photos[at].here)
    }

    pub fn photo(&mut self, n: u8, id: PhotoId) {
        if let Some(at) = self.photo_at(n) {
            assert_eq!(id, self.photos[at].id, "the same bytes got a second row");
            self.photos[at].here = true;
            if !self.photos[at].uploaded {
                let key = self.photos[at].key.clone();
                self.owed.entry((key, false)).or_insert(self.now);
            }
            return;
        }
        let key = format!("photos/a/{id}.png");
        self.owed.insert((key.clone(), false), self.now);
        self.photos.push(PhotoModel { n, id, key, here: true, uploaded: false, deleted: false });
    }

    fn job(&mut self, id: JobId) -> &mut JobModel {
        self.jobs.iter_mut().find(|j| j.id == id).expect("a job of ours")
    }

    fn nth(&self, n: u8, fits: impl Fn(&JobModel) -> bool) -> Option<JobId> {
        let fit: Vec<JobId> = self.jobs.iter().filter(|j| fits(j)).map(|j| j.id).collect();
        fit.get(usize::from(n) % fit.len().max(1)).copied()
    }

    pub fn running(&self, n: u8) -> Option<JobId> {
        self.nth(n, |j| j.status == Status::Processing)
    }

    pub fn unfinished(&self, n: u8) -> Option<JobId> {
        self.nth(n, |j| !j.status.is_final())
    }

    pub fn in_use(&self, n: u8) -> bool {
        self.photo_at(n).is_some_and(|at| self.is_needed(at))
    }

    fn is_needed(&self, at: usize) -> bool {
        self.jobs.iter().any(|j| (j.photo == at || j.merges == Some(at)) && !j.status.is_final())
    }

    /// Each of one byte.
    pub fn in_work(&self) -> Vec<InWork> {
        let running = self.jobs.iter().filter(|j| j.status == Status::Processing);
        running.map(|j| InWork { id: j.id, lane: j.lane, bytes: 1, may_go_back: true }).collect()
    }

    pub fn waiting(&self) -> Vec<Waiting> {
        let ms = Duration::from_millis;
        let pending = self.jobs.iter().zip(1..).filter(|(j, _)| j.status == Status::Pending);
        pending
            .map(|(j, n)| Waiting { id: j.id, seq: Seq(n), lane: j.lane, since: ms(j.since), not_before: j.not_before.map(ms) })
            .collect()
    }

    fn announce(&mut self, id: JobId, kind: EventKind) {
        self.events.push((id, kind));
        let (seq, now) = (self.events.len() as u64, self.now);
        let job = self.job(id);
        if job.status.is_final() {
            (job.clear, job.stands) = (Some((seq, now + STATE_KEPT)), STATE_KEPT.min(STATE_AFTER_START));
        }
    }

    pub fn submitted(&mut self, n: u8, merges: Option<u8>, lane: Lane, ids: impl Iterator<Item = JobId>) {
        let photo = self.photo_at(n).expect("it was accepted");
        assert!(self.photos[photo].here, "a job without its original was accepted");
        assert!(merges.is_none_or(|other| self.is_here(other)), "a job without an original that it merges was accepted");
        let merges = merges.and_then(|other| self.photo_at(other));
        for id in ids {
            self.jobs.push(JobModel {
                id,
                photo,
                merges,
                lane,
                status: Status::Pending,
                attempt: 0,
                retried: false,
                not_before: None,
                since: self.now,
                step: None,
                deaths: (None, 0),
                here: false,
                upload: UploadStatus::Off,
                owes: BTreeSet::new(),
                clear: None,
                stands: 0,
            });
            self.announce(id, EventKind::Submitted);
        }
    }

    pub fn started(&mut self, id: JobId) {
        let job = self.job(id);
        job.status = Status::Processing;
        job.attempt += 1;
        job.not_before = None;
        job.step = Some(Stage::Load);
        let kind = if job.attempt == 1 { EventKind::Started } else { EventKind::Retried };
        self.announce(id, kind);
    }

    /// A running job goes on to its next step.
    pub fn next_step(&mut self, n: u8) -> Option<(JobId, Stage)> {
        let id = self.running(n)?;
        let job = self.job(id);
        let stage = Stage::ALL.into_iter().find(|s| Some(*s) > job.step)?;
        job.step = Some(stage);
        Some((id, stage))
    }

    fn ended(&mut self, id: JobId, status: Status, kind: EventKind) {
        let job = self.job(id);
        (job.status, job.step, job.not_before) = (status, None, None);
        self.announce(id, kind);
    }

    fn waits_again(&mut self, id: JobId) {
        let now = self.now;
        let job = self.job(id);
        (job.status, job.step, job.since) = (Status::Pending, None, now);
    }

    pub fn completed(&mut self, id: JobId) {
        self.ended(id, Status::Completed, EventKind::Completed);
        let mut owes: BTreeSet<String> = ["jpg", "png", "json"].iter().map(|end| format!("processed/a/{id}.{end}")).collect();
        let photo = self.job(id).photo;
        if !self.photos[photo].uploaded {
            owes.insert(self.photos[photo].key.clone());
        }
        for key in &owes {
            self.owed.entry((key.clone(), false)).or_insert(self.now);
        }
        let job = self.job(id);
        (job.here, job.upload, job.owes, job.deaths) = (true, UploadStatus::Pending, owes, (None, 0));
    }

    pub fn refused(&mut self, id: JobId) {
        self.ended(id, Status::Failed, EventKind::Failed);
        self.job(id).here = true;
    }

    pub fn failed(&mut self, id: JobId, transient: bool) {
        if !transient || self.job(id).retried {
            return self.ended(id, Status::Failed, EventKind::Failed);
        }
        self.waits_again(id);
        let at = self.now + RETRY;
        let job = self.job(id);
        (job.retried, job.not_before) = (true, Some(at));
    }

    pub fn cancelled(&mut self, id: JobId) {
        self.ended(id, Status::Cancelled, EventKind::Cancelled);
    }

    pub fn put_back(&mut self, id: JobId) {
        self.waits_again(id);
        self.job(id).deaths = (None, 0);
    }

    pub fn crashed(&mut self, limit: u32) {
        let running: Vec<JobId> = self.jobs.iter().filter(|j| j.status == Status::Processing).map(|j| j.id).collect();
        for id in running {
            let job = self.job(id);
            let in_a_row = if job.deaths.0 == job.step { job.deaths.1 + 1 } else { 1 };
            job.deaths = (job.step, in_a_row);
            if in_a_row >= limit { self.ended(id, Status::Failed, EventKind::Failed) } else { self.waits_again(id) }
        }
    }

    /// Who waits, waits since the start; a state that stands, stands for a while.
    pub fn reopened(&mut self) {
        let now = self.now;
        self.jobs.iter_mut().filter(|j| j.status == Status::Pending).for_each(|j| j.since = now);
        for job in &mut self.jobs {
            job.clear = job.clear.map(|(after, due)| (after, due.max(now + job.stands)));
        }
    }

    pub fn deleted(&mut self, n: u8) {
        assert!(!self.in_use(n), "a photo was deleted under its job");
        let at = self.photo_at(n).expect("it was there");
        let photo = &mut self.photos[at];
        photo.deleted = true;
        photo.here = false;
        let mut objects: BTreeSet<String> = photo.uploaded.then(|| photo.key.clone()).into_iter().collect();
        let mut mine = vec![photo.key.clone()];
        let (now, last) = (self.now, self.events.len() as u64);
        for job in self.jobs.iter_mut().filter(|j| j.photo == at) {
            let keys = ["jpg", "png", "json"].map(|end| format!("processed/a/{}.{end}", job.id));
            if job.upload != UploadStatus::Off {
                objects.extend(keys.clone());
            }
            mine.extend(keys);
            job.owes.clear();
            (job.here, job.upload, job.clear, job.stands) = (false, UploadStatus::Off, Some((last, now)), 0);
        }
        objects.extend(mine.into_iter().filter(|key| self.owed.remove(&(key.clone(), false)).is_some()));
        self.owed.extend(objects.into_iter().map(|key| ((key, true), now)));
    }

    pub fn upload_started(&mut self, key: &str, delete: bool) {
        let of_job = self.jobs.iter_mut().find(|j| !delete && key.starts_with(&format!("processed/a/{}.", j.id)));
        if let Some(job) = of_job.filter(|j| j.upload == UploadStatus::Pending) {
            job.upload = UploadStatus::Uploading;
        }
    }

    /// The bucket took it, or let it go.
    pub fn arrived(&mut self, key: &str, delete: bool) {
        if delete {
            self.bucket.remove(key)
        } else {
            self.bucket.insert(key.to_owned())
        };
    }

    pub fn vouched(&mut self, key: &str, delete: bool) {
        self.owed.remove(&(key.to_owned(), delete)).expect("it was owed");
        if delete {
            return;
        }
        self.photos.iter_mut().filter(|p| p.key == key).for_each(|p| p.uploaded = true);
        let waited: Vec<JobId> = self.jobs.iter_mut().filter_map(|j| j.owes.remove(key).then_some(j.id)).collect();
        for id in waited {
            let job = self.job(id);
            if job.owes.is_empty() {
                job.upload = UploadStatus::Uploaded;
                self.announce(id, EventKind::Uploaded);
            }
        }
    }

    pub fn deferred(&mut self, key: &str, delete: bool, wait: u64) {
        self.owed.insert((key.to_owned(), delete), self.now + wait);
    }

    pub fn given_up(&mut self, key: &str) {
        self.owed.remove(&(key.to_owned(), false));
        for job in self.jobs.iter_mut().filter(|j| j.owes.contains(key)) {
            job.upload = UploadStatus::Failed;
            job.owes.clear();
        }
    }

    pub fn heard(&mut self, seqs: impl Iterator<Item = u64>, confirmed: bool) {
        for (seq, expected) in seqs.zip(self.cursor + 1..) {
            assert_eq!(seq, expected, "the broker hears events out of their order");
            self.told = self.told.max(seq);
            if confirmed {
                self.cursor = seq;
            }
        }
    }

    pub fn cleared(&mut self, id: JobId) {
        let (cursor, now) = (self.cursor, self.now);
        let (after, due) = self.job(id).clear.take().expect("it had a state to clear");
        assert!(after <= cursor && due <= now, "a state was cleared too early");
    }

    pub fn evicted(&mut self) {
        for at in 0..self.photos.len() {
            let busy = self.is_needed(at);
            let photo = &mut self.photos[at];
            photo.here &= !photo.uploaded || busy;
        }
        self.jobs.iter_mut().for_each(|j| j.here &= j.status == Status::Completed && j.upload != UploadStatus::Uploaded);
    }

    pub fn check(&self, store: &Store) {
        self.check_jobs(store);
        self.check_photos(store);
        self.check_queue(store);
        self.check_deliveries(store);
        let here = |on: usize, bytes: u64| on as u64 * bytes;
        let used = here(self.photos.iter().filter(|p| p.here).count(), PHOTO_BYTES);
        let lying = |status| self.jobs.iter().filter(|j| j.here && j.status == status).count();
        let files = here(lying(Status::Completed), RESULT_BYTES) + here(lying(Status::Failed), PICTURE_BYTES);
        assert_eq!(store.space().used, used + files);
    }

    fn check_jobs(&self, store: &Store) {
        let found = store.jobs(&Filter::default(), ALL).expect("lists");
        let here = |j: &Job| j.artifacts.as_ref().is_some_and(|a| a.on_disk) || j.annotated.is_some_and(|a| a.on_disk);
        let found: Vec<_> =
            found.items.iter().rev().map(|j| (j.id, j.photo_id, j.status, j.attempt, j.current_step, j.upload, here(j))).collect();
        let newest: Vec<_> =
            self.jobs.iter().map(|j| (j.id, self.photos[j.photo].id, j.status, j.attempt, j.step, j.upload, j.here)).collect();
        assert_eq!(found, newest[newest.len().saturating_sub(ALL.limit)..]);
        for status in Status::ALL {
            let filter = Filter { status: Some(status), ..Filter::default() };
            let total = store.jobs(&filter, Page { limit: 1, ..ALL }).expect("lists").total;
            assert_eq!(total, self.jobs.iter().filter(|j| j.status == status).count(), "{status:?}");
        }
        let events = store.events_after(Seq(0), usize::MAX).expect("reads").events;
        assert!(events.iter().zip(1..).all(|(e, n)| e.seq.0 == n), "the events have a gap");
        assert_eq!(events.iter().map(|e| (e.job_id, e.event)).collect::<Vec<_>>(), self.events);
    }

    fn check_photos(&self, store: &Store) {
        let found = store.photos(&Filter::default(), ALL).expect("lists").items;
        let found: Vec<_> = found.iter().rev().map(|p| (p.id, p.on_disk, p.uploaded)).collect();
        let kept: Vec<_> = self.photos.iter().filter(|p| !p.deleted).map(|p| (p.id, p.here, p.uploaded)).collect();
        assert_eq!(found, kept);
        for (at, photo) in self.photos.iter().enumerate() {
            let again = self.photo_at(photo.n).is_some_and(|other| self.photos[other].here);
            assert_eq!(store.blob_path(&Sha256([photo.n; 32])).is_file(), again, "photo {}", photo.n);
            let jobs: Vec<JobId> = self.jobs.iter().filter(|j| j.photo == at).map(|j| j.id).collect();
            let filter = Filter { photo: Some(photo.id), ..Filter::default() };
            let listed: Vec<JobId> = store.jobs(&filter, ALL).expect("lists").items.iter().rev().map(|j| j.id).collect();
            assert_eq!(listed, jobs[jobs.len().saturating_sub(ALL.limit)..]);
            if !photo.deleted {
                assert_eq!(store.jobs_of_photo(photo.id), jobs);
            }
        }
    }

    fn check_queue(&self, store: &Store) {
        let mut waiting = self.waiting();
        waiting.sort_by_key(|w| (w.lane, w.seq));
        for (place, w) in waiting.iter().enumerate() {
            let job = store.job(w.id).expect("reads").expect("is there");
            assert_eq!(store.ahead(&job).map(Ahead::place), Some(place));
        }
        let of_lane = |lane| waiting.iter().filter(|w| w.lane == lane).count();
        let counts = store.queue();
        let running = self.in_work().len();
        let found = (counts.pending_high, counts.pending_default, counts.running);
        assert_eq!(found, (of_lane(Lane::HighPriority), of_lane(Lane::Default), running));
    }

    fn check_deliveries(&self, store: &Store) {
        let row = |task: &UploadTask| match task {
            UploadTask::Put(object) => (object.key.clone(), false),
            UploadTask::Delete(key) => (key.clone(), true),
        };
        let due: BTreeSet<Row> = store.due_uploads(usize::MAX, First::Oldest).iter().map(|r| row(&r.task)).collect();
        let expected: BTreeSet<Row> = self.owed.iter().filter(|(_, at)| **at <= self.now).map(|(row, _)| row.clone()).collect();
        assert_eq!(due, expected);
        assert_eq!(store.uploads().pending, self.owed.len());
        for job in self.jobs.iter().filter(|j| j.upload == UploadStatus::Uploaded) {
            let lacks = ["jpg", "png", "json"].iter().find(|end| !self.bucket.contains(&format!("processed/a/{}.{end}", job.id)));
            assert_eq!(lacks, None, "a job is called uploaded, and the bucket lacks this of it");
            assert!(self.photos[job.photo].uploaded);
        }
        assert_eq!(store.mqtt_cursor(), Seq(self.cursor));
        let due = |clear: Option<(u64, u64)>| clear.is_some_and(|(after, due)| after <= self.cursor && due <= self.now);
        let mut clears: Vec<JobId> = self.jobs.iter().filter(|j| due(j.clear)).map(|j| j.id).collect();
        clears.sort();
        assert_eq!(store.mqtt_clears(), clears);
    }
}

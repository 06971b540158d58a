//! What a daemon has answered for, as its clients wrote it down: kept outside of the daemon, and over our own restarts.
//!
//! An answer that did not come (the daemon died) leaves a thing open: it may be so or not, and both are right. What came with a 2xx must be
//! there for ever after. The file has one JSON object a line, in the order of the answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

/// One answer, or one question whose answer is open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Entry {
    Photo {
        id: String,
        sha256: String,
        shared: bool,
    },
    /// `once`: asked for under one Idempotency-Key until it was answered, and by nobody else.
    Job {
        id: String,
        photo: String,
        once: bool,
    },
    CancelAsked(String),
    CancelRefused(String),
    Cancelled(String),
    DeleteAsked(String),
    DeleteRefused(String),
    Deleted(String),
}

/// Whether something was done that cannot be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Known {
    #[default]
    No,
    /// Asked for; perhaps it happened.
    Asked,
    Yes,
}

#[derive(Debug, Clone)]
pub struct Photo {
    pub sha256: String,
    /// Any client may submit it; the others have the one job of the client that sent them.
    pub shared: bool,
    pub deleted: Known,
}

#[derive(Debug, Clone)]
pub struct Job {
    pub photo: String,
    pub once: bool,
    pub cancelled: Known,
}

#[derive(Default)]
pub struct Ledger {
    file: Option<File>,
    pub photos: BTreeMap<String, Photo>,
    pub jobs: BTreeMap<String, Job>,
    /// Since the last [`Ledger::take_fresh`]: what the next start is asked for first.
    fresh: Vec<Entry>,
    /// Jobs in the order of their answers, for choosing among the newest.
    pub order: Vec<String>,
    pub photo_order: Vec<String>,
    pub answers: u64,
}

impl Ledger {
    /// With what was written down before.
    pub fn open(path: &Path) -> Self {
        let mut ledger = Self::default();
        if let Ok(old) = File::open(path) {
            for line in BufReader::new(old).lines().map_while(Result::ok) {
                // The last line may be cut short where we were killed ourselves: its answer was not yet counted on.
                if let Ok(entry) = serde_json::from_str(&line) {
                    ledger.take(&entry);
                }
            }
        }
        ledger.fresh.clear();
        ledger.file = Some(OpenOptions::new().create(true).append(true).open(path).unwrap());
        ledger
    }

    pub fn write(&mut self, entry: Entry) {
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_string(&entry).unwrap();
            line.push('\n');
            file.write_all(line.as_bytes()).unwrap();
        }
        self.take(&entry);
        self.fresh.push(entry);
    }

    fn take(&mut self, entry: &Entry) {
        match entry {
            Entry::Photo { id, sha256, shared } => {
                let photo = Photo { sha256: sha256.clone(), shared: *shared, deleted: Known::No };
                if self.photos.insert(id.clone(), photo).is_none() {
                    self.photo_order.push(id.clone());
                }
            }
            Entry::Job { id, photo, once } => {
                self.jobs.insert(id.clone(), Job { photo: photo.clone(), once: *once, cancelled: Known::No });
                self.order.push(id.clone());
            }
            Entry::CancelAsked(id) => self.cancel(id, Known::Asked),
            Entry::CancelRefused(id) => self.cancel(id, Known::No),
            Entry::Cancelled(id) => self.cancel(id, Known::Yes),
            Entry::DeleteAsked(id) => self.delete(id, Known::Asked),
            Entry::DeleteRefused(id) => self.delete(id, Known::No),
            Entry::Deleted(id) => self.delete(id, Known::Yes),
        }
        self.answers += u64::from(!matches!(entry, Entry::CancelAsked(_) | Entry::DeleteAsked(_)));
    }

    fn cancel(&mut self, id: &str, known: Known) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.cancelled = known;
        }
    }

    fn delete(&mut self, id: &str, known: Known) {
        if let Some(photo) = self.photos.get_mut(id) {
            photo.deleted = known;
        }
    }

    /// The newest photos, newest first.
    pub fn newest_photos(&self, most: usize) -> Vec<&String> {
        self.photo_order.iter().rev().take(most).collect()
    }

    /// Chooses by `pick` among the newest jobs, and writes down that its cancel is asked for: by one client at a time.
    pub fn ask_cancel(&mut self, pick: usize, most: usize) -> Option<String> {
        let id = self.order.iter().rev().take(most).nth(pick).filter(|id| self.jobs[*id].cancelled == Known::No)?.clone();
        self.write(Entry::CancelAsked(id.clone()));
        Some(id)
    }

    /// As [`Ledger::ask_cancel`], for the delete of a photo.
    pub fn ask_delete(&mut self, pick: usize, most: usize) -> Option<String> {
        let id = self.photo_order.iter().rev().take(most).nth(pick).filter(|id| self.photos[*id].deleted == Known::No)?.clone();
        self.write(Entry::DeleteAsked(id.clone()));
        Some(id)
    }

    pub fn take_fresh(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.fresh)
    }

    /// Photos that have one job, and by its key no second one.
    pub fn once(&self) -> BTreeSet<&str> {
        self.jobs.values().filter(|j| j.once).map(|j| j.photo.as_str()).collect()
    }

    pub fn summary(&self) -> String {
        let cancelled = self.jobs.values().filter(|j| j.cancelled == Known::Yes).count();
        let deleted = self.photos.values().filter(|p| p.deleted == Known::Yes).count();
        format!("{} photos, {} jobs, {cancelled} cancels, {deleted} deletes acknowledged", self.photos.len(), self.jobs.len())
    }
}

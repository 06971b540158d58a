//! The committer: one thread that owns the journal and the numbers, and answers many callers with one fsync.
//!
//! ```text
//! callers --closure--> queue --(all that wait, at most GROUP)--> run each against the state so far
//!                 one append + fdatasync of the journal --> overlay --> view --> files --> answers, events
//!                                                              \--> indexer (sled, snapshots; its own thread)
//! ```
//!
//! A closure that returns an error leaves nothing behind. Where the journal cannot be written, the whole group gets the error and
//! the state is as before. Closures run once, but on a state that only this thread sees: ids and times are made before.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::PathBuf,
    sync::{
        Arc, RwLock,
        mpsc::{Receiver, SyncSender, channel},
    },
    thread,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::{
    Options, StoreError, ballast, blobs,
    index::Reader,
    indexer::{Guard, Order},
    journal::{Journal, Op, SnapshotWriter},
    overlay::Overlay,
    record,
    rows::{self, Meta},
    space::is_full,
    view::{Change, Instant, View},
};
use crate::domain::{
    event::{EventKind, JobEvent},
    ids::{JobId, PhotoId, Seq, Sha256},
    job::{Job, Status},
    transition::{self, Command},
};

/// Transactions that share one fsync. More would only delay the first of them.
const GROUP: usize = 256;
/// Callers that may wait; beyond it `commit` itself waits.
pub const QUEUE: usize = 1024;

type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// One caller's closure, its result on the way back, and where that goes.
pub trait Work: Send {
    /// Whether the transaction is to be kept.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    fn answer(self: Box<Self>, committed: Result<(), &io::Error>);
}

struct Call<R, F> {
    run: Option<F>,
    result: Option<Result<R, StoreError>>,
    to: oneshot::Sender<Result<R, StoreError>>,
}

impl<R: Send, F: FnOnce(&mut Tx<'_>) -> Result<R, StoreError> + Send> Work for Call<R, F> {
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        let result = self.run.take().map_or(Err(StoreError::Closed), |run| run(tx));
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn answer(self: Box<Self>, committed: Result<(), &io::Error>) {
        let result = match committed {
            Ok(()) => self.result.unwrap_or(Err(StoreError::Closed)),
            Err(e) => Err(StoreError::Io(io::Error::new(e.kind(), e.to_string()))),
        };
        // The caller may have gone away; what was committed stays.
        let _gone = self.to.send(result);
    }
}

pub enum Request {
    Run(Box<dyn Work>),
    Close(oneshot::Sender<()>),
}

/// A closure and the place where its answer will come.
pub fn call<R: Send + 'static>(
    run: impl FnOnce(&mut Tx<'_>) -> Result<R, StoreError> + Send + 'static,
) -> (Request, oneshot::Receiver<Result<R, StoreError>>) {
    let (to, from) = oneshot::channel();
    (Request::Run(Box::new(Call { run: Some(run), result: None, to })), from)
}

pub struct Committer {
    pub options: Arc<Options>,
    pub journal: Journal,
    pub reader: Reader,
    pub overlay: Arc<Overlay>,
    pub indexer: SyncSender<Order>,
    pub indexing: thread::JoinHandle<()>,
    /// A snapshot is being written; how it went comes here.
    pub snapshot: Option<Receiver<Result<u64, StoreError>>>,
    pub view: Arc<RwLock<View>>,
    pub meta: Meta,
    pub events: broadcast::Sender<Arc<JobEvent>>,
    pub changed: watch::Sender<u64>,
    /// Set when the index failed under us: the journal goes on, the next start rebuilds.
    pub damaged: watch::Sender<bool>,
}

/// What one transaction did, beside its rows.
#[derive(Default)]
struct Effects {
    events: Vec<JobEvent>,
    remove: Vec<PathBuf>,
    /// Originals that one row less needs.
    blobs: Vec<Sha256>,
    pending: isize,
}

/// One transaction: reads see the group so far, writes stay inside until the closure returned Ok.
pub struct Tx<'a> {
    committer: &'a Committer,
    group: &'a HashMap<Vec<u8>, Option<Vec<u8>>>,
    own: Changes,
    meta: Meta,
    effects: Effects,
    group_pending: isize,
    pub now: Instant,
}

impl Committer {
    pub fn spawn(mut self, mut requests: mpsc::Receiver<Request>) -> io::Result<thread::JoinHandle<()>> {
        let guard = Guard(self.damaged.clone());
        thread::Builder::new().name("committer".into()).spawn(move || {
            let _guard = guard;
            while let Some(first) = requests.blocking_recv() {
                let mut group = Vec::new();
                let mut closing = None;
                let mut next = Some(first);
                while let Some(request) = next {
                    match request {
                        Request::Run(work) => group.push(work),
                        Request::Close(done) => {
                            closing = Some(done);
                            break;
                        }
                    }
                    next = if group.len() < GROUP { requests.try_recv().ok() } else { None };
                }
                self.commit(group);
                if let Some(done) = closing {
                    self.close();
                    let _gone = done.send(());
                    return;
                }
            }
        })
    }

    /// Lets the indexer finish what it has. Without it nothing is lost, but the next start reads more of the journal.
    fn close(self) {
        let Self { indexer, indexing, .. } = self;
        if indexer.send(Order::Close).is_err() || indexing.join().is_err() {
            tracing::warn!("the index did not end well; the next start looks at it");
        }
    }

    /// Runs a group and answers it.
    pub fn commit(&mut self, mut works: Vec<Box<dyn Work>>) {
        if *self.damaged.borrow() {
            // What the index did not take would be missing from every answer: better no answer than a wrong one.
            let gone = io::Error::other("the index is damaged; the daemon restarts and rebuilds it");
            works.into_iter().for_each(|work| work.answer(Err(&gone)));
            return;
        }
        let now = Instant { wall: self.options.clock.now(), mono: self.options.clock.mono() };
        let (mut group, mut frames, mut effects) = (HashMap::new(), Vec::new(), Effects::default());
        let mut meta = self.meta;
        for work in &mut works {
            let mut tx = Tx {
                committer: self,
                group: &group,
                own: Changes::new(),
                meta,
                effects: Effects::default(),
                group_pending: effects.pending,
                now,
            };
            if !work.run(&mut tx) || (tx.own.is_empty() && tx.effects.remove.is_empty() && tx.effects.blobs.is_empty()) {
                continue;
            }
            if tx.meta != meta {
                meta = tx.meta;
                // An encoding error here is out of memory or a bug; the row is two integers.
                tx.own.insert(rows::META.to_vec(), Some(record::encode(&meta).expect("two integers serialise")));
            }
            let Tx { own, effects: mine, .. } = tx;
            effects.events.extend(mine.events);
            effects.remove.extend(mine.remove);
            effects.blobs.extend(mine.blobs);
            effects.pending += mine.pending;
            let op = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| match value {
                Some(value) => Op::Put { key: key.clone(), value: value.clone() },
                None => Op::Delete { key: key.clone() },
            };
            frames.push(own.iter().map(op).collect::<Vec<_>>());
            group.extend(own);
        }
        frames.retain(|f: &Vec<Op>| !f.is_empty());
        let committed = if frames.is_empty() { Ok(()) } else { self.append(&frames) };
        match &committed {
            Ok(()) => {
                self.meta = meta;
                self.after_commit(frames, effects, now);
            }
            Err(e) => {
                tracing::error!(error = %e, transactions = frames.len(), "the journal could not be written; nobody was told yes");
                if self.journal.is_broken() {
                    self.damaged.send_replace(true);
                }
            }
        }
        for work in works {
            work.answer(committed.as_ref().map(|_| ()));
        }
        self.see_to_snapshots();
    }

    /// A full disk is met with the ballast: what runs can then end, and what is deleted makes room.
    fn append(&mut self, frames: &[Vec<Op>]) -> io::Result<()> {
        match self.journal.append(frames) {
            Err(e) if is_full(&e) && ballast::give_up(&self.options.state) => self.journal.append(frames),
            other => other,
        }
    }

    fn see_to_snapshots(&mut self) {
        if let Some(ended) = self.snapshot.as_ref().and_then(|ended| ended.try_recv().ok()) {
            self.snapshot = None;
            if let Err(e) = &ended {
                tracing::error!(error = %e, "no snapshot of the journal; it is tried again later");
            }
            self.journal.snapshot_ended(ended.ok());
        }
        if self.journal.wants_snapshot()
            && let Err(e) = self.begin_snapshot()
        {
            tracing::error!(error = %e, "no snapshot of the journal; it is tried again later");
        }
    }

    fn begin_snapshot(&mut self) -> io::Result<()> {
        let lsn = self.journal.begin_snapshot()?;
        let writer = SnapshotWriter::create(self.journal.dir(), lsn).inspect_err(|_| self.journal.snapshot_ended(None))?;
        let (ended, how) = channel();
        self.snapshot = Some(how);
        // Err: the indexer is gone, which its guard has said.
        let _gone = self.indexer.send(Order::Snapshot { writer, ended });
        Ok(())
    }

    fn after_commit(&mut self, frames: Vec<Vec<Op>>, effects: Effects, now: Instant) {
        if !frames.is_empty() {
            let (lsn, frames) = (self.journal.next_lsn() - 1, Arc::new(frames));
            self.overlay.add(lsn, &frames);
            let changes: Vec<_> = frames.iter().flatten().map(|op| Change::of(op, now)).collect();
            let mut view = self.view.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            for change in changes {
                match change {
                    Ok(change) => view.apply(change),
                    Err(e) => {
                        tracing::error!(error = %e, "a row that was just written does not read");
                        self.damaged.send_replace(true);
                    }
                }
            }
            drop(view);
            let _gone = self.indexer.send(Order::Group { lsn, frames });
        }
        // Only now is it known whether another row of the same group needs the bytes.
        let unused: Vec<Sha256> = effects.blobs.into_iter().filter(|s| self.view().blob_users(s) == 0).collect();
        let unused = unused.iter().map(|s| self.options.state.join(blobs::blob_name(s)));
        for path in effects.remove.into_iter().chain(unused) {
            if let Err(e) = blobs::remove(&path) {
                tracing::warn!(error = %e, "a file could not be removed; the next start sweeps it");
            }
        }
        for event in effects.events {
            let _nobody_listens = self.events.send(Arc::new(event));
        }
        self.changed.send_modify(|n| *n += 1);
    }

    pub fn view(&self) -> std::sync::RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Tx<'_> {
    pub fn options(&self) -> &Options {
        &self.committer.options
    }

    pub fn view(&self) -> std::sync::RwLockReadGuard<'_, View> {
        self.committer.view()
    }

    pub fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        match self.own.get(key).or_else(|| self.group.get(key)) {
            Some(None) => Ok(None),
            Some(Some(bytes)) => Ok(Some(record::decode(bytes)?)),
            None => self.committer.reader.row(key),
        }
    }

    pub fn put<T: Serialize>(&mut self, key: Vec<u8>, row: &T) -> Result<(), StoreError> {
        self.own.insert(key, Some(record::encode(row)?));
        Ok(())
    }

    pub fn delete(&mut self, key: Vec<u8>) {
        self.own.insert(key, None);
    }

    pub fn next_row(&mut self) -> Seq {
        let seq = Seq(self.meta.next_row);
        self.meta.next_row += 1;
        seq
    }

    /// Jobs that wait, this group's included.
    pub fn pending(&self) -> usize {
        let now = self.view().waiting.len() as isize + self.group_pending + self.effects.pending;
        usize::try_from(now).unwrap_or(0)
    }

    pub fn job(&self, id: JobId) -> Result<Job, StoreError> {
        self.get(&rows::job(id))?.ok_or(StoreError::NotFound("job"))
    }

    /// Stores a job; the queue's count moves with its status.
    pub fn put_job(&mut self, before: Option<Status>, job: &Job) -> Result<(), StoreError> {
        let waits = |s: Status| isize::from(s == Status::Pending);
        self.effects.pending += waits(job.status) - before.map_or(0, waits);
        self.put(rows::job(job.id), job)
    }

    /// Applies a command to a stored job and announces what it announces.
    pub fn transition(&mut self, id: JobId, command: Command) -> Result<Job, StoreError> {
        let old = self.job(id)?;
        let before = old.status;
        let (job, event) = transition::apply(old, command, self.now.wall)?;
        self.put_job(Some(before), &job)?;
        if let Some(kind) = event {
            self.announce(&job, kind)?;
        }
        Ok(job)
    }

    /// Writes the event into the log, and the clearing of its retained state where it is the job's last word.
    pub fn announce(&mut self, job: &Job, kind: EventKind) -> Result<(), StoreError> {
        let seq = Seq(self.meta.next_event);
        self.meta.next_event += 1;
        let event = JobEvent::of(job, kind, seq, self.now.wall);
        self.put(rows::event(seq), &event)?;
        if self.options().mqtt && job.status.is_final() {
            self.clear_state(job.id, seq, rows::STATE_KEPT)?;
        }
        self.effects.events.push(event);
        Ok(())
    }

    pub fn clear_state(&mut self, id: JobId, after: Seq, wait: std::time::Duration) -> Result<(), StoreError> {
        let clear = rows::Clear { after, since: self.now.wall, wait_ms: wait.as_millis() as u64 };
        self.put(rows::clear(id), &clear)
    }

    pub fn last_event(&self) -> Seq {
        Seq(self.meta.next_event - 1)
    }

    /// Removes a file or folder below the state folder once the transaction is durable.
    pub fn remove_later(&mut self, relative: &str) {
        let path = self.options().state.join(relative);
        self.effects.remove.push(path);
    }

    /// Keys with this prefix that the group or this transaction changed.
    pub fn changed_keys(&self, prefix: u8) -> impl Iterator<Item = &[u8]> {
        self.group.keys().chain(self.own.keys()).map(Vec::as_slice).filter(move |k| k.first() == Some(&prefix))
    }

    /// A row that needed these bytes is gone: the blob goes once the transaction is durable, unless another row needs it.
    pub fn release_blob(&mut self, sha256: Sha256) {
        self.effects.blobs.push(sha256);
    }

    /// Whether an unfinished job needs a photo's original, as its own or to merge it; this group's jobs included.
    pub fn is_needed(&self, photo: PhotoId) -> Result<bool, StoreError> {
        let mut ids = self.view().users_of(photo);
        ids.extend(self.changed_keys(b'j').filter_map(rows::job_of));
        for id in ids {
            if self.get::<Job>(&rows::job(id))?.is_some_and(|job| job.needs(photo)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All jobs of a photo, this group's included.
    pub fn jobs_of(&self, photo: PhotoId) -> Result<Vec<Job>, StoreError> {
        let mut ids = self.view().jobs_of_photo(photo);
        ids.extend(self.changed_keys(b'j').filter_map(rows::job_of));
        ids.sort();
        ids.dedup();
        let mut jobs = Vec::new();
        for id in ids {
            jobs.extend(self.get::<Job>(&rows::job(id))?.filter(|j| j.photo_id == photo));
        }
        Ok(jobs)
    }
}

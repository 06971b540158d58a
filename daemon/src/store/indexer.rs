//! The indexer: the thread that brings sled up to what is already durable, and writes the journal's snapshots from it.
//!
//! ```text
//! committer --Group / Snapshot / Close--> queue (at most QUEUE) --> gathered --none waits, or ROWS--> one batch for sled -> out of the overlay
//!                                                  |  nothing waits, or a slice is due
//!                                                  +-> a slice of the snapshot: rows in key order, behind the last one written
//! ```
//! Of what is gathered while sled takes the batch before only the last state of each row is written: under load a job's row changes several
//! times, and each of its uploads is a row that comes and goes.
//!
//! Slices lie between groups, so a snapshot holds up nobody for longer than a slice takes; a full queue holds up the committer, so that
//! what is durable and not yet indexed has a limit. The rows that a snapshot must contain are counted along (a change behind the
//! place where it stands is in the log instead): a snapshot that sled lied to is thrown away, and the index is said to be damaged.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvError, RecvTimeoutError, Sender, SyncSender, TryRecvError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    StoreError, ballast,
    index::{Index, Sum},
    journal::{Op, SnapshotWriter},
    overlay::Overlay,
    record,
};

/// Groups that are durable and wait for sled.
const QUEUE: usize = 64;
/// Rows of a snapshot that are written in one go: about a millisecond.
const SLICE: usize = 512;
/// Writes that sled gets as one batch, about: nobody reads meanwhile, a millisecond or two.
const ROWS: usize = 512;
/// Once nothing came for this long, sled's buffer is handed to the system: should the process be killed and the journal be lost, the index
/// alone knows all but the last moment.
const QUIET: Duration = Duration::from_millis(20);
/// And after this long while more comes all the time.
const FLUSH: Duration = Duration::from_secs(1);
/// Between two sweeps of sled's cache.
const SWEEP: Duration = Duration::from_secs(10);

pub enum Order {
    /// Frames that are durable, up to `lsn`.
    Group { lsn: u64, frames: Arc<Vec<Vec<Op>>> },
    /// Everything up to here, as the snapshot that `writer` began; its size, or why there is none, goes to `ended`.
    Snapshot { writer: SnapshotWriter, ended: Sender<Result<u64, StoreError>> },
    /// Nothing comes any more: hand all to the system, and end.
    Close,
}

pub struct Indexer {
    index: Index,
    overlay: Arc<Overlay>,
    damaged: watch::Sender<bool>,
    /// sled does not forget a write that failed: on a disk without room the ballast there is given up before it is asked to write.
    state: PathBuf,
    snapshot: Option<Snapshot>,
    gathered: Gathered,
    /// When the last group came.
    heard: Instant,
    /// Something was applied since the last flush, which was then.
    dirty: bool,
    flushed: Instant,
    swept: Instant,
}

/// Groups that sled is to be told of.
#[derive(Default)]
struct Gathered {
    groups: Vec<Arc<Vec<Vec<Op>>>>,
    /// Of the last one.
    lsn: u64,
    rows: usize,
}

impl Gathered {
    fn add(&mut self, lsn: u64, frames: Arc<Vec<Vec<Op>>>) {
        self.lsn = lsn;
        self.rows += frames.iter().map(Vec::len).sum::<usize>();
        self.groups.push(frames);
    }
}

/// A snapshot that is being written.
struct Snapshot {
    writer: SnapshotWriter,
    ended: Sender<Result<u64, StoreError>>,
    /// The last key written: what changes behind it is in the log, what changes before it will be met on the way.
    at: Option<Vec<u8>>,
    expected: Sum,
    written: Sum,
}

/// A committer or indexer that panicked (sled does, on some damage) leaves a daemon that can only say no: it must end and start again.
pub struct Guard(pub watch::Sender<bool>);

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.send_replace(true);
        }
    }
}

/// Starts the thread. It ends at `Close`, or when every sender is gone.
pub fn spawn(
    index: Index,
    overlay: Arc<Overlay>,
    damaged: watch::Sender<bool>,
    state: PathBuf,
) -> io::Result<(SyncSender<Order>, thread::JoinHandle<()>)> {
    let (orders, queue) = sync_channel(QUEUE);
    let now = Instant::now();
    let gathered = Gathered::default();
    let indexer = Indexer { index, overlay, damaged, state, snapshot: None, gathered, heard: now, dirty: false, flushed: now, swept: now };
    let thread = thread::Builder::new().name("indexer".into()).spawn(move || {
        let _guard = Guard(indexer.damaged.clone());
        indexer.run(&queue);
    })?;
    Ok((orders, thread))
}

impl Indexer {
    fn run(mut self, queue: &Receiver<Order>) {
        loop {
            match self.next(queue) {
                Ok(Order::Group { lsn, frames }) => {
                    self.heard = Instant::now();
                    self.gathered.add(lsn, frames);
                    if self.gathered.rows < ROWS {
                        continue;
                    }
                }
                Ok(Order::Snapshot { writer, ended }) => {
                    self.apply();
                    let expected = self.index.sum();
                    self.snapshot = Some(Snapshot { writer, ended, at: None, expected, written: Sum::default() });
                }
                Ok(Order::Close) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.apply();
            self.slice();
        }
        self.apply();
        self.flush();
    }

    /// The next order; `Timeout`: there is something else to do.
    fn next(&self, queue: &Receiver<Order>) -> Result<Order, RecvTimeoutError> {
        if self.snapshot.is_some() || !self.gathered.groups.is_empty() {
            return queue.try_recv().map_err(|e| match e {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            });
        }
        if self.dirty { queue.recv_timeout(QUIET) } else { queue.recv().map_err(|RecvError| RecvTimeoutError::Disconnected) }
    }

    /// Hands what sled has to the system.
    fn flush(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        self.flushed = Instant::now();
        ballast::give_up_if_full(&self.state);
        if let Err(e) = self.index.flush() {
            tracing::warn!(error = %e, "the index was not flushed; the next start reads more of the journal");
        }
    }

    /// Tells sled what was gathered, and the system where it is time.
    fn apply(&mut self) {
        if *self.damaged.borrow() {
            (self.gathered, self.dirty) = (Gathered::default(), false);
            return;
        }
        let Gathered { groups, lsn, .. } = std::mem::take(&mut self.gathered);
        if !groups.is_empty()
            && let Err(e) = self.tell(lsn, &groups)
        {
            tracing::error!(error = %e, "the index failed; the journal has everything, the next start rebuilds the index");
            self.damaged.send_replace(true);
            return;
        }
        if self.heard.elapsed() >= QUIET || self.flushed.elapsed() >= FLUSH {
            self.flush();
        }
        groups.iter().for_each(|frames| self.overlay.applied(lsn, frames));
    }

    fn tell(&mut self, lsn: u64, groups: &[Arc<Vec<Vec<Op>>>]) -> Result<(), StoreError> {
        self.dirty = true;
        ballast::give_up_if_full(&self.state);
        let snapshot = &mut self.snapshot;
        let ops = groups.iter().flat_map(|frames| frames.iter().flatten());
        self.index.apply(lsn, ops, |key, old, new| {
            if let Some(s) = snapshot.as_mut().filter(|s| s.at.as_deref().is_none_or(|at| key > at)) {
                s.expected.replace(key, old, new);
            }
        })?;
        if self.swept.elapsed() < SWEEP {
            return Ok(());
        }
        self.swept = Instant::now();
        self.index.sweep()
    }

    /// Some more rows of the snapshot, if there is one.
    fn slice(&mut self) {
        let Some(mut snapshot) = self.snapshot.take() else { return };
        match snapshot.write_some(&self.index) {
            Ok(false) => self.snapshot = Some(snapshot),
            Ok(true) => snapshot.end(),
            Err(e) => {
                if matches!(e, StoreError::Index(_)) {
                    self.damaged.send_replace(true);
                }
                // Err: the committer is gone, and the old logs are as good as ever.
                let _gone = snapshot.ended.send(Err(e));
            }
        }
    }
}

impl Snapshot {
    /// Whether these were the last rows.
    fn write_some(&mut self, index: &Index) -> Result<bool, StoreError> {
        let mut last = None;
        let mut count = 0;
        for row in index.after(self.at.as_deref()).take(SLICE) {
            let (key, value) = row?;
            self.written.add(&key, &value);
            match record::upgraded(&value) {
                Some(newer) => self.writer.put(&key, &newer)?,
                None => self.writer.put(&key, &value)?,
            }
            last = Some(key);
            count += 1;
        }
        if let Some(last) = last {
            self.at = Some(last.to_vec());
        }
        if count == SLICE {
            return Ok(false);
        }
        if self.written != self.expected {
            return Err(StoreError::Index(format!("a scan of the index gave {:?}, not {:?}", self.written, self.expected)));
        }
        self.writer.sync()?;
        Ok(true)
    }

    fn end(self) {
        let ended = self.writer.publish().map_err(StoreError::from);
        let _gone = self.ended.send(ended);
    }
}

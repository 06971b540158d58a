//! Opening the store: whatever the last end was like, what was acknowledged is there.
//!
//! ```text
//! lock -> index opens and verifies (every row, into the view)? --no--> set aside as store/v1.damaged-<time>, start an empty one
//!              | yes                                  |
//!              v                                      v
//!      journal frames after its lsn          whole journal (snapshot, then logs)
//!              |  (index too old for the journal: set aside, too)
//!              v
//!      journal shorter than the index (its end was lost): said; the index is the truth, snapshot it
//!              |
//!      jobs that ran: crashed -> files that no row names: swept
//! ```

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use tokio::sync::{broadcast, watch};

use super::{
    Options, StoreError, ballast, blobs,
    commit::{Committer, call},
    index::Index,
    indexer,
    journal::{self, Journal, Replay},
    overlay::Overlay,
    record, rows,
    types::OpenReport,
    view::{Change, Instant, View},
};
use crate::domain::{ids::JobId, transition::Command};

/// There while the daemon ends on purpose.
pub const STOPPING: &str = "stopping";
/// Rows applied to the index in one batch while it is rebuilt.
const BATCH: usize = 4096;
/// Events that a slow reader may be behind before it has to read the log; all of them stay in memory. Several groups of commits.
const EVENT_BUFFER: usize = 512;

/// Keeps the folder ours while it lives.
pub struct Lock(#[expect(dead_code, reason = "held, not read: closing it releases the lock")] File);

/// One daemon a state folder. The lock goes with the process, however it ends.
pub fn lock(state: &Path) -> Result<Lock, StoreError> {
    fs::create_dir_all(state)?;
    let file = File::options().create(true).truncate(false).write(true).open(state.join("lock"))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked),
        Err(e) => Err(StoreError::Io(e.into())),
    }
}

pub fn open(options: Arc<Options>) -> Result<(Committer, OpenReport), StoreError> {
    let state = options.state.clone();
    for dir in ["store", "journal", "blobs/in", "results", "refused"] {
        fs::create_dir_all(state.join(dir))?;
    }
    blobs::fsync_dir(&state)?;
    blobs::fsync_dir(&state.join("blobs"))?;
    // First of all: what was on its way in is nobody's, and sled does not open on a full disk.
    for path in blobs::entries(&blobs::incoming_dir(&state))? {
        remove_leftover(&path);
    }
    ballast::give_up_if_full(&state);
    let mut report = OpenReport::default();
    let opened = open_both(&options, &mut report)?;
    ballast::take(&state);
    let committer = assemble(options, opened)?;
    Ok((committer, report))
}

struct Opened {
    index: Index,
    journal: Journal,
    view: View,
}

fn open_both(options: &Options, report: &mut OpenReport) -> Result<Opened, StoreError> {
    let at = Instant { wall: options.clock.now(), mono: options.clock.mono() };
    let dir = options.state.join("store/v1");
    let journal_dir = options.state.join("journal");
    let loaded = Index::open(&dir).and_then(|mut index| load(&mut index, at, report).map(|view| (index, view)));
    let (mut index, mut view) = match loaded {
        Ok(loaded) => loaded,
        Err(e) if !is_damage(&e) => return Err(e),
        Err(e) => {
            report.rebuilt = Some(e.to_string());
            set_aside(options, &dir)?;
            (Index::open(&dir)?, View::default())
        }
    };
    let has_journal = !blobs::entries(&journal_dir)?.is_empty();
    if index.is_new() && has_journal && report.rebuilt.is_none() {
        report.rebuilt = Some("the index is empty".into());
    }
    let (mut journal, replay) = match catch_up(&mut index, &mut view, &journal_dir, at)? {
        Some(done) => done,
        None => {
            report.rebuilt = Some("the index is older than the journal's snapshot".into());
            drop(index);
            set_aside(options, &dir)?;
            (index, view) = (Index::open(&dir)?, View::default());
            let again = catch_up(&mut index, &mut view, &journal_dir, at)?;
            again.ok_or_else(|| StoreError::Index("a new index cannot be too old".into()))?
        }
    };
    let fresh = index.is_new() && replay.next_lsn <= 1 && replay.damage.is_none();
    if fresh {
        report.rebuilt = None;
    }
    report.journal_damage = replay.damage;
    if index.lsn() + 1 > replay.next_lsn {
        // A log that lost its end while the index kept it (both verified themselves): write everything down again. What was acknowledged
        // last of all may be in neither, so it is said, and blobs that no row names stay.
        let end = format!("its end, frames {} to {} at least, is missing; the index had what it has", replay.next_lsn, index.lsn());
        let before = report.journal_damage.take().map(|what| format!("{what}; ")).unwrap_or_default();
        report.journal_damage = Some(before + &end);
        journal::mark_damaged(&journal_dir, replay.next_lsn)?;
        journal.skip_to(index.lsn() + 1);
    }
    if report.journal_damage.is_some() {
        journal.snapshot(index.rows())?;
    }
    Ok(Opened { index, journal, view })
}

/// Reads every row once: the index is verified, the view filled, and rows of an older format are found and written anew.
fn load(index: &mut Index, at: Instant, report: &mut OpenReport) -> Result<View, StoreError> {
    let (mut view, mut old) = (View::default(), false);
    view.load();
    index.load(|key, value| {
        old |= !record::is_newest(value);
        view.apply(Change::put(key, value, at)?);
        Ok(())
    })?;
    view.loaded();
    if old {
        report.upgraded = index.upgrade()?;
    }
    Ok(view)
}

/// Brings the index and the view up to the journal. None: the journal's snapshot is ahead of the index, which must be made anew.
fn catch_up(index: &mut Index, view: &mut View, journal: &Path, at: Instant) -> Result<Option<(Journal, Replay)>, StoreError> {
    let start = index.lsn();
    let known = (!index.is_new()).then_some(start);
    let (mut pending, mut last, mut too_old, mut failed) = (Vec::new(), start, false, None);
    let opened = Journal::open(journal, known, |lsn, ops, snapshot| {
        too_old |= snapshot && known.is_some();
        if too_old || failed.is_some() {
            return Ok(());
        }
        // Half a snapshot is not a state: until its last (empty) frame the index calls itself older than the journal, so that an
        // interrupted rebuild is begun again and never believed.
        let end_of_snapshot = snapshot && ops.is_empty();
        if end_of_snapshot {
            last = lsn - 1;
            view.loaded();
        } else if snapshot {
            view.load();
        } else {
            last = lsn;
        }
        for op in &ops {
            match Change::of(op, at) {
                Ok(change) => view.apply(change),
                Err(e) => failed = Some(StoreError::from(e)),
            }
        }
        pending.extend(ops);
        if pending.len() >= BATCH || end_of_snapshot {
            failed = failed.take().or_else(|| index.apply(last, &pending, |_, _, _| {}).err());
            pending.clear();
        }
        Ok(())
    })?;
    if too_old {
        return Ok(None);
    }
    if let Some(e) = failed {
        return Err(e);
    }
    if last > start {
        index.apply(last, &pending, |_, _, _| {})?;
    }
    Ok(Some(opened))
}

/// Whether the index itself is to blame. A full or read-only disk, a lack of rights: making it anew would not help.
fn is_damage(e: &StoreError) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull, WouldBlock};
    !matches!(e, StoreError::Io(e) if matches!(e.kind(), StorageFull | PermissionDenied | ReadOnlyFilesystem | WouldBlock))
}

/// The damaged index is kept for support, the newest one only: each is as large as the store.
fn set_aside(options: &Options, dir: &Path) -> Result<(), StoreError> {
    if dir.exists() {
        for old in blobs::entries(&options.state.join("store"))?.iter().filter(|p| p.to_string_lossy().contains("v1.damaged-")) {
            blobs::remove(old)?;
        }
        let name = format!("store/v1.damaged-{}", options.clock.now().strftime("%Y%m%dT%H%M%S%3fZ"));
        tracing::error!(to = %name, "the index is damaged; it is set aside and rebuilt from the journal");
        fs::rename(dir, options.state.join(name))?;
        blobs::fsync_dir(&options.state.join("store"))?;
    }
    Ok(())
}

fn assemble(options: Arc<Options>, opened: Opened) -> Result<Committer, StoreError> {
    let Opened { index, journal, view } = opened;
    let overlay = Arc::<Overlay>::default();
    let (events, _) = broadcast::channel(EVENT_BUFFER);
    let (changed, _) = watch::channel(0);
    let (damaged, _) = watch::channel(false);
    let reader = index.reader(Arc::clone(&overlay), damaged.clone());
    let meta = reader.row(rows::META)?.unwrap_or_default();
    let (indexer, indexing) = indexer::spawn(index, Arc::clone(&overlay), damaged.clone(), options.state.clone())?;
    let view = Arc::new(RwLock::new(view));
    Ok(Committer { options, journal, reader, overlay, indexer, indexing, snapshot: None, view, meta, events, changed, damaged })
}

/// What the last end left undone: jobs that ran, the broker's cursor, keys that expired.
pub fn settle(committer: &mut Committer, report: &mut OpenReport) -> Result<(), StoreError> {
    let mut running: Vec<JobId> = committer.view().running.iter().copied().collect();
    running.sort();
    let limit = committer.options.crash_limit;
    let stopping = committer.options.state.join(STOPPING);
    // A second signal, or systemd's patience, ended it: nobody's crash.
    let expected = stopping.exists();
    report.recovered_jobs = if expected { 0 } else { running.len() };
    let mqtt = committer.options.mqtt;
    let mut works = Vec::new();
    for id in running {
        let command = if expected { Command::PutBack } else { Command::Crash { limit } };
        works.push(call(move |tx| tx.transition(id, command)).0);
    }
    works.push(
        call(move |tx| {
            let cursor: Option<crate::domain::ids::Seq> = tx.get(rows::CURSOR)?;
            match (mqtt, cursor) {
                // A broker that is new to this device is not told the past.
                (true, None) => tx.put(rows::CURSOR.to_vec(), &tx.last_event())?,
                (false, Some(_)) => tx.delete(rows::CURSOR.to_vec()),
                _ => {}
            }
            Ok(())
        })
        .0,
    );
    let works = works.into_iter().filter_map(|w| match w {
        super::commit::Request::Run(work) => Some(work),
        super::commit::Request::Close(_) => None,
    });
    committer.commit(works.collect());
    // A job that stays "processing" would never be claimed again: better not to start at all.
    if committer.view().running.is_empty() {
        blobs::remove(&stopping)?;
        Ok(())
    } else {
        Err(StoreError::Io(io::Error::other("the jobs that ran could not be put back")))
    }
}

/// What is nobody's and does not go costs its room until the next start, and no more than that.
fn remove_leftover(path: &Path) {
    if let Err(e) = blobs::remove(path) {
        tracing::warn!(path = %path.display(), error = %e, "a leftover cannot be removed; the next start tries again");
    }
}

/// Removes files that no row names: results of jobs that did not complete, pictures of photos whose refusal was not stored, blobs of
/// nobody.
///
/// As long as a damaged journal lies there blobs stay: they may be the only trace of a photo.
pub fn sweep(committer: &Committer) -> io::Result<()> {
    let state = &committer.options.state;
    let view = committer.view();
    let named: HashSet<PathBuf> = view.jobs.folders().map(|folder| state.join(folder)).collect();
    for folder in ["results", "refused"] {
        for path in blobs::entries(&state.join(folder))? {
            if !named.contains(&path) {
                remove_leftover(&path);
            }
        }
    }
    if journal::was_damaged(&state.join("journal"))? {
        return Ok(());
    }
    for folder in blobs::entries(&state.join("blobs"))? {
        for path in blobs::entries(&folder).unwrap_or_default() {
            let sha256 = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
            if sha256.is_some_and(|s| view.blob_users(&s) == 0) {
                remove_leftover(&path);
            }
        }
    }
    Ok(())
}

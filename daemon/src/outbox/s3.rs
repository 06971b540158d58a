//! The task that brings results and originals to the bucket: due rows in their order, a few at once, each confirmed only after the server
//! vouched for its bytes. When it may, and who is to blame for a failure: [`lane`](super::lane).
//!
//! ```text
//! due row --> upload_started --> (metadata cut out) --> put --ok--> upload_confirmed
//!                                                        |-- unreachable, probe fails too, or others are down --> upload_released, lane down
//!                                                        |-- denied (a put: lane down)                       --> row waits 10 s .. 5 min, alert
//!                                                        |-- other failure                                    --> row waits 1 s .. 5 min
//!                                                        +-- the local file is gone, or its bytes are others  --> upload_given_up
//! ```
//!
//! Two rows of one key are never on their way together: a deletion that overtakes its own upload would leave the object behind.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::tz::TimeZone;
use rand::Rng;
use sha2::{Digest, Sha256};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::{
    alerts::{Alerts, S3_DENIED, S3_UNREACHABLE, STRIP_FAILED},
    lane::{DENIED_BACKOFF, Lane, backoff},
    stopped,
    window::Window,
};
use crate::{
    domain::ids::{Seq, Sha256 as Hash},
    ports::{Clock, ObjectStore, ObjectStoreError, PutObject},
    store::{First, Store, StoreError, UploadRow, UploadTask, blobs::incoming_dir},
};

/// Longest time without a look at the clock: windows open, and clocks jump.
const LOOK: Duration = Duration::from_secs(30);
/// Uploads that run when the daemon stops get this long; what is cut off then starts again from its beginning.
const GRACE: Duration = Duration::from_secs(5);
/// Originals, as [`crate::domain::photo::Photo::s3_key`] names them: the ones that carry a camera's metadata.
const ORIGINALS: &str = "photos/";

/// Cuts EXIF, XMP and IPTC out of a file of this content type, pixels untouched.
pub type Strip = Arc<dyn Fn(&[u8], &str) -> Result<Vec<u8>, String> + Send + Sync>;

pub struct Options {
    pub newest_first: bool,
    /// Uploads at once.
    pub parallel: usize,
    /// None: always.
    pub window: Option<Window>,
    /// None: originals leave the device as they were received.
    pub strip: Option<Strip>,
    pub alerts: Alerts,
}

/// Runs until `shutdown` turns true. The rate cap is the bucket adapter's.
pub fn spawn_s3(
    store: Store,
    bucket: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    options: Options,
    shutdown: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let lane = Lane::new();
    let task = Task { store, bucket, clock, options, lane, to_sweep: true, on_their_way: HashMap::new(), uploads: JoinSet::new() };
    tokio::spawn(task.run(shutdown))
}

/// How an upload ended.
enum End {
    Vouched,
    /// It can never be uploaded: the local file is gone, or its bytes are not those that were stored.
    Hopeless(String),
    /// Its metadata cannot be cut out: rather not at all than with it.
    Unstrippable(String),
    Failed(ObjectStoreError),
}

struct Task {
    store: Store,
    bucket: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    options: Options,
    lane: Lane,
    /// Something begun and not finished may lie at the bucket.
    to_sweep: bool,
    /// Key of each row that is being uploaded.
    on_their_way: HashMap<Seq, String>,
    uploads: JoinSet<(UploadRow, End)>,
}

impl Task {
    async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut changed = self.store.changed();
        loop {
            changed.mark_unchanged();
            let open = self.window_is_open();
            if open {
                tokio::select! {
                    () = stopped(&mut shutdown) => break,
                    () = self.probe_if_due() => {}
                }
                tokio::select! {
                    () = stopped(&mut shutdown) => break,
                    () = self.sweep_if_due() => {}
                }
                self.start_due();
            }
            let rest = if open { self.rest() } else { LOOK };
            tokio::select! {
                () = stopped(&mut shutdown) => break,
                Some(done) = self.uploads.join_next(), if !self.uploads.is_empty() => self.settle(done).await,
                Ok(()) = changed.changed() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
        let finish = async {
            while let Some(done) = self.uploads.join_next().await {
                self.settle(done).await;
            }
        };
        let _ = tokio::time::timeout(GRACE, finish).await;
    }

    fn window_is_open(&self) -> bool {
        self.options.window.is_none_or(|window| window.is_open(self.clock.now(), &TimeZone::system()))
    }

    /// Until the next thing that no change of the store announces.
    fn rest(&self) -> Duration {
        let now = self.clock.mono();
        let row = if self.lane.slots(self.options.parallel) > self.uploads.len() { self.store.next_upload_due() } else { None };
        let next = [self.lane.probe_at(), row].into_iter().flatten().min();
        // Not zero: a row that is due but on its way, or blocked by its key, would make this loop spin.
        next.map_or(LOOK, |at| at.saturating_sub(now).clamp(Duration::from_millis(500), LOOK))
    }

    async fn probe_if_due(&mut self) {
        let now = self.clock.mono();
        if self.lane.probe_at().is_none_or(|at| now < at) {
            return;
        }
        match self.bucket.probe().await {
            Err(ObjectStoreError::Unreachable(why)) => self.go_down(&why),
            // A refusal is an answer: keys that may put need not be allowed to list.
            _ => {
                self.options.alerts.resolve(S3_UNREACHABLE);
                self.lane.answered();
            }
        }
    }

    async fn sweep_if_due(&mut self) {
        if !self.to_sweep || self.lane.is_down() {
            return;
        }
        self.to_sweep = false;
        if let Err(error) = self.bucket.sweep().await {
            // Tried again when the bucket has taken an object.
            tracing::info!(%error, "uploads that were cut off earlier stay open at the bucket for now");
        }
    }

    fn go_down(&mut self, why: &str) {
        if !self.lane.is_down() {
            tracing::warn!(reason = why, "the bucket cannot be reached; uploads wait on this device");
        }
        self.lane.goes_down(self.clock.mono());
        if self.lane.is_loud() {
            let message = format!("The bucket cannot be reached ({why}). Results stay on this device and are uploaded when it is back.");
            self.options.alerts.raise(S3_UNREACHABLE, message, self.clock.now());
        }
    }

    fn start_due(&mut self) {
        let free = self.lane.slots(self.options.parallel).saturating_sub(self.uploads.len());
        if free == 0 {
            return;
        }
        // Rows on their way are due as well: they stay in the store until they are confirmed.
        let first = match self.lane.is_trial() {
            true => First::LeastTried,
            false if self.options.newest_first => First::Newest,
            false => First::Oldest,
        };
        let due = self.store.due_uploads(free + self.on_their_way.len(), first);
        for row in due {
            if self.uploads.len() >= self.lane.slots(self.options.parallel) {
                break;
            }
            let key = key_of(&row).to_owned();
            if self.on_their_way.values().any(|other| *other == key) {
                continue;
            }
            self.on_their_way.insert(row.seq, key);
            self.uploads.spawn(upload(self.store.clone(), self.bucket.clone(), self.options.strip.clone(), row));
        }
    }

    async fn settle(&mut self, done: Result<(UploadRow, End), tokio::task::JoinError>) {
        let (row, end) = match done {
            Ok(done) => done,
            Err(error) => {
                // Which row it was is not known any more: none is on its way in our books, the store still holds them all.
                tracing::error!(%error, "an upload ended by itself; it is started again");
                self.uploads.abort_all();
                while self.uploads.join_next().await.is_some() {}
                for (row, _) in self.on_their_way.drain() {
                    self.store.upload_released(row);
                }
                return self.lane.goes_down(self.clock.mono());
            }
        };
        self.on_their_way.remove(&row.seq);
        let noted = match end {
            End::Vouched => {
                self.lane.succeeded();
                self.options.alerts.resolve(S3_DENIED);
                self.options.alerts.resolve(S3_UNREACHABLE);
                self.store.upload_confirmed(row.seq).await
            }
            End::Hopeless(why) => {
                tracing::error!(row = %row.seq, reason = %why, "an upload is given up");
                self.store.upload_given_up(row.seq).await
            }
            End::Unstrippable(why) => {
                tracing::error!(row = %row.seq, reason = %why, "a photo's metadata cannot be cut out; the photo stays on this device");
                let message =
                    "A photo's metadata could not be cut out. The photo is kept on this device and is not uploaded. Contact support.";
                self.options.alerts.raise(STRIP_FAILED, message, self.clock.now());
                self.store.upload_given_up(row.seq).await
            }
            End::Failed(error) => {
                self.to_sweep = true;
                self.failed(&row, error).await
            }
        };
        match noted {
            // Its photo was deleted meanwhile.
            Ok(()) | Err(StoreError::NotFound(_)) => {}
            // Not noted, so it is done again: the same object, nothing doubled. Not at once: the disk may be full.
            Err(error) => {
                tracing::error!(%error, row = %row.seq, "what became of an upload could not be stored; it is done again");
                self.lane.goes_down(self.clock.mono());
            }
        }
    }

    async fn failed(&mut self, row: &UploadRow, error: ObjectStoreError) -> Result<(), StoreError> {
        let own = backoff(row.attempts, rand::rng().random());
        tracing::info!(%error, row = %row.seq, attempts = row.attempts, "an upload failed");
        match error {
            ObjectStoreError::Unreachable(why) => {
                // Down already: another upload of this moment asked. Else a probe tells the bucket's fault from the object's.
                if self.lane.is_down() {
                    self.store.upload_released(row.seq);
                    return Ok(());
                }
                match self.bucket.probe().await {
                    Err(ObjectStoreError::Unreachable(_)) => {
                        self.store.upload_released(row.seq);
                        self.go_down(&why);
                    }
                    // Large bodies to a server that refuses early end as a broken connection; the probe knows better.
                    Err(ObjectStoreError::Denied(why)) => return self.denied(row, &why, own).await,
                    _ => return self.store.upload_deferred(row.seq, own).await,
                }
                Ok(())
            }
            ObjectStoreError::Denied(why) => self.denied(row, &why, own).await,
            ObjectStoreError::Mismatch(_) | ObjectStoreError::Local(_) => self.store.upload_deferred(row.seq, own).await,
        }
    }

    /// `own`: the object's backoff, which grows. Keys that may put need not be allowed to delete: a refused delete holds up nobody else.
    async fn denied(&mut self, row: &UploadRow, why: &str, own: Duration) -> Result<(), StoreError> {
        let message = match row.task {
            UploadTask::Delete(_) => {
                format!("The bucket refuses to delete ({why}). What was deleted on this device stays there. Check the keys' rights.")
            }
            UploadTask::Put(_) => {
                self.lane.goes_down(self.clock.mono());
                format!(
                    "The bucket refuses uploads ({why}). Results stay on this device. Check the bucket's name, the keys and their rights."
                )
            }
        };
        self.options.alerts.raise(S3_DENIED, message, self.clock.now());
        self.store.upload_deferred(row.seq, own.max(DENIED_BACKOFF)).await
    }
}

fn key_of(row: &UploadRow) -> &str {
    match &row.task {
        UploadTask::Put(object) => &object.key,
        UploadTask::Delete(key) => key,
    }
}

async fn upload(store: Store, bucket: Arc<dyn ObjectStore>, strip: Option<Strip>, row: UploadRow) -> (UploadRow, End) {
    if let Err(error) = store.upload_started(row.seq).await {
        tracing::debug!(%error, row = %row.seq, "the start of an upload could not be noted");
    }
    let end = match &row.task {
        UploadTask::Delete(key) => bucket.delete(key).await.map_or_else(End::Failed, |()| End::Vouched),
        UploadTask::Put(object) => match strip.filter(|_| object.key.starts_with(ORIGINALS)) {
            None => put(&*bucket, object).await,
            Some(strip) => put_stripped(&*bucket, object, strip, copy_path(store.state_dir(), row.seq)).await,
        },
    };
    (row, end)
}

async fn put(bucket: &dyn ObjectStore, object: &PutObject) -> End {
    let error = match bucket.put(object).await {
        Ok(()) => return End::Vouched,
        Err(error @ ObjectStoreError::Local(_)) => error,
        Err(error) => return End::Failed(error),
    };
    let file = object.clone();
    match tokio::task::spawn_blocking(move || intact(&file)).await {
        Ok(Err(Unusable::ForGood(why))) => End::Hopeless(why),
        _ => End::Failed(error),
    }
}

/// Why a stored file cannot be sent.
enum Unusable {
    /// It is gone, or its bytes are not those that were stored: waiting mends neither.
    ForGood(String),
    /// No file descriptor, no memory, a disk that stumbles: tried again, however often it happened before.
    Now(String),
}

impl From<std::io::Error> for Unusable {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::ForGood("the file is gone".to_owned()),
            _ => Self::Now(error.to_string()),
        }
    }
}

fn intact(object: &PutObject) -> Result<(), Unusable> {
    let mut hash = Sha256::new();
    std::io::copy(&mut std::fs::File::open(&object.path)?, &mut hash)?;
    same_bytes(object, hash)
}

fn same_bytes(object: &PutObject, hash: Sha256) -> Result<(), Unusable> {
    let same = hash.finalize()[..] == object.sha256.0;
    same.then_some(()).ok_or_else(|| Unusable::ForGood("its bytes are not those that were stored".to_owned()))
}

/// A copy without metadata, for as long as it is sent. Where photos on their way in lie: what a power cut leaves there goes away at the
/// next start. One for each row: two owners of the same photo share its file, not its copy.
fn copy_path(state: &Path, row: Seq) -> PathBuf {
    incoming_dir(state).join(format!("stripped-{row}"))
}

async fn put_stripped(bucket: &dyn ObjectStore, object: &PutObject, strip: Strip, path: PathBuf) -> End {
    let original = object.clone();
    let made = tokio::task::spawn_blocking(move || stripped_copy(&original, &strip, path)).await;
    let copy = match made {
        Ok(Ok(copy)) => copy,
        Ok(Err(end)) => return end,
        Err(error) => return not_now(error),
    };
    let sent = PutObject { path: copy.path.clone(), sha256: copy.sha256, bytes: copy.bytes, ..object.clone() };
    // What is wrong with the copy says nothing about the original: the next attempt makes another.
    bucket.put(&sent).await.map_or_else(End::Failed, |()| End::Vouched)
}

fn not_now(error: impl std::fmt::Display) -> End {
    End::Failed(ObjectStoreError::Local(error.to_string()))
}

/// Removes its file when it goes.
struct Copy {
    path: PathBuf,
    sha256: Hash,
    bytes: u64,
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn stripped_copy(original: &PutObject, strip: &Strip, path: PathBuf) -> Result<Copy, End> {
    let bytes = whole(original).map_err(|unusable| match unusable {
        Unusable::ForGood(why) => End::Hopeless(why),
        Unusable::Now(why) => not_now(why),
    })?;
    let cut = strip(&bytes, &original.content_type).map_err(End::Unstrippable)?;
    drop(bytes);
    let copy = Copy { path, sha256: Hash(Sha256::digest(&cut).into()), bytes: cut.len() as u64 };
    std::fs::write(&copy.path, &cut).map_err(not_now)?;
    Ok(copy)
}

fn whole(object: &PutObject) -> Result<Vec<u8>, Unusable> {
    let bytes = std::fs::read(&object.path)?;
    same_bytes(object, Sha256::new_with_prefix(&bytes))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original(dir: &Path) -> PutObject {
        let (path, bytes) = (dir.join("abc123"), b"pixels+exif");
        std::fs::write(&path, bytes).expect("written");
        let sha256 = Hash(Sha256::digest(bytes).into());
        PutObject { key: "photos/a".to_owned(), path, content_type: "image/jpeg".to_owned(), sha256, bytes: bytes.len() as u64 }
    }

    fn cuts() -> Strip {
        Arc::new(|bytes, kind| {
            assert_eq!(kind, "image/jpeg");
            Ok(bytes[..6].to_vec())
        })
    }

    #[test]
    fn the_copy_that_is_sent_is_what_was_cut_and_goes_away_while_the_original_and_anothers_copy_stay() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(incoming_dir(dir.path())).expect("made");
        let original = original(dir.path());
        let [ours, theirs] =
            [7, 8].map(|row| stripped_copy(&original, &cuts(), copy_path(dir.path(), Seq(row))).unwrap_or_else(|_| panic!("cut")));
        assert_eq!(std::fs::read(&ours.path).expect("there"), b"pixels");
        assert_eq!((ours.bytes, ours.sha256), (6, Hash(Sha256::digest(b"pixels").into())));
        drop(ours);
        assert_eq!(std::fs::read(&theirs.path).expect("there"), b"pixels");
        drop(theirs);
        assert_eq!(std::fs::read_dir(incoming_dir(dir.path())).expect("a folder").count(), 0);
        assert!(original.path.exists());
    }

    #[test]
    fn a_photo_is_given_up_for_what_is_wrong_with_it_never_for_a_copy_that_could_not_be_written() {
        let dir = tempfile::tempdir().expect("a folder");
        let (original, nowhere) = (original(dir.path()), copy_path(dir.path(), Seq(7)));
        let made = |object: &PutObject, strip| stripped_copy(object, &strip, nowhere.clone());
        assert!(matches!(made(&original, cuts()), Err(End::Failed(ObjectStoreError::Local(_)))));
        assert!(matches!(made(&original, Arc::new(|_, _| Err("not a JPEG".to_owned()))), Err(End::Unstrippable(_))));
        let other = PutObject { sha256: Hash([0; 32]), ..original.clone() };
        assert!(matches!(made(&other, cuts()), Err(End::Hopeless(_))));
        let gone = PutObject { path: dir.path().join("none"), ..original };
        assert!(matches!(made(&gone, cuts()), Err(End::Hopeless(_))));
    }

    #[test]
    fn a_file_that_cannot_be_read_now_is_not_lost_and_one_that_is_gone_or_changed_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = original(dir.path());
        assert!(intact(&file).is_ok());
        let unreadable = PutObject { path: dir.path().to_owned(), ..file.clone() };
        assert!(matches!(intact(&unreadable), Err(Unusable::Now(_))));
        std::fs::write(&file.path, b"others").expect("written");
        assert!(matches!(intact(&file), Err(Unusable::ForGood(_))));
        std::fs::remove_file(&file.path).expect("removed");
        assert!(matches!(intact(&file), Err(Unusable::ForGood(_))));
    }
}

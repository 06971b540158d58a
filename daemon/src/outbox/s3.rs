//! The task that brings results and originals to the bucket: due rows in their order, a few at once, each confirmed only after the server
//! vouched for its bytes. When it may, and who is to blame for a failure: [`lane`](super::lane).
//!
//! ```text
//! due row --> upload_started --> (metadata cut out) --> put --ok--> upload_confirmed
//!                                                        |-- unreachable, probe fails too, or others are down --> upload_released, lane down
//!                                                        |-- denied                                           --> row aside, lane down, alert
//!                                                        |-- other failure                                    --> row waits 1 s .. 5 min
//!                                                        +-- the local file is gone                           --> upload_given_up
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
    store::{Store, StoreError, UploadRow, UploadTask},
};

/// Longest time without a look at the clock: windows open, and clocks jump.
const LOOK: Duration = Duration::from_secs(30);
/// Uploads that run when the daemon stops get this long; what is cut off then starts again from its beginning.
const GRACE: Duration = Duration::from_secs(5);
/// A file that cannot be read, though it is there, is given up after this many failures.
const UNREADABLE: u32 = 8;
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
    let task = Task { store, bucket, clock, options, lane: Lane::new(), on_their_way: HashMap::new(), uploads: JoinSet::new() };
    tokio::spawn(task.run(shutdown))
}

/// How an upload ended.
enum End {
    Vouched,
    /// It can never be uploaded: the local file is gone for good.
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
        let due = self.store.due_uploads(free + self.on_their_way.len(), self.options.newest_first);
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
            End::Failed(error) => self.failed(&row, error).await,
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
                    Err(ObjectStoreError::Denied(why)) => return self.denied(row, &why).await,
                    _ => return self.store.upload_deferred(row.seq, own).await,
                }
                Ok(())
            }
            ObjectStoreError::Denied(why) => self.denied(row, &why).await,
            ObjectStoreError::Mismatch(_) | ObjectStoreError::Local(_) => self.store.upload_deferred(row.seq, own).await,
        }
    }

    async fn denied(&mut self, row: &UploadRow, why: &str) -> Result<(), StoreError> {
        self.lane.goes_down(self.clock.mono());
        let message =
            format!("The bucket refuses uploads ({why}). Results stay on this device. Check the bucket's name, the keys and their rights.");
        self.options.alerts.raise(S3_DENIED, message, self.clock.now());
        self.store.upload_deferred(row.seq, DENIED_BACKOFF).await
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
            None => put(&*bucket, object, row.attempts).await,
            Some(strip) => put_stripped(&*bucket, object, strip, row.attempts).await,
        },
    };
    (row, end)
}

async fn put(bucket: &dyn ObjectStore, object: &PutObject, failures: u32) -> End {
    match bucket.put(object).await {
        Ok(()) => End::Vouched,
        Err(ObjectStoreError::Local(why)) if is_gone(&object.path).await || failures >= UNREADABLE => End::Hopeless(why),
        Err(error) => End::Failed(error),
    }
}

async fn is_gone(path: &Path) -> bool {
    matches!(tokio::fs::try_exists(path).await, Ok(false))
}

/// A copy without metadata, beside the original, for as long as it is sent. The same name each time: what a power cut leaves is
/// overwritten by the next attempt.
async fn put_stripped(bucket: &dyn ObjectStore, object: &PutObject, strip: Strip, failures: u32) -> End {
    let (original, content_type) = (object.path.clone(), object.content_type.clone());
    let made = tokio::task::spawn_blocking(move || stripped_copy(&original, &content_type, &strip)).await;
    let copy = match made {
        Ok(Ok(copy)) => copy,
        Ok(Err(StripError::Io(_))) if is_gone(&object.path).await => return End::Hopeless("the original is gone".to_owned()),
        Ok(Err(StripError::Io(why))) if failures >= UNREADABLE => return End::Hopeless(why),
        Ok(Err(StripError::Io(why))) => return End::Failed(ObjectStoreError::Local(why)),
        Ok(Err(StripError::Refused(why))) => return End::Unstrippable(why),
        Err(error) => return End::Failed(ObjectStoreError::Local(error.to_string())),
    };
    let sent = PutObject { path: copy.path.clone(), sha256: copy.sha256, bytes: copy.bytes, ..object.clone() };
    put(bucket, &sent, failures).await
}

enum StripError {
    Io(String),
    Refused(String),
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

fn stripped_copy(original: &Path, content_type: &str, strip: &Strip) -> Result<Copy, StripError> {
    let io = |e: std::io::Error| StripError::Io(e.to_string());
    let bytes = std::fs::read(original).map_err(io)?;
    let cut = strip(&bytes, content_type).map_err(StripError::Refused)?;
    drop(bytes);
    let copy = Copy { path: original.with_extension("stripped"), sha256: Hash(Sha256::digest(&cut).into()), bytes: cut.len() as u64 };
    std::fs::write(&copy.path, &cut).map_err(io)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_that_is_sent_is_what_was_cut_and_goes_away_while_the_original_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let original = dir.path().join("abc123");
        std::fs::write(&original, b"pixels+exif").expect("written");
        let cut: Strip = Arc::new(|bytes, kind| {
            assert_eq!(kind, "image/jpeg");
            Ok(bytes[..6].to_vec())
        });
        let copy = stripped_copy(&original, "image/jpeg", &cut).unwrap_or_else(|_| panic!("cut"));
        assert_eq!(std::fs::read(&copy.path).expect("there"), b"pixels");
        assert_eq!((copy.bytes, copy.sha256), (6, Hash(Sha256::digest(b"pixels").into())));
        drop(copy);
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1);
        let refuses: Strip = Arc::new(|_, _| Err("not a JPEG".to_owned()));
        assert!(matches!(stripped_copy(&original, "image/jpeg", &refuses), Err(StripError::Refused(_))));
        assert!(matches!(stripped_copy(&dir.path().join("none"), "image/jpeg", &cut), Err(StripError::Io(_))));
    }
}

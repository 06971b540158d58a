//! The one way in: limits -> fsynced file -> store -> acknowledge. Camera, folder and HTTP all use it.
//!
//! ```text
//! begin: room on the disk? -> blobs/in/<uuid>   write: bytes go there, hashed and counted as they come
//!           \-> no: nowhere                      write: hashed and counted alone
//! finish: fsync -> decode it whole (is it a picture?) -> linked as blobs/<aa>/<sha256>, folder fsynced -> Photo row committed
//!           \-> no room: this owner's photo of the same bytes, which needs none, or the refusal
//! ```
//! An upload that is dropped on the way leaves nothing; one that is cut off by a power cut leaves a file in `blobs/in/`, which the next
//! start removes.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sha2::{Digest, Sha256 as Hasher};
use tokio::{
    fs::File,
    io::AsyncWriteExt,
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
};
use uuid::Uuid;

use crate::{
    domain::{
        fault::{Code, Fault},
        ids::{Sha256, UserId},
        photo::{ClientInfo, Photo, Source},
    },
    imaging::decode::{self, Header, Limits},
    store::{self, Idempotency, NewPhoto, Store, StoreError, blobs},
};

/// Photos that are decoded at once: each may need some hundred MB.
const CHECKS: usize = 2;
/// Photos on their way in at once, waiting ones included; the next one is told that the device is busy.
const UPLOADS: usize = 64;
/// How often a photo takes its place again that a delete of the same bytes took away.
const PLACINGS: usize = 16;
/// Bytes gathered before they are written.
const WRITE_BUFFER: usize = 256 << 10;

/// Who sends, and what is said about the photo.
pub struct Incoming {
    pub user_id: UserId,
    pub source: Source,
    pub client: ClientInfo,
    pub idempotency: Option<Idempotency>,
}

#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("the photo is above the limit of {limit} bytes")]
    TooLarge { limit: u64 },
    /// Not an image, damaged, or above the pixel limit: the fault says which (its code is one of the file codes).
    #[error("{0}")]
    Refused(Fault),
    /// Too many photos are on their way in.
    #[error("the device is busy")]
    Busy,
    #[error(transparent)]
    Store(StoreError),
    #[error("the photo could not be written: {0}")]
    Io(io::Error),
}

impl From<StoreError> for IntakeError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Io(e) => e.into(),
            other => Self::Store(other),
        }
    }
}

impl From<io::Error> for IntakeError {
    fn from(e: io::Error) -> Self {
        // The filesystem filled up under us: to the sender that is the same as the reserve.
        if store::is_full(&e) { Self::Store(StoreError::DiskReserve { free: 0, reserve: 0 }) } else { Self::Io(e) }
    }
}

/// A photo that is on disk and in the store.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub photo: Photo,
    /// False: this owner sent these bytes before.
    pub fresh: bool,
}

#[derive(Clone)]
pub struct Intake {
    store: Store,
    max_upload: u64,
    limits: Limits,
    uploads: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    /// Bytes that uploads under way may still write: the reserve must hold for all of them together.
    promised: Arc<AtomicU64>,
    admission: Arc<Mutex<()>>,
}

/// A photo on its way in. Dropped: the file is removed.
pub struct Upload {
    /// Err: there is no room for it, and why.
    to: Result<Written, StoreError>,
    hasher: Hasher,
    bytes: u64,
    limit: u64,
    _place: OwnedSemaphorePermit,
}

struct Written {
    path: Temporary,
    file: File,
    buffer: Vec<u8>,
    _promise: Promise,
}

/// Bytes that were promised to one upload, given back at its end.
struct Promise(Arc<AtomicU64>, u64);

impl Promise {
    fn new(promised: &Arc<AtomicU64>, bytes: u64) -> Self {
        promised.fetch_add(bytes, Ordering::SeqCst);
        Self(Arc::clone(promised), bytes)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::SeqCst);
    }
}

/// A file that goes when nobody holds it any more.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(e) = blobs::remove(&self.0) {
            tracing::warn!(error = %e, "a temporary file stays until the next start");
        }
    }
}

impl Intake {
    pub fn new(store: Store, max_upload: u64, max_pixels: u64) -> Self {
        let semaphore = |n| Arc::new(Semaphore::new(n));
        Self {
            store,
            max_upload,
            limits: Limits { max_pixels },
            uploads: semaphore(UPLOADS),
            checks: semaphore(CHECKS),
            promised: Arc::default(),
            admission: Arc::default(),
        }
    }

    pub fn max_upload(&self) -> u64 {
        self.max_upload
    }

    /// `declared`: Content-Length, where known; else room is wanted for the largest photo.
    pub async fn begin(&self, declared: Option<u64>) -> Result<Upload, IntakeError> {
        if declared.is_some_and(|d| d > self.max_upload) {
            return Err(IntakeError::TooLarge { limit: self.max_upload });
        }
        let place = Arc::clone(&self.uploads).try_acquire_owned().map_err(|_| IntakeError::Busy)?;
        let to = self.room(declared.unwrap_or(self.max_upload)).await?;
        Ok(Upload { to, hasher: Hasher::new(), bytes: 0, limit: self.max_upload, _place: place })
    }

    /// A file for so many bytes, or why there is no room for them.
    async fn room(&self, bytes: u64) -> Result<Result<Written, StoreError>, IntakeError> {
        // One at a time: two must not be given the same room, and one that gets none must not keep another from it.
        let turn = self.admission.lock().await;
        match self.store.admit(bytes, self.promised.load(Ordering::SeqCst)).await {
            Ok(()) => {}
            Err(full @ (StoreError::DiskReserve { .. } | StoreError::OverCap { .. })) => return Ok(Err(full)),
            Err(e) => return Err(e.into()),
        }
        let promise = Promise::new(&self.promised, bytes);
        drop(turn);
        Ok(Ok(Written::create(self.store.state_dir(), promise).await?))
    }

    pub async fn finish(&self, mut upload: Upload, incoming: Incoming) -> Result<Accepted, IntakeError> {
        if upload.bytes == 0 {
            return Err(IntakeError::Refused(Fault::new(Code::EmptyFile, "0 bytes")));
        }
        let sha256 = Sha256(std::mem::take(&mut upload.hasher).finalize().into());
        let mut written = match upload.to {
            Ok(written) => written,
            Err(full) => return self.known(sha256, incoming, full).await,
        };
        written.flush().await?;
        written.file.sync_all().await?;
        match self.store.admit(0, 0).await {
            Err(full @ (StoreError::DiskReserve { .. } | StoreError::OverCap { .. })) => return self.known(sha256, incoming, full).await,
            other => other?,
        }
        let header = self.check(&written.path.0).await?;
        let new = NewPhoto {
            user_id: incoming.user_id,
            sha256,
            bytes: upload.bytes,
            width: header.width,
            height: header.height,
            content_type: header.format,
            source: incoming.source,
            client: ClientInfo { captured_at: incoming.client.captured_at.or(header.captured_at), ..incoming.client },
        };
        // To its end even if the sender hangs up: between its name and its row a blob is nobody's.
        let this = self.clone();
        let kept = tokio::spawn(async move { this.keep(new, &written.path.0, incoming.idempotency).await });
        kept.await.map_err(|e| io::Error::other(e.to_string()))?
    }

    /// Gives the checked file its name and its row.
    async fn keep(&self, new: NewPhoto, file: &Path, idempotency: Option<Idempotency>) -> Result<Accepted, IntakeError> {
        let sha256 = new.sha256;
        let mut tries = (0..PLACINGS).rev();
        loop {
            self.place(sha256, file).await?;
            match self.store.add_photo(new.clone(), idempotency.clone()).await {
                // A delete of the same bytes came in between: our own copy takes the place again.
                Err(StoreError::Io(e)) if e.kind() == io::ErrorKind::NotFound && tries.next().is_some() => {}
                Ok((photo, fresh)) => return Ok(Accepted { photo, fresh }),
                Err(e) => {
                    // Err: the next start sweeps it.
                    let _stays = self.store.forget_blob(sha256).await;
                    return Err(e.into());
                }
            }
        }
    }

    /// Bytes that are here already need no room: this owner's photo of them, or why there is no room.
    async fn known(&self, sha256: Sha256, incoming: Incoming, full: StoreError) -> Result<Accepted, IntakeError> {
        let Incoming { user_id, client, idempotency, .. } = incoming;
        let known = self.store.known_photo(user_id, sha256, client, idempotency).await?;
        known.map(|photo| Accepted { photo, fresh: false }).ok_or(IntakeError::Store(full))
    }

    pub async fn accept_bytes(&self, bytes: Vec<u8>, incoming: Incoming) -> Result<Accepted, IntakeError> {
        let mut upload = self.begin(Some(bytes.len() as u64)).await?;
        upload.write(&bytes).await?;
        drop(bytes);
        self.finish(upload, incoming).await
    }

    /// Decodes the whole file once: what is acknowledged can be worked on.
    async fn check(&self, path: &Path) -> Result<Header, IntakeError> {
        let _turn = Arc::clone(&self.checks).acquire_owned().await.map_err(|_| IntakeError::Busy)?;
        let (path, limits) = (path.to_owned(), self.limits);
        let checked = tokio::task::spawn_blocking(move || -> io::Result<_> {
            let bytes = std::fs::read(path)?;
            // A decoder that panics on some file must cost that file alone.
            Ok(std::panic::catch_unwind(|| decode::check(&bytes, &limits)))
        });
        match checked.await.map_err(|e| io::Error::other(e.to_string()))?? {
            Ok(Ok(header)) => Ok(header),
            Ok(Err(e)) => Err(IntakeError::Refused(e.fault())),
            Err(_) => Err(IntakeError::Refused(Fault::new(Code::ImageCorrupt, "the decoder panicked"))),
        }
    }

    async fn place(&self, sha256: Sha256, tmp: &Path) -> Result<(), IntakeError> {
        let (state, tmp) = (self.store.state_dir().to_owned(), tmp.to_owned());
        let placed = tokio::task::spawn_blocking(move || blobs::place(&state, &sha256, &tmp));
        Ok(placed.await.map_err(|e| io::Error::other(e.to_string()))??)
    }
}

impl Upload {
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), IntakeError> {
        self.bytes += chunk.len() as u64;
        if self.bytes > self.limit {
            return Err(IntakeError::TooLarge { limit: self.limit });
        }
        self.hasher.update(chunk);
        match &mut self.to {
            Ok(written) => Ok(written.write(chunk).await?),
            Err(_) => Ok(()),
        }
    }

    /// SHA-256 of the bytes so far: for Idempotency-Keys, which cover the body.
    pub fn sha256(&self) -> Sha256 {
        Sha256(self.hasher.clone().finalize().into())
    }
}

impl Written {
    async fn create(state: &Path, promise: Promise) -> io::Result<Self> {
        let path = Temporary(blobs::incoming_dir(state).join(Uuid::now_v7().to_string()));
        let file = File::create(&path.0).await?;
        Ok(Self { path, file, buffer: Vec::with_capacity(WRITE_BUFFER), _promise: promise })
    }

    async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(chunk);
        if self.buffer.len() >= WRITE_BUFFER {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer).await?;
        self.file.flush().await?;
        self.buffer.clear();
        Ok(())
    }
}

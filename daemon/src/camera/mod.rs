//! Owns the camera threads: open, reopen, burst and choice, preview. Frames come from adapters, photos go to intake.
//!
//! ```text
//!            open             a frame
//!  opening ---------> settle ---------> ready <----+
//!     |                 |                 |        | opened again, 0.5 s .. 5 s apart
//!     +------ no -------+--- unplugged ---+-> gone-+
//! ```
//!
//! One OS thread a camera ([`thread`]): a frame source blocks, and a camera that hangs must hold up nothing but itself. A capture is a
//! message to that thread and an answer within [`CAPTURE_TIMEOUT`]; the intake (limits, disk, store) runs on the asker's side, so a full
//! disk never stops a camera. What a watched folder brings is taken in by one forwarder task, in order, and tried again until the device
//! has room: the file stays where it is, and after a restart its bytes are known.

mod pixels;
#[cfg(test)]
mod tests;
mod thread;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};

use crate::{
    domain::{
        ids::UserId,
        job::{Merge, Misfit},
        photo::{ClientInfo, Photo, Source},
    },
    imaging::cores,
    intake::{Accepted, Incoming, Intake, IntakeError},
    ports::{CameraError, CameraOpener},
};

/// A person waits before the kiosk: a camera that gave nothing by now will not.
pub const CAPTURE_TIMEOUT: Duration = Duration::from_secs(15);
/// Captures that wait for one camera; more are refused at once.
const MAX_WAITING: usize = 8;
/// Photos of watched folders between threads and intake; they are whole files in memory.
const MAX_FORWARDED: usize = 2;
/// Between two tries to take in a watched photo: soon after a short lack of room, seldom in a long one.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CameraStatus {
    pub name: String,
    /// v4l | folder | synthetic
    pub kind: String,
    /// opening | ready | gone
    pub state: String,
    /// Why it is not ready.
    pub reason: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("no camera is configured")]
    NoCamera,
    #[error("there is no camera named {0}")]
    Unknown(String),
    /// Others take photos with it; it may well be there.
    #[error("the camera is busy with other captures; try again in a moment")]
    Busy,
    #[error(transparent)]
    Camera(#[from] CameraError),
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

/// One configured camera.
#[derive(Clone)]
pub struct CameraSetup {
    pub name: String,
    /// v4l | folder | synthetic. `v4l` is asked for a frame now and then while nobody looks, to notice an unplug.
    pub kind: String,
    /// Whose photos these are.
    pub owner: UserId,
    pub opener: Arc<dyn CameraOpener>,
    /// Frames of one capture, at least 1; the sharpest is the photo.
    pub burst: u32,
    /// So many of the next sharpest are kept beside it, to be merged; below `burst`.
    pub merge: u32,
    /// Frames are dropped for this long after each opening (exposure, focus); zero for what needs none.
    pub settle: Duration,
    /// A folder: new photos go in by themselves, and a capture gives the newest one.
    pub watched: bool,
}

/// A photo before the intake.
#[derive(Debug)]
pub struct CapturedPhoto {
    pub bytes: Vec<u8>,
    pub owner: UserId,
    pub source: Source,
    pub client: ClientInfo,
}

/// The way in: [`Intake::accept_bytes`] in the daemon.
pub type Deliver = Arc<dyn Fn(CapturedPhoto) -> BoxFuture<'static, Result<Accepted, IntakeError>> + Send + Sync>;

/// What happens to a photo of a watched folder once it is in: app.rs submits a job in the default lane. `fresh == false` means that these
/// bytes were here before (a restart looks at every file again): a new job is wanted only where the photo has none. An error (queue full)
/// is tried again.
pub type OnPhoto = Arc<dyn Fn(Accepted) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

#[derive(Clone)]
pub struct Cameras {
    inner: Arc<Inner>,
}

struct Inner {
    cameras: BTreeMap<String, Camera>,
    deliver: Deliver,
    forwarder: Option<AbortHandle>,
}

struct Camera {
    owner: UserId,
    watched: bool,
    shared: Arc<Shared>,
    commands: SyncSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What a camera's thread shows to the outside.
struct Shared {
    status: Mutex<CameraStatus>,
    preview: watch::Sender<Option<Arc<Vec<u8>>>>,
    stop: AtomicBool,
}

impl Shared {
    fn set(&self, state: &str, reason: Option<String>) {
        let mut status = self.status.lock().expect("no panic while it is held");
        if status.state != state {
            tracing::info!(camera = %status.name, state, reason = reason.as_deref().unwrap_or(""), "camera");
        }
        state.clone_into(&mut status.state);
        status.reason = reason;
    }

    /// Why the camera is not there.
    fn gone(&self) -> Option<String> {
        let status = self.status.lock().expect("no panic while it is held");
        (status.state == "gone").then(|| status.reason.clone().unwrap_or_default())
    }
}

enum Command {
    /// The flag is set once its turn has come.
    Capture(oneshot::Sender<Result<Burst, CameraError>>, Arc<AtomicBool>),
    /// Somebody looks at the preview, or it is time to stop.
    Wake,
}

/// What is kept of a burst.
#[derive(Debug)]
struct Burst {
    sharpest: Shot,
    /// Sharpest first; other bytes than `sharpest`, and than each other.
    others: Vec<Shot>,
}

/// A chosen frame, as a file.
#[derive(Debug)]
struct Shot {
    bytes: Vec<u8>,
    captured_at: Option<jiff::Timestamp>,
}

/// A capture that is on disk and in the store.
#[derive(Debug)]
pub struct Taken {
    pub photo: Photo,
    /// The burst's other frames that were kept, photos of their own.
    pub others: Vec<Photo>,
}

impl Taken {
    /// What the photo's job is to merge. None: there is nothing.
    pub fn merge(&self) -> Option<Merge> {
        let with: Vec<_> = self.others.iter().map(|photo| photo.id).collect();
        (!with.is_empty()).then_some(Merge { with, misfit: Misfit::LeftOut })
    }
}

impl Cameras {
    /// Starts a thread for each camera and returns at once; cameras open in the background. Needs a tokio runtime around it.
    pub fn start(setups: Vec<CameraSetup>, intake: Intake, on_photo: OnPhoto) -> Self {
        let deliver: Deliver = Arc::new(move |photo: CapturedPhoto| {
            let intake = intake.clone();
            Box::pin(async move {
                let CapturedPhoto { bytes, owner, source, client } = photo;
                intake.accept_bytes(bytes, Incoming { user_id: owner, source, client, idempotency: None }).await
            })
        });
        Self::start_with(setups, deliver, on_photo)
    }

    /// [`Cameras::start`] with another way in.
    pub fn start_with(setups: Vec<CameraSetup>, deliver: Deliver, on_photo: OnPhoto) -> Self {
        let (photos, incoming) = mpsc::channel(MAX_FORWARDED);
        let forwarder = setups.iter().any(|s| s.watched).then(|| tokio::spawn(forward(incoming, deliver.clone(), on_photo)).abort_handle());
        let cameras = setups.into_iter().map(|setup| (setup.name.clone(), Camera::start(setup, photos.clone()))).collect();
        Self { inner: Arc::new(Inner { cameras, deliver, forwarder }) }
    }

    pub fn list(&self) -> Vec<CameraStatus> {
        self.inner.cameras.values().map(|c| c.shared.status.lock().expect("no panic while it is held").clone()).collect()
    }

    /// Takes a photo and brings it in. None: the first camera by name. The photo belongs to the camera's configured owner, unless `owner`
    /// is given. At most [`CAPTURE_TIMEOUT`], and the intake's time.
    pub async fn capture(&self, name: Option<&str>, owner: Option<UserId>, client: ClientInfo) -> Result<Taken, CaptureError> {
        let camera = self.camera(name)?;
        let (reply, answer) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        camera.commands.try_send(Command::Capture(reply, Arc::clone(&begun))).map_err(|e| match e {
            TrySendError::Full(_) => CaptureError::Busy,
            TrySendError::Disconnected(_) => CameraError::Gone("the daemon is stopping".to_owned()).into(),
        })?;
        let Burst { sharpest, others } = tokio::time::timeout(CAPTURE_TIMEOUT, answer)
            .await
            .map_err(|_| if begun.load(Ordering::Relaxed) { CameraError::TimedOut(CAPTURE_TIMEOUT).into() } else { camera.not_begun() })?
            .map_err(|_| CameraError::Gone("it went away during the capture".to_owned()))??;
        let owner = owner.unwrap_or_else(|| camera.owner.clone());
        let source = if camera.watched { Source::Folder } else { Source::Camera };
        let deliver = |bytes, captured_at| {
            let client = ClientInfo { captured_at, ..client.clone() };
            (self.inner.deliver)(CapturedPhoto { bytes, owner: owner.clone(), source, client })
        };
        let photo = deliver(sharpest.bytes, client.captured_at.or(sharpest.captured_at)).await?.photo;
        let mut kept = Vec::new();
        for shot in others {
            match deliver(shot.bytes, shot.captured_at.or(client.captured_at)).await {
                Ok(accepted) => kept.push(accepted.photo),
                // The photo itself is in: it is worked on without this one.
                Err(e) => tracing::warn!(error = %e, "a frame of a burst was not taken in"),
            }
        }
        Ok(Taken { photo, others: kept })
    }

    /// The newest preview picture (JPEG, at most [`pixels::PREVIEW_WIDTH`] px wide); it moves only while somebody holds a receiver.
    pub fn preview(&self, name: &str) -> Result<watch::Receiver<Option<Arc<Vec<u8>>>>, CaptureError> {
        let camera = self.camera(Some(name))?;
        if let Some(why) = camera.shared.gone() {
            return Err(CameraError::Gone(why).into());
        }
        let receiver = camera.shared.preview.subscribe();
        // A full queue wakes the thread as well.
        let _ = camera.commands.try_send(Command::Wake);
        Ok(receiver)
    }

    /// Whether a camera that was there has gone.
    pub fn is_gone(&self, name: &str) -> bool {
        self.camera(Some(name)).is_ok_and(|camera| camera.shared.gone().is_some())
    }

    /// Ends the threads and waits for them: at most one frame's time-out. Blocking; dropping the last clone does the same.
    pub fn stop(&self) {
        self.inner.stop();
    }

    fn camera(&self, name: Option<&str>) -> Result<&Camera, CaptureError> {
        match name {
            None => self.inner.cameras.values().next().ok_or(CaptureError::NoCamera),
            Some(name) => self.inner.cameras.get(name).ok_or_else(|| CaptureError::Unknown(name.to_owned())),
        }
    }
}

impl Camera {
    fn start(setup: CameraSetup, photos: mpsc::Sender<CapturedPhoto>) -> Self {
        let status = CameraStatus { name: setup.name.clone(), kind: setup.kind.clone(), state: "opening".to_owned(), reason: None };
        let shared = Arc::new(Shared { status: Mutex::new(status), preview: watch::Sender::new(None), stop: AtomicBool::new(false) });
        let (commands, inbox) = sync_channel(MAX_WAITING);
        let (owner, watched) = (setup.owner.clone(), setup.watched);
        let name = format!("camera-{}", setup.name);
        let worker = thread::Worker::new(setup, shared.clone(), inbox, photos);
        let thread = std::thread::Builder::new().name(name).spawn(move || cores::by_itself(|| worker.run()));
        let thread = thread.map_err(|e| shared.set("gone", Some(format!("its thread could not be started: {e}")))).ok();
        Self { owner, watched, shared, commands, thread: Mutex::new(thread) }
    }

    /// Why a capture's turn never came: behind others at a camera that works, or before one that does not open.
    fn not_begun(&self) -> CaptureError {
        let ready = self.shared.status.lock().expect("no panic while it is held").state == "ready";
        if ready { CaptureError::Busy } else { CameraError::TimedOut(CAPTURE_TIMEOUT).into() }
    }
}

impl Inner {
    fn stop(&self) {
        for camera in self.cameras.values() {
            camera.shared.stop.store(true, Ordering::Relaxed);
            let _ = camera.commands.try_send(Command::Wake);
        }
        if let Some(forwarder) = &self.forwarder {
            forwarder.abort();
        }
        for camera in self.cameras.values() {
            let thread = camera.thread.lock().expect("no panic while it is held").take();
            if thread.is_some_and(|t| t.join().is_err()) {
                tracing::error!("a camera's thread had panicked");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Brings watched photos in, one after the other. Only a photo that is itself at fault is passed over; for everything else there is
/// patience, and the folder's thread waits with it.
async fn forward(mut incoming: mpsc::Receiver<CapturedPhoto>, deliver: Deliver, on_photo: OnPhoto) {
    while let Some(CapturedPhoto { bytes, owner, source, client }) = incoming.recv().await {
        let accepted = patiently(|| {
            let photo = CapturedPhoto { bytes: bytes.clone(), owner: owner.clone(), source, client: client.clone() };
            let answer = deliver(photo);
            async move {
                match answer.await {
                    Ok(accepted) => Ok(Some(accepted)),
                    Err(e @ (IntakeError::Refused(_) | IntakeError::TooLarge { .. })) => {
                        tracing::warn!(error = %e, "a photo of the watched folder was refused");
                        Ok(None)
                    }
                    Err(e) => Err(e.to_string()),
                }
            }
        })
        .await;
        drop(bytes);
        if let Some(accepted) = accepted {
            patiently(|| on_photo(accepted.clone())).await;
        }
    }
}

async fn patiently<T, F: Future<Output = Result<T, String>>>(mut what: impl FnMut() -> F) -> T {
    let mut wait = RETRY.0;
    loop {
        match what().await {
            Ok(done) => return done,
            Err(reason) => {
                tracing::warn!(reason, again_in_s = wait.as_secs(), "a photo of the watched folder has to wait");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY.1);
            }
        }
    }
}

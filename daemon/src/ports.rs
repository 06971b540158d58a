//! The seams: what the house asks of the world outside. Each trait has a real adapter under `adapters/`; app.rs plugs them in.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use crate::domain::{fault::Code, ids::Sha256};

/// Time. `mono` never jumps: waits and backoff use it; `now` is for people and signatures.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
    /// Since the process started.
    fn mono(&self) -> Duration;
}

// ---- cameras

/// Pixels as the camera gave them; `camera.rs` converts.
#[derive(Debug, Clone)]
pub enum FramePixels {
    /// A whole file in one of the door's formats (MJPEG frame, file of a watched folder): kept byte for byte as the original.
    File(Vec<u8>),
    /// Y0 U Y1 V, BT.601 limited range; `stride` bytes a row.
    Yuyv { data: Vec<u8>, stride: usize },
    /// H x W x 3, sRGB, u8.
    Rgb(Vec<u8>),
}

#[derive(Debug, Clone)]
pub struct Frame {
    /// px; 0 where a `File` was not looked into.
    pub width: u32,
    pub height: u32,
    pub pixels: FramePixels,
    pub captured_at: Option<Timestamp>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum CameraError {
    #[error("the camera is not there: {0}")]
    Gone(String),
    #[error("the camera gave no picture within {0:?}")]
    TimedOut(Duration),
    #[error("the camera has no picture: {0}")]
    Empty(String),
    #[error("the camera cannot do this: {0}")]
    Unsupported(String),
    #[error("camera: {0}")]
    Io(String),
}

/// One open camera. Blocking: it lives on a thread of `camera.rs`, never on the async runtime.
pub trait FrameSource: Send {
    /// The next fresh frame; frames that waited in a queue are dropped.
    fn next(&mut self, timeout: Duration) -> Result<Frame, CameraError>;
    /// A capture begins: the frames that follow belong together. For a camera that is asked for them, and not for what lies before it.
    fn capture_begins(&mut self) {}
    /// The newest picture there is, for a capture: a folder gives its newest photo, also one that `next` gave before.
    fn newest(&mut self, timeout: Duration) -> Result<Frame, CameraError> {
        self.next(timeout)
    }
}

/// Opens (and opens again, after an unplug) one configured camera.
pub trait CameraOpener: Send + Sync {
    fn open(&self) -> Result<Box<dyn FrameSource>, CameraError>;
}

// ---- networks

/// A dense f32 tensor, row-major; images are 1 x C x H x W.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct ModelError {
    /// RuntimeMissing, ModelMismatch, ModelFailed ...
    pub code: Code,
    pub detail: String,
}

/// What one execution provider did of a network: read from the profile of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// "tensorrt", "cuda", "cpu".
    pub provider: String,
    pub nodes: usize,
    /// Time in them, us.
    pub us: u64,
}

/// Ends a run from another thread. Clones share one word: once it is said, it stays said.
#[derive(Clone, Default)]
pub struct RunStop(Arc<Mutex<Stopping>>);

#[derive(Default)]
struct Stopping {
    said: bool,
    /// What ends the runs that are under way, by number.
    runs: Vec<(u64, Box<dyn Fn() + Send>)>,
    next: u64,
}

impl RunStop {
    pub fn stop(&self) {
        let mut inner = self.lock();
        inner.said = true;
        inner.runs.iter().for_each(|(_, end)| end());
    }

    pub fn is_stopped(&self) -> bool {
        self.lock().said
    }

    /// `end` is called on [`RunStop::stop`], at once where that was said already, until the guard is dropped. It must not wait.
    pub fn on_stop(&self, end: impl Fn() + Send + 'static) -> OnStop {
        let mut inner = self.lock();
        if inner.said {
            end();
        }
        let number = inner.next;
        inner.next += 1;
        inner.runs.push((number, Box::new(end)));
        OnStop { stop: self.clone(), number }
    }

    fn lock(&self) -> MutexGuard<'_, Stopping> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`RunStop::on_stop`].
pub struct OnStop {
    stop: RunStop,
    number: u64,
}

impl Drop for OnStop {
    fn drop(&mut self) {
        self.stop.lock().runs.retain(|(number, _)| *number != self.number);
    }
}

/// One loaded network. One session, one thread.
pub trait Model: Send {
    /// Input and output tensors have the shapes that the manifest states. A run that `stop` ends is an error.
    fn run(&mut self, input: &Tensor, stop: &RunStop) -> Result<Vec<Tensor>, ModelError>;
    /// The first run, observed: the answer, and what each provider did for it. Once.
    fn trial(&mut self, input: &Tensor, stop: &RunStop) -> Result<(Vec<Tensor>, Vec<Share>), ModelError>;
    /// Time spent inside the library's own run since it was loaded: what is left of a stage's wall time is ours.
    fn busy(&self) -> Duration {
        Duration::ZERO
    }
}

/// What to load, and what it must look like.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    pub name: String,
    pub file: PathBuf,
    pub input: String,
    /// A second input, N x 1 x H x W, which gets the last channel of the tensor; None: `input` gets all channels.
    pub mask: Option<String>,
    pub output: String,
    /// A shape to try it with once after loading (canary).
    pub canary: Vec<usize>,
}

/// Where a network is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// Execution providers in this order, the CPU behind them; each must register. Empty: the CPU alone.
    pub providers: Vec<String>,
    /// Half precision, which counts with TensorRT alone.
    pub fp16: bool,
    /// TensorRT: where the engine for exactly the spec's `canary` shape and its timing cache are kept; None: they are not.
    pub engine: Option<PathBuf>,
}

/// The library that runs networks.
pub trait ModelRuntime: Send + Sync {
    /// Whether these providers can be registered at all. Quick; says nothing about a network. Errors: why not.
    fn registers(&self, providers: &[String]) -> Result<(), ModelError>;
    /// With TensorRT and no kept engine this takes minutes. Errors: ModelMismatch, ModelFailed.
    fn load(&self, spec: &ModelSpec, on: &Placement) -> Result<Box<dyn Model>, ModelError>;
    /// Name, version and path of the library, for `/device` and `doctor`.
    fn about(&self) -> String;
    /// What a kept engine depends on beside its network: versions of the library and of TensorRT, the GPU.
    fn identity(&self) -> String;
}

// ---- the bucket

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutObject {
    pub key: String,
    pub path: PathBuf,
    pub content_type: String,
    pub sha256: Sha256,
    pub bytes: u64,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectStoreError {
    /// No connection, time-out, 5xx: try again; says nothing about the object.
    #[error("the bucket cannot be reached: {0}")]
    Unreachable(String),
    /// 403, no such bucket: somebody must change something, keep trying slowly.
    #[error("the bucket refuses: {0}")]
    Denied(String),
    /// The server's checksum differs from ours.
    #[error("the bucket holds other bytes than were sent: {0}")]
    Mismatch(String),
    #[error("the local file cannot be read: {0}")]
    Local(String),
}

/// An S3-compatible bucket.
pub trait ObjectStore: Send + Sync {
    /// Uploads and returns only when the server vouched for the bytes. Putting the same object again changes nothing.
    fn put<'a>(&'a self, object: &'a PutObject) -> BoxFuture<'a, Result<(), ObjectStoreError>>;
    /// Deleting what is not there is fine.
    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ObjectStoreError>>;
    /// One cheap question: is the bucket there and are we let in?
    fn probe(&self) -> BoxFuture<'_, Result<(), ObjectStoreError>>;
    /// Takes back what an earlier process began at the bucket and never finished. An error: some of it is left for the next call.
    fn sweep(&self) -> BoxFuture<'_, Result<(), ObjectStoreError>>;
    /// A presigned GET, made without the network.
    fn presign_get<'a>(&'a self, key: &'a str, ttl: Duration) -> BoxFuture<'a, Result<String, ObjectStoreError>>;
}

// ---- the broker

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    AtMostOnce,
    AtLeastOnce,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The whole topic, prefix and device included.
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: Qos,
    pub retain: bool,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("the broker is away: {0}")]
pub struct SinkError(pub String);

/// Publishes that a caller may have unanswered at a time; a few more are refused. Small, so that a break fails few.
pub const PUBLISHES_AT_ONCE: usize = 32;

/// An MQTT broker.
pub trait EventSink: Send + Sync {
    /// Messages leave in the order of these calls, whenever and in whatever order the futures are polled. The future resolves on the
    /// broker's PUBACK (QoS 1) or once sent (QoS 0). Fails when the connection breaks or too many wait: publish again.
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), SinkError>>;
    /// Whether the broker is connected; each rise of it is a new connection (birth messages go out then).
    fn connected(&self) -> watch::Receiver<bool>;
    /// Messages on the subscribed topics. Taken once.
    fn incoming(&self) -> Option<mpsc::Receiver<Message>>;
    /// Publishes `last` (QoS 1, retained), then says goodbye, within `limit`.
    fn close(&self, last: Message, limit: Duration) -> BoxFuture<'_, ()>;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_run_is_told_to_end_once_and_also_when_the_word_came_before_it_began_and_not_after_it_ended() {
        let (stop, told) = (RunStop::default(), Arc::new(AtomicUsize::new(0)));
        let count = || {
            let told = Arc::clone(&told);
            move || {
                told.fetch_add(1, Ordering::SeqCst);
            }
        };
        drop(stop.on_stop(count()));
        let running = stop.on_stop(count());
        stop.clone().stop();
        assert_eq!((told.load(Ordering::SeqCst), stop.is_stopped()), (1, true), "the one that had ended was left alone");
        drop(running);
        let _late = stop.on_stop(count());
        assert_eq!(told.load(Ordering::SeqCst), 2, "it begins, and is told at once");
    }
}

//! The life of one camera, on its own OS thread.
//!
//! While it is open, the thread waits for captures, and between them does what is due: a preview picture while somebody looks, the next
//! new file of a watched folder, a sign of life of a camera with a cable. Any error of the source ends the session: the source is dropped
//! (a V4L2 device can be opened once) and opened again.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{Burst, CameraSetup, CapturedPhoto, Command, Shared, Shot, pixels};
use crate::{
    domain::photo::{ClientInfo, Source},
    ports::{CameraError, Frame, FrameSource},
};

/// Between two tries to open a camera that is not there.
const REOPEN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// A live camera gives several frames a second; slow exposures and USB start-up included.
const FRAME_TIMEOUT: Duration = Duration::from_secs(3);
/// 6 to 7 preview pictures a second: enough to aim, little work.
const PREVIEW_EVERY: Duration = Duration::from_millis(150);
/// An unplugged camera is noticed within this time, though nobody looks.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);
/// Between two looks into a watched folder.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// Nothing is due: only a message wakes the thread. Finite, so that a lost wake-up costs seconds and not for ever.
const IDLE: Duration = Duration::from_secs(5);

pub(super) struct Worker {
    setup: CameraSetup,
    shared: Arc<Shared>,
    inbox: Receiver<Command>,
    photos: mpsc::Sender<CapturedPhoto>,
    /// A watched photo that found the forwarder's queue full.
    pending: Option<CapturedPhoto>,
    backoff: Duration,
    last_preview: Instant,
    last_frame: Instant,
}

impl Worker {
    pub(super) fn new(setup: CameraSetup, shared: Arc<Shared>, inbox: Receiver<Command>, photos: mpsc::Sender<CapturedPhoto>) -> Self {
        let now = Instant::now();
        Self { setup, shared, inbox, photos, pending: None, backoff: REOPEN.0, last_preview: now, last_frame: now }
    }

    pub(super) fn run(mut self) {
        while !self.stopping() {
            // An adapter's panic (the v4l crate panics in drop where a driver misbehaves) is one more way of being gone.
            let ended = catch_unwind(AssertUnwindSafe(|| self.session()))
                .unwrap_or_else(|_| Some(CameraError::Io("the camera's driver gave an answer that makes no sense".to_owned())));
            let Some(why) = ended else { return };
            self.shared.set("gone", Some(why.to_string()));
            self.shared.preview.send_replace(None);
            self.wait_closed(&why);
            self.backoff = (self.backoff * 2).min(REOPEN.1);
        }
    }

    fn stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Opens the camera and serves it until it fails (why) or the daemon stops (None).
    fn session(&mut self) -> Option<CameraError> {
        let served = self.setup.opener.open().and_then(|mut source| {
            self.settle(source.as_mut())?;
            self.shared.set("ready", None);
            self.serve(source.as_mut())
        });
        served.err()
    }

    fn settle(&mut self, source: &mut dyn FrameSource) -> Result<(), CameraError> {
        let start = Instant::now();
        while start.elapsed() < self.setup.settle && !self.stopping() {
            source.next(FRAME_TIMEOUT)?;
            self.seen();
        }
        Ok(())
    }

    fn serve(&mut self, source: &mut dyn FrameSource) -> Result<(), CameraError> {
        while !self.stopping() {
            match self.inbox.recv_timeout(self.next_due()) {
                Ok(Command::Capture(reply, _)) if reply.is_closed() => {}
                Ok(Command::Capture(reply, begun)) => {
                    begun.store(true, Ordering::Relaxed);
                    let burst = self.shoot(source);
                    let fatal = burst.as_ref().err().filter(|e| ends_session(e)).cloned();
                    let _ = reply.send(burst);
                    if let Some(why) = fatal {
                        return Err(why);
                    }
                }
                Ok(Command::Wake) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if self.stopping() {
                break;
            }
            if self.setup.watched {
                self.watch(source)?;
            } else if self.has_cable() && self.last_frame.elapsed() >= SIGN_OF_LIFE {
                source.next(FRAME_TIMEOUT)?;
                self.seen();
            }
            self.preview(source)?;
        }
        Ok(())
    }

    fn has_cable(&self) -> bool {
        self.setup.kind == "v4l"
    }

    fn seen(&mut self) {
        self.last_frame = Instant::now();
        self.backoff = REOPEN.0;
    }

    fn next_due(&self) -> Duration {
        if self.shared.preview.receiver_count() > 0 && !self.setup.watched {
            return PREVIEW_EVERY.saturating_sub(self.last_preview.elapsed());
        }
        match (self.setup.watched, self.has_cable()) {
            (true, _) => WATCH_EVERY,
            (_, true) => SIGN_OF_LIFE.saturating_sub(self.last_frame.elapsed()),
            _ => IDLE,
        }
    }

    /// A burst, of which the sharpest frame is kept, and the next sharpest where they are to be merged. A damaged frame is passed over; only
    /// the best so far are held.
    fn shoot(&mut self, source: &mut dyn FrameSource) -> Result<Burst, CameraError> {
        if self.setup.watched {
            let frame = source.newest(FRAME_TIMEOUT)?;
            return Ok(Burst { sharpest: shot(frame), others: Vec::new() });
        }
        source.capture_begins();
        let mut best: Vec<(f64, Frame)> = Vec::new();
        for taken in 0..self.setup.burst.max(1) {
            let frame = match source.next(FRAME_TIMEOUT) {
                Ok(frame) => frame,
                // The frames that there are will do; the next use finds out what happened.
                Err(_) if !best.is_empty() => break,
                Err(e) => return Err(e),
            };
            self.seen();
            let alone = self.setup.burst <= 1 && taken == 0;
            let score = if alone { Some(0.0) } else { pixels::to_rgb(&frame).map(|rgb| pixels::sharpness(&rgb)) };
            if let Some(score) = score {
                // Behind those that are as sharp: the first of them stays the first.
                best.insert(best.partition_point(|(s, _)| *s >= score), (score, frame));
                best.truncate(1 + self.setup.merge as usize);
            }
        }
        let mut shots = best.into_iter().map(|(_, frame)| shot(frame));
        let sharpest = shots.next().ok_or_else(|| CameraError::Io("every picture of the burst was damaged; check the cable".to_owned()))?;
        let mut others: Vec<Shot> = Vec::new();
        for other in shots {
            // A camera that gives one frame twice (a still scene, a driver that repeats itself) has nothing to add.
            if other.bytes != sharpest.bytes && others.iter().all(|o| o.bytes != other.bytes) {
                others.push(other);
            }
        }
        Ok(Burst { sharpest, others })
    }

    /// The next new file, unless one still waits for the forwarder.
    fn watch(&mut self, source: &mut dyn FrameSource) -> Result<(), CameraError> {
        if self.pending.is_none() {
            match source.next(Duration::ZERO) {
                Ok(frame) => {
                    self.seen();
                    let Shot { bytes, captured_at } = shot(frame);
                    let client = ClientInfo { captured_at, ..ClientInfo::default() };
                    self.pending = Some(CapturedPhoto { bytes, owner: self.setup.owner.clone(), source: Source::Folder, client });
                }
                Err(CameraError::Empty(_)) => {}
                Err(e) => return Err(e),
            }
        }
        if let Some(photo) = self.pending.take() {
            match self.photos.try_send(photo) {
                Err(TrySendError::Full(photo)) => self.pending = Some(photo),
                // Closed: the forwarder is gone, and so are we in a moment.
                Ok(()) | Err(TrySendError::Closed(_)) => {}
            }
        }
        Ok(())
    }

    fn preview(&mut self, source: &mut dyn FrameSource) -> Result<(), CameraError> {
        let preview = &self.shared.preview;
        if preview.receiver_count() == 0 {
            // The next one to look must not see an old picture.
            if preview.borrow().is_some() {
                preview.send_replace(None);
            }
            return Ok(());
        }
        if self.last_preview.elapsed() < self.preview_every() {
            return Ok(());
        }
        self.last_preview = Instant::now();
        let frame = match if self.setup.watched { source.newest(Duration::ZERO) } else { source.next(FRAME_TIMEOUT) } {
            Err(CameraError::Empty(_)) => return Ok(()),
            other => other?,
        };
        if let Some(jpeg) = pixels::preview(&frame) {
            self.shared.preview.send_replace(Some(Arc::new(jpeg)));
        }
        self.seen();
        Ok(())
    }

    /// A folder's photo is large and changes seldom.
    fn preview_every(&self) -> Duration {
        if self.setup.watched { SIGN_OF_LIFE } else { PREVIEW_EVERY }
    }

    /// The camera is not there: captures hear so at once, until it is time to try again.
    fn wait_closed(&self, why: &CameraError) {
        let end = Instant::now() + self.backoff;
        while !self.stopping() {
            match self.inbox.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Command::Capture(reply, _)) => {
                    let _ = reply.send(Err(why.clone()));
                }
                Ok(Command::Wake) => {}
                Err(_) => return,
            }
        }
    }
}

/// An empty folder is no reason to open it again.
fn ends_session(e: &CameraError) -> bool {
    !matches!(e, CameraError::Empty(_))
}

fn shot(frame: Frame) -> Shot {
    // Cut to milliseconds as every other time is: a time read back equals the time written.
    let captured_at = frame.captured_at.and_then(|t| Timestamp::from_millisecond(t.as_millisecond()).ok());
    Shot { bytes: pixels::to_file(frame), captured_at }
}

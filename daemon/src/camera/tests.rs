//! Cameras with a scripted source: what a cable, a driver or a full disk may do.

use std::{collections::VecDeque, sync::atomic::AtomicUsize, time::Instant};

use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        ids::{PhotoId, Seq, Sha256},
        photo::{ImageFormat, Photo},
    },
    imaging::{encode, raster::Rgb},
    ports::{Frame, FramePixels, FrameSource},
};

type Answer = Box<dyn FnMut() -> Result<Frame, CameraError> + Send>;

/// Opens into a source that asks `frames` for each frame; `open` may refuse.
struct Scripted {
    open: Box<dyn Fn(usize) -> Result<(), CameraError> + Send + Sync>,
    frames: Arc<dyn Fn() -> Answer + Send + Sync>,
    opened: AtomicUsize,
}

struct ScriptedSource(Answer);

impl FrameSource for ScriptedSource {
    fn next(&mut self, _: Duration) -> Result<Frame, CameraError> {
        (self.0)()
    }
}

impl CameraOpener for Scripted {
    fn open(&self) -> Result<Box<dyn FrameSource>, CameraError> {
        (self.open)(self.opened.fetch_add(1, Ordering::SeqCst))?;
        Ok(Box::new(ScriptedSource((self.frames)())))
    }
}

fn always(frames: impl Fn() -> Answer + Send + Sync + 'static) -> Arc<Scripted> {
    Arc::new(Scripted { open: Box::new(|_| Ok(())), frames: Arc::new(frames), opened: AtomicUsize::new(0) })
}

fn setup(name: &str, opener: Arc<dyn CameraOpener>, burst: u32) -> CameraSetup {
    let owner = UserId::local();
    CameraSetup { name: name.to_owned(), kind: "test".to_owned(), owner, opener, burst, merge: 0, settle: Duration::ZERO, watched: false }
}

/// Checkerboard of `edge` grey levels: the larger, the sharper.
fn frame(edge: u8) -> Frame {
    let mut rgb = Rgb::new(40, 30);
    for (i, px) in rgb.data.chunks_exact_mut(3).enumerate() {
        px.fill(if (i % 40 / 8 + i / 40 / 8) % 2 == 0 { 100 } else { 100 + edge });
    }
    Frame { width: 40, height: 30, pixels: FramePixels::Rgb(rgb.data), captured_at: Some(jiff::Timestamp::UNIX_EPOCH) }
}

fn accepted(photo: &CapturedPhoto) -> Accepted {
    let photo = Photo {
        id: PhotoId(Uuid::nil()),
        seq: Seq(1),
        user_id: photo.owner.clone(),
        sha256: Sha256([0; 32]),
        bytes: photo.bytes.len() as u64,
        width: 40,
        height: 30,
        content_type: ImageFormat::Jpeg,
        source: photo.source,
        client: photo.client.clone(),
        received_at: jiff::Timestamp::UNIX_EPOCH,
        on_disk: true,
        uploaded: false,
    };
    Accepted { photo, fresh: true }
}

/// An intake that keeps what came.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Vec<u8>>>>);

impl Kept {
    fn deliver(&self) -> Deliver {
        let kept = self.0.clone();
        Arc::new(move |photo| {
            let answer = accepted(&photo);
            kept.lock().expect("kept").push(photo.bytes);
            Box::pin(async move { Ok(answer) })
        })
    }
    fn all(&self) -> Vec<Vec<u8>> {
        self.0.lock().expect("kept").clone()
    }
}

fn ignore() -> OnPhoto {
    Arc::new(|_| Box::pin(async { Ok(()) }))
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn state(cameras: &Cameras) -> String {
    cameras.list()[0].state.clone()
}

#[tokio::test]
async fn the_sharpest_frame_of_a_burst_is_kept() {
    let camera = always(|| {
        let mut edges: VecDeque<u8> = [20, 150, 60].into();
        Box::new(move || Ok(frame(edges.pop_front().unwrap_or(0))))
    });
    let kept = Kept::default();
    let cameras = Cameras::start_with(vec![setup("a", camera, 3)], kept.deliver(), ignore());
    let taken = cameras.capture(None, None, ClientInfo::default()).await.expect("a photo");
    assert_eq!(taken.photo.source, Source::Camera);
    assert_eq!(taken.photo.client.captured_at, Some(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(kept.all(), [bytes(150)]);
    assert!(taken.others.is_empty() && taken.merge().is_none(), "nothing is merged unless it is asked for");
}

fn bytes(edge: u8) -> Vec<u8> {
    let FramePixels::Rgb(data) = frame(edge).pixels else { unreachable!() };
    encode::jpeg_bytes(&Rgb { width: 40, height: 30, data }, 95)
}

#[tokio::test]
async fn the_next_sharpest_frames_of_a_burst_are_photos_of_their_own_and_the_same_bytes_are_none() {
    for (frames, merge, wanted) in [
        ([20, 150, 60, 90, 1], 2, &[150, 90, 60][..]),
        ([20, 150, 60, 90, 1], 1, &[150, 90]),
        ([150, 150, 60, 150, 1], 2, &[150]), // the two that are as sharp are the same picture
        ([60, 60, 90, 1, 1], 2, &[90, 60]),
    ] {
        let camera = always(move || {
            let mut edges: VecDeque<u8> = frames.into();
            Box::new(move || {
                let at = jiff::Timestamp::from_second(10 - edges.len() as i64).expect("in range");
                Ok(Frame { captured_at: Some(at), ..frame(edges.pop_front().unwrap_or(0)) })
            })
        });
        let kept = Kept::default();
        let cameras = Cameras::start_with(vec![CameraSetup { merge, ..setup("a", camera, 5) }], kept.deliver(), ignore());
        let client = ClientInfo { client_ref: Some("visit".to_owned()), ..ClientInfo::default() };
        let owner: UserId = "anna".parse().expect("a name");
        let taken = cameras.capture(None, Some(owner.clone()), client).await.expect("a photo");
        assert_eq!(kept.all(), wanted.iter().map(|edge| bytes(*edge)).collect::<Vec<_>>(), "{frames:?}");
        assert_eq!(taken.others.len(), wanted.len() - 1);
        for (photo, edge) in [&taken.photo].into_iter().chain(&taken.others).zip(wanted) {
            assert_eq!((&photo.user_id, photo.source, photo.client.client_ref.as_deref()), (&owner, Source::Camera, Some("visit")));
            let place = frames.iter().position(|f| f == edge).expect("a frame") as i64;
            assert_eq!(photo.client.captured_at.map(|t| t.as_second()), Some(5 + place), "each has its own time");
        }
        let merge = taken.merge().map(|m| (m.with.len(), m.misfit));
        assert_eq!(merge, (wanted.len() > 1).then_some((wanted.len() - 1, Misfit::LeftOut)));
    }
}

#[tokio::test]
async fn a_frame_that_the_intake_refuses_costs_that_frame_alone() {
    let camera = always(|| {
        let mut edges: VecDeque<u8> = [20, 150, 60].into();
        Box::new(move || Ok(frame(edges.pop_front().unwrap_or(0))))
    });
    let kept = Kept::default();
    let takes = kept.deliver();
    let deliver: Deliver =
        Arc::new(move |photo| if photo.bytes == bytes(60) { Box::pin(async { Err(IntakeError::Busy) }) } else { takes(photo) });
    let cameras = Cameras::start_with(vec![CameraSetup { merge: 2, ..setup("a", camera, 3) }], deliver, ignore());
    let taken = cameras.capture(None, None, ClientInfo::default()).await.expect("the photo");
    assert_eq!((taken.others.len(), kept.all()), (1, vec![bytes(150), bytes(20)]));
}

#[tokio::test]
async fn a_file_frame_reaches_the_intake_byte_for_byte() {
    let FramePixels::Rgb(data) = frame(90).pixels else { unreachable!() };
    let mut file = encode::jpeg_bytes(&Rgb { width: 40, height: 30, data }, 80);
    file.extend_from_slice(&[0; 64]); // the padding of a driver's buffer stays as well
    let bytes = file.clone();
    let camera = always(move || {
        let file = file.clone();
        Box::new(move || Ok(Frame { width: 40, height: 30, pixels: FramePixels::File(file.clone()), captured_at: None }))
    });
    let kept = Kept::default();
    let cameras = Cameras::start_with(vec![setup("a", camera, 1)], kept.deliver(), ignore());
    cameras.capture(Some("a"), None, ClientInfo::default()).await.expect("a photo");
    assert_eq!(kept.all(), [bytes]);
}

#[tokio::test]
async fn a_camera_that_is_unplugged_comes_back_by_itself_and_captures_hear_why_meanwhile() {
    let plugged = Arc::new(AtomicBool::new(true));
    let gone = || CameraError::Gone("it was unplugged".to_owned());
    let (p, q) = (plugged.clone(), plugged.clone());
    let camera = Arc::new(Scripted {
        open: Box::new(move |_| if p.load(Ordering::SeqCst) { Ok(()) } else { Err(gone()) }),
        frames: Arc::new(move || {
            let q = q.clone();
            Box::new(move || if q.load(Ordering::SeqCst) { Ok(frame(50)) } else { Err(gone()) })
        }),
        opened: AtomicUsize::new(0),
    });
    let cameras = Cameras::start_with(vec![setup("a", camera, 2)], Kept::default().deliver(), ignore());
    cameras.capture(None, None, ClientInfo::default()).await.expect("plugged");
    plugged.store(false, Ordering::SeqCst);
    let refused = cameras.capture(None, None, ClientInfo::default()).await;
    assert!(matches!(refused, Err(CaptureError::Camera(CameraError::Gone(_)))), "{refused:?}");
    until("gone", || state(&cameras) == "gone").await;
    assert!(cameras.list()[0].reason.as_deref().is_some_and(|r| r.contains("unplugged")));
    plugged.store(true, Ordering::SeqCst);
    until("ready again", || state(&cameras) == "ready").await;
    cameras.capture(None, None, ClientInfo::default()).await.expect("plugged again");
}

#[tokio::test]
async fn a_driver_that_panics_is_opened_again() {
    let calls = Arc::new(AtomicUsize::new(0));
    let camera = always(move || {
        let calls = calls.clone();
        Box::new(move || if calls.fetch_add(1, Ordering::SeqCst) == 0 { panic!("as v4l does in drop") } else { Ok(frame(50)) })
    });
    let cameras = Cameras::start_with(vec![setup("a", camera.clone(), 1)], Kept::default().deliver(), ignore());
    cameras.capture(None, None, ClientInfo::default()).await.expect_err("it panicked");
    until("ready again", || state(&cameras) == "ready" && camera.opened.load(Ordering::SeqCst) >= 2).await;
    cameras.capture(None, None, ClientInfo::default()).await.expect("a photo");
}

#[tokio::test]
async fn frames_are_taken_for_the_preview_only_while_somebody_looks() {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let camera = always(move || {
        let count = count.clone();
        Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(frame(50))
        })
    });
    let cameras = Cameras::start_with(vec![setup("a", camera, 1)], Kept::default().deliver(), ignore());
    until("ready", || state(&cameras) == "ready").await;
    assert_eq!(taken.load(Ordering::SeqCst), 0);
    let mut looking = cameras.preview("a").expect("a camera");
    for _ in 0..2 {
        tokio::time::timeout(Duration::from_secs(20), looking.changed()).await.expect("in time").expect("alive");
    }
    let jpeg = looking.borrow_and_update().clone().expect("a picture");
    assert_eq!(ImageFormat::sniff(&jpeg), Some(ImageFormat::Jpeg));
    drop(looking);
    // A picture that was shown is taken away once nobody looks; from then on no frame is asked for.
    until("nothing is shown", || cameras.inner.cameras["a"].shared.preview.borrow().is_none()).await;
    let before = taken.load(Ordering::SeqCst);
    cameras.capture(None, None, ClientInfo::default()).await.expect("a photo");
    assert_eq!(taken.load(Ordering::SeqCst), before + 1);
}

#[tokio::test]
async fn without_a_camera_and_with_a_wrong_name_a_capture_says_so() {
    let none = Cameras::start_with(vec![], Kept::default().deliver(), ignore());
    assert!(matches!(none.capture(None, None, ClientInfo::default()).await, Err(CaptureError::NoCamera)));
    let one = Cameras::start_with(vec![setup("a", always(|| Box::new(|| Ok(frame(1)))), 1)], Kept::default().deliver(), ignore());
    assert!(matches!(one.capture(Some("b"), None, ClientInfo::default()).await, Err(CaptureError::Unknown(_))));
    assert!(matches!(one.preview("b"), Err(CaptureError::Unknown(_))));
}

#[tokio::test]
async fn stopping_ends_the_threads_and_later_captures_are_refused() {
    let cameras = Cameras::start_with(vec![setup("a", always(|| Box::new(|| Ok(frame(1)))), 1)], Kept::default().deliver(), ignore());
    let stopping = cameras.clone();
    tokio::task::spawn_blocking(move || stopping.stop()).await.expect("stopped");
    assert!(matches!(cameras.capture(None, None, ClientInfo::default()).await, Err(CaptureError::Camera(CameraError::Gone(_)))));
}

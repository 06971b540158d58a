//! A real V4L2 device; `vivid`, the kernel's virtual camera, is enough:
//!
//!   modprobe vivid && IRISD_TEST_VIDEO=/dev/video0 cargo test --test camera_v4l -- --ignored
//!
//! Run as root where vivid is loaded as vivid.0, the camera is also unplugged (unbound) and plugged in again.
#![allow(clippy::unwrap_used)] // a panic is how a test fails
#![cfg(target_os = "linux")]

use std::{
    env, fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use irisd::{
    adapters::camera_v4l::{PixelFormat, V4lCamera, V4lOptions},
    camera::{CameraSetup, Cameras, CapturedPhoto, Deliver},
    domain::{ids::UserId, photo::ClientInfo},
    imaging::{
        decode::{Limits, decode},
        raster::Rgb,
    },
    intake::IntakeError,
    ports::{CameraOpener, FramePixels},
};

const DRIVER: &str = "/sys/bus/platform/drivers/vivid";

fn camera() -> V4lCamera {
    let device = env::var_os("IRISD_TEST_VIDEO").expect("IRISD_TEST_VIDEO names the device").into();
    V4lCamera::new(V4lOptions { device, format: Some(PixelFormat::Yuyv), width: 640, height: 480, fps: 0 })
}

fn start() -> (Cameras, Arc<Mutex<Vec<Vec<u8>>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = kept.clone();
    // The intake has tests of its own: this one keeps the bytes and says no.
    let deliver: Deliver = Arc::new(move |photo: CapturedPhoto| {
        keep.lock().expect("kept").push(photo.bytes);
        Box::pin(async { Err(IntakeError::Busy) })
    });
    let setup = CameraSetup {
        name: "vivid".to_owned(),
        kind: "v4l".to_owned(),
        owner: UserId::local(),
        opener: Arc::new(camera()),
        burst: 3,
        merge: 0,
        settle: Duration::from_millis(300),
        watched: false,
    };
    (Cameras::start_with(vec![setup], deliver, Arc::new(|_| Box::pin(async { Ok(()) }))), kept)
}

async fn until_state(cameras: &Cameras, state: &str) {
    let end = Instant::now() + Duration::from_secs(60);
    while cameras.list()[0].state != state {
        assert!(Instant::now() < end, "not {state} within 60 s: {:?}", cameras.list());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// vivid starts with the 75 % colour bars: a wrong stride, chroma order or range turns them into something else.
fn has_colour_bars(rgb: &Rgb) {
    let is = |want: [u8; 3]| {
        let near = rgb.data.chunks_exact(3).filter(|px| px.iter().zip(want).all(|(a, b)| a.abs_diff(b) < 40)).count();
        near as f64 / (rgb.width * rgb.height) as f64
    };
    for colour in [[191, 191, 0], [0, 191, 191], [0, 191, 0], [191, 0, 191], [191, 0, 0], [0, 0, 191]] {
        assert!(is(colour) > 0.04, "{colour:?} fills {:.3} of the picture", is(colour));
    }
}

#[test]
#[ignore = "needs a V4L2 device, named by IRISD_TEST_VIDEO"]
fn a_frame_is_fresh_and_as_long_as_the_driver_says() {
    let mut source = camera().open().expect("open");
    let limit = Duration::from_secs(20);
    source.next(limit).expect("a first frame");
    // Longer than the driver's queue: what waits there is old by then.
    std::thread::sleep(Duration::from_secs(1));
    let asked = jiff::Timestamp::now();
    let frame = source.next(limit).expect("a fresh frame");
    assert!(frame.captured_at.expect("a time") >= asked);
    let FramePixels::Yuyv { data, stride } = frame.pixels else { panic!("asked for YUYV") };
    assert_eq!((frame.width, frame.height, data.len()), (640, 480, stride * 480));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a V4L2 device, named by IRISD_TEST_VIDEO"]
async fn a_capture_and_a_preview_show_the_cameras_picture_also_after_an_unplug() {
    let (cameras, kept) = start();
    until_state(&cameras, "ready").await;
    cameras.capture(None, None, ClientInfo::default()).await.expect_err("the test's intake");
    let photo = decode(&kept.lock().expect("kept")[0], &Limits { max_pixels: 1 << 24 }).expect("a JPEG");
    assert_eq!((photo.rgb.width, photo.rgb.height), (640, 480));
    has_colour_bars(&photo.rgb);

    let mut looking = cameras.preview("vivid").expect("there");
    for _ in 0..3 {
        tokio::time::timeout(Duration::from_secs(30), looking.changed()).await.expect("in time").expect("alive");
    }
    drop(looking);

    if !Path::new(DRIVER).join("vivid.0").exists() {
        return;
    }
    fs::write(Path::new(DRIVER).join("unbind"), "vivid.0").expect("root");
    until_state(&cameras, "gone").await;
    fs::write(Path::new(DRIVER).join("bind"), "vivid.0").expect("root");
    until_state(&cameras, "ready").await;
    cameras.capture(None, None, ClientInfo::default()).await.expect_err("the test's intake");
    let again = decode(&kept.lock().expect("kept")[1], &Limits { max_pixels: 1 << 24 }).expect("a JPEG");
    has_colour_bars(&again.rgb);
}

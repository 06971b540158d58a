//! A watched folder with real files, from the folder to the intake's door.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use irisd::{
    adapters::{
        camera_folder::{FolderCamera, FolderOptions},
        camera_synthetic::{Eyes, SyntheticCamera, SyntheticOptions},
    },
    camera::{CameraSetup, Cameras, CaptureError, CapturedPhoto, Deliver, OnPhoto},
    domain::{
        ids::{PhotoId, Seq, Sha256, UserId},
        photo::{ClientInfo, ImageFormat, Photo, Source},
    },
    imaging::{encode::jpeg_bytes, raster::Rgb},
    intake::{Accepted, IntakeError},
    ports::{CameraError, CameraOpener, Frame, FramePixels},
};

const SETTLE: Duration = Duration::from_millis(300);
const LIMIT: u64 = 100_000;

fn folder_camera(folder: &Path) -> FolderCamera {
    FolderCamera::new(FolderOptions { folder: folder.to_owned(), settle: SETTLE, max_bytes: LIMIT })
}

fn photo(shade: u8) -> Vec<u8> {
    let mut rgb = Rgb::new(32, 24);
    rgb.data.fill(shade);
    jpeg_bytes(&rgb, 90)
}

fn file_of(pixels: FramePixels) -> Vec<u8> {
    let FramePixels::File(bytes) = pixels else { panic!("a folder gives files") };
    bytes
}

fn set_age(path: &Path, secs: u64) {
    let at = std::time::SystemTime::now() - Duration::from_secs(secs);
    fs::File::options().write(true).open(path).expect("open").set_modified(at).expect("mtime");
}

#[test]
fn new_photos_come_once_each_and_oldest_first_and_everything_else_is_left_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let at = |name: &str| dir.path().join(name);
    for (name, shade, age) in [("b.jpg", 10, 300), ("a.jpg", 20, 200), ("c.jpeg", 30, 100)] {
        fs::write(at(name), photo(shade)).expect("write");
        set_age(&at(name), age);
    }
    fs::write(at(".hidden.jpg"), photo(1)).expect("write");
    fs::write(at("half.jpg.tmp"), photo(2)).expect("write");
    fs::write(at("notes.txt"), "hello").expect("write");
    fs::write(at("empty.jpg"), "").expect("write");
    fs::write(at("huge.jpg"), [photo(3), vec![0; LIMIT as usize]].concat()).expect("write");
    fs::create_dir(at("more")).expect("dir");
    fs::write(at("more/deep.jpg"), photo(4)).expect("write");
    std::os::unix::fs::symlink(at("more/deep.jpg"), at("link.jpg")).expect("link");
    let listing = || {
        let mut all: Vec<_> = fs::read_dir(dir.path()).expect("dir").map(|e| e.expect("entry").file_name()).collect();
        all.sort();
        all
    };
    let before = listing();

    let mut source = folder_camera(dir.path()).open().expect("open");
    let wait = Duration::from_secs(20);
    for shade in [10, 20, 30] {
        assert_eq!(file_of(source.next(wait).expect("a photo").pixels), photo(shade));
    }
    assert!(matches!(source.next(SETTLE * 3), Err(CameraError::Empty(_))), "nothing comes twice");

    fs::write(at("b.jpg"), photo(40)).expect("rewrite");
    assert_eq!(file_of(source.next(wait).expect("the rewritten one").pixels), photo(40), "new content is a new photo");
    assert_eq!(listing(), before, "no file was moved or deleted");
}

#[test]
fn a_file_that_still_grows_is_waited_for() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("slow.jpg");
    let whole = photo(77);
    let bytes = whole.clone();
    fs::write(&path, &bytes[..bytes.len() / 2]).expect("the first half");
    let mut source = folder_camera(dir.path()).open().expect("open");
    // Still within the settle time: the half is seen, and not taken.
    assert!(matches!(source.next(Duration::ZERO), Err(CameraError::Empty(_))));
    fs::write(&path, &bytes).expect("all of it");
    assert_eq!(file_of(source.next(Duration::from_secs(20)).expect("a photo").pixels), whole);
}

#[test]
fn a_capture_gets_the_newest_photo_also_when_it_was_delivered_before() {
    let dir = tempfile::tempdir().expect("dir");
    let mut source = folder_camera(dir.path()).open().expect("open");
    assert!(matches!(source.newest(Duration::ZERO), Err(CameraError::Empty(_))));
    for (name, shade, age) in [("new.jpg", 20, 10), ("old.jpg", 10, 100)] {
        fs::write(dir.path().join(name), photo(shade)).expect("write");
        set_age(&dir.path().join(name), age);
    }
    let wait = Duration::from_secs(20);
    assert_eq!(file_of(source.newest(wait).expect("newest").pixels), photo(20));
    assert_eq!(file_of(source.next(wait).expect("first").pixels), photo(10), "a capture takes nothing away from the watch");
    assert_eq!(file_of(source.next(wait).expect("second").pixels), photo(20));
    assert_eq!(file_of(source.newest(wait).expect("newest again").pixels), photo(20));
}

#[test]
fn a_folder_that_is_not_there_is_a_camera_that_is_gone() {
    let camera = folder_camera(Path::new("/no/such/folder"));
    assert!(matches!(camera.open(), Err(CameraError::Gone(_))));
}

fn accepted(photo: &CapturedPhoto) -> Accepted {
    let row = Photo {
        id: PhotoId(uuid::Uuid::nil()),
        seq: Seq(1),
        user_id: photo.owner.clone(),
        sha256: Sha256([0; 32]),
        bytes: photo.bytes.len() as u64,
        width: 32,
        height: 24,
        content_type: ImageFormat::Jpeg,
        source: photo.source,
        client: photo.client.clone(),
        received_at: jiff::Timestamp::UNIX_EPOCH,
        on_disk: true,
        uploaded: false,
    };
    Accepted { photo: row, fresh: true }
}

fn watched(folder: &Path) -> CameraSetup {
    CameraSetup {
        name: "drop".to_owned(),
        kind: "folder".to_owned(),
        owner: UserId::local(),
        opener: Arc::new(folder_camera(folder)),
        burst: 1,
        merge: 0,
        settle: Duration::ZERO,
        watched: true,
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_dropped_into_the_folder_is_taken_in_in_order_and_again_after_a_lack_of_room() {
    let dir = tempfile::tempdir().expect("dir");
    for (name, shade, age) in [("1.jpg", 1, 30), ("2.jpg", 2, 20), ("3.jpg", 3, 10)] {
        fs::write(dir.path().join(name), photo(shade)).expect("write");
        set_age(&dir.path().join(name), age);
    }
    let (taken, submitted) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
    let (keep, count) = (taken.clone(), submitted.clone());
    let tries = Arc::new(Mutex::new(0));
    let deliver: Deliver = Arc::new(move |photo: CapturedPhoto| {
        let mut tries = tries.lock().expect("tries");
        *tries += 1;
        let answer = if *tries == 1 {
            Err(IntakeError::Busy)
        } else {
            keep.lock().expect("taken").push((photo.bytes.clone(), photo.source));
            Ok(accepted(&photo))
        };
        Box::pin(async move { answer })
    });
    let on_photo: OnPhoto = Arc::new(move |_| {
        *count.lock().expect("count") += 1;
        Box::pin(async { Ok(()) })
    });
    let cameras = Cameras::start_with(vec![watched(dir.path())], deliver, on_photo);
    until("three jobs", || *submitted.lock().expect("count") == 3).await;
    let got = taken.lock().expect("taken").clone();
    assert_eq!(got, [1, 2, 3].map(|s| (photo(s), Source::Folder)));

    let again = cameras.capture(None, None, ClientInfo::default()).await.expect("the newest");
    assert_eq!(again.photo.source, Source::Folder);
    assert_eq!(taken.lock().expect("taken").last().expect("one").0, photo(3));
}

#[tokio::test]
async fn a_capture_from_an_empty_folder_says_what_to_do_and_the_camera_stays_ready() {
    let dir = tempfile::tempdir().expect("dir");
    let deliver: Deliver = Arc::new(|_| Box::pin(async { Err(IntakeError::Busy) }));
    let cameras = Cameras::start_with(vec![watched(dir.path())], deliver, Arc::new(|_| Box::pin(async { Ok(()) })));
    let refused = cameras.capture(Some("drop"), None, ClientInfo::default()).await;
    assert!(matches!(refused, Err(CaptureError::Camera(CameraError::Empty(ref why))) if why.contains("take one")), "{refused:?}");
    assert_eq!(cameras.list()[0].state, "ready");
}

#[test]
fn a_synthetic_camera_gives_another_eye_each_time_and_the_same_ones_after_a_restart() {
    let camera = SyntheticCamera::new(SyntheticOptions { seed: 7, width: 320, height: 240, eyes: Eyes::OneAFrame });
    let two = || {
        let mut source = camera.open().expect("open");
        [(); 2].map(|()| source.next(Duration::ZERO).expect("an eye"))
    };
    let pixels = |frame: &Frame| {
        let FramePixels::Rgb(data) = &frame.pixels else { panic!("pixels") };
        assert_eq!((frame.width, frame.height, data.len()), (320, 240, 320 * 240 * 3));
        data.clone()
    };
    let [first, second] = two();
    assert_ne!(pixels(&first), pixels(&second));
    assert_eq!(pixels(&two()[0]), pixels(&first));
}

#[test]
fn a_synthetic_camera_whose_frames_are_merged_shows_one_eye_a_capture_under_other_lamps_in_each_frame() {
    let camera = SyntheticCamera::new(SyntheticOptions { seed: 7, width: 320, height: 240, eyes: Eyes::OneACapture });
    let mut source = camera.open().expect("open");
    let mut capture = |previews: usize| {
        (0..previews).for_each(|_| drop(source.next(Duration::ZERO).expect("an eye")));
        source.capture_begins();
        [(); 3].map(|()| match source.next(Duration::ZERO).expect("an eye").pixels {
            FramePixels::Rgb(data) => data,
            _ => panic!("pixels"),
        })
    };
    let (first, second) = (capture(2), capture(0));
    assert!(first[0] != first[1] && first[1] != first[2]);
    let differs = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>() / a.len() as u64;
    let (within, between) = (differs(&first[0], &first[1]), differs(&first[0], &second[0]));
    assert!(2 * within < between, "frames of a capture differ by {within} levels, those of two by {between}");
    let again = SyntheticCamera::new(SyntheticOptions { seed: 7, width: 320, height: 240, eyes: Eyes::OneACapture });
    let mut again = again.open().expect("open");
    again.capture_begins();
    let FramePixels::Rgb(data) = again.next(Duration::ZERO).expect("an eye").pixels else { panic!("pixels") };
    assert_eq!(data, first[0], "what the preview showed before changes nothing");
}

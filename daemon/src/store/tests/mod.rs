//! The store against real files: reopened, copied as a crash would leave it, damaged on purpose.

mod clock;
mod damage;
mod deliveries;
mod format;
mod journal_tail;
mod lists;
mod machine;
mod model;
mod retention;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use super::*;
use crate::{
    domain::{
        fault::{Code, Fault},
        ids::Sha256,
        job::{Artifacts, Merge, Misfit, Status, UploadStatus},
        photo::{ClientInfo, ImageFormat, Source},
        quality::{Quality, Verdict},
        report::{FileFacts, ReportFiles},
        stage::{Stage, StepMs},
        transition::{Outcome, Refusal},
    },
    ports::Clock,
};

/// A clock that stands until it is moved, ms.
#[derive(Default)]
pub struct Hand(pub AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + self.0.load(Ordering::SeqCst) as i64).expect("in range")
    }
    fn mono(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

pub fn options(state: &Path) -> Options {
    Options {
        state: state.to_owned(),
        clock: Arc::new(Hand::default()),
        uploads: true,
        upload_originals: true,
        upload_synthetic: false,
        max_pending: 100,
        crash_limit: 3,
        mqtt: true,
        cap: 1 << 40,
        reserve: 0,
        evict_uploaded: true,
    }
}

pub fn open(state: &Path) -> (Store, OpenReport) {
    Store::open(options(state)).expect("the store opens")
}

/// Puts a blob in its place, as intake does, and its row.
pub async fn photo(store: &Store, owner: &str, n: u8) -> Photo {
    let sha256 = Sha256([n; 32]);
    let tmp = store.state_dir().join(format!("blobs/in/{owner}-{n}"));
    std::fs::write(&tmp, [n]).expect("writes");
    blobs::place(store.state_dir(), &sha256, &tmp).expect("places");
    let new = NewPhoto {
        user_id: owner.parse().expect("a name"),
        sha256,
        bytes: 1,
        width: 1,
        height: 1,
        content_type: ImageFormat::Png,
        source: Source::Upload,
        client: ClientInfo::default(),
    };
    store.add_photo(new, None).await.expect("stored").0
}

pub fn jobs(photo: &Photo, lane: Lane) -> NewJobs {
    NewJobs {
        user_id: photo.user_id.clone(),
        photo_ids: vec![photo.id],
        merge: None,
        lane,
        client: ClientInfo::default(),
        reprocess_of: None,
    }
}

pub async fn submit(store: &Store, photo: &Photo) -> Job {
    store.submit(jobs(photo, Lane::HighPriority), None).await.expect("submitted").remove(0)
}

pub fn outcome() -> Outcome {
    let file = FileFacts { sha256: Sha256([9; 32]), bytes: 10, width: 1, height: 1 };
    let files = ReportFiles { image: file.clone(), mask: file.clone(), synthetic: file };
    Outcome {
        artifacts: Artifacts { files, report_sha256: Sha256([8; 32]), report_bytes: 10, thumb_bytes: 0, on_disk: true, made_by: None },
        quality: Quality { verdict: Verdict::Pass, metrics: Default::default() },
        step_ms: StepMs::default(),
        processing_time_ms: 5,
        cached: false,
    }
}

/// With a picture of 9 bytes.
pub fn refusal() -> Refusal {
    Refusal { fault: Fault::new(Code::TooDark, "test"), quality: None, annotated_bytes: 9 }
}

/// What a process death leaves: the files as they are now. A copy takes a while in which sled must not write: a real death is one moment.
pub fn crash_image(store: &Store) -> tempfile::TempDir {
    store.reader.settle();
    let state = store.state_dir();
    let to = tempfile::tempdir().expect("a folder");
    copy(state, to.path());
    to
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("reads");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

const ALL: Page = Page { limit: 100, offset: 0, before: None };

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_process_death() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, report) = open(dir.path());
    assert_eq!((report.rebuilt, report.recovered_jobs), (None, 0));
    let photo = photo(&store, "a", 1).await;
    let job = submit(&store, &photo).await;
    store.claim(job.id).await.expect("claimed");
    store.step(job.id, Stage::Enhance, StepMs::default()).await.expect("stored");

    let image = crash_image(&store);
    let (again, report) = open(image.path());
    assert_eq!((report.rebuilt, report.recovered_jobs), (None, 1));
    let found = again.job(job.id).expect("reads").expect("is there");
    assert_eq!((found.status, found.attempt, found.crashes), (Status::Pending, 1, 1));
    assert_eq!(again.photo(photo.id).expect("reads"), Some(photo));
    assert_eq!(again.waiting().len(), 1);
}

#[tokio::test]
async fn the_same_bytes_are_one_photo_for_each_owner_and_one_blob_for_all() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let (a, again, b) = (photo(&store, "a", 1).await, photo(&store, "a", 1).await, photo(&store, "b", 1).await);
    assert_eq!(a.id, again.id);
    assert_ne!(a.id, b.id);
    store.delete_photo(a.id).await.expect("deleted");
    assert!(store.blob_path(&b.sha256).is_file(), "the other owner lost the picture");
    store.delete_photo(b.id).await.expect("deleted");
    assert!(!store.blob_path(&b.sha256).exists());
}

#[tokio::test]
async fn a_photo_with_an_unfinished_job_is_not_deleted() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let photo = photo(&store, "a", 1).await;
    let job = submit(&store, &photo).await;
    assert!(matches!(store.delete_photo(photo.id).await, Err(StoreError::PhotoInUse)));
    store.cancel(job.id, None).await.expect("cancelled");
    store.delete_photo(photo.id).await.expect("deleted");
}

/// A job of the first that merges the second.
async fn submit_merged(store: &Store, photo: &Photo, other: &Photo) -> Result<Job, StoreError> {
    let merge = Some(Merge { with: vec![other.id], misfit: Misfit::Fails });
    Ok(store.submit(NewJobs { merge, ..jobs(photo, Lane::HighPriority) }, None).await?.remove(0))
}

#[tokio::test]
async fn a_photo_that_an_unfinished_job_merges_is_not_deleted_and_afterwards_the_result_stays_without_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let (own, other) = (photo(&store, "a", 1).await, photo(&store, "a", 2).await);
    let job = submit_merged(&store, &own, &other).await.expect("submitted");
    assert_eq!((job.merged(), store.jobs_of_photo(other.id)), (&[other.id][..], Vec::new()), "the job is of its own photo alone");
    assert!(matches!(store.delete_photo(other.id).await, Err(StoreError::PhotoInUse)));
    store.claim(job.id).await.expect("claimed");
    store.close().await;

    // The start knows it from the rows.
    let (store, _) = open(dir.path());
    assert!(matches!(store.delete_photo(other.id).await, Err(StoreError::PhotoInUse)));
    store.claim(job.id).await.expect("claimed again");
    std::fs::create_dir_all(store.result_dir(job.id)).expect("a folder");
    store.complete(job.id, outcome()).await.expect("stored");
    store.delete_photo(other.id).await.expect("deleted");
    assert!(store.result_dir(job.id).is_dir(), "the result went with a photo that it is not of");
    let found = store.job(job.id).expect("reads").expect("is there");
    assert_eq!((found.status, found.merged()), (Status::Completed, &[other.id][..]));
    assert!(matches!(submit_merged(&store, &own, &other).await, Err(StoreError::NotFound("photo"))));
}

#[tokio::test]
async fn nobodys_photo_is_merged_into_somebody_elses() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let (own, foreign) = (photo(&store, "a", 1).await, photo(&store, "b", 2).await);
    assert!(matches!(submit_merged(&store, &own, &foreign).await, Err(StoreError::NotFound("photo"))));
    assert_eq!(store.waiting().len(), 0);
}

#[tokio::test]
async fn a_batch_is_all_or_none_and_the_queue_has_a_limit() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let photo = photo(&store, "a", 1).await;
    let mut batch = jobs(&photo, Lane::Default);
    batch.photo_ids.push(PhotoId(uuid::Uuid::nil()));
    assert!(matches!(store.submit(batch, None).await, Err(StoreError::NotFound("photo"))));
    assert_eq!(store.waiting().len(), 0);
    let full = NewJobs { photo_ids: vec![photo.id; 101], ..jobs(&photo, Lane::Default) };
    assert!(matches!(store.submit(full, None).await, Err(StoreError::QueueFull { pending: 0, limit: 100 })));
}

#[tokio::test]
async fn a_key_gives_the_same_job_also_when_asked_many_times_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let photo = photo(&store, "a", 1).await;
    let key = Idempotency { caller: photo.user_id.clone(), key: "k".into(), body: Sha256([1; 32]) };
    let asks = (0..20).map(|_| store.submit(jobs(&photo, Lane::Default), Some(key.clone())));
    let ids: std::collections::HashSet<JobId> =
        futures_util::future::join_all(asks).await.into_iter().map(|r| r.expect("answered")[0].id).collect();
    assert_eq!(ids.len(), 1);
    let other = Idempotency { body: Sha256([2; 32]), ..key.clone() };
    assert!(matches!(store.submit(jobs(&photo, Lane::Default), Some(other)).await, Err(StoreError::IdempotencyMismatch)));
    store.close().await;
    let (store, _) = open(dir.path());
    let again = store.submit(jobs(&photo, Lane::Default), Some(key)).await.expect("answered");
    assert!(ids.contains(&again[0].id));
}

#[tokio::test]
async fn bytes_are_known_to_their_owner_while_they_are_here_and_a_lost_blob_is_not_vouched_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let sent = photo(&store, "a", 1).await;
    let key = Idempotency { caller: sent.user_id.clone(), key: "k".into(), body: Sha256([1; 32]) };
    let known = async |owner: &str, key: Option<Idempotency>| {
        let owner = owner.parse().expect("a name");
        store.known_photo(owner, sent.sha256, ClientInfo::default(), key).await.map(|photo| photo.map(|photo| photo.id))
    };
    assert_eq!(known("a", Some(key.clone())).await.expect("asked"), Some(sent.id));
    assert_eq!(store.replay(&key).expect("reads"), Some(Answer::KnownPhoto(sent.id)));
    let other = Idempotency { body: Sha256([2; 32]), ..key };
    assert!(matches!(known("a", Some(other)).await, Err(StoreError::IdempotencyMismatch)));
    assert_eq!(known("b", None).await.expect("asked"), None, "somebody else's");
    std::fs::remove_file(store.blob_path(&sent.sha256)).expect("removed");
    assert_eq!(known("a", None).await.expect("asked"), None, "it may be the sender's last copy");
}

#[tokio::test]
async fn lists_come_newest_first_and_pages_neither_skip_nor_repeat() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let photo = photo(&store, "a", 1).await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(submit(&store, &photo).await.id);
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = store.jobs(&Filter::default(), Page { limit: 3, offset: 0, before }).expect("lists");
        assert_eq!(page.total, 7);
        seen.extend(page.items.iter().map(|j| j.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
    let offset = store.jobs(&Filter::default(), Page { limit: 2, offset: 5, before: None }).expect("lists");
    assert_eq!(offset.items.iter().map(|j| j.id).collect::<Vec<_>>(), ids[5..]);
    let none = Filter { owner: Some("b".parse().expect("a name")), ..Filter::default() };
    assert_eq!(store.jobs(&none, ALL).expect("lists").total, 0);
}

#[tokio::test]
async fn only_one_process_has_a_state_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    assert!(matches!(Store::open(options(dir.path())), Err(StoreError::Locked)));
    store.close().await;
    open(dir.path());
}

#[tokio::test]
async fn a_photo_that_kills_the_process_again_and_again_is_set_aside() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let photo = photo(&store, "a", 1).await;
    let id = submit(&store, &photo).await.id;
    let mut image = crash_image(&store);
    for _ in 0..3 {
        let (store, _) = open(image.path());
        store.claim(id).await.expect("claimed");
        store.step(id, Stage::Segment, StepMs::default()).await.expect("stored");
        image = crash_image(&store);
    }
    let (store, _) = open(image.path());
    let job = store.job(id).expect("reads").expect("is there");
    assert_eq!((job.status, job.fault.map(|f| f.code)), (Status::Failed, Some(Code::PoisonPhoto)));
}

#[tokio::test]
async fn a_retry_waits_and_its_wait_survives_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let photo = photo(&store, "a", 1).await;
    let id = submit(&store, &photo).await.id;
    store.claim(id).await.expect("claimed");
    let fault = Fault::new(Code::DeviceBusy, "test");
    store.fail(id, fault, StepMs::default(), Duration::from_secs(3)).await.expect("stored");
    assert_eq!(store.waiting()[0].not_before, Some(Duration::from_secs(3)));
    store.close().await;
    let (store, _) = open(dir.path());
    assert_eq!(store.waiting()[0].not_before, Some(Duration::from_secs(3)));
}

#[tokio::test]
async fn the_oldest_uploaded_things_go_first_and_nothing_else_ever_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = Store::open(Options { cap: 3, ..options(dir.path()) }).expect("opens");
    let (a, b) = (photo(&store, "a", 1).await, photo(&store, "a", 2).await);
    store.admit(1, 0).await.expect("fits");
    assert!(matches!(store.admit(2, 0).await, Err(StoreError::OverCap { used: 2, cap: 3 })), "an original was evicted before its upload");
    let rows = store.due_uploads(10, First::Oldest);
    store.upload_confirmed(rows[0].seq).await.expect("stored");
    store.admit(2, 0).await.expect("there is room now");
    assert!(!store.blob_path(&a.sha256).exists() && store.blob_path(&b.sha256).exists());
    assert!(matches!(store.submit(jobs(&a, Lane::Default), None).await, Err(StoreError::OriginalEvicted)));
    assert_eq!(store.job(submit(&store, &b).await.id).expect("reads").map(|j| j.upload), Some(UploadStatus::Off));
}

#[tokio::test]
async fn bytes_that_are_deleted_and_sent_again_at_the_same_moment_are_there_when_the_second_is_acknowledged() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    for _ in 0..50 {
        let old = photo(&store, "a", 1).await;
        let deleting = tokio::spawn({
            let store = store.clone();
            async move { store.delete_photo(old.id).await }
        });
        let tmp = dir.path().join("blobs/in/again");
        std::fs::write(&tmp, [1]).expect("writes");
        let again = loop {
            blobs::place(dir.path(), &old.sha256, &tmp).expect("places");
            let new = NewPhoto {
                user_id: old.user_id.clone(),
                sha256: old.sha256,
                bytes: 1,
                width: 1,
                height: 1,
                content_type: ImageFormat::Png,
                source: Source::Upload,
                client: ClientInfo::default(),
            };
            match store.add_photo(new, None).await {
                Err(StoreError::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => {}
                other => break other.expect("stored").0,
            }
        };
        deleting.await.expect("no panic").expect("deleted");
        let there = store.photo(again.id).expect("reads").is_some();
        assert_eq!(store.blob_path(&old.sha256).is_file(), there, "a row and its blob disagree");
        if there {
            store.delete_photo(again.id).await.expect("deleted");
        }
    }
}

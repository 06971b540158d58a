//! What goes when room is needed, and in which order; what is kept when the same bytes come again.

use super::*;
use crate::domain::photo::Eye;

/// A photo of one byte and its finished job, whose files count as 40 bytes.
async fn finished(store: &Store, n: u8) -> (Photo, Job) {
    let photo = photo(store, "a", n).await;
    let id = submit(store, &photo).await.id;
    store.claim(id).await.expect("claimed");
    (photo, store.complete(id, outcome()).await.expect("stored"))
}

async fn all_uploaded(store: &Store) {
    for row in store.due_uploads(1000, First::Oldest) {
        store.upload_confirmed(row.seq).await.expect("stored");
    }
}

fn here(store: &Store, job: &Job) -> bool {
    store.job(job.id).expect("reads").and_then(|j| j.artifacts).is_some_and(|a| a.on_disk)
}

#[tokio::test]
async fn originals_and_results_go_oldest_first_and_no_more_of_them_than_are_needed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = Store::open(Options { cap: 200, ..options(dir.path()) }).expect("opens");
    let (first, second) = (finished(&store, 1).await, finished(&store, 2).await);
    all_uploaded(&store).await;
    let third = finished(&store, 3).await; // not uploaded
    assert_eq!(store.space().used, 123);
    store.admit(77, 0).await.expect("fits as it is");
    assert_eq!(store.evicted(), Evicted::default());

    store.admit(78, 0).await.expect("the oldest original makes room");
    assert!(!store.blob_path(&first.0.sha256).exists() && here(&store, &first.1));
    assert_eq!(store.evicted(), Evicted { originals: 1, results: 0, bytes: 1 });

    store.admit(79, 0).await.expect("then its result");
    assert!(!here(&store, &first.1) && store.blob_path(&second.0.sha256).exists());
    assert_eq!(store.evicted(), Evicted { originals: 1, results: 1, bytes: 41 });

    assert!(matches!(store.admit(199, 0).await, Err(StoreError::OverCap { .. })), "what the bucket does not have stays");
    assert!(store.blob_path(&third.0.sha256).exists() && here(&store, &third.1));
    assert_eq!(store.space().used, 41);
}

/// A photo of one byte whose job was refused, with a picture of 9 bytes.
async fn refused(store: &Store, n: u8) -> Job {
    let id = submit(store, &photo(store, "a", n).await).await.id;
    store.claim(id).await.expect("claimed");
    std::fs::create_dir_all(store.refused_dir(id)).expect("a folder");
    std::fs::write(store.refused_dir(id).join("annotated.jpg"), [0; 9]).expect("written");
    store.refuse(id, refusal(), StepMs::default()).await.expect("stored")
}

#[tokio::test]
async fn pictures_of_refused_photos_are_kept_over_a_restart_and_go_when_room_is_needed() {
    let dir = tempfile::tempdir().expect("a folder");
    let with_cap = |cap| Store::open(Options { cap, ..options(dir.path()) }).expect("opens").0;
    let store = with_cap(50);
    let (old, new) = (refused(&store, 1).await, refused(&store, 2).await);
    assert_eq!(store.space().used, 20);
    store.close().await;

    let store = with_cap(50);
    assert!(store.refused_dir(old.id).join("annotated.jpg").is_file(), "swept, though its job names it");
    assert_eq!(store.earlier_result(&old, Sha256([0; 32])).expect("reads"), None, "a picture is no result");
    store.admit(31, 0).await.expect("the older picture makes room");
    assert!(!store.refused_dir(old.id).exists() && store.refused_dir(new.id).exists());
    let picture = |id| store.job(id).expect("reads").and_then(|j| j.annotated).map(|a| a.on_disk);
    assert_eq!((picture(old.id), picture(new.id)), (Some(false), Some(true)));
    assert_eq!((store.space().used, store.evicted()), (11, Evicted { originals: 0, results: 1, bytes: 9 }));

    store.delete_photo(new.photo_id).await.expect("deleted");
    assert!(!store.refused_dir(new.id).exists() && picture(new.id) == Some(false));
    assert_eq!(store.space().used, 1);
}

#[tokio::test]
async fn an_original_that_an_unfinished_job_merges_stays_and_one_that_went_cannot_be_merged() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = Store::open(Options { cap: 10, ..options(dir.path()) }).expect("opens");
    let (own, other) = (photo(&store, "a", 1).await, photo(&store, "a", 2).await);
    all_uploaded(&store).await;
    let job = submit_merged(&store, &own, &other).await.expect("submitted");
    assert!(matches!(store.admit(9, 0).await, Err(StoreError::OverCap { .. })), "a job lost what it merges");
    store.cancel(job.id, None).await.expect("cancelled");
    store.admit(10, 0).await.expect("now they go");
    assert!(!store.blob_path(&other.sha256).exists());
    let own = photo(&store, "a", 1).await; // its original again
    assert!(matches!(submit_merged(&store, &own, &other).await, Err(StoreError::OriginalEvicted)));
}

#[tokio::test]
async fn the_result_that_is_given_out_again_is_one_of_the_newest_that_this_pipeline_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let of = photo(&store, "a", 1).await;
    let mut made = Vec::new();
    let asks = |by, job: &Job| store.earlier_result(job, Sha256([by; 32])).expect("reads").map(|job| job.id);
    let first = submit(&store, &of).await;
    for by in [1, 2, 1] {
        let id = submit(&store, &of).await.id;
        store.claim(id).await.expect("claimed");
        let mut outcome = outcome();
        outcome.artifacts.made_by = Some(Sha256([by; 32]));
        made.push(store.complete(id, outcome).await.expect("stored").id);
    }
    let last = submit(&store, &of).await;
    for job in [first, last] {
        assert_eq!([1, 2, 3].map(|by| asks(by, &job)), [Some(made[2]), Some(made[1]), None], "before it and after it");
    }
}

#[tokio::test]
async fn an_original_that_a_job_still_needs_stays_and_a_policy_that_evicts_nothing_evicts_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = Store::open(Options { cap: 50, ..options(dir.path()) }).expect("opens");
    let (old, _) = finished(&store, 1).await;
    all_uploaded(&store).await;
    submit(&store, &old).await;
    store.admit(49, 0).await.expect("the result goes");
    assert!(store.blob_path(&old.sha256).exists(), "a waiting job lost its photo");
    assert!(matches!(store.admit(50, 0).await, Err(StoreError::OverCap { .. })));
    store.close().await;

    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = Store::open(Options { cap: 50, evict_uploaded: false, ..options(dir.path()) }).expect("opens");
    let (photo, job) = finished(&store, 1).await;
    all_uploaded(&store).await;
    assert!(matches!(store.admit(10, 0).await, Err(StoreError::OverCap { .. })));
    store.make_room().await.expect("nothing to do");
    assert!(store.blob_path(&photo.sha256).exists() && here(&store, &job));
    assert_eq!(store.evicted(), Evicted::default());
}

#[tokio::test]
async fn at_the_reserve_photos_are_refused_and_below_a_quarter_of_it_jobs_wait_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let free = {
        let (store, _) = open(dir.path());
        store.space().free
    };
    let with = |state: &Path, reserve| Store::open(Options { reserve, ..options(state) }).expect("opens").0;
    for (reserve, photos, work) in [(free / 2, true, true), (free * 2, false, true), (free * 8, false, false)] {
        let dir = tempfile::tempdir().expect("a folder");
        let store = with(dir.path(), reserve);
        assert_eq!((store.admit(1, 0).await.is_ok(), store.has_room_to_work().await), (photos, work), "{free} free, reserve {reserve}");
    }
}

#[tokio::test]
async fn the_same_bytes_again_fill_what_nobody_said_before_and_change_nothing_that_somebody_did() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let first = photo(&store, "a", 1).await;
    let say = async |client: ClientInfo| {
        let new = NewPhoto {
            user_id: first.user_id.clone(),
            sha256: first.sha256,
            bytes: 1,
            width: 1,
            height: 1,
            content_type: ImageFormat::Png,
            source: Source::Upload,
            client,
        };
        store.add_photo(new, None).await.expect("stored")
    };
    let visit = |n: &str| ClientInfo { client_ref: Some(n.to_owned()), ..ClientInfo::default() };
    let (again, fresh) = say(visit("visit-1")).await;
    assert_eq!((again.id, fresh, again.client.client_ref.as_deref()), (first.id, false, Some("visit-1")));
    let (again, _) = say(ClientInfo { eye: Some(Eye::Left), ..visit("visit-2") }).await;
    assert_eq!((again.client.client_ref.as_deref(), again.client.eye), (Some("visit-1"), Some(Eye::Left)));
    // A job may say something else about this run.
    let new = NewJobs { client: visit("visit-2"), ..jobs(&again, Lane::Default) };
    let job = store.submit(new, None).await.expect("submitted").remove(0);
    assert_eq!((job.client.client_ref.as_deref(), job.client.eye), (Some("visit-2"), Some(Eye::Left)));
}

#[tokio::test]
async fn a_process_that_is_killed_while_it_ends_on_purpose_did_not_crash() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let photo = photo(&store, "a", 1).await;
    let id = submit(&store, &photo).await.id;
    store.claim(id).await.expect("claimed");
    store.expect_the_end();
    let image = crash_image(&store);
    let (store, report) = open(image.path());
    let job = store.job(id).expect("reads").expect("is there");
    assert_eq!((report.recovered_jobs, job.status, job.crashes, job.attempt), (0, Status::Pending, 0, 1));
    // The word holds for that end alone.
    store.claim(id).await.expect("claimed");
    let image = crash_image(&store);
    let (store, report) = open(image.path());
    assert_eq!((report.recovered_jobs, store.job(id).expect("reads").map(|j| j.crashes)), (1, Some(1)));
}

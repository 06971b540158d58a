use super::*;

async fn completed(store: &Store, n: u8) -> (Photo, Job) {
    let photo = photo(store, "a", n).await;
    let id = submit(store, &photo).await.id;
    store.claim(id).await.expect("claimed");
    (photo, store.complete(id, outcome()).await.expect("stored"))
}

#[tokio::test]
async fn a_job_is_uploaded_once_its_three_objects_and_the_original_are_there_and_says_so_last() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let (photo, job) = completed(&store, 1).await;
    let rows = store.due_uploads(10, First::Oldest);
    let keys: Vec<&str> = rows
        .iter()
        .map(|r| match &r.task {
            UploadTask::Put(o) => o.key.as_str(),
            UploadTask::Delete(key) => key,
        })
        .collect();
    let base = format!("processed/a/{}", job.id);
    assert_eq!(keys, [photo.s3_key(), format!("{base}.jpg"), format!("{base}.png"), format!("{base}.json")]);
    for row in &rows[1..] {
        store.upload_started(row.seq).await.expect("stored");
        store.upload_confirmed(row.seq).await.expect("stored");
    }
    assert_eq!(store.job(job.id).expect("reads").map(|j| j.upload), Some(UploadStatus::Uploading));
    store.upload_confirmed(rows[0].seq).await.expect("stored");
    assert_eq!(store.job(job.id).expect("reads").map(|j| j.upload), Some(UploadStatus::Uploaded));
    let events = store.events_after(Seq(0), 100).expect("reads").events;
    let told: Vec<&str> = events.iter().map(|e| e.event.name()).collect();
    assert_eq!(told, ["submitted", "started", "completed", "uploaded"]);
    assert_eq!(events.iter().map(|e| e.seq.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    store.upload_confirmed(rows[0].seq).await.expect("a second word changes nothing");
    assert_eq!(store.last_event(), Seq(4));
}

#[tokio::test]
async fn a_deleted_photo_takes_back_its_uploads_and_its_objects_but_not_while_one_is_on_its_way() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let (photo, job) = completed(&store, 1).await;
    let original = store.due_uploads(1, First::Oldest).remove(0);
    store.upload_started(original.seq).await.expect("stored");
    store.delete_photo(photo.id).await.expect("deleted");
    let due: Vec<UploadTask> = store.due_uploads(10, First::Oldest).into_iter().map(|r| r.task).collect();
    let delete = |ending: &str| UploadTask::Delete(job.s3_key(ending));
    assert_eq!(due.len(), 3, "the original's delete must wait for its upload: {due:?}");
    assert!([".jpg", ".png", ".json"].iter().all(|e| due.contains(&delete(e))));
    store.upload_confirmed(original.seq).await.expect("stored");
    assert!(store.due_uploads(10, First::Oldest).iter().any(|r| r.task == UploadTask::Delete(photo.s3_key())));
    assert!(!store.result_dir(job.id).exists());
}

#[tokio::test]
async fn the_cursor_and_the_events_that_the_broker_is_owed_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    completed(&store, 1).await;
    store.mqtt_confirmed(Seq(2)).await.expect("stored");
    store.close().await;
    let (store, _) = open(dir.path());
    assert_eq!(store.mqtt_cursor(), Seq(2));
    let owed = store.events_after(store.mqtt_cursor(), 10).expect("reads");
    assert_eq!((owed.gap, owed.events.len(), owed.events[0].seq), (false, 1, Seq(3)));
}

#[tokio::test]
async fn a_retained_state_is_cleared_an_hour_after_the_end_and_not_before_it_was_published() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(Hand::default());
    let (store, _) = Store::open(Options { clock: clock.clone(), ..options(dir.path()) }).expect("opens");
    let (_, job) = completed(&store, 1).await;
    clock.0.store(3_600_000, Ordering::SeqCst);
    assert_eq!(store.mqtt_clears(), [], "it was never published");
    store.mqtt_confirmed(store.last_event()).await.expect("stored");
    assert_eq!(store.mqtt_clears(), [job.id]);
    store.mqtt_cleared(job.id).await.expect("stored");
    assert_eq!(store.mqtt_clears(), []);
}

/// Four objects that the bucket refuses time and again must not keep the others from being the one that tries.
#[tokio::test]
async fn the_one_object_that_tries_is_the_one_that_was_tried_least() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    for n in 0..3 {
        photo(&store, "a", n).await;
    }
    let order = |first| store.due_uploads(10, first).iter().map(|row| row.seq).collect::<Vec<_>>();
    let [a, b, c] = order(First::Oldest)[..] else { panic!("three originals") };
    store.upload_deferred(a, Duration::ZERO).await.expect("stored");
    store.upload_deferred(a, Duration::ZERO).await.expect("stored");
    store.upload_deferred(b, Duration::ZERO).await.expect("stored");
    assert_eq!(order(First::LeastTried), [c, b, a]);
    assert_eq!(order(First::Oldest), [a, b, c]);
    assert_eq!(order(First::Newest), [c, b, a]);
}

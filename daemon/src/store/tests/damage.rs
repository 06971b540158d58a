use std::fs;

use super::*;

/// A store with a finished, a cancelled and a waiting job; what it looked like, as JSON.
async fn filled(dir: &Path) -> String {
    let (store, _) = open(dir);
    let photo = photo(&store, "a", 1).await;
    let ids = [submit(&store, &photo).await.id, submit(&store, &photo).await.id, submit(&store, &photo).await.id];
    store.claim(ids[0]).await.expect("claimed");
    store.complete(ids[0], outcome()).await.expect("stored");
    store.cancel(ids[1], None).await.expect("cancelled");
    let seen = looks(&store);
    store.close().await;
    seen
}

fn looks(store: &Store) -> String {
    let jobs = store.jobs(&Filter::default(), ALL).expect("lists").items;
    let photos = store.photos(&Filter::default(), ALL).expect("lists").items;
    let events = store.events_after(Seq(0), 100).expect("reads").events;
    serde_json::to_string(&(jobs, photos, events)).expect("serialises")
}

async fn comes_back(damage: impl Fn(&Path)) {
    let dir = tempfile::tempdir().expect("a folder");
    let before = filled(dir.path()).await;
    damage(dir.path());
    let (store, report) = open(dir.path());
    assert!(report.rebuilt.is_some(), "the damage went unseen");
    assert_eq!(looks(&store), before);
    store.close().await;
    drop(store); // the last handle closes sled's file
    let (store, report) = open(dir.path());
    assert_eq!(report.rebuilt, None, "it was not mended");
    assert_eq!(looks(&store), before);
}

#[tokio::test]
async fn a_deleted_index_is_rebuilt() {
    comes_back(|state| fs::remove_dir_all(state.join("store")).expect("removes")).await;
}

#[tokio::test]
async fn a_zeroed_block_in_the_index_is_found_and_the_index_rebuilt() {
    comes_back(|state| {
        let path = state.join("store/v1/db");
        let mut bytes = fs::read(&path).expect("reads");
        let end = bytes.len().min(4096);
        bytes[..end].fill(0);
        fs::write(&path, bytes).expect("writes");
    })
    .await;
}

#[tokio::test]
async fn a_truncated_data_file_is_found_and_the_index_rebuilt() {
    comes_back(|state| fs::write(state.join("store/v1/db"), b"").expect("writes")).await;
}

#[tokio::test]
async fn a_zero_length_snapshot_of_sled_does_not_keep_the_store_shut() {
    let dir = tempfile::tempdir().expect("a folder");
    let before = filled(dir.path()).await;
    fs::write(dir.path().join("store/v1/snap.0000000000000FFF"), b"").expect("writes");
    let (store, _) = open(dir.path());
    assert_eq!(looks(&store), before);
}

#[tokio::test]
async fn a_lost_journal_is_written_again_from_the_index() {
    let dir = tempfile::tempdir().expect("a folder");
    let before = filled(dir.path()).await;
    fs::remove_dir_all(dir.path().join("journal")).expect("removes");
    let (store, report) = open(dir.path());
    let said = report.journal_damage.expect("the loss is said");
    assert!(said.contains("frames 1 to "), "{said}");
    assert_eq!(looks(&store), before);
    store.close().await;
    drop(store);
    fs::remove_dir_all(dir.path().join("store")).expect("removes");
    let (store, report) = open(dir.path());
    assert_eq!(report.journal_damage, None, "it was not mended");
    assert_eq!(looks(&store), before, "the new journal does not hold everything");
}

/// A photo whose row was in the lost end alone: the blob is the only trace of it, at this start and at every later one.
#[tokio::test]
async fn a_journal_that_lost_its_end_is_said_once_and_blobs_that_no_row_names_stay() {
    let dir = tempfile::tempdir().expect("a folder");
    let before = filled(dir.path()).await;
    let (store, _) = open(dir.path());
    let orphan = store.blob_path(&Sha256([9; 32]));
    store.close().await;
    drop(store); // the last handle closes sled's file
    let log = fs::read_dir(dir.path().join("journal")).expect("lists").next().expect("a log").expect("reads").path();
    let file = fs::OpenOptions::new().write(true).open(&log).expect("opens");
    file.set_len(fs::metadata(&log).expect("is there").len() / 2).expect("cuts");
    fs::create_dir_all(orphan.parent().expect("a folder")).expect("creates");
    fs::write(&orphan, b"x").expect("writes");
    for start in 0..3 {
        let (store, report) = open(dir.path());
        assert_eq!(report.journal_damage.is_some_and(|what| what.contains("its end")), start == 0);
        assert_eq!(report.rebuilt, None);
        assert_eq!(looks(&store), before);
        assert!(orphan.is_file(), "the only trace of a photo was swept away");
        store.close().await;
    }
}

/// What an interrupted rebuild leaves must be begun again, never believed: photos behind it would be swept away.
#[tokio::test]
async fn half_a_rebuilt_index_is_not_believed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    for n in 0..3 {
        let photo = photo(&store, "a", n).await;
        submit(&store, &photo).await;
    }
    let before = looks(&store);
    store.close().await;
    drop(store);
    // A snapshot of everything, as compaction makes it: the journal is lost and written again from the index.
    fs::remove_dir_all(dir.path().join("journal")).expect("removes");
    open(dir.path()).0.close().await;
    fs::remove_dir_all(dir.path().join("store")).expect("removes");
    // The process dies after the first rows: an index that agrees with itself, but holds a part.
    let mut half = super::super::index::Index::open(&dir.path().join("store/v1")).expect("opens");
    let row = super::super::journal::Op::Put { key: b"x".to_vec(), value: super::super::record::encode(&1).expect("encodes") };
    half.apply(0, [&row], |_, _, _| {}).expect("applies");
    half.flush().expect("flushes");
    drop(half);
    let (store, report) = open(dir.path());
    assert!(report.rebuilt.is_some());
    assert_eq!(looks(&store), before);
}

#[tokio::test]
async fn a_bit_that_flipped_in_the_middle_of_the_only_log_costs_that_frame_alone_and_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let (first, second) = (photo(&store, "a", 1).await, photo(&store, "a", 2).await);
    store.close().await;
    drop(store);
    fs::remove_dir_all(dir.path().join("store")).expect("removes");
    let log = fs::read_dir(dir.path().join("journal")).expect("lists").next().expect("a log").expect("reads").path();
    let mut bytes = fs::read(&log).expect("reads");
    let at = bytes.windows(3).position(|w| w == [9, 1, b'a']).expect("the first photo's owner, a text of one byte");
    bytes[at + 2] ^= 1;
    fs::write(&log, bytes).expect("writes");
    for _ in 0..2 {
        let (store, report) = open(dir.path());
        assert_eq!(store.photo(second.id).expect("reads").map(|p| p.id), Some(second.id));
        assert!(store.blob_path(&first.sha256).is_file(), "the only trace of the first photo was swept away");
        let _said_once = report.journal_damage;
        store.close().await;
    }
}

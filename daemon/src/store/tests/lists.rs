use super::*;

/// Jobs that stand in one block of the index; the oldest, which a list reads last, is written again and again, and each write is on its way
/// from the overlay to sled when the list is asked for.
#[tokio::test]
async fn a_list_shows_each_job_as_it_was_acknowledged_however_its_neighbours_are_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, _) = open(dir.path());
    let photo = photo(&store, "a", 1).await;
    let id = submit(&store, &photo).await.id;
    for _ in 0..3 {
        submit(&store, &photo).await;
    }
    let listed = || store.jobs(&Filter::default(), Page { limit: 4, offset: 0, before: None }).expect("reads").items[3].status;
    for _ in 0..1000 {
        store.claim(id).await.expect("claimed");
        assert_eq!(listed(), Status::Processing);
        store.put_back(id).await.expect("put back");
        assert_eq!(listed(), Status::Pending);
    }
}

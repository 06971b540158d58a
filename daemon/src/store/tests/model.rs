//! The real store against a model of a few lines, through process deaths.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Action {
    Photo(u8),
    Submit(u8),
    Claim(u8),
    Complete(u8),
    Cancel(u8),
    Delete(u8),
    Crash,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    use Action::{Cancel, Claim, Complete, Crash, Delete, Photo, Submit};
    let n = 0u8..6;
    let one = prop_oneof![
        2 => n.clone().prop_map(Photo),
        3 => n.clone().prop_map(Submit),
        3 => n.clone().prop_map(Claim),
        2 => n.clone().prop_map(Complete),
        1 => n.clone().prop_map(Cancel),
        1 => n.prop_map(Delete),
        1 => Just(Crash),
    ];
    prop::collection::vec(one, 1..40)
}

/// What must be true of each photo and job that was acknowledged.
#[derive(Default)]
struct Model {
    photos: BTreeMap<u8, PhotoId>,
    /// In the order of their submission: photo, status.
    jobs: Vec<(JobId, PhotoId, Status)>,
}

impl Model {
    fn nth(&mut self, n: u8, status: Status) -> Option<&mut (JobId, PhotoId, Status)> {
        let fit: Vec<usize> = (0..self.jobs.len()).filter(|i| self.jobs[*i].2 == status).collect();
        let at = *fit.get(usize::from(n) % fit.len().max(1))?;
        self.jobs.get_mut(at)
    }

    fn check(&self, store: &Store) {
        let found = store.jobs(&Filter::default(), ALL).expect("lists").items;
        let found: Vec<_> = found.iter().rev().map(|j| (j.id, j.photo_id, j.status)).collect();
        assert_eq!(found, self.jobs);
        let photos: Vec<PhotoId> = store.photos(&Filter::default(), ALL).expect("lists").items.iter().map(|p| p.id).collect();
        assert_eq!(photos.len(), self.photos.len());
        for (n, id) in &self.photos {
            assert!(photos.contains(id) && store.blob_path(&Sha256([*n; 32])).is_file(), "photo {n} is gone");
        }
        let waiting: Vec<JobId> = store.waiting().iter().map(|w| w.id).collect();
        let pending: Vec<JobId> = self.jobs.iter().filter(|j| j.2 == Status::Pending).map(|j| j.0).collect();
        assert_eq!(waiting, pending);
        let events = store.events_after(Seq(0), 1000).expect("reads").events;
        assert!(events.iter().zip(1..).all(|(e, n)| e.seq.0 == n), "the events have a gap");
    }

    async fn act(&mut self, store: &Store, action: &Action) {
        match *action {
            Action::Photo(n) => {
                self.photos.insert(n, photo(store, "a", n).await.id);
            }
            Action::Submit(n) => {
                let Some(id) = self.photos.get(&n) else { return };
                let photo = store.photo(*id).expect("reads").expect("is there");
                self.jobs.push((submit(store, &photo).await.id, *id, Status::Pending));
            }
            Action::Claim(n) => {
                if let Some(job) = self.nth(n, Status::Pending) {
                    store.claim(job.0).await.expect("claimed");
                    job.2 = Status::Processing;
                }
            }
            Action::Complete(n) => {
                if let Some(job) = self.nth(n, Status::Processing) {
                    store.complete(job.0, outcome()).await.expect("stored");
                    job.2 = Status::Completed;
                }
            }
            Action::Cancel(n) => {
                if let Some(job) = self.nth(n, Status::Pending) {
                    store.cancel(job.0, None).await.expect("cancelled");
                    job.2 = Status::Cancelled;
                }
            }
            Action::Delete(n) => {
                let Some(id) = self.photos.get(&n).copied() else { return };
                let busy = self.jobs.iter().any(|j| j.1 == id && !j.2.is_final());
                match store.delete_photo(id).await {
                    Ok(()) => assert!(!busy && self.photos.remove(&n).is_some()),
                    Err(e) => assert!(busy, "{e}"),
                }
            }
            Action::Crash => self.jobs.iter_mut().filter(|j| j.2 == Status::Processing).for_each(|j| j.2 = Status::Pending),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_what_was_acknowledged_through_any_order_of_deeds_and_deaths(actions in actions()) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let mut _image = tempfile::tempdir().expect("a folder"); // holds the store's folder until the next one is open
            let open = |path: &Path| Store::open(Options { crash_limit: 1000, ..options(path) }).expect("opens").0;
            let (mut store, mut model) = (open(_image.path()), Model::default());
            for action in &actions {
                model.act(&store, action).await;
                if matches!(action, Action::Crash) {
                    let next = crash_image(&store);
                    store = open(next.path());
                    _image = next;
                }
                model.check(&store);
            }
        });
    }
}

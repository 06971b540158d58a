//! Store, scheduler and deliveries as one machine, against the model of `model.rs`: whatever people, worker, outbox, disk and power do,
//! in any order, the store is what was acknowledged. A failure shrinks to the fewest deeds that show it.

use proptest::prelude::*;

use super::{model::Model, *};
use crate::scheduler::{Next, Policy, SLOTS};

pub const AGEING: Duration = Duration::from_secs(60);
/// Bytes, for any two jobs.
const MEMORY: u64 = 1 << 20;
pub const CRASH_LIMIT: u32 = 3;
/// Bytes that cannot fit: everything that may go must go.
const CAP: u64 = 1 << 40;

#[derive(Debug, Clone)]
enum Deed {
    Photo(u8),
    Submit {
        photo: u8,
        merges: Option<u8>,
        lane: Lane,
        times: usize,
    },
    /// The scheduler picks, the worker claims.
    Start,
    Step(u8),
    Complete(u8),
    Fail {
        job: u8,
        transient: bool,
    },
    Refuse(u8),
    Cancel(u8),
    Delete(u8),
    /// One due row goes to the bucket.
    Upload {
        row: u8,
        how: How,
    },
    /// Some events go to the broker.
    Announce {
        events: usize,
        confirmed: bool,
    },
    Clear,
    Evict,
    Wait(u64),
    Tidy,
    /// The process dies; `index_lost`: and what sled had is gone.
    Crash {
        index_lost: bool,
    },
    /// Running jobs are put back, the store is closed and opened.
    Restart,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Vouched,
    /// It arrived, and nobody heard of it.
    Cut,
    Deferred,
    Hopeless,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let n = 0u8..4;
    let lane = prop_oneof![Just(Lane::HighPriority), Just(Lane::Default)];
    let how = prop_oneof![6 => Just(How::Vouched), 1 => Just(How::Cut), 1 => Just(How::Deferred), 1 => Just(How::Hopeless)];
    let one = prop_oneof![
        4 => n.clone().prop_map(Deed::Photo),
        6 => (n.clone(), prop::option::of(n.clone()), lane, 1usize..4)
            .prop_map(|(photo, merges, lane, times)| Deed::Submit { photo, merges, lane, times }),
        6 => Just(Deed::Start),
        4 => n.clone().prop_map(Deed::Step),
        4 => n.clone().prop_map(Deed::Complete),
        2 => (n.clone(), any::<bool>()).prop_map(|(job, transient)| Deed::Fail { job, transient }),
        2 => n.clone().prop_map(Deed::Refuse),
        1 => n.clone().prop_map(Deed::Cancel),
        2 => n.clone().prop_map(Deed::Delete),
        10 => (n.clone(), how).prop_map(|(row, how)| Deed::Upload { row, how }),
        4 => (1usize..6, any::<bool>()).prop_map(|(events, confirmed)| Deed::Announce { events, confirmed }),
        1 => Just(Deed::Clear),
        2 => Just(Deed::Evict),
        2 => prop_oneof![Just(2), Just(70), Just(4000)].prop_map(Deed::Wait),
        1 => Just(Deed::Tidy),
        2 => any::<bool>().prop_map(|index_lost| Deed::Crash { index_lost }),
        1 => Just(Deed::Restart),
    ];
    prop::collection::vec(one, 1..80)
}

struct Machine {
    clock: Arc<Hand>,
    store: Store,
    /// Holds the store's folder.
    folder: tempfile::TempDir,
    policy: Policy,
    model: Model,
}

impl Machine {
    fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().expect("a folder"), Arc::<Hand>::default());
        let store = Self::open(folder.path(), &clock).0;
        Self { clock, store, folder, policy: Policy::new(AGEING, MEMORY, Duration::ZERO), model: Model::default() }
    }

    fn open(path: &Path, clock: &Arc<Hand>) -> (Store, OpenReport) {
        Store::open(Options { clock: clock.clone(), cap: CAP, crash_limit: CRASH_LIMIT, max_pending: 1000, ..options(path) })
            .expect("opens")
    }

    async fn does(&mut self, deed: &Deed) {
        let (store, model) = (&self.store, &mut self.model);
        match *deed {
            Deed::Photo(n) => model.photo(n, photo(store, "a", n).await.id),
            Deed::Submit { photo, merges, lane, times } => {
                let Some(id) = model.photo_id(photo) else { return };
                let merges = merges.filter(|other| *other != photo && model.photo_id(*other).is_some());
                let merge = merges.and_then(|other| model.photo_id(other)).map(|id| Merge { with: vec![id], misfit: Misfit::Fails });
                let new = NewJobs {
                    user_id: "a".parse().expect("a name"),
                    photo_ids: vec![id; times],
                    merge,
                    lane,
                    client: ClientInfo::default(),
                    reprocess_of: None,
                };
                match store.submit(new, None).await {
                    Ok(jobs) => model.submitted(photo, merges, lane, jobs.iter().map(|j| j.id)),
                    Err(StoreError::OriginalEvicted) => {
                        let all_here = model.is_here(photo) && merges.is_none_or(|other| model.is_here(other));
                        assert!(!all_here, "originals that lie here were called evicted");
                    }
                    Err(e) => panic!("{e}"),
                }
            }
            Deed::Start => {
                let (now, in_work) = (self.clock.mono(), model.in_work());
                let next = |waiting: &[Waiting]| self.policy.next(&in_work, 0, waiting, |_| 1, now);
                let picked = next(&store.candidates());
                assert_eq!(picked, next(&model.waiting()), "the store shows the scheduler another queue");
                if let Next::Start(id) = picked {
                    assert!(in_work.len() < SLOTS);
                    let job = store.claim(id).await.expect("claimed");
                    self.policy.started(job.lane, now);
                    model.started(id);
                }
            }
            Deed::Step(n) => {
                let Some((id, stage)) = model.next_step(n) else { return };
                store.step(id, stage, StepMs::default()).await.expect("stored");
            }
            Deed::Complete(n) => {
                let Some(id) = model.running(n) else { return };
                store.complete(id, outcome()).await.expect("stored");
                model.completed(id);
            }
            Deed::Fail { job, transient } => {
                let Some(id) = model.running(job) else { return };
                let fault = Fault::new(if transient { Code::DeviceBusy } else { Code::NoIris }, "test");
                store.fail(id, fault, StepMs::default(), Duration::from_secs(3)).await.expect("stored");
                model.failed(id, transient);
            }
            Deed::Refuse(n) => {
                let Some(id) = model.running(n) else { return };
                store.refuse(id, refusal(), StepMs::default()).await.expect("stored");
                model.refused(id);
            }
            Deed::Cancel(n) => {
                let Some(id) = model.unfinished(n) else { return };
                store.cancel(id, None).await.expect("cancelled");
                model.cancelled(id);
            }
            Deed::Delete(n) => {
                let Some(id) = model.photo_id(n) else { return };
                match store.delete_photo(id).await {
                    Ok(()) => model.deleted(n),
                    Err(e) => assert!(matches!(e, StoreError::PhotoInUse) && model.in_use(n), "{e}"),
                }
            }
            Deed::Upload { row, how } => self.upload(row, how).await,
            Deed::Announce { events, confirmed } => {
                let batch = store.events_after(store.mqtt_cursor(), events).expect("reads").events;
                model.heard(batch.iter().map(|e| e.seq.0), confirmed);
                if let (Some(last), true) = (batch.last(), confirmed) {
                    store.mqtt_confirmed(last.seq).await.expect("stored");
                }
            }
            Deed::Clear => {
                for id in store.mqtt_clears() {
                    store.mqtt_cleared(id).await.expect("stored");
                    model.cleared(id);
                }
            }
            Deed::Evict => {
                // Ok: nothing lay here. Refused: what lies here must stay.
                let _all_that_may_go = store.admit(CAP, 0).await;
                model.evicted();
            }
            Deed::Wait(s) => {
                self.clock.0.fetch_add(s * 1000, Ordering::SeqCst);
                model.now += s * 1000;
            }
            Deed::Tidy => store.tidy_up().await.expect("stored"),
            Deed::Crash { index_lost } => self.crash(index_lost),
            Deed::Restart => {
                for n in 0..SLOTS {
                    let Some(id) = self.model.running(n as u8) else { break };
                    self.store.put_back(id).await.expect("stored");
                    self.model.put_back(id);
                }
                self.store.close().await;
                self.reopened(Self::open(self.folder.path(), &self.clock).0);
            }
        }
    }

    async fn upload(&mut self, row: u8, how: How) {
        let due = self.store.due_uploads(100, First::Oldest);
        let Some(row) = due.get(usize::from(row) % due.len().max(1)) else { return };
        let (key, delete) = match &row.task {
            UploadTask::Put(object) => (object.key.clone(), false),
            UploadTask::Delete(key) => (key.clone(), true),
        };
        self.store.upload_started(row.seq).await.expect("stored");
        self.model.upload_started(&key, delete);
        match how {
            How::Vouched => {
                self.model.arrived(&key, delete);
                self.store.upload_confirmed(row.seq).await.expect("stored");
                self.model.vouched(&key, delete);
            }
            How::Cut => {
                self.model.arrived(&key, delete);
                self.store.upload_released(row.seq);
            }
            How::Deferred => {
                self.store.upload_deferred(row.seq, Duration::from_secs(5)).await.expect("stored");
                self.model.deferred(&key, delete, 5000);
            }
            How::Hopeless if delete => self.store.upload_released(row.seq),
            How::Hopeless => {
                self.store.upload_given_up(row.seq).await.expect("stored");
                self.model.given_up(&key);
            }
        }
    }

    fn crash(&mut self, index_lost: bool) {
        let next = crash_image(&self.store);
        if index_lost {
            std::fs::remove_dir_all(next.path().join("store/v1")).expect("removed");
        }
        let (store, report) = Self::open(next.path(), &self.clock);
        assert_eq!(report.journal_damage, None);
        self.model.crashed(CRASH_LIMIT);
        self.reopened(store);
        self.folder = next;
    }

    fn reopened(&mut self, store: Store) {
        self.store = store;
        self.policy = Policy::new(AGEING, MEMORY, self.clock.mono());
        self.model.reopened();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_what_was_acknowledged_whatever_people_worker_outbox_disk_and_power_do(deeds in deeds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut machine = Machine::new();
            for deed in &deeds {
                machine.does(deed).await;
                machine.model.check(&machine.store);
            }
        });
    }
}

//! A wall clock that jumps by ten years or starts in 1970: nothing expires, nothing is evicted, nothing changes its place.

use jiff::SignedDuration;

use super::*;
use crate::{
    adapters::clock::ManualClock,
    scheduler::{Next, Policy},
};

const S: Duration = Duration::from_secs(1);

fn today() -> Timestamp {
    "2026-06-01T08:00:00Z".parse().expect("a time")
}

fn jumps() -> [Timestamp; 3] {
    let ten_years = SignedDuration::from_hours(24 * 3653);
    [today() + ten_years, today() - ten_years, Timestamp::UNIX_EPOCH]
}

fn reopened(state: &Path, clock: &Arc<ManualClock>) -> Store {
    Store::open(Options { clock: clock.clone(), ..options(state) }).expect("opens").0
}

/// Two jobs that wait (the first for its retry), a result whose upload backs off, a key, and an original and a result that may be evicted.
struct Afternoon {
    retried: JobId,
    waiting: JobId,
    key: Idempotency,
    deferred: Seq,
    ended: JobId,
    used: u64,
}

async fn afternoon(store: &Store) -> Afternoon {
    let old = photo(store, "a", 1).await;
    let ended = submit(store, &old).await.id;
    store.claim(ended).await.expect("claimed");
    store.complete(ended, outcome()).await.expect("stored");
    let uploads = store.due_uploads(10, First::Oldest);
    let (first, rest) = uploads.split_first().expect("there are some");
    for row in rest {
        store.upload_confirmed(row.seq).await.expect("stored");
    }
    store.upload_deferred(first.seq, 60 * S).await.expect("stored");
    store.mqtt_confirmed(store.last_event()).await.expect("stored");
    let new = photo(store, "a", 2).await;
    let retried = submit(store, &new).await.id;
    store.claim(retried).await.expect("claimed");
    store.fail(retried, Fault::new(Code::DeviceBusy, "test"), StepMs::default(), 3 * S).await.expect("stored");
    let key = Idempotency { caller: new.user_id.clone(), key: "k".into(), body: Sha256([1; 32]) };
    let waiting = store.submit(jobs(&new, Lane::HighPriority), Some(key.clone())).await.expect("submitted")[0].id;
    Afternoon { retried, waiting, key, deferred: first.seq, ended, used: store.space().used }
}

fn next(store: &Store, clock: &ManualClock) -> Next {
    Policy::new(60 * S, 1 << 30, Duration::ZERO).next(&[], 0, &store.candidates(), |_| 1, clock.mono())
}

async fn nothing_is_forgotten(store: &Store, at: &Afternoon) {
    store.tidy_up().await.expect("tidied");
    store.make_room().await.expect("looked");
    assert_eq!(store.space().used, at.used, "something was evicted");
    let order: Vec<JobId> = store.waiting().iter().map(|w| w.id).collect();
    assert_eq!(order, [at.retried, at.waiting]);
    assert!(store.replay(&at.key).expect("reads").is_some(), "the key was forgotten");
    assert!(!store.mqtt_clears().contains(&at.ended), "the state of a job that just ended was cleared");
    assert!(store.mqtt_standing().contains(&at.ended));
}

#[tokio::test]
async fn a_clock_that_jumps_under_a_running_daemon_changes_no_wait() {
    for jump in jumps() {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::at(today()));
        let store = reopened(dir.path(), &clock);
        let at = afternoon(&store).await;
        clock.jump_to(jump);
        nothing_is_forgotten(&store, &at).await;
        assert_eq!(next(&store, &clock), Next::Start(at.waiting), "the retry waits for its three seconds");
        clock.advance(3 * S);
        assert_eq!(next(&store, &clock), Next::Start(at.retried), "and has its old place then");
        let due = |store: &Store| store.due_uploads(100, First::Oldest).iter().any(|r| r.seq == at.deferred);
        clock.advance(56 * S);
        assert!(!due(&store), "the upload backs off for a minute");
        clock.advance(S);
        assert!(due(&store));
        // Failing again under the new time backs off as long as ever.
        store.upload_deferred(at.deferred, 60 * S).await.expect("stored");
        clock.advance(60 * S);
        assert!(due(&store));
        nothing_is_forgotten(&store, &at).await;
        clock.advance(3600 * S);
        assert!(store.mqtt_clears().contains(&at.ended), "an hour by the clock that does not jump");
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_at_the_next_start_forgets_nothing_and_strands_nobody() {
    for jump in jumps() {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::at(today()));
        let store = reopened(dir.path(), &clock);
        let at = afternoon(&store).await;
        store.close().await;
        let clock = Arc::new(ManualClock::at(jump));
        let store = reopened(dir.path(), &clock);
        nothing_is_forgotten(&store, &at).await;
        clock.advance(10 * S);
        assert_eq!(next(&store, &clock), Next::Start(at.retried), "a retry never waits longer than ten seconds");
        clock.advance(290 * S);
        assert!(
            store.due_uploads(100, First::Oldest).iter().any(|r| r.seq == at.deferred),
            "an upload never waits longer than five minutes"
        );
        nothing_is_forgotten(&store, &at).await;
    }
}

#[tokio::test]
async fn jobs_of_a_device_that_booted_in_1970_keep_their_order_when_its_clock_is_set() {
    let dir = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let store = reopened(dir.path(), &clock);
    let photo = photo(&store, "a", 1).await;
    let mut ids = Vec::new();
    for now in [Timestamp::UNIX_EPOCH, today(), today() - SignedDuration::from_hours(1), today()] {
        clock.jump_to(now);
        ids.push(submit(&store, &photo).await.id);
    }
    let waiting = |store: &Store| store.waiting().iter().map(|w| w.id).collect::<Vec<_>>();
    assert_eq!(waiting(&store), ids);
    store.close().await;
    let store = reopened(dir.path(), &clock);
    assert_eq!(waiting(&store), ids);
    let listed: Vec<JobId> = store.jobs(&Filter::default(), ALL).expect("lists").items.iter().rev().map(|j| j.id).collect();
    assert_eq!(listed, ids);
}

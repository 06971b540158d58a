//! Whether the daemon gets on, and the word of it to systemd's watchdog.
//!
//! ```text
//! worker     each turn of its loop ---------------------------+
//! committer  an answer to a question, every TURN -------------+--> beats --none is late--> WATCHDOG=1
//! HTTP       each turn of the accept loop, every TURN if idle +
//! ```
//! A part that hangs is found here; one whose task has ended is found by `wait_for_the_end`. Feeding is a task of its own, because the
//! housekeeping waits for the committer too: a disk that is merely slow would then starve the watchdog before any beat is late.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{
    domain::ids::JobId,
    ports::Clock,
    store::{Store, StoreError},
    telemetry::Heartbeats,
};

/// A part that says nothing for this long stands still. All of them wait for the disk now and then, and a memory card that tidies itself up
/// takes half a minute for one fsync: a restart would only make it busier. With `WatchdogSec=60s` a hang ends after three minutes at most.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(120);
/// How often a part with nothing to do says that it could.
pub const TURN: Duration = Duration::from_secs(10);
/// Without a watchdog beats are looked at all the same, for the log.
pub const UNWATCHED: Duration = Duration::from_secs(60);

/// Tells systemd every `every` that all get on, as long as they do.
pub async fn feed(beats: Heartbeats, clock: Arc<dyn Clock>, every: Duration, tell: impl Fn()) {
    loop {
        sleep(every).await;
        let now = clock.mono();
        if beats.alive(now) {
            tell();
        } else {
            tracing::error!(silent = ?beats.silent(now), "a loop stands still; the watchdog is not fed");
        }
    }
}

/// Asks the committer for a job that cannot be, every `every`: whatever it says, it has been through its queue, and behind the fsync of
/// everybody who asked at the same time. Ends with the store.
///
/// The question writes nothing. A write would use up the ballast of a full disk, and wear the card of a device that nobody uses.
pub async fn ask_committer(store: Store, every: Duration, beat: impl Fn()) {
    while !matches!(store.put_back(JobId(Uuid::nil())).await, Err(StoreError::Closed)) {
        beat();
        sleep(every).await;
    }
}

/// `end`, and a beat every `every` in which it did not come. For a loop that polls it at each of its turns: one that stands still polls
/// nothing, and is silent.
pub async fn turning<T>(end: impl Future<Output = T>, every: Duration, beat: impl Fn()) -> T {
    let mut end = pin!(end);
    loop {
        match timeout(every, &mut end).await {
            Ok(end) => return end,
            Err(_) => beat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use jiff::Timestamp;
    use tokio::{sync::oneshot, time::Instant};

    use super::*;
    use crate::{
        adapters::clock::{ManualClock, SystemClock},
        store::Options,
        telemetry::Beat,
    };

    const MS: Duration = Duration::from_millis(1);
    /// More than any of this takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// The committer asks for the time before each group: while the gate is closed (true), it hangs.
    #[derive(Default)]
    struct Gate(AtomicBool);

    impl Clock for Gate {
        fn now(&self) -> Timestamp {
            while self.0.load(Ordering::SeqCst) {
                std::thread::sleep(MS);
            }
            Timestamp::UNIX_EPOCH
        }
        fn mono(&self) -> Duration {
            Duration::ZERO
        }
    }

    fn store(state: &std::path::Path, clock: Arc<dyn Clock>) -> Store {
        let options = Options {
            state: state.to_owned(),
            clock,
            uploads: false,
            upload_originals: false,
            upload_synthetic: false,
            max_pending: 1,
            crash_limit: 1,
            mqtt: false,
            cap: u64::MAX / 2,
            reserve: 0,
            evict_uploaded: false,
        };
        Store::open(options).expect("it opens").0
    }

    /// Counts on another thread than the one that hangs.
    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    }

    /// How often the function was called.
    fn counter() -> (Arc<AtomicUsize>, impl Fn() + Send) {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        (calls, move || {
            count.fetch_add(1, Ordering::SeqCst);
        })
    }

    async fn comes(what: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !what() {
            assert!(Instant::now() < end, "it never came");
            sleep(5 * MS).await;
        }
    }

    #[test]
    fn a_committer_that_hangs_is_silent_and_the_watchdog_is_fed_again_once_it_gets_on() {
        let dir = tempfile::tempdir().expect("a folder");
        let gate = Arc::new(Gate::default());
        let store = store(dir.path(), Arc::clone(&gate) as Arc<dyn Clock>);
        runtime().block_on(async {
            let (beats, clock, limit) = (Heartbeats::default(), Arc::new(SystemClock::new()), 200 * MS);
            let beat = beats.register("committer", limit, clock.mono());
            let now = Arc::clone(&clock);
            let asking = tokio::spawn(ask_committer(store.clone(), 5 * MS, move || beat.touch(now.mono())));
            let (fed, tell) = counter();
            tokio::spawn(feed(beats.clone(), Arc::clone(&clock) as Arc<dyn Clock>, 5 * MS, tell));
            comes(|| fed.load(Ordering::SeqCst) > 3).await;

            gate.0.store(true, Ordering::SeqCst);
            let (beats, at) = (beats.clone(), Arc::clone(&clock));
            comes(move || beats.silent(at.mono()) == ["committer"]).await;
            // A look that began before may still end in a word.
            sleep(20 * MS).await;
            let before = fed.load(Ordering::SeqCst);
            sleep(100 * MS).await;
            assert_eq!(fed.load(Ordering::SeqCst), before, "fed while the committer hangs");
            gate.0.store(false, Ordering::SeqCst);
            comes(|| fed.load(Ordering::SeqCst) > before).await;

            store.close().await;
            tokio::time::timeout(PATIENCE, asking).await.expect("it ends with the store").expect("well");
        });
    }

    #[test]
    fn asking_the_committer_writes_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = store(dir.path(), Arc::new(SystemClock::new()));
        let size = || -> u64 {
            let files = std::fs::read_dir(dir.path().join("journal")).expect("a journal");
            files.map(|f| f.expect("a file").metadata().expect("its size").len()).sum()
        };
        runtime().block_on(async {
            let (before, (asked, count)) = (size(), counter());
            tokio::spawn(ask_committer(store.clone(), MS, count));
            comes(|| asked.load(Ordering::SeqCst) > 20).await;
            assert_eq!(size(), before);
            store.close().await;
        });
    }

    #[test]
    fn a_loop_that_nobody_polls_is_silent() {
        runtime().block_on(async {
            let (beats, clock) = (Heartbeats::default(), Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)));
            let touching = |beat: Beat| {
                let clock = Arc::clone(&clock);
                move || beat.touch(clock.mono())
            };
            let beat = beats.register("HTTP", LONGEST_SILENCE, clock.mono());
            let (stop, stopped) = oneshot::channel::<()>();
            let mut turns = pin!(turning(stopped, MS, touching(beat)));
            clock.advance(LONGEST_SILENCE + MS);
            sleep(20 * MS).await;
            assert_eq!(beats.silent(clock.mono()), ["HTTP"], "time alone is no beat");
            assert!(timeout(50 * MS, &mut turns).await.is_err(), "nobody asked it to stop");
            assert!(beats.alive(clock.mono()));
            stop.send(()).expect("it listens");
            timeout(PATIENCE, turns).await.expect("it ends when it is told").expect("told");
        });
    }
}

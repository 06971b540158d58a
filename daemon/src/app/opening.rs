//! Opening what may take longer than systemd waits by itself (`TimeoutStartSec=`): as long as it lasts, more time is asked for.
//!
//! Without it a rebuild of the index that takes longer is killed and begun from zero, at each start again.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, timeout};

/// How often more time is asked for.
pub const ASK: Duration = Duration::from_secs(10);
/// What each asking is good for: several may go amiss, and what is started after the store fits in, too.
pub const ASKED_FOR: Duration = Duration::from_secs(60);
/// Then no more is asked for, and systemd ends the process: a disk that does not answer must not be waited for until somebody comes. Above
/// every rebuild that we know of: a journal of 10 GB is read from a slow card (10 MB/s) in 17 minutes, and written as often again.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// Waits for `opening`; every `every` until `longest` calls `ask` with the time that it has taken so far.
pub async fn patiently<T>(opening: impl Future<Output = T>, every: Duration, longest: Duration, ask: impl Fn(Duration)) -> T {
    let (mut opening, begun) = (pin!(opening), Instant::now());
    while begun.elapsed() < longest {
        match timeout(every, &mut opening).await {
            Ok(opened) => return opened,
            Err(_) => ask(begun.elapsed()),
        }
    }
    opening.await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::sleep;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn time_is_asked_for_while_the_store_opens_and_no_more_once_it_is_open() {
        block_on(async {
            let asked = AtomicUsize::new(0);
            let ask = |_| {
                asked.fetch_add(1, Ordering::SeqCst);
            };
            patiently(async {}, MS, LONGEST, ask).await;
            assert_eq!(asked.load(Ordering::SeqCst), 0, "what opens at once asks for nothing");
            let slow = async {
                while asked.load(Ordering::SeqCst) < 3 {
                    sleep(MS).await;
                }
                "open"
            };
            assert_eq!(patiently(slow, 5 * MS, LONGEST, ask).await, "open");
            sleep(50 * MS).await;
            assert_eq!(asked.load(Ordering::SeqCst), 3);
        });
    }

    #[test]
    fn a_store_that_never_opens_is_not_asked_for_without_end() {
        block_on(async {
            let asked = AtomicUsize::new(0);
            let ask = |_| {
                asked.fetch_add(1, Ordering::SeqCst);
            };
            let never = patiently(std::future::pending::<()>(), 10 * MS, 50 * MS, ask);
            assert!(timeout(Duration::from_millis(400), never).await.is_err());
            assert!((1..=5).contains(&asked.load(Ordering::SeqCst)), "{asked:?}");
        });
    }
}

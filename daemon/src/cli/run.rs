//! `irisd run`: the daemon.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};

use super::{Ended, Stop, startable};
use crate::{adapters::process, app, telemetry};

/// Threads for what blocks: files being received, checked and put in place, names being looked up (a line that is down holds a few of them
/// for half a minute each). Beyond these the disk is the queue, and a burst of requests needs no thread each.
const MOST_BLOCKING: usize = 16;
/// They stay, and all are there from the start: a daemon whose threads come and go is another size every minute, and one that starts them as
/// they are first needed grows for hours (docs/decisions/0011).
const BLOCKING_STAYS: Duration = Duration::from_secs(365 * 24 * 3600);

/// At the end of a daemon that failed, for threads that block. One in a camera's driver that hangs never ends, and only a process that is
/// gone is started again. A clean end waits for none.
const LAST_BLOCKING: Duration = Duration::from_secs(2);

pub(super) fn run(config: Option<&Path>) -> Ended {
    let config = startable(config).map_err(Stop::Config)?;
    telemetry::log_to_stderr(&config.log.level, &config.log.format);
    // Photos are nobody else's to read, by hand as under systemd (its UMask).
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // The runtime carries requests and deliveries; CPU work has threads of its own.
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .thread_name("irisd-io")
        .max_blocking_threads(MOST_BLOCKING)
        .thread_keep_alive(BLOCKING_STAYS)
        .build()?;
    start_blocking_threads(&runtime);
    let Err(error) = runtime.block_on(app::run(config)) else { process::leave() };
    abandon(runtime);
    Err(error.into())
}

/// Dropped by itself a runtime waits for every thread that blocks.
fn abandon(runtime: Runtime) {
    runtime.shutdown_timeout(LAST_BLOCKING);
}

/// Tokio starts one for a task that finds none idle: here each finds the others waiting at the gate.
fn start_blocking_threads(runtime: &Runtime) {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock();
    for _ in 0..MOST_BLOCKING {
        let gate = Arc::clone(&gate);
        runtime.spawn_blocking(move || drop(gate.lock()));
    }
    drop(closed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_failed_ends_although_a_thread_of_it_hangs() {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.spawn_blocking(|| std::thread::sleep(Duration::from_secs(600)));
        let begun = std::time::Instant::now();
        abandon(runtime);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}

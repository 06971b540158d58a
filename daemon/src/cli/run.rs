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
    runtime.block_on(app::run(config))?;
    process::leave();
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

//! `irisd run`: the daemon.

use std::path::Path;

use super::{Ended, configuration};
use crate::{app, telemetry};

pub(super) fn run(config: Option<&Path>) -> Ended {
    let config = configuration(config)?;
    telemetry::log_to_stderr(&config.log.level, &config.log.format);
    // The runtime carries requests and deliveries; CPU work has threads of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("irisd-io").build()?;
    Ok(runtime.block_on(app::run(config))?)
}

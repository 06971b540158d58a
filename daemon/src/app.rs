//! The composition root: the only file that knows every adapter; start order, drain order.
//!
//! INTERFACE DRAFT (bodies follow).

use crate::config::Config;

/// The daemon, from start to a clean end.
#[allow(clippy::todo, unused_variables)]
pub async fn run(config: Config) -> anyhow::Result<()> {
    todo!()
}

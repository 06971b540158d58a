//! `irisd`: the daemon of an iris photo appliance.
//!
//! The map of the house; who may import whom (`tests/tidy.rs` holds it):
//!
//! ```text
//! domain <- ports <- {imaging, store, scheduler} <- {inference, intake, pipeline, outbox} <- {worker, camera} <- http <- app <- main
//! config, telemetry                       beside domain
//! adapters      import domain, ports (and imaging, for the synthetic camera) alone
//! client, cli   beside app
//! ```

pub mod adapters;
pub mod app;
pub mod camera;
pub mod cli;
pub mod client;
pub mod config;
pub mod domain;
pub mod http;
pub mod imaging;
pub mod inference;
pub mod intake;
pub mod outbox;
pub mod pipeline;
pub mod ports;
pub mod scheduler;
pub mod store;
pub mod telemetry;
pub mod worker;

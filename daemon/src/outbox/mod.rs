//! What the world is told: one task for the broker, one for the bucket. Nobody else publishes or uploads.
//!
//! ```text
//! store (events, rows) --> mqtt: announces in order  --> EventSink    row goes on PUBACK
//!                      \-> s3:   uploads due rows    --> ObjectStore  row goes when the server vouched for the bytes
//! ```
//!
//! Both only read the store's durable queues and report back what was confirmed: stopped at any moment, they start again where the
//! last confirmation stands, and say some things twice, with the same `seq` and the same object keys. What they decide (pauses, windows,
//! who may upload) is pure and stands in files of its own: `lane`, `window`, `summary`, `payload`, `discovery`, `command`.

pub mod alerts;
pub mod command;
pub mod discovery;
pub mod lane;
pub mod mqtt;
pub mod payload;
pub mod s3;
pub mod summary;
pub mod window;

/// Waits until the daemon is told to stop (or everybody who could tell it is gone).
async fn stopped(shutdown: &mut tokio::sync::watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

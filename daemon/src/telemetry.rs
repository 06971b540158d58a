//! What the daemon says about itself: log lines (here), figures ([`metrics`]), and whether it is alive ([`heartbeat`]).
//!
//! Logs go to stderr alone: stdout belongs to `listening ...` and `--json`. No photo bytes, owners' references or secrets in a line.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

pub mod heartbeat;
pub mod metrics;

pub use heartbeat::{Beat, Heartbeats};
pub use metrics::Metrics;

/// Sends the program's log to stderr. `level`: a level or a tracing filter; `format`: auto (text on a terminal, else json), text, json.
/// Called once; a second call (tests in one process) changes nothing.
pub fn log_to_stderr(level: &str, format: &str) {
    // ONNX Runtime, sled and the TLS stack tell stories at info that help nobody in a clinic; a filter of one's own brings them back.
    let quiet = |level: &str| format!("{level},ort=warn,sled=warn,rustls=warn,hyper=warn,h2=warn");
    let filter = EnvFilter::try_new(if level.contains(['=', ',']) { level.to_owned() } else { quiet(level) });
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = io::stderr().is_terminal();
    let subscriber = fmt().with_env_filter(filter).with_writer(io::stderr);
    // An error means that a subscriber is there already.
    let _ = match format {
        "json" => subscriber.json().flatten_event(true).try_init(),
        "auto" if !terminal => subscriber.json().flatten_event(true).try_init(),
        _ => subscriber.with_ansi(terminal).with_target(false).try_init(),
    };
}

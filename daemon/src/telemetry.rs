//! What the daemon says about itself: log lines (here), figures ([`metrics`]), and whether it is alive ([`heartbeat`]).
//!
//! Logs go to stderr alone: stdout belongs to `listening ...` and `--json`. No photo bytes, owners' references or secrets in a line.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, filter::ParseError, fmt};

pub mod heartbeat;
pub mod metrics;

pub use heartbeat::{Beat, Heartbeats};
pub use metrics::Metrics;

/// Sends the program's log to stderr. `level`: a level or a tracing filter; `format`: auto (text on a terminal, else json), text, json.
/// Called once; a second call (tests in one process) changes nothing.
pub fn log_to_stderr(level: &str, format: &str) {
    let filter = filter(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = io::stderr().is_terminal();
    // A stderr that takes nothing any more (its reader ended, its disk is full) is no reason to panic over each line.
    let subscriber = fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    // An error means that a subscriber is there already.
    let _ = match format {
        "json" => subscriber.json().flatten_event(true).try_init(),
        "auto" if !terminal => subscriber.json().flatten_event(true).try_init(),
        _ => subscriber.with_ansi(terminal).with_target(false).try_init(),
    };
}

/// What is logged, for a level or a filter of one's own.
fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    // ONNX Runtime, sled and the TLS stack tell stories at info that help nobody in a clinic; a filter of one's own brings them back.
    let quiet = |level: &str| format!("{level},ort=warn,rustls=warn,hyper=warn,h2=warn");
    let filter = EnvFilter::try_new(if level.contains(['=', ',']) { level.to_owned() } else { quiet(level) })?;
    // Not these: at debug and trace they print rows and messages, with the names and references in them.
    ["sled=warn", "tungstenite=warn", "tokio_tungstenite=warn"]
        .into_iter()
        .try_fold(filter, |filter, held| Ok(filter.add_directive(held.parse()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prints_rows_and_messages_stays_quiet_under_every_filter() {
        for level in ["trace", "trace,irisd=debug", "sled=trace,tungstenite=trace", "off"] {
            let filter = filter(level).expect("a filter").to_string();
            for held in ["sled=warn", "tungstenite=warn", "tokio_tungstenite=warn"] {
                assert!(filter.split(',').any(|d| d == held), "{level}: {filter}");
            }
            assert!(!filter.contains("sled=trace") && !filter.contains("tungstenite=trace"), "{level}: {filter}");
        }
        assert!(filter("irisd=loud").is_err());
    }
}

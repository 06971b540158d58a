//! What the daemon says about itself: log lines (here), figures ([`metrics`]), and whether it is alive ([`heartbeat`]).
//!
//! Logs go to stderr alone: stdout belongs to `listening ...` and `--json`. No photo bytes, owners' references or secrets in a line.

use std::io::{self, IsTerminal};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, FilterFn, LevelFilter, ParseError, filter_fn},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub mod heartbeat;
pub mod metrics;

pub use heartbeat::{Beat, Heartbeats};
pub use metrics::Metrics;

/// Sends the program's log to stderr. `level`: a level or a tracing filter; `format`: auto (text on a terminal, else json), text, json.
/// Called once; a second call (tests in one process) changes nothing.
pub fn log_to_stderr(level: &str, format: &str) {
    let filter = filter(level).unwrap_or_else(|_| EnvFilter::new("info")).and(tellable());
    let terminal = io::stderr().is_terminal();
    // A stderr that takes nothing any more (its reader ended, its disk is full) is no reason to panic over each line.
    let lines = fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    let lines = match format {
        "json" => lines.json().flatten_event(true).boxed(),
        "auto" if !terminal => lines.json().flatten_event(true).boxed(),
        _ => lines.with_ansi(terminal).with_target(false).boxed(),
    };
    // An error means that a subscriber is there already.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
}

/// [`may_be_told`], which allows every level: without that word tracing knows no highest level, and asks about each line that sled would say.
fn tellable() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    filter_fn(may_be_told as fn(&Metadata<'_>) -> bool).with_max_level_hint(LevelFilter::TRACE)
}

/// Not what prints whole rows and messages, with the names and references in them: sled and the WebSockets' library below warnings.
fn may_be_told(about: &Metadata<'_>) -> bool {
    let of = |part: &str| about.target().strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    *about.level() <= Level::WARN || !["sled", "tungstenite", "tokio_tungstenite"].into_iter().any(of)
}

/// What is logged, for a level or a filter of one's own.
fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    // ONNX Runtime and the TLS stack tell stories at info that help nobody in a clinic; a filter of one's own brings them back.
    let quiet = |level: &str| format!("{level},ort=warn,rustls=warn,hyper=warn,h2=warn");
    let loud = level.parse::<LevelFilter>().is_ok_and(|level| level > LevelFilter::WARN);
    EnvFilter::try_new(if loud { quiet(level) } else { level.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn what_prints_rows_and_messages_stays_quiet_under_every_filter() {
        for (level, warned) in
            [("trace", true), ("trace,irisd=debug", true), ("sled::pagecache=trace,tungstenite::protocol=trace", true), ("off", false)]
        {
            let (told, sink) = (Arc::new(Mutex::new(Vec::new())), io::sink);
            let heard = Arc::clone(&told);
            let lines = fmt::layer().with_writer(sink).with_filter(filter(level).expect("a filter").and(filter_fn(move |about| {
                let passes = may_be_told(about);
                if passes {
                    heard.lock().expect("no panic").push(about.target().to_owned());
                }
                passes
            })));
            tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
                tracing::trace!(target: "sled::pagecache", "a row");
                tracing::debug!(target: "tungstenite::protocol", "a message");
                tracing::info!(target: "tokio_tungstenite", "a message");
                tracing::warn!(target: "sled::pagecache", "a fault");
            });
            let told = told.lock().expect("no panic").clone();
            assert!(told.len() == usize::from(warned) && told.iter().all(|t| t == "sled::pagecache"), "{level}: {told:?}");
        }
        assert!(filter("irisd=loud").is_err());
    }

    #[test]
    fn lines_below_the_level_are_not_even_looked_at() {
        for (level, highest) in [("info", LevelFilter::INFO), ("warn,irisd=debug", LevelFilter::DEBUG), ("off", LevelFilter::OFF)] {
            let filter = filter(level).expect("a filter").and(tellable());
            assert_eq!(tracing_subscriber::layer::Filter::<tracing_subscriber::Registry>::max_level_hint(&filter), Some(highest));
        }
    }
}

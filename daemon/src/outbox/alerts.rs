//! The board of alerts: what is wrong with the device just now, as long as it is wrong. Shown on MQTT (`alert/<code>`) and in `/device`.

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

/// The bucket refuses us: keys, rights or name are wrong.
pub const S3_DENIED: &str = "s3_denied";
/// The bucket has been away for some minutes.
pub const S3_UNREACHABLE: &str = "s3_unreachable";
/// A photo's metadata could not be cut out; it stays on the device.
pub const STRIP_FAILED: &str = "strip_failed";

/// Something that a person should know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Part of the topic: `[a-z0-9_]`.
    pub code: &'static str,
    /// What happened, what was kept, what to do. No names, no secrets.
    pub message: String,
    pub since: Timestamp,
}

/// What has to be said to somebody who was told `told`: the alerts that are new or read differently, and the codes that are resolved.
pub fn news(told: &[Alert], standing: &[Alert]) -> (Vec<Alert>, Vec<&'static str>) {
    let raised = standing.iter().filter(|a| !told.contains(a)).cloned().collect();
    let resolved = told.iter().map(|a| a.code).filter(|code| !standing.iter().any(|a| a.code == *code)).collect();
    (raised, resolved)
}

/// Cheap to clone; all clones are one board.
#[derive(Debug, Clone)]
pub struct Alerts {
    board: watch::Sender<Vec<Alert>>,
}

impl Alerts {
    pub fn new() -> Self {
        Self { board: watch::channel(Vec::new()).0 }
    }

    /// An alert that stands already keeps its `since`.
    pub fn raise(&self, code: &'static str, message: impl Into<String>, now: Timestamp) {
        let message = message.into();
        self.board.send_if_modified(|alerts| match alerts.iter_mut().find(|a| a.code == code) {
            Some(alert) if alert.message == message => false,
            Some(alert) => {
                alert.message = message;
                true
            }
            None => {
                alerts.push(Alert { code, message, since: now });
                true
            }
        });
    }

    pub fn resolve(&self, code: &'static str) {
        self.board.send_if_modified(|alerts| {
            let before = alerts.len();
            alerts.retain(|a| a.code != code);
            alerts.len() != before
        });
    }

    pub fn current(&self) -> Vec<Alert> {
        self.board.borrow().clone()
    }

    pub fn subscribe(&self) -> watch::Receiver<Vec<Alert>> {
        self.board.subscribe()
    }
}

impl Default for Alerts {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_keeps_its_beginning_until_it_is_resolved_and_tells_only_what_is_new() {
        let (alerts, t0) = (Alerts::new(), Timestamp::UNIX_EPOCH);
        let mut seen = alerts.subscribe();
        alerts.raise(S3_DENIED, "refused", t0);
        assert!(seen.has_changed().expect("open"));
        seen.mark_unchanged();
        alerts.raise(S3_DENIED, "refused", t0 + jiff::SignedDuration::from_hours(1));
        assert!(!seen.has_changed().expect("open"));
        alerts.raise(S3_DENIED, "refused otherwise", t0 + jiff::SignedDuration::from_hours(1));
        assert_eq!(alerts.current(), [Alert { code: S3_DENIED, message: "refused otherwise".to_owned(), since: t0 }]);
        let told = alerts.current();
        assert_eq!(news(&[], &told), (told.clone(), vec![]));
        assert_eq!(news(&told, &told), (vec![], vec![]));
        alerts.resolve(S3_DENIED);
        assert_eq!(news(&told, &alerts.current()), (vec![], vec![S3_DENIED]));
        assert!(alerts.current().is_empty());
    }
}

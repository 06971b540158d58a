//! What the daemon tells systemd (`Type=notify`): ready, stopping, status, watchdog. Without `NOTIFY_SOCKET` each call does nothing.
//!
//! The environment is only read, never changed: unsetting a variable while other threads run is undefined behaviour. Children would
//! inherit the socket; irisd starts none. A failed notification is a debug line, nothing else: the daemon must not die of its supervisor.

use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon answers requests.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// One line for `systemctl status`. No names and no secrets: the journal keeps it.
pub fn status(text: &str) {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    tell(&[NotifyState::Status(&line)]);
}

/// The drain began.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Start or stop takes longer than the unit allows: `us` microseconds more from now (a store that is being rebuilt).
pub fn extend_timeout(us: u32) {
    tell(&[NotifyState::ExtendTimeoutUsec(us)]);
}

/// How often [`watchdog_ping`] must come at the latest (`WatchdogSec=`); None: no watchdog for this process. Ping at half of it.
pub fn watchdog_interval() -> Option<Duration> {
    let mut us = 0;
    (sd_notify::watchdog_enabled(false, &mut us) && us > 0).then(|| Duration::from_micros(us))
}

/// Still making progress. Only called after progress was looked at: a ping from a bare timer would hide a daemon that hangs.
pub fn watchdog_ping() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::debug!(%error, "systemd could not be notified");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn without_systemd_nothing_happens() {
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            return; // under systemd this would speak for the real unit
        }
        super::status("two\nlines");
        super::watchdog_ping();
        assert_eq!(super::watchdog_interval(), None);
    }
}

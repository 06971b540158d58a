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

/// The start takes longer than the unit allows: so much more from now (a store that is being rebuilt). Not for a daemon that is up: systemd
/// puts off the watchdog by as much.
pub fn extend_timeout(by: Duration) {
    tell(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
}

/// How often [`watchdog_ping`] must come at the latest (`WatchdogSec=`); None: no watchdog for this process. Ping at half of it or sooner.
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
    use std::{os::unix::net::UnixDatagram, process::Command};

    /// What the daemon would say in its life, said by a process of its own: the environment of this one is shared by all tests.
    #[test]
    #[ignore = "run by the test below, in a process of its own"]
    fn the_whole_life() {
        assert_eq!(super::watchdog_interval(), None, "the watchdog is another process's");
        super::ready();
        super::status("two\nlines");
        super::watchdog_ping();
        super::extend_timeout(std::time::Duration::from_secs(5));
        super::stopping();
    }

    fn live(socket: Option<&std::path::Path>) {
        let mut child = Command::new(std::env::current_exe().expect("this test"));
        child.args(["--exact", "adapters::systemd::tests::the_whole_life", "--ignored"]).env_remove("NOTIFY_SOCKET");
        child.env("WATCHDOG_USEC", "1000000").env("WATCHDOG_PID", "1");
        if let Some(path) = socket {
            child.env("NOTIFY_SOCKET", path);
        }
        let output = child.output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn systemd_hears_each_word_and_without_systemd_nothing_happens() {
        live(None);
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("set");
        live(Some(&path));
        for expected in ["READY=1", "STATUS=two lines", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=5000000", "STOPPING=1"] {
            let mut buffer = [0; 256];
            let n = socket.recv(&mut buffer).expect("a word");
            assert_eq!(String::from_utf8_lossy(&buffer[..n]).trim_end(), expected);
        }
    }
}

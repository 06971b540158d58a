//! mosquitto as a child process: a configuration file, a free port, killed by its own pid.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{ca::TestCa, free_port, until};

pub struct Mosquitto {
    dir: TempDir,
    pub port: u16,
    child: Option<Child>,
}

impl Mosquitto {
    /// Anonymous, no TLS.
    pub async fn start() -> Self {
        Self::with("allow_anonymous true\n", |_| {}).await
    }

    /// TLS with this CA's certificate, and one user.
    pub async fn with_tls(ca: &TestCa, user: &str, password: &str) -> Self {
        let lines = "allow_anonymous false\npassword_file DIR/passwords\ncertfile DIR/cert.pem\nkeyfile DIR/key.pem\n";
        Self::with(lines, |dir| {
            certificates(dir, ca);
            let file = dir.path().join("passwords");
            let made = Command::new("mosquitto_passwd").arg("-b").arg("-c").arg(&file).args([user, password]).status();
            assert!(made.expect("mosquitto_passwd runs: apt-get install mosquitto").success());
        })
        .await
    }

    /// TLS for clients that have a certificate of the same CA; the certificate's name is the user.
    pub async fn with_client_certificates(ca: &TestCa) -> Self {
        let lines = "allow_anonymous true\nrequire_certificate true\ncafile DIR/ca.pem\ncertfile DIR/cert.pem\nkeyfile DIR/key.pem\n";
        Self::with(lines, |dir| certificates(dir, ca)).await
    }

    /// `lines` of the configuration; `DIR` in it stands for the broker's folder, which `fill` fills.
    pub async fn with(lines: &str, fill: impl FnOnce(&TempDir)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fill(&dir);
        let port = free_port();
        // "user root": mosquitto started by root would change to a user that cannot read the test's folder.
        let lines = lines.replace("DIR", &dir.path().display().to_string());
        fs::write(dir.path().join("mosquitto.conf"), format!("user root\nlistener {port} 127.0.0.1\n{lines}")).unwrap();
        let mut broker = Self { dir, port, child: None };
        broker.up().await;
        broker
    }

    /// Starts again on the same port. It keeps nothing: retained messages of before are gone.
    pub async fn up(&mut self) {
        let path = if fs::exists("/usr/sbin/mosquitto").unwrap_or(false) { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        let child = Command::new(path).arg("-c").arg(self.dir.path().join("mosquitto.conf")).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.expect("mosquitto starts: apt-get install mosquitto"));
        let port = self.port;
        until("mosquitto listens", || async move { TcpStream::connect(("127.0.0.1", port)).is_ok() }).await;
    }

    /// mosquitto_pub.
    pub fn say(&self, topic: &str, payload: &str) {
        let port = self.port.to_string();
        let said = Command::new("mosquitto_pub").args(["-h", "127.0.0.1", "-q", "1", "-p", &port, "-t", topic, "-m", payload]).status();
        assert!(said.expect("mosquitto_pub runs: apt-get install mosquitto-clients").success());
    }

    /// kill -STOP, kill -CONT.
    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// SIGKILL: connections break without a word.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

fn certificates(dir: &TempDir, ca: &TestCa) {
    for (name, pem) in [("ca.pem", &ca.ca), ("cert.pem", &ca.cert), ("key.pem", &ca.key)] {
        fs::write(dir.path().join(name), pem).unwrap();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// mosquitto_sub: somebody else's client, which sees what everybody sees.
pub struct Watcher {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
    pub seen: Vec<String>,
}

impl Watcher {
    /// Lines are `TOPIC RETAINED(0|1) PAYLOAD`.
    pub fn on(broker: &Mosquitto, topic: &str, more: &[&str]) -> Self {
        let mut child = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-V", "5", "-q", "1", "-F", "%t %r %p", "-t", topic, "-p", &broker.port.to_string()])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_sub starts: apt-get install mosquitto-clients");
        let out = child.stdout.take().unwrap();
        let (tx, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(out)).map_while(Result::ok) {
                if tx.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Takes what came until now into `seen`.
    pub fn drain(&mut self) {
        self.seen.extend(self.lines.try_iter());
    }

    /// The next line, if there is one already.
    pub fn next(&mut self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Waits until this line was seen.
    pub async fn sees(&mut self, line: &str) {
        self.sees_where(line, |l| l == line).await;
    }

    /// Waits until a line that starts like this was seen.
    pub async fn sees_start(&mut self, start: &str) {
        self.sees_where(start, |l| l.starts_with(start)).await;
    }

    /// Waits until a line that fits was seen.
    pub async fn sees_where(&mut self, what: &str, fits: impl Fn(&str) -> bool) {
        let start = std::time::Instant::now();
        loop {
            self.seen.extend(self.lines.try_iter());
            if self.seen.iter().any(|l| fits(l)) {
                return;
            }
            assert!(start.elapsed() < super::DEADLINE, "never saw {what:?}, only {:?}", self.seen);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! One `irisd run`, its configuration and its state folder; killed when dropped. On a failing test the end of its log is shown.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{OnceLock, mpsc},
    time::Duration,
};

use toml::{Table, Value};

use super::{IRISD, SOON, client::Client, eventually, folder::Folder};

/// Bytes of log shown when a test fails.
const LOG_TAIL: usize = 8000;

/// A daemon to be started, or to be looked at while it is down.
pub struct Daemon {
    /// Holds configuration, log and, unless given, the state.
    pub dir: Folder,
    pub state: PathBuf,
    pub base: String,
    pub token: String,
    /// Variables for the next start.
    pub environment: Vec<(String, String)>,
    child: Option<Child>,
}

/// The program under test where it is not the one that was built with us.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Runs a copy of `program` from `dir`, kept there for the next time: a build in the middle of a long run must not change what is tried.
pub fn keep_program_in(dir: &Path, program: &Path) {
    let copy = dir.join("irisd");
    if !copy.exists() {
        let tmp = dir.join("irisd.new");
        fs::copy(program, &tmp).unwrap();
        fs::rename(&tmp, &copy).unwrap();
    }
    PROGRAM.set(copy).expect("the program is chosen once, before it is started");
}

pub fn program() -> &'static Path {
    PROGRAM.get().map_or(Path::new(IRISD), PathBuf::as_path)
}

/// A command of the program that sees none of our own `IRISD_*` variables.
pub fn irisd() -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("IRISD_") {
            command.env_remove(name);
        }
    }
    command
}

/// What every test's daemon has in common: free port, own state, the repository's weights, the runtime library where one is known.
fn base_config(state: &Path) -> Table {
    let repo = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let runtime = std::env::var("IRISD_TEST_ONNXRUNTIME").unwrap_or_default();
    let mut table = Table::new();
    let mut set = |section: &str, key: &str, value: Value| {
        table.entry(section).or_insert_with(|| Value::Table(Table::new())).as_table_mut().unwrap().insert(key.into(), value);
    };
    set("device", "id", "box-1".into());
    set("paths", "state", state.to_str().unwrap().into());
    set("paths", "weights", repo.join("weights").to_str().unwrap().into());
    set("paths", "onnxruntime", runtime.into());
    set("http", "listen", "127.0.0.1:0".into());
    set("retention", "reserve", "64MiB".into());
    table
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Writes a configuration file into `dir`: the common part with `extra` laid over it.
pub fn write_config(dir: &Path, state: &Path, extra: &str) -> PathBuf {
    let mut table = base_config(state);
    merge(&mut table, extra.parse().unwrap_or_else(|e| panic!("the test's own configuration: {e}\n{extra}")));
    let path = dir.join("irisd.toml");
    fs::write(&path, toml::to_string(&table).unwrap()).unwrap();
    path
}

impl Daemon {
    /// Starts with the common configuration and `extra` (TOML) laid over it, and waits for `listening`.
    #[track_caller]
    pub fn start(extra: &str) -> Self {
        let mut daemon = Self::prepare(extra);
        daemon.restart();
        daemon
    }

    /// Configuration and state folder are there; nothing runs yet.
    pub fn prepare(extra: &str) -> Self {
        Self::prepare_in(Folder::passing("irisd-bb-"), extra)
    }

    /// With the state that a daemon left in this folder before.
    pub fn prepare_in(dir: Folder, extra: &str) -> Self {
        let state = dir.path().join("state");
        write_config(dir.path(), &state, extra);
        Self { dir, state, base: String::new(), token: String::new(), environment: Vec::new(), child: None }
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("irisd.toml")
    }

    /// Lays another configuration down, for the next start.
    pub fn reconfigure(&self, extra: &str) {
        write_config(self.dir.path(), &self.state, extra);
    }

    /// Starts on the state that is there. Panics unless `listening http://...` comes soon.
    #[track_caller]
    pub fn restart(&mut self) {
        self.try_restart().unwrap_or_else(|why| panic!("{why}"));
    }

    /// Starts on the state that is there; what went wrong where no `listening http://...` comes soon.
    pub fn try_restart(&mut self) -> Result<(), String> {
        let lines = self.spawn();
        let line = lines.recv_timeout(SOON).map_err(|_| {
            let process = self.child.as_mut().map(Child::try_wait);
            format!("no `listening` line; the process: {process:?}")
        })?;
        self.listens(&line)
    }

    /// Takes address and token after its first line on stdout.
    pub fn listens(&mut self, line: &str) -> Result<(), String> {
        let base = line.strip_prefix("listening ").ok_or_else(|| format!("the first line on stdout is {line:?}"))?;
        assert!(base.starts_with("http://") || base.starts_with("https://"), "{line:?}");
        self.base = base.trim().trim_end_matches('/').to_owned();
        self.token = fs::read_to_string(self.state.join("local.token")).expect("local.token is written at the first start").trim().into();
        Ok(())
    }

    /// Starts and does not wait; the lines of its stdout.
    pub fn spawn(&mut self) -> mpsc::Receiver<String> {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = irisd();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(["run", "--config"]).arg(self.config_path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("irisd can be started");
        let stdout = child.stdout.take().unwrap();
        self.child = Some(child);
        let (tx, rx) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = tx.send(line); // read on when nobody listens: a full pipe would stop the daemon
            }
        });
        rx
    }

    /// The admin of the device.
    pub fn client(&self) -> Client {
        Client::new(&self.base, Some(&self.token))
    }

    pub fn anonymous(&self) -> Client {
        Client::new(&self.base, None)
    }

    /// A client with a token of its own, made by the command line while the daemon runs.
    #[track_caller]
    pub fn client_of(&self, owner: &str, scope: &str) -> Client {
        Client::new(&self.base, Some(&self.make_token(owner, scope)))
    }

    #[track_caller]
    pub fn make_token(&self, owner: &str, scope: &str) -> String {
        let out = self.cli(&["token", "create", "--owner", owner, "--scope", scope]);
        assert!(out.status.success(), "token create: {}", text(&out));
        let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
        stdout.split_whitespace().last().expect("the token is the last word on stdout").to_owned()
    }

    /// A subcommand that finds this daemon's state by the environment alone.
    pub fn cli(&self, args: &[&str]) -> Output {
        irisd().args(args).env("IRISD_PATHS__STATE", &self.state).stdin(Stdio::null()).output().expect("irisd can be started")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| c.try_wait().unwrap().is_none())
    }

    /// SIGTERM, without waiting for what comes of it.
    pub fn terminate(&self) {
        terminate(self.child.as_ref().expect("it runs"));
    }

    /// As a power cut for the process: no handler runs.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The end that comes by itself, or after a signal.
    #[track_caller]
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = eventually("the daemon ends", limit, || child.try_wait().unwrap());
        self.child = None;
        status
    }

    /// SIGTERM, and the exit status once it came.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.stop_within(Duration::from_secs(60))
    }

    #[track_caller]
    pub fn stop_within(&mut self, limit: Duration) -> ExitStatus {
        self.terminate();
        self.ended(limit)
    }

    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("daemon.log")
    }

    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let mut log = Vec::new();
            let _ = File::open(self.log_path()).and_then(|mut f| f.read_to_end(&mut log));
            let tail = &log[log.len().saturating_sub(LOG_TAIL)..];
            eprintln!("--- the end of the daemon's log ---\n{}\n--- end ---", String::from_utf8_lossy(tail));
        }
    }
}

/// SIGTERM to a child of ours that was not waited for yet (so its pid is still its own).
pub fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a child of ours can be signalled");
}

/// Both streams of a finished command, for messages.
pub fn text(out: &Output) -> String {
    format!("{}\nstdout: {}\nstderr: {}", out.status, String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

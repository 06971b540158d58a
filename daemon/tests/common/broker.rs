//! A mosquitto of our own, and what a subscriber of it hears.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use super::{SOON, daemon::terminate, eventually, folder::Folder};
use serde_json::Value;

pub struct Broker {
    dir: Folder,
    pub port: u16,
    child: Option<Child>,
}

/// One message as the subscriber got it.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    pub retained: bool,
    pub qos: u64,
}

impl Message {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap_or_else(|e| panic!("{}: not JSON ({e}): {:?}", self.topic, self.payload))
    }
}

impl Broker {
    #[track_caller]
    pub fn start() -> Self {
        Self::start_in(Folder::passing("irisd-mosquitto-"))
    }

    /// With the sessions and retained messages that a broker left in this folder before.
    #[track_caller]
    pub fn start_in(dir: Folder) -> Self {
        let port = free_port();
        // persistence: a broker that was away still has the sessions of its subscribers, so that no test depends on who reconnects first.
        // user root: mosquitto would give up its rights and could not write into our folder.
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 100000\npersistence true\npersistence_location {}/\n",
            dir.path().display()
        );
        fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        let mut broker = Self { dir, port, child: None };
        broker.restart();
        broker
    }

    /// An address where a broker will be, but is not yet.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// The `[mqtt]` section that leads here.
    pub fn config(&self) -> String {
        format!("[mqtt]\nurl = \"{}\"\n", self.url())
    }

    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.child.is_none());
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let conf = self.dir.path().join("mosquitto.conf");
        let program = if fs::exists("/usr/sbin/mosquitto").unwrap_or(false) { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let child = Command::new(program).arg("-c").arg(conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.expect("mosquitto is installed (apt-get install mosquitto mosquitto-clients)"));
        eventually("mosquitto listens", SOON, || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// A clean end: sessions and what is queued for them are kept.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            terminate(&child);
            let _ = child.wait();
        }
    }

    /// While it is down: sessions and retained messages are gone, as on a broker without persistence.
    pub fn forget(&self) {
        assert!(self.child.is_none());
        let _ = fs::remove_file(self.dir.path().join("mosquitto.db"));
    }

    /// Listens to `topics` in a session that outlives the broker's restarts.
    #[track_caller]
    pub fn collect(&self, topics: &[&str]) -> Collector {
        let messages = Arc::new(Mutex::new(Vec::new()));
        let into = messages.clone();
        let listener = self.listen(&format!("collector-{}", free_port()), topics, move |m| into.lock().unwrap().push(m));
        Collector { messages, _listener: listener }
    }

    /// Calls `hear` with each message on `topics`, in a session of this name that outlives the broker's restarts and ours.
    #[track_caller]
    pub fn listen(&self, session: &str, topics: &[&str], mut hear: impl FnMut(Message) + Send + 'static) -> Listener {
        let ready = format!("{session}/ready");
        let mut command = Command::new("mosquitto_sub");
        command.args(["-V", "mqttv5", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1", "-c", "-x", "86400", "-F", "%j"]);
        command.args(["-i", session]);
        // The marker shows that the subscription stands before the test goes on.
        for topic in topics.iter().chain(&[ready.as_str()]) {
            command.args(["-t", topic]);
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("mosquitto_sub is installed");
        let stdout = child.stdout.take().unwrap();
        let (subscribed, stands) = mpsc::channel();
        let marker = ready.clone();
        std::thread::spawn(move || {
            for message in BufReader::new(stdout).lines().map_while(Result::ok).filter_map(|line| parse(&line)) {
                if message.topic == marker {
                    let _ = subscribed.send(()); // several may come: it is published until one is heard
                } else {
                    hear(message);
                }
            }
        });
        let listener = Listener(child);
        eventually("the listener is subscribed", SOON, || {
            self.publish(&ready, "x");
            stands.try_recv().ok()
        });
        listener
    }

    pub fn publish(&self, topic: &str, payload: &str) {
        let port = self.port.to_string();
        let status = Command::new("mosquitto_pub").args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", topic, "-m", payload]).status();
        assert!(status.expect("mosquitto_pub is installed").success());
    }

    /// What a newcomer is told about `topic` (a retained message), if anything.
    pub fn retained(&self, topic: &str) -> Option<String> {
        let out = Command::new("mosquitto_sub")
            .args(["-V", "mqttv5", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-C", "1", "-W", "2", "-F", "%j", "-t", topic])
            .output()
            .expect("mosquitto_sub is installed");
        let message = String::from_utf8_lossy(&out.stdout).lines().find_map(parse)?;
        message.retained.then_some(message.payload)
    }

    /// Waits until a newcomer is told `payload`.
    #[track_caller]
    pub fn wait_retained(&self, topic: &str, payload: &str, within: Duration) {
        eventually(&format!("{topic} says {payload} (retained)"), within, || (self.retained(topic)? == payload).then_some(()));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `mosquitto_sub -F %j` prints one object a message, the payload as a string.
fn parse(line: &str) -> Option<Message> {
    let v: Value = serde_json::from_str(line).ok()?;
    Some(Message {
        topic: v["topic"].as_str()?.to_owned(),
        payload: v["payload"].as_str().unwrap_or("").to_owned(),
        retained: v["retain"] == 1,
        qos: v["qos"].as_u64()?,
    })
}

/// A subscription; it ends when this is dropped, its session stays.
pub struct Listener(Child);

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Collector {
    messages: Arc<Mutex<Vec<Message>>>,
    _listener: Listener,
}

impl Collector {
    pub fn all(&self) -> Vec<Message> {
        self.messages.lock().unwrap().clone()
    }

    pub fn on(&self, topic: &str) -> Vec<Message> {
        self.all().into_iter().filter(|m| m.topic == topic).collect()
    }

    /// Payloads of `job/event`, once each: at-least-once delivery may repeat one, with the same seq.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let mut seen = Vec::<Value>::new();
        for message in self.on("irisd/box-1/job/event") {
            let event = message.json();
            if !seen.iter().any(|e| e["seq"] == event["seq"]) {
                seen.push(event);
            }
        }
        seen
    }

    #[track_caller]
    pub fn wait_event(&self, job: &str, kind: &str, within: Duration) -> Value {
        eventually(&format!("MQTT event {kind} of job {job}"), within, || {
            self.events().into_iter().find(|e| e["job_id"] == job && e["event"] == kind)
        })
    }

    #[track_caller]
    pub fn kinds(&self, job: &str) -> Vec<String> {
        self.events().iter().filter(|e| e["job_id"] == job).map(|e| e["event"].as_str().unwrap_or("?").to_owned()).collect()
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

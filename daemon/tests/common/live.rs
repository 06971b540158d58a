//! The two live doors: server-sent events and the WebSocket, each read by a thread into a list that tests wait on.

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};

use super::{SOON, client::Client, eventually, raw};

/// The transitions that the contract names.
pub const KINDS: [&str; 7] = ["submitted", "started", "retried", "completed", "failed", "cancelled", "uploaded"];
pub const STEPS: [&str; 5] = ["load", "segment", "reflections", "enhance", "save"];

#[derive(Debug, Clone)]
pub struct Live {
    /// When it was read; the lists are looked at much less often.
    pub at: Instant,
    /// The SSE id; none on the WebSocket and on progress.
    pub id: Option<u64>,
    /// The SSE event name; empty on the WebSocket.
    pub name: String,
    pub data: Value,
}

impl Live {
    pub fn is_transition(&self) -> bool {
        KINDS.contains(&self.data["event"].as_str().unwrap_or(""))
    }
}

#[derive(Clone, Default)]
pub struct Feed(Arc<Mutex<Vec<Live>>>);

impl Feed {
    pub fn all(&self) -> Vec<Live> {
        self.0.lock().unwrap().clone()
    }

    /// The transitions of one job, in the order of their coming.
    pub fn of_job(&self, job: &str) -> Vec<Live> {
        self.all().into_iter().filter(|e| e.is_transition() && e.data["job_id"] == job).collect()
    }

    pub fn kinds(&self, job: &str) -> Vec<String> {
        self.of_job(job).iter().map(|e| e.data["event"].as_str().unwrap().to_owned()).collect()
    }

    /// (current_step, progress) of everything that was said about a running job.
    pub fn steps(&self, job: &str) -> Vec<(String, u64)> {
        let of_job = self.all().into_iter().filter(|e| e.data["job_id"] == job);
        of_job.filter_map(|e| Some((e.data["current_step"].as_str()?.to_owned(), e.data["progress"].as_u64()?))).collect()
    }

    #[track_caller]
    pub fn wait(&self, what: &str, within: Duration, found: impl Fn(&Live) -> bool) -> Live {
        eventually(what, within, || self.0.lock().unwrap().iter().find(|e| found(e)).cloned())
    }

    #[track_caller]
    pub fn wait_kind(&self, job: &str, kind: &str, within: Duration) -> Live {
        self.wait(&format!("event {kind} of job {job}"), within, |e| e.data["job_id"] == job && e.data["event"] == kind)
    }

    fn push(&self, event: Live) {
        self.0.lock().unwrap().push(event);
    }
}

/// Opens `/events`; returns once the answer's head is there, so what happens from now on is seen.
#[track_caller]
pub fn sse(client: &Client, last_event_id: Option<u64>) -> Feed {
    let http = reqwest::blocking::Client::builder().timeout(None).connect_timeout(SOON).build().unwrap();
    let mut request = http.get(client.url("/events")).header("Accept", "text/event-stream");
    if let Some(token) = &client.token {
        request = request.bearer_auth(token);
    }
    if let Some(id) = last_event_id {
        request = request.header("Last-Event-ID", id.to_string());
    }
    let response = request.send().expect("the event stream opens");
    assert_eq!(response.status(), 200, "GET /events");
    let kind = response.headers().get("content-type").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    assert!(kind.starts_with("text/event-stream"), "GET /events is {kind:?}");
    let feed = Feed::default();
    let into = feed.clone();
    std::thread::spawn(move || read_sse(BufReader::new(response), &into));
    feed
}

/// Ends when the connection does.
pub fn read_sse(from: impl BufRead, into: &Feed) {
    let (mut id, mut name, mut data) = (None, String::new(), String::new());
    for line in from.lines().map_while(Result::ok) {
        let (field, value) = line.split_once(':').unwrap_or((line.as_str(), ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                if !data.is_empty() || !name.is_empty() {
                    let data = serde_json::from_str(&data).unwrap_or(Value::String(std::mem::take(&mut data)));
                    into.push(Live { at: Instant::now(), id, name: name.clone(), data });
                }
                (id, name, data) = (None, String::new(), String::new());
            }
            "id" => id = value.parse().ok(),
            "event" => value.clone_into(&mut name),
            "data" => data.push_str(value),
            _ => {} // comments keep the line open
        }
    }
}

/// Opens `/ws`; returns after the handshake.
#[track_caller]
pub fn websocket(client: &Client) -> Feed {
    let url = client.url("/ws").replacen("http", "ws", 1);
    let mut request = url.into_client_request().unwrap();
    if let Some(token) = &client.token {
        request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().unwrap());
    }
    let stream = TcpStream::connect(raw::address(&client.base)).unwrap();
    let (mut socket, _) = tungstenite::client(request, stream).expect("the WebSocket opens");
    let feed = Feed::default();
    let into = feed.clone();
    std::thread::spawn(move || {
        while let Ok(message) = socket.read() {
            if let Message::Text(text) = message {
                let data = serde_json::from_str(text.as_str()).expect("a WebSocket message is JSON");
                into.push(Live { at: Instant::now(), id: None, name: String::new(), data });
            }
        }
    });
    feed
}

//! Reading Server-Sent Events (WHATWG HTML, 9.2.6): as much of it as our daemon writes, and what any server may send beside it is skipped.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;

use super::{ClientError, Result};

/// The daemon says something every 15 s; three times missed, it is gone.
const SILENCE: Duration = Duration::from_secs(45);

/// Bytes of one event; ours have under 2 kB.
const MAX_EVENT: usize = 1 << 20;

#[derive(Debug, Clone, PartialEq)]
pub struct ServerEvent {
    /// For `last_event_id`; None: not resent (progress).
    pub id: Option<u64>,
    /// submitted, started, ..., progress, reset.
    pub name: String,
    pub data: Value,
}

pub struct EventStream {
    body: Incoming,
    unread: Lines,
}

impl EventStream {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, unread: Lines::default() }
    }

    /// The next event; None: the daemon ended the stream (it stops): connect again with the last id.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>> {
        loop {
            if let Some(event) = self.unread.event()? {
                return Ok(Some(event));
            }
            let frame = match timeout(SILENCE, self.body.frame()).await {
                Err(_) => return Err(ClientError::TimedOut(SILENCE)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(e))) => return Err(ClientError::Lost(e.to_string())),
                Ok(Some(Ok(frame))) => frame,
            };
            if let Some(bytes) = frame.data_ref() {
                self.unread.push(bytes)?;
            }
        }
    }
}

#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.0.len() + bytes.len() > MAX_EVENT {
            return Err(ClientError::Answer("an event is too long".into()));
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// The first whole event that has data.
    fn event(&mut self) -> Result<Option<ServerEvent>> {
        while let Some(end) = self.0.windows(2).position(|w| w == b"\n\n") {
            let block: Vec<u8> = self.0.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let (mut id, mut name, mut data) = (None, "message".to_owned(), String::new());
            for line in block.lines() {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "id" => id = value.parse().ok(),
                    "event" => name = value.to_owned(),
                    "data" => data.push_str(value),
                    _ => {} // comments (an empty field), retry
                }
            }
            if !data.is_empty() {
                let data = serde_json::from_str(&data).map_err(|e| ClientError::Answer(e.to_string()))?;
                return Ok(Some(ServerEvent { id, name, data }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_the_network_cuts_them() {
        let text = ": hello\nretry: 2000\n\nid: 7\nevent: started\ndata: {\"seq\":7}\n\n: keep-alive\n\nevent: progress\ndata: {\"progress\":\ndata: 10}\n\n";
        for cut in 1..text.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for piece in [&text[..cut], &text[cut..]] {
                lines.push(piece.as_bytes()).expect("short");
                while let Some(e) = lines.event().expect("valid") {
                    seen.push((e.id, e.name, e.data));
                }
            }
            let started = (Some(7), "started".to_owned(), serde_json::json!({ "seq": 7 }));
            let progress = (None, "progress".to_owned(), serde_json::json!({ "progress": 10 }));
            assert_eq!(seen, [started, progress], "cut at {cut}");
        }
    }
}

//! What a subscriber hears of the jobs: in order, none missing. At-least-once delivery may say a thing again, in the same words.

use std::collections::HashMap;

use crate::common::broker::Message;

const ENDS: [&str; 3] = ["completed", "failed", "cancelled"];

#[derive(Default)]
pub struct Heard {
    last: Option<u64>,
    /// (job, event) by seq.
    seen: HashMap<u64, (String, String)>,
    /// Kinds, in the order of their seq.
    of_job: HashMap<String, Vec<String>>,
    pub repeats: u64,
    pub wrong: Vec<String>,
}

impl Heard {
    pub fn take(&mut self, message: &Message) {
        if !message.topic.ends_with("/job/event") {
            return;
        }
        let event = message.json();
        let text = |key: &str| event[key].as_str().unwrap_or("").to_owned();
        let (seq, job, kind) = (event["seq"].as_u64().unwrap_or(0), text("job_id"), text("event"));
        if let Some(before) = self.seen.get(&seq) {
            self.repeats += 1;
            if *before != (job, kind) {
                self.wrong.push(format!("MQTT: seq {seq} was {before:?} and is {event}"));
            }
            return;
        }
        if let Some(last) = self.last.filter(|last| seq != last + 1) {
            self.wrong.push(format!("MQTT: event {seq} came after {last}"));
        }
        self.last = self.last.max(Some(seq));
        self.of_job.entry(job.clone()).or_default().push(kind.clone());
        self.seen.insert(seq, (job, kind));
    }

    pub fn kinds(&self, job: &str) -> &[String] {
        self.of_job.get(job).map_or(&[], Vec::as_slice)
    }

    pub fn events(&self) -> usize {
        self.seen.len()
    }
}

/// submitted, perhaps started (and retried again and again), the end; uploaded last, where it must or may be.
pub fn is_in_order(kinds: &[String], end: &str, uploaded: Uploaded) -> bool {
    let mut rest: Vec<&str> = kinds.iter().map(String::as_str).collect();
    if rest.last() == Some(&"uploaded") && uploaded != Uploaded::Never {
        rest.pop();
    } else if uploaded == Uploaded::Must {
        return false;
    }
    let Some((last, before)) = rest.split_last() else { return false };
    let Some((first, ran)) = before.split_first() else { return false };
    let ran_well = match ran.split_first() {
        None => *last == "cancelled",
        Some((start, again)) => *start == "started" && again.iter().all(|k| *k == "retried"),
    };
    *first == "submitted" && *last == end && ENDS.contains(last) && ran_well
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploaded {
    Must,
    /// The photo was deleted: before the upload, or after it.
    May,
    Never,
}

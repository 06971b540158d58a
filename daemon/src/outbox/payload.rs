//! Topics and payloads on MQTT, as in the contract: flat JSON, each with `schema`, `ts`, `seq`. Pure. No owner, no `client_ref`, no file
//! name: whoever may listen to the broker learns ids and states, nothing about people.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    alerts::Alert,
    command::{CommandResult, VERBS},
};
use crate::{
    domain::{
        event::{JobEvent, ProgressTick},
        ids::JobId,
        stage::Stage,
        time,
    },
    ports::{Message, Qos},
    store::{QueueCounts, Space, UploadCounts},
};

const SCHEMA: u32 = 1;
/// Home Assistant says `online` here when it starts.
pub const HOMEASSISTANT_STATUS: &str = "homeassistant/status";

/// What app.rs knows and the store does not: `info` and `health`. Lists are told as one text each, joined by ", ".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceFacts {
    /// Of this program.
    pub version: String,
    /// Name and version of the library that runs networks; empty: none.
    pub runtime: String,
    /// Providers that really ran.
    pub providers: Vec<String>,
    /// Names of the models in use.
    pub models: Vec<String>,
    /// What each of them really runs on: "iris on cpu 51 nodes".
    pub nodes: Vec<String>,
    /// Engines in the making, and for how long: "realesrgan-x4plus 83 s".
    pub building: Vec<String>,
    pub ok: bool,
    /// Why it is not, or not fully.
    pub degraded: Vec<String>,
}

/// Topics below `<prefix>/<device>/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    pub prefix: String,
    pub device: String,
}

impl Topics {
    pub fn of(&self, tail: &str) -> String {
        format!("{}/{}/{tail}", self.prefix, self.device)
    }

    /// The broker's word for us when we vanish.
    pub fn will(&self) -> Message {
        self.status("offline")
    }

    /// `online`, `stopped` (clean end), `offline` (will): plain text, retained.
    pub fn status(&self, word: &str) -> Message {
        retained(self.of("status"), word.as_bytes().to_vec())
    }

    /// What the sink has to subscribe to.
    pub fn subscriptions(&self, discovery: bool, commands: bool) -> Vec<String> {
        let verbs = VERBS.iter().filter(|_| commands).map(|verb| self.of(&format!("cmd/{verb}")));
        discovery.then(|| HOMEASSISTANT_STATUS.to_owned()).into_iter().chain(verbs).collect()
    }

    /// The verb of a command topic.
    pub fn verb(&self, topic: &str) -> Option<&'static str> {
        VERBS.into_iter().find(|verb| topic == self.of(&format!("cmd/{verb}")))
    }

    /// One of the summaries, retained.
    pub fn summary(&self, name: &str, seq: u64, ts: Timestamp, fields: Map<String, Value>) -> Message {
        retained(self.of(name), stamped(seq, ts, fields))
    }

    /// `job/<id>/state`, retained: the job as it was at this event. `live`: the step and percent where it is now.
    pub fn job_state(&self, e: &JobEvent, live: Option<(Stage, u8)>) -> Message {
        let (step, progress) = live.map_or((e.current_step, e.progress), |(step, percent)| (Some(step), percent));
        let fields = json!({
            "job_id": e.job_id, "photo_id": e.photo_id, "lane": e.lane, "status": e.status, "current_step": step,
            "progress": progress, "attempt": e.attempt, "error_type": e.error_type, "error_code": e.error_code, "message": e.message,
            "suggestion": e.suggestion, "processing_time_ms": e.processing_time_ms,
        });
        retained(self.of(&format!("job/{}/state", e.job_id)), stamped(e.seq.0, e.ts, object(fields)))
    }

    /// The retained state goes away.
    pub fn job_cleared(&self, job: JobId) -> Message {
        retained(self.of(&format!("job/{job}/state")), Vec::new())
    }

    /// `job/event`: the transition.
    pub fn job_event(&self, e: &JobEvent) -> Message {
        let payload = stamped(e.seq.0, e.ts, object(json!({ "job_id": e.job_id, "event": e.event })));
        Message { topic: self.of("job/event"), payload, qos: Qos::AtLeastOnce, retain: false }
    }

    /// `job/<id>/progress`: where it is now, not retained, lost when nobody listens.
    pub fn progress(&self, tick: &ProgressTick, seq: u64, ts: Timestamp) -> Message {
        let fields = json!({ "job_id": tick.job_id, "current_step": tick.current_step, "progress": tick.progress });
        let payload = stamped(seq, ts, object(fields));
        Message { topic: self.of(&format!("job/{}/progress", tick.job_id)), payload, qos: Qos::AtMostOnce, retain: false }
    }

    pub fn alert(&self, alert: &Alert, seq: u64, ts: Timestamp) -> Message {
        let fields = json!({ "message": alert.message, "since": time::text(alert.since) });
        retained(self.of(&format!("alert/{}", alert.code)), stamped(seq, ts, object(fields)))
    }

    pub fn alert_resolved(&self, code: &str) -> Message {
        retained(self.of(&format!("alert/{code}")), Vec::new())
    }

    /// `cmd/<verb>/result`.
    pub fn result(&self, verb: &str, request_id: Option<&str>, result: &CommandResult, seq: u64, ts: Timestamp) -> Message {
        let fields = match result {
            CommandResult::Done { photo_id, job_id } => {
                json!({ "request_id": request_id, "ok": true, "photo_id": photo_id, "job_id": job_id, "code": null, "message": null })
            }
            CommandResult::Failed { code, message } => {
                json!({ "request_id": request_id, "ok": false, "photo_id": null, "job_id": null, "code": code, "message": message })
            }
        };
        let payload = stamped(seq, ts, object(fields));
        Message { topic: self.of(&format!("cmd/{verb}/result")), payload, qos: Qos::AtLeastOnce, retain: false }
    }
}

/// Free bytes are told in steps of 16 MiB, rounded down: other programs write to the disk all the time, and each change is a message.
const FREE_STEP: u64 = 16 << 20;

/// The five summaries, by topic.
pub fn summaries(
    facts: &DeviceFacts,
    queue: &QueueCounts,
    uploads: &UploadCounts,
    space: &Space,
) -> Vec<(&'static str, Map<String, Value>)> {
    let info = json!({
        "version": facts.version, "runtime": facts.runtime, "providers": facts.providers.join(", "), "models": facts.models.join(", "),
        "nodes": facts.nodes.join("; "), "building": facts.building.join(", "),
    });
    let health = json!({ "ok": facts.ok, "degraded": facts.degraded.join(", ") });
    let queue = json!({
        "pending_high_priority": queue.pending_high, "pending_default": queue.pending_default,
        "oldest_wait_s": queue.oldest_wait.as_secs(), "running": queue.running,
    });
    let uploads = json!({ "pending": uploads.pending, "bytes": uploads.bytes, "last_confirmed": uploads.last_confirmed.map(time::text) });
    let storage = json!({ "used": space.used, "free": space.free / FREE_STEP * FREE_STEP, "cap": space.cap });
    [("info", info), ("health", health), ("queue", queue), ("uploads", uploads), ("storage", storage)]
        .into_iter()
        .map(|(name, fields)| (name, object(fields)))
        .collect()
}

/// A retained message at QoS 1; an empty payload removes what was retained.
pub fn retained(topic: String, payload: Vec<u8>) -> Message {
    Message { topic, payload, qos: Qos::AtLeastOnce, retain: true }
}

fn stamped(seq: u64, ts: Timestamp, fields: Map<String, Value>) -> Vec<u8> {
    let mut all = object(json!({ "schema": SCHEMA, "ts": time::text(ts), "seq": seq }));
    all.extend(fields);
    Value::Object(all).to_string().into_bytes()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        event::EventKind,
        ids::Seq,
        job::{Lane, Status},
    };

    fn topics() -> Topics {
        Topics { prefix: "irisd".to_owned(), device: "kiosk-1".to_owned() }
    }

    fn event() -> JobEvent {
        JobEvent {
            seq: Seq(7),
            ts: "2030-01-02T03:04:05.006Z".parse().expect("a time"),
            event: EventKind::Started,
            job_id: "01890000-0000-7000-8000-00000000000a".parse().expect("an id"),
            photo_id: "01890000-0000-7000-8000-00000000000b".parse().expect("an id"),
            user_id: "somebody".parse().expect("a name"),
            lane: Lane::HighPriority,
            status: Status::Processing,
            current_step: Some(Stage::Load),
            progress: 0,
            attempt: 1,
            error_type: None,
            error_code: None,
            message: None,
            suggestion: None,
            processing_time_ms: None,
        }
    }

    fn keys(message: &Message) -> Vec<String> {
        let value: Map<String, Value> = serde_json::from_slice(&message.payload).expect("JSON");
        assert!(value.values().all(|v| !v.is_object() && !v.is_array()), "flat: {value:?}");
        assert!(value["schema"] == 1 && value["seq"].is_u64() && value["ts"].is_string());
        value.keys().skip(3).cloned().collect()
    }

    #[test]
    fn the_payloads_have_exactly_the_keys_of_the_contract_and_no_owner() {
        let (t, e) = (topics(), event());
        let state = t.job_state(&e, None);
        let expected =
            "job_id photo_id lane status current_step progress attempt error_type error_code message suggestion processing_time_ms";
        assert_eq!(keys(&state).join(" "), expected);
        assert_eq!((state.topic.as_str(), state.retain), ("irisd/kiosk-1/job/01890000-0000-7000-8000-00000000000a/state", true));
        let announced = t.job_event(&e);
        assert_eq!(keys(&announced), ["job_id", "event"]);
        assert_eq!((announced.topic.as_str(), announced.retain), ("irisd/kiosk-1/job/event", false));
        let tick = ProgressTick { job_id: e.job_id, user_id: e.user_id.clone(), current_step: Stage::Enhance, progress: 70 };
        assert_eq!(keys(&t.progress(&tick, 1, e.ts)), ["job_id", "current_step", "progress"]);
        for message in [state, announced, t.progress(&tick, 1, e.ts)] {
            assert!(!String::from_utf8_lossy(&message.payload).contains("somebody"));
        }
        for (name, fields) in summaries(&DeviceFacts::default(), &QueueCounts::default(), &UploadCounts::default(), &Space::default()) {
            keys(&t.summary(name, 1, e.ts, fields));
        }
        let done = CommandResult::Done { photo_id: None, job_id: Some(e.job_id) };
        assert_eq!(
            keys(&t.result("capture", None, &done, 1, e.ts)),
            keys(&t.result("capture", Some("7"), &super::super::command::busy(), 1, e.ts))
        );
    }

    #[test]
    fn a_live_step_shows_in_the_state_of_a_running_job() {
        let state = topics().job_state(&event(), Some((Stage::Segment, 25)));
        let value: Value = serde_json::from_slice(&state.payload).expect("JSON");
        assert_eq!((value["current_step"].as_str(), value["progress"].as_u64()), (Some("segment"), Some(25)));
    }

    #[test]
    fn subscriptions_follow_the_configuration() {
        let t = topics();
        assert!(t.subscriptions(false, false).is_empty());
        assert_eq!(t.subscriptions(true, true), ["homeassistant/status", "irisd/kiosk-1/cmd/capture", "irisd/kiosk-1/cmd/submit"]);
        assert_eq!(t.verb("irisd/kiosk-1/cmd/submit"), Some("submit"));
        assert_eq!(t.verb("irisd/kiosk-1/cmd/submit/result"), None);
        assert_eq!(t.will().payload, b"offline");
    }
}

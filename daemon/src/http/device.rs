//! `/device`, `/queue`, `/uploads`: what a dashboard shows.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{Api, auth::Caller, health};
use crate::domain::time;

/// What app.rs knows (versions, providers, models), and what only this room and the store see.
pub async fn device(State(api): State<Arc<Api>>, _: Caller) -> Json<Value> {
    let mut facts = (api.device)();
    let reasons = health::reasons(&api);
    if let Some(map) = facts.as_object_mut() {
        let space = api.store.space();
        map.insert("health".into(), json!({ "ready": reasons.is_empty(), "reasons": reasons }));
        map.insert("storage".into(), json!({ "used": space.used, "cap": space.cap, "free": space.free, "reserve": space.reserve }));
        map.insert("cameras".into(), json!(api.cameras.list()));
        map.insert("time".into(), json!(time::text(api.clock.now())));
        map.insert("uptime_s".into(), json!(api.clock.mono().as_secs()));
    }
    Json(facts)
}

pub async fn queue(State(api): State<Arc<Api>>, _: Caller) -> Json<Value> {
    let q = api.store.queue();
    Json(json!({
        "pending": { "high_priority": q.pending_high, "default": q.pending_default },
        "running": q.running,
        "oldest_wait_s": q.oldest_wait.as_secs_f64(),
        "max_pending": api.max_pending,
    }))
}

pub async fn uploads(State(api): State<Arc<Api>>, _: Caller) -> Json<Value> {
    let u = api.store.uploads();
    Json(
        json!({ "enabled": api.bucket.is_some(), "pending": u.pending, "bytes": u.bytes, "last_confirmed": u.last_confirmed.map(time::text) }),
    )
}

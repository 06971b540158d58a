//! `/livez`, `/readyz`, `/startupz`, `/metrics`.
//!
//! Live: this process answers. Started: it has its store (nothing listens before). Ready: it would take a photo now.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{Api, auth::Caller};

pub async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

pub async fn started() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

pub async fn ready(State(api): State<Arc<Api>>) -> Response {
    let reasons = reasons(&api);
    let (status, word) = if reasons.is_empty() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    (status, Json(json!({ "status": word, "reasons": reasons }))).into_response()
}

/// Why this device would not take a photo now. Open to everybody, so no names and no paths.
pub fn reasons(api: &Api) -> Vec<String> {
    let mut reasons = (api.not_ready)();
    if api.is_draining() {
        reasons.push("shutting down".into());
    }
    let space = api.store.space();
    if space.free < space.reserve {
        reasons.push(format!("{} bytes are free on the disk; {} are kept in reserve", space.free, space.reserve));
    } else {
        reasons.extend(api.store.lacks_room().map(|why| why.to_string()));
    }
    reasons
}

pub async fn metrics(State(api): State<Arc<Api>>, _: Caller) -> Response {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], api.metrics.render()).into_response()
}

//! `/openapi.json` and `/docs`: the document, and a page of our own that makes it readable. All from the binary: the device is often offline.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

const OPENAPI: &str = include_str!("openapi.json");

fn asset(content_type: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

pub async fn openapi() -> Response {
    asset("application/json", OPENAPI)
}

pub async fn page() -> Response {
    asset("text/html; charset=utf-8", include_str!("docs/docs.html"))
}

pub async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("docs/docs.js"))
}

pub async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("docs/docs.css"))
}

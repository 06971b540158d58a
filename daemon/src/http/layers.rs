//! What happens around every request, in this order: a name for it, Host and Origin, the pace of its body, panics, headers, one log line.
//!
//! The log line has the method, the path, the status, the time and the request's name. No query (links carry signatures, lists carry
//! `client_ref`), no header, no address.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use hyper::body::Body as _;

use super::{
    Api,
    auth::site::Sites,
    body::Paced,
    error::{ApiError, ApiResult, Kind},
    request_id,
};

/// Pages of ours: our own scripts and styles; pictures also from a bucket (presigned URLs) and from memory (previews).
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; manifest-src 'self'; \
     img-src 'self' blob: data: http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Bytes of a refusal in plain words; axum's have under 200.
const MAX_WORDS: usize = 4096;

pub async fn around(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let id = request_id::choose(request.headers());
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // The pattern, never the path: ids would make a new figure for each job.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let mut response = request_id::CURRENT.scope(id.clone(), guarded(&api, request, next)).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(request_id::HEADER, value);
    }
    harden(response.headers_mut());
    api.metrics.http_request(method.as_str(), &route, response.status().as_u16());
    let ms = began.elapsed().as_millis() as u64;
    tracing::debug!(request_id = %id, %method, path, status = response.status().as_u16(), ms, "request");
    response
}

async fn guarded(api: &Api, request: Request, next: Next) -> Response {
    let whole = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let foreign = match check_site(&api.sites, &request) {
        Ok(foreign) => foreign,
        Err(refusal) => return close_after_half(refusal.into_response(), &whole),
    };
    let mut response = if foreign.is_some() && is_preflight(&request) {
        preflight()
    } else if api.is_draining() && !request.method().is_safe() {
        ApiError::new(Kind::ShuttingDown, "nothing new is begun while the daemon stops").into_response()
    } else {
        let mut request = request.map(|body| axum::body::Body::new(Paced::new(body, Arc::clone(&whole))));
        if request.method() == Method::HEAD {
            // RFC 9110, 14.2: a range is of a GET alone.
            request.headers_mut().remove(header::RANGE);
        }
        match AssertUnwindSafe(next.run(request)).catch_unwind().await {
            Ok(response) => as_problem(response).await,
            Err(panic) => {
                let what = panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
                ApiError::internal(format!("a handler panicked: {}", what.as_deref().unwrap_or("?"))).into_response()
            }
        }
    };
    let headers = response.headers_mut();
    if let Some(origin) = foreign.and_then(|o| HeaderValue::from_str(&o).ok()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("location, retry-after, etag, x-request-id"));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    close_after_half(response, &whole)
}

/// Where the rest of the request was not read: a kept-alive connection would take it for the next request, so it closes, and says so.
fn close_after_half(mut response: Response, whole: &AtomicBool) -> Response {
    let upgrades = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if !whole.load(Ordering::Acquire) && !upgrades {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A refusal in plain words (of axum's own extractors: a path that is no UTF-8, a request that is no WebSocket) becomes a problem like ours.
async fn as_problem(response: Response) -> Response {
    let plain = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"text/plain"));
    if !(plain && response.status().is_client_error()) {
        return response;
    }
    let kind = if response.status() == StatusCode::METHOD_NOT_ALLOWED { Kind::MethodNotAllowed } else { Kind::BadRequest };
    let allow = response.headers().get(header::ALLOW).cloned();
    let words = axum::body::to_bytes(response.into_body(), MAX_WORDS).await.unwrap_or_default();
    let mut problem = ApiError::new(kind, String::from_utf8_lossy(&words)).into_response();
    if let Some(allow) = allow {
        problem.headers_mut().insert(header::ALLOW, allow);
    }
    problem
}

/// The allowed foreign origin that sends this request, if one does.
fn check_site(sites: &Sites, request: &Request) -> ApiResult<Option<String>> {
    // HTTP/1.1 wants exactly one Host; hyper leaves that to us.
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default().to_ascii_lowercase(),
        // HTTP/1.0 knows no Host: a load balancer's probe. No browser speaks it, so no foreign page can.
        (None, _) if request.version() == Version::HTTP_10 => return sites.check_origin(request.headers(), ""),
        _ => return Err(ApiError::new(Kind::BadRequest, "a request needs one Host header")),
    };
    sites.check_host(&host)?;
    sites.check_origin(request.headers(), &host)
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, idempotency-key, if-none-match, last-event-id, x-request-id"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn harden(headers: &mut HeaderMap) {
    let mut default = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    default(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    default(header::REFERRER_POLICY, "no-referrer"); // links carry signatures
    default(header::CACHE_CONTROL, "no-store"); // pictures of people; what may be kept says so itself
    default(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    let is_page = headers.get(header::CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"text/html"));
    let policy = if is_page { PAGE_POLICY } else { "default-src 'none'; frame-ancestors 'none'" };
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(policy));
}

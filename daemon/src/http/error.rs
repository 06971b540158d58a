//! Errors on their way out: the only file that knows status codes. RFC 9457 `application/problem+json`.
//!
//! Rooms return their own errors (facts, no status); the `From`s below give each a [`Kind`]: one row of the table that clients see
//! as `code`, status and `error_type`. The person reads `message` and `suggestion`, the developer `detail`; the log has the chain.
//!
//! | code | status | when |
//! |---|---|---|
//! | `bad_json`, `bad_request` | 400 | the body is no JSON, no multipart, or not what its headers say |
//! | `unauthorized` | 401 | no token, an unknown or a revoked one |
//! | `forbidden`, `host_not_allowed`, `origin_not_allowed`, `bad_signature` | 403 | scope, DNS rebinding, other sites, result URLs |
//! | `not_found`, `not_on_device` | 404 | unknown or not yours; the file was evicted |
//! | `method_not_allowed` | 405 | |
//! | `request_timeout` | 408 | the body came too slowly |
//! | `job_finished`, `photo_in_use`, `original_evicted` | 409 | |
//! | `too_large`, `too_many_pixels` | 413 | |
//! | `unsupported_media_type`, `unsupported_image` | 415 | |
//! | `no_such_range` | 416 | |
//! | `invalid_body`, `invalid_parameter`, `idempotency_mismatch`, and the file codes of a photo | 422 | |
//! | `queue_full` | 429 | with Retry-After |
//! | `internal` | 500 | |
//! | `busy`, `shutting_down`, `camera_unavailable` | 503 | with Retry-After |
//! | `disk_reserve` | 507 | with Retry-After |

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::request_id;
use crate::{
    camera::CaptureError,
    domain::fault::{Code, Fault, FaultClass},
    intake::IntakeError,
    store::StoreError,
};

/// Told to clients that should come back: long enough to let a few jobs finish, short enough for a person who waits.
pub const RETRY_AFTER_S: u64 = 5;

/// The same for a full disk: room comes with finished uploads or by hand, and neither takes seconds.
const ROOM_AFTER_S: u64 = 60;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    BadJson,
    BadRequest,
    Unauthorized,
    Forbidden,
    HostNotAllowed,
    OriginNotAllowed,
    BadSignature,
    NotFound,
    NotOnDevice,
    MethodNotAllowed,
    RequestTimeout,
    JobFinished,
    PhotoInUse,
    OriginalEvicted,
    TooLarge,
    NoSuchRange,
    UnsupportedMediaType,
    InvalidBody,
    InvalidParameter,
    IdempotencyMismatch,
    QueueFull,
    Internal,
    Busy,
    ShuttingDown,
    DiskReserve,
}

struct Row(u16, &'static str, Option<FaultClass>, &'static str, &'static str);

impl Kind {
    pub const ALL: [Kind; 25] = [
        Kind::BadJson,
        Kind::BadRequest,
        Kind::Unauthorized,
        Kind::Forbidden,
        Kind::HostNotAllowed,
        Kind::OriginNotAllowed,
        Kind::BadSignature,
        Kind::NotFound,
        Kind::NotOnDevice,
        Kind::MethodNotAllowed,
        Kind::RequestTimeout,
        Kind::JobFinished,
        Kind::PhotoInUse,
        Kind::OriginalEvicted,
        Kind::TooLarge,
        Kind::NoSuchRange,
        Kind::UnsupportedMediaType,
        Kind::InvalidBody,
        Kind::InvalidParameter,
        Kind::IdempotencyMismatch,
        Kind::QueueFull,
        Kind::Internal,
        Kind::Busy,
        Kind::ShuttingDown,
        Kind::DiskReserve,
    ];

    #[rustfmt::skip] // a table reads best with one row a line
    const fn row(self) -> Row {
        use FaultClass::{ServerError as S, TransientError as T};
        match self {
            Kind::BadJson => Row(400, "bad_json", None, "The request is not valid JSON.", "Correct the program that sends it; /docs shows the form."),
            Kind::BadRequest => Row(400, "bad_request", None, "The request cannot be read.", "Correct the program that sends it; /docs shows the form."),
            Kind::Unauthorized => Row(401, "unauthorized", None, "You are not signed in.", "Send a valid token, or sign in again with a new one (`irisd token create`)."),
            Kind::Forbidden => Row(403, "forbidden", None, "This token does not allow that.", "Use a token with the scope that is named in the detail."),
            Kind::HostNotAllowed => Row(403, "host_not_allowed", None, "The device does not go by this name.", "Open it by its IP address or host name, or add the name to http.allowed_origins."),
            Kind::OriginNotAllowed => Row(403, "origin_not_allowed", None, "Another web site may not use this device.", "Open the device's own page, or add the site to http.allowed_origins."),
            Kind::BadSignature => Row(403, "bad_signature", None, "The link is no longer valid.", "Ask for the job again: it carries fresh links."),
            Kind::NotFound => Row(404, "not_found", None, "It is not here.", "Check the address; perhaps it was deleted or belongs to somebody else."),
            Kind::NotOnDevice => Row(404, "not_on_device", None, "The file is no longer on this device.", "Look for it in the bucket, or process the photo again."),
            Kind::MethodNotAllowed => Row(405, "method_not_allowed", None, "This address does not take that method.", "Use one of the methods in the Allow header; /docs lists them."),
            Kind::RequestTimeout => Row(408, "request_timeout", Some(T), "The transfer came to a halt.", "Check the network and send it again; nothing of it was kept."),
            Kind::JobFinished => Row(409, "job_finished", None, "The job has already ended.", "Nothing to do; reprocess the job if another result is wanted."),
            Kind::PhotoInUse => Row(409, "photo_in_use", None, "The photo is still being processed.", "Wait for its jobs to end, or cancel them first."),
            Kind::OriginalEvicted => Row(409, "original_evicted", None, "The original was moved off this device to make room.", "Send the photo again."),
            Kind::TooLarge => Row(413, "too_large", None, "The file is larger than this device takes.", "Send a smaller file, or set the camera to a smaller picture."),
            Kind::NoSuchRange => Row(416, "no_such_range", None, "The file has no such part.", "Ask for bytes within the length in Content-Range, or for the whole file."),
            Kind::UnsupportedMediaType => Row(415, "unsupported_media_type", None, "The request's Content-Type is not one that is taken here.", "Send photos as image/jpeg, image/png, image/webp or multipart/form-data, and everything else as application/json."),
            Kind::InvalidBody => Row(422, "invalid_body", None, "The request's content is not valid.", "Correct what the detail names; /docs shows the form."),
            Kind::InvalidParameter => Row(422, "invalid_parameter", None, "A parameter is not valid.", "Correct what the detail names; /docs shows the form."),
            Kind::IdempotencyMismatch => Row(422, "idempotency_mismatch", None, "This Idempotency-Key was used for another request.", "Use a new key for a new request."),
            Kind::QueueFull => Row(429, "queue_full", Some(T), "Too many photos wait already.", "Wait a moment and send it again."),
            Kind::Internal => Row(500, "internal", Some(S), "Something went wrong inside the device.", "Try again; if it stays so, contact support with the request's id."),
            Kind::Busy => Row(503, "busy", Some(T), "The device is busy.", "Wait a moment and try again."),
            Kind::ShuttingDown => Row(503, "shutting_down", Some(T), "The device is restarting or shutting down.", "Try again in a minute; everything that was accepted is kept."),
            Kind::DiskReserve => Row(507, "disk_reserve", Some(T), "The room for photos on this device is nearly used up.", "Make room: let uploads finish, delete photos, or raise retention.cap where the disk has more. Everything that was accepted is kept."),
        }
    }

    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().0).expect("the table holds valid codes: a test looks")
    }

    pub fn code(self) -> &'static str {
        self.row().1
    }
}

/// What goes out instead of an answer.
#[derive(Debug)]
pub struct ApiError {
    kind: Kind,
    /// For the developer who reads the answer; no name, no secret.
    detail: String,
    /// Where a photo is to blame: its words take the place of the row's.
    fault: Option<Fault>,
}

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), fault: None }
    }

    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no such {what}, or it is not yours"))
    }

    /// An error whose cause belongs in the log, not in the answer.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(request_id = %request_id::current(), "request failed: {cause}");
        Self::new(Kind::Internal, "see the device's log under the request's id")
    }

    fn of_fault(kind: Kind, fault: Fault) -> Self {
        Self { kind, detail: fault.detail.clone(), fault: Some(fault) }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// As clients read it: a photo's fault has its own.
    pub fn code(&self) -> String {
        self.fault.as_ref().map_or_else(|| self.kind.code().to_owned(), |f| f.code.name())
    }

    fn status(&self) -> StatusCode {
        match self.fault.as_ref().map(|f| f.code) {
            Some(Code::TooManyPixels) => Kind::TooLarge.status(),
            Some(Code::UnsupportedImage) => Kind::UnsupportedMediaType.status(),
            _ => self.kind.status(),
        }
    }

    fn body(&self) -> serde_json::Value {
        let Row(_, code, error_type, message, suggestion) = self.kind.row();
        let status = self.status();
        let (code, error_type, message, suggestion) = match &self.fault {
            Some(f) => (f.code.name(), Some(f.class), f.message.as_str(), f.suggestion.as_str()),
            None => (code.to_owned(), error_type, message, suggestion),
        };
        json!({
            "type": format!("/docs#{code}"),
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": self.detail,
            "code": code,
            "error_type": error_type,
            "message": message,
            "suggestion": suggestion,
            "request_id": request_id::current(),
        })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, self.body().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let retry_after = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_AFTER_S),
            StatusCode::INSUFFICIENT_STORAGE => Some(ROOM_AFTER_S),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"irisd\""));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(e: StoreError) -> Self {
        let detail = e.to_string();
        match e {
            StoreError::NotFound(what) => Self::not_found(what),
            StoreError::Refused(_) => Self::new(Kind::JobFinished, detail),
            StoreError::QueueFull { .. } => Self::new(Kind::QueueFull, detail),
            StoreError::DiskReserve { .. } | StoreError::OverCap { .. } => Self::new(Kind::DiskReserve, detail),
            StoreError::PhotoInUse => Self::new(Kind::PhotoInUse, detail),
            StoreError::OriginalEvicted => Self::new(Kind::OriginalEvicted, detail),
            StoreError::IdempotencyMismatch => Self::new(Kind::IdempotencyMismatch, detail),
            StoreError::Closed | StoreError::Locked => Self::new(Kind::ShuttingDown, detail),
            StoreError::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => Self::new(Kind::DiskReserve, "the disk is full"),
            StoreError::Io(_) | StoreError::Index(_) => Self::internal(detail),
        }
    }
}

impl From<IntakeError> for ApiError {
    fn from(e: IntakeError) -> Self {
        match e {
            IntakeError::TooLarge { limit } => Self::new(Kind::TooLarge, format!("the limit is {limit} bytes")),
            IntakeError::Refused(fault) => Self::of_fault(Kind::InvalidBody, fault),
            IntakeError::Busy => Self::new(Kind::Busy, "too many photos are coming in at once"),
            IntakeError::Store(e) => e.into(),
            IntakeError::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => Self::new(Kind::DiskReserve, "the disk is full"),
            IntakeError::Io(e) => Self::internal(e),
        }
    }
}

impl From<CaptureError> for ApiError {
    fn from(e: CaptureError) -> Self {
        match e {
            CaptureError::NoCamera | CaptureError::Unknown(_) => Self::new(Kind::NotFound, e.to_string()),
            CaptureError::Busy => Self::new(Kind::Busy, e.to_string()),
            CaptureError::Camera(_) => Self::of_fault(Kind::Busy, Fault::new(Code::CameraUnavailable, e.to_string())),
            CaptureError::Intake(e) => e.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_own_code_a_valid_status_and_tells_the_person_what_to_do() {
        let mut codes: Vec<_> = Kind::ALL.iter().map(|k| k.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Kind::ALL.len());
        for k in Kind::ALL {
            assert!(k.status().is_client_error() || k.status().is_server_error());
            assert!(k.row().3.ends_with('.') && k.row().4.len() > 10, "{k:?}");
        }
    }

    #[test]
    fn a_photo_that_is_refused_answers_with_its_own_code_and_the_contracts_status() {
        for (code, status) in [
            (Code::EmptyFile, 422),
            (Code::ImageTruncated, 422),
            (Code::ImageCorrupt, 422),
            (Code::UnsupportedImage, 415),
            (Code::TooManyPixels, 413),
        ] {
            let e = ApiError::from(IntakeError::Refused(Fault::new(code, "test")));
            assert_eq!(e.status().as_u16(), status, "{code:?}");
            let body = e.body();
            assert_eq!(body["code"], code.name());
            assert_eq!(body["error_type"], "quality_issue");
            assert_eq!(body["status"], status);
        }
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let r = ApiError::from(StoreError::QueueFull { pending: 3, limit: 3 }).into_response();
        assert_eq!(r.status().as_u16(), 429);
        assert_eq!(r.headers()[header::RETRY_AFTER], "5");
        assert_eq!(r.headers()[header::CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn a_full_disk_says_when_to_come_back() {
        let r = ApiError::from(StoreError::DiskReserve { free: 1, reserve: 2 }).into_response();
        assert_eq!(r.status().as_u16(), 507);
        assert_eq!(r.headers()[header::RETRY_AFTER], "60");
    }

    #[test]
    fn a_problem_has_the_contracts_keys_and_no_more() {
        let body = ApiError::not_found("job").body();
        let keys: Vec<_> = body.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys, ["type", "title", "status", "detail", "code", "error_type", "message", "suggestion", "request_id"]);
    }
}

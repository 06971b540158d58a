//! A photo's body, raw or multipart, streamed into intake: never whole in memory.
//!
//! Raw: the body is the photo, `client_ref`, `eye` and `captured_at` are query parameters. Multipart: field `file`, and the others as fields.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Multipart, Request},
};
use futures_util::StreamExt;
use hyper::body::{Body as HttpBody, Frame};
use jiff::Timestamp;
use serde::Deserialize;
use sha2::Digest;

use super::{
    Api, body,
    error::{ApiError, ApiResult, Kind},
    paging,
};
use crate::{
    domain::{
        fault::{Code, Fault},
        ids::Sha256,
        photo::{ClientInfo, MAX_CLIENT_REF},
    },
    intake::{IntakeError, Upload},
};

/// Boundaries, part headers and the small fields beside the photo.
const MULTIPART_EXTRA: u64 = 64 << 10;

/// Bytes that may come without a field's beginning or a piece of one: a part's headers, and what hyper reads in one go (under 512 KiB).
const MOST_UNREAD: u64 = 1 << 20;

/// Bytes of one small field: a `client_ref` of 128 characters of four bytes each, twice.
const MAX_FIELD: usize = 1024;

/// A photo that came in whole, not yet taken.
pub struct Received {
    pub upload: Upload,
    pub client: ClientInfo,
    /// Of the bytes; known only where it was asked for.
    pub sha256: Option<Sha256>,
}

/// What the clinic's program says about a photo or job, as text.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Fields {
    client_ref: Option<String>,
    eye: Option<String>,
    captured_at: Option<String>,
}

impl Fields {
    fn check(self) -> ApiResult<ClientInfo> {
        let given = |t: Option<String>| t.filter(|t| !t.is_empty());
        let captured_at = given(self.captured_at).map(|t| paging::captured_at(&t)).transpose()?;
        let eye = given(self.eye).map(|t| paging::eye(&t)).transpose()?;
        checked(ClientInfo { client_ref: given(self.client_ref), eye, captured_at })
    }
}

/// The limits that the types of a body do not hold by themselves. An empty reference is none, through every door.
pub fn checked(client: ClientInfo) -> ApiResult<ClientInfo> {
    let client = ClientInfo { client_ref: client.client_ref.filter(|r| !r.is_empty()), ..client };
    if client.client_ref.as_ref().is_some_and(|r| r.chars().count() > MAX_CLIENT_REF) {
        return Err(invalid(&format!("client_ref has at most {MAX_CLIENT_REF} characters")));
    }
    if client.captured_at.is_some_and(|at| at < YEAR_ZERO) {
        return Err(invalid("captured_at is an RFC 3339 time: its year has four digits"));
    }
    Ok(client)
}

/// The first moment that RFC 3339 can say, in UTC.
const YEAR_ZERO: Timestamp = Timestamp::constant(-62_167_219_200, 0);

/// `hash`: hash the bytes on the way (a request with an Idempotency-Key must know them before it is taken).
pub async fn receive(api: &Api, query: Fields, request: Request, hash: bool) -> ApiResult<Received> {
    let declared = body::declared(request.headers());
    let kind = body::media_type(request.headers());
    match kind.as_str() {
        "image/jpeg" | "image/png" | "image/webp" => {
            within(declared, api.max_upload)?;
            raw(api, declared, query, request.into_body(), hash).await
        }
        "multipart/form-data" => {
            within(declared, api.max_upload + MULTIPART_EXTRA)?;
            multipart(api, declared, query, request, hash).await
        }
        _ => {
            let detail = format!("{kind:?} is not image/jpeg, image/png, image/webp, or multipart/form-data with a field `file`");
            Err(IntakeError::Refused(Fault::new(Code::UnsupportedImage, detail)).into())
        }
    }
}

/// Refused before the first byte: who declares too much need not send it.
fn within(declared: Option<u64>, limit: u64) -> ApiResult<()> {
    match declared {
        Some(n) if n > limit => Err(ApiError::new(Kind::TooLarge, format!("the body has {n} bytes; the limit is {limit}"))),
        _ => Ok(()),
    }
}

async fn raw(api: &Api, declared: Option<u64>, query: Fields, body: Body, hash: bool) -> ApiResult<Received> {
    let client = query.check()?;
    let mut sink = Sink::new(api.intake.begin(declared).await?, hash);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        sink.write(&chunk.map_err(|e| body::broken(&e))?).await?;
    }
    Ok(sink.received(client))
}

async fn multipart(api: &Api, declared: Option<u64>, mut fields: Fields, request: Request, hash: bool) -> ApiResult<Received> {
    let unread = Arc::<AtomicU64>::default();
    let request =
        request.map(|body| Body::new(Sips { body, left: api.max_upload + MULTIPART_EXTRA, unread: unread.clone(), swallows: false }));
    let mut parts = Multipart::from_request(request, &()).await.map_err(|e| ApiError::new(Kind::BadRequest, e.body_text()))?;
    let mut file: Option<Sink> = None;
    while let Some(mut part) = parts.next_field().await.map_err(bad_part)? {
        unread.store(0, Ordering::Relaxed);
        let name = part.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "file" if file.is_some() => return Err(invalid("there is more than one field `file`; send one photo a request")),
            "file" => {
                // The file is a part of what was declared.
                let most = declared.map(|bytes| bytes.min(api.max_upload));
                let mut sink = Sink::new(api.intake.begin(most).await?, hash);
                while let Some(chunk) = part.chunk().await.map_err(bad_part)? {
                    unread.store(0, Ordering::Relaxed);
                    sink.write(&chunk).await?;
                }
                file = Some(sink);
            }
            "client_ref" | "eye" | "captured_at" => {
                let mut text = Vec::new();
                while let Some(chunk) = part.chunk().await.map_err(bad_part)? {
                    if text.len() + chunk.len() > MAX_FIELD {
                        return Err(invalid(&format!("the field {name} is too long")));
                    }
                    text.extend_from_slice(&chunk);
                }
                let text = String::from_utf8(text).map_err(|_| invalid(&format!("the field {name} is not UTF-8")))?;
                match name.as_str() {
                    "client_ref" => fields.client_ref = Some(text),
                    "eye" => fields.eye = Some(text),
                    _ => fields.captured_at = Some(text),
                }
            }
            _ => return Err(invalid("the fields are file, client_ref, eye, captured_at")),
        }
    }
    let client = fields.check()?;
    file.map(|f| f.received(client)).ok_or_else(|| invalid("there is no field `file`"))
}

fn bad_part(e: axum::extract::multipart::MultipartError) -> ApiError {
    let cause = body::broken(&e);
    if matches!(cause.kind(), Kind::RequestTimeout | Kind::TooLarge) { cause } else { ApiError::new(Kind::BadRequest, e.body_text()) }
}

/// A body that the parser of parts drinks in sips. Left to itself it takes all that has come into memory before it looks for a boundary, and
/// looks through all of it again each time.
struct Sips {
    body: Body,
    /// Bytes that may still come.
    left: u64,
    /// Bytes since the parser last gave something out.
    unread: Arc<AtomicU64>,
    /// It had a sip, and is to look at it before the next one.
    swallows: bool,
}

impl HttpBody for Sips {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if std::mem::take(&mut self.swallows) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => return Poll::Ready(frame),
        };
        self.swallows = true;
        let unread = self.unread.fetch_add(bytes, Ordering::Relaxed) + bytes;
        match self.left.checked_sub(bytes) {
            None => return Poll::Ready(Some(Err(axum::Error::new(body::TooLong("the body is longer than a photo may be"))))),
            Some(left) => self.left = left,
        }
        if unread > MOST_UNREAD {
            return Poll::Ready(Some(Err(axum::Error::new(body::TooLong("what stands around the fields is too long")))));
        }
        Poll::Ready(frame)
    }
}

fn invalid(detail: &str) -> ApiError {
    ApiError::new(Kind::InvalidBody, detail)
}

struct Sink {
    upload: Upload,
    hash: Option<sha2::Sha256>,
}

impl Sink {
    fn new(upload: Upload, hash: bool) -> Self {
        Self { upload, hash: hash.then(sha2::Sha256::new) }
    }

    async fn write(&mut self, chunk: &[u8]) -> ApiResult<()> {
        if let Some(h) = &mut self.hash {
            h.update(chunk);
        }
        Ok(self.upload.write(chunk).await?)
    }

    fn received(self, client: ClientInfo) -> Received {
        Received { upload: self.upload, client, sha256: self.hash.map(|h| Sha256(h.finalize().into())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::photo::Eye;

    #[test]
    fn what_is_said_about_a_photo_is_checked_at_the_door() {
        let fields =
            |r: &str, e: &str, t: &str| Fields { client_ref: Some(r.into()), eye: Some(e.into()), captured_at: Some(t.into()) }.check();
        let client = fields("Ä-17", "left", "2026-01-02T03:04:05+01:00").expect("valid");
        assert_eq!((client.client_ref.as_deref(), client.eye), (Some("Ä-17"), Some(Eye::Left)));
        assert_eq!(fields("", "", "").expect("empty fields were not given"), ClientInfo::default());
        assert!(fields(&"ä".repeat(128), "", "").is_ok());
        assert!(fields(&"ä".repeat(129), "", "").is_err());
        assert!(fields("", "middle", "").is_err());
        assert!(fields("", "", "yesterday").is_err());
        assert!(fields("", "", "-000100-01-01T00:00:00Z").is_err());
        assert!(fields("", "", "0000-01-01T00:00:00Z").is_ok());
        let said = checked(ClientInfo { client_ref: Some(String::new()), ..ClientInfo::default() });
        assert_eq!(said.expect("nothing was said"), ClientInfo::default());
    }

    #[test]
    fn a_declared_length_above_the_limit_is_refused_before_the_first_byte() {
        assert_eq!(within(Some(101), 100).expect_err("too large").kind(), Kind::TooLarge);
        assert!(within(Some(100), 100).is_ok() && within(None, 100).is_ok());
    }
}

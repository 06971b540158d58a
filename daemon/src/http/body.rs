//! Bodies on their way in: never slower than a limit, never larger, and JSON only in the one way.
//!
//! [`Paced`] stands around every request's body. A body that brings nothing for [`STALL`], or takes longer than [`WHOLE`], ends with an
//! error that becomes 408: a client that went away, or that means ill, gives its connection back.

use std::{
    error::Error as StdError,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep, sleep};

use super::error::{ApiError, ApiResult, Kind};

/// Longest silence inside a body. Wireless networks stall for seconds, not for this long.
pub const STALL: Duration = Duration::from_secs(20);

/// Longest time for a whole body: 64 MiB at 110 kB/s.
pub const WHOLE: Duration = Duration::from_secs(600);

/// Longest time for a JSON body, which fits into a few packets.
const JSON_WHOLE: Duration = Duration::from_secs(30);

/// Bytes of a JSON body; the largest (a batch) has under 1 kB.
const MAX_JSON: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
pub struct TooSlow;

/// Longer than it may be; says of what.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TooLong(pub &'static str);

/// A body that must keep coming.
pub struct Paced {
    inner: Body,
    /// Set once all of it was read.
    whole: Arc<AtomicBool>,
    stall: Duration,
    silence: Pin<Box<Sleep>>,
    end: Instant,
}

impl Paced {
    pub fn new(inner: Body, whole: Arc<AtomicBool>) -> Self {
        Self { whole, ..Self::within(inner, STALL, WHOLE) }
    }

    fn within(inner: Body, stall: Duration, most: Duration) -> Self {
        Self { inner, whole: Arc::default(), stall, silence: Box::pin(sleep(stall.min(most))), end: Instant::now() + most }
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            let now = Instant::now();
            if now >= self.end {
                return Poll::Ready(Some(Err(axum::Error::new(TooSlow))));
            }
            let next = self.end.min(now + self.stall);
            self.silence.as_mut().reset(next);
            if frame.is_none() || self.inner.is_end_stream() {
                self.whole.store(true, Ordering::Release);
            }
            return Poll::Ready(frame);
        }
        match self.silence.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(axum::Error::new(TooSlow)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What a body that broke off means.
pub fn broken(error: &(dyn StdError + 'static)) -> ApiError {
    let mut at = Some(error);
    while let Some(e) = at {
        if e.is::<TooSlow>() {
            return ApiError::new(Kind::RequestTimeout, format!("no byte came for {} s, or the whole took too long", STALL.as_secs()));
        }
        if let Some(TooLong(what)) = e.downcast_ref() {
            return ApiError::new(Kind::TooLarge, *what);
        }
        if e.is::<LengthLimitError>() {
            return ApiError::new(Kind::TooLarge, format!("the limit for this body is {MAX_JSON} bytes"));
        }
        at = e.source();
    }
    ApiError::new(Kind::BadRequest, "the connection broke off inside the body")
}

/// Bytes that the sender says will come.
pub fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The media type of Content-Type, lower case, without parameters.
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A JSON body, and its bytes as they came (for the Idempotency-Key). An empty body is `{}`: where fields are missing, 422 names them.
pub struct Json<T> {
    pub value: T,
    pub bytes: Bytes,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> ApiResult<Self> {
        let kind = media_type(request.headers());
        let body = Limited::new(request.into_body(), MAX_JSON).collect();
        let bytes = match tokio::time::timeout(JSON_WHOLE, body).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(e)) => return Err(broken(&*e)),
            Err(_) => return Err(broken(&TooSlow)),
        };
        if bytes.is_empty() {
            return Ok(Self { value: parse(b"{}")?, bytes });
        }
        // Demanded: a form of a foreign page can send text/plain without asking, JSON it cannot.
        if kind != "application/json" {
            return Err(ApiError::new(Kind::UnsupportedMediaType, "this body must be application/json"));
        }
        Ok(Self { value: parse(&bytes)?, bytes })
    }
}

/// 400 where it is no JSON, 422 where it is JSON that means nothing here.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        let kind = if e.is_data() { Kind::InvalidBody } else { Kind::BadJson };
        ApiError::new(kind, e.to_string())
    })
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Form {
        #[allow(dead_code)]
        n: u8,
    }

    async fn read(kind: &str, body: Body) -> Result<Form, Kind> {
        let request = Request::builder().header("content-type", kind).body(Body::new(Paced::new(body, Arc::default()))).expect("a request");
        Json::<Form>::from_request(request, &()).await.map(|j| j.value).map_err(|e| e.kind())
    }

    #[tokio::test]
    async fn text_that_is_no_json_is_400_and_json_that_does_not_fit_is_422() {
        assert!(read("application/json; charset=utf-8", "{\"n\": 1}".into()).await.is_ok());
        for (body, kind) in [
            ("{", Kind::BadJson),
            ("nonsense", Kind::BadJson),
            ("{\"n\": 1} x", Kind::BadJson),
            ("", Kind::InvalidBody),
            ("{\"n\": \"1\"}", Kind::InvalidBody),
            ("{\"n\": 1, \"m\": 2}", Kind::InvalidBody),
            ("[]", Kind::InvalidBody),
        ] {
            assert_eq!(read("application/json", body.into()).await.expect_err(body), kind, "{body}");
        }
        assert_eq!(read("text/plain", "{\"n\": 1}".into()).await.expect_err("a form"), Kind::UnsupportedMediaType);
        let large = format!("{{\"n\": 1{}}}", " ".repeat(MAX_JSON));
        assert_eq!(read("application/json", large.into()).await.expect_err("large"), Kind::TooLarge);
    }

    #[tokio::test]
    async fn a_body_that_stops_coming_or_never_ends_is_408() {
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(3600));
        let byte = || Ok::<_, std::io::Error>(" ");
        let stops = Body::from_stream(stream::once(async move { byte() }).chain(stream::pending()));
        let drips = Body::from_stream(stream::repeat_with(byte).then(async |b| {
            sleep(Duration::from_millis(1)).await;
            b
        }));
        for paced in [Paced::within(stops, short, long), Paced::within(drips, long, short)] {
            let request = Request::builder().header("content-type", "application/json").body(Body::new(paced)).expect("a request");
            let refused = Json::<Form>::from_request(request, &()).await.err().expect("slow");
            assert_eq!(refused.kind(), Kind::RequestTimeout);
        }
    }
}

//! The HTTP client of the commands (`submit`, `jobs`, `capture`): one connection a request, JSON, streamed uploads, events.
//!
//! It speaks to our own daemon, mostly on this machine. Over https it trusts the one certificate that it is given (the daemon's own file)
//! and nothing else: no public authority vouches for `127.0.0.1`.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::stream;
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Bytes, Frame, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

pub use self::events::{EventStream, ServerEvent};
use crate::domain::{fault::FaultClass, photo::ImageFormat};

mod events;
mod pin;

const CONNECT_TIME: Duration = Duration::from_secs(5);
/// From the request's last byte to the answer's head: a capture waits for the camera.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// The same with a photo to send first.
const UPLOAD_TIME: Duration = Duration::from_secs(660);
/// Bytes of a JSON answer: 100 jobs have under 400 kB.
const MAX_ANSWER: usize = 8 << 20;
const CHUNK: usize = 64 << 10;

type Body = BoxBody<Bytes, io::Error>;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0:?} is not the address of a daemon; write it as http://HOST:PORT")]
    Url(String),
    #[error("no daemon answers at {url}; is `irisd run` running there")]
    Connect { url: String, source: io::Error },
    #[error("the certificate in {} cannot be used: {reason}", path.display())]
    Certificate { path: PathBuf, reason: String },
    #[error("the connection to the daemon broke off: {0}")]
    Lost(String),
    #[error("the daemon did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The daemon's own words.
    #[error("{message} {suggestion} ({code}, {status}: {detail})")]
    Refused { status: u16, code: String, error_type: Option<FaultClass>, message: String, suggestion: String, detail: String },
    #[error("the daemon's answer cannot be read: {0}")]
    Answer(String),
}

pub type Result<T> = std::result::Result<T, ClientError>;

#[derive(Clone)]
pub struct Client {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    token: Option<String>,
}

impl Client {
    /// `url`: `http://HOST:PORT`, or `https://...` with `certificate`, the PEM file of the daemon's own certificate.
    pub fn new(url: &str, token: Option<String>, certificate: Option<&Path>) -> Result<Self> {
        let bad = || ClientError::Url(url.to_owned());
        let uri: Uri = url.trim().parse().map_err(|_| bad())?;
        let (tls, port) = match (uri.scheme_str(), certificate) {
            (Some("http"), _) => (None, 80),
            (Some("https"), Some(path)) => {
                let reason = |reason| ClientError::Certificate { path: path.to_owned(), reason };
                (Some(pin::connector(path).map_err(reason)?), 443)
            }
            (Some("https"), None) => {
                return Err(ClientError::Answer("https needs the daemon's certificate (http.tls_cert)".into()));
            }
            _ => return Err(bad()),
        };
        let host = uri.host().ok_or_else(bad)?.to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(port), tls, token })
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        self.json(Method::GET, path, None, None).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.json(Method::DELETE, path, None, None).await
    }

    /// `key`: an Idempotency-Key, for what must not be done twice.
    pub async fn post(&self, path: &str, body: &Value, key: Option<&str>) -> Result<Value> {
        self.json(Method::POST, path, Some(body), key).await
    }

    /// Sends a photo as it lies on the disk; never whole in memory. The daemon judges what it is; we only name what the first bytes say.
    pub async fn upload(&self, photo: &Path, key: Option<&str>) -> Result<Value> {
        let failed = |source| ClientError::File { path: photo.to_owned(), source };
        let mut file = File::open(photo).await.map_err(failed)?;
        let len = file.metadata().await.map_err(failed)?.len();
        let mut head = vec![0; 16];
        let mut filled = 0;
        while filled < head.len() {
            match file.read(&mut head[filled..]).await.map_err(failed)? {
                0 => break,
                n => filled += n,
            }
        }
        head.truncate(filled);
        // What is no picture goes out as one, too: the daemon's refusal is the sentence that the person should read.
        let mime = ImageFormat::sniff(&head).unwrap_or(ImageFormat::Jpeg).mime();
        let rest = stream::try_unfold(file, |mut file| async move {
            let mut chunk = vec![0; CHUNK];
            let n = file.read(&mut chunk).await?;
            chunk.truncate(n);
            Ok::<_, io::Error>((n > 0).then(|| (Frame::data(Bytes::from(chunk)), file)))
        });
        let first = stream::iter([Ok(Frame::data(Bytes::from(head)))]);
        let body = BodyExt::boxed(StreamBody::new(futures_util::StreamExt::chain(first, rest)));
        let mut request = self.request(Method::POST, "/api/v1/photos", key);
        request = request.header(header::CONTENT_TYPE, mime).header(header::CONTENT_LENGTH, len);
        read_json(self.send(request, body, UPLOAD_TIME).await?).await
    }

    /// Job events from now on, or after `last_event_id`.
    pub async fn events(&self, last_event_id: Option<u64>) -> Result<EventStream> {
        let mut request = self.request(Method::GET, "/api/v1/events", None);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = self.send(request, empty(), ANSWER_TIME).await?;
        match response.status() {
            StatusCode::OK => Ok(EventStream::new(response.into_body())),
            _ => Err(refusal(response).await),
        }
    }

    async fn json(&self, method: Method, path: &str, body: Option<&Value>, key: Option<&str>) -> Result<Value> {
        let mut request = self.request(method, path, key);
        let body = match body {
            None => empty(),
            Some(value) => {
                let bytes = Bytes::from(value.to_string());
                request = request.header(header::CONTENT_TYPE, "application/json").header(header::CONTENT_LENGTH, bytes.len());
                Full::new(bytes).map_err(|never| match never {}).boxed()
            }
        };
        read_json(self.send(request, body, ANSWER_TIME).await?).await
    }

    fn request(&self, method: Method, path: &str, key: Option<&str>) -> hyper::http::request::Builder {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, format!("{}:{}", self.host, self.port));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request
    }

    async fn send(&self, request: hyper::http::request::Builder, body: Body, limit: Duration) -> Result<Response<Incoming>> {
        // A token file with a line break inside, a path with a blank: nothing that a person could not write.
        let request = request.body(body).map_err(|e| ClientError::Answer(e.to_string()))?;
        let stream = self.connect().await?;
        match &self.tls {
            None => exchange(stream, request, limit).await,
            Some(tls) => {
                let name = rustls_pki_types::ServerName::try_from(self.host.trim_matches(['[', ']']).to_owned())
                    .map_err(|_| ClientError::Url(self.host.clone()))?;
                let stream = timeout(CONNECT_TIME, tls.connect(name, stream)).await;
                let stream = stream.map_err(|_| ClientError::TimedOut(CONNECT_TIME))?.map_err(|source| self.no_connection(source))?;
                exchange(stream, request, limit).await
            }
        }
    }

    async fn connect(&self) -> Result<TcpStream> {
        let address = (self.host.trim_matches(['[', ']']), self.port);
        match timeout(CONNECT_TIME, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(self.no_connection(source)),
            Err(_) => Err(self.no_connection(io::ErrorKind::TimedOut.into())),
        }
    }

    fn no_connection(&self, source: io::Error) -> ClientError {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        ClientError::Connect { url: format!("{scheme}://{}:{}", self.host, self.port), source }
    }
}

async fn exchange<S>(stream: S, request: Request<Body>, limit: Duration) -> Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| ClientError::Lost(e.to_string()))?;
    tokio::spawn(connection); // ends with the answer's body
    match timeout(limit, sender.send_request(request)).await {
        Ok(answer) => answer.map_err(|e| ClientError::Lost(e.to_string())),
        Err(_) => Err(ClientError::TimedOut(limit)),
    }
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed()
}

async fn read_json(response: Response<Incoming>) -> Result<Value> {
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let bytes = collect(response).await?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|e| ClientError::Answer(e.to_string()))
}

async fn refusal(response: Response<Incoming>) -> ClientError {
    let status = response.status();
    let bytes = match collect(response).await {
        Ok(bytes) => bytes,
        Err(e) => return e,
    };
    let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let text = |key: &str, otherwise: &str| problem[key].as_str().unwrap_or(otherwise).to_owned();
    ClientError::Refused {
        status: status.as_u16(),
        code: text("code", "unknown"),
        error_type: serde_json::from_value(problem["error_type"].clone()).ok(),
        message: text("message", "The daemon refused without a reason that this program understands."),
        suggestion: text("suggestion", "Check that the address is an irisd's."),
        detail: text("detail", status.canonical_reason().unwrap_or("")),
    }
}

async fn collect(response: Response<Incoming>) -> Result<Bytes> {
    match timeout(ANSWER_TIME, Limited::new(response.into_body(), MAX_ANSWER).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) => Err(ClientError::Lost(e.to_string())),
        Err(_) => Err(ClientError::TimedOut(ANSWER_TIME)),
    }
}

#[cfg(test)]
mod tests;

//! The HTTP client of the command line: finds the local daemon, shows its token, asks.
//!
//! One connection a request: a person types a few commands an hour. Over https the very certificate that the configuration names is trusted,
//! and no other, whatever name it bears: this client talks to its own device, mostly as `127.0.0.1`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::domain::photo::ImageFormat;

mod pin;

/// To a daemon on the same machine or the LAN.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A photo of 64 MiB over slow Wi-Fi, and its fsync.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no daemon found: {} is not there. Is irisd running? Else name it with --url or IRISD_URL", path.display())]
    NoEndpoint { path: PathBuf },
    #[error("{0:?} is no address of a daemon; write it as http://host:8080")]
    BadUrl(String),
    #[error("the token in {} cannot be read ({source}); name another with --token-file or IRISD_TOKEN_FILE", path.display())]
    NoToken { path: PathBuf, source: io::Error },
    #[error("the certificate {} cannot be read: {reason}", path.display())]
    BadCertificate { path: PathBuf, reason: String },
    #[error("the daemon at {url} does not answer: {reason}")]
    Away { url: String, reason: String },
    /// The daemon said no; the words are its own.
    #[error("{message} {suggestion} ({code})")]
    Refused { status: u16, code: String, message: String, suggestion: String },
    #[error("the daemon gave an answer that cannot be read: {0}")]
    Garbled(String),
    #[error("{} cannot be read: {source}", path.display())]
    Photo { path: PathBuf, source: io::Error },
}

/// How to find the daemon.
#[derive(Debug, Default)]
pub struct Where {
    /// `--url` or `IRISD_URL`; None: `<state>/endpoint`.
    pub url: Option<String>,
    /// `--token-file` or `IRISD_TOKEN_FILE`; None: `<state>/local.token`, which may be missing (open mode).
    pub token_file: Option<PathBuf>,
    pub state: PathBuf,
    /// `http.tls_cert`; empty: none.
    pub tls_cert: PathBuf,
}

pub struct Client {
    url: String,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    token: Option<String>,
}

impl Client {
    pub fn find(place: &Where) -> Result<Self, ClientError> {
        let url = match &place.url {
            Some(url) => url.clone(),
            None => {
                let path = place.state.join("endpoint");
                fs::read_to_string(&path).map_err(|_| ClientError::NoEndpoint { path })?
            }
        };
        let url = url.trim().trim_end_matches('/').to_owned();
        let bad = || ClientError::BadUrl(url.clone());
        let uri: hyper::Uri = url.parse().map_err(|_| bad())?;
        let host = uri.host().ok_or_else(bad)?.trim_matches(['[', ']']).to_owned();
        let (tls, usual_port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some(trusting(&place.tls_cert)?), 443),
            _ => return Err(bad()),
        };
        Ok(Self { port: uri.port_u16().unwrap_or(usual_port), host, tls, token: token(place)?, url })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        json(self.ask(Method::GET, path, None, Bytes::new()).await?).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        json(self.ask(Method::POST, path, Some("application/json"), Bytes::from(body.to_string())).await?).await
    }

    /// `POST /api/v1/photos` with the file's bytes. What is in it is for the daemon to judge.
    pub async fn send_photo(&self, path: &Path) -> Result<Value, ClientError> {
        let bytes = fs::read(path).map_err(|source| ClientError::Photo { path: path.to_owned(), source })?;
        let mime = ImageFormat::sniff(&bytes).map_or("application/octet-stream", ImageFormat::mime);
        json(self.ask(Method::POST, "/api/v1/photos", Some(mime), Bytes::from(bytes)).await?).await
    }

    /// The job events from now on.
    pub async fn events(&self) -> Result<Events, ClientError> {
        let response = self.ask(Method::GET, "/api/v1/events", None, Bytes::new()).await?;
        Ok(Events { body: response.into_body(), text: String::new() })
    }

    async fn ask(&self, method: Method, path: &str, mime: Option<&str>, body: Bytes) -> Result<Response<Incoming>, ClientError> {
        let authority = if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, authority);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(mime) = mime {
            request = request.header(header::CONTENT_TYPE, mime);
        }
        let request = request.body(Full::new(body)).map_err(|e| ClientError::Garbled(e.to_string()))?;
        let response = timeout(ANSWER_LIMIT, self.send(request)).await.map_err(|_| self.away("no answer in time"))??;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let tcp = timeout(CONNECT_LIMIT, TcpStream::connect((self.host.as_str(), self.port)));
        let tcp = tcp.await.map_err(|_| self.away("no connection in time"))?.map_err(|e| self.away(e))?;
        let answer = match &self.tls {
            None => spoken(tcp, request).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|_| ClientError::BadUrl(self.url.clone()))?;
                spoken(tls.connect(name, tcp).await.map_err(|e| self.away(e))?, request).await
            }
        };
        answer.map_err(|e| self.away(e))
    }

    fn away(&self, reason: impl ToString) -> ClientError {
        ClientError::Away { url: self.url.clone(), reason: reason.to_string() }
    }
}

async fn spoken<S>(stream: S, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the response's body, or with the connection.
    tokio::spawn(connection);
    sender.send_request(request).await
}

fn token(place: &Where) -> Result<Option<String>, ClientError> {
    let (path, must_be) = match &place.token_file {
        Some(path) => (path.clone(), true),
        None => (place.state.join("local.token"), false),
    };
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound && !must_be => Ok(None),
        Err(source) => Err(ClientError::NoToken { path, source }),
    }
}

fn trusting(path: &Path) -> Result<TlsConnector, ClientError> {
    pin::connector(path).map_err(|reason| ClientError::BadCertificate { path: path.to_owned(), reason })
}

async fn bytes(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    Ok(response.into_body().collect().await.map_err(|e| ClientError::Garbled(e.to_string()))?.to_bytes())
}

async fn json(response: Response<Incoming>) -> Result<Value, ClientError> {
    match response.status() {
        StatusCode::NO_CONTENT => Ok(Value::Null),
        _ => serde_json::from_slice(&bytes(response).await?).map_err(|e| ClientError::Garbled(e.to_string())),
    }
}

async fn refusal(response: Response<Incoming>) -> ClientError {
    let status = response.status();
    let problem: Value = bytes(response).await.ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or(Value::Null);
    let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    let message = [text("message"), text("detail"), text("title"), status.to_string()].into_iter().find(|t| !t.is_empty());
    ClientError::Refused {
        status: status.as_u16(),
        code: text("code"),
        message: message.unwrap_or_default(),
        suggestion: text("suggestion"),
    }
}

/// A stream of server-sent events.
pub struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    /// The next event's data; None: the daemon ended the stream.
    pub async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let data: String = event.lines().filter_map(|l| l.strip_prefix("data:")).map(str::trim).collect();
                self.text = rest.to_owned();
                if !data.is_empty() {
                    return serde_json::from_str(&data).map(Some).map_err(|e| ClientError::Garbled(e.to_string()));
                }
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|e| ClientError::Garbled(e.to_string()))?;
            if let Some(data) = frame.data_ref() {
                self.text.push_str(&String::from_utf8_lossy(data));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_found_by_its_endpoint_file_unless_it_is_named() {
        let state = tempfile::tempdir().unwrap();
        let place = |url: Option<&str>| Where { url: url.map(str::to_owned), state: state.path().to_owned(), ..Where::default() };
        assert!(matches!(Client::find(&place(None)), Err(ClientError::NoEndpoint { .. })));
        fs::write(state.path().join("endpoint"), "http://127.0.0.1:1234\n").unwrap();
        fs::write(state.path().join("local.token"), "secret\n").unwrap();
        let found = Client::find(&place(None)).unwrap();
        assert_eq!((found.port, found.token.as_deref()), (1234, Some("secret")));
        assert_eq!(Client::find(&place(Some("http://[::1]:5/"))).unwrap().host, "::1");
        for bad in ["kiosk", "ftp://host", "http://"] {
            assert!(matches!(Client::find(&place(Some(bad))), Err(ClientError::BadUrl(_))), "{bad}");
        }
    }

    /// Self-signed EC P-256 pairs, valid for 100 years, made with `openssl req -x509 -newkey ec -nodes`. They guard nothing.
    #[tokio::test]
    async fn over_tls_only_the_very_certificate_is_trusted() {
        use crate::http::serve::{bind, serve, tls};
        let data = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("src/client/testdata").join(name);
        let acceptor = tls::acceptor(&data("one.crt"), &data("one.key")).unwrap();
        assert!(tls::acceptor(&data("one.crt"), &data("two.key")).is_err(), "not a pair");
        let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/", axum::routing::get(async || "{\"here\": true}"));
        let server = tokio::spawn(serve(listener, Some(acceptor), router, std::future::pending()));
        let find = |certificate: &str| Client::find(&Where { url: Some(url.clone()), tls_cert: data(certificate), ..Where::default() }).unwrap();
        assert_eq!(find("one.crt").get("/").await.unwrap()["here"], true);
        assert!(matches!(find("two.crt").get("/").await, Err(ClientError::Away { .. })), "a stranger was trusted");
        server.abort();
    }
}

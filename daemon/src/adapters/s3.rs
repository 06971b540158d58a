//! An S3-compatible bucket: [`ObjectStore`] over rust-s3, which builds and signs the requests; they are sent by our own reqwest client.
//!
//! rust-s3's own client takes no CA and no connect time-out, chooses the number of parts in flight from the free memory and retries by a
//! process-wide setting. Here one request is one attempt, one part of one object is in memory at a time (`part_size` bytes a put), and
//! the caller decides about retries.
//!
//! A put returns only when the server vouched for the bytes (contract, S3):
//!
//! ```text
//! <= part_size: PUT        -> x-amz-checksum-sha256 | ETag = MD5                           | else GET and hash
//! larger:       multipart  -> each part's ETag = MD5, the whole's = MD5 of the MD5s "-N"   | else GET and hash
//! ```
//!
//! Requests are signed with the device's clock, or, once the server's Date taught us otherwise when it refused (a first clock of 1970),
//! with the server's, until somebody sets ours. Keys are `[a-z0-9._-/]` only; they need no escaping.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

use futures_util::{future::BoxFuture, stream};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Certificate, Client, Method, Response, Url, header::HeaderMap, redirect::Policy};
use s3::{
    Bucket, Region,
    command::{Command, HttpMethod, Multipart},
    creds::Credentials,
    error::S3Error,
    request::{Request, tokio_backend::ReqwestRequest},
    serde_types::{CompleteMultipartUploadData, Part},
};

use self::{
    answer::{Pace, ServerTime, classify, element, server_time, time_limit},
    open::{Open, OpenUploads},
};
use crate::ports::{ObjectStore, ObjectStoreError, PutObject};

mod answer;
mod open;
mod put;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Sent bytes that nobody acknowledges for this long end the connection: a line that was cut, in the middle of a large part.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);
/// A probe is a question of moments; with the pause before it, it fits into the 15 s of the contract.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// S3's own limits: bytes, seconds.
const SMALLEST_PART: u64 = 5 << 20;
const LONGEST_PRESIGN_S: u64 = 604_800;
/// Answers are codes and ids; a longer one is cut here, bytes.
const LONGEST_ANSWER: usize = 256 << 10;
/// Bodies go out in pieces of this size, so that a rate cap flows evenly, bytes.
const PIECE: usize = 32 << 10;

/// Where the bucket is. Secrets come read from their files.
#[derive(Clone)]
pub struct Options {
    /// `https://host[:port]`; empty: AWS in this region.
    pub endpoint: String,
    pub region: String,
    pub bucket: String,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`.
    pub path_style: bool,
    pub access_key: String,
    pub secret_key: String,
    /// PEM; with it, these certificates alone are trusted.
    pub ca_pem: Option<Vec<u8>>,
    /// Bytes; larger files go in parts of this size (at least 5 MiB, S3's limit).
    pub part_size: u64,
    /// Bytes a second for all uploads together.
    pub max_rate: Option<u64>,
    /// Folder in which open multiparts are noted; made where it is missing.
    pub open_uploads: PathBuf,
}

/// Why the options cannot work.
#[derive(Debug, thiserror::Error)]
pub enum BadOptions {
    #[error("{0:?} is not an endpoint; write it as https://host:port")]
    Endpoint(String),
    #[error("the CA file cannot be used: {0}")]
    Ca(String),
    #[error("the bucket cannot be used: {0}")]
    Bucket(String),
    #[error("open uploads cannot be noted: {0}")]
    Notes(std::io::Error),
}

/// The bucket. Cheap to share, no connection is held open by it for long.
pub struct S3Bucket {
    bucket: Bucket,
    client: Client,
    part_size: u64,
    max_rate: Option<u64>,
    pace: Option<Arc<Mutex<Pace>>>,
    started: Instant,
    /// None: our clock is good enough.
    learnt: Mutex<Option<ServerTime>>,
    /// False once the server refused `x-amz-checksum-sha256`.
    checksums: AtomicBool,
    open: OpenUploads,
    /// Multiparts of an earlier process, to be aborted.
    left: Mutex<Vec<Open>>,
}

/// A body that can be sent twice (once more after the clock was learnt) without a second copy.
type Body = Arc<Vec<u8>>;

/// One request, before it is signed. Upload ids are escaped already; a part is (number, upload id), a sent part (number, ETag).
enum Ask {
    Put { headers: HeaderMap, content_type: String, body: Body, part: Option<(u32, String)> },
    Get,
    Delete,
    List,
    Begin { headers: HeaderMap, content_type: String },
    Complete { upload: String, parts: Vec<(u32, String)> },
    Abort { upload: String },
}

impl Ask {
    fn body(&self) -> Body {
        match self {
            Ask::Put { body, .. } => body.clone(),
            Ask::Complete { parts, .. } => Arc::new(part_list(parts).to_string().into_bytes()),
            _ => Body::default(),
        }
    }

    fn command(&self) -> Command<'_> {
        match self {
            Ask::Put { headers, content_type, body, part } => Command::PutObject {
                content: body,
                content_type,
                custom_headers: Some(headers.clone()),
                multipart: part.as_ref().map(|(number, upload)| Multipart::new(*number, upload)),
            },
            Ask::Get => Command::GetObject,
            Ask::Delete => Command::DeleteObject,
            Ask::List => Command::ListObjectsV2 {
                prefix: String::new(),
                delimiter: None,
                continuation_token: None,
                start_after: None,
                max_keys: Some(1),
            },
            Ask::Begin { content_type, .. } => Command::InitiateMultipartUpload { content_type },
            Ask::Complete { upload, parts } => Command::CompleteMultipartUpload { upload_id: upload, data: part_list(parts) },
            Ask::Abort { upload } => Command::AbortMultipartUpload { upload_id: upload },
        }
    }

    /// The object that the request names; a listing names the bucket.
    fn path<'a>(&self, key: &'a str) -> &'a str {
        if matches!(self, Ask::List) { "/" } else { key }
    }
}

fn part_list(parts: &[(u32, String)]) -> CompleteMultipartUploadData {
    let parts = parts.iter().map(|(part_number, etag)| Part { part_number: *part_number, etag: etag.clone() }).collect();
    CompleteMultipartUploadData { parts }
}

/// A server's answer, read.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn ok(self) -> Result<Self, ObjectStoreError> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(classify(self.status, &self.body)) }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl S3Bucket {
    pub fn new(options: Options) -> Result<Self, BadOptions> {
        let endpoint = match options.endpoint.trim_end_matches('/') {
            "" => format!("https://s3.{}.amazonaws.com", options.region),
            given => given.to_owned(),
        };
        if Url::parse(&endpoint).ok().is_none_or(|u| !matches!(u.scheme(), "http" | "https") || !u.has_host() || !u.username().is_empty()) {
            return Err(BadOptions::Endpoint(endpoint.rsplit_once('@').map_or(endpoint.clone(), |(_, host)| host.to_owned())));
        }
        let bad = |e: S3Error| BadOptions::Bucket(e.to_string());
        let credentials = Credentials::new(Some(&options.access_key), Some(&options.secret_key), None, None, None)
            .map_err(|e| BadOptions::Bucket(e.to_string()))?;
        let mut bucket = *Bucket::new(&options.bucket, Region::Custom { region: options.region, endpoint }, credentials).map_err(bad)?;
        if options.path_style {
            bucket.set_path_style();
        }
        let open = OpenUploads::in_folder(&options.open_uploads).map_err(BadOptions::Notes)?;
        Ok(Self {
            left: Mutex::new(open.left().map_err(BadOptions::Notes)?),
            open,
            bucket,
            client: client(options.ca_pem.as_deref())?,
            part_size: options.part_size.max(SMALLEST_PART),
            max_rate: options.max_rate,
            pace: options.max_rate.map(|rate| Arc::new(Mutex::new(Pace { bytes_per_second: rate, free_at: Duration::ZERO }))),
            started: Instant::now(),
            learnt: Mutex::new(None),
            checksums: AtomicBool::new(true),
        })
    }

    async fn ask(&self, key: &str, ask: Ask) -> Result<Answer, ObjectStoreError> {
        let ask = Arc::new(ask);
        let limit = match &*ask {
            Ask::List => PROBE_TIMEOUT,
            ask => time_limit(ask.body().len() as u64, self.max_rate),
        };
        let answer = read(self.send(key, &ask, limit).await?).await?;
        let (wall, mono) = (Timestamp::now(), self.started.elapsed());
        let ours = self.signing_time(wall, mono);
        let Some(server) = server_time(answer.status, answer.header("date"), ours) else { return Ok(answer) };
        tracing::warn!(seconds = server.duration_since(ours).as_secs(), "the bucket's clock differs from ours; signing with its time");
        *self.learnt.lock().unwrap_or_else(PoisonError::into_inner) = Some(ServerTime { server, wall, mono });
        read(self.send(key, &ask, limit).await?).await
    }

    async fn send(&self, key: &str, ask: &Arc<Ask>, limit: Duration) -> Result<Response, ObjectStoreError> {
        let body = ask.body();
        let signing = sign(self.bucket.clone(), key.to_owned(), ask.clone(), self.offset());
        // Signing hashes the body three times: tens of milliseconds for a part, too long for a thread of the runtime.
        let signed = if body.len() > PIECE {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || runtime.block_on(signing)).await.map_err(gone)?
        } else {
            signing.await
        };
        let (method, url, headers) = signed.map_err(unsigned)?;
        let mut request = self.client.request(method, url).headers(headers).timeout(limit);
        if !body.is_empty() {
            request = request.body(self.flowing(body));
        }
        request.send().await.map_err(unreachable)
    }

    /// The body in pieces, at the pace of the rate cap.
    fn flowing(&self, body: Body) -> reqwest::Body {
        let (pace, started) = (self.pace.clone(), self.started);
        reqwest::Body::wrap_stream(stream::unfold(0, move |at| {
            let (body, pace) = (body.clone(), pace.clone());
            async move {
                let piece = body.get(at..body.len().min(at + PIECE)).filter(|p| !p.is_empty())?.to_vec();
                if let Some(pace) = pace {
                    let wait = pace.lock().unwrap_or_else(PoisonError::into_inner).book(started.elapsed(), piece.len());
                    tokio::time::sleep(wait).await;
                }
                let next = at + piece.len();
                Some((Ok::<_, std::convert::Infallible>(piece), next))
            }
        }))
    }

    fn signing_time(&self, wall: Timestamp, mono: Duration) -> Timestamp {
        let learnt = *self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        learnt.and_then(|l| l.at(wall, mono)).unwrap_or(wall)
    }

    /// What is added to the device's clock for a signature.
    fn offset(&self) -> SignedDuration {
        let wall = Timestamp::now();
        self.signing_time(wall, self.started.elapsed()).duration_since(wall)
    }
}

impl ObjectStore for S3Bucket {
    fn put<'a>(&'a self, object: &'a PutObject) -> BoxFuture<'a, Result<(), ObjectStoreError>> {
        Box::pin(self.put_file(object))
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ObjectStoreError>> {
        Box::pin(async move {
            let answer = self.ask(key, Ask::Delete).await?;
            let gone = answer.status == 404 && element(&answer.body, "Code").as_deref() != Some("NoSuchBucket");
            if gone { Ok(()) } else { answer.ok().map(drop) }
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ObjectStoreError>> {
        Box::pin(async move { self.ask("", Ask::List).await?.ok().map(drop) })
    }

    fn sweep(&self) -> BoxFuture<'_, Result<(), ObjectStoreError>> {
        Box::pin(self.abort_leftovers())
    }

    fn presign_get<'a>(&'a self, key: &'a str, ttl: Duration) -> BoxFuture<'a, Result<String, ObjectStoreError>> {
        Box::pin(async move {
            let expiry_secs = ttl.as_secs().clamp(1, LONGEST_PRESIGN_S) as u32;
            let command = Command::PresignGet { expiry_secs, custom_queries: None };
            let request = at_server_time(&self.bucket, key, command, self.offset()).await.map_err(unsigned)?;
            request.presigned().await.map_err(unsigned)
        })
    }
}

/// Method, URL and headers with the signature (AWS Signature Version 4).
async fn sign(bucket: Bucket, key: String, ask: Arc<Ask>, offset: SignedDuration) -> Result<(Method, Url, HeaderMap), S3Error> {
    let bucket = match &*ask {
        Ask::Begin { headers, .. } => bucket.with_extra_headers(headers.clone())?,
        _ => bucket,
    };
    let command = ask.command();
    let method = match command.http_verb() {
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Get => Method::GET,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Post => Method::POST,
        HttpMethod::Head => Method::HEAD,
    };
    let request = at_server_time(&bucket, ask.path(&key), command, offset).await?;
    Ok((method, request.url()?, request.headers().await?))
}

async fn at_server_time<'a>(
    bucket: &'a Bucket,
    path: &'a str,
    command: Command<'a>,
    offset: SignedDuration,
) -> Result<ReqwestRequest<'a>, S3Error> {
    let mut request = ReqwestRequest::new(bucket, path, command).await?;
    match offset.is_negative() {
        true => request.datetime -= offset.unsigned_abs(),
        false => request.datetime += offset.unsigned_abs(),
    }
    Ok(request)
}

/// Whether what the options bring along can be used; nothing is asked of the bucket or the disk.
pub fn check(options: &Options) -> Result<(), BadOptions> {
    client(options.ca_pem.as_deref()).map(drop)
}

fn client(ca_pem: Option<&[u8]>) -> Result<Client, BadOptions> {
    let bad = |e: reqwest::Error| BadOptions::Ca(e.to_string());
    let mut builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(UNACKNOWLEDGED)
        // A redirect leads to another host, for which the signature does not hold.
        .redirect(Policy::none());
    if let Some(pem) = ca_pem {
        let certificates = Certificate::from_pem_bundle(pem).map_err(bad)?;
        if certificates.is_empty() {
            return Err(BadOptions::Ca("there is no certificate in it".to_owned()));
        }
        builder = certificates.into_iter().fold(builder.tls_built_in_root_certs(false), |b, c| b.add_root_certificate(c));
    }
    builder.build().map_err(bad)
}

async fn read(mut response: Response) -> Result<Answer, ObjectStoreError> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_ANSWER {
            break;
        }
    }
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// Without the URL (it may be presigned), with the cause at the end of the chain ("connection refused" says more than "error sending").
fn unreachable(error: reqwest::Error) -> ObjectStoreError {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    ObjectStoreError::Unreachable(cause.to_string())
}

fn unsigned(error: S3Error) -> ObjectStoreError {
    ObjectStoreError::Denied(format!("the request cannot be signed: {error}"))
}

fn gone(_: tokio::task::JoinError) -> ObjectStoreError {
    ObjectStoreError::Unreachable("the daemon is stopping".to_owned())
}

//! An HTTP client of the daemon, with somebody else's HTTP library (reqwest), and answers that say what went wrong.

use std::time::Duration;

use reqwest::{
    Method,
    blocking::{Body, RequestBuilder},
    header::HeaderMap,
};
use serde_json::{Value, json};

use super::{JOB, SOON, eventually};

pub const API: &str = "/api/v1";

#[derive(Clone)]
pub struct Client {
    http: reqwest::blocking::Client,
    pub base: String,
    pub token: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    what: String,
}

impl Client {
    pub fn new(base: &str, token: Option<&str>) -> Self {
        let http = reqwest::blocking::Client::builder()
            .timeout(Duration::from_secs(120))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { http, base: base.to_owned(), token: token.map(str::to_owned) }
    }

    /// `path` below `/api/v1`, or from the root when it starts with `/`-less scheme or one of the open paths given as `root:/livez`.
    pub fn url(&self, path: &str) -> String {
        match path.strip_prefix("root:") {
            Some(rest) => format!("{}{rest}", self.base),
            None if path.starts_with("http://") || path.starts_with("https://") => path.to_owned(),
            None => format!("{}{API}{path}", self.base),
        }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, self.url(path));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    #[track_caller]
    pub fn send(&self, request: RequestBuilder) -> Answer {
        match self.try_send(request) {
            Ok(answer) => answer,
            Err(e) => panic!("no answer: {e:?}"),
        }
    }

    /// For tests that kill the daemon: a broken connection is no failure there.
    pub fn try_send(&self, request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let request = request.build()?;
        let what = format!("{} {}", request.method(), request.url());
        let response = self.http.execute(request)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes()?.to_vec(), what })
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path))
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path))
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body))
    }

    #[track_caller]
    pub fn post_keyed(&self, path: &str, key: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).header("Idempotency-Key", key).json(&body))
    }

    #[track_caller]
    pub fn upload(&self, content_type: &str, bytes: impl Into<Body>) -> Answer {
        self.send(self.request(Method::POST, "/photos").header("content-type", content_type).body(bytes))
    }

    /// Uploads a photo that must be taken; its id.
    #[track_caller]
    pub fn photo(&self, bytes: &[u8]) -> String {
        let answer = self.upload(mime(bytes), bytes.to_vec());
        assert!([200, 201].contains(&answer.status), "{answer}");
        answer.json()["id"].as_str().expect("a Photo has an id").to_owned()
    }

    /// The same picture `n` times, each with bytes of its own: no job finds the result of an earlier one.
    #[track_caller]
    pub fn photos(&self, jpeg: &[u8], n: u64) -> Vec<String> {
        (0..n).map(|number| self.photo(&super::eyes::numbered(jpeg, number))).collect()
    }

    /// Submits a photo that must be taken; the job's id.
    #[track_caller]
    pub fn submit(&self, photo_id: &str) -> String {
        self.post("/processing/submit", json!({"photo_id": photo_id})).expect(202).id()
    }

    #[track_caller]
    pub fn submit_default(&self, photo_id: &str) -> String {
        self.post("/processing/submit", json!({"photo_id": photo_id, "lane": "default"})).expect(202).id()
    }

    #[track_caller]
    pub fn job(&self, id: &str) -> Value {
        self.get(&format!("/processing/jobs/{id}")).expect(200).json()
    }

    #[track_caller]
    pub fn total_jobs(&self) -> u64 {
        self.get("/processing/jobs?limit=1").expect(200).json()["total"].as_u64().expect("a total")
    }

    /// Waits for the end of a job, whatever it is.
    #[track_caller]
    pub fn finished(&self, id: &str) -> Value {
        eventually(&format!("job {id} comes to an end"), JOB, || {
            let job = self.job(id);
            ["completed", "failed", "cancelled"].contains(&job["status"].as_str()?).then_some(job)
        })
    }

    #[track_caller]
    pub fn completed(&self, id: &str) -> Value {
        let job = self.finished(id);
        assert_eq!(job["status"], "completed", "{job:#}");
        job
    }

    /// Waits until a job's upload stands there.
    #[track_caller]
    pub fn uploaded(&self, id: &str, within: Duration) -> Value {
        eventually(&format!("job {id} is uploaded"), within, || {
            let job = self.job(id);
            (job["upload_status"] == "uploaded").then_some(job)
        })
    }

    /// Waits until a worker has taken a job.
    #[track_caller]
    pub fn processing(&self, id: &str) -> Value {
        eventually(&format!("job {id} is being processed"), SOON, || {
            let job = self.job(id);
            assert!(["pending", "processing"].contains(&job["status"].as_str().unwrap()), "it ended before it could be seen: {job:#}");
            (job["status"] == "processing").then_some(job)
        })
    }

    /// An address out of an answer: absolute (S3) or of this device.
    pub fn absolute(&self, url: &Value) -> String {
        let url = url.as_str().unwrap_or_else(|| panic!("an address, not {url}"));
        if url.starts_with('/') { format!("{}{url}", self.base) } else { url.to_owned() }
    }
}

pub fn mime(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', ..] => "image/png",
        [b'R', b'I', b'F', b'F', ..] => "image/webp",
        _ => "image/jpeg",
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(2000)]);
        write!(f, "{} -> {} {:?}\n{body}", self.what, self.status, self.headers.get("content-type"))
    }
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {self}"))
    }

    #[track_caller]
    pub fn id(&self) -> String {
        self.json()["id"].as_str().unwrap_or_else(|| panic!("no id: {self}")).to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// A refusal as the contract wants it: the status, problem+json with all its members, sentences for the person.
    #[track_caller]
    pub fn refused(self, status: u16) -> Value {
        self.refused_with(&[status])
    }

    /// Where the contract leaves a choice.
    #[track_caller]
    pub fn refused_with(self, statuses: &[u16]) -> Value {
        assert!(statuses.contains(&self.status), "wanted {statuses:?}: {self}");
        assert!(self.header("content-type").starts_with("application/problem+json"), "{self}");
        assert_eq!(self.header("x-content-type-options"), "nosniff", "a refusal is hardened as every answer is: {self}");
        let problem = self.json();
        check_problem(&problem, self.status);
        problem
    }
}

/// The members of a problem, by the contract.
#[track_caller]
pub fn check_problem(problem: &Value, status: u16) {
    for member in ["type", "title", "status", "detail", "code", "error_type", "message", "suggestion", "request_id"] {
        assert!(problem.get(member).is_some(), "the problem has no {member}: {problem:#}");
    }
    assert_eq!(problem["status"], status, "{problem:#}");
    for member in ["code", "message", "suggestion"] {
        assert!(problem[member].as_str().is_some_and(|s| !s.is_empty()), "{member} says nothing: {problem:#}");
    }
}

//! The keys of the store and the rows that only the store knows.
//!
//! ```text
//! M                        Meta: counters                   d owner 0 sha256      PhotoId: this owner sent these bytes
//! p photo id               domain Photo                     k caller 0 key        Idem: what an Idempotency-Key was answered with
//! j job id                 domain Job                       u seq                 UploadRecord: one thing the bucket is to be told
//! e seq                    domain JobEvent                  w job id              Vec<Seq>: uploads that the job still waits for
//! q                        Seq: the broker confirmed it     c job id              Clear: a retained MQTT state to be cleared
//! ```
//! Ids are 16 raw bytes, seqs 8 bytes big endian: keys sort as the numbers do.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::types::{Answer, Idempotency};
use crate::domain::ids::{JobId, PhotoId, Seq, Sha256, UserId};

pub const META: &[u8] = b"M";
pub const CURSOR: &[u8] = b"q";

fn key(prefix: u8, rest: &[u8]) -> Vec<u8> {
    let mut k = Vec::with_capacity(1 + rest.len());
    k.push(prefix);
    k.extend_from_slice(rest);
    k
}

pub fn photo(id: PhotoId) -> Vec<u8> {
    key(b'p', id.0.as_bytes())
}

pub fn job(id: JobId) -> Vec<u8> {
    key(b'j', id.0.as_bytes())
}

pub fn event(seq: Seq) -> Vec<u8> {
    key(b'e', &seq.0.to_be_bytes())
}

pub fn upload(seq: Seq) -> Vec<u8> {
    key(b'u', &seq.0.to_be_bytes())
}

pub fn awaited(id: JobId) -> Vec<u8> {
    key(b'w', id.0.as_bytes())
}

pub fn clear(id: JobId) -> Vec<u8> {
    key(b'c', id.0.as_bytes())
}

pub fn duplicate(owner: &UserId, sha256: &Sha256) -> Vec<u8> {
    key(b'd', &[owner.as_str().as_bytes(), &[0], &sha256.0].concat())
}

pub fn idempotency(idem: &Idempotency) -> Vec<u8> {
    key(b'k', &[idem.caller.as_str().as_bytes(), &[0], idem.key.as_bytes()].concat())
}

/// The seq at the end of an `e` or `u` key.
pub fn seq_of(key: &[u8]) -> Option<Seq> {
    key.get(1..9).and_then(|b| b.try_into().ok()).map(|b| Seq(u64::from_be_bytes(b)))
}

/// The job id in a `j`, `w` or `c` key.
pub fn job_of(key: &[u8]) -> Option<JobId> {
    uuid::Uuid::from_slice(key.get(1..17)?).ok().map(JobId)
}

/// The next numbers to give out. Never reused: a late answer about an old row must not hit a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub next_row: u64,
    /// Events have a count of their own, so that a reader sees a gap as a gap.
    pub next_event: u64,
}

impl Default for Meta {
    fn default() -> Self {
        Self { next_row: 1, next_event: 1 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Idem {
    pub body: Sha256,
    pub answer: Answer,
    pub at: Timestamp,
}

/// What an upload row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Job(JobId),
    Original(PhotoId),
    /// An object that is to go; nothing here waits for it.
    Deleted,
}

/// Paths are relative to the state folder: it may move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    pub subject: Subject,
    pub s3_key: String,
    /// None: delete the object.
    pub file: Option<UploadFile>,
    pub attempts: u32,
    /// The next attempt, wall time; in this run the monotonic clock counts.
    pub not_before: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadFile {
    pub path: String,
    pub content_type: String,
    pub sha256: Sha256,
    pub bytes: u64,
}

/// A finished job's retained MQTT state is cleared after this long (contract).
pub const STATE_KEPT: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clear {
    /// The job's last event: the state must have been published before it is cleared.
    pub after: Seq,
    pub since: Timestamp,
    pub wait_ms: u64,
}

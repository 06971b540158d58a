//! `Idempotency-Key`: the same key with the same request is answered the same way and does nothing twice.
//!
//! The store remembers what a key was answered with (24 h, over restarts). This room adds the two things that a store cannot see: what "the
//! same request" is (SHA-256 over method, path and content), and that two requests with one key that come at the same time must go one
//! after the other ([`KeyLocks`]).

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::http::{HeaderMap, Method};
use sha2::Digest;
use tokio::sync::{Mutex, MutexGuard};

use super::error::{ApiError, ApiResult, Kind};
use crate::{
    domain::ids::{Sha256, UserId},
    store::Idempotency,
};

const HEADER: &str = "idempotency-key";

/// Characters (contract).
const MAX_KEY: usize = 255;

/// Two keys that share a shard wait for each other needlessly; with this many that is rare.
const SHARDS: usize = 64;

/// Makes requests with the same key wait for each other.
pub struct KeyLocks(Vec<Mutex<()>>);

impl Default for KeyLocks {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::new(())).collect())
    }
}

impl KeyLocks {
    /// Held until the answer is stored. Without a key there is nothing to hold.
    pub async fn hold(&self, idempotency: Option<&Idempotency>) -> Option<MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        let Idempotency { caller, key, .. } = idempotency?;
        (caller, key).hash(&mut hasher);
        Some(self.0[(hasher.finish() % SHARDS as u64) as usize].lock().await)
    }
}

/// The key of these headers, if there is one.
pub fn key(headers: &HeaderMap) -> ApiResult<Option<String>> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=MAX_KEY).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(ApiError::new(Kind::InvalidParameter, format!("Idempotency-Key has 1 to {MAX_KEY} printable ASCII characters"))),
    }
}

/// The key as the store knows it.
pub fn of(key: Option<String>, caller: &UserId, body: Sha256) -> Option<Idempotency> {
    Some(Idempotency { caller: caller.clone(), key: key?, body })
}

/// What makes two requests the same: method, path and content. Lengths stand before the parts, so that no two sets of parts run together.
pub fn fingerprint(method: &Method, path: &str, parts: &[&[u8]]) -> Sha256 {
    let mut hash = sha2::Sha256::new();
    for part in [method.as_str().as_bytes(), path.as_bytes()].iter().chain(parts) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Sha256(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_same_request_has_the_same_fingerprint_and_any_difference_another() {
        let base = fingerprint(&Method::POST, "/a", &[b"x", b"y"]);
        assert_eq!(base, fingerprint(&Method::POST, "/a", &[b"x", b"y"]));
        for other in [
            fingerprint(&Method::PUT, "/a", &[b"x", b"y"]),
            fingerprint(&Method::POST, "/ax", &[b"", b"y"]),
            fingerprint(&Method::POST, "/a", &[b"xy", b""]),
            fingerprint(&Method::POST, "/a", &[b"xy"]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_key_has_1_to_255_characters() {
        let with = |v: &str| HeaderMap::from_iter([(HEADER.parse().expect("a name"), v.parse().expect("a value"))]);
        assert_eq!(key(&HeaderMap::new()).expect("none"), None);
        assert_eq!(key(&with(&"k".repeat(255))).expect("valid").map(|k| k.len()), Some(255));
        assert!(key(&with("")).is_err());
        assert!(key(&with(&"k".repeat(256))).is_err());
    }

    #[tokio::test]
    async fn two_requests_with_one_key_go_one_after_the_other() {
        let locks = KeyLocks::default();
        let one = of(Some("k".into()), &UserId::local(), fingerprint(&Method::POST, "/", &[]));
        let held = locks.hold(one.as_ref()).await;
        assert!(held.is_some());
        let mut second = Box::pin(locks.hold(one.as_ref()));
        assert!(second.as_mut().now_or_never().is_none());
        drop(held);
        assert!(second.await.is_some());
        assert!(locks.hold(None).await.is_none());
    }
}

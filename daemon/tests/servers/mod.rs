//! Real servers on free loopback ports for the adapters' tests: mosquitto as a process, an S3 server (s3s-fs) inside this one.
#![allow(dead_code, clippy::unwrap_used)]

pub mod ca;
pub mod mosquitto;
pub mod proxy;
pub mod s3;

use std::{
    future::Future,
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

/// Longest wait for anything that should happen: generous, because the machine may be busy. Nothing is asserted about speed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Asks again and again until it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The future's value, or a failed test.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

//! What a client waits for, in figures: submits with the store committed, beside the disk's own fsync.
//!
//! `make bench` (cargo bench --bench submit). The state lies below `TMPDIR`: point it at the disk that the figures should be about.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a table on stdout is what it is for

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use common::{daemon::Daemon, eyes, raw};

/// Submits a measurement; enough for a p99 that ten values stand behind.
const SUBMITS: usize = 1000;
const SYNCS: usize = 300;

fn main() {
    let daemon = Daemon::start("[queue]\nmax_pending = 1000000\n");
    println!("state below {}", daemon.dir.path().display());
    println!("\n{:<34}{:>10}{:>10}{:>10}{:>12}", "", "p50 ms", "p99 ms", "max ms", "a second");
    disk(daemon.dir.path());
    for clients in [1, 8, 64] {
        submits(&daemon, clients);
    }
}

fn row(what: &str, mut times: Vec<Duration>, all: Duration) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let rate = times.len() as f64 / all.as_secs_f64();
    println!("{what:<34}{:>10.2}{:>10.2}{:>10.2}{rate:>12.0}", at(0.5), at(0.99), at(1.0));
}

/// The floor that no committed submit can be below: 4 KiB appended and synced.
fn disk(dir: &Path) {
    let path = dir.join("fsync-probe");
    let mut file = File::create(&path).unwrap();
    let begin = Instant::now();
    let times = (0..SYNCS).map(|_| {
        let at = Instant::now();
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        at.elapsed()
    });
    let times: Vec<_> = times.collect();
    row("4 KiB + fdatasync, 1 writer", times, begin.elapsed());
    fs::remove_file(path).unwrap();
}

/// `clients` keep-alive connections that submit one after another. The worker works on the jobs meanwhile, as on a real device.
fn submits(daemon: &Daemon, clients: usize) {
    let photo = daemon.client().photo(&eyes::plain(1, 64, 64));
    let body = json!({"photo_id": photo, "lane": "default"}).to_string();
    let head = raw::head("POST", "/api/v1/processing/submit", &daemon.base, &daemon.token);
    let request = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let begin = Instant::now();
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let (base, request) = (daemon.base.clone(), request.clone());
            thread::spawn(move || {
                let mut stream = raw::connect(&base);
                stream.set_nodelay(true).unwrap();
                let one = |_| {
                    let at = Instant::now();
                    stream.write_all(request.as_bytes()).unwrap();
                    let (status, body) = raw::read_answer(&mut stream, Duration::from_secs(60)).expect("an answer");
                    assert_eq!(status, 202, "{body}");
                    at.elapsed()
                };
                (0..SUBMITS.div_ceil(clients)).map(one).collect::<Vec<_>>()
            })
        })
        .collect();
    let times = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    row(&format!("submit, committed, {clients} client(s)"), times, begin.elapsed());
}

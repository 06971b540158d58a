//! What the benches have in common: a load of requests, the disk's own fsync, and figures of both.
#![allow(dead_code)] // each bench uses a part of it

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::common::{daemon::Daemon, eyes, raw};

const SYNCS: usize = 200;
const ANSWER: Duration = Duration::from_secs(60);

/// Times of single requests, and of all together.
#[derive(Default)]
pub struct Times {
    each: Vec<Duration>,
    all: Duration,
}

impl Times {
    /// ms below which this share of the requests lies.
    pub fn at(&mut self, share: f64) -> f64 {
        self.each.sort_unstable();
        self.each[((self.each.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
    }

    pub fn a_second(&self) -> f64 {
        self.each.len() as f64 / self.all.as_secs_f64()
    }

    pub fn add(&mut self, other: Self) {
        self.each.extend(other.each);
        self.all += other.all;
    }

    pub fn row(&mut self, what: &str) {
        let rate = self.a_second();
        println!("{what:<40}{:>10.2}{:>10.2}{:>10.2}{rate:>12.0}", self.at(0.5), self.at(0.99), self.at(1.0));
    }
}

pub fn header() {
    println!("\n{:<40}{:>10}{:>10}{:>10}{:>12}", "", "p50 ms", "p99 ms", "max ms", "a second");
}

/// The floor that no committed submit can be below: 4 KiB appended and synced.
pub fn fsyncs(dir: &Path) -> Times {
    let path = dir.join("fsync-probe");
    let mut file = File::create(&path).unwrap();
    let one = || {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
    };
    let times = timed(SYNCS, one);
    fs::remove_file(path).unwrap();
    times
}

pub fn timed(n: usize, mut one: impl FnMut()) -> Times {
    let begin = Instant::now();
    let each = (0..n)
        .map(|_| {
            let at = Instant::now();
            one();
            at.elapsed()
        })
        .collect();
    Times { each, all: begin.elapsed() }
}

/// `clients` keep-alive connections that submit one after another, `n` together. The worker works on the jobs meanwhile, as on a device.
pub fn submits(daemon: &Daemon, clients: usize, n: usize) -> Times {
    let photo = daemon.client().photo(&eyes::plain(1, 64, 64));
    let body = json!({"photo_id": photo, "lane": "default"}).to_string();
    let head = raw::head("POST", "/api/v1/processing/submit", &daemon.base, &daemon.token);
    let request = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    asked(&daemon.base, clients, n, 202, move |_| request.clone())
}

/// `GET`s of the paths that `path(n)` gives, over one connection.
pub fn gets(daemon: &Daemon, n: usize, path: impl Fn(usize) -> String + Clone + Send + 'static) -> Times {
    let (base, token) = (daemon.base.clone(), daemon.token.clone());
    let request = move |n| format!("{}\r\n", raw::head("GET", &format!("/api/v1{}", path(n)), &base, &token));
    asked(&daemon.base, 1, n, 200, request)
}

fn asked(base: &str, clients: usize, n: usize, status: u16, request: impl Fn(usize) -> String + Clone + Send + 'static) -> Times {
    let begin = Instant::now();
    let threads: Vec<_> = (0..clients)
        .map(|client| {
            let (base, request) = (base.to_owned(), request.clone());
            thread::spawn(move || {
                let mut stream = raw::connect(&base);
                stream.set_nodelay(true).unwrap();
                let mut at = client;
                timed(n.div_ceil(clients), || {
                    stream.write_all(request(at).as_bytes()).unwrap();
                    let (got, body) = raw::read_answer(&mut stream, ANSWER).expect("an answer");
                    assert_eq!(got, status, "{body}");
                    at += clients;
                })
                .each
            })
        })
        .collect();
    let each = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    Times { each, all: begin.elapsed() }
}

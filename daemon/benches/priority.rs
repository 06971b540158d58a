//! What an interactive job waits for, in figures: one high job behind fifty default ones, ten high ones, and the default lane under a flood.
//!
//! `make bench-priority` (cargo bench --bench priority). Times stand beside the length of one checkpoint of the same photo on the same
//! machine, measured in this process in the same run: ratios, which a busy machine spoils less than milliseconds.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a table on stdout is what it is for

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use irisd::{
    adapters::clock::SystemClock,
    config::{Config, Scope},
    domain::{
        fault::Code,
        photo::Source,
        stage::{Stage, StepMs},
    },
    inference::{
        Engine, Options,
        manifest::{self, Manifest},
    },
    pipeline::{Input, Pipeline, Settings, Stop, Watch},
    ports::ModelError,
};
use serde_json::json;

use common::{
    JOB,
    client::Client,
    daemon::Daemon,
    eyes,
    live::{self, Feed, Live},
};

const SIZE: &str = "1600x1200";
const TRIALS: usize = 10;
/// The same in the daemon's configuration and in this process.
const CONFIG: &str = "[segment]\nmodel = \"classical\"\n[enhance]\nscope = \"photo\"\nmodel = \"lanczos\"\n[quality]\nmode = \"report\"\n";

fn main() {
    let photo = eyes::eye(7, SIZE);
    let gaps = checkpoints(&photo.path);
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let (longest, sum) = (gaps.iter().max().unwrap(), gaps.iter().sum::<Duration>());
    println!("a {SIZE} photo: {} checkpoints in {:.0} ms, the longest way between two {:.1} ms", gaps.len(), ms(sum), ms(*longest));

    let daemon = Daemon::start(CONFIG);
    let client = daemon.client();
    let feed = live::sse(&client, None);
    let mut numbers = 0..;
    // Each job has a photo of its own: none finds the result of an earlier one.
    let mut fresh =
        |n: usize| -> Vec<String> { numbers.by_ref().take(n).map(|i| client.photo(&eyes::numbered(&photo.bytes, i))).collect() };
    client.completed(&client.submit(&fresh(1)[0])); // the disk is warm
    let mut waits: Vec<Duration> = (0..TRIALS).map(|_| behind_fifty(&client, &feed, &fresh(51))).collect();
    waits.sort_unstable();
    let (median, worst) = (waits[TRIALS / 2], waits[TRIALS - 1]);
    println!("\none high job behind 50 default ones, {TRIALS} times: from its submit's answer to its `started`");
    println!("  median {:.1} ms = {:.3} of the longest checkpoint", ms(median), median.as_secs_f64() / longest.as_secs_f64());
    println!("  worst  {:.1} ms = {:.3} of it", ms(worst), worst.as_secs_f64() / longest.as_secs_f64());
    let before = ten_before_the_next(&client, &feed, &fresh(30));
    println!("\nten high jobs behind 20 default ones: {before} default jobs started before the tenth (round-robin: 10 or 11)");
    drop(daemon);

    for ageing in [2u64, 4] {
        let waits = under_a_flood(ageing);
        println!("\ndefault lane under an endless flood of high jobs, ageing {ageing} s; place: wait / (place x ageing)");
        for (place, wait) in (1..).zip(&waits) {
            println!("  {place}: {:.2} s, {:.2}", wait.as_secs_f64(), wait.as_secs_f64() / (place * ageing) as f64);
        }
    }
}

/// The times between the checkpoints of one run.
fn checkpoints(photo: &Path) -> Vec<Duration> {
    #[derive(Default)]
    struct Gaps(Mutex<(Option<Instant>, Vec<Duration>)>);
    impl Watch for Gaps {
        fn enter(&self, _: Stage, _: StepMs) -> Result<(), Stop> {
            Ok(())
        }
        fn checkpoint(&self, _: Stage, _: f32) -> Result<(), Stop> {
            let mut gaps = self.0.lock().unwrap();
            let now = Instant::now();
            if let Some(last) = gaps.0.replace(now) {
                gaps.1.push(now - last);
            }
            Ok(())
        }
    }
    let mut config = Config::default();
    config.segment.model = "classical".into();
    config.enhance.model = "lanczos".into();
    config.enhance.scope = Scope::Photo;
    config.quality.mode = irisd::config::QualityMode::Report;
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights");
    let manifest = Manifest::load(Path::new("/nonexistent"), &weights).unwrap();
    let none = ModelError { code: Code::RuntimeMissing, detail: "none is needed here".into() };
    let engine = Engine::new(manifest, Err(none), Options::default());
    let pipeline = Pipeline::new(Settings::from_config(&config), engine, Arc::new(SystemClock::new()));
    let (dir, gaps) = (tempfile::tempdir().unwrap(), Gaps::default());
    let sha256 = manifest::hash(photo).unwrap();
    let input = Input { photo: photo.to_owned(), sha256, source: Source::Upload, out: dir.path().join("out") };
    pipeline.run(&input, &gaps).unwrap_or_else(|_| panic!("the sample is an eye"));
    gaps.0.into_inner().unwrap().1
}

fn cancel_all(client: &Client, jobs: &[String]) {
    for job in jobs {
        let _ended_already = client.post(&format!("/processing/jobs/{job}/cancel"), json!({}));
    }
    for job in jobs {
        client.finished(job);
    }
}

fn behind_fifty(client: &Client, feed: &Feed, photos: &[String]) -> Duration {
    let defaults: Vec<String> = photos[..50].iter().map(|photo| client.submit_default(photo)).collect();
    client.processing(&defaults[0]);
    let high = client.submit(&photos[50]);
    let began = Instant::now();
    let waited = feed.wait_kind(&high, "started", JOB).at.saturating_duration_since(began);
    client.completed(&high);
    cancel_all(client, &defaults);
    waited
}

/// Default jobs that started between the submit of ten high ones and the start of the last of them.
fn ten_before_the_next(client: &Client, feed: &Feed, photos: &[String]) -> usize {
    let defaults: Vec<String> = photos[..20].iter().map(|photo| client.submit_default(photo)).collect();
    client.processing(&defaults[0]);
    let batch = client.post("/processing/batch", json!({"photo_ids": photos[20..]})).expect(202).json();
    let job = |n: usize| batch["jobs"][n]["id"].as_str().unwrap().to_owned();
    feed.wait_kind(&job(9), "started", JOB);
    let all: Vec<Live> = feed.all().into_iter().filter(Live::is_transition).collect();
    let place = |job: &str, event: &str| all.iter().position(|e| e.data["job_id"] == job && e.data["event"] == event).unwrap();
    let between = &all[place(&job(0), "submitted")..place(&job(9), "started")];
    let count = between.iter().filter(|e| e.data["event"] == "started" && e.data["lane"] == "default").count();
    cancel_all(client, &defaults);
    count
}

/// Waits of four default jobs that came at once, by the device's own times.
fn under_a_flood(ageing: u64) -> Vec<Duration> {
    let daemon = Daemon::start(&format!("[queue]\nageing = \"{ageing}s\"\n"));
    let client = daemon.client();
    let photo = client.photo(&eyes::plain(8, 640, 480));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if client.get("/queue").expect(200).json()["pending"]["high_priority"].as_u64().unwrap() < 30 {
                    client.post("/processing/batch", json!({"photo_ids": vec![photo.clone(); 10]})).expect(202);
                }
            }
        });
        common::eventually("the flood stands", JOB, || {
            (client.get("/queue").expect(200).json()["pending"]["high_priority"].as_u64()? >= 20).then_some(())
        });
        let jobs: Vec<String> = (0..4).map(|_| client.submit_default(&photo)).collect();
        let ends: Vec<_> = jobs.iter().map(|j| client.finished(j)).collect();
        stop.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        let time = |v: &serde_json::Value| v.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        ends.iter().map(|job| Duration::try_from(time(&job["started_at"]).duration_since(time(&job["created_at"]))).unwrap()).collect()
    })
}

//! Who goes first: high jobs before default ones, default ones in the end whatever comes. By the order of the device's events, not by time.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::common::{
    JOB,
    client::Client,
    daemon::Daemon,
    eventually, eyes,
    live::{self, Feed},
};

/// Work that lasts: the whole photo, one thread.
const STEADY: &str = "[enhance]\nscope = \"photo\"\nmodel = \"lanczos\"\n[inference]\nthreads = 1\n[quality]\nmode = \"report\"\n";

/// (event, job) in the order of seq.
fn told(feed: &Feed) -> Vec<(String, String)> {
    let transitions = feed.all().into_iter().filter(live::Live::is_transition);
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    transitions.map(|e| (text(&e.data["event"]), text(&e.data["job_id"]))).collect()
}

#[track_caller]
fn place(told: &[(String, String)], event: &str, job: &str) -> usize {
    told.iter().position(|(e, j)| e == event && j == job).unwrap_or_else(|| panic!("no {event} of {job}: {told:#?}"))
}

fn submit_default(client: &Client, photos: &[String]) -> Vec<String> {
    photos.iter().map(|photo| client.submit_default(photo)).collect()
}

#[test]
fn one_high_job_behind_fifty_default_ones_is_the_next_to_start_and_the_one_in_work_stands_still_for_it() {
    let daemon = Daemon::start(STEADY);
    let client = daemon.client();
    let feed = live::sse(&client, None);
    let photos = client.photos(&eyes::eye(81, "1200x900").bytes, 51);
    let defaults = submit_default(&client, &photos[..50]);
    client.processing(&defaults[0]);
    let high = client.submit(&photos[50]);
    feed.wait_kind(&high, "completed", JOB);
    let told = told(&feed);
    let (submitted, started, completed) =
        (place(&told, "submitted", &high), place(&told, "started", &high), place(&told, "completed", &high));
    let begun = |part: &[(String, String)]| part.iter().filter(|(e, j)| e == "started" && *j != high).count();
    assert_eq!(begun(&told[submitted..started]), 0, "a default job started before it: {told:#?}");
    assert_eq!(begun(&told[started..completed]), 0, "a default job started beside it: {told:#?}");
    // The one in work may have been at its very last checkpoint; nothing else of the fifty gets on meanwhile.
    let ended = told[submitted..completed].iter().filter(|(e, j)| e == "completed" && *j != high).count();
    assert!(ended <= 1, "{ended} default jobs got on while the high one waited and ran: {told:#?}");
    assert!(told[..submitted].iter().filter(|(e, _)| e == "started").count() < 50, "the queue was empty before the high job came");
}

#[test]
fn ten_high_jobs_all_start_before_the_next_default_one_and_keep_their_order() {
    let daemon = Daemon::start(STEADY);
    let client = daemon.client();
    let feed = live::sse(&client, None);
    let photos = client.photos(&eyes::small_eye(82), 21);
    let defaults = submit_default(&client, &photos[..11]);
    client.processing(&defaults[0]);
    let batch = client.post("/processing/batch", json!({"photo_ids": photos[11..]})).expect(202).json();
    let highs: Vec<String> = batch["jobs"].as_array().unwrap().iter().map(|j| j["id"].as_str().unwrap().to_owned()).collect();
    feed.wait_kind(highs.last().unwrap(), "completed", JOB);
    feed.wait_kind(defaults.last().unwrap(), "completed", JOB);
    let told = told(&feed);
    let came = place(&told, "submitted", &highs[0]);
    let started: Vec<&str> = told[came..].iter().filter(|(e, _)| e == "started").map(|(_, j)| j.as_str()).collect();
    assert_eq!(started[..10], highs.iter().map(String::as_str).collect::<Vec<_>>(), "{told:#?}");
    let defaults_started: Vec<&str> =
        told.iter().filter(|(e, j)| e == "started" && defaults.contains(j)).map(|(_, j)| j.as_str()).collect();
    assert_eq!(defaults_started, defaults.iter().map(String::as_str).collect::<Vec<_>>(), "the lane keeps its order");
}

#[test]
fn under_endless_high_load_every_default_job_gets_its_turn() {
    // Pictures without an eye: each job is short, and the flood can go on.
    let daemon = Daemon::start("[queue]\nageing = \"2s\"\n");
    let client = daemon.client();
    let feed = live::sse(&client, None);
    let photo = client.photo(&eyes::plain(83, 640, 480));
    let defaults = {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let flood = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let waiting = client.get("/queue").expect(200).json()["pending"]["high_priority"].as_u64().unwrap();
                    if waiting < 20 {
                        let body = json!({"photo_ids": vec![photo.clone(); 10]});
                        client.post("/processing/batch", body).expect(202);
                    }
                }
            });
            eventually("the flood stands", JOB, || {
                (client.get("/queue").expect(200).json()["pending"]["high_priority"].as_u64()? >= 10).then_some(())
            });
            let defaults = submit_default(&client, &vec![photo.clone(); 4]);
            for job in &defaults {
                feed.wait_kind(job, "failed", JOB);
            }
            stop.store(true, Ordering::Relaxed);
            flood.join().unwrap();
            defaults
        })
    };
    let told = told(&feed);
    for pair in defaults.windows(2) {
        let (one, next) = (place(&told, "started", &pair[0]), place(&told, "started", &pair[1]));
        let highs = told[one..next].iter().filter(|(e, j)| e == "started" && !defaults.contains(j)).count();
        assert!(highs > 0, "the default lane went first: {told:#?}");
    }
    // High jobs waited the whole time: the flood was there to the last default job's start.
    let last = place(&told, "started", &defaults[3]);
    let count = |event: &str| told[..last].iter().filter(|(e, j)| e == event && !defaults.contains(j)).count();
    assert!(count("submitted") > count("started"), "no high job waited when the last default one started");
}

#[test]
fn an_interactive_job_without_memory_beside_a_default_one_gets_its_place_and_the_default_one_is_done_later() {
    // 2400 x 1800 px need some 97 MiB: one fits, two do not.
    let daemon = Daemon::start(&format!("{STEADY}[queue]\nmemory = \"150MiB\"\n"));
    let client = daemon.client();
    let feed = live::sse(&client, None);
    let photos = client.photos(&eyes::eye(84, "2400x1800").bytes, 2);
    let before = resident_kib(daemon.pid(), "VmRSS:");
    let default = client.submit_default(&photos[0]);
    client.processing(&default);
    let high = client.submit(&photos[1]);
    for job in [&high, &default] {
        client.completed(job);
    }
    feed.wait_kind(&default, "completed", JOB);
    let told = told(&feed);
    assert!(place(&told, "completed", &high) < place(&told, "completed", &default), "{told:#?}");
    assert!(place(&told, "started", &high) < place(&told, "retried", &default), "the default job was put back: {told:#?}");
    let job = client.job(&default);
    assert_eq!((&job["attempt"], &job["crashes"], &job["transient_retries"]), (&json!(2), &json!(0), &json!(0)), "{job:#}");
    let grown = resident_kib(daemon.pid(), "VmHWM:").saturating_sub(before) / 1024;
    assert!(grown <= 150, "two jobs made the daemon grow by {grown} MiB");
}

#[test]
fn a_waiting_job_tells_its_place_and_its_time_and_the_time_of_a_running_one_only_falls() {
    let daemon = Daemon::start(STEADY);
    let client = daemon.client();
    let jobs = submit_default(&client, &client.photos(&eyes::eye(85, "1200x900").bytes, 4));
    let first = client.processing(&jobs[0]);
    assert!(first["eta_ms"].as_u64().is_some(), "a figure even on an empty history: {first:#}");
    let waiting: Vec<Value> = jobs[1..].iter().map(|j| client.job(j)).collect();
    if waiting.iter().all(|j| j["status"] == "pending") {
        let etas: Vec<u64> = waiting.iter().map(|j| j["eta_ms"].as_u64().unwrap()).collect();
        assert!(etas.is_sorted() && etas[0] < etas[2], "who is further back waits longer: {etas:?}");
        assert_eq!(waiting.iter().map(|j| j["queue_position"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    }
    let mut last = u64::MAX;
    eventually("the second job ends", JOB, || {
        let job = client.job(&jobs[1]);
        if job["status"] == "processing" {
            let eta = job["eta_ms"].as_u64().unwrap();
            assert!(eta <= last, "{eta} ms after {last} ms: {job:#}");
            last = eta;
        }
        (job["status"] == "completed").then_some(())
    });
    assert!(last < u64::MAX, "it was never seen at work");
    assert!(client.completed(&jobs[3])["eta_ms"].is_null());
}

fn resident_kib(pid: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|l| l.strip_prefix(line)).unwrap();
    value.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[test]
fn the_pace_is_known_again_after_a_restart() {
    let mut daemon = Daemon::start(STEADY);
    let client = daemon.client();
    let photos = client.photos(&eyes::eye(86, "1200x900").bytes, 3);
    let took = client.completed(&client.submit(&photos[0]))["processing_time_ms"].as_u64().unwrap();
    assert!(daemon.stop_within(Duration::from_secs(60)).success());
    daemon.restart();
    let client = daemon.client();
    let blocker = client.submit(&photos[1]);
    let waiting = client.submit(&photos[2]);
    let job = client.job(&waiting);
    if job["status"] == "pending" {
        // Itself and what is left of the one before it: between one and a bit more than two times what such a job took.
        let eta = job["eta_ms"].as_u64().unwrap();
        assert!((took / 2..=3 * took).contains(&eta), "{eta} ms expected where one such job took {took} ms");
    }
    client.completed(&blocker);
    client.completed(&waiting);
}

/// Name and nice value of each thread of the process (proc(5), the 2nd and 19th field of stat).
fn threads(pid: u32) -> Vec<(String, i32)> {
    let task = |dir: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(dir.path().join("stat")).ok()?;
        let (before, after) = stat.rsplit_once(')')?;
        Some((before.split_once('(')?.1.to_owned(), after.split_whitespace().nth(16)?.parse().ok()?))
    };
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(|dir| task(dir.unwrap())).collect()
}

#[test]
fn threads_that_compute_give_way_to_those_that_answer() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    client.completed(&client.submit(&client.photo(&eyes::small_eye(77))));
    let threads = threads(daemon.pid());
    let nice = |name: &str| -> Vec<i32> { threads.iter().filter(|(n, _)| n.starts_with(name)).map(|(_, nice)| *nice).collect() };
    let computing = nice("pixels-");
    assert!(!computing.is_empty() && computing.iter().all(|n| *n == 10), "{threads:?}");
    assert!(nice("pipeline-").iter().chain(&nice("model-")).all(|n| *n == 10), "{threads:?}");
    for answering in ["irisd-io", "committer", "indexer"] {
        let answering = nice(answering);
        assert!(!answering.is_empty() && answering.iter().all(|n| *n == 0), "{threads:?}");
    }
}

//! A wall clock that starts in 1970 and jumps, under the real daemon: libfaketime moves the wall clock alone.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;

use crate::{
    checks,
    common::{JOB, SOON, broker::Broker, daemon::Daemon, eventually, eyes, live},
};

/// Where Debian puts it (`apt-get install libfaketime`).
const LIBRARIES: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];

/// A daemon whose wall clock follows the file; the monotonic one goes on as ever.
fn with_clock(extra: &str, time: &Path) -> Option<Daemon> {
    let library = LIBRARIES.iter().find(|path| Path::new(path).exists())?;
    let mut daemon = Daemon::prepare(extra);
    daemon.environment = vec![
        ("LD_PRELOAD".to_owned(), (*library).to_owned()),
        ("FAKETIME_TIMESTAMP_FILE".to_owned(), time.display().to_string()),
        ("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
    ];
    daemon.restart();
    Some(daemon)
}

/// The device's own idea of the time; waits until it is in that year.
#[track_caller]
fn in_year(daemon: &Daemon, year: &str) {
    eventually(&format!("the device is in {year}"), SOON, || {
        let device: Value = daemon.client().get("/device").expect(200).json();
        device["time"].as_str()?.starts_with(year).then_some(())
    });
}

#[test]
fn a_device_that_boots_in_1970_and_jumps_by_ten_years_either_way_loses_nothing_and_keeps_its_order() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let time = dir.path().join("time");
    fs::write(&time, "@1970-01-01 00:10:00\n").unwrap();
    let Some(mut daemon) = with_clock(&broker.config(), &time) else {
        eprintln!("SKIPPED: libfaketime is not installed");
        return;
    };
    in_year(&daemon, "1970");
    let feed = live::sse(&daemon.client(), None);
    let photo = daemon.client().photo(&eyes::small_eye(131));
    let keyed = |daemon: &Daemon, key: &str| {
        daemon.client().post_keyed("/processing/submit", key, serde_json::json!({"photo_id": photo})).expect(202).id()
    };
    let mut jobs = Vec::new();
    for (year, at) in [
        ("1970", None),
        ("2026", Some("@2026-06-01 08:00:00")),
        ("2036", Some("@2036-06-01 08:00:00")),
        ("2016", Some("@2016-06-01 08:00:00")),
    ] {
        if let Some(at) = at {
            fs::write(&time, format!("{at}\n")).unwrap();
            in_year(&daemon, year);
        }
        let job = keyed(&daemon, year);
        daemon.client().completed(&job);
        jobs.push((year, job));
    }
    for (year, job) in &jobs {
        assert_eq!(keyed(&daemon, year), *job, "the key of {year} is known");
        assert_eq!(daemon.client().job(job)["status"], "completed");
        checks::events_are_in_order(&feed.kinds(job), "completed", false);
        assert!(broker.retained(&format!("irisd/box-1/job/{job}/state")).is_some(), "the state of a job of {year} stands");
    }
    let listed = daemon.client().get("/processing/jobs?limit=10").expect(200).json();
    let listed: Vec<&str> = listed["items"].as_array().unwrap().iter().rev().map(|j| j["id"].as_str().unwrap()).collect();
    assert_eq!(listed, jobs.iter().map(|(_, job)| job.as_str()).collect::<Vec<_>>(), "the order is that of their coming");
    let seqs: Vec<u64> = feed.all().iter().filter_map(|e| e.id).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");

    assert!(daemon.stop_within(Duration::from_secs(60)).success());
    fs::write(&time, "@1970-01-01 00:10:00\n").unwrap();
    daemon.restart();
    in_year(&daemon, "1970");
    for (year, job) in &jobs {
        assert_eq!(keyed(&daemon, year), *job, "the key of {year} is known after a start in 1970");
    }
    eventually("a new photo finds its way", JOB, || {
        let job = daemon.client().submit(&photo);
        (daemon.client().finished(&job)["status"] == "completed").then_some(())
    });
}

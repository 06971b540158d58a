//! Short forms of what `make torture-*` does for hours: the same programs, some seconds each.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a panic is how a test fails; what a run did is a table on stdout

mod audit;
#[path = "../common/mod.rs"]
mod common;
mod damage;
mod disk;
mod full;
mod guest;
mod heard;
mod kill;
mod ledger;
mod load;
mod pixels;
mod power;
mod proc;
mod scene;
mod soak;
mod writelog;
mod writes;

use std::time::Duration;

/// What a run found wrong.
#[track_caller]
fn held(faults: &[String]) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn half_a_minute_of_a_mixed_day_loses_no_event_and_answers_every_request() {
    let work = tempfile::tempdir().unwrap();
    let plan = soak::Plan {
        work: work.path().to_owned(),
        seed: 1,
        length: Duration::from_secs(25),
        warm_up: Duration::ZERO,
        every: Duration::from_millis(500),
        rate: 1.0,
    };
    held(&soak::run(&plan).faults);
}

#[test]
fn nothing_is_lost_and_nothing_doubled_in_thirty_kills_with_broker_and_bucket_up() {
    let work = tempfile::tempdir().unwrap();
    let plan = kill::Plan { work: work.path().to_owned(), seed: 1, kills: 30, deep_every: 15 };
    held(&kill::run(&plan));
}

#[test]
fn faults_of_the_disk_lose_nothing_that_was_answered_for() {
    let work = tempfile::tempdir().unwrap();
    held(&disk::run(&disk::Plan { work: work.path().to_owned(), every: 13 }));
}

#[test]
fn nothing_that_was_answered_for_is_lost_when_the_plug_is_pulled() {
    let work = tempfile::tempdir().unwrap();
    let plan = power::Plan { work: work.path().to_owned(), seed: 1, cuts: 2, deep_every: 10 };
    match power::run(&plan) {
        Some(faults) => held(&faults),
        None => eprintln!("SKIPPED: no QEMU, or no kernel for it (make torture-power brings both)"),
    }
}

#[test]
fn pictures_that_no_camera_makes_end_in_a_result_or_a_clear_fault() {
    let work = tempfile::tempdir().unwrap();
    held(&pixels::run(&pixels::Plan { work: work.path().to_owned(), seed: 1, pictures: 1000 }));
}

#[test]
fn the_slope_of_a_line_is_found_under_noise() {
    let points: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), 3.0 + 0.5 * f64::from(i) + f64::from(i % 2))).collect();
    assert!((proc::slope(&points) - 0.5).abs() < 0.001, "{}", proc::slope(&points));
    assert_eq!(proc::slope(&[(1.0, 2.0)]), 0.0);
}

#[test]
fn the_order_of_events_is_told_from_a_wrong_one() {
    let kinds = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for (text, end, uploaded) in [
        ("submitted started completed uploaded", "completed", heard::Uploaded::Must),
        ("submitted started retried retried completed", "completed", heard::Uploaded::May),
        ("submitted cancelled", "cancelled", heard::Uploaded::Never),
        ("submitted started failed", "failed", heard::Uploaded::Never),
    ] {
        assert!(heard::is_in_order(&kinds(text), end, uploaded), "{text}");
    }
    for (text, end, uploaded) in [
        ("submitted started completed", "completed", heard::Uploaded::Must),
        ("submitted started completed uploaded", "completed", heard::Uploaded::Never),
        ("started submitted completed", "completed", heard::Uploaded::May),
        ("submitted completed", "completed", heard::Uploaded::May),
        ("submitted started started completed", "completed", heard::Uploaded::May),
        ("submitted started completed completed", "completed", heard::Uploaded::May),
        ("submitted started", "completed", heard::Uploaded::May),
        ("started completed", "completed", heard::Uploaded::May),
    ] {
        assert!(!heard::is_in_order(&kinds(text), end, uploaded), "{text}");
    }
}

#[test]
fn a_gap_and_a_seq_with_two_meanings_are_heard() {
    let say = |ear: &mut heard::Heard, seq: u64, event: &str| {
        let payload = format!("{{\"seq\": {seq}, \"job_id\": \"a\", \"event\": \"{event}\"}}");
        ear.take(&common::broker::Message { topic: "irisd/box-1/job/event".into(), payload, retained: false, qos: 1 });
    };
    let mut ear = heard::Heard::default();
    say(&mut ear, 5, "submitted");
    say(&mut ear, 6, "started");
    say(&mut ear, 6, "started");
    assert_eq!((ear.wrong.len(), ear.repeats, ear.kinds("a").len()), (0, 1, 2));
    say(&mut ear, 6, "completed");
    assert_eq!(ear.wrong.len(), 1);
    say(&mut ear, 8, "completed");
    assert_eq!(ear.wrong.len(), 2);
}

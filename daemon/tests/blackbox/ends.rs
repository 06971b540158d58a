//! How jobs end before their time: cancelled in any step, out of time, stuck. The device goes on, and nothing of them is left on its disk.

use std::{fs, os::unix::fs::OpenOptionsExt, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::{
    checks,
    common::{
        JOB, SOON,
        client::Client,
        daemon::Daemon,
        eventually, eyes, files,
        live::{self, STEPS},
    },
    kills::{SLOW, SLOW_SIZE, TRIES, seen_in},
};

/// Nothing of the job is on the disk, nor anything unfinished.
#[track_caller]
fn left_nothing(daemon: &Daemon, job: &str) {
    eventually(&format!("everything of {job} is gone"), SOON, || {
        let gone = files::temporary(&daemon.state).is_empty() && !files::result_folders(&daemon.state).iter().any(|f| f.contains(job));
        gone.then_some(())
    });
}

/// Submits until a cancel comes while a job is in `step`; that job.
#[track_caller]
fn cancelled_in(client: &Client, eye: &[u8], step: &str) -> String {
    for number in 0..TRIES {
        let job = client.submit(&client.photo(&eyes::numbered(eye, number)));
        if seen_in(client, &job, step) {
            let shown = client.job(&job)["progress"].as_u64();
            let answer = client.post(&format!("/processing/jobs/{job}/cancel"), json!({}));
            if answer.status == 200 {
                let end = answer.json();
                assert_eq!(end["status"], "cancelled");
                assert!(end["progress"].as_u64() >= shown, "progress fell from {shown:?}: {end:#}");
                return job;
            }
            answer.refused(409); // it had just ended
        }
        client.finished(&job);
    }
    panic!("{step} is too short to be cancelled in with a {SLOW_SIZE} photo");
}

#[test]
fn a_job_that_is_cancelled_in_any_step_stays_cancelled_and_leaves_nothing_behind() {
    let daemon = Daemon::start(SLOW);
    let client = daemon.client();
    let feed = live::sse(&client, None);
    for (seed, step) in (91..).zip(STEPS) {
        let job = cancelled_in(&client, &eyes::eye(seed, SLOW_SIZE).bytes, step);
        left_nothing(&daemon, &job);
        feed.wait_kind(&job, "cancelled", SOON);
        checks::events_are_in_order(&feed.kinds(&job), "cancelled", false);
        let end = client.job(&job);
        assert_eq!(
            (&end["status"], &end["result_url"], &end["upload_status"]),
            (&json!("cancelled"), &Value::Null, &json!("off")),
            "{end:#}"
        );
    }
    client.completed(&client.submit(&client.photo(&eyes::small_eye(92))));
}

#[test]
fn a_job_that_is_cancelled_among_the_tiles_of_a_network_stops_at_the_next_one() {
    if std::env::var("IRISD_TEST_ONNXRUNTIME").is_err() {
        eprintln!("SKIPPED: IRISD_TEST_ONNXRUNTIME names no runtime library, no network runs");
        return;
    }
    let daemon =
        Daemon::start("[enhance]\nscope = \"photo\"\nmodel = \"realesr-animevideov3-x4\"\ntile = 64\n[quality]\nmode = \"report\"\n");
    let client = daemon.client();
    let photo = client.photo(&eyes::eye(93, "1200x900").bytes);
    let job = client.submit(&photo);
    let at_work = eventually("tiles are being made", JOB, || {
        let job = client.job(&job);
        assert!(["pending", "processing"].contains(&job["status"].as_str()?), "{job:#}");
        (job["current_step"] == "enhance" && job["progress"].as_u64()? > 61).then_some(job)
    });
    assert!(at_work["progress"].as_u64().unwrap() < 80, "hundreds of tiles were to come: {at_work:#}");
    client.post(&format!("/processing/jobs/{job}/cancel"), json!({})).expect(200);
    left_nothing(&daemon, &job);
    // The slot is free again: another job of the same lane starts.
    let next = client.submit(&photo);
    client.processing(&next);
    client.post(&format!("/processing/jobs/{next}/cancel"), json!({})).expect(200);
    left_nothing(&daemon, &next);
}

#[test]
fn a_job_above_its_time_limit_is_retried_once_and_then_fails_and_leaves_nothing_behind() {
    let daemon = Daemon::start(
        "[enhance]\nscope = \"photo\"\nmodel = \"lanczos\"\n[inference]\nthreads = 1\n[quality]\nmode = \"report\"\n[queue]\njob_timeout = \"1s\"\n",
    );
    let client = daemon.client();
    let job = client.submit(&client.photo(&eyes::eye(94, "4000x3000").bytes));
    let mut last = (0, 0);
    let end = eventually("the job ends", JOB, || {
        let job = client.job(&job);
        let now = (job["attempt"].as_u64()?, job["progress"].as_u64()?);
        assert!(now >= last, "within an attempt progress fell from {last:?}: {job:#}");
        last = now;
        (job["status"] == "failed").then_some(job)
    });
    assert_eq!((&end["status"], &end["error_code"]), (&json!("failed"), &json!("job_timeout")), "{end:#}");
    assert!(end["step_ms"]["load"].as_u64() > Some(0) && end["processing_time_ms"].as_u64() > Some(0), "it did work: {end:#}");
    assert_eq!((&end["transient_retries"], &end["attempt"], &end["retryable"]), (&json!(1), &json!(2), &json!(true)), "{end:#}");
    left_nothing(&daemon, &job);
}

#[test]
fn a_job_that_is_stuck_inside_one_step_is_given_up_and_what_comes_back_late_changes_nothing() {
    let mut daemon = Daemon::start("[queue]\njob_timeout = \"1s\"\n");
    let client = daemon.client();
    let bytes = eyes::small_eye(95);
    let photo = client.photo(&bytes);
    // A pipe in the place of the original: whoever reads it waits for ever, as on a disk or a network drive that does not answer.
    let hash = checks::sha256(&bytes);
    let blob = daemon.state.join("blobs").join(&hash[..2]).join(&hash);
    fs::remove_file(&blob).unwrap();
    assert!(Command::new("mkfifo").arg(&blob).status().unwrap().success());

    let stuck = client.submit(&photo);
    client.processing(&stuck);
    let behind = client.submit(&client.photo(&eyes::plain(95, 320, 240)));
    client.finished(&behind);
    let end = client.finished(&stuck);
    assert_eq!(
        (&end["status"], &end["error_code"], &end["transient_retries"]),
        (&json!("failed"), &json!("job_timeout"), &json!(1)),
        "{end:#}"
    );
    assert!(daemon.is_running());

    // Two threads still wait for the pipe. They wake up, and nobody listens to what they say.
    let writer = fs::OpenOptions::new().write(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open(&blob).unwrap();
    drop(writer);
    client.finished(&client.submit(&client.photo(&eyes::plain(96, 320, 240))));
    // Links are signed anew each time.
    let lasting = |mut job: Value| {
        job.as_object_mut().unwrap().retain(|key, _| !["original_url", "urls_expire_at"].contains(&key.as_str()));
        job
    };
    assert_eq!(lasting(client.job(&stuck)), lasting(end));
    left_nothing(&daemon, &stuck);
    assert!(daemon.stop_within(Duration::from_secs(60)).success());
}

#[test]
fn what_a_killed_process_left_of_a_cancelled_and_a_failed_job_is_swept_at_the_next_start() {
    let mut daemon = Daemon::start(&format!("{SLOW}[queue]\ncrash_limit = 1\n"));
    let client = daemon.client();
    let photo = client.photo(&eyes::eye(97, SLOW_SIZE).bytes);
    let job = client.submit(&photo);
    assert!(seen_in(&client, &job, "enhance"), "{:#}", client.job(&job));
    eventually("a part of the result is on the disk", JOB, || (!files::temporary(&daemon.state).is_empty()).then_some(()));
    daemon.kill9();
    daemon.restart();
    let end = daemon.client().finished(&job);
    assert_eq!((&end["status"], &end["error_code"]), (&json!("failed"), &json!("poison_photo")), "{end:#}");
    left_nothing(&daemon, &job);
}

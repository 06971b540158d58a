//! `kill -9` and SIGTERM in the middle of the work: what was acknowledged is finished, once.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    checks,
    common::{Dice, JOB, broker::Broker, bucket::Bucket, client::Client, daemon::Daemon, eventually, eyes, files},
};

/// A photo and settings that make every step last: 3 MP, the whole photo enlarged, one thread.
pub const SLOW: &str = "[enhance]\nscope = \"photo\"\nmodel = \"lanczos\"\n[inference]\nthreads = 1\n[quality]\nmode = \"report\"\n";
pub const SLOW_SIZE: &str = "2000x1500";
/// How often a step is tried to be hit before we say that it cannot be.
pub const TRIES: u64 = 12;

/// Asks without a pause until the job is seen in `step`. False: it went past.
pub fn seen_in(client: &Client, job: &str, step: &str) -> bool {
    let end = Instant::now() + JOB;
    loop {
        let now = client.job(job);
        match now["status"].as_str().unwrap() {
            "pending" => {}
            "processing" if now["current_step"] == step => return true,
            "processing" => {}
            _ => return false,
        }
        assert!(Instant::now() < end, "job {job} neither reaches {step} nor ends: {now:#}");
    }
}

/// Kills the daemon while a job is in `step`, starts it again, and looks at what became of the job.
fn a_job_survives_a_kill_in(step: &str) {
    let mut daemon = Daemon::start(SLOW);
    let eye = eyes::eye(61, SLOW_SIZE).bytes;
    let mut missed = 0;
    loop {
        let photo = daemon.client().photo(&eyes::numbered(&eye, missed)); // the same one would find its earlier result
        let job = daemon.client().submit(&photo);
        if seen_in(&daemon.client(), &job, step) {
            daemon.kill9();
            daemon.restart();
            let done = daemon.client().completed(&job);
            if done["crashes"].as_u64() >= Some(1) {
                assert_eq!((&done["crashes"], &done["attempt"]), (&json!(1), &json!(2)), "one death, two starts: {done:#}");
                assert_eq!(done["transient_retries"], 0, "a crash does not use up the automatic retry");
                finished_once(&daemon, &job);
                return;
            }
        }
        missed += 1; // it was over before the kill came
        eprintln!("{step}: missed it {missed} times");
        assert!(missed < TRIES, "{step} is too short to be hit with a {SLOW_SIZE} photo");
        daemon.client().completed(&job);
    }
}

#[track_caller]
pub fn finished_once(daemon: &Daemon, job: &str) {
    checks::results_are_whole(&daemon.state, job);
    let folders = files::result_folders(&daemon.state);
    assert_eq!(folders.iter().filter(|f| f.contains(job)).count(), 1, "{folders:?}");
    eventually("no temporary file is left", Duration::from_secs(10), || files::temporary(&daemon.state).is_empty().then_some(()));
}

#[test]
fn killed_in_load_the_job_completes_after_the_restart() {
    a_job_survives_a_kill_in("load");
}

#[test]
fn killed_in_segment_the_job_completes_after_the_restart() {
    a_job_survives_a_kill_in("segment");
}

#[test]
fn killed_in_reflections_the_job_completes_after_the_restart() {
    a_job_survives_a_kill_in("reflections");
}

#[test]
fn killed_in_enhance_the_job_completes_after_the_restart() {
    a_job_survives_a_kill_in("enhance");
}

#[test]
fn killed_in_save_the_job_completes_after_the_restart() {
    a_job_survives_a_kill_in("save");
}

#[test]
fn killed_at_random_moments_the_job_has_one_set_of_results_in_the_bucket_and_ordered_events() {
    let (broker, bucket) = (Broker::start(), Bucket::start());
    let collector = broker.collect(&["irisd/#"]);
    let mut daemon = Daemon::start(&format!("{}{}[queue]\ncrash_limit = 100\n", broker.config(), bucket.config()));
    let mut dice = Dice::new(62);
    let jobs: Vec<String> = (0..3).map(|i| daemon.client().submit(&daemon.client().photo(&eyes::eye(62 + i, "1600x1200").bytes))).collect();
    let mut hit = Vec::new();
    for _ in 0..8 {
        let end = Instant::now() + Duration::from_millis(20 + dice.roll(700));
        let mut last = String::new();
        while Instant::now() < end {
            for job in &jobs {
                if let Some(step) = daemon.client().job(job)["current_step"].as_str() {
                    step.clone_into(&mut last);
                }
            }
        }
        hit.push(last);
        daemon.kill9();
        daemon.restart();
    }
    eprintln!("steps last seen before the kills: {hit:?}");
    for job in &jobs {
        daemon.client().completed(job);
        daemon.client().uploaded(job, JOB);
        finished_once(&daemon, job);
        collector.wait_event(job, "uploaded", JOB);
        checks::events_are_in_order(&collector.kinds(job), "completed", true);
    }
    checks::seq_rises(&collector.events());
    assert_eq!(bucket.keys_below("processed/").len(), 3 * jobs.len());
    assert_eq!(files::result_folders(&daemon.state).len(), jobs.len());
}

#[test]
fn a_photo_that_kills_the_process_again_and_again_is_set_aside() {
    let mut daemon = Daemon::start(&format!("{SLOW}[queue]\ncrash_limit = 2\n"));
    let client = daemon.client();
    let job = client.submit(&client.photo(&eyes::eye(63, SLOW_SIZE).bytes));
    // The longest step. On a busy machine a kill may come when it is over; then two in a row are still to come.
    let mut kills = 0;
    while kills < 10 && seen_in(&daemon.client(), &job, "enhance") {
        daemon.kill9();
        daemon.restart();
        kills += 1;
    }
    let end = daemon.client().finished(&job);
    assert_eq!((&end["status"], &end["error_type"]), (&json!("failed"), &json!("server_error")), "{end:#}");
    assert_eq!((&end["error_code"], &end["crashes"]), (&json!("poison_photo"), &json!(kills)), "{end:#}");
    assert!(kills >= 2, "{end:#}");
    // It stands in nobody's way, and the photo is kept.
    let client = daemon.client();
    client.get(&format!("/photos/{}/image", end["photo_id"].as_str().unwrap())).expect(200);
    client.completed(&client.submit(&client.photo(&eyes::small_eye(64))));
}

#[test]
fn sigterm_in_the_middle_of_a_job_ends_cleanly_and_the_job_is_finished_later() {
    let mut daemon = Daemon::start(SLOW);
    let client = daemon.client();
    let job = client.submit(&client.photo(&eyes::eye(65, SLOW_SIZE).bytes));
    let waiting = client.submit(&client.photo(&eyes::small_eye(66)));
    client.processing(&job);
    let status = daemon.stop_within(Duration::from_secs(45));
    assert_eq!(status.code(), Some(0), "a clean end");
    assert!(files::temporary(&daemon.state).is_empty(), "{:?}", files::temporary(&daemon.state));
    daemon.restart();
    for id in [&job, &waiting] {
        let done = daemon.client().completed(id);
        assert_eq!((&done["crashes"], &done["transient_retries"]), (&json!(0), &json!(0)), "a shutdown is no crash: {done:#}");
        finished_once(&daemon, id);
    }
}

//! The network fails, the work does not: bucket and broker away, together and one by one, over restarts too.

use std::time::Duration;

use serde_json::json;

use crate::{
    checks,
    common::{JOB, SOON, broker::Broker, bucket::Bucket, daemon::Daemon, eventually, eyes},
};

/// "Objects there within a minute after the bucket is back."
const BACK: Duration = Duration::from_secs(60);

#[test]
fn with_the_bucket_away_the_job_completes_is_served_here_and_uploaded_within_a_minute_after_its_return() {
    let mut bucket = Bucket::away();
    let daemon = Daemon::start(&bucket.config());
    let client = daemon.client();
    let photo = eyes::small_eye(41);
    let id = client.submit(&client.photo(&photo));
    let job = client.completed(&id);
    assert!(["pending", "uploading"].contains(&job["upload_status"].as_str().unwrap()), "{job:#}");
    let url = client.absolute(&job["result_url"]);
    assert!(url.starts_with(&daemon.base), "the device serves it: {url}");
    let local = daemon.anonymous().get(&url).expect(200).body;

    bucket.restart();
    let job = client.uploaded(&id, BACK);
    assert_eq!(bucket.object(job["result_s3_key"].as_str().unwrap()), Some(local));
    assert_eq!(bucket.keys_below("processed/").len(), 3);
    assert_eq!(bucket.keys_below("photos/").len(), 1);
    assert!(client.absolute(&job["result_url"]).starts_with(&format!("http://127.0.0.1:{}", bucket.port)));
}

#[test]
fn a_bucket_that_goes_and_comes_back_gets_every_job_once() {
    let mut bucket = Bucket::start();
    let daemon = Daemon::start(&bucket.config());
    let client = daemon.client();
    let mut jobs = vec![client.submit(&client.photo(&eyes::small_eye(42)))];
    client.uploaded(&jobs[0], JOB);
    bucket.stop();
    for seed in 43..46 {
        jobs.push(client.submit(&client.photo(&eyes::small_eye(seed))));
        client.completed(jobs.last().unwrap());
    }
    bucket.restart();
    for job in &jobs {
        client.uploaded(job, BACK);
    }
    assert_eq!(bucket.keys_below("processed/").len(), 3 * jobs.len());
    assert_eq!(bucket.keys_below("photos/").len(), jobs.len());
    let uploads = client.get("/uploads").expect(200).json();
    assert_eq!(uploads["pending"], 0, "{uploads:#}");
}

#[test]
fn with_the_broker_away_the_events_arrive_after_its_return_none_missing_and_in_order() {
    let mut broker = Broker::start();
    let collector = broker.collect(&["irisd/#"]);
    let daemon = Daemon::start(&broker.config());
    let client = daemon.client();
    broker.wait_retained("irisd/box-1/status", "online", SOON);
    broker.stop();
    let mut jobs: Vec<String> = (46..49).map(|seed| client.submit(&client.photo(&eyes::small_eye(seed)))).collect();
    for job in &jobs {
        client.completed(job);
    }
    jobs.push(client.submit(&client.photo(&eyes::plain(46, 320, 240))));
    client.finished(&jobs[3]);
    broker.restart();
    collector.wait_event(&jobs[3], "failed", SOON);
    for (job, end) in jobs.iter().zip(["completed", "completed", "completed", "failed"]) {
        checks::events_are_in_order(&collector.kinds(job), end, false);
    }
    checks::seq_rises(&collector.events());
    for job in &jobs[..3] {
        let topic = format!("irisd/box-1/job/{job}/state");
        eventually(&format!("{topic} is brought up to date"), SOON, || {
            let state: serde_json::Value = serde_json::from_str(&broker.retained(&topic)?).ok()?;
            (state["status"] == "completed").then_some(())
        });
    }
    broker.wait_retained("irisd/box-1/status", "online", SOON);
}

#[test]
fn a_broker_that_lost_its_memory_is_told_the_states_of_finished_and_waiting_jobs_again() {
    let mut broker = Broker::start();
    // Without an iris in it: each ends at once, one way or the other.
    let daemon = Daemon::start(&format!("{}[enhance]\nscope = \"photo\"\n", broker.config()));
    let client = daemon.client();
    let done = client.submit(&client.photo(&eyes::small_eye(51)));
    let failed = client.submit(&client.photo(&eyes::plain(51, 320, 240)));
    let end = |job: &str| client.finished(job)["status"].as_str().unwrap().to_owned();
    let ends = [(&done, end(&done)), (&failed, end(&failed))];
    let state = |broker: &Broker, job: &str| -> Option<serde_json::Value> {
        serde_json::from_str(&broker.retained(&format!("irisd/box-1/job/{job}/state"))?).ok()
    };
    let told = |broker: &Broker| {
        ends.clone()
            .map(|(job, end)| eventually(&format!("{job} is told as {end}"), SOON, || state(broker, job).filter(|s| s["status"] == end)))
    };
    let before = told(&broker);
    broker.stop();
    broker.forget();
    broker.restart();
    assert_eq!(told(&broker), before, "the same states, with the same seq");
}

#[test]
fn both_away_over_a_restart_of_the_daemon_nothing_is_forgotten() {
    let (mut broker, mut bucket) = (Broker::start(), Bucket::away());
    let collector = broker.collect(&["irisd/#"]);
    broker.stop();
    let mut daemon = Daemon::start(&format!("{}{}", broker.config(), bucket.config()));
    let first = daemon.client().submit(&daemon.client().photo(&eyes::small_eye(49)));
    daemon.client().completed(&first);
    daemon.kill9();
    daemon.restart();
    let second = daemon.client().submit(&daemon.client().photo(&eyes::small_eye(50)));
    daemon.client().completed(&second);
    assert!(daemon.stop().success(), "neither being there does not hold up a clean end");
    daemon.restart();

    bucket.restart();
    broker.restart();
    let client = daemon.client();
    for job in [&first, &second] {
        client.uploaded(job, BACK);
        collector.wait_event(job, "uploaded", SOON);
        checks::events_are_in_order(&collector.kinds(job), "completed", true);
    }
    checks::seq_rises(&collector.events());
    assert_eq!(bucket.keys_below("processed/").len(), 6);
}

#[test]
fn a_bucket_that_refuses_our_keys_never_fails_a_job_and_is_told() {
    let bucket = Bucket::start();
    let daemon = Daemon::prepare(&bucket.config());
    let wrong = bucket.folder().join("secret");
    let right = std::fs::read(&wrong).unwrap();
    std::fs::write(&wrong, "not-the-secret-at-all").unwrap();
    let mut daemon = daemon;
    daemon.restart();
    let client = daemon.client();
    let id = client.submit(&client.photo(&eyes::small_eye(51)));
    let job = client.completed(&id);
    assert_ne!(job["upload_status"], "uploaded");
    client.get(&client.absolute(&job["result_url"])).expect(200);
    // The keys are put right: after a restart it is brought up, with nothing doubled.
    assert!(daemon.stop().success());
    std::fs::write(&wrong, right).unwrap();
    daemon.restart();
    daemon.client().uploaded(&id, BACK);
    assert_eq!(bucket.keys_below("processed/").len(), 3);
}

#[test]
fn readiness_does_not_depend_on_broker_and_bucket() {
    let (mut broker, bucket) = (Broker::start(), Bucket::away());
    broker.stop();
    let daemon = Daemon::start(&format!("{}{}", broker.config(), bucket.config()));
    for door in ["root:/livez", "root:/readyz", "root:/startupz"] {
        eventually(&format!("{door} answers 200"), SOON, || (daemon.anonymous().get(door).status == 200).then_some(()));
    }
    let queue = daemon.client().get("/queue").expect(200).json();
    assert_ne!(queue, json!(null));
}

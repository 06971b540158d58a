//! Jobs: order, lanes, cancel, reprocess, conflicts.

use serde_json::{Value, json};

use crate::{
    checks,
    common::{SOON, client::Client, daemon::Daemon, eventually, eyes, live},
};

/// Keeps the worker busy long enough for a queue to form behind it.
const SLOW: &str = "[enhance]\nscope = \"photo\"\nmodel = \"lanczos\"\n[inference]\nthreads = 1\n[quality]\nmode = \"report\"\n";

/// A long job that is being processed.
fn busy(client: &Client) -> String {
    let job = client.submit(&client.photo(&eyes::eye(141, "2000x1500").bytes));
    client.processing(&job);
    job
}

/// The order in which jobs were started, by the live events.
#[track_caller]
fn started_order(feed: &live::Feed, jobs: &[String]) -> Vec<String> {
    for job in jobs {
        feed.wait(&format!("job {job} starts"), crate::common::JOB, |e| e.data["job_id"] == **job && e.data["event"] == "started");
    }
    let starts = feed.all().into_iter().filter(|e| e.data["event"] == "started");
    starts.filter_map(|e| e.data["job_id"].as_str().map(str::to_owned)).filter(|id| jobs.contains(id)).collect()
}

#[test]
fn a_batch_is_served_in_the_order_given() {
    let daemon = Daemon::start(SLOW);
    let client = daemon.client();
    let photos: Vec<String> = (0..10).map(|n| client.photo(&eyes::plain(1420 + n, 96, 72))).collect();
    let feed = live::sse(&client, None);
    busy(&client);
    let answer = client.post("/processing/batch", json!({"photo_ids": photos})).expect(202).json();
    let jobs: Vec<Value> = answer["jobs"].as_array().expect("jobs").clone();
    let of: Vec<&str> = jobs.iter().map(|j| j["photo_id"].as_str().unwrap()).collect();
    assert_eq!(of, photos, "answered in the order given");
    for job in &jobs {
        checks::has_keys(job, &checks::JOB_KEYS);
        assert_eq!(job["lane"], "high_priority");
    }
    let ids: Vec<String> = jobs.iter().map(|j| j["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(started_order(&feed, &ids), ids, "served in the order given");
}

#[test]
fn a_batch_keeps_its_order_over_a_kill() {
    let mut daemon = Daemon::start(SLOW);
    let client = daemon.client();
    let photos: Vec<String> = (0..5).map(|n| client.photo(&eyes::plain(1430 + n, 96, 72))).collect();
    busy(&client);
    let answer = client.post("/processing/batch", json!({"photo_ids": photos})).expect(202).json();
    let ids: Vec<String> = answer["jobs"].as_array().unwrap().iter().map(|j| j["id"].as_str().unwrap().to_owned()).collect();
    daemon.kill9();
    daemon.restart();
    let feed = live::sse(&daemon.client(), Some(0));
    assert_eq!(started_order(&feed, &ids), ids);
}

#[test]
fn a_high_priority_job_goes_before_default_ones_that_wait() {
    let daemon = Daemon::start(SLOW);
    let client = daemon.client();
    let feed = live::sse(&client, None);
    busy(&client);
    let photo = client.photo(&eyes::plain(143, 96, 72));
    let low = [client.submit_default(&photo), client.submit_default(&photo)];
    let high = client.submit(&photo);
    let waiting = client.job(&high);
    if waiting["status"] == "pending" {
        assert!(waiting["queue_position"].as_u64() < client.job(&low[0])["queue_position"].as_u64(), "{waiting:#}");
    }
    let all = [high.clone(), low[0].clone(), low[1].clone()];
    assert_eq!(started_order(&feed, &all), all);
}

#[test]
fn a_high_priority_job_does_not_wait_for_the_end_of_a_default_one() {
    let daemon = Daemon::start(SLOW);
    let client = daemon.client();
    let long = client.submit_default(&client.photo(&eyes::eye(144, "2000x1500").bytes));
    client.processing(&long);
    let feed = live::sse(&client, None);
    let quick = client.submit(&client.photo(&eyes::plain(144, 96, 72)));
    client.finished(&quick);
    client.completed(&long);
    let ends = ["completed", "failed"];
    feed.wait("the long job's end", SOON, |e| e.data["job_id"] == *long && e.data["event"] == "completed");
    let all = feed.all();
    let end_of = |job: &str| all.iter().position(|e| e.data["job_id"] == job && ends.contains(&e.data["event"].as_str().unwrap_or("")));
    assert!(end_of(&quick) < end_of(&long), "the interactive job came first");
    let done = client.job(&long);
    assert_eq!((&done["transient_retries"], &done["crashes"]), (&json!(0), &json!(0)));
    assert!(!feed.kinds(&long).contains(&"retried".to_owned()), "giving way announces nothing");
}

#[test]
fn default_jobs_are_not_starved_however_many_high_ones_come() {
    let daemon = Daemon::start("[queue]\nageing = \"1s\"\n");
    let client = daemon.client();
    let photo = client.photo(&eyes::plain(145, 320, 240));
    for _ in 0..5 {
        client.submit(&photo);
    }
    let low = client.submit_default(&photo);
    eventually("the default job is served while high ones keep coming", crate::common::JOB, || {
        for _ in 0..3 {
            client.post("/processing/submit", json!({"photo_id": photo}));
        }
        ["completed", "failed"].contains(&client.job(&low)["status"].as_str()?).then_some(())
    });
}

#[test]
fn a_waiting_job_and_a_running_one_can_be_cancelled_a_finished_one_cannot() {
    let daemon = Daemon::start(SLOW);
    let client = daemon.client();
    let feed = live::sse(&client, None);
    let running = busy(&client);
    let waiting = client.submit(&client.photo(&eyes::plain(146, 96, 72)));
    let cancel = |job: &str| client.post(&format!("/processing/jobs/{job}/cancel"), json!({}));
    assert_eq!(cancel(&waiting).expect(200).json()["status"], "cancelled");
    let answer = cancel(&running).expect(200).json();
    assert_eq!(answer["id"], running);
    assert_eq!(client.finished(&running)["status"], "cancelled");
    for job in [&waiting, &running] {
        cancel(job).refused(409);
        assert_eq!(client.job(job)["upload_status"], "off");
        feed.wait_kind(job, "cancelled", SOON);
    }
    assert_eq!(feed.kinds(&waiting), ["submitted", "cancelled"]);
    assert_eq!(feed.kinds(&running), ["submitted", "started", "cancelled"]);
    // The worker is free for the next, and the cancelled one leaves nothing.
    let next = client.submit(&client.photo(&eyes::small_eye(147)));
    client.completed(&next);
    cancel(&next).refused(409);
    let folders = crate::common::files::result_folders(&daemon.state);
    assert_eq!(folders, [next]);
}

#[test]
fn reprocess_makes_a_new_job_of_the_same_photo() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photo = client.photo(&eyes::small_eye(148));
    let first = client.submit_default(&photo);
    let done = client.completed(&first);
    let answer = client.post(&format!("/processing/jobs/{first}/reprocess"), json!({})).expect(202);
    let again = answer.json();
    assert_ne!(again["id"], *first);
    assert_eq!((&again["reprocess_of"], &again["photo_id"]), (&json!(first), &json!(photo)));
    assert_eq!((&again["lane"], &again["attempt"].as_u64().is_some()), (&json!("high_priority"), &true));
    let new = answer.id();
    client.completed(&new);
    assert_eq!(client.job(&first)["completed_at"], done["completed_at"], "the old job stays as it was");
    for job in [&first, &new] {
        checks::results_are_whole(&daemon.state, job);
    }
}

#[test]
fn a_failed_job_can_be_reprocessed_and_its_photo_deleted() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photo = client.photo(&eyes::plain(149, 320, 240));
    let job = client.submit(&photo);
    assert_eq!(client.finished(&job)["status"], "failed");
    let again = client.send(client.request(reqwest::Method::POST, &format!("/processing/jobs/{job}/reprocess"))).expect(202).id();
    assert_eq!(client.finished(&again)["status"], "failed");
    client.delete(&format!("/photos/{photo}")).expect(204);
    client.post("/processing/submit", json!({"photo_id": photo})).refused(404);
}

#[test]
fn a_job_carries_the_clinics_reference_and_eye() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photo = client.photo(&eyes::plain(150, 96, 72));
    let body = json!({"photo_id": photo, "client_ref": "visit-9", "eye": "right", "lane": "default"});
    let job = client.post("/processing/submit", body).expect(202).json();
    assert_eq!((&job["client_ref"], &job["eye"], &job["lane"]), (&json!("visit-9"), &json!("right"), &json!("default")));
    let id = job["id"].as_str().unwrap();
    assert_eq!(client.finished(id)["client_ref"], "visit-9");
    assert!(!daemon.log().contains("visit-9"), "a client_ref in the log");
}

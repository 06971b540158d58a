//! One photo's whole way: in over HTTP, through the pipeline, out to the bucket, seen on every live door.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    checks::{self, JOB_KEYS, PHOTO_KEYS, sha256},
    common::{JOB, SOON, broker::Broker, bucket::Bucket, client::Client, daemon::Daemon, eventually, eyes, live},
};

/// Asks for the job again and again from a thread of its own: what a page that polls would see.
fn watch(client: &Client, job: &str) -> thread::JoinHandle<Vec<(String, u64)>> {
    let (client, job) = (client.clone(), job.to_owned());
    thread::spawn(move || {
        let mut seen = Vec::new();
        eventually("the watched job ends", JOB, || {
            let now = client.job(&job);
            if let (Some(step), Some(progress)) = (now["current_step"].as_str(), now["progress"].as_u64()) {
                let point = (step.to_owned(), progress);
                if seen.last() != Some(&point) {
                    seen.push(point);
                }
            }
            ["completed", "failed", "cancelled"].contains(&now["status"].as_str().unwrap()).then_some(())
        });
        seen
    })
}

#[test]
fn a_photo_goes_through_five_steps_to_the_bucket_and_everyone_who_listens_sees_it() {
    let (broker, bucket) = (Broker::start(), Bucket::start());
    let collector = broker.collect(&["irisd/#"]);
    let daemon = Daemon::start(&format!("{}{}", broker.config(), bucket.config()));
    let client = daemon.client_of("clinic-a", "kiosk");
    broker.wait_retained("irisd/box-1/status", "online", SOON);
    let (sse, ws) = (live::sse(&client, None), live::websocket(&client));

    let photo = eyes::eye(11, "1600x1200").bytes;
    let answer = client.upload("image/jpeg", photo.clone()).expect(201);
    let stored = answer.json();
    checks::has_keys(&stored, &PHOTO_KEYS);
    let photo_id = answer.id();
    assert!(answer.header("location").ends_with(&format!("/api/v1/photos/{photo_id}")), "Location: {}", answer.header("location"));
    assert_eq!((&stored["user_id"], &stored["width"], &stored["height"]), (&json!("clinic-a"), &json!(1600), &json!(1200)));
    assert_eq!((&stored["sha256"], &stored["bytes"]), (&json!(sha256(&photo)), &json!(photo.len())));
    assert_eq!((&stored["content_type"], &stored["source"]), (&json!("image/jpeg"), &json!("upload")));
    checks::is_time(&stored["received_at"]);

    let answer = client.post("/processing/submit", json!({"photo_id": photo_id})).expect(202);
    let job = answer.id();
    checks::has_keys(&answer.json(), &JOB_KEYS);
    assert_eq!(answer.json()["lane"], "high_priority");
    assert!(answer.header("location").ends_with(&format!("/api/v1/processing/jobs/{job}")), "Location: {}", answer.header("location"));
    let polled = watch(&client, &job);
    let done = client.completed(&job);
    checks::steps_go_forward(&polled.join().expect("the watcher saw no step back"));
    job_is_whole(&done);

    // On disk, and what the live doors said.
    checks::results_are_whole(&daemon.state, &job);
    let done = client.uploaded(&job, SOON);
    sse.wait_kind(&job, "uploaded", SOON);
    ws.wait_kind(&job, "uploaded", SOON);
    for feed in [&sse, &ws] {
        checks::events_are_in_order(&feed.kinds(&job), "completed", true);
        checks::seq_rises(feed.of_job(&job).iter().map(|e| &e.data));
        checks::steps_go_forward(&feed.steps(&job));
    }
    for event in sse.of_job(&job) {
        assert_eq!(event.id, event.data["seq"].as_u64(), "the SSE id is the seq");
    }
    collector.wait_event(&job, "uploaded", SOON);
    checks::events_are_in_order(&collector.kinds(&job), "completed", true);
    checks::seq_rises(&collector.events());

    // In the bucket: exactly three objects, the original, the right bytes.
    let below = format!("processed/clinic-a/{job}");
    let names = [("jpg", "image.jpg"), ("json", "report.json"), ("png", "mask.png")];
    assert_eq!(bucket.keys_below("processed/"), names.map(|(ending, _)| format!("{below}.{ending}")));
    for (ending, file) in names {
        let local = std::fs::read(daemon.state.join("results").join(&job).join(file)).unwrap();
        assert_eq!(bucket.object(&format!("{below}.{ending}")).unwrap(), local, "{file} in the bucket");
    }
    assert_eq!(bucket.keys_below("photos/"), [format!("photos/clinic-a/{photo_id}.jpg")]);
    for (key, ending) in [("result_s3_key", "jpg"), ("mask_s3_key", "png"), ("report_s3_key", "json")] {
        assert_eq!(done[key], format!("{below}.{ending}"), "{key}");
    }
}

#[track_caller]
fn job_is_whole(done: &Value) {
    checks::has_keys(done, &JOB_KEYS);
    assert_eq!((&done["status"], &done["progress"], &done["current_step"]), (&json!("completed"), &json!(100), &Value::Null));
    assert_eq!((&done["attempt"], &done["crashes"], &done["transient_retries"]), (&json!(1), &json!(0), &json!(0)));
    assert_eq!((&done["error_type"], &done["error_code"]), (&Value::Null, &Value::Null));
    checks::has_only_keys(&done["step_ms"], &live::STEPS);
    for time in ["created_at", "started_at", "completed_at", "urls_expire_at"] {
        checks::is_time(&done[time]);
    }
    assert!(done["processing_time_ms"].as_u64().is_some(), "{done:#}");
}

#[test]
fn the_original_in_the_bucket_has_lost_its_metadata_and_not_a_pixel() {
    let bucket = Bucket::start();
    let daemon = Daemon::start(&bucket.config());
    let client = daemon.client();
    let photo = eyes::with_exif(&eyes::small_eye(12), 1, "Doe, Jane 1970-01-01");
    let id = client.photo(&photo);
    let job = client.uploaded(&client.submit(&id), JOB);
    let user = job["user_id"].as_str().unwrap();
    let object = bucket.object(&format!("photos/{user}/{id}.jpg")).expect("the original is there once the job says uploaded");
    assert!(!contains(&object, b"Doe, Jane"), "a name left the device");
    assert_eq!(eyes::pixels(&object).into_raw(), eyes::pixels(&photo).into_raw());
    assert_eq!(client.get(&format!("/photos/{id}/image")).expect(200).body, photo, "the device keeps it as it was received");
    let result = bucket.object(job["result_s3_key"].as_str().unwrap()).unwrap();
    assert!(!contains(&result, b"Doe, Jane"), "a name in the result");
}

#[test]
fn with_strip_metadata_off_the_original_in_the_bucket_is_the_file_that_was_sent() {
    let bucket = Bucket::start();
    let daemon = Daemon::start(&format!("{}[privacy]\nstrip_metadata = false\n", bucket.config()));
    let client = daemon.client();
    for photo in [eyes::with_exif(&eyes::small_eye(13), 1, "kept"), eyes::as_png(&eyes::small_eye(14))] {
        let id = client.photo(&photo);
        let job = client.uploaded(&client.submit(&id), JOB);
        let ending = if photo[0] == 0x89 { "png" } else { "jpg" };
        let key = format!("photos/{}/{id}.{ending}", job["user_id"].as_str().unwrap());
        assert!(bucket.object(&key) == Some(photo), "{key} differs; there are {:?}", bucket.keys());
    }
}

#[test]
fn without_originals_only_the_three_objects_of_the_job_leave_the_device() {
    let bucket = Bucket::start();
    let daemon = Daemon::start(&format!("{}[upload]\noriginals = false\nsynthetic_map = true\n", bucket.config()));
    let client = daemon.client();
    let job = client.submit(&client.photo(&eyes::small_eye(15)));
    let done = client.uploaded(&job, JOB);
    let below = format!("processed/{}/{job}", done["user_id"].as_str().unwrap());
    let wanted = ["jpg", "json", "png", "synthetic.png"].map(|e| format!("{below}.{e}"));
    assert_eq!(bucket.keys(), wanted, "synthetic_map adds the fourth");
}

#[test]
fn a_job_that_failed_uploads_nothing_and_says_what_to_do() {
    let bucket = Bucket::start();
    let daemon = Daemon::start(&bucket.config());
    let client = daemon.client();
    let job = client.finished(&client.submit(&client.photo(&eyes::plain(1, 640, 480))));
    assert_eq!((&job["status"], &job["error_type"], &job["upload_status"]), (&json!("failed"), &json!("quality_issue"), &json!("off")));
    for words in ["error_code", "error_message", "suggestion"] {
        assert!(job[words].as_str().is_some_and(|s| !s.is_empty()), "{words}: {job:#}");
    }
    assert_eq!(job["retryable"], false, "a quality issue is never retried");
    // A good job behind it shows that the uploader had its turn.
    client.uploaded(&client.submit(&client.photo(&eyes::small_eye(16))), JOB);
    assert_eq!(bucket.keys_below("processed/").len(), 3);
    assert!(bucket.keys_below("processed/").iter().all(|k| !k.contains(job["id"].as_str().unwrap())));
}

#[test]
fn the_same_photo_processed_twice_is_two_jobs_with_results_of_their_own() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photo = client.photo(&eyes::small_eye(17));
    let jobs = [client.submit(&photo), client.submit(&photo)];
    assert_ne!(jobs[0], jobs[1]);
    for job in &jobs {
        client.completed(job);
        checks::results_are_whole(&daemon.state, job);
    }
    eventually("nothing temporary is left", Duration::from_secs(5), || {
        crate::common::files::temporary(&daemon.state).is_empty().then_some(())
    });
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|w| w == needle)
}

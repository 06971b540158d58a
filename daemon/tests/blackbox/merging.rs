//! Photos of one eye, merged: what a lamp hides in one of them comes from another, for who names them and for a camera's burst.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    checks,
    common::{
        JOB, SOON,
        bucket::Bucket,
        client::Client,
        daemon::{Daemon, text},
        eventually, eyes, live,
    },
};

/// Each capture is an eye, each of its frames has other lamps.
const BURST: &str = "[camera.front]\nkind = \"synthetic\"\ndevice = \"5\"\nwidth = 640\nheight = 480\nburst = 3\nmerge = 2\n";

/// Keeps the worker busy long enough for jobs to wait behind it.
const SLOW: &str = "[enhance]\nscope = \"photo\"\nmodel = \"lanczos\"\n[inference]\nthreads = 1\n[quality]\nmode = \"report\"\n";

fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}

/// Shots of the next eye of the camera, none of them submitted.
#[track_caller]
fn shots(client: &Client) -> Vec<Value> {
    let answer = client.post("/capture", json!({"submit": false})).expect(201).json();
    assert!(answer.get("job").is_none(), "{answer:#}");
    let others = answer["others"].as_array().expect("others").clone();
    [answer["photo"].clone()].into_iter().chain(others).collect()
}

#[track_caller]
fn submit(client: &Client, photo: &Value, with: &[&Value]) -> Value {
    let with: Vec<&str> = with.iter().map(|p| id(p)).collect();
    client.post("/processing/submit", json!({"photo_id": id(photo), "merge_with": with})).expect(202).json()
}

fn report(state: &Path, job: &Value) -> Value {
    serde_json::from_slice(&fs::read(state.join("results").join(id(job)).join("report.json")).unwrap()).unwrap()
}

fn made_up(report: &Value) -> f64 {
    report["reflections"]["synthetic_share"].as_f64().unwrap()
}

/// The report names these photos, and something came from each of them.
#[track_caller]
fn merged(report: &Value, photos: &[&Value]) {
    let parts = report["merge"]["photos"].as_array().unwrap_or_else(|| panic!("nothing was merged: {report:#}"));
    let hashes: Vec<&Value> = parts.iter().map(|p| &p["sha256"]).collect();
    assert_eq!(hashes, photos.iter().map(|p| &p["sha256"]).collect::<Vec<_>>(), "{:#}", report["merge"]);
    assert!(parts[..2].iter().all(|p| p["px"].as_u64() > Some(0)), "{:#}", report["merge"]);
}

#[test]
fn what_the_lamps_of_one_photo_hide_comes_from_the_other_and_less_is_made_up() {
    let mut daemon = Daemon::start(BURST);
    let client = daemon.client();
    let shots = shots(&client);
    assert_eq!(shots.len(), 3);
    let (first, second) = (&shots[0], &shots[1]);
    let alone = client.completed(&client.submit(id(first)));
    assert_eq!(alone["merge_with"], json!([]));
    assert!(report(&daemon.state, &alone).get("merge").is_none(), "a photo by itself");

    let job = submit(&client, first, &[second]);
    checks::has_keys(&job, &checks::JOB_KEYS);
    assert_eq!(job["merge_with"], json!([id(second)]));
    let both = client.completed(id(&job));
    assert_eq!(both["cached"], false, "the result of the photo alone is another: {both:#}");
    checks::results_are_whole(&daemon.state, id(&both));
    let (one, two) = (report(&daemon.state, &alone), report(&daemon.state, &both));
    merged(&two, &[first, second]);
    assert!(made_up(&two) < made_up(&one), "made up: {} alone, {} with the other photo", made_up(&one), made_up(&two));

    // The same again is the same result, each its own; and it says so over a restart.
    daemon.kill9();
    daemon.restart();
    let client = daemon.client();
    assert_eq!(client.job(id(&both))["merge_with"], json!([id(second)]));
    for (with, earlier) in [(&[second][..], &both), (&[], &alone)] {
        let again = client.completed(id(&submit(&client, first, with)));
        assert_eq!(again["cached"], true, "{again:#}");
        assert_eq!(report(&daemon.state, &again)["files"], report(&daemon.state, earlier)["files"]);
    }
    let other = client.completed(id(&submit(&client, first, &[&shots[2]])));
    assert_eq!(other["cached"], false, "another photo is merged: {other:#}");

    let again = client.post(&format!("/processing/jobs/{}/reprocess", id(&both)), json!({})).expect(202).json();
    assert_eq!((&again["merge_with"], &again["reprocess_of"]), (&both["merge_with"], &both["id"]));
    let again = client.completed(id(&again));
    assert_eq!(
        (again["cached"].as_bool(), &report(&daemon.state, &again)["files"]),
        (Some(false), &two["files"]),
        "the same pixels, made anew"
    );

    // A photo that was merged may go; the result stays.
    client.delete(&format!("/photos/{}", id(second))).expect(204);
    checks::results_are_whole(&daemon.state, id(&both));
    assert_eq!(client.job(id(&both))["status"], "completed");
    client.post(&format!("/processing/jobs/{}/reprocess", id(&both)), json!({})).refused(404);
}

#[test]
fn what_cannot_be_merged_is_refused_at_the_door() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photos: Vec<String> = (0..4).map(|n| client.photo(&eyes::plain(500 + n, 96, 72))).collect();
    let ask = |client: &Client, photo: &str, with: Value| client.post("/processing/submit", json!({"photo_id": photo, "merge_with": with}));
    for (with, word) in [
        (json!([photos[1], photos[2], photos[3]]), "at most 2"),
        (json!([photos[0]]), "the photo itself"),
        (json!([photos[1], photos[0]]), "the photo itself"),
        (json!([photos[1], photos[1]]), "twice"),
        (json!(photos[1]), "invalid type"),
        (json!(["x"]), ""),
    ] {
        let problem = ask(&client, &photos[0], with.clone()).refused(422);
        assert!(problem["code"] == "invalid_body" && problem["detail"].as_str().unwrap().contains(word), "{with}: {problem:#}");
    }
    let nobodys = uuid::Uuid::now_v7().to_string();
    ask(&client, &photos[0], json!([nobodys])).refused(404);
    ask(&client, &nobodys, json!([photos[0]])).refused(404);

    // Scope before ownership; what is somebody else's is not there; and nobody's photo is merged into another's.
    let anna = daemon.client_of("anna", "kiosk");
    let hers = anna.photo(&eyes::plain(504, 96, 72));
    ask(&daemon.client_of("vera", "viewer"), &hers, json!([nobodys])).refused(403);
    ask(&anna, &hers, json!([photos[0]])).refused(404);
    ask(&anna, &photos[0], json!([hers])).refused(404);
    let problem = ask(&client, &hers, json!([photos[0]])).refused(422);
    assert!(problem["detail"].as_str().unwrap().contains("one owner"), "{problem:#}");
    assert_eq!(client.total_jobs(), 0);

    // Nothing to merge is a photo by itself; and the same key with the same body is one job.
    for with in [json!([]), Value::Null] {
        assert_eq!(ask(&client, &photos[0], with).expect(202).json()["merge_with"], json!([]));
    }
    let body = |with: &str| json!({"photo_id": photos[0], "merge_with": [with]});
    let job = client.post_keyed("/processing/submit", "pair", body(&photos[1])).expect(202).json();
    let again = client.post_keyed("/processing/submit", "pair", body(&photos[1])).expect(202).json();
    assert_eq!((&again["id"], &again["merge_with"]), (&job["id"], &json!([photos[1]])));
    client.post_keyed("/processing/submit", "pair", body(&photos[2])).refused(422);
}

#[test]
fn a_photo_that_does_not_fit_fails_the_job_that_named_it_and_is_named_in_turn() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let [own, other] = [511, 512].map(|seed| client.get(&format!("/photos/{}", client.photo(&eyes::small_eye(seed)))).expect(200).json());
    let wall = client.get(&format!("/photos/{}", client.photo(&eyes::plain(513, 320, 240)))).expect(200).json();
    let failed = |with: &[&Value], number: &str, code: &str| {
        let job = client.finished(id(&submit(&client, &own, with)));
        assert_eq!((&job["status"], &job["error_code"]), (&json!("failed"), &json!(code)), "{job:#}");
        assert!(job["error_message"].as_str().unwrap().starts_with(number), "{job:#}");
    };
    failed(&[&other], "Photo 2:", "merge_mismatch");
    failed(&[&wall], "Photo 2:", "no_iris");
    // Somebody's hand, or a disk: the row says that it lies here.
    let sha256 = other["sha256"].as_str().unwrap();
    fs::remove_file(daemon.state.join("blobs").join(&sha256[..2]).join(sha256)).unwrap();
    failed(&[&other], "Photo 2:", "original_missing");
    client.completed(&client.submit(id(&own)));
}

#[test]
fn a_photo_that_a_waiting_job_merges_cannot_be_deleted() {
    let daemon = Daemon::start(SLOW);
    let client = daemon.client();
    let busy = client.submit(&client.photo(&eyes::eye(521, "2000x1500").bytes));
    client.processing(&busy);
    let [own, other] = [522, 523].map(|n| client.photo(&eyes::plain(n, 96, 72)));
    let job = client.post("/processing/submit", json!({"photo_id": own, "merge_with": [other]})).expect(202).id();
    for photo in [&own, &other] {
        assert_eq!(client.delete(&format!("/photos/{photo}")).refused(409)["code"], "photo_in_use");
    }
    client.post(&format!("/processing/jobs/{job}/cancel"), json!({})).expect(200);
    for photo in [&other, &own] {
        client.delete(&format!("/photos/{photo}")).expect(204);
    }
    client.post(&format!("/processing/jobs/{busy}/cancel"), json!({}));
}

#[test]
fn a_merge_that_a_kill_cuts_off_runs_again_with_the_same_photos() {
    let large = BURST.replace("640", "1600").replace("480", "1200");
    let mut daemon = Daemon::start(&format!("{large}{SLOW}"));
    let client = daemon.client();
    let shots = shots(&client);
    let job = submit(&client, &shots[0], &[&shots[1], &shots[2]]);
    client.processing(id(&job));
    daemon.kill9();
    daemon.restart();
    let done = daemon.client().completed(id(&job));
    assert_eq!((&done["attempt"], &done["merge_with"]), (&json!(2), &job["merge_with"]), "{done:#}");
    merged(&report(&daemon.state, &done), &[&shots[0], &shots[1], &shots[2]]);
}

#[test]
fn a_job_whose_merged_original_was_evicted_is_not_run_again() {
    let bucket = Bucket::start();
    let mut daemon = Daemon::start(&format!("{BURST}{}", bucket.config()));
    let client = daemon.client();
    let shots = shots(&client);
    // The oldest original is the first to go, and here it is merged into a newer one.
    let (oldest, own) = (&shots[0], &shots[1]);
    let job = submit(&client, own, &[oldest]);
    client.uploaded(id(&job), JOB);
    eventually("everything is in the bucket", JOB, || (client.get("/uploads").expect(200).json()["pending"] == 0).then_some(()));
    let used = client.get("/device").expect(200).json()["storage"]["used"].as_u64().unwrap();
    assert!(daemon.stop().success());
    daemon.reconfigure(&format!("{BURST}{}[http]\nmax_upload = \"64KiB\"\n[retention]\ncap = \"{}B\"\n", bucket.config(), used - 1));
    daemon.restart();
    let client = daemon.client();
    let image = |photo: &Value| client.get(&format!("/photos/{}/image", id(photo))).status;
    eventually("the oldest original goes", SOON, || (image(oldest) == 404).then_some(()));
    assert_eq!(image(own), 200, "one was enough");
    let again = client.post(&format!("/processing/jobs/{}/reprocess", id(&job)), json!({})).refused(409);
    assert_eq!(again["code"], "original_evicted");
    let again = client.post("/processing/submit", json!({"photo_id": id(own), "merge_with": [id(oldest)]})).refused(409);
    assert_eq!(again["code"], "original_evicted");
    client.completed(&client.submit(id(own)));
}

#[test]
fn a_camera_whose_burst_has_other_lamps_in_each_frame_gives_one_photo_without_them() {
    let mut daemon = Daemon::start(BURST);
    let client = daemon.client();
    let feed = live::sse(&client, None);
    let body = json!({"camera": "front", "client_ref": "visit-7", "eye": "left"});
    let answer = client.post_keyed("/capture", "shot", body.clone()).expect(201).json();
    let (photo, job) = (&answer["photo"], &answer["job"]);
    let others = answer["others"].as_array().expect("others").clone();
    assert_eq!((others.len(), client.get("/photos").expect(200).json()["total"].as_u64()), (2, Some(3)));
    assert_eq!(client.total_jobs(), 1, "the other frames are photos, and no jobs");
    for other in &others {
        checks::has_keys(other, &checks::PHOTO_KEYS);
        for same in ["user_id", "source", "client_ref", "eye", "width"] {
            assert_eq!(other[same], photo[same], "{same}");
        }
        assert_ne!((&other["sha256"], &other["captured_at"]), (&photo["sha256"], &photo["captured_at"]));
    }
    let ids: Vec<&str> = others.iter().map(id).collect();
    assert_eq!((&job["photo_id"], &job["merge_with"]), (&photo["id"], &json!(ids)));
    let done = client.completed(id(job));
    let made = report(&daemon.state, &done);
    merged(&made, &[photo, &others[0], &others[1]]);
    assert!(!made["warnings"].to_string().contains("left out"), "every frame fits: {:#}", made["warnings"]);
    let alone = client.completed(&client.submit(id(photo)));
    assert!(made_up(&made) < made_up(&report(&daemon.state, &alone)), "{:#}", made["reflections"]);
    feed.wait_kind(id(job), "completed", SOON);

    daemon.kill9();
    daemon.restart();
    let client = daemon.client();
    let again = client.post_keyed("/capture", "shot", body).expect(201).json();
    assert_eq!((&again["photo"], &again["others"], &again["job"]["id"]), (photo, &json!(others), &job["id"]));
    // A frame that somebody has deleted since is not shown any more.
    client.delete(&format!("/photos/{}", ids[0])).expect(204);
    let again =
        client.post_keyed("/capture", "shot", json!({"camera": "front", "client_ref": "visit-7", "eye": "left"})).expect(201).json();
    assert_eq!((&again["others"], &again["job"]["merge_with"]), (&json!([others[1]]), &job["merge_with"]));
    assert!(!daemon.log().contains("visit-7"), "a client_ref in the log");
}

#[test]
fn a_camera_that_merges_nothing_has_no_others() {
    let daemon = Daemon::start(&BURST.replace("merge = 2", "merge = 0"));
    let answer = daemon.client().post("/capture", json!({"submit": false})).expect(201).json();
    assert_eq!(answer["others"], json!([]));
    assert_eq!(daemon.client().get("/photos").expect(200).json()["total"], 1);
}

#[test]
fn a_frame_of_a_burst_that_cannot_be_used_costs_that_frame_and_not_the_job() {
    let daemon = Daemon::start(&format!("{BURST}{SLOW}"));
    let client = daemon.client();
    // Enough work for the burst to be drawn meanwhile.
    let busy: Vec<String> = client.photos(&eyes::eye(531, "2000x1500").bytes, 4).iter().map(|photo| client.submit(photo)).collect();
    let answer = client.post("/capture", json!({})).expect(201).json();
    assert_eq!(answer["job"]["status"], "pending", "{answer:#}");
    // What a failing disk leaves of it.
    let lost = answer["others"][0]["sha256"].as_str().unwrap();
    fs::remove_file(daemon.state.join("blobs").join(&lost[..2]).join(lost)).unwrap();
    for job in &busy {
        client.post(&format!("/processing/jobs/{job}/cancel"), json!({}));
    }
    let job = client.completed(id(&answer["job"]));
    let made = report(&daemon.state, &job);
    merged(&made, &[&answer["photo"], &answer["others"][1]]);
    let warnings = made["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|w| w.as_str().unwrap().starts_with("Photo 2 was left out: The original")), "{warnings:?}");
}

#[test]
fn the_command_line_submits_one_photo_with_others_of_the_same_eye() {
    let daemon = Daemon::start(BURST);
    let client = daemon.client();
    let shots = shots(&client);
    let files: Vec<String> = (0..3)
        .map(|n| {
            let path = daemon.dir.path().join(format!("shot-{n}.jpg"));
            fs::write(&path, client.get(&format!("/photos/{}/image", id(&shots[n]))).expect(200).body).unwrap();
            path.to_str().unwrap().to_owned()
        })
        .collect();
    let [a, b, c] = [0, 1, 2].map(|n| files[n].as_str());
    let out = daemon.cli(&["submit", a, "--merge-with", b, "--merge-with", c, "--wait", "--json"]);
    assert!(out.status.success(), "{}", text(&out));
    let job: Value = serde_json::from_str(String::from_utf8_lossy(&out.stdout).lines().last().unwrap()).unwrap();
    assert_eq!((&job["status"], &job["merge_with"]), (&json!("completed"), &json!([id(&shots[1]), id(&shots[2])])));
    merged(&report(&daemon.state, &job), &[&shots[0], &shots[1], &shots[2]]);
    assert_eq!(client.total_jobs(), 1, "one job, of the first");

    for wrong in [&["submit", a, b, "--merge-with", c][..], &["submit", a, "--merge-with", b, "--merge-with", c, "--merge-with", a]] {
        let out = daemon.cli(wrong);
        assert_eq!(out.status.code(), Some(2), "{wrong:?}: {}", text(&out));
    }
    let out = daemon.cli(&["submit", a, "--merge-with", "nowhere.jpg", "--json"]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert_eq!(client.total_jobs(), 1, "a job that lacks a photo is none");
}

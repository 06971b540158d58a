//! Cameras that need no hardware: the synthetic eye and the watched folder.

use std::{fs, io::Read as _, time::Duration};

use serde_json::{Value, json};

use crate::{
    checks,
    common::{JOB, SOON, daemon::Daemon, eventually, eyes},
};

const FRONT: &str = "[camera.front]\nkind = \"synthetic\"\nwidth = 640\nheight = 480\nfps = 5\n";

#[test]
fn a_capture_gives_a_photo_and_its_job() {
    let daemon = Daemon::start(FRONT);
    let client = daemon.client();
    let cameras = client.get("/cameras").expect(200).json();
    let list = cameras.as_array().or_else(|| cameras["items"].as_array()).unwrap_or_else(|| panic!("a list: {cameras}"));
    assert!(list.iter().any(|c| c["name"] == "front" && c["state"].is_string()), "{cameras:#}");

    let answer = client.post("/capture", json!({"camera": "front"})).expect(201).json();
    checks::has_keys(&answer["photo"], &checks::PHOTO_KEYS);
    assert_eq!((&answer["photo"]["source"], &answer["photo"]["width"]), (&json!("camera"), &json!(640)));
    let at = answer["photo"]["captured_at"].as_str().expect("the camera's own time");
    assert!(at.len() <= "2026-01-01T00:00:00.000Z".len(), "milliseconds: {at}");
    checks::has_keys(&answer["job"], &checks::JOB_KEYS);
    assert_eq!((&answer["job"]["lane"], &answer["job"]["photo_id"]), (&json!("high_priority"), &answer["photo"]["id"]));
    client.completed(answer["job"]["id"].as_str().unwrap());

    // The only camera needs no name; without submit there is no job.
    let answer = client.post("/capture", json!({"submit": false})).expect(201).json();
    assert!(answer.get("job").is_none_or(Value::is_null), "{answer:#}");
    assert_eq!(client.total_jobs(), 1);
    let answer = client.post("/capture", json!({"lane": "default"})).expect(201).json();
    assert_eq!(answer["job"]["lane"], "default");
}

#[test]
fn a_capture_without_a_camera_says_so() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    client.post("/capture", json!({})).refused_with(&[404, 409, 503]);
    assert_eq!(client.total_jobs(), 0);
}

#[test]
fn a_capture_that_the_queue_has_no_room_for_takes_no_photo() {
    let slow = "[queue]\nmax_pending = 1\n[enhance]\nscope = \"photo\"\nmodel = \"lanczos\"\n[quality]\nmode = \"report\"\n";
    let daemon = Daemon::start(&format!("{FRONT}{slow}"));
    let client = daemon.client();
    let photo = client.photo(&eyes::eye(175, "2000x1500").bytes);
    client.processing(&client.submit(&photo));
    client.submit(&photo);
    for _ in 0..3 {
        client.post("/capture", json!({"camera": "front"})).refused(429);
    }
    assert_eq!(client.get("/photos").expect(200).json()["total"], 1);
    client.post("/capture", json!({"camera": "front", "submit": false})).expect(201);
}

#[test]
fn a_preview_is_a_stream_of_jpegs() {
    let daemon = Daemon::start(FRONT);
    let client = daemon.client_of("kiosk-1", "kiosk");
    let http = reqwest::blocking::Client::builder().timeout(SOON).build().unwrap();
    let token = client.token.as_deref().unwrap();
    let mut response = http.get(client.url("/cameras/front/preview")).bearer_auth(token).send().unwrap();
    assert_eq!(response.status(), 200);
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("multipart/x-mixed-replace"), "{kind}");
    let (mut got, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    let frames = |bytes: &[u8]| bytes.windows(3).filter(|w| *w == [0xFF, 0xD8, 0xFF]).count();
    while frames(&got) < 3 {
        let n = response.read(&mut chunk).expect("the preview goes on");
        assert!(n > 0, "the preview ended after {} frames", frames(&got));
        got.extend_from_slice(&chunk[..n]);
    }
    let tokens: Vec<Value> = serde_json::from_slice(&daemon.cli(&["token", "list", "--json"]).stdout).unwrap();
    let id = tokens.iter().find(|t| t["owner"] == "kiosk-1").unwrap()["id"].as_str().unwrap();
    assert!(daemon.cli(&["token", "revoke", id]).status.success());
    while response.read(&mut chunk).expect("a revoked token's preview ends, and does not hang") > 0 {}
    daemon.anonymous().get("/cameras/front/preview").refused(401);
}

#[test]
fn a_photo_put_into_a_watched_folder_becomes_a_job_of_the_default_lane_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!("[camera.inbox]\nkind = \"folder\"\ndevice = \"{}\"\nsettle = \"200ms\"\n", folder.path().display());
    let mut daemon = Daemon::start(&config);
    let photo = eyes::small_eye(171);
    fs::write(folder.path().join("note.txt"), "not a photo").unwrap();
    fs::write(folder.path().join("eye.jpg"), &photo).unwrap();
    let job = eventually("the photo is found", JOB, || {
        let jobs = daemon.client().get("/processing/jobs").expect(200).json();
        jobs["items"].as_array().unwrap().first().cloned()
    });
    assert_eq!((&job["lane"], &job["user_id"]), (&json!("default"), &json!("local")), "{job:#}");
    let shown = daemon.client().get(&format!("/photos/{}", job["photo_id"].as_str().unwrap())).expect(200).json();
    assert_eq!((&shown["source"], &shown["sha256"]), (&json!("folder"), &json!(checks::sha256(&photo))));
    daemon.client().completed(job["id"].as_str().unwrap());

    // A restart and a second photo: the first is not taken again.
    daemon.kill9();
    daemon.restart();
    fs::write(folder.path().join("eye2.jpg"), eyes::small_eye(172)).unwrap();
    eventually("the second photo is found", JOB, || (daemon.client().total_jobs() >= 2).then_some(()));
    let third = daemon.client().submit(&daemon.client().photo(&eyes::small_eye(173)));
    daemon.client().completed(&third);
    assert_eq!(daemon.client().total_jobs(), 3);
}

#[test]
fn a_photo_that_is_still_being_written_is_not_taken_half() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let config =
        format!("[camera.inbox]\nkind = \"folder\"\nowner = \"anna\"\ndevice = \"{}\"\nsettle = \"700ms\"\n", folder.path().display());
    let daemon = Daemon::start(&config);
    let photo = eyes::small_eye(174);
    let mut file = fs::File::create(folder.path().join("slow.jpg")).unwrap();
    for part in photo.chunks(photo.len() / 8) {
        file.write_all(part).unwrap();
        file.sync_all().unwrap();
        std::thread::sleep(Duration::from_millis(100)); // the writer's own pace, not a wait for the daemon
    }
    drop(file);
    let job = eventually("the photo is found", JOB, || {
        let jobs = daemon.client().get("/processing/jobs").expect(200).json();
        jobs["items"].as_array().unwrap().first().cloned()
    });
    assert_eq!(job["user_id"], "anna");
    let shown = daemon.client().get(&format!("/photos/{}", job["photo_id"].as_str().unwrap())).expect(200).json();
    assert_eq!(shown["sha256"], checks::sha256(&photo), "the whole photo");
    assert_eq!(daemon.client().total_jobs(), 1);
}

#[test]
fn the_preview_of_a_camera_that_is_gone_says_so() {
    let daemon = Daemon::start("[camera.front]\nkind = \"v4l\"\ndevice = \"/dev/nothing-here\"\n");
    let client = daemon.client();
    eventually("it is seen to be gone", SOON, || {
        let cameras = client.get("/cameras").expect(200).json();
        (cameras["items"][0]["state"] == "gone").then_some(())
    });
    assert_eq!(client.get("/cameras/front/preview").refused(503)["code"], "camera_unavailable");
}

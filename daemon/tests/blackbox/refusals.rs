//! A refused photo says why in words, in figures and in a picture, and the picture is all that it leaves.

use serde_json::{Value, json};

use crate::common::{
    JOB,
    client::Client,
    daemon::{Daemon, irisd, write_config},
    eventually, eyes,
    files::{kept, listing, temporary},
};

/// So much sharpness has no photo: every eye is refused.
const STRICT: &str = "[quality]\nmin_sharpness = 100.0\n";

#[track_caller]
fn refused(client: &Client, photo: &[u8], code: &str) -> Value {
    let job = client.finished(&client.submit(&client.photo(photo)));
    assert_eq!(
        (&job["status"], &job["error_type"], &job["error_code"]),
        (&json!("failed"), &json!("quality_issue"), &json!(code)),
        "{job:#}"
    );
    job
}

#[test]
fn a_refused_photo_is_shown_with_what_is_wrong_and_nothing_else_is_left_of_its_job() {
    let mut daemon = Daemon::start(STRICT);
    let client = daemon.client();
    let job = refused(&client, &eyes::eye(301, "640x480").bytes, "too_blurred");
    let id = job["id"].as_str().unwrap();
    assert_eq!(job["quality"]["metrics"]["sharpness"]["pass"], false, "{job:#}");
    for none in ["result_url", "mask_url", "report_url"] {
        assert_eq!(job[none], Value::Null, "{none}");
    }
    assert!(listing(&daemon.state.join("results")).is_empty());
    let folder = daemon.state.join("refused").join(id);
    assert_eq!(listing(&folder).into_keys().collect::<Vec<_>>(), ["annotated.jpg"]);
    assert!(temporary(&daemon.state).is_empty());
    let picture = client.get(&client.absolute(&job["thumb_url"]));
    assert_eq!((picture.status, picture.header("content-type")), (200, "image/jpeg"));
    let pixels = eyes::pixels(&picture.body);
    assert_eq!((pixels.width(), pixels.height()), (320, 240));
    let red = pixels.pixels().filter(|p| p.0[0] > 170 && p.0[1] < 110 && p.0[2] < 110).count();
    assert!(red > 100, "{red} px are marked");

    // It outlives the process.
    daemon.kill9();
    daemon.restart();
    let client = daemon.client();
    let again = client.job(id);
    assert_eq!(client.get(&client.absolute(&again["thumb_url"])).body, picture.body);

    // And goes with its photo.
    client.delete(&format!("/photos/{}", job["photo_id"].as_str().unwrap())).expect(204);
    eventually("picture and original are gone", JOB, || kept(&daemon.state).is_empty().then_some(()));
    assert_eq!(client.job(id)["thumb_url"], Value::Null);
}

#[test]
fn a_photo_without_an_eye_has_its_picture_too() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let job = refused(&client, &eyes::plain(302, 640, 480), "no_iris");
    assert_eq!(client.get(&client.absolute(&job["thumb_url"])).status, 200);
    assert_eq!(job["quality"], Value::Null, "there was nothing to measure");
}

#[test]
fn a_picture_whose_refusal_was_never_stored_is_swept_at_the_next_start() {
    let mut daemon = Daemon::start(STRICT);
    let client = daemon.client();
    let job = refused(&client, &eyes::eye(303, "640x480").bytes, "too_blurred");
    let pictures = daemon.state.join("refused");
    daemon.kill9();
    // What a process leaves that dies between the two.
    let orphan = pictures.join("019b0000-0000-7000-8000-000000000000");
    std::fs::create_dir(&orphan).unwrap();
    std::fs::copy(pictures.join(job["id"].as_str().unwrap()).join("annotated.jpg"), orphan.join("annotated.jpg")).unwrap();
    daemon.restart();
    assert!(!orphan.exists() && pictures.join(job["id"].as_str().unwrap()).exists());
}

#[test]
fn process_writes_the_picture_beside_where_the_result_would_lie_and_never_leaves_both() {
    let dir = tempfile::tempdir().unwrap();
    let (photo, out) = (dir.path().join("eye.jpg"), dir.path().join("made"));
    std::fs::write(&photo, eyes::small_eye(304)).unwrap();
    let process = |more: &str| {
        let config = write_config(dir.path(), &dir.path().join("state"), more);
        let done = irisd().arg("process").arg(&photo).arg("--out").arg(&out).arg("--json").arg("--config").arg(config).output().unwrap();
        (done.status.code(), serde_json::from_slice::<Value>(&done.stdout).unwrap())
    };
    let (code, line) = process(STRICT);
    assert_eq!((code, &line["error_code"]), (Some(1), &json!("too_blurred")), "{line:#}");
    assert_eq!(line["files"], json!({"annotated": out.join("eye.annotated.jpg")}));
    assert_eq!(listing(&out).into_keys().collect::<Vec<_>>(), ["eye.annotated.jpg"]);
    let (code, line) = process("");
    assert_eq!(code, Some(0), "{line:#}");
    let made = ["eye.jpg", "eye.mask.png", "eye.report.json", "eye.synthetic.png"];
    assert_eq!(listing(&out).into_keys().collect::<Vec<_>>(), made);
    // What is wrong with the device speaks against no earlier result.
    assert_eq!(process("[segment]\nmodel = \"iris\"\n[inference]\nmemory = \"1MiB\"\n").0, Some(1));
    assert_eq!(listing(&out).into_keys().collect::<Vec<_>>(), made);
    assert_eq!(process(STRICT).0, Some(1));
    assert_eq!(listing(&out).into_keys().collect::<Vec<_>>(), ["eye.annotated.jpg"]);
    std::fs::write(&photo, "no photo any more").unwrap();
    assert_eq!(process(STRICT).0, Some(1));
    assert!(listing(&out).is_empty());
    // A picture that no run made is not an earlier result.
    std::fs::write(out.join("eye.jpg"), "somebody's own").unwrap();
    assert_eq!(process(STRICT).0, Some(1));
    assert_eq!(listing(&out).into_keys().collect::<Vec<_>>(), ["eye.jpg"]);
}

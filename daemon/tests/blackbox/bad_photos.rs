//! Photos that are none, or not quite: each has its clear answer, nothing is left behind, and the next good photo is served.

use std::time::Duration;

use serde_json::json;

use crate::common::{
    client::Client,
    daemon::Daemon,
    eventually, eyes,
    files::{kept, temporary},
    raw,
};

/// Sends bytes that must be refused with one of `statuses` (and `code`, when one is given), and looks for what is left.
#[track_caller]
fn refused(daemon: &Daemon, kind: &str, bytes: Vec<u8>, statuses: &[u16], code: &str) {
    let client = daemon.client();
    let (before, jobs) = (kept(&daemon.state), client.total_jobs());
    let problem = client.upload(kind, bytes).refused_with(statuses);
    if !code.is_empty() {
        assert_eq!(problem["code"], code, "{problem:#}");
    }
    nothing_left(daemon, &before, jobs);
}

#[track_caller]
fn nothing_left(daemon: &Daemon, before: &std::collections::BTreeMap<String, u64>, jobs: u64) {
    eventually("what lies in the state folder is as before", Duration::from_secs(10), || (kept(&daemon.state) == *before).then_some(()));
    assert_eq!(daemon.client().total_jobs(), jobs);
    assert!(temporary(&daemon.state).is_empty());
}

#[track_caller]
fn still_serves(client: &Client) {
    client.completed(&client.submit(&client.photo(&eyes::small_eye(81))));
}

#[test]
fn what_is_no_photo_is_refused_at_the_door_and_leaves_nothing() {
    let daemon = Daemon::start("");
    let photo = eyes::small_eye(82);
    refused(&daemon, "image/jpeg", Vec::new(), &[422], "empty_file");
    refused(&daemon, "image/jpeg", b"This is a letter, not a photo.\n".repeat(20), &[415], "unsupported_image");
    refused(&daemon, "image/png", vec![0; 4096], &[415], "unsupported_image");
    refused(&daemon, "image/jpeg", b"GIF89a\x01\0\x01\0\0\0\0;".to_vec(), &[415], "unsupported_image");
    refused(&daemon, "image/gif", b"GIF89a\x01\0\x01\0\0\0\0;".to_vec(), &[415], "unsupported_image");
    refused(&daemon, "image/jpeg", photo[..photo.len() / 2].to_vec(), &[422], "image_truncated");
    refused(&daemon, "image/jpeg", photo[..3].to_vec(), &[415, 422], "");
    refused(&daemon, "image/jpeg", photo[..200].to_vec(), &[422], "");
    refused(&daemon, "image/png", eyes::png_that_claims(60_000, 60_000), &[413], "too_many_pixels");
    refused(&daemon, "image/png", eyes::png_that_claims(0x7FFF_FFFF, 0x7FFF_FFFF), &[413, 422], "");
    refused(&daemon, "image/png", eyes::png_that_claims(640, 480), &[422], "");
    refused(&daemon, "image/png", eyes::png_that_claims(0, 0), &[422], "");
    let png = eyes::as_png(&photo);
    refused(&daemon, "image/png", png[..png.len() / 2].to_vec(), &[422], "image_truncated");
    let mut damaged = png.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0xA5);
    refused(&daemon, "image/png", damaged, &[422], "");
    let webp = eyes::as_webp(&photo);
    refused(&daemon, "image/webp", webp[..webp.len() / 2].to_vec(), &[422], "");
    still_serves(&daemon.client());
}

#[test]
fn a_body_above_the_limit_is_refused_whether_its_length_is_declared_or_not() {
    let daemon = Daemon::start("");
    let before = kept(&daemon.state);
    let mut mib = vec![0; 1 << 20];
    mib[..4].copy_from_slice(&[0xFF, 0xD8, 0xFF, 0xE0]);
    let head = format!("{}Content-Type: image/jpeg\r\n", raw::head("POST", "/api/v1/photos", &daemon.base, &daemon.token));
    for chunked in [false, true] {
        let (status, body) = raw::send_big(&daemon.base, &head, &mib, 65, chunked).expect("an answer, not a cut line");
        assert_eq!(status, 413, "chunked: {chunked}: {body}");
        if let Ok(problem) = serde_json::from_str(&body) {
            crate::common::client::check_problem(&problem, 413);
        }
        nothing_left(&daemon, &before, 0);
    }
    still_serves(&daemon.client());
}

#[test]
fn the_upload_limit_is_the_configured_one_to_the_byte() {
    let photo = eyes::small_eye(83);
    let daemon = Daemon::start(&format!("[http]\nmax_upload = \"{}B\"\n", photo.len()));
    let client = daemon.client();
    client.upload("image/jpeg", photo.clone()).expect(201);
    let problem = client.upload("image/jpeg", [photo, vec![0]].concat()).refused(413);
    assert!(problem["suggestion"].as_str().is_some());
}

#[test]
fn unusual_but_honest_pictures_are_processed() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photo = eyes::small_eye(84);
    let unusual = [("16-bit PNG", eyes::as_16_bit_png(&photo)), ("PNG", eyes::as_png(&photo)), ("WebP", eyes::as_webp(&photo))];
    for (what, bytes) in unusual {
        let done = client.finished(&client.submit(&client.photo(&bytes)));
        assert_eq!(done["status"], "completed", "{what}: {done:#}");
    }
}

#[test]
fn a_cmyk_jpeg_is_either_processed_or_refused_in_words() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let answer = client.upload("image/jpeg", eyes::as_cmyk_jpeg(&eyes::small_eye(85)));
    if answer.status == 201 {
        let done = client.finished(&client.submit(&answer.id()));
        assert!(done["status"] == "completed" || done["error_type"] == "quality_issue", "{done:#}");
    } else {
        answer.refused_with(&[415, 422]);
        assert!(kept(&daemon.state).is_empty());
    }
    still_serves(&client);
}

#[test]
fn a_picture_of_one_pixel_ends_as_a_quality_issue_and_not_in_a_crash() {
    let mut daemon = Daemon::start("");
    let client = daemon.client();
    for (width, height) in [(1, 1), (1, 600), (600, 1), (8, 8)] {
        let answer = client.upload("image/jpeg", eyes::plain(86, width, height));
        if answer.status != 201 {
            answer.refused(422);
            continue;
        }
        let done = client.finished(&client.submit(&answer.id()));
        assert_eq!((&done["status"], &done["error_type"]), (&json!("failed"), &json!("quality_issue")), "{width}x{height}: {done:#}");
    }
    assert!(daemon.is_running());
}

#[test]
fn exif_orientation_6_turns_the_photo_upright() {
    let daemon = Daemon::start("[quality]\nmode = \"report\"\n");
    let client = daemon.client();
    let photo = eyes::with_exif(&eyes::small_eye(87), 6, "turned");
    let answer = client.upload("image/jpeg", photo).expect(201).json();
    assert_eq!((&answer["width"], &answer["height"]), (&json!(480), &json!(640)), "the upright size: {answer:#}");
    let job = client.completed(&client.submit(answer["id"].as_str().unwrap()));
    let report = client.get(&client.absolute(&job["report_url"])).expect(200).json();
    let photo = &report["photo"];
    assert_eq!((&photo["width"], &photo["height"], &photo["orientation_applied"]), (&json!(480), &json!(640), &json!(true)), "{photo:#}");
    let crop = &report["crop"];
    let end = |at: &str, side: &str| crop[at].as_u64().unwrap() + crop[side].as_u64().unwrap();
    assert!(end("x", "width") <= 480 && end("y", "height") <= 640, "the crop lies in the upright photo: {crop:#}");
}

#[test]
fn a_photo_above_the_pixel_limit_is_refused_before_it_is_decoded() {
    let daemon = Daemon::start("[http]\nmax_pixels = 300000\n");
    refused(&daemon, "image/jpeg", eyes::small_eye(88), &[413], "too_many_pixels");
}

#[test]
fn multipart_takes_one_photo_in_the_field_file_and_nothing_else() {
    use reqwest::{
        Method,
        blocking::multipart::{Form, Part},
    };
    let daemon = Daemon::start("");
    let client = daemon.client();
    let send = |form: Form| client.send(client.request(Method::POST, "/photos").multipart(form));
    let part = |bytes: Vec<u8>| Part::bytes(bytes).file_name("../../etc/passwd").mime_str("image/jpeg").unwrap();
    let photo = eyes::small_eye(89);
    let first = send(Form::new().part("file", part(photo.clone()))).expect(201);
    assert_eq!(send(Form::new().part("file", part(photo.clone()))).expect(200).id(), first.id(), "the same bytes are the same photo");
    let before = kept(&daemon.state);
    send(Form::new().part("picture", part(eyes::plain(89, 64, 64)))).refused_with(&[400, 422]);
    send(Form::new()).refused_with(&[400, 422]);
    send(Form::new().part("file", part(Vec::new()))).refused(422);
    send(Form::new().part("file", part(b"words".to_vec()))).refused(415);
    nothing_left(&daemon, &before, 0);
}

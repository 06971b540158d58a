//! Requests that are wrong in one way each: the right status, a problem that tells what to do, no effect.

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{
    client::check_problem,
    daemon::Daemon,
    eyes,
    files::{kept, listing},
    raw,
};

const NOBODY: &str = "01890000-0000-7000-8000-000000000000";

#[test]
fn a_submit_that_makes_no_sense_is_refused_and_makes_no_job() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photo = client.photo(&eyes::plain(91, 64, 64));
    let before = kept(&daemon.state);
    let submit = "/processing/submit";

    let text =
        |kind: &str, body: &str| client.send(client.request(Method::POST, submit).header("content-type", kind).body(body.to_owned()));
    text("application/json", "{\"photo_id\": ").refused(400);
    text("application/json", "").refused_with(&[400, 422]);
    text("application/json", "\u{0}\u{1}").refused(400);
    text("application/json", "[]").refused_with(&[400, 422]);
    text("text/plain", &json!({"photo_id": photo}).to_string()).refused_with(&[400, 415]);
    text("application/json", &format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000))).refused_with(&[400, 413, 422]);

    client.post(submit, json!({})).refused_with(&[400, 422]);
    client.post(submit, json!({"photo_id": 7})).refused_with(&[400, 422]);
    client.post(submit, json!({"photo_id": "not-an-id"})).refused_with(&[400, 404, 422]);
    client.post(submit, json!({"photo_id": NOBODY})).refused(404);
    client.post(submit, json!({"photo_id": photo, "lane": "express"})).refused_with(&[400, 422]);
    client.post(submit, json!({"photo_id": photo, "colour": "blue"})).refused_with(&[400, 422]);
    client.post(submit, json!({"photo_id": photo, "eye": "middle"})).refused_with(&[400, 422]);
    client.post(submit, json!({"photo_id": photo, "client_ref": "x".repeat(129)})).refused_with(&[400, 422]);

    assert_eq!(client.total_jobs(), 0);
    assert_eq!(kept(&daemon.state), before);
}

#[test]
fn a_batch_has_one_to_ten_known_photos_or_no_effect_at_all() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photos: Vec<String> = (0..11).map(|n| client.photo(&eyes::plain(910 + n, 64, 64))).collect();
    let batch = |ids: Value| client.post("/processing/batch", json!({"photo_ids": ids}));
    batch(json!([])).refused_with(&[400, 422]);
    batch(json!(photos)).refused_with(&[400, 422]);
    batch(json!([photos[0], NOBODY, photos[1]])).refused(404);
    batch(json!([photos[0], "x"])).refused_with(&[400, 404, 422]);
    batch(json!("all")).refused_with(&[400, 422]);
    client.post("/processing/batch", json!({})).refused_with(&[400, 422]);
    assert_eq!(client.total_jobs(), 0, "all or none");
    batch(json!(photos[..10])).expect(202);
    assert_eq!(client.total_jobs(), 10);
}

#[test]
fn a_batch_with_another_owners_photo_is_refused_as_a_whole() {
    let daemon = Daemon::start("");
    let (anna, ben) = (daemon.client_of("anna", "kiosk"), daemon.client_of("ben", "kiosk"));
    let (mine, its) = (anna.photo(&eyes::plain(92, 64, 64)), ben.photo(&eyes::plain(93, 64, 64)));
    anna.post("/processing/batch", json!({"photo_ids": [mine, its]})).refused(404);
    assert_eq!(daemon.client().total_jobs(), 0);
}

#[test]
fn unknown_ids_and_malformed_ones_are_not_found() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    for id in [NOBODY, "0", "x%20y", "%F0%9F%91%81", &"9".repeat(300)] {
        let statuses = if id == NOBODY { &[404][..] } else { &[400, 404, 422] };
        for path in [format!("/photos/{id}"), format!("/photos/{id}/image"), format!("/processing/jobs/{id}")] {
            client.get(&path).refused_with(statuses);
        }
        client.delete(&format!("/photos/{id}")).refused_with(statuses);
        for verb in ["reprocess", "cancel"] {
            client.send(client.request(Method::POST, &format!("/processing/jobs/{id}/{verb}"))).refused_with(statuses);
        }
    }
    client.get("/nothing/here").refused(404);
    client.get("/cameras/nothing/preview").refused(404);
    client.post("/capture", json!({"camera": "nothing"})).refused(404);
}

#[test]
fn no_path_leads_out_of_the_daemons_own_files() {
    let daemon = Daemon::start("");
    let paths = [
        "/api/v1/photos/../../local.token",
        "/api/v1/photos/..%2f..%2flocal.token/image",
        "/api/v1/photos/%2e%2e/%2e%2e/local.token",
        "/../local.token",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%5c..%5clocal.token",
        "/docs/../../local.token",
        "/docs/..%2f..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/api/v1/processing/jobs/..%2f..%2ftokens.toml",
        "/api/v1/photos/%00/image",
    ];
    for path in paths {
        for token in [daemon.token.as_str(), "none"] {
            let request = format!("{}Connection: close\r\n\r\n", raw::head("GET", path, &daemon.base, token));
            let mut stream = raw::connect(&daemon.base);
            std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
            if let Some((status, body)) = raw::read_answer(&mut stream, crate::common::SOON) {
                assert!((300..500).contains(&status), "{path}: {status}");
                assert!(!body.contains("root:") && !body.contains(&daemon.token), "{path} leaks");
            }
        }
    }
}

#[test]
fn a_wrong_method_is_405_with_a_problem() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    for (method, path) in [
        (Method::PUT, "/photos"),
        (Method::GET, "/processing/submit"),
        (Method::DELETE, "/processing/jobs"),
        (Method::POST, "/device"),
        (Method::PATCH, "/queue"),
    ] {
        let answer = client.send(client.request(method, path));
        assert!(!answer.header("allow").is_empty(), "405 names what is allowed: {answer}");
        answer.refused(405);
    }
}

#[test]
fn wrong_content_types_for_a_photo_are_415() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photo = eyes::plain(94, 64, 64);
    for kind in ["text/plain", "application/json", "image/tiff"] {
        client.upload(kind, photo.clone()).refused(415);
    }
    client.send(client.request(Method::POST, "/photos").body(photo)).refused(415);
    assert!(listing(&daemon.state.join("blobs")).is_empty());
}

#[test]
fn a_list_with_wrong_parameters_says_so() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    for query in ["limit=0", "limit=101", "limit=many", "offset=-1", "status=sleeping", "cursor=%21%21", "eye=third", "captured_at=today"] {
        client.get(&format!("/processing/jobs?{query}")).refused_with(&[400, 422]);
    }
}

#[test]
fn a_full_queue_refuses_with_429_and_keeps_what_it_has() {
    let daemon = Daemon::start("[queue]\nmax_pending = 3\n[enhance]\nscope = \"photo\"\n[quality]\nmode = \"report\"\n");
    let client = daemon.client();
    let big = client.photo(&eyes::eye(95, "2000x1500").bytes);
    let running = client.submit(&big);
    client.processing(&running);
    let mut taken = 0;
    let refusal = loop {
        let answer = client.post("/processing/submit", json!({"photo_id": big}));
        if answer.status != 202 {
            break answer;
        }
        taken += 1;
        assert!(taken < 50, "the limit is never reached");
    };
    assert!(!refusal.header("retry-after").is_empty(), "429 says when to come back: {refusal}");
    check_problem(&refusal.refused(429), 429);
    assert!(taken >= 3, "the queue holds three, took {taken}");
    client.post("/processing/batch", json!({"photo_ids": [big, big]})).refused(429);
    assert_eq!(client.total_jobs(), taken + 1);
}

#[test]
fn a_disk_at_its_reserve_refuses_new_photos_with_507() {
    let daemon = Daemon::start("[retention]\nreserve = \"1000TiB\"\n");
    let client = daemon.client();
    client.upload("image/jpeg", eyes::plain(96, 64, 64)).refused(507);
    assert!(listing(&daemon.state.join("blobs")).is_empty());
    daemon.anonymous().get("root:/livez").expect(200);
}

//! Idempotency-Key: the same key and body give the same answer, at once, in parallel, and after a restart.

use std::thread;

use reqwest::Method;
use serde_json::json;

use crate::common::{client::Client, daemon::Daemon, eyes};

#[test]
fn the_same_key_and_body_make_one_job_and_a_replay_shows_it_as_it_is_now() {
    let mut daemon = Daemon::start("");
    let client = daemon.client();
    let photo = client.photo(&eyes::plain(181, 64, 64));
    let body = json!({"photo_id": photo});
    let first = client.post_keyed("/processing/submit", "visit-1", body.clone()).expect(202).id();
    let again = client.post_keyed("/processing/submit", "visit-1", body.clone()).expect(202).id();
    assert_eq!(first, again);
    client.finished(&first);
    daemon.kill9();
    daemon.restart();
    let client = daemon.client();
    let replay = client.post_keyed("/processing/submit", "visit-1", body.clone()).expect(202).json();
    assert_eq!((&replay["id"], &replay["status"]), (&json!(first), &json!("failed")), "the job as it is now");
    assert_eq!(client.total_jobs(), 1);
    let other = client.post_keyed("/processing/submit", "visit-2", body).expect(202).id();
    assert_ne!(first, other);
}

#[test]
fn the_same_key_with_another_body_is_a_mismatch() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photos = [client.photo(&eyes::plain(182, 64, 64)), client.photo(&eyes::plain(183, 64, 64))];
    client.post_keyed("/processing/submit", "k", json!({"photo_id": photos[0]})).expect(202);
    let problem = client.post_keyed("/processing/submit", "k", json!({"photo_id": photos[1]})).refused(422);
    assert_eq!(problem["code"], "idempotency_mismatch", "{problem:#}");
    assert_eq!(client.total_jobs(), 1);
}

#[test]
fn keys_of_two_owners_have_nothing_to_do_with_each_other() {
    let daemon = Daemon::start("");
    let (anna, ben) = (daemon.client_of("anna", "kiosk"), daemon.client_of("ben", "kiosk"));
    let bytes = eyes::plain(184, 64, 64);
    let (mine, its) = (anna.photo(&bytes), ben.photo(&bytes));
    let a = anna.post_keyed("/processing/submit", "1", json!({"photo_id": mine})).expect(202).id();
    let b = ben.post_keyed("/processing/submit", "1", json!({"photo_id": its})).expect(202).id();
    assert_ne!(a, b);
}

#[test]
fn twenty_requests_at_once_with_one_key_make_one_job() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photo = client.photo(&eyes::plain(185, 64, 64));
    let threads: Vec<_> = (0..20)
        .map(|_| {
            let (client, body) = (client.clone(), json!({"photo_id": photo}));
            thread::spawn(move || patiently(&client, &body))
        })
        .collect();
    let ids: Vec<String> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(client.total_jobs(), 1);
}

/// A second request while the first is under way may be told to come again (409); it must never make a second job.
fn patiently(client: &Client, body: &serde_json::Value) -> String {
    crate::common::eventually("an answer for the key", crate::common::SOON, || {
        let answer = client.post_keyed("/processing/submit", "same", body.clone());
        match answer.status {
            202 => Some(answer.id()),
            409 => None,
            _ => panic!("{answer}"),
        }
    })
}

#[test]
fn batch_reprocess_capture_and_upload_take_keys_too() {
    let daemon = Daemon::start("[camera.front]\nkind = \"synthetic\"\nwidth = 640\nheight = 480\n");
    let client = daemon.client();
    let bytes = eyes::plain(186, 64, 64);
    let upload = || {
        let request = client.request(Method::POST, "/photos").header("content-type", "image/jpeg").header("Idempotency-Key", "up");
        client.send(request.body(bytes.clone()))
    };
    let first = upload().expect(201);
    let again = upload();
    assert!([200, 201].contains(&again.status), "{again}");
    assert_eq!(first.id(), again.id());

    let body = json!({"photo_ids": [first.id(), first.id()]});
    let ids = |key: &str| {
        let answer = client.post_keyed("/processing/batch", key, body.clone()).expect(202).json();
        answer["jobs"].as_array().unwrap().iter().map(|j| j["id"].clone()).collect::<Vec<_>>()
    };
    let batch = ids("b");
    assert_eq!(batch, ids("b"));
    assert_eq!(client.total_jobs(), 2);

    let job = batch[0].as_str().unwrap();
    client.finished(job);
    let reprocess = || client.post_keyed(&format!("/processing/jobs/{job}/reprocess"), "r", json!({})).expect(202).id();
    assert_eq!(reprocess(), reprocess());
    let capture = || client.post_keyed("/capture", "c", json!({"camera": "front"})).expect(201).json()["photo"]["id"].clone();
    assert_eq!(capture(), capture());
    assert_eq!(client.total_jobs(), 4);
}

#[test]
fn a_cancel_that_is_sent_again_under_its_key_is_answered_again() {
    let slow = "[enhance]\nscope = \"photo\"\nmodel = \"lanczos\"\n[quality]\nmode = \"report\"\n";
    let mut daemon = Daemon::start(slow);
    let client = daemon.client();
    let photo = client.photo(&eyes::eye(189, "2000x1500").bytes);
    client.processing(&client.submit(&photo));
    let job = client.submit(&photo);
    let path = format!("/processing/jobs/{job}/cancel");
    let cancel = |client: &Client, key: &str| client.post_keyed(&path, key, json!({}));
    let first = cancel(&client, "stop").expect(200).json();
    assert_eq!((&first["id"], &first["status"]), (&json!(job), &json!("cancelled")));
    daemon.kill9();
    daemon.restart();
    let client = daemon.client();
    let again = cancel(&client, "stop").expect(200).json();
    assert_eq!((&again["id"], &again["status"]), (&json!(job), &json!("cancelled")));
    cancel(&client, "another").refused(409);
    cancel(&client, "another").refused(409);
    let problem = client.post_keyed(&path, "stop", json!({"why": "no"})).refused(422);
    assert_eq!(problem["code"], "idempotency_mismatch", "{problem:#}");
}

#[test]
fn a_refusal_does_not_use_a_key_up() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    client.post_keyed("/processing/submit", "k", json!({"photo_id": "01890000-0000-7000-8000-000000000000"})).refused(404);
    let photo = client.photo(&eyes::plain(187, 64, 64));
    client.post_keyed("/processing/submit", "k", json!({"photo_id": photo})).expect(202);
}

#[test]
fn keys_are_one_to_255_characters() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photo = client.photo(&eyes::plain(188, 64, 64));
    for key in ["", &"x".repeat(256)] {
        client.post_keyed("/processing/submit", key, json!({"photo_id": photo})).refused_with(&[400, 422]);
    }
    client.post_keyed("/processing/submit", &"x".repeat(255), json!({"photo_id": photo})).expect(202);
    assert_eq!(client.total_jobs(), 1);
}

#[test]
fn a_replay_is_answered_after_the_photo_was_deleted_and_a_new_request_is_not() {
    let daemon = Daemon::start("");
    let client = daemon.client_of("anna", "kiosk");
    let photo = client.photo(&eyes::plain(191, 64, 64));
    let (one, many) = (json!({"photo_id": photo}), json!({"photo_ids": [photo]}));
    let job = client.post_keyed("/processing/submit", "one", one.clone()).expect(202).id();
    let batch = client.post_keyed("/processing/batch", "many", many.clone()).expect(202).json();
    client.finished(&job);
    client.finished(batch["jobs"][0]["id"].as_str().unwrap());
    client.delete(&format!("/photos/{photo}")).expect(204);
    assert_eq!(client.post_keyed("/processing/submit", "one", one.clone()).expect(202).id(), job);
    assert_eq!(client.post_keyed("/processing/batch", "many", many).expect(202).json()["jobs"][0]["id"], batch["jobs"][0]["id"]);
    client.post_keyed("/processing/submit", "two", one.clone()).refused(404);
    // A key opens nobody else's photos.
    let other = daemon.client_of("ben", "kiosk");
    let theirs = daemon.client_of("carl", "kiosk").photo(&eyes::plain(192, 64, 64));
    other.post_keyed("/processing/submit", "one", one).refused(404);
    other.post_keyed("/processing/submit", "three", json!({"photo_id": theirs})).refused(404);
}

#[test]
fn an_upload_that_is_sent_again_has_the_status_that_it_had() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let bytes = eyes::plain(193, 64, 64);
    let send = |key: &str| {
        let request = client.request(Method::POST, "/photos").header("content-type", "image/jpeg").header("Idempotency-Key", key);
        client.send(request.body(bytes.clone())).status
    };
    assert_eq!([send("new"), send("new"), send("known"), send("known"), send("new")], [201, 201, 200, 200, 201]);
}

#[test]
fn an_admins_key_is_the_admins_whoever_owns_the_photo() {
    let daemon = Daemon::start("");
    let (admin, anna, ben) = (daemon.client_of("boss", "admin"), daemon.client_of("anna", "kiosk"), daemon.client_of("ben", "kiosk"));
    let (hers, his) = (anna.photo(&eyes::plain(194, 64, 64)), ben.photo(&eyes::plain(195, 64, 64)));
    let job = admin.post_keyed("/processing/submit", "k", json!({"photo_id": hers})).expect(202).id();
    let problem = admin.post_keyed("/processing/submit", "k", json!({"photo_id": his})).refused(422);
    assert_eq!(problem["code"], "idempotency_mismatch", "{problem:#}");
    // The owner's own key of the same name is another one.
    assert_ne!(anna.post_keyed("/processing/submit", "k", json!({"photo_id": hers})).expect(202).id(), job);
    anna.finished(&job);
    anna.get("/processing/jobs").expect(200).json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .for_each(|j| drop(anna.finished(j["id"].as_str().unwrap())));
    anna.delete(&format!("/photos/{hers}")).expect(204);
    assert_eq!(admin.post_keyed("/processing/submit", "k", json!({"photo_id": hers})).expect(202).id(), job, "also when the photo is gone");
}

//! Photos: in, looked at, listed, deleted.

use crate::{
    checks::{self, PHOTO_KEYS},
    common::{JOB, broker::Broker, bucket::Bucket, daemon::Daemon, eventually, eyes, files},
};

#[test]
fn the_same_bytes_from_the_same_owner_are_the_same_photo() {
    let daemon = Daemon::start("");
    let (anna, ben) = (daemon.client_of("anna", "kiosk"), daemon.client_of("ben", "kiosk"));
    let bytes = eyes::plain(131, 64, 64);
    let first = anna.upload("image/jpeg", bytes.clone()).expect(201);
    let again = anna.upload("image/jpeg", bytes.clone()).expect(200);
    assert_eq!(first.id(), again.id());
    let other = ben.upload("image/jpeg", bytes).expect(201);
    assert_ne!(first.id(), other.id(), "another owner's photo is another photo");
    assert_eq!(files::listing(&daemon.state.join("blobs")).len(), 1, "the bytes are kept once");
}

#[test]
fn a_blob_shared_by_two_owners_stays_until_the_last_one_deletes_it() {
    let daemon = Daemon::start("");
    let (anna, ben) = (daemon.client_of("anna", "kiosk"), daemon.client_of("ben", "kiosk"));
    let bytes = eyes::plain(132, 64, 64);
    let (mine, its) = (anna.photo(&bytes), ben.photo(&bytes));
    anna.delete(&format!("/photos/{mine}")).expect(204);
    anna.get(&format!("/photos/{mine}")).refused(404);
    anna.delete(&format!("/photos/{mine}")).refused(404);
    assert_eq!(ben.get(&format!("/photos/{its}/image")).expect(200).body, bytes);
    ben.delete(&format!("/photos/{its}")).expect(204);
    eventually("the blob is gone", JOB, || files::listing(&daemon.state.join("blobs")).is_empty().then_some(()));
}

#[test]
fn a_photo_is_listed_shown_and_given_back_byte_for_byte() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let photo = eyes::small_eye(133);
    for bytes in [photo.clone(), eyes::as_png(&photo), eyes::as_webp(&photo)] {
        let id = client.photo(&bytes);
        let shown = client.get(&format!("/photos/{id}")).expect(200).json();
        checks::has_keys(&shown, &PHOTO_KEYS);
        let image = client.get(&format!("/photos/{id}/image")).expect(200);
        assert_eq!(shown["content_type"], image.header("content-type"));
        assert_eq!((shown["width"].as_u64(), shown["height"].as_u64()), (Some(640), Some(480)));
        assert!(image.body == bytes, "the bytes that were sent");
    }
    let list = client.get("/photos?limit=2").expect(200).json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
}

#[test]
fn photos_are_paged_newest_first_without_gap_or_repeat() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let mut ids: Vec<String> = (0..7).map(|n| client.photo(&eyes::plain(1340 + n, 64, 64))).collect();
    ids.reverse();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for _ in 0..5 {
        let page = client.get(&format!("/photos?limit=3{cursor}")).expect(200).json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
}

#[test]
fn a_photo_with_an_unfinished_job_is_not_deleted() {
    let daemon = Daemon::start("[enhance]\nscope = \"photo\"\n[quality]\nmode = \"report\"\n");
    let client = daemon.client();
    let photo = client.photo(&eyes::eye(134, "2000x1500").bytes);
    let job = client.submit(&photo);
    client.delete(&format!("/photos/{photo}")).refused(409);
    client.completed(&job);
    client.delete(&format!("/photos/{photo}")).expect(204);
}

#[test]
fn deleting_a_photo_takes_its_results_its_retained_states_and_its_objects_along() {
    let (broker, bucket) = (Broker::start(), Bucket::start());
    let daemon = Daemon::start(&format!("{}{}", broker.config(), bucket.config()));
    let client = daemon.client();
    let photo = client.photo(&eyes::small_eye(135));
    let job = client.submit(&photo);
    let done = client.uploaded(&job, JOB);
    let topic = format!("irisd/box-1/job/{job}/state");
    eventually("the state is retained", JOB, || broker.retained(&topic));
    let url = client.absolute(&done["thumb_url"]);

    client.delete(&format!("/photos/{photo}")).expect(204);
    client.get(&format!("/photos/{photo}")).refused(404);
    client.get(&format!("/photos/{photo}/image")).refused(404);
    assert_ne!(daemon.anonymous().get(&url).status, 200);
    eventually("results and original are gone", JOB, || files::kept(&daemon.state).is_empty().then_some(()));
    eventually("its objects are gone", JOB, || bucket.keys().is_empty().then_some(()));
    eventually("the retained state is gone", JOB, || broker.retained(&topic).is_none().then_some(()));
}

#[test]
fn a_photo_carries_what_the_clinics_program_says_about_it() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let said = "client_ref=visit%2F7&eye=left&captured_at=2026-01-02T03:04:05Z";
    let send = |query: &str, seed: u64| {
        let request = client.request(reqwest::Method::POST, &format!("/photos?{query}")).header("content-type", "image/jpeg");
        client.send(request.body(eyes::plain(seed, 64, 64)))
    };
    let photo = send(said, 137).expect(201).json();
    assert_eq!((&photo["client_ref"], &photo["eye"]), (&"visit/7".into(), &"left".into()), "{photo:#}");
    assert_eq!(photo["captured_at"], "2026-01-02T03:04:05Z");
    send("", 138).expect(201);
    let found = |query: &str| client.get(&format!("/photos?{query}")).expect(200).json()["total"].as_u64();
    assert_eq!((found("client_ref=visit%2F7"), found("eye=left"), found("eye=right"), found("")), (Some(1), Some(1), Some(0), Some(2)));
    for wrong in ["eye=middle", "captured_at=yesterday", "captured_at=-000100-01-01T00:00:00Z", &format!("client_ref={}", "x".repeat(129))]
    {
        send(wrong, 139).refused_with(&[400, 422]);
    }
}

#[test]
fn parts_of_a_photo_are_given_where_there_are_any_and_of_the_same_photo() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let bytes = eyes::plain(140, 64, 64);
    let path = format!("/photos/{}/image", client.photo(&bytes));
    let ask = |headers: &[(&str, &str)]| {
        let request = client.request(reqwest::Method::GET, &path);
        client.send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
    };
    let whole = ask(&[]).expect(200);
    let etag = whole.header("etag");
    assert_eq!(ask(&[("range", "bytes=2-9"), ("if-range", etag)]).expect(206).body, bytes[2..10]);
    assert_eq!(ask(&[("range", "bytes=2-9"), ("if-range", "\"another\"")]).expect(200).body, bytes);
    let head = client.send(client.request(reqwest::Method::HEAD, &path).header("range", "bytes=2-9")).expect(200);
    assert_eq!(head.header("content-length"), bytes.len().to_string(), "a range is of a GET alone");
    for current in [etag, "*"] {
        ask(&[("if-none-match", current)]).expect(304);
    }
    for none in ["bytes=99999999-", "bytes=9-5"] {
        let refused = ask(&[("range", none)]);
        assert_eq!(refused.header("content-range"), format!("bytes */{}", bytes.len()), "{refused}");
        assert_eq!(refused.refused(416)["code"], "no_such_range");
    }
}

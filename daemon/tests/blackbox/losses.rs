//! A 2xx means that it is on disk: a loop of kills under concurrent submits, and everything that was answered is there.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    checks::sha256,
    common::{Dice, JOB, client::Client, daemon::Daemon, eventually, eyes},
};

const ROUNDS: u64 = 20;
const SUBMITTERS: u64 = 3;

/// What the daemon answered for with a 2xx.
#[derive(Default)]
struct Acknowledged {
    /// id, sha256
    photos: Vec<(String, String)>,
    /// job, photo
    jobs: Vec<(String, String)>,
    cancelled: Vec<String>,
    deleted: Vec<String>,
}

/// Uploads, submits, now and then cancels or deletes, until told to stop or the daemon dies.
fn submitter(client: &Client, numbers: &AtomicU64, stop: &AtomicBool, kept: &Mutex<Acknowledged>) {
    let answered = |request| client.try_send(request).ok().filter(|a| (200..300).contains(&a.status));
    while !stop.load(Ordering::Relaxed) {
        let n = numbers.fetch_add(1, Ordering::Relaxed);
        let bytes = eyes::plain(1000 + n, 96, 72);
        let upload = client.request(Method::POST, "/photos").header("content-type", "image/jpeg").body(bytes.clone());
        let Some(answer) = answered(upload) else { return };
        let photo = answer.id();
        if n % 5 == 4 {
            if answered(client.request(Method::DELETE, &format!("/photos/{photo}"))).is_some() {
                kept.lock().unwrap().deleted.push(photo);
            }
            continue; // unanswered: either is right
        }
        kept.lock().unwrap().photos.push((photo.clone(), sha256(&bytes)));
        let submit = client.request(Method::POST, "/processing/submit").json(&json!({"photo_id": photo}));
        let Some(answer) = answered(submit) else { return };
        let job = answer.id();
        kept.lock().unwrap().jobs.push((job.clone(), photo));
        if n % 7 == 6 && answered(client.request(Method::POST, &format!("/processing/jobs/{job}/cancel"))).is_some() {
            kept.lock().unwrap().cancelled.push(job);
        }
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_in_twenty_kills_under_load() {
    let mut daemon = Daemon::start("[queue]\ncrash_limit = 100\n");
    let (kept, numbers) = (Arc::new(Mutex::new(Acknowledged::default())), Arc::new(AtomicU64::new(0)));
    let mut dice = Dice::new(71);
    for _ in 0..ROUNDS {
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..SUBMITTERS)
            .map(|_| {
                let (client, numbers, stop, kept) = (daemon.client(), numbers.clone(), stop.clone(), kept.clone());
                thread::spawn(move || submitter(&client, &numbers, &stop, &kept))
            })
            .collect();
        let so_far = kept.lock().unwrap().jobs.len();
        let more = so_far + 1 + dice.roll(8) as usize;
        eventually("the round gets its answers", JOB, || (kept.lock().unwrap().jobs.len() >= more).then_some(()));
        daemon.kill9();
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|t| t.join().unwrap());
        daemon.restart();
    }
    let kept = kept.lock().unwrap();
    eprintln!(
        "{} photos, {} jobs, {} cancels, {} deletes acknowledged",
        kept.photos.len(),
        kept.jobs.len(),
        kept.cancelled.len(),
        kept.deleted.len()
    );
    let client = daemon.client();
    for (photo, hash) in &kept.photos {
        assert_eq!(client.get(&format!("/photos/{photo}")).expect(200).json()["sha256"], **hash);
        assert_eq!(sha256(&client.get(&format!("/photos/{photo}/image")).expect(200).body), *hash, "the bytes of {photo}");
    }
    for photo in &kept.deleted {
        client.get(&format!("/photos/{photo}")).refused(404);
    }
    for (job, photo) in &kept.jobs {
        let end = client.finished(job);
        assert_eq!(end["photo_id"], **photo);
        assert_ne!(end["error_type"], "server_error", "{end:#}");
    }
    for job in &kept.cancelled {
        assert_eq!(client.job(job)["status"], "cancelled");
    }
    // The list tells the same story as the single answers.
    assert!(client.total_jobs() >= kept.jobs.len() as u64);
}

#[test]
fn a_state_folder_without_its_index_is_rebuilt_and_nothing_is_missing() {
    let mut daemon = Daemon::start("");
    let client = daemon.client();
    let photos: Vec<String> = (0..5).map(|n| client.photo(&eyes::plain(2000 + n, 96, 72))).collect();
    let jobs: Vec<String> = photos[..4].iter().map(|p| client.submit(p)).collect();
    let ends: Vec<Value> = jobs.iter().map(|j| client.finished(j)["status"].clone()).collect();
    client.delete(&format!("/photos/{}", photos[4])).expect(204);
    assert!(daemon.stop().success());
    // What a power cut leaves of sled where its flush was trusted: an empty store.
    std::fs::remove_dir_all(daemon.state.join("store")).unwrap();
    daemon.restart();
    let client = daemon.client();
    for (job, end) in jobs.iter().zip(&ends) {
        assert_eq!(client.job(job)["status"], *end);
    }
    for photo in &photos[..4] {
        client.get(&format!("/photos/{photo}")).expect(200);
    }
    client.get(&format!("/photos/{}", photos[4])).refused(404);
    assert_eq!(client.total_jobs(), 4);
}

#[test]
fn a_store_with_damaged_blocks_is_set_aside_and_rebuilt() {
    let mut daemon = Daemon::start("");
    let client = daemon.client();
    let photos: Vec<String> = (0..20).map(|n| client.photo(&eyes::plain(3000 + n, 96, 72))).collect();
    let jobs: Vec<String> = photos.iter().map(|p| client.submit(p)).collect();
    for job in &jobs {
        client.finished(job);
    }
    daemon.kill9();
    let db = daemon.state.join("store/v1/db");
    let mut bytes = std::fs::read(&db).expect("sled's data file");
    let end = bytes.len().min(8192);
    bytes[end / 2..end].fill(0);
    std::fs::write(&db, bytes).unwrap();
    daemon.restart();
    let client = daemon.client();
    for job in &jobs {
        client.get(&format!("/processing/jobs/{job}")).expect(200);
    }
    assert_eq!(client.total_jobs(), jobs.len() as u64);
    eventually("a new photo finds its way", Duration::from_secs(60), || {
        let job = client.submit(&client.photo(&eyes::plain(4000, 96, 72)));
        ["completed", "failed"].contains(&client.finished(&job)["status"].as_str()?).then_some(())
    });
}

/// "Send the file again" is what a damaged original's job says.
#[test]
fn the_same_bytes_sent_again_take_the_place_of_an_original_that_was_damaged() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let eye = eyes::small_eye(3100);
    let photo = client.upload("image/jpeg", eye.clone()).expect(201).json();
    let hash = photo["sha256"].as_str().unwrap();
    let original = daemon.state.join("blobs").join(&hash[..2]).join(hash);
    let mut bytes = eye.clone();
    bytes[eye.len() / 2..].fill(0);
    std::fs::write(&original, bytes).unwrap();
    let again = client.upload("image/jpeg", eye.clone()).expect(200).json();
    assert_eq!(again["id"], photo["id"]);
    assert_eq!(std::fs::read(&original).unwrap(), eye);
    client.completed(&client.submit(photo["id"].as_str().unwrap()));
}

//! The list of jobs: pages, cursors, totals, filters, newest first.

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{client::Client, daemon::Daemon, eyes};

struct Listed {
    daemon: Daemon,
    client: Client,
    /// Newest first.
    jobs: Vec<String>,
}

/// Twelve finished jobs: two of an eye (completed), ten of plain pictures (failed), every third with a reference and an eye.
fn listed() -> Listed {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let mut jobs = Vec::new();
    for n in 0..12 {
        let photo = if n < 2 { client.photo(&eyes::small_eye(151 + n)) } else { client.photo(&eyes::plain(1510 + n, 64, 64)) };
        let mut body = json!({"photo_id": photo});
        if n % 3 == 0 {
            body["client_ref"] = json!("visit/7 &?");
            body["eye"] = json!(if n % 2 == 0 { "left" } else { "right" });
        }
        jobs.push(client.post("/processing/submit", body).expect(202).id());
    }
    for job in &jobs {
        client.finished(job);
    }
    jobs.reverse();
    Listed { daemon, client, jobs }
}

#[track_caller]
fn page(client: &Client, query: &str) -> Value {
    client.get(&format!("/processing/jobs?{query}")).expect(200).json()
}

#[track_caller]
fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().expect("items").iter().map(|j| j["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lists_are_newest_first_in_pages_with_totals() {
    let mut l = listed();
    let all = page(&l.client, "");
    assert_eq!(ids(&all), l.jobs);
    assert_eq!((&all["total"], &all["limit"], &all["offset"], &all["next_cursor"]), (&json!(12), &json!(20), &json!(0), &Value::Null));

    let by_offset: Vec<String> = [0, 5, 10].iter().flat_map(|o| ids(&page(&l.client, &format!("limit=5&offset={o}")))).collect();
    assert_eq!(by_offset, l.jobs);
    let second = page(&l.client, "limit=5&offset=5");
    assert_eq!((&second["total"], &second["limit"], &second["offset"]), (&json!(12), &json!(5), &json!(5)));
    assert_eq!(ids(&page(&l.client, "limit=5&offset=50")), Vec::<String>::new());
    assert_eq!(ids(&page(&l.client, "limit=100")).len(), 12);

    // By cursor, while new jobs come in between: no gap and no repeat.
    let photo = l.client.photo(&eyes::plain(1, 64, 64));
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let p = page(&l.client, &format!("limit=5{cursor}"));
        seen.extend(ids(&p));
        let Some(next) = p["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        l.client.submit(&photo);
        assert!(seen.len() < 40, "the cursor goes round");
    }
    assert_eq!(seen, l.jobs);

    // The order is the store's, after a restart too.
    let before = ids(&page(&l.client, "limit=100"));
    l.daemon.kill9();
    l.daemon.restart();
    assert_eq!(ids(&page(&l.daemon.client(), "limit=100")), before);
}

#[test]
fn lists_are_filtered_by_status_reference_and_eye() {
    let l = listed();
    let count = |query: &str| {
        let p = page(&l.client, query);
        assert_eq!(p["total"].as_u64(), Some(ids(&p).len() as u64), "{query}: the total counts what is filtered");
        ids(&p).len()
    };
    assert_eq!((count("status=completed"), count("status=failed"), count("status=pending"), count("status=cancelled")), (2, 10, 0, 0));
    assert_eq!(count("client_ref=visit%2F7%20%26%3F"), 4);
    assert_eq!(count("client_ref=visit"), 0, "whole references only");
    assert_eq!((count("eye=left"), count("eye=right")), (2, 2));
    assert_eq!(count("eye=left&status=completed"), 1);
    let p = page(&l.client, "status=failed&limit=4&offset=4");
    assert_eq!((ids(&p).len(), &p["total"]), (4, &json!(10)));
    for job in page(&l.client, "status=completed")["items"].as_array().unwrap() {
        assert_eq!(job["status"], "completed");
    }
}

#[test]
fn lists_of_photos_and_jobs_are_filtered_by_the_instant_of_the_capture() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let upload = |seed: u64, at: &str| {
        let request = client.request(Method::POST, &format!("/photos?captured_at={at}")).header("content-type", "image/jpeg");
        client.send(request.body(eyes::plain(seed, 64, 64))).expect(201).id()
    };
    let photos =
        [upload(1530, "2026-03-01T09:30:00.250Z"), upload(1531, "2026-03-01T09:30:00.251Z"), client.photo(&eyes::plain(1532, 64, 64))];
    let jobs = photos.each_ref().map(|p| client.submit(p));
    let found = |list: &str, at: &str| {
        let p = client.get(&format!("{list}?captured_at={at}")).expect(200).json();
        assert_eq!(p["total"].as_u64(), Some(ids(&p).len() as u64), "the total counts what is filtered");
        ids(&p)
    };
    for (list, rows) in [("/photos", &photos), ("/processing/jobs", &jobs)] {
        assert_eq!(found(list, "2026-03-01T09:30:00.250Z"), [rows[0].clone()], "{list}");
        assert_eq!(found(list, "2026-03-01T10:30:00.251%2B01:00"), [rows[1].clone()], "{list}: another offset, the same instant");
        assert!(found(list, "2026-03-01T09:30:00Z").is_empty(), "{list}");
        client.get(&format!("{list}?captured_at=yesterday")).refused(422);
    }
}

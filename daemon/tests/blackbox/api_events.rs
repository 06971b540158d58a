//! Live events: replay by Last-Event-ID over restarts, `reset` for what is too old, owners kept apart.

use serde_json::json;

use crate::{
    checks,
    common::{JOB, SOON, daemon::Daemon, eyes, live},
};

#[test]
fn a_client_that_was_away_gets_what_it_missed_after_a_restart_too() {
    let mut daemon = Daemon::start("");
    let client = daemon.client();
    let feed = live::sse(&client, None);
    let first = client.submit(&client.photo(&eyes::small_eye(161)));
    client.completed(&first);
    let last = feed.wait_kind(&first, "completed", SOON).id.expect("a transition has an id");
    let second = client.submit(&client.photo(&eyes::small_eye(162)));
    client.completed(&second);
    let seen = feed.wait_kind(&second, "completed", SOON);
    daemon.kill9();
    daemon.restart();

    let feed = live::sse(&daemon.client(), Some(last));
    feed.wait_kind(&second, "completed", SOON);
    assert!(feed.of_job(&first).is_empty(), "only what came after {last}");
    checks::events_are_in_order(&feed.kinds(&second), "completed", false);
    let again = feed.wait_kind(&second, "completed", SOON);
    assert_eq!((again.id, again.data), (seen.id, seen.data), "an event is the same when it is sent again");

    // From the beginning, and on into the present on the same line.
    let feed = live::sse(&daemon.client(), Some(0));
    let third = daemon.client().submit(&daemon.client().photo(&eyes::small_eye(163)));
    feed.wait_kind(&third, "completed", JOB);
    for job in [&first, &second, &third] {
        checks::events_are_in_order(&feed.kinds(job), "completed", false);
    }
    let transitions: Vec<_> = feed.all().into_iter().filter(live::Live::is_transition).map(|e| e.data).collect();
    checks::seq_rises(&transitions);
}

#[test]
fn an_id_that_never_was_does_not_make_the_client_deaf() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let feed = live::sse(&client, Some(u64::MAX / 4));
    let job = client.submit(&client.photo(&eyes::plain(160, 64, 64)));
    client.finished(&job);
    let told = |e: &live::Live| e.name == "reset" || e.data["event"] == "reset" || e.data["job_id"] == *job;
    feed.wait("a reset, or the events of today", SOON, told);
}

#[test]
fn a_kiosk_hears_of_its_own_jobs_alone_and_a_viewer_of_all() {
    let daemon = Daemon::start("");
    let (anna, ben, viewer) = (daemon.client_of("anna", "kiosk"), daemon.client_of("ben", "kiosk"), daemon.client_of("tv", "viewer"));
    let feeds = [live::sse(&ben, None), live::websocket(&ben)];
    let all = [live::sse(&viewer, None), live::websocket(&viewer)];
    let hers = anna.submit(&anna.photo(&eyes::small_eye(164)));
    anna.completed(&hers);
    let his = ben.submit(&ben.photo(&eyes::small_eye(165)));
    ben.completed(&his);
    for feed in &feeds {
        feed.wait_kind(&his, "completed", SOON);
        assert!(feed.all().iter().all(|e| e.data["job_id"] != *hers), "ben hears of anna's job");
    }
    for feed in &all {
        feed.wait_kind(&his, "completed", SOON);
        checks::events_are_in_order(&feed.kinds(&hers), "completed", false);
    }
    // A replay is filtered as well.
    let feed = live::sse(&ben, Some(0));
    feed.wait_kind(&his, "completed", SOON);
    assert!(feed.of_job(&hers).is_empty());
}

#[test]
fn the_websocket_and_sse_tell_the_same() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let (sse, ws) = (live::sse(&client, None), live::websocket(&client));
    let photo = client.photo(&eyes::small_eye(166));
    let body = json!({"photo_id": photo, "client_ref": "not-for-the-air"});
    let job = client.post("/processing/submit", body).expect(202).id();
    client.completed(&job);
    for feed in [&sse, &ws] {
        feed.wait_kind(&job, "completed", SOON);
    }
    let data = |feed: &live::Feed| feed.of_job(&job).into_iter().map(|e| e.data).collect::<Vec<_>>();
    assert_eq!(data(&sse), data(&ws));
}

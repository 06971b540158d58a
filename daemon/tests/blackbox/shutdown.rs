//! The end on purpose: nothing new is begun, what runs is finished or put back, the last words are said; a second signal ends at once.
//! Neither loses anything.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::{
    checks,
    common::{JOB, SOON, broker::Broker, client::check_problem, daemon::Daemon, eventually, eyes, files},
    kills::{SLOW, SLOW_SIZE, finished_once},
};

/// docs/queue.md and systemd's TimeoutStopSec: 17 s for the jobs, 11 s for the rest, and a busy machine.
const STATED: Duration = Duration::from_secs(45);

#[test]
fn while_the_daemon_ends_writes_are_refused_reads_are_answered_and_the_last_word_on_mqtt_is_stopped() {
    let broker = Broker::start();
    let collector = broker.collect(&["irisd/#"]);
    let mut daemon = Daemon::start(&format!("{SLOW}{}", broker.config()));
    let client = daemon.client();
    let photo = client.photo(&eyes::eye(101, "4000x3000").bytes);
    let (job, waiting) = (client.submit(&photo), client.submit(&photo));
    client.processing(&job);
    daemon.terminate();
    // From the signal on, at the latest a moment later.
    let refused = eventually("a submit is refused", SOON, || {
        let submit = client.request(Method::POST, "/processing/submit").json(&json!({"photo_id": photo}));
        let answer = client.try_send(submit).expect("the door is open while the job is at work");
        (answer.status != 202).then_some(answer)
    });
    assert_eq!(refused.status, 503, "{refused}");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|s| s > 0), "{refused}");
    let problem = refused.json();
    check_problem(&problem, 503);
    assert_eq!(problem["code"], "shutting_down");
    assert_eq!(client.get(&format!("/photos/{photo}")).expect(200).id(), photo, "reads are still answered");
    assert_eq!(daemon.ended(STATED).code(), Some(0));
    broker.wait_retained("irisd/box-1/status", "stopped", SOON);
    assert!(files::temporary(&daemon.state).is_empty(), "{:?}", files::temporary(&daemon.state));

    daemon.restart();
    let client = daemon.client();
    let accepted = client.total_jobs();
    assert!(accepted >= 2);
    for id in [&job, &waiting] {
        let done = client.completed(id);
        assert_eq!((&done["crashes"], &done["transient_retries"]), (&json!(0), &json!(0)), "{done:#}");
        finished_once(&daemon, id);
        collector.wait_event(id, "completed", SOON);
        checks::events_are_in_order(&collector.kinds(id), "completed", false);
    }
    checks::seq_rises(&collector.events());
}

#[test]
fn a_second_signal_ends_at_once_and_the_job_in_work_did_not_crash() {
    // One death in a row is enough to set a photo aside: this end must not count as one.
    let mut daemon = Daemon::start(&format!("{SLOW}[queue]\ncrash_limit = 1\n"));
    let client = daemon.client();
    let [slow, small] = [eyes::eye(102, SLOW_SIZE).bytes, eyes::small_eye(103)].map(|bytes| client.photo(&bytes));
    let [job, waiting] = [slow, small].map(|photo| client.submit(&photo));
    client.processing(&job);
    daemon.terminate();
    eventually("it is on its way out", SOON, || {
        let submit = client.request(Method::POST, "/processing/submit").json(&json!({}));
        client.try_send(submit).map_or(Some(()), |answer| (answer.status == 503).then_some(()))
    });
    assert!(daemon.is_running(), "the job ended before it could be cut off");
    daemon.terminate();
    let status = daemon.ended(SOON);
    assert!(!status.success(), "{status}");
    daemon.restart();
    for id in [&job, &waiting] {
        let done = daemon.client().completed(id);
        assert_eq!((&done["crashes"], &done["transient_retries"]), (&json!(0), &json!(0)), "{done:#}");
        finished_once(&daemon, id);
    }
    assert_eq!(daemon.client().job(&job)["attempt"], 2, "it was cut off and began again");
}

#[test]
fn an_idle_daemon_ends_within_the_stated_time_with_broker_and_clients_that_hold_on() {
    let broker = Broker::start();
    let mut daemon = Daemon::start(&broker.config());
    let client = daemon.client();
    broker.wait_retained("irisd/box-1/status", "online", SOON);
    // A reader that never lets go, and a job whose events are fresh.
    let feed = crate::common::live::sse(&client, None);
    let job = client.submit(&client.photo(&eyes::plain(104, 320, 240)));
    feed.wait_kind(&job, "failed", JOB);
    assert!(daemon.stop_within(STATED).success());
    broker.wait_retained("irisd/box-1/status", "stopped", SOON);
}

#[test]
fn asked_to_end_in_the_moment_in_which_it_is_there_it_ends_cleanly() {
    use rustix::process::Signal;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix("SigIgn:")?.trim(), 16).ok()).unwrap();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        if signal == Signal::HUP && ignored & 1 == 1 {
            continue; // under nohup, which the daemon inherits and heeds
        }
        let mut daemon = Daemon::start("");
        let pid = rustix::process::Pid::from_raw(i32::try_from(daemon.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        assert_eq!(daemon.ended(STATED).code(), Some(0), "{signal:?}");
        assert!(!daemon.state.join("endpoint").exists(), "{signal:?}");
    }
}

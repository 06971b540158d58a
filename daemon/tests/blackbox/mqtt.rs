//! What dashboards hear: retained states, the last will, events with exactly the contract's keys, and nothing private.

use serde_json::{Value, json};

use crate::{
    checks,
    common::{JOB, SOON, broker::Broker, daemon::Daemon, eventually, eyes},
};

const STATE_KEYS: [&str; 15] = [
    "schema",
    "ts",
    "seq",
    "job_id",
    "photo_id",
    "lane",
    "status",
    "current_step",
    "progress",
    "attempt",
    "error_type",
    "error_code",
    "message",
    "suggestion",
    "processing_time_ms",
];

#[test]
fn the_status_is_online_then_stopped_after_a_clean_end_and_offline_after_a_kill() {
    let broker = Broker::start();
    let mut daemon = Daemon::start(&broker.config());
    broker.wait_retained("irisd/box-1/status", "online", SOON);
    assert!(daemon.stop().success());
    broker.wait_retained("irisd/box-1/status", "stopped", SOON);
    daemon.restart();
    broker.wait_retained("irisd/box-1/status", "online", SOON);
    daemon.kill9();
    broker.wait_retained("irisd/box-1/status", "offline", SOON);
    daemon.restart();
    broker.wait_retained("irisd/box-1/status", "online", SOON);
}

#[test]
fn payloads_have_exactly_the_keys_of_the_contract_and_nothing_private() {
    let broker = Broker::start();
    let collector = broker.collect(&["#"]);
    let daemon = Daemon::start(&broker.config());
    let client = daemon.client_of("dr.jones", "kiosk");
    let photo = client.photo(&eyes::eye(31, "1600x1200").bytes);
    let body = json!({"photo_id": photo, "client_ref": "PATIENT-4711", "eye": "left"});
    let good = client.post("/processing/submit", body).expect(202).id();
    let bad = client.submit(&client.photo(&eyes::plain(31, 320, 240)));
    client.completed(&good);
    client.finished(&bad);
    collector.wait_event(&good, "completed", SOON);
    collector.wait_event(&bad, "failed", SOON);

    for event in collector.events() {
        checks::has_only_keys(&event, &["schema", "ts", "seq", "job_id", "event"]);
        assert_eq!(event["schema"], 1);
        checks::is_time(&event["ts"]);
    }
    for (job, end) in [(&good, "completed"), (&bad, "failed")] {
        let topic = format!("irisd/box-1/job/{job}/state");
        let states = eventually(&format!("{topic} says {end}"), SOON, || {
            let states = collector.on(&topic);
            (states.last()?.json()["status"] == end).then_some(states)
        });
        for state in &states {
            checks::has_only_keys(&state.json(), &STATE_KEYS);
            assert_eq!(state.qos, 1);
        }
        let retained: Value = serde_json::from_str(&broker.retained(&topic).expect("the state is retained")).unwrap();
        assert_eq!((&retained["status"], &retained["job_id"]), (&json!(end), &json!(job)));
        for tick in collector.on(&format!("irisd/box-1/job/{job}/progress")) {
            checks::has_only_keys(&tick.json(), &["schema", "ts", "seq", "job_id", "current_step", "progress"]);
        }
        assert!(broker.retained("irisd/box-1/job/event").is_none(), "events are not retained");
    }
    let failed: Value = serde_json::from_str(&broker.retained(&format!("irisd/box-1/job/{bad}/state")).unwrap()).unwrap();
    assert_eq!(failed["error_type"], "quality_issue");
    assert!(failed["suggestion"].as_str().is_some_and(|s| !s.is_empty()));

    for message in collector.all() {
        for secret in ["PATIENT-4711", "dr.jones", daemon.token.as_str()] {
            assert!(!message.payload.contains(secret) && !message.topic.contains(secret), "{secret} in {message:?}");
        }
    }
    for secret in ["PATIENT-4711", daemon.token.as_str()] {
        assert!(!daemon.log().contains(secret), "{secret} in the log");
    }
}

#[test]
fn the_device_tells_about_itself_in_retained_messages() {
    let broker = Broker::start();
    let daemon = Daemon::start(&broker.config());
    let client = daemon.client();
    client.completed(&client.submit(&client.photo(&eyes::small_eye(32))));
    for topic in ["info", "health", "queue", "uploads", "storage"] {
        let text = eventually(&format!("{topic} is there"), SOON, || broker.retained(&format!("irisd/box-1/{topic}")));
        let payload: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{topic} is no JSON ({e}): {text}"));
        checks::has_keys(&payload, &["schema", "ts", "seq"]);
        match topic {
            "queue" => checks::has_keys(&payload, &["oldest_wait_s", "running"]),
            "uploads" => checks::has_keys(&payload, &["pending", "bytes", "last_confirmed"]),
            "storage" => checks::has_keys(&payload, &["used", "free", "cap"]),
            _ => {}
        }
    }
    let config = broker.retained("homeassistant/device/box-1/config").expect("Home Assistant finds the device");
    serde_json::from_str::<Value>(&config).expect("discovery is JSON");
}

#[test]
fn home_assistant_coming_online_is_told_again() {
    let broker = Broker::start();
    let daemon = Daemon::start(&broker.config());
    broker.wait_retained("irisd/box-1/status", "online", SOON);
    let collector = broker.collect(&["homeassistant/device/#"]);
    let seen = || collector.on("homeassistant/device/box-1/config").len();
    eventually("the retained configuration arrives", SOON, || (seen() > 0).then_some(()));
    let before = seen();
    eventually("it is sent again", SOON, || {
        broker.publish("homeassistant/status", "online");
        (seen() > before).then_some(())
    });
    drop(daemon);
}

#[test]
fn without_discovery_and_commands_nothing_is_announced_nor_obeyed() {
    let broker = Broker::start();
    let collector = broker.collect(&["#"]);
    let config = format!("{}discovery = false\n[camera.front]\nkind = \"synthetic\"\nwidth = 640\nheight = 480\n", broker.config());
    let daemon = Daemon::start(&config);
    let client = daemon.client();
    broker.wait_retained("irisd/box-1/status", "online", SOON);
    broker.publish("irisd/box-1/cmd/capture", r#"{"camera": "front"}"#);
    // A job afterwards shows that the daemon had every chance to hear the command.
    let job = client.submit(&client.photo(&eyes::small_eye(33)));
    client.completed(&job);
    collector.wait_event(&job, "completed", JOB);
    assert_eq!(client.total_jobs(), 1, "a command was obeyed");
    assert!(collector.all().iter().all(|m| !m.topic.starts_with("homeassistant/")));
    assert!(collector.all().iter().all(|m| !m.topic.ends_with("/result")));
}

#[test]
fn with_commands_on_a_capture_over_mqtt_becomes_a_job_of_the_default_lane() {
    let broker = Broker::start();
    let collector = broker.collect(&["irisd/#"]);
    let config = format!("{}commands = true\n[camera.front]\nkind = \"synthetic\"\nwidth = 640\nheight = 480\n", broker.config());
    let daemon = Daemon::start(&config);
    let client = daemon.client();
    broker.wait_retained("irisd/box-1/status", "online", SOON);
    // `online` is said once the subscriptions stand.
    broker.publish("irisd/box-1/cmd/capture", r#"{"camera": "front"}"#);
    let result = eventually("the command is answered", SOON, || collector.on("irisd/box-1/cmd/capture/result").first().map(|m| m.json()));
    checks::has_keys(&result, &["schema", "ts", "seq"]);
    let jobs = client.get("/processing/jobs").expect(200).json();
    let job = &jobs["items"][0];
    assert_eq!((&job["lane"], &job["user_id"]), (&json!("default"), &json!("local")), "{result:#}");
    client.finished(job["id"].as_str().unwrap());
    // Nothing at all is how MQTT takes a retained message back.
    broker.publish("irisd/box-1/cmd/capture", "");
    broker.publish("irisd/box-1/cmd/capture", r#"{"camera": "front", "request_id": "next"}"#);
    let results = || collector.on("irisd/box-1/cmd/capture/result").iter().map(|m| m.json()).collect::<Vec<_>>();
    let told = eventually("the next command is answered", SOON, || Some(results()).filter(|r| r.iter().any(|r| r["request_id"] == "next")));
    assert_eq!((told.len(), client.total_jobs()), (2, 2), "{told:?}");
}

//! The doors beside the jobs: health, metrics, the description of the API, the page, the device's own state.

use serde_json::Value;

use crate::{
    checks,
    common::{SOON, bucket::Bucket, daemon::Daemon, eventually, eyes},
};

#[test]
fn health_docs_and_page_are_open() {
    let daemon = Daemon::start("");
    let anyone = daemon.anonymous();
    for path in ["/livez", "/readyz", "/startupz"] {
        eventually(&format!("{path} answers 200"), SOON, || (anyone.get(&format!("root:{path}")).status == 200).then_some(()));
    }
    for path in ["/", "/docs"] {
        let mut answer = anyone.get(&format!("root:{path}"));
        if (300..400).contains(&answer.status) {
            let to = answer.header("location").to_owned();
            answer = anyone.get(&format!("root:{to}"));
        }
        assert!(answer.header("content-type").starts_with("text/html"), "{path}: {answer}");
        let page = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(
            !page.contains("src=\"http") && !page.contains("src=\"//") && !page.contains("cdn."),
            "{path} wants something from outside"
        );
    }
}

#[test]
fn the_openapi_document_names_every_call_of_the_contract() {
    let daemon = Daemon::start("");
    let document = daemon.anonymous().get("root:/openapi.json").expect(200).json();
    assert!(document["openapi"].as_str().is_some_and(|v| v.starts_with("3.")), "{}", document["openapi"]);
    let wanted = [
        ("/photos", "post"),
        ("/photos", "get"),
        ("/photos/{id}", "get"),
        ("/photos/{id}", "delete"),
        ("/photos/{id}/image", "get"),
        ("/processing/submit", "post"),
        ("/processing/batch", "post"),
        ("/processing/jobs", "get"),
        ("/processing/jobs/{id}", "get"),
        ("/processing/jobs/{id}/reprocess", "post"),
        ("/processing/jobs/{id}/cancel", "post"),
        ("/capture", "post"),
        ("/cameras", "get"),
        ("/cameras/{name}/preview", "get"),
        ("/events", "get"),
        ("/ws", "get"),
        ("/device", "get"),
        ("/queue", "get"),
        ("/uploads", "get"),
        ("/session", "post"),
        ("/session", "delete"),
    ];
    let paths = document["paths"].as_object().expect("paths");
    for (path, method) in wanted {
        let operation = paths.get(&format!("/api/v1{path}")).or_else(|| paths.get(path)).and_then(|p| p.get(method));
        let responses = operation.and_then(|o| o["responses"].as_object());
        assert!(responses.is_some_and(|r| !r.is_empty()), "{method} {path} is not described");
    }
    let text = document.to_string();
    for name in checks::JOB_KEYS.iter().chain(&checks::PHOTO_KEYS) {
        assert!(text.contains(&format!("\"{name}\"")), "{name} is not described");
    }
    // Every reference leads somewhere.
    for reference in text.split("\"$ref\":\"#").skip(1).map(|r| r.split('"').next().unwrap()) {
        assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn the_metrics_are_open_metrics_and_hold_no_names() {
    let daemon = Daemon::start("");
    let client = daemon.client_of("secret-owner", "kiosk");
    client.completed(&client.submit(&client.photo(&eyes::small_eye(121))));
    let answer = daemon.client().get("root:/metrics").expect(200);
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.lines().any(|l| l.starts_with("# TYPE")), "{text}");
    assert!(!text.contains("secret-owner"));
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let value = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}")).1;
        assert!(value.parse::<f64>().is_ok(), "{line:?}");
    }
}

#[test]
fn the_device_tells_what_really_runs() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    client.completed(&client.submit(&client.photo(&eyes::small_eye(122))));
    let device = client.get("/device").expect(200).json();
    assert!(device.to_string().contains(env!("CARGO_PKG_VERSION")), "the version: {device:#}");
    // Whatever the shape of the list is: each model has the contract's members, and no GPU is claimed on this machine.
    let mut models = Vec::new();
    find_models(&device, &mut models);
    for model in models {
        checks::has_keys(&model, &["configured", "active", "state", "reason"]);
        let state = model["state"].as_str().unwrap_or("");
        assert!(["not_loaded", "building", "warming", "ready", "degraded", "failed"].contains(&state), "{model:#}");
        if std::env::var_os("CUDA_VISIBLE_DEVICES").is_none() && !std::fs::exists("/dev/nvidia0").unwrap() {
            assert!(model["active"].is_null() || model["active"] == "cpu", "no lie about the hardware: {model:#}");
        }
    }
}

fn find_models(at: &Value, found: &mut Vec<Value>) {
    match at {
        Value::Object(members) if members.contains_key("configured") => found.push(at.clone()),
        Value::Object(members) => members.values().for_each(|v| find_models(v, found)),
        Value::Array(items) => items.iter().for_each(|v| find_models(v, found)),
        _ => {}
    }
}

#[test]
fn queue_and_uploads_count() {
    let mut bucket = Bucket::away();
    let daemon = Daemon::start(&bucket.config());
    let client = daemon.client();
    for path in ["/queue", "/uploads"] {
        assert!(client.get(path).expect(200).json().is_object());
    }
    let id = client.submit(&client.photo(&eyes::small_eye(123)));
    client.completed(&id);
    let uploads = client.get("/uploads").expect(200).json();
    assert!(uploads["pending"].as_u64().is_some_and(|n| n > 0), "{uploads:#}");
    bucket.restart();
    client.uploaded(&id, std::time::Duration::from_secs(60));
    eventually("nothing is pending", SOON, || (client.get("/uploads").expect(200).json()["pending"] == 0).then_some(()));
}

#[test]
fn every_answer_has_a_request_id_and_says_so_to_caches_and_sniffers() {
    let daemon = Daemon::start("");
    let answer = daemon.client().get("/photos");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{:?}", answer.headers);
    let problem = daemon.client().get("/photos/01890000-0000-7000-8000-000000000000").refused(404);
    assert!(problem["request_id"].as_str().is_some_and(|id| daemon.log().contains(id) || !id.is_empty()));
}

//! Networks that are missing, wrong, too large, broken or without an end: each is named for what it is, the daemon stays up, and photos are
//! served by the classical way, or again once the network is put right. (Most of it needs the runtime library.)

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    common::{
        IRISD, JOB, SOON,
        client::Client,
        daemon::{Daemon, text},
        eventually, eyes, files,
    },
    nets::{self, Answer},
};

/// None, with a word about it, where there is no runtime library.
fn library() -> Option<String> {
    let library = std::env::var("IRISD_TEST_ONNXRUNTIME").unwrap_or_default();
    if library.is_empty() {
        eprintln!("skipped: IRISD_TEST_ONNXRUNTIME names no library");
    }
    (!library.is_empty()).then_some(library)
}

/// A photo through the daemon, and its report where there is one.
#[track_caller]
fn run(client: &Client, seed: u64) -> Value {
    client.finished(&client.submit(&client.photo(&eyes::small_eye(seed))))
}

fn report(daemon: &Daemon, job: &Value) -> Value {
    let path = daemon.state.join("results").join(job["id"].as_str().unwrap()).join("report.json");
    serde_json::from_slice(&fs::read(path).expect("a report")).unwrap()
}

#[track_caller]
fn fails_with(job: &Value, class: &str, code: &str) {
    assert_eq!((&job["status"], &job["error_type"], &job["error_code"]), (&json!("failed"), &json!(class), &json!(code)), "{job:#}");
}

fn model(client: &Client, name: &str) -> Value {
    let device = client.get("/device").expect(200).json();
    device["models"].as_array().unwrap().iter().find(|m| m["name"] == name).expect("a row").clone()
}

/// A library that speaks an older API than this program.
fn old_library(folder: &Path) -> String {
    let source = folder.join("old.c");
    fs::write(
        &source,
        "typedef struct { const void *(*api)(unsigned); const char *(*version)(void); } Base;\n\
         static const void *api(unsigned v) { (void)v; return 0; }\n\
         static const char *version(void) { return \"1.14.1\"; }\n\
         static const Base base = { api, version };\n\
         const Base *OrtGetApiBase(void) { return &base; }\n",
    )
    .unwrap();
    let library = folder.join("libonnxruntime.so.1.14.1");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output().expect("there is a C compiler");
    assert!(built.status.success(), "{}", text(&built));
    library.to_str().unwrap().to_owned()
}

#[test]
fn a_library_that_is_a_text_or_speaks_an_older_api_is_said_and_the_classical_way_serves() {
    let dir = tempfile::tempdir().unwrap();
    let words = dir.path().join("libonnxruntime.so");
    fs::write(&words, "I am a text file").unwrap();
    for (library, word) in [(words.to_str().unwrap().to_owned(), "it is no library"), (old_library(dir.path()), "1.14.1")] {
        let paths = format!("[paths]\nonnxruntime = \"{library}\"\n");
        let mut daemon = Daemon::start(&format!("{paths}[segment]\nmodel = \"iris\"\n"));
        fails_with(&run(&daemon.client(), 401), "server_error", "runtime_missing");
        let device = daemon.client().get("/device").expect(200).json();
        let reason = device["runtime"]["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(word) && device["runtime"]["library"].is_null(), "{device:#}");
        assert!(device["degraded"].to_string().contains("the classical stages do the work"), "{device:#}");
        assert!(daemon.stop().success());
        daemon.reconfigure(&paths);
        daemon.restart();
        let done = run(&daemon.client(), 401);
        assert_eq!((&done["status"], &report(&daemon, &done)["iris"]["method"]), (&json!("completed"), &json!("classical")), "{done:#}");
    }
}

#[test]
fn without_any_library_a_named_network_is_missing_its_runtime_and_auto_goes_without() {
    // A program that lies elsewhere finds none of the checkout's.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("irisd");
    fs::hard_link(IRISD, &program).or_else(|_| fs::copy(IRISD, &program).map(drop)).unwrap();
    if ["/usr/lib", "/usr/local/lib"].iter().any(|p| Path::new(p).join("libonnxruntime.so").exists()) {
        eprintln!("skipped: this machine has a library of its own");
        return;
    }
    let photo = dir.path().join("eye.jpg");
    fs::write(&photo, eyes::small_eye(402)).unwrap();
    let process = |model: &str| {
        let mut command = Command::new(&program);
        command.args(["process", "--json", "--out"]).arg(dir.path().join("out")).arg(&photo);
        command.env("IRISD_PATHS__STATE", dir.path().join("state")).env("IRISD_SEGMENT__MODEL", model);
        command.env("IRISD_PATHS__WEIGHTS", Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights"));
        let out = command.env_remove("ORT_DYLIB_PATH").output().unwrap();
        serde_json::from_slice::<Value>(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out)))
    };
    let line = process("iris");
    assert_eq!((&line["error_type"], &line["error_code"]), (&json!("server_error"), &json!("runtime_missing")), "{line:#}");
    assert_eq!(process("auto")["status"], "completed");
}

#[test]
fn without_a_weights_folder_a_named_network_is_missing_and_auto_goes_without() {
    if library().is_none() {
        return;
    }
    let nowhere = "[paths]\nweights = \"/nonexistent/weights\"\n";
    let mut daemon = Daemon::start(&format!("{nowhere}[segment]\nmodel = \"iris\"\n"));
    fails_with(&run(&daemon.client(), 403), "server_error", "weights_missing");
    assert!(daemon.stop().success());
    daemon.reconfigure(nowhere);
    daemon.restart();
    let done = run(&daemon.client(), 403);
    assert_eq!((&done["status"], &report(&daemon, &done)["iris"]["method"]), (&json!("completed"), &json!("classical")), "{done:#}");
}

#[test]
fn half_downloaded_weights_are_never_loaded_and_work_once_they_are_whole_without_a_restart() {
    if library().is_none() {
        return;
    }
    let daemon = Daemon::prepare("[segment]\nmodel = \"iris\"\n");
    let whole = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights/iris.onnx")).unwrap();
    let place = daemon.state.join("weights/iris.onnx");
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, &whole[..whole.len() / 2]).unwrap();
    let mut daemon = daemon;
    daemon.restart();
    let client = daemon.client();
    let failed = run(&client, 404);
    fails_with(&failed, "server_error", "weights_tampered");
    assert_eq!(model(&client, "iris")["state"], "failed");
    fs::write(&place, &whole).unwrap();
    let again = client.post(&format!("/processing/jobs/{}/reprocess", failed["id"].as_str().unwrap()), json!({})).expect(202).id();
    let done = client.completed(&again);
    assert_eq!(report(&daemon, &done)["iris"]["method"], "onnx");
    assert_eq!(model(&client, "iris")["active"], "cpu");
}

/// A daemon that enlarges by the network `brought`, which makes of a photo what `answer` says.
fn with_upscaler(answer: Answer, change: impl Fn(&str) -> String, extra: &str) -> Option<Daemon> {
    library()?;
    let mut daemon = Daemon::prepare(&format!("[enhance]\nmodel = \"brought\"\n[quality]\nmode = \"report\"\n{extra}"));
    let network = nets::upscaler(answer);
    nets::state_manifest(&daemon.state, &[change(&nets::upscaler_row("brought", &network))]);
    fs::write(daemon.state.join("weights/brought.onnx"), &network).unwrap();
    daemon.restart();
    Some(daemon)
}

#[test]
fn a_network_with_other_input_names_is_a_mismatch_that_names_both() {
    let rename = |row: &str| row.replace("name = \"input\"", "name = \"photo\"");
    let Some(daemon) = with_upscaler(Answer::Good, rename, "") else { return };
    fails_with(&run(&daemon.client(), 405), "server_error", "model_mismatch");
    let reason = model(&daemon.client(), "brought")["reason"].to_string();
    assert!(reason.contains("input photo f32") && reason.contains("the file has: input"), "{reason}");
}

#[test]
fn a_network_that_fails_while_it_runs_gets_its_job_one_more_try_and_then_lanczos_makes_the_picture() {
    let Some(mut daemon) = with_upscaler(Answer::Throws, str::to_owned, "") else { return };
    let client = daemon.client();
    let done = run(&client, 406);
    assert_eq!((&done["status"], &done["transient_retries"], &done["attempt"]), (&json!("completed"), &json!(1), &json!(2)), "{done:#}");
    let enhance = report(&daemon, &done)["enhance"].clone();
    assert_eq!(enhance["method"], "clahe_lanczos", "{enhance:#}");
    assert!(enhance["fallback_reason"].as_str().is_some_and(|r| r.contains("brought")), "{enhance:#}");
    let shown = model(&client, "brought");
    assert_eq!((&shown["state"], &shown["active"]), (&json!("failed"), &json!("cpu")), "{shown:#}");
    let next = run(&client, 407);
    assert_eq!((&next["status"], &next["attempt"]), (&json!("completed"), &json!(1)), "it failed twice: no photo waits for it: {next:#}");
    assert!(daemon.is_running());
}

#[test]
fn a_network_without_an_end_ends_with_its_jobs_time_or_cancel_and_nothing_is_stuck() {
    let Some(mut daemon) = with_upscaler(Answer::Endless, str::to_owned, "[queue]\njob_timeout = \"5s\"\n") else { return };
    let client = daemon.client();
    let photo = client.photo(&eyes::small_eye(408));
    let timed_out = client.finished(&client.submit(&photo));
    fails_with(&timed_out, "transient_error", "job_timeout");
    assert_eq!((&timed_out["attempt"], &timed_out["transient_retries"]), (&json!(2), &json!(1)), "{timed_out:#}");
    let shown = model(&client, "brought");
    assert_eq!((&shown["state"], &shown["active"]), (&json!("degraded"), &json!("cpu")), "the network is not to blame: {shown:#}");

    let job = client.submit(&photo);
    eventually("the network runs", JOB, || (client.job(&job)["current_step"] == "enhance").then_some(()));
    client.post(&format!("/processing/jobs/{job}/cancel"), json!({})).expect(200);
    eventually("nothing is left of it", SOON, || files::temporary(&daemon.state).is_empty().then_some(()));
    let next = client.submit(&photo);
    client.processing(&next); // its place is free, long before the time of the one before would have been over
    client.post(&format!("/processing/jobs/{next}/cancel"), json!({})).expect(200);
    assert!(!daemon.log().contains("stuck inside one step"));
    assert!(daemon.is_running());
    assert!(daemon.stop().success());
}

#[test]
fn a_network_that_would_not_fit_into_the_memory_works_by_smaller_tiles_or_not_at_all_and_says_so() {
    if library().is_none() {
        return;
    }
    let named = "[enhance]\nmodel = \"realesr-animevideov3-x4\"\n[quality]\nmode = \"report\"\n[inference]\nmemory = ";
    let mut daemon = Daemon::start(&format!("{named}\"20MB\"\n"));
    let enhance = report(&daemon, &run(&daemon.client(), 409))["enhance"].clone();
    assert_eq!(enhance["method"], "network", "{enhance:#}");
    assert!(enhance["tile"].as_u64() < Some(128), "{enhance:#}");
    assert!(enhance["fallback_reason"].as_str().is_some_and(|r| r.contains("memory")), "{enhance:#}");
    assert!(daemon.stop().success());
    daemon.reconfigure(&format!("{named}\"4MB\"\n"));
    daemon.restart();
    let done = run(&daemon.client(), 410);
    let report = report(&daemon, &done);
    assert_eq!(
        (&done["status"], &report["iris"]["method"], &report["enhance"]["method"]),
        (&json!("completed"), &json!("classical"), &json!("clahe_lanczos")),
        "{report:#}"
    );
    assert!(report["enhance"]["fallback_reason"].as_str().is_some_and(|r| r.contains("not enough memory")), "{report:#}");
}

#[test]
fn what_really_ran_is_said_everywhere_and_a_demand_that_is_not_met_is_no_readiness() {
    if library().is_none() {
        return;
    }
    let daemon = Daemon::start("[inference]\nproviders = [\"cuda\", \"cpu\"]\nrequire = \"cuda\"\n");
    let client = daemon.client();
    let shown = eventually("the warm-up ends", SOON, || Some(model(&client, "iris")).filter(|m| m["state"] == "degraded"));
    assert_eq!(shown["active"], "cpu", "{shown:#}");
    assert!(shown["nodes"].as_str().is_some_and(|n| n.starts_with("cpu ") && n.ends_with(" nodes")), "{shown:#}");
    let degraded = client.get("/device").expect(200).json()["degraded"].to_string();
    assert!(degraded.contains("iris: cuda wanted, cpu ran, because cuda:"), "{degraded}");
    let reasons = client.get("root:/readyz").expect(503).json()["reasons"].to_string();
    assert!(reasons.contains("cuda") && reasons.contains("iris runs on cpu"), "{reasons}");
    let lines = ["irisd_provider{model=\"iris\",provider=\"cpu\"} 1", "irisd_model_state{model=\"iris\",state=\"degraded\"} 1"];
    eventually("the figures say it too", SOON, || {
        let metrics = String::from_utf8(client.get("root:/metrics").expect(200).body).unwrap();
        lines.iter().all(|line| metrics.contains(line)).then_some(())
    });
    let done = run(&client, 411);
    let report = report(&daemon, &done);
    assert_eq!(report["iris"]["provider"], "cpu", "{report:#}");
    assert!(report["degraded"].to_string().contains("iris: cuda wanted, cpu ran"), "{report:#}");
}

#[test]
fn an_idle_network_leaves_memory_and_comes_back() {
    if library().is_none() {
        return;
    }
    let daemon = Daemon::start("[inference]\nidle_unload = \"1s\"\n[enhance]\nmodel = \"realesr-animevideov3-x4\"\n");
    let client = daemon.client();
    let name = "realesr-animevideov3-x4";
    client.completed(&client.submit(&client.photo(&eyes::small_eye(412))));
    eventually("it leaves", SOON, || (model(&client, name)["state"] == "not_loaded").then_some(()));
    let done = client.completed(&client.submit(&client.photo(&eyes::small_eye(413))));
    assert_eq!(report(&daemon, &done)["enhance"]["method"], "network");
}

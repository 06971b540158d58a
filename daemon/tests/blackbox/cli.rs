//! The command line: exit codes, the configuration's problems all at once, a client of the running daemon.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::common::{
    SOON,
    broker::Broker,
    bucket::Bucket,
    daemon::{Daemon, irisd, text, write_config},
    eventually, eyes,
};

#[test]
fn wrong_usage_exits_2_and_wrong_configuration_78_with_every_problem_named() {
    for args in [&["fly"][..], &["run", "--fast"], &["process"], &["token", "create"], &["jobs", "show"], &["sample"]] {
        let out = irisd().args(args).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {}", text(&out));
        assert!(out.stdout.is_empty(), "{args:?}: {}", text(&out));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("irisd.toml");
    let wrong = "[segment]\nmin_coverage = 7.0\n[enhance]\nscale = 9\n[mqtt]\nurl = \"ftp://broker\"\n[queue]\nmax_pending = 0\n[paths]\nonnxruntime = \"/nowhere/lib.so\"\n";
    std::fs::write(&path, wrong).unwrap();
    for command in ["check", "run"] {
        let out = irisd().args([command, "--config"]).arg(&path).output().unwrap();
        assert_eq!(out.status.code(), Some(78), "{command}: {}", text(&out));
        let said = text(&out);
        for key in ["min_coverage", "scale", "url", "max_pending", "onnxruntime"] {
            assert!(said.contains(key), "{command} does not name {key}: {said}");
        }
    }
    for (wrong, name) in
        [("[http]\ncolour = 1\n", "colour"), ("[weather]\nrain = true\n", "weather"), ("[http]\nlisten = \"x\"\n", "listen"), ("[http", "")]
    {
        std::fs::write(&path, wrong).unwrap();
        let out = irisd().args(["check", "--config"]).arg(&path).output().unwrap();
        assert_eq!(out.status.code(), Some(78), "{wrong:?}: {}", text(&out));
        assert!(text(&out).contains(name), "{wrong:?}: {}", text(&out));
    }
    let out = irisd().args(["check", "--config", "/nowhere/irisd.toml"]).output().unwrap();
    assert_eq!(out.status.code(), Some(78), "{}", text(&out));
    let out = irisd().arg("check").env("IRISD_HTTP__COLOUR", "blue").output().unwrap();
    assert_eq!(out.status.code(), Some(78), "an unknown key of the environment: {}", text(&out));
}

#[test]
fn a_network_that_the_manifest_does_not_have_for_the_role_is_a_problem_of_its_key() {
    let daemon = Daemon::prepare("[segment]\nmodel = \"irys\"\n[enhance]\nmodel = \"iris\"\n[queue]\nmax_pending = 0\n");
    let out = irisd().args(["check", "--json", "--config"]).arg(daemon.config_path()).output().unwrap();
    assert_eq!(out.status.code(), Some(78), "{}", text(&out));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let problems = report["problems"].as_array().unwrap();
    let of = |key: &str| problems.iter().find(|p| p["key"] == key).unwrap_or_else(|| panic!("{key}: {report:#}"));
    assert_eq!(problems.len(), 3, "{report:#}");
    of("queue.max_pending");
    for (key, known) in [("segment.model", ["irys", "classical", "iris"]), ("enhance.model", ["iris", "lanczos", "realesr"])] {
        let message = of(key)["message"].as_str().unwrap();
        assert!(known.iter().all(|name| message.contains(name)), "{message}");
        assert!(of(key)["at"].as_str().unwrap().contains("toml:"), "{report:#}");
    }
    let right = Daemon::prepare("[segment]\nmodel = \"iris\"\n");
    let out = irisd().args(["check", "--config"]).arg(right.config_path()).output().unwrap();
    assert!(out.status.success(), "{}", text(&out));
}

#[test]
fn a_right_configuration_passes_and_the_environment_wins_over_the_file() {
    let daemon = Daemon::prepare("");
    let check = |env: Option<(&str, &str)>| irisd().args(["check", "--config"]).arg(daemon.config_path()).envs(env).output().unwrap();
    let out = check(None);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert_eq!(check(Some(("IRISD_ENHANCE__SCALE", "2"))).status.code(), Some(0));
    assert_eq!(check(Some(("IRISD_ENHANCE__SCALE", "9"))).status.code(), Some(78));
    assert_eq!(check(Some(("IRISD_CAMERA__FRONT__KIND", "synthetic"))).status.code(), Some(0));
    assert_eq!(check(Some(("IRISD_CAMERA__FRONT__KIND", "crystal-ball"))).status.code(), Some(78));
}

#[test]
fn a_second_daemon_on_the_same_state_says_so_and_ends_with_1() {
    let daemon = Daemon::start("");
    let out = daemon.cli(&["run", "--config", daemon.config_path().to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    let said = String::from_utf8_lossy(&out.stderr).to_lowercase();
    assert!(said.contains("already") || said.contains("another") || said.contains("lock"), "{said}");
    assert!(!String::from_utf8_lossy(&out.stdout).contains("listening"));
    daemon.client().get("/queue").expect(200);
}

#[test]
fn submit_waits_and_jobs_shows_lists_and_reprocesses() {
    let daemon = Daemon::start("");
    let photo = eyes::eye(211, "640x480").path;
    let json = |args: &[&str]| -> Value {
        let out = daemon.cli(args);
        assert!(out.status.success(), "{args:?}: {}", text(&out));
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{args:?}: not JSON ({e}): {}", text(&out)))
    };
    let out = daemon.cli(&["submit", photo.to_str().unwrap(), "--lane", "default", "--wait"]);
    assert!(out.status.success(), "{}", text(&out));
    let listed = daemon.client().get("/processing/jobs").expect(200).json();
    let job = &listed["items"][0];
    assert_eq!((&job["status"], &job["lane"]), (&json!("completed"), &json!("default")));
    let id = job["id"].as_str().unwrap();
    assert!(text(&out).contains(id), "the job's id is told: {}", text(&out));

    assert_eq!(json(&["jobs", "show", id, "--json"])["id"], id);
    assert!(json(&["jobs", "list", "--json"]).to_string().contains(id));
    let table = daemon.cli(&["jobs", "list"]);
    assert!(table.status.success() && String::from_utf8_lossy(&table.stdout).contains(id), "{}", text(&table));
    let again = json(&["jobs", "reprocess", id, "--json"]);
    let new = again["id"].as_str().expect("the new job").to_owned();
    daemon.client().completed(&new);

    let failed = daemon.cli(&["jobs", "cancel", id]);
    assert_eq!(failed.status.code(), Some(1), "a finished job cannot be cancelled: {}", text(&failed));
    assert!(!failed.stderr.is_empty());
    assert_eq!(daemon.cli(&["jobs", "show", "01890000-0000-7000-8000-000000000000"]).status.code(), Some(1));
}

#[test]
fn jobs_watch_shows_the_steps_of_a_job_and_ends_with_it() {
    let daemon = Daemon::start("");
    let client = daemon.client();
    let good = client.submit(&client.photo(&eyes::eye(215, "1600x1200").bytes));
    let out = daemon.cli(&["jobs", "watch", &good]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let said = text(&out);
    let places: Vec<_> = crate::common::live::STEPS.iter().map(|s| said.find(s)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "each step in its order: {said}");
    let bad = client.submit(&client.photo(&eyes::plain(215, 320, 240)));
    assert_eq!(daemon.cli(&["jobs", "watch", &bad]).status.code(), Some(1));
}

#[test]
fn submit_of_a_bad_photo_says_why_and_exits_1() {
    let daemon = Daemon::start("");
    let dir = tempfile::tempdir().unwrap();
    let (words, wall) = (dir.path().join("words.jpg"), dir.path().join("wall.jpg"));
    std::fs::write(&words, "words").unwrap();
    std::fs::write(&wall, eyes::plain(212, 640, 480)).unwrap();
    for path in [words, wall] {
        let out = daemon.cli(&["submit", path.to_str().unwrap(), "--wait"]);
        assert_eq!(out.status.code(), Some(1), "{}", text(&out));
        assert!(text(&out).len() > 60, "it says why: {}", text(&out));
    }
}

#[test]
fn each_photo_of_a_submit_has_an_outcome_of_its_own_and_the_good_ones_become_jobs() {
    let daemon = Daemon::start("");
    let dir = tempfile::tempdir().unwrap();
    let (words, gone) = (dir.path().join("words.jpg"), dir.path().join("gone.jpg"));
    std::fs::write(&words, "words").unwrap();
    let good = [216, 217].map(|seed| eyes::eye(seed, "640x480").path);
    let photos = [&words, &good[0], &gone, dir.path(), &good[1]].map(|p| p.to_str().unwrap());
    for (wait, status) in [(None, ["pending", "processing", "completed"]), (Some("--wait"), ["completed"; 3])] {
        let args: Vec<&str> = ["submit", "--json"].into_iter().chain(photos).chain(wait).collect();
        let out = daemon.cli(&args);
        assert_eq!(out.status.code(), Some(1), "{}", text(&out));
        let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
        let lines: Vec<Value> = stdout.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
        assert_eq!(lines.iter().map(|l| l["photo"].as_str().unwrap()).collect::<Vec<_>>(), photos, "{lines:#?}");
        for (line, code) in [(0, "unsupported_image"), (2, "original_missing"), (3, "original_missing")] {
            let line = &lines[line];
            assert_eq!((&line["status"], &line["error_code"], &line["job_id"]), (&json!("failed"), &json!(code), &Value::Null));
            assert!(line["message"].is_string() && line["suggestion"].is_string() && line["error_type"].is_string(), "{line:#}");
        }
        for line in [&lines[1], &lines[4]] {
            assert!(status.contains(&line["status"].as_str().unwrap()) && line["error_code"].is_null(), "{line:#}");
            assert_eq!(daemon.client().finished(line["job_id"].as_str().unwrap())["status"], "completed");
        }
    }
    let out = daemon.cli(&["submit", photos[0], photos[2]]);
    assert_eq!(out.status.code(), Some(1));
    assert!([photos[0], photos[2], "no such file"].iter().all(|said| text(&out).contains(said)), "{}", text(&out));
}

#[test]
fn capture_by_the_command_line_makes_a_job() {
    let daemon = Daemon::start("[camera.front]\nkind = \"synthetic\"\nwidth = 640\nheight = 480\n");
    let out = daemon.cli(&["capture", "--camera", "front", "--json"]);
    assert!(out.status.success(), "{}", text(&out));
    let answer: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out)));
    daemon.client().finished(answer["job"]["id"].as_str().unwrap_or_else(|| panic!("{answer:#}")));
    assert!(!daemon.cli(&["capture", "--camera", "none"]).status.success());
}

#[test]
fn clients_find_the_daemon_by_url_and_token_file_as_well() {
    let daemon = Daemon::start("");
    let token_file = daemon.state.join("local.token");
    let by_flags = irisd().args(["jobs", "list", "--json", "--url", &daemon.base, "--token-file"]).arg(&token_file).output().unwrap();
    assert!(by_flags.status.success(), "{}", text(&by_flags));
    let by_env =
        irisd().args(["jobs", "list", "--json"]).env("IRISD_URL", &daemon.base).env("IRISD_TOKEN_FILE", &token_file).output().unwrap();
    assert!(by_env.status.success(), "{}", text(&by_env));
    assert_eq!(std::fs::read_to_string(daemon.state.join("endpoint")).unwrap().trim().trim_end_matches('/'), daemon.base);
    let nobody =
        irisd().args(["jobs", "list"]).env("IRISD_URL", "http://127.0.0.1:1").env("IRISD_TOKEN_FILE", &token_file).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1), "{}", text(&nobody));
}

#[test]
fn doctor_says_in_json_what_this_device_can_do() {
    let daemon = Daemon::prepare("");
    let out = irisd().args(["doctor", "--json"]).envs([("IRISD_PATHS__STATE", &daemon.state)]).output().unwrap();
    assert!([Some(0), Some(1)].contains(&out.status.code()), "{}", text(&out));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out)));
    assert!(report.is_object() || report.is_array(), "{report}");
    assert!(!daemon.state.join("engines").exists(), "a look leaves nothing behind");
}

#[test]
fn doctor_is_let_in_by_broker_and_bucket_as_the_daemon_would_be_and_says_where_a_key_is_wrong() {
    let (broker, bucket) = (Broker::start(), Bucket::start());
    let mut daemon = Daemon::start(&format!("{}{}", broker.config(), bucket.config()));
    broker.wait_retained("irisd/box-1/status", "online", SOON);
    let check = |config: &Path, name: &str| -> (String, String) {
        let out = irisd().args(["doctor", "--json", "--config"]).arg(config).output().unwrap();
        let report: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out)));
        let row = report["checks"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{report:#}")).clone();
        (row["state"].as_str().unwrap().to_owned(), row["detail"].as_str().unwrap().to_owned())
    };
    for name in ["broker", "bucket"] {
        let (state, detail) = check(&daemon.config_path(), name);
        assert_eq!(state, "ok", "{name}: {detail}");
    }
    assert_eq!(broker.retained("irisd/box-1/status").as_deref(), Some("online"), "a daemon that runs is not spoken for");
    assert!(daemon.is_running() && bucket.keys().is_empty());

    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("key");
    std::fs::write(&wrong, "not the key").unwrap();
    let mut s3: toml::Table = bucket.config().parse().unwrap();
    s3["s3"]["secret_key_file"] = wrong.to_str().unwrap().into();
    let config = write_config(dir.path(), &dir.path().join("state"), &s3.to_string());
    let (state, detail) = check(&config, "bucket");
    assert!(state == "warn" && detail.contains("key"), "{state}: {detail}");
}

#[test]
fn the_store_is_verified_and_exported_when_the_daemon_is_stopped_and_not_before() {
    let mut daemon = Daemon::start("");
    let client = daemon.client();
    let job = client.submit(&client.photo(&eyes::plain(213, 64, 64)));
    client.finished(&job);
    assert_eq!(daemon.cli(&["store", "verify"]).status.code(), Some(1), "the daemon holds the store");
    assert!(daemon.stop().success());
    for args in [&["store", "verify"][..], &["store", "export"], &["store", "rebuild"]] {
        let out = daemon.cli(args);
        assert!(out.status.success(), "{args:?}: {}", text(&out));
        if args[1] == "export" {
            assert!(String::from_utf8_lossy(&out.stdout).contains(&job), "{}", text(&out));
        }
    }
    daemon.restart();
    assert_eq!(daemon.client().job(&job)["status"], "failed");
}

#[test]
fn a_folder_without_a_store_is_no_healthy_store_and_none_is_made_there() {
    let daemon = Daemon::prepare("");
    std::fs::create_dir_all(&daemon.state).unwrap();
    for command in ["verify", "rebuild", "export"] {
        let out = daemon.cli(&["store", command]);
        assert_eq!(out.status.code(), Some(1), "{}", text(&out));
        assert!(text(&out).contains("there is no store in ") && text(&out).contains(daemon.state.to_str().unwrap()), "{}", text(&out));
    }
    assert_eq!(std::fs::read_dir(&daemon.state).unwrap().count(), 0);
}

/// Every file and folder below, itself included.
fn all_below(path: &Path) -> Vec<PathBuf> {
    let below = std::fs::read_dir(path).into_iter().flatten().flat_map(|entry| all_below(&entry.unwrap().path()));
    std::iter::once(path.to_owned()).chain(below).collect()
}

#[test]
fn what_root_does_in_a_state_folder_belongs_to_the_folders_owner() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return eprintln!("only root can hand folders to others: nothing was tested");
    }
    let mut daemon = Daemon::start("");
    let client = daemon.client();
    client.finished(&client.submit(&client.photo(&eyes::plain(218, 64, 64))));
    assert!(daemon.stop().success());
    std::fs::set_permissions(daemon.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for path in all_below(&daemon.state) {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let weights = daemon.dir.path().join("roots.onnx");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights/iris.onnx"), &weights).unwrap();
    std::fs::set_permissions(&weights, std::fs::Permissions::from_mode(0o600)).unwrap();
    for args in [
        &["token", "create", "--owner", "a", "--scope", "viewer"][..],
        &["weights", "add", weights.to_str().unwrap()],
        &["store", "rebuild"],
        &["store", "verify"],
    ] {
        let out = daemon.cli(args);
        assert!(out.status.success(), "{args:?}: {}", text(&out));
    }
    let made = all_below(&daemon.state);
    assert!(made.iter().any(|p| p.ends_with("weights/iris.onnx")) && made.iter().any(|p| p.ends_with("tokens.toml")), "{made:?}");
    for path in made {
        let about = std::fs::metadata(&path).unwrap();
        assert_eq!((about.uid(), about.gid()), (NOBODY, NOBODY), "{}", path.display());
    }
}

#[test]
fn a_support_bundle_has_no_secrets_names_or_photos() {
    let daemon = Daemon::start("");
    let client = daemon.client_of("dr.smith", "kiosk");
    let photo = client.photo(&eyes::plain(214, 64, 64));
    let body = json!({"photo_id": photo, "client_ref": "PATIENT-1"});
    client.finished(&client.post("/processing/submit", body).expect(202).id());
    let file = daemon.dir.path().join("bundle");
    let out = daemon.cli(&["diag", "--out", file.to_str().unwrap()]);
    assert!(out.status.success(), "{}", text(&out));
    let bundle = std::fs::read(&file).unwrap();
    assert!(!bundle.is_empty());
    for secret in ["dr.smith", "PATIENT-1", daemon.token.as_str(), client.token.as_deref().unwrap()] {
        assert!(!bundle.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret} is in the bundle");
    }
    let out = daemon.cli(&["diag", "--out", "/nonexistent/bundle"]);
    assert!(!out.status.success() && text(&out).contains("/nonexistent/bundle cannot be written"), "{}", text(&out));
}

#[test]
fn what_the_configuration_names_and_cannot_be_used_is_a_problem_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let (none, text_no_more) = (file("none.pem", b"no certificate"), file("secret", b"\xff\xfe"));
    for (wrong, named) in [
        (format!("[http]\ntls_cert = {none:?}\ntls_key = {none:?}\n"), "tls_cert"),
        (format!("[mqtt]\nurl = \"mqtts://127.0.0.1:1\"\nca_file = {none:?}\n"), "CA"),
        (format!("[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\nusername = \"a\"\npassword_file = {text_no_more:?}\n"), "password_file"),
        (format!("[s3]\nbucket = \"eyes\"\naccess_key_file = {none:?}\nsecret_key_file = {none:?}\nca_file = {none:?}\n"), "CA"),
        (format!("[s3]\nbucket = \"eyes\"\naccess_key_file = {text_no_more:?}\nsecret_key_file = {none:?}\n"), "access_key_file"),
        ("[log]\nlevel = \"warning\"\n".to_owned(), "warning"),
    ] {
        let daemon = Daemon::prepare(&wrong);
        for (command, code) in [("check", 78), ("doctor", 1), ("run", 78)] {
            let out = irisd().args([command, "--config"]).arg(daemon.config_path()).output().unwrap();
            assert_eq!(out.status.code(), Some(code), "{command} {wrong}: {}", text(&out));
            assert!(text(&out).contains(named), "{command} {wrong}: {}", text(&out));
        }
    }
}

#[test]
fn a_password_in_an_address_is_repeated_by_nobody() {
    let wrong = "[mqtt]\nurl = \"mqtt://user:hunter2@h:1883\"\n[s3]\nbucket = \"eyes\"\nendpoint = \"https://AK:hunter4@h:9000\"\n";
    let daemon = Daemon::prepare(wrong);
    let bundle = daemon.dir.path().join("bundle.json");
    irisd().args(["diag", "--out"]).arg(&bundle).arg("--config").arg(daemon.config_path()).output().unwrap();
    let mut said = std::fs::read_to_string(&bundle).unwrap();
    for command in ["run", "check", "doctor"] {
        said += &text(&irisd().args([command, "--config"]).arg(daemon.config_path()).output().unwrap());
    }
    assert!(said.contains("mqtt.url") && !said.contains("hunter"), "{said}");
}

#[test]
fn an_address_that_somebody_else_has_is_found_by_the_doctor() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon = Daemon::prepare("");
    let listen = taken.local_addr().unwrap().to_string();
    let out = irisd().args(["doctor", "--config"]).arg(daemon.config_path()).env("IRISD_HTTP__LISTEN", &listen).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(text(&out).contains(&listen), "{}", text(&out));
}

#[test]
fn a_result_that_lost_a_file_is_found_and_a_second_rebuild_keeps_what_the_first_set_aside() {
    let mut daemon = Daemon::start("");
    let client = daemon.client();
    let job = client.submit(&client.photo(&eyes::small_eye(174)));
    client.completed(&job);
    assert!(daemon.stop().success());
    assert!(daemon.cli(&["store", "verify"]).status.success());
    for name in ["image.jpg", "mask.png", "synthetic.png", "thumb.jpg", "report.json"] {
        let (file, away) = (daemon.state.join("results").join(&job).join(name), daemon.dir.path().join("away"));
        std::fs::rename(&file, &away).unwrap();
        let out = daemon.cli(&["store", "verify"]);
        assert_eq!(out.status.code(), Some(1), "{name}: {}", text(&out));
        assert!(text(&out).contains(name), "{}", text(&out));
        std::fs::rename(&away, &file).unwrap();
    }
    assert!(daemon.cli(&["store", "rebuild"]).status.success());
    std::fs::write(daemon.state.join("store/v1.set-aside/mark"), "").unwrap();
    assert!(daemon.cli(&["store", "rebuild"]).status.success());
    assert!(daemon.state.join("store/v1.set-aside/mark").exists() && daemon.state.join("store/v1.set-aside-2").is_dir());
}

#[test]
fn a_daemon_whose_words_nobody_takes_works_and_ends_as_any_other() {
    let mut daemon = Daemon::prepare("");
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let child = irisd().args(["run", "--config"]).arg(daemon.config_path()).stdout(full()).stderr(full()).spawn().unwrap();
    let mut child = Ended(child);
    let endpoint = daemon.state.join("endpoint");
    daemon.base = eventually("the daemon is there", SOON, || std::fs::read_to_string(&endpoint).ok().filter(|u| !u.trim().is_empty()))
        .trim()
        .to_owned();
    daemon.token = std::fs::read_to_string(daemon.state.join("local.token")).unwrap().trim().to_owned();
    let client = daemon.client();
    client.completed(&client.submit(&client.photo(&eyes::small_eye(175))));
    crate::common::daemon::terminate(&child.0);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

/// A process that does not outlive a failing test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

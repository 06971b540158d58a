//! Weights as a supply chain: `irisd weights`, and what the daemon's programs do with a file that is not what its row says.

use std::{fs, path::PathBuf, process::Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    common::{
        daemon::{irisd, text, write_config},
        eyes,
    },
    nets::{self, Answer},
};

/// A state folder, and commands that see it.
struct Device {
    dir: TempDir,
    config: PathBuf,
}

impl Device {
    fn new(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = write_config(dir.path(), &dir.path().join("state"), extra);
        Self { dir, config }
    }

    fn run(&self, args: &[&str]) -> Output {
        irisd().args(args).arg("--config").arg(&self.config).output().expect("irisd can be started")
    }

    /// The rows of `weights list` or `verify`, and whether it ended well.
    fn rows(&self, verb: &str) -> (Vec<Value>, bool) {
        let out = self.run(&["weights", verb, "--json"]);
        (serde_json::from_slice(&out.stdout).expect("JSON and nothing else"), out.status.success())
    }

    fn row(&self, verb: &str, name: &str) -> Value {
        self.rows(verb).0.into_iter().find(|row| row["name"] == name).expect("row")
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Bytes in `<state>/weights`.
    fn place(&self, name: &str, bytes: &[u8]) {
        let folder = self.dir.path().join("state/weights");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }

    fn nothing_was_changed(&self) -> bool {
        !self.dir.path().join("state/weights").exists() && !self.dir.path().join("state/weights.new").exists()
    }
}

fn runtime() -> bool {
    let there = !std::env::var("IRISD_TEST_ONNXRUNTIME").unwrap_or_default().is_empty();
    if !there {
        eprintln!("skipped: IRISD_TEST_ONNXRUNTIME names no library");
    }
    there
}

#[test]
fn verify_loads_each_network_that_is_there_and_says_what_ran_it() {
    if !runtime() {
        return;
    }
    let device = Device::new("[inference]\nproviders = [\"cpu\"]\n");
    let (rows, fine) = device.rows("verify");
    assert!(fine, "{rows:#?}");
    for row in rows.iter().filter(|row| row["ships"] == true) {
        assert_eq!((&row["state"], &row["code"]), (&"present".into(), &Value::Null), "{row:#}");
        assert_eq!(row["sha256"].as_str().map(str::len), Some(64));
        assert!(row["input"]["shape"].is_array() && row["max_error"] == 0.02 && row["memory_mb"].as_u64() > Some(0), "{row:#}");
        assert_eq!((&row["provider"], &row["precision"]), (&"cpu".into(), &"fp32".into()), "{row:#}");
    }
    let human = device.run(&["weights", "verify"]);
    assert!(human.status.success());
    let human = text(&human);
    assert!(human.contains("present   segmentation  iris") && human.contains("BSD-3-Clause"), "{human}");
    assert!(human.contains("ran on cpu, fp32"), "{human}");
}

#[test]
fn a_file_with_one_bit_changed_is_named_by_verify_and_never_loaded() {
    let device = Device::new("[enhance]\nmodel = \"realesr-animevideov3-x4\"\n[quality]\nmode = \"off\"\n");
    let name = "realesr-animevideov3-x4.onnx";
    let mut bytes = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../weights/realesr-animevideov3-x4.onnx")).unwrap();
    bytes[100_000] ^= 1;
    device.place(name, &bytes);
    assert_eq!(device.row("list", "realesr-animevideov3-x4")["state"], "present", "list does not hash");
    let (rows, fine) = device.rows("verify");
    assert!(!fine);
    let row = rows.iter().find(|row| row["file"] == name).unwrap();
    assert_eq!((&row["state"], &row["code"], &row["provider"]), (&"tampered".into(), &"weights_tampered".into(), &Value::Null));

    let photo = device.file("eye.jpg", eyes::small_eye(311));
    let out = device.run(&["process", &photo, "--json", "--out", device.dir.path().join("out").to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(1));
    let line: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(line["status"], "failed");
    assert_eq!(line["error_code"], "weights_tampered", "{line:#}");
    assert_eq!(line["error_type"], "server_error");
}

#[test]
fn a_row_and_its_file_come_in_one_go_once_the_network_has_run_and_the_next_photo_is_made_by_it() {
    if !runtime() {
        return;
    }
    let device = Device::new("[enhance]\nmodel = \"brought\"\n[quality]\nmode = \"report\"\n[inference]\nproviders = [\"cpu\"]\n");
    let network = nets::upscaler(Answer::Good);
    let row = device.file("row.toml", nets::upscaler_row("brought", &network));
    let file = device.file("download (1).bin", &network);
    let out = device.run(&["weights", "add", &file, "--row", &row, "--json"]);
    assert!(out.status.success(), "{}", text(&out));
    let said: Value = serde_json::from_slice(&out.stdout).expect("JSON and nothing else");
    assert_eq!((&said["name"], &said["role"]), (&"brought".into(), &"enhancement".into()));
    assert!(said["path"].as_str().unwrap().ends_with("state/weights/brought.onnx"), "{said}");
    assert!(!device.dir.path().join("state/weights.new").exists());
    let added = device.row("verify", "brought");
    assert_eq!((&added["state"], &added["provider"]), (&"present".into(), &"cpu".into()), "{added:#}");

    let photo = device.file("eye.jpg", eyes::small_eye(312));
    let place = device.dir.path().join("out");
    let out = device.run(&["process", &photo, "--json", "--out", place.to_str().unwrap()]);
    assert!(out.status.success(), "{}", text(&out));
    let report: Value = serde_json::from_slice(&fs::read(place.join("eye.report.json")).unwrap()).unwrap();
    assert_eq!((&report["enhance"]["method"], &report["enhance"]["model"]), (&"network".into(), &"brought".into()));
    assert_eq!(report["enhance"]["model_sha256"], said["sha256"]);
}

#[test]
fn a_row_that_asks_for_other_tensors_than_the_file_has_is_refused_with_both_shapes_and_nothing_is_changed() {
    if !runtime() {
        return;
    }
    let network = nets::upscaler(Answer::Good);
    let right = nets::upscaler_row("brought", &network);
    for (from, to, words) in [
        ("input = { name = \"input\"", "input = { name = \"photo\"", &["photo f32 [1, 3, 32, 32]", "the file has", "input"][..]),
        ("output = { name = \"output\"", "output = { name = \"picture\"", &["the output picture is wanted", "the file has", "output"]),
        ("scale = 4", "scale = 2", &["came out as [1, 3, 128, 128]", "[1, 3, 64, 64] is wanted"]),
        ("output\", shape = [0, 3, 0, 0]", "output\", shape = [2, 3, 0, 0]", &["[1, 3, 128, 128]", "[2, 3, 0, 0]"]),
    ] {
        assert!(right.contains(from), "{from}");
        let device = Device::new("");
        let row = device.file("row.toml", right.replacen(from, to, 1));
        let file = device.file("n.onnx", &network);
        let out = device.run(&["weights", "add", &file, "--row", &row]);
        assert_eq!(out.status.code(), Some(1), "{to}");
        let said = text(&out);
        assert!(said.contains("model_mismatch") && said.contains("nothing was changed"), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
        assert!(device.nothing_was_changed(), "{to}");
    }
}

#[test]
fn a_network_whose_installed_row_does_not_fit_its_file_is_unusable_to_verify_and_the_others_are_not() {
    if !runtime() {
        return;
    }
    let device = Device::new("[inference]\nproviders = [\"cpu\"]\n");
    let network = nets::upscaler(Answer::Good);
    let wrong = nets::upscaler_row("brought", &network).replace("name = \"input\"", "name = \"photo\"");
    nets::state_manifest(&device.dir.path().join("state"), &[wrong]);
    device.place("brought.onnx", &network);
    let (rows, fine) = device.rows("verify");
    assert!(!fine);
    for row in rows.iter().filter(|row| row["state"] == "present") {
        assert_eq!(row["code"] == "model_mismatch", row["name"] == "brought", "{row:#}");
    }
    let human = text(&device.run(&["weights", "verify"]));
    assert!(human.contains("UNUSABLE  enhancement   brought") && human.contains("brought: model_mismatch: "), "{human}");
}

#[test]
fn without_a_runtime_a_new_network_is_not_taken_and_a_known_one_is() {
    let device = Device::new("[paths]\nonnxruntime = \"/nonexistent/libonnxruntime.so\"\n");
    let network = nets::upscaler(Answer::Good);
    let row = device.file("row.toml", nets::upscaler_row("brought", &network));
    let file = device.file("n.onnx", &network);
    let out = device.run(&["weights", "add", &file, "--row", &row]);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out);
    assert!(said.contains("runtime_missing") && said.contains("/nonexistent/") && said.contains("irisd doctor"), "{said}");
    assert!(device.nothing_was_changed());

    let known = device.file("x", fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../weights/iris.onnx")).unwrap());
    assert!(device.run(&["weights", "add", &known]).status.success());
    let row = device.row("verify", "iris");
    assert_eq!(row["state"], "present");
    assert!(row["path"].as_str().unwrap().ends_with("state/weights/iris.onnx") && row["detail"].as_str().unwrap().contains("not tried"));
}

#[test]
fn a_file_that_no_row_knows_and_a_half_downloaded_one_are_refused_and_what_was_there_stays() {
    let device = Device::new("");
    let whole = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../weights/iris.onnx")).unwrap();
    for (name, bytes) in [("half.onnx", &whole[..whole.len() / 2]), ("notes.txt", b"not a network"), ("empty", b"")] {
        let file = device.file(name, bytes);
        let out = device.run(&["weights", "add", &file]);
        assert_eq!(out.status.code(), Some(1), "{name}");
        let said = text(&out);
        assert!(said.contains("none of the networks") && said.contains("--row") && said.contains(name), "{said}");
        assert!(device.nothing_was_changed(), "{name}");
    }
    // A download that somebody put there by hand is never loaded.
    device.place("iris.onnx", &whole[..whole.len() / 2]);
    assert_eq!(device.row("verify", "iris")["code"], "weights_tampered");
    let file = device.file("whole", &whole);
    assert!(device.run(&["weights", "add", &file]).status.success(), "the right file takes its place");
    assert_eq!(device.row("verify", "iris")["state"], "present");
}

#[test]
fn a_manifest_that_cannot_be_used_is_named_with_the_row_and_what_is_wrong_with_it() {
    let device = Device::new("");
    let network = nets::upscaler(Answer::Good);
    let wrong = nets::upscaler_row("brought", &network).replace("memory_mb = 20", "memory_mb = 0");
    device.place("brought.toml", wrong.as_bytes());
    let out = device.run(&["weights", "list"]);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out);
    assert!(said.contains("state/weights/brought.toml") && said.contains("\"brought\"") && said.contains("memory_mb"), "{said}");
}

#[test]
fn fetch_where_there_is_no_source_tree_says_where_weights_are_made() {
    let device = Device::new("[paths]\nweights = \"/nonexistent/weights\"\n");
    let out = device.run(&["weights", "fetch"]);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out);
    assert!(said.contains("/nonexistent/weights") && said.contains("irisd weights add FILE"), "{said}");
}

#[test]
fn a_file_or_a_row_that_cannot_be_read_is_told_once() {
    let device = Device::new("");
    let file = device.file("network.onnx", b"a network");
    let row = device.file("row.toml", b"x = [");
    let folder = device.dir.path().to_str().unwrap();
    for (args, cause) in
        [(&["weights", "add", folder][..], "Is a directory"), (&["weights", "add", &file, "--row", &row], "TOML parse error")]
    {
        let said = text(&device.run(args));
        assert_eq!((said.matches(cause).count(), said.matches("nothing was changed").count()), (1, 1), "{said}");
    }
}

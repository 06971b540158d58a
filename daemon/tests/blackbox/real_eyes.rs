//! Real photos, which no repository may hold: `IRISD_TEST_EYES` names a folder with `images/`, `negatives/`. Skipped, and said so, without it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::common::daemon::{irisd, text, write_config};

/// Below this the report itself says that it may not be an eye.
const LOW_CONFIDENCE: f64 = 0.5;
/// Of the photo: what counts as an iris mask.
const COVERAGE: f64 = 0.05;

/// The photos of a sub-folder, or none and a word about it.
fn photos(of: &str) -> Vec<PathBuf> {
    let Some(root) = std::env::var_os("IRISD_TEST_EYES") else {
        eprintln!("skipped: IRISD_TEST_EYES does not name a folder of eye photos");
        return Vec::new();
    };
    let dir = Path::new(&root).join(of);
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut found: Vec<_> = entries.flatten().map(|e| e.path()).filter(|p| p.is_file()).collect();
    found.sort();
    found
}

/// `process --json` over all of them, in one run: a panic in one would take the others down, and be seen.
fn process(photos: &[PathBuf], out: &Path) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(dir.path(), &dir.path().join("state"), "");
    let mut command = irisd();
    command.arg("process").args(photos).arg("--out").arg(out).arg("--json").arg("--config").arg(config);
    let done = command.output().expect("irisd can be started");
    assert!([Some(0), Some(1)].contains(&done.status.code()), "{}", text(&done));
    assert!(!String::from_utf8_lossy(&done.stderr).contains("panicked"), "{}", text(&done));
    let lines: Vec<Value> = String::from_utf8(done.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), photos.len(), "a line for each photo");
    lines
}

#[test]
fn every_real_photo_ends_in_a_result_or_in_a_quality_issue_with_a_code() {
    let photos = photos("images");
    if photos.is_empty() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let lines = process(&photos, out.path());
    for line in &lines {
        let refused = line["error_type"] == "quality_issue" && line["error_code"].as_str().is_some_and(|c| !c.is_empty());
        assert!(line["status"] == "completed" || refused, "{line:#}");
    }
    let completed = lines.iter().filter(|l| l["status"] == "completed").count();
    eprintln!("{completed} of {} completed", lines.len());
}

#[test]
fn what_is_no_usable_eye_is_not_passed_off_as_one() {
    let photos = photos("negatives");
    if photos.is_empty() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let mut passed_off = Vec::new();
    for line in process(&photos, out.path()).iter().filter(|l| l["status"] == "completed") {
        let report: Value = serde_json::from_slice(&fs::read(line["files"]["report"].as_str().unwrap()).unwrap()).unwrap();
        let iris = &report["iris"];
        if iris["coverage"].as_f64() > Some(COVERAGE) && iris["confidence"].as_f64() >= Some(LOW_CONFIDENCE) {
            passed_off.push(format!("{}: coverage {}, confidence {}", line["photo"], iris["coverage"], iris["confidence"]));
        }
    }
    assert!(passed_off.is_empty(), "completed with an iris: {passed_off:#?}");
}

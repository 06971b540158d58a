//! What several topics look at in the same way: the shape of a Photo and a Job, a finished result, the order of events.

use std::path::Path;

use serde_json::Value;

use crate::common::{files, live::STEPS};

pub const PHOTO_KEYS: [&str; 12] =
    ["id", "user_id", "sha256", "bytes", "width", "height", "content_type", "source", "client_ref", "eye", "captured_at", "received_at"];

pub const JOB_KEYS: [&str; 39] = [
    "id",
    "photo_id",
    "merge_with",
    "user_id",
    "lane",
    "status",
    "current_step",
    "progress",
    "attempt",
    "error_type",
    "error_code",
    "error_message",
    "suggestion",
    "retryable",
    "result_s3_key",
    "mask_s3_key",
    "report_s3_key",
    "upload_status",
    "result_url",
    "mask_url",
    "report_url",
    "thumb_url",
    "original_url",
    "urls_expire_at",
    "quality",
    "step_ms",
    "processing_time_ms",
    "queue_position",
    "eta_ms",
    "transient_retries",
    "crashes",
    "cached",
    "client_ref",
    "eye",
    "captured_at",
    "created_at",
    "started_at",
    "completed_at",
    "reprocess_of",
];

/// Every key of the contract is there (null where it does not apply), whatever else is.
#[track_caller]
pub fn has_keys(value: &Value, keys: &[&str]) {
    let missing: Vec<_> = keys.iter().filter(|k| value.get(**k).is_none()).collect();
    assert!(missing.is_empty(), "missing {missing:?} in {value:#}");
}

/// Exactly these keys, in any order.
#[track_caller]
pub fn has_only_keys(value: &Value, keys: &[&str]) {
    let mut is: Vec<_> = value.as_object().unwrap_or_else(|| panic!("an object, not {value}")).keys().map(String::as_str).collect();
    let mut wanted = keys.to_vec();
    is.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(is, wanted, "{value:#}");
}

/// Seen steps are in the pipeline's order and the progress never falls (within one attempt).
#[track_caller]
pub fn steps_go_forward(seen: &[(String, u64)]) {
    let place = |step: &str| STEPS.iter().position(|s| *s == step).unwrap_or_else(|| panic!("an unknown step {step}"));
    for pair in seen.windows(2) {
        assert!(place(&pair[0].0) <= place(&pair[1].0), "a step back: {seen:?}");
        assert!(pair[0].1 <= pair[1].1, "the progress falls: {seen:?}");
    }
    let bands = [(0, 10), (10, 40), (40, 60), (60, 90), (90, 100)];
    for (step, progress) in seen {
        let (from, to) = bands[place(step)];
        assert!((from..=to).contains(progress), "{progress} % in {step}: {seen:?}");
    }
}

/// A completed job's folder holds the four files of the contract (and the map of made-up pixels) and nothing half-done.
#[track_caller]
pub fn results_are_whole(state: &Path, job: &str) {
    let mut names: Vec<_> = files::listing(&state.join("results").join(job)).into_iter().collect();
    names.retain(|(name, _)| name != "synthetic.png");
    let only: Vec<_> = names.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(only, ["image.jpg", "mask.png", "report.json", "thumb.jpg"], "results/{job}");
    assert!(names.iter().all(|(_, bytes)| *bytes > 0), "an empty file: {names:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(state.join("results").join(job).join("report.json")).unwrap()).unwrap();
    report_is_whole(&report);
}

/// Every key of the report's schema.
#[track_caller]
pub fn report_is_whole(report: &Value) {
    assert_eq!(report["schema"], 1);
    assert_eq!(report["notice"], "enhanced, not for diagnosis");
    has_keys(report, &["program", "version", "created_at", "crop", "scale", "iris", "quality", "verdict", "files", "processing_time_ms"]);
    has_keys(&report["photo"], &["sha256", "width", "height", "orientation_applied", "source"]);
    has_only_keys(&report["crop"], &["x", "y", "width", "height"]);
    has_keys(&report["iris"], &["limbus", "pupil", "coverage", "confidence", "method", "model", "model_sha256"]);
    has_only_keys(&report["iris"]["limbus"], &["cx", "cy", "rx", "ry", "angle_deg"]);
    if !report["iris"]["pupil"].is_null() {
        has_only_keys(&report["iris"]["pupil"], &["cx", "cy", "rx", "ry", "angle_deg"]);
    }
    for (name, figure) in report["quality"].as_object().expect("quality is an object") {
        if name != "verdict" {
            has_keys(figure, &["value", "unit", "threshold", "pass"]);
        }
    }
    let verdict = report["verdict"].as_str().unwrap_or("");
    assert!(["pass", "warn", "fail"].contains(&verdict), "verdict {verdict:?}");
    has_keys(&report["reflections"], &["count", "area_px", "synthetic_share", "method"]);
    let enhance = ["method", "model", "model_sha256", "provider", "precision", "tile", "overlap", "tiles", "fallback_reason"];
    has_keys(&report["enhance"], &enhance);
    has_only_keys(&report["step_ms"], &STEPS);
    for file in ["image", "mask", "synthetic"] {
        has_keys(&report["files"][file], &["sha256", "bytes", "width", "height"]);
    }
    let side = |name: &str| report["crop"][name].as_u64().unwrap() * report["scale"].as_u64().unwrap();
    for file in ["image", "mask", "synthetic"] {
        let facts = &report["files"][file];
        assert_eq!(
            (facts["width"].as_u64(), facts["height"].as_u64()),
            (Some(side("width")), Some(side("height"))),
            "{file} is crop x scale"
        );
    }
}

/// Events of one job in the contract's order: submitted, started (retried again and again), one end, perhaps uploaded last.
#[track_caller]
pub fn events_are_in_order(kinds: &[String], end: &str, uploaded: bool) {
    let mut wanted = vec!["submitted", "started"];
    let retries = kinds.iter().filter(|k| *k == "retried").count();
    wanted.extend(std::iter::repeat_n("retried", retries));
    wanted.push(end);
    if uploaded {
        wanted.push("uploaded");
    }
    assert_eq!(kinds, wanted);
}

/// `seq` rises without a repeat.
#[track_caller]
pub fn seq_rises<'a>(events: impl IntoIterator<Item = &'a Value>) {
    let seqs: Vec<u64> = events.into_iter().map(|e| e["seq"].as_u64().unwrap_or_else(|| panic!("no seq in {e}"))).collect();
    assert!(seqs.windows(2).all(|p| p[0] < p[1]), "seq does not rise: {seqs:?}");
}

/// RFC 3339, UTC, with milliseconds always: the texts sort as the times do.
#[track_caller]
pub fn is_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("a time, not {value}"));
    assert!(text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(), "{text:?} is not RFC 3339 UTC");
    assert_eq!(text.len(), "2026-11-26T07:26:35.800Z".len(), "{text:?}");
}

pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(bytes))
}

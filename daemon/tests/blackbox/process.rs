//! `irisd process` and `irisd sample`: the pipeline alone, without a daemon.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    checks,
    common::{
        daemon::{irisd, text, write_config},
        eyes, files,
    },
};

/// A folder for one run: configuration, photos, results.
struct Bench {
    dir: TempDir,
    config: PathBuf,
}

impl Bench {
    fn new(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = write_config(dir.path(), &dir.path().join("state"), extra);
        Self { dir, config }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("made/by/irisd")
    }

    /// Writes a photo below the folder.
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn process(&self, photos: &[&Path]) -> Output {
        let mut command = irisd();
        command.arg("process").args(photos).arg("--out").arg(self.out()).arg("--json").arg("--config").arg(&self.config);
        command.output().expect("irisd can be started")
    }
}

/// Stdout as JSON lines, and nothing else.
#[track_caller]
fn lines(out: &Output) -> Vec<Value> {
    let stdout = String::from_utf8(out.stdout.clone()).expect("UTF-8");
    let parsed = stdout.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("not JSON ({e}): {l:?}\n{}", text(out))));
    parsed.collect()
}

#[test]
fn good_and_bad_photos_have_a_line_each_and_the_bad_ones_make_it_exit_1() {
    let bench = Bench::new("");
    let good = bench.put("good.jpg", &eyes::small_eye(191));
    let words = bench.put("words.jpg", b"These are words.");
    let empty = bench.put("empty.jpg", b"");
    let gone = bench.dir.path().join("gone.jpg");
    let out = bench.process(&[&good, &words, &empty, &gone]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    let lines = lines(&out);
    assert_eq!(lines.len(), 4, "{lines:#?}");
    for (line, path) in lines.iter().zip([&good, &words, &empty, &gone]) {
        checks::has_keys(line, &["photo", "status", "error_type", "error_code", "message", "suggestion", "files"]);
        assert_eq!(line["photo"], path.to_str().unwrap());
    }
    assert_eq!(lines[0]["status"], "completed", "{:#}", lines[0]);
    for (line, code) in lines[1..3].iter().zip(["unsupported_image", "empty_file"]) {
        assert_eq!((line["status"].as_str(), line["error_type"].as_str()), (Some("failed"), Some("quality_issue")), "{line:#}");
        assert_eq!(line["error_code"], code);
        assert!(line["message"].as_str().is_some_and(|m| !m.is_empty()) && line["suggestion"].as_str().is_some_and(|s| !s.is_empty()));
    }
    assert_eq!((&lines[3]["status"], &lines[3]["error_code"]), (&"failed".into(), &"original_missing".into()));
    assert_eq!((&lines[3]["message"], &lines[3]["suggestion"]), (&"There is no such file.".into(), &"Check the path.".into()));
    assert!(!bench.dir.path().join("state").exists(), "nothing is made but the results");
    let made: Vec<String> = files::listing(&bench.out()).into_keys().collect();
    assert_eq!(made, ["good.jpg", "good.mask.png", "good.report.json", "good.synthetic.png"]);
    let kinds = [("image", "good.jpg"), ("mask", "good.mask.png"), ("report", "good.report.json"), ("synthetic", "good.synthetic.png")];
    for (kind, ending) in kinds {
        assert!(lines[0]["files"][kind].as_str().is_some_and(|f| f.ends_with(ending)), "{:#}", lines[0]["files"]);
    }
}

#[test]
fn an_out_that_cannot_be_written_to_is_named_before_anything_is_done() {
    let bench = Bench::new("");
    let photo = bench.put("eye.jpg", &eyes::small_eye(191));
    bench.put("made", b"a file where a folder should be");
    let out = bench.process(&[&photo]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(out.stdout.is_empty() && text(&out).contains(bench.out().to_str().unwrap()), "{}", text(&out));
}

#[test]
fn all_good_exits_0_and_photos_of_one_stem_do_not_overwrite_each_other() {
    let bench = Bench::new("");
    let photo = eyes::small_eye(192);
    let photos =
        [bench.put("a/eye.jpg", &photo), bench.put("b/eye.jpg", &eyes::small_eye(193)), bench.put("c/eye.png", &eyes::as_png(&photo))];
    let out = bench.process(&[&photos[0], &photos[1], &photos[2]]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let made = files::listing(&bench.out());
    for stem in ["eye", "eye-2", "eye-3"] {
        for ending in ["jpg", "mask.png", "report.json"] {
            assert!(made.contains_key(&format!("{stem}.{ending}")), "{stem}.{ending} in {made:?}");
        }
    }
    let hash = |stem: &str| {
        let report: Value = serde_json::from_slice(&fs::read(bench.out().join(format!("{stem}.report.json"))).unwrap()).unwrap();
        report["photo"]["sha256"].as_str().unwrap().to_owned()
    };
    let hashes = ["eye", "eye-2", "eye-3"].map(hash);
    assert_eq!(hashes, photos.map(|p| checks::sha256(&fs::read(p).unwrap())), "numbered in the order given");
}

#[test]
fn a_report_tells_the_truth_about_its_files() {
    for (extra, seed) in [("", 194), ("[enhance]\nscope = \"photo\"\nscale = 2\n", 195)] {
        let bench = Bench::new(extra);
        let photo = bench.put("eye.jpg", &eyes::small_eye(seed));
        let out = bench.process(&[&photo]);
        assert!(out.status.success(), "{}", text(&out));
        let report: Value = serde_json::from_slice(&fs::read(bench.out().join("eye.report.json")).unwrap()).unwrap();
        checks::report_is_whole(&report);
        assert_eq!((&report["program"], &report["version"]), (&"irisd".into(), &env!("CARGO_PKG_VERSION").into()));
        assert_eq!(report["scale"], if extra.is_empty() { 4 } else { 2 });
        assert_eq!((&report["photo"]["width"], &report["photo"]["height"]), (&640.into(), &480.into()));
        for (kind, name) in [("image", "eye.jpg"), ("mask", "eye.mask.png"), ("synthetic", "eye.synthetic.png")] {
            let bytes = fs::read(bench.out().join(name)).unwrap();
            let facts = &report["files"][kind];
            assert_eq!(
                (facts["sha256"].as_str(), facts["bytes"].as_u64()),
                (Some(&*checks::sha256(&bytes)), Some(bytes.len() as u64)),
                "{kind}"
            );
            let picture = image::load_from_memory(&bytes).unwrap();
            let size = (u64::from(picture.width()), u64::from(picture.height()));
            assert_eq!((facts["width"].as_u64(), facts["height"].as_u64()), (Some(size.0), Some(size.1)), "{kind}");
        }
        let mask = image::open(bench.out().join("eye.mask.png")).unwrap();
        assert_eq!(mask.color(), image::ColorType::L8, "the mask is 8-bit grey");
        let sum: u64 = report["step_ms"].as_object().unwrap().values().map(|v| v.as_u64().unwrap()).sum();
        assert!(sum <= report["processing_time_ms"].as_u64().unwrap() + 5, "{:#}", report["step_ms"]);
        for share in [&report["iris"]["coverage"], &report["iris"]["confidence"], &report["reflections"]["synthetic_share"]] {
            assert!(share.as_f64().is_some_and(|s| (0.0..=1.0).contains(&s)), "{share}");
        }
        assert!(contains(&fs::read(bench.out().join("eye.jpg")).unwrap(), b"ICC_PROFILE"), "the result is tagged as sRGB");
    }
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|w| w == needle)
}

/// The mask of a result against what the renderer knows, both over the crop.
#[track_caller]
fn iou_of(seed: u64, extra: &str) -> f64 {
    let bench = Bench::new(extra);
    let eye = eyes::eye(seed, "640x480");
    let out = bench.process(&[&eye.path]);
    assert!(out.status.success(), "seed {seed}: {}", text(&out));
    let stem = eye.path.file_stem().unwrap().to_str().unwrap().to_owned();
    let report: Value = serde_json::from_slice(&fs::read(bench.out().join(format!("{stem}.report.json"))).unwrap()).unwrap();
    let mask = image::open(bench.out().join(format!("{stem}.mask.png"))).unwrap().to_luma8();
    let truth = image::open(&eye.mask_path).expect("FILE.mask.png beside the sample").to_luma8();
    let at = |name: &str| report["crop"][name].as_u64().unwrap() as u32;
    let truth = image::imageops::crop_imm(&truth, at("x"), at("y"), at("width"), at("height")).to_image();
    let small = image::imageops::resize(&mask, truth.width(), truth.height(), image::imageops::FilterType::Triangle);
    eyes::iou(&small, &truth)
}

#[test]
fn the_mask_lies_where_the_iris_is() {
    let found: Vec<(u64, f64)> = (196..202).map(|seed| (seed, iou_of(seed, ""))).collect();
    assert!(found.iter().all(|(_, iou)| *iou >= 0.8), "overlap with the truth by seed: {found:.3?}");
}

#[test]
fn the_classical_segmenter_finds_the_iris_without_a_network() {
    let found: Vec<(u64, f64)> = (196..200).map(|seed| (seed, iou_of(seed, "[segment]\nmodel = \"classical\"\n"))).collect();
    assert!(found.iter().all(|(_, iou)| *iou >= 0.7), "overlap with the truth by seed: {found:.3?}");
}

#[test]
fn a_runtime_that_cannot_be_loaded_does_not_stop_the_work() {
    let library = tempfile::NamedTempFile::new().unwrap(); // there, and no library
    let bench = Bench::new(&format!("[paths]\nonnxruntime = \"{}\"\n", library.path().display()));
    let photo = bench.put("eye.jpg", &eyes::small_eye(203));
    let out = bench.process(&[&photo]);
    assert!(out.status.success(), "{}", text(&out));
    let report: Value = serde_json::from_slice(&fs::read(bench.out().join("eye.report.json")).unwrap()).unwrap();
    assert_eq!((&report["iris"]["method"], &report["iris"]["model"]), (&"classical".into(), &Value::Null));
    assert_eq!(report["enhance"]["provider"], Value::Null, "no network ran");
    let (why, path) = (report["iris"]["fallback_reason"].as_str().unwrap(), library.path().to_str().unwrap());
    assert!(why.contains(path) && report["warnings"][0].as_str().is_some_and(|w| w.contains(path)), "{report:#}");
}

#[test]
fn quality_mode_report_turns_refusals_into_warnings() {
    let plain = eyes::plain(204, 640, 480);
    let gate = Bench::new("");
    let out = gate.process(&[&gate.put("wall.jpg", &plain)]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(lines(&out)[0]["error_type"], "quality_issue");
    for mode in ["report", "off"] {
        let bench = Bench::new(&format!("[quality]\nmode = \"{mode}\"\n"));
        let out = bench.process(&[&bench.put("wall.jpg", &plain)]);
        assert_eq!(out.status.code(), Some(0), "{mode}: {}", text(&out));
        for name in ["wall.jpg", "wall.mask.png", "wall.report.json"] {
            assert!(bench.out().join(name).exists(), "{mode}: {name}");
        }
    }
}

#[test]
fn a_sample_is_the_same_for_the_same_seed_and_another_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, seed: &str| {
        let path = dir.path().join(name);
        let out = irisd().args(["sample", "--seed", seed, "--size", "320x240", "--out"]).arg(&path).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
        fs::read(path).unwrap()
    };
    let (a, b, c) = (make("a.jpg", "5"), make("b.jpg", "5"), make("c.jpg", "6"));
    assert!(a == b && a != c);
    let picture = image::load_from_memory(&a).unwrap();
    assert_eq!((picture.width(), picture.height()), (320, 240));
}

#[test]
fn a_name_that_is_no_utf8_is_told_as_nearly_as_json_can_and_the_next_photo_has_its_turn() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let bench = Bench::new("");
    let odd = bench.dir.path().join(OsStr::from_bytes(b"eye\xff.jpg"));
    fs::write(&odd, eyes::small_eye(171)).unwrap();
    let plain = bench.put("plain.jpg", &eyes::small_eye(172));
    let out = bench.process(&[&odd, &plain]);
    assert!(out.status.success(), "{}", text(&out));
    let lines = lines(&out);
    assert_eq!(lines.len(), 2);
    assert!(lines[0]["photo"].as_str().unwrap().ends_with("eye\u{fffd}.jpg"), "{}", lines[0]);
}

#[test]
fn a_pipe_or_a_device_is_no_photo_and_a_missing_one_to_merge_is_named() {
    let bench = Bench::new("");
    let photo = bench.put("eye.jpg", &eyes::small_eye(173));
    let out = bench.process(&[Path::new("/dev/zero")]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    assert!(lines(&out)[0]["message"].as_str().unwrap().contains("device"), "{}", text(&out));
    let mut merge = irisd();
    merge.args(["process", "--merge"]).arg(&photo).arg("nowhere.jpg").arg("--out").arg(bench.out()).arg("--config").arg(&bench.config);
    let out = merge.output().unwrap();
    assert!(text(&out).contains("nowhere.jpg: There is no such file."), "{}", text(&out));
}

#[test]
fn a_photo_with_a_name_as_long_as_the_disk_takes_has_a_result_under_a_shorter_one() {
    let bench = Bench::new("");
    let photo = bench.put(&format!("{}.jpg", "a".repeat(250)), &eyes::small_eye(174));
    let out = bench.process(&[&photo]);
    assert!(out.status.success(), "{}", text(&out));
    let image = PathBuf::from(lines(&out)[0]["files"]["image"].as_str().unwrap());
    assert!(image.exists() && image.file_stem().is_some_and(|stem| stem.len() == 241), "{}", image.display());
}

#[test]
fn a_memory_too_small_for_a_named_network_is_told_with_the_reason_and_no_word_of_a_second_try() {
    let bench = Bench::new("[segment]\nmodel = \"iris\"\n[inference]\nmemory = \"1MiB\"\n");
    let out = bench.process(&[&bench.put("eye.jpg", &eyes::small_eye(175))]);
    let line = &lines(&out)[0];
    assert_eq!(line["error_code"], "device_busy", "{line:#}");
    assert!(line["message"].as_str().unwrap().contains("not enough memory for the network"), "{line:#}");
    assert!(line["suggestion"].as_str().unwrap().contains("run the command again"), "{line:#}");
}

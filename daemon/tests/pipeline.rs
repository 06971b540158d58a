//! The pipeline from a file to a complete folder, on a drawn eye: results, refusals, stops, fallbacks.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod drawn;

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use irisd::{
    config::{Config, QualityMode, Scope},
    domain::{
        fault::Code,
        ids::Sha256,
        job::Misfit,
        photo::Source,
        stage::{Stage, StepMs},
    },
    imaging::{
        decode, encode,
        synth::lamps::{self, Kind, Pose},
    },
    inference::{
        Engine, Options,
        manifest::{self, Manifest},
    },
    pipeline::{Another, Done, Ended, Input, Others, Pipeline, Settings, Stop, Watch, process::process_files},
    ports::{Clock, Model, ModelError, ModelRuntime, ModelSpec, Placement, RunStop, Share, Tensor},
};
use tempfile::TempDir;

struct Wall(Instant);

impl Clock for Wall {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
    fn mono(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Counts checkpoints, and stops at the one it is told.
#[derive(Default)]
struct Counting {
    seen: Mutex<Vec<(Stage, f32)>>,
    entered: Mutex<Vec<Stage>>,
    stop_at: Option<usize>,
}

impl Watch for Counting {
    fn enter(&self, stage: Stage, _: StepMs) -> Result<(), Stop> {
        self.entered.lock().expect("lock").push(stage);
        Ok(())
    }
    fn checkpoint(&self, stage: Stage, done: f32) -> Result<(), Stop> {
        let mut seen = self.seen.lock().expect("lock");
        seen.push((stage, done));
        if self.stop_at == Some(seen.len() - 1) { Err(Stop) } else { Ok(()) }
    }
}

/// A folder with one photo in it.
struct Bench {
    dir: TempDir,
    photo: PathBuf,
}

impl Bench {
    fn new(bytes: &[u8]) -> Self {
        let dir = tempfile::tempdir().expect("temp folder");
        let photo = dir.path().join("photo");
        fs::write(&photo, bytes).expect("write");
        Self { dir, photo }
    }
    fn eye() -> Self {
        Self::new(&encode::jpeg_bytes(&drawn::eye(240, 200), 92))
    }
    fn sha256(&self) -> Sha256 {
        manifest::hash(&self.photo).expect("hash")
    }
    fn out(&self) -> PathBuf {
        self.dir.path().join("results/1")
    }
    #[allow(clippy::result_large_err)] // once a test
    fn run(&self, pipeline: &Pipeline, watch: &dyn Watch) -> Result<Done, Ended> {
        fs::create_dir_all(self.dir.path().join("results")).expect("folder");
        let input = Input { photo: self.photo.clone(), sha256: self.sha256(), source: Source::Upload, out: self.out() };
        pipeline.run(&input, watch)
    }
    fn fault(&self, pipeline: &Pipeline) -> Code {
        match self.run(pipeline, &Counting::default()).expect_err("it cannot complete") {
            Ended::Fault(fault, _) => {
                self.assert_nothing_left();
                fault.code
            }
            Ended::Refused(refusal, _) => {
                assert_eq!(listing(&self.dir.path().join("results")), ["1"], "a picture, and nothing unfinished");
                assert_eq!(listing(&self.out()), ["annotated.jpg"]);
                assert_eq!(fs::metadata(self.out().join("annotated.jpg")).expect("picture").len(), refusal.annotated_bytes);
                refusal.fault.code
            }
            Ended::Stopped(_) => panic!("nobody stopped it"),
        }
    }
    fn assert_nothing_left(&self) {
        let left: Vec<_> = fs::read_dir(self.dir.path().join("results")).expect("folder").flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.out().join("report.json")).expect("report")).expect("JSON")
    }
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).expect("folder").flatten().map(|e| e.file_name().to_string_lossy().into()).collect();
    names.sort();
    names
}

fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights")
}

/// A device without a runtime unless one is handed in.
fn engine(runtime: Option<Arc<dyn ModelRuntime>>) -> Engine {
    let none = ModelError { code: Code::RuntimeMissing, detail: "no library in this test".into() };
    let manifest = Manifest::load(Path::new("/nonexistent"), &weights()).expect("manifest");
    Engine::new(manifest, runtime.ok_or(none), Options::default())
}

fn pipeline_on(engine: Engine, change: impl FnOnce(&mut Config)) -> Pipeline {
    let mut config = Config::default();
    // A drawing has no skin, no lashes and no lens: what is tested here is the way, not the verdict over a photo.
    config.quality.min_sharpness = 0.0;
    config.quality.min_confidence = 0.05;
    change(&mut config);
    Pipeline::new(Settings::from_config(&config), engine, Arc::new(Wall(Instant::now())))
}

fn pipeline(change: impl FnOnce(&mut Config)) -> Pipeline {
    pipeline_on(engine(None), change)
}

fn size(path: &Path) -> (u32, u32) {
    image::image_dimensions(path).expect("a picture")
}

#[test]
fn a_drawn_eye_becomes_a_folder_whose_files_and_report_agree() {
    let bench = Bench::eye();
    let watch = Counting::default();
    let done = bench.run(&pipeline(|_| ()), &watch).expect("completes");
    let (report, files) = (&done.report, &done.report.files);
    assert_eq!(*watch.entered.lock().expect("lock"), Stage::ALL);
    let (w, h) = (report.crop.width * 4, report.crop.height * 4);
    for (name, facts) in [("image.jpg", &files.image), ("mask.png", &files.mask), ("synthetic.png", &files.synthetic)] {
        let path = bench.out().join(name);
        assert_eq!((size(&path), (facts.width, facts.height)), ((w, h), (w, h)), "{name}");
        assert_eq!((manifest::hash(&path).expect("hash"), fs::metadata(&path).expect("file").len()), (facts.sha256, facts.bytes), "{name}");
    }
    let thumb = size(&bench.out().join("thumb.jpg"));
    assert!(thumb.0.max(thumb.1) <= 320, "{thumb:?}");
    let report_path = bench.out().join("report.json");
    assert_eq!(manifest::hash(&report_path).expect("hash"), done.outcome.artifacts.report_sha256);
    assert_eq!(fs::metadata(&report_path).expect("file").len(), done.outcome.artifacts.report_bytes);
    assert_eq!(serde_json::to_value(report).expect("JSON"), bench.json());
    assert!((0.05..0.6).contains(&report.iris.coverage), "{}", report.iris.coverage);
    assert!(report.reflections.count >= 1 && report.reflections.synthetic_share > 0.0, "{:?}", report.reflections);
    assert!(!bench.dir.path().join("results/1.tmp").exists());
}

#[test]
fn the_report_has_every_key_of_the_contract() {
    let bench = Bench::eye();
    bench.run(&pipeline(|_| ()), &Counting::default()).expect("completes");
    let report = bench.json();
    let object = |value: &serde_json::Value, keys: &str| {
        for key in keys.split(' ') {
            assert!(value.get(key).is_some(), "{key} is missing in {value}");
        }
    };
    object(
        &report,
        "schema program version created_at notice photo crop scale iris quality verdict reflections enhance step_ms processing_time_ms files",
    );
    object(&report["photo"], "sha256 width height orientation_applied source");
    object(&report["crop"], "x y width height");
    object(&report["iris"], "limbus pupil coverage confidence method model model_sha256");
    object(&report["iris"]["limbus"], "cx cy rx ry angle_deg");
    object(&report["reflections"], "count area_px synthetic_share method");
    object(&report["enhance"], "method model model_sha256 provider precision tile overlap tiles fallback_reason");
    object(&report["step_ms"], "load segment reflections enhance save");
    for file in ["image", "mask", "synthetic"] {
        object(&report["files"][file], "sha256 bytes width height");
    }
    for metric in report["quality"].as_object().expect("figures").values() {
        object(metric, "value unit threshold pass");
    }
    assert_eq!((&report["schema"], report["notice"].as_str()), (&1.into(), Some("enhanced, not for diagnosis")));
}

#[test]
fn progress_never_falls_and_a_stop_at_any_checkpoint_leaves_nothing_behind() {
    let bench = Bench::eye();
    let pipeline = pipeline(|_| ());
    let all = Counting::default();
    bench.run(&pipeline, &all).expect("completes");
    fs::remove_dir_all(bench.out()).expect("clean");
    let seen = all.seen.lock().expect("lock");
    assert!(seen.len() > 20, "{} checkpoints", seen.len());
    let percents: Vec<u8> = seen.iter().map(|(stage, done)| stage.percent(*done)).collect();
    assert!(percents.is_sorted(), "{percents:?}");
    let before = bench.sha256();
    for stop_at in 0..seen.len() {
        let ended = bench.run(&pipeline, &Counting { stop_at: Some(stop_at), ..Default::default() });
        assert!(matches!(ended, Err(Ended::Stopped(_))), "checkpoint {stop_at}");
        bench.assert_nothing_left();
    }
    assert_eq!(bench.sha256(), before, "the original was touched");
}

#[test]
fn a_photo_without_an_iris_or_with_one_that_is_too_small_is_refused_and_leaves_nothing_behind() {
    let blank = irisd::imaging::raster::Rgb { width: 320, height: 240, data: vec![170; 320 * 240 * 3] };
    assert_eq!(Bench::new(&encode::jpeg_bytes(&blank, 90)).fault(&pipeline(|_| ())), Code::NoIris);
    // One that is there, but smaller than what is wanted, is told as that.
    assert_eq!(Bench::eye().fault(&pipeline(|c| c.segment.min_coverage = 0.9)), Code::IrisTooSmall);
}

#[test]
fn with_the_gate_off_the_refusal_becomes_a_warning_and_every_file_is_written() {
    for mode in [QualityMode::Report, QualityMode::Off] {
        let blank = irisd::imaging::raster::Rgb { width: 320, height: 240, data: vec![170; 320 * 240 * 3] };
        let bench = Bench::new(&encode::jpeg_bytes(&blank, 90));
        let done = bench.run(&pipeline(|c| c.quality.mode = mode), &Counting::default()).expect("completes");
        assert_eq!((done.report.iris.coverage, done.report.iris.confidence), (0.0, 0.0));
        assert!(done.report.warnings.iter().any(|w| w.contains("No iris")), "{:?}", done.report.warnings);
        assert_eq!(size(&bench.out().join("image.jpg")), (1280, 960));
        assert_eq!(size(&bench.out().join("mask.png")), (1280, 960));

        let bench = Bench::eye();
        let strict = pipeline(|c| (c.quality.mode, c.segment.min_coverage, c.quality.min_lightness) = (mode, 0.9, 99.0));
        let done = bench.run(&strict, &Counting::default()).expect("completes");
        assert!(done.report.warnings.len() >= 2, "{:?}", done.report.warnings);
        assert!(done.report.iris.coverage > 0.05);
    }
}

#[test]
fn a_verdict_of_warn_comes_with_a_sentence_for_each_figure_that_is_low() {
    let bench = Bench::eye();
    let strict = pipeline(|c| {
        c.segment.model = "classical".into();
        (c.quality.min_iris_sclera_contrast, c.quality.min_iris_pupil_contrast) = (1.0, 1.0);
    });
    let report = bench.run(&strict, &Counting::default()).expect("completes").report;
    let low = report.quality.values().filter(|m| !m.pass).count();
    assert_eq!((serde_json::to_value(report.verdict).expect("JSON"), low), ("warn".into(), 2), "{:?}", report.quality);
    assert_eq!(report.warnings.len(), low, "{:?}", report.warnings);
    assert!(report.warnings[0].contains("white of the eye") && report.warnings[1].contains("pupil"), "{:?}", report.warnings);
}

#[test]
fn originals_that_are_gone_changed_or_no_picture_are_named_for_what_they_are() {
    let pipeline = pipeline(|_| ());
    assert_eq!(Bench::new(b"hello, I am a photo").fault(&pipeline), Code::UnsupportedImage);
    assert_eq!(Bench::new(b"").fault(&pipeline), Code::EmptyFile);
    let bench = Bench::eye();
    let missing = Input { photo: bench.dir.path().join("gone"), sha256: bench.sha256(), source: Source::Upload, out: bench.out() };
    assert!(matches!(pipeline.run(&missing, &Counting::default()), Err(Ended::Fault(f, _)) if f.code == Code::OriginalMissing));
    let changed = Input { photo: bench.photo.clone(), sha256: Sha256([7; 32]), source: Source::Upload, out: bench.out() };
    assert!(matches!(pipeline.run(&changed, &Counting::default()), Err(Ended::Fault(f, _)) if f.code == Code::ImageCorrupt));
}

#[test]
fn an_older_result_and_what_a_killed_run_left_are_replaced() {
    let bench = Bench::eye();
    for old in ["results/1", "results/1.tmp"] {
        fs::create_dir_all(bench.dir.path().join(old)).expect("folder");
        fs::write(bench.dir.path().join(old).join("old.txt"), "old").expect("write");
    }
    bench.run(&pipeline(|_| ()), &Counting::default()).expect("completes");
    let mut names: Vec<_> =
        fs::read_dir(bench.out()).expect("folder").flatten().map(|e| e.file_name().into_string().expect("name")).collect();
    names.sort();
    assert_eq!(names, ["image.jpg", "mask.png", "report.json", "synthetic.png", "thumb.jpg"]);
    assert!(!bench.dir.path().join("results/1.tmp").exists());
}

#[test]
fn a_network_that_is_named_and_missing_is_the_devices_fault_and_auto_goes_without() {
    let bench = Bench::eye();
    assert_eq!(bench.fault(&pipeline(|c| c.segment.model = "no-such-net".into())), Code::WeightsMissing);
    assert_eq!(bench.fault(&pipeline(|c| c.enhance.model = "no-such-net".into())), Code::WeightsMissing);
    assert_eq!(bench.fault(&pipeline(|c| c.segment.model = "iris".into())), Code::RuntimeMissing);
    assert_eq!(bench.fault(&pipeline(|c| c.enhance.model = "iris".into())), Code::ModelMismatch);
    let done = bench.run(&pipeline(|_| ()), &Counting::default()).expect("auto completes");
    assert_eq!((done.report.iris.method.as_str(), done.report.enhance.method.as_str()), ("classical", "clahe_lanczos"));
    assert_eq!(done.report.enhance.fallback_reason, None, "Lanczos is what auto means here");
}

#[test]
fn a_report_says_why_the_iris_was_found_without_a_network_and_warns_where_one_is_there_that_cannot_run() {
    let bench = Bench::eye();
    let told = |weights: &Path, runtime: Option<Arc<dyn ModelRuntime>>, options: Options, model: &str| {
        let none = ModelError { code: Code::RuntimeMissing, detail: "no library in this test".into() };
        let engine = Engine::new(Manifest::load(Path::new("/nonexistent"), weights).expect("manifest"), runtime.ok_or(none), options);
        let report = bench.run(&pipeline_on(engine, |c| c.segment.model = model.into()), &Counting::default()).expect("completes").report;
        assert_eq!((report.iris.method.as_str(), report.iris.model), ("classical", None));
        (report.iris.fallback_reason, report.warnings)
    };
    let runtime = || Some(Arc::new(Broken(|_| ())) as Arc<dyn ModelRuntime>);
    let cut = tempfile::tempdir().expect("temp folder");
    let iris = fs::read(weights().join("iris.onnx")).expect("weights");
    fs::write(cut.path().join("iris.onnx"), &iris[..iris.len() / 2]).expect("write");
    let short = Options { memory: Some(1 << 20), ..Options::default() };
    for (weights, runtime, options, word) in [
        (weights(), None, Options::default(), "no library in this test"),
        (cut.path().to_owned(), runtime(), Options::default(), "has sha256"),
        (weights(), runtime(), short, "not enough memory for the network"),
    ] {
        let (reason, warnings) = told(&weights, runtime, options, "auto");
        assert!(reason.is_some_and(|r| r.contains(word)), "{word}");
        assert!(warnings.len() == 1 && warnings[0].contains(word) && warnings[0].contains("classical"), "{warnings:?}");
    }
    let empty = tempfile::tempdir().expect("temp folder");
    let (reason, warnings) = told(empty.path(), runtime(), Options::default(), "auto");
    assert_eq!((reason.as_deref(), warnings.len()), (Some("no network for segmentation is installed"), 0), "{warnings:?}");
    assert_eq!(told(empty.path(), None, Options::default(), "classical"), (None, Vec::new()));
}

/// A super-resolution network that is wrong from its second tile on.
struct Broken(Spoil);
struct BrokenModel(Spoil, Cell<usize>);
/// What it does to an answer.
type Spoil = fn(&mut [f32]);

impl ModelRuntime for Broken {
    fn registers(&self, _: &[String]) -> Result<(), ModelError> {
        Ok(())
    }
    fn load(&self, _: &ModelSpec, _: &Placement) -> Result<Box<dyn Model>, ModelError> {
        Ok(Box::new(BrokenModel(self.0, Cell::new(0))))
    }
    fn about(&self) -> String {
        "a broken runtime".into()
    }
    fn identity(&self) -> String {
        "a broken runtime".into()
    }
}

impl Model for BrokenModel {
    fn run(&mut self, input: &Tensor, _: &RunStop) -> Result<Vec<Tensor>, ModelError> {
        let (h, w) = (input.shape[2], input.shape[3]);
        let at = |i: usize| (i / (16 * h * w)) * h * w + (i / (4 * w) % (4 * h) / 4) * w + i % (4 * w) / 4;
        let mut data: Vec<f32> = (0..3 * 16 * h * w).map(|i| input.data[at(i)]).collect();
        if self.1.replace(self.1.get() + 1) > 0 {
            (self.0)(&mut data);
        }
        Ok(vec![Tensor { shape: vec![1, 3, 4 * h, 4 * w], data }])
    }
    fn trial(&mut self, input: &Tensor, stop: &RunStop) -> Result<(Vec<Tensor>, Vec<Share>), ModelError> {
        let answer = self.run(input, stop)?;
        self.1.set(0); // it counts tiles of photos
        Ok((answer, vec![Share { provider: "cpu".into(), nodes: 1, us: 1 }]))
    }
}

#[test]
fn a_network_that_gives_black_or_undefined_tiles_is_replaced_by_lanczos_and_the_report_says_why() {
    let whole = |c: &mut Config| {
        (c.segment.model, c.enhance.model) = ("classical".into(), "realesr-animevideov3-x4".into());
        (c.enhance.scope, c.enhance.tile) = (Scope::Photo, 128);
    };
    let breaks: [(Spoil, Option<&str>); 3] =
        [(|d| d.fill(0.0), Some("black")), (|d| d.iter_mut().step_by(997).for_each(|v| *v = f32::NAN), Some("finite")), (|_| (), None)];
    for (broken, reason) in breaks {
        let bench = Bench::eye();
        let pipeline = pipeline_on(engine(Some(Arc::new(Broken(broken)))), whole);
        let enhance = bench.run(&pipeline, &Counting::default()).expect("completes").report.enhance;
        assert_eq!(enhance.method, if reason.is_some() { "clahe_lanczos" } else { "network" }, "{enhance:?}");
        assert_eq!(enhance.fallback_reason.is_some(), reason.is_some());
        let said = enhance.fallback_reason.unwrap_or_default();
        assert!(said.contains(reason.unwrap_or_default()), "{said}");
        assert_eq!(size(&bench.out().join("image.jpg")), (960, 800));
    }
}

#[test]
fn a_network_that_changes_nothing_shows_no_seams() {
    let bench = Bench::eye();
    let pipeline = pipeline_on(engine(Some(Arc::new(Broken(|_| ())))), |c| {
        (c.segment.model, c.enhance.model) = ("classical".into(), "realesr-animevideov3-x4".into());
        (c.enhance.scope, c.enhance.tile, c.reflections.method) = (Scope::Photo, 96, "off".into());
    });
    let report = bench.run(&pipeline, &Counting::default()).expect("completes").report;
    assert_eq!((report.enhance.tile, report.enhance.overlap, report.enhance.tiles), (Some(96), Some(18), Some(20)));
    let decode = |bytes: &[u8]| decode::decode(bytes, &decode::Limits { max_pixels: 10_000_000 }).expect("decodes").rgb;
    let (photo, image) =
        (decode(&fs::read(&bench.photo).expect("photo")), decode(&fs::read(bench.out().join("image.jpg")).expect("image")));
    let far = |y: usize, x: usize| photo.px(x, y).iter().zip(image.px(4 * x + 1, 4 * y + 1)).map(|(a, b)| a.abs_diff(b)).max().unwrap_or(0);
    let worst = (0..photo.height).flat_map(|y| (0..photo.width).map(move |x| (y, x))).map(|(y, x)| far(y, x)).max();
    assert!(worst <= Some(24), "a pixel is {worst:?} levels off: more than JPEG's own error");
}

#[test]
fn process_gives_a_line_a_photo_its_own_names_and_leaves_the_originals_alone() {
    let dir = tempfile::tempdir().expect("temp folder");
    let eye = encode::jpeg_bytes(&drawn::eye(360, 300), 92);
    let paths = ["eye.jpg", "b/eye.jpg", "text.jpg"].map(|name| dir.path().join(name));
    fs::create_dir(dir.path().join("b")).expect("folder");
    for (path, bytes) in paths.iter().zip([&eye[..], &eye[..], b"no picture"]) {
        fs::write(path, bytes).expect("write");
    }
    let mut stdout = Vec::new();
    let all = process_files(&paths, dir.path(), true, &pipeline(|_| ()), &mut stdout).expect("runs");
    assert!(!all, "the text file failed");
    let lines: Vec<serde_json::Value> =
        String::from_utf8(stdout).expect("text").lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines.iter().map(|l| l["status"].as_str().expect("status")).collect::<Vec<_>>(), ["completed", "completed", "failed"]);
    assert_eq!((&lines[2]["error_type"], &lines[2]["error_code"]), (&"quality_issue".into(), &"unsupported_image".into()));
    assert!(lines[2]["files"].is_null() && lines[2]["suggestion"].as_str().is_some_and(|s| !s.is_empty()));
    assert_eq!(fs::read(&paths[0]).expect("original"), eye, "the result took the original's place");
    for line in &lines[..2] {
        for file in ["image", "mask", "report"] {
            assert!(Path::new(line["files"][file].as_str().expect("path")).is_file());
        }
    }
    assert_ne!(lines[0]["files"]["image"], lines[1]["files"]["image"]);
    let odd: Vec<_> =
        fs::read_dir(dir.path()).expect("folder").flatten().filter(|e| e.file_name().to_string_lossy().starts_with('.')).collect();
    assert!(odd.is_empty(), "left behind: {odd:?}");
}

/// The n-th shot of an eye: the lamp elsewhere in each, the camera a little.
fn shot(seed: u64, n: u64) -> Vec<u8> {
    let pose = Pose { scale: 1.0, turn_deg: 0.5 * n as f32, shift: (0.01 * n as f32, 0.0) };
    let kind = [Kind::Softbox, Kind::Window][n as usize % 2];
    encode::jpeg_bytes(&lamps::shot(seed, n + 1, kind, 0.12, pose, 480, 360), 95)
}

#[test]
fn a_photo_that_does_not_fit_fails_the_run_that_named_it_and_is_left_out_of_a_burst_with_a_warning() {
    let bench = Bench::new(&shot(5, 0));
    fs::create_dir_all(bench.dir.path().join("results")).expect("folder");
    let another = |name: &str, bytes: Option<&[u8]>| {
        let photo = bench.dir.path().join(name);
        if let Some(bytes) = bytes {
            fs::write(&photo, bytes).expect("write");
        }
        Another { sha256: bytes.map_or(Sha256([7; 32]), |_| manifest::hash(&photo).expect("hash")), photo }
    };
    let (same, other) = (another("same", Some(&shot(5, 1))), another("other", Some(&shot(6, 1))));
    let gone = another("gone", None);
    let owned = |photos: &[&Another]| photos.iter().map(|photo| (*photo).clone()).collect::<Vec<_>>();
    let pipeline = pipeline(|_| ());
    let run = |misfit: Misfit, photos: &[&Another]| {
        let photos = &owned(photos);
        let input = Input { photo: bench.photo.clone(), sha256: bench.sha256(), source: Source::Upload, out: bench.out() };
        pipeline.merge(&input, &Others { photos, misfit }, &Counting::default())
    };
    let fault = |photos: &[&Another]| match run(Misfit::Fails, photos).expect_err("it does not fit") {
        Ended::Fault(fault, _) => (fault.code, fault.message[..8].to_owned()),
        ended => panic!("{ended:?}"),
    };
    assert_eq!(fault(&[&same, &other]), (Code::MergeMismatch, "Photo 3:".into()));
    assert_eq!(fault(&[&gone, &same]), (Code::OriginalMissing, "Photo 2:".into()));
    bench.assert_nothing_left();

    let done = run(Misfit::LeftOut, &[&other, &same]).expect("completes");
    let merged: Vec<Sha256> = done.report.merge.iter().flat_map(|m| &m.photos).map(|p| p.sha256).collect();
    assert_eq!(merged, [bench.sha256(), same.sha256]);
    assert!(done.report.merge.is_some_and(|m| m.photos[1].px > 0), "nothing was taken");
    let left_out: Vec<&String> = done.report.warnings.iter().filter(|w| w.contains("left out")).collect();
    assert!(left_out.len() == 1 && left_out[0].starts_with("Photo 2 was left out: The photos do not show the same eye"), "{left_out:?}");
    assert!(done.outcome.artifacts.made_by.is_some(), "these photos give no other pixels the next time");
    let done = run(Misfit::LeftOut, &[&gone, &same]).expect("completes");
    assert_eq!(done.outcome.artifacts.made_by, None, "the photo may be back the next time");

    let none_fits = run(Misfit::LeftOut, &[&other]).expect("completes").report;
    let alone = bench.run(&pipeline, &Counting::default()).expect("completes").report;
    assert_eq!((none_fits.merge, none_fits.files), (None, alone.files), "as if it were alone");
    let both = run(Misfit::Fails, &[&same]).expect("completes").report;
    assert!(both.reflections.synthetic_share < alone.reflections.synthetic_share, "{:?}", both.reflections);

    let made_by = |misfit: Misfit, photos: &[&Another]| pipeline.fingerprint(&Others { photos: &owned(photos), misfit });
    let all = [
        pipeline.fingerprint(&Others::NONE),
        made_by(Misfit::Fails, &[&same]),
        made_by(Misfit::LeftOut, &[&same]),
        made_by(Misfit::Fails, &[&other]),
        made_by(Misfit::Fails, &[&same, &other]),
        made_by(Misfit::Fails, &[&other, &same]),
    ];
    assert!(all.iter().enumerate().all(|(n, one)| !all[..n].contains(one)), "two kinds of run pass for each other's: {all:?}");
    assert_eq!(made_by(Misfit::LeftOut, &[]), all[0], "nothing to merge is a photo by itself");
}

//! Networks on the real ONNX Runtime. Without the library (`daemon/scripts/onnxruntime.sh` brings it) these tests say so and pass.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod drawn;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use irisd::{
    adapters::model_ort::{OrtOptions, OrtRuntime},
    config::Config,
    domain::{
        fault::Code,
        photo::Source,
        stage::{Stage, StepMs},
    },
    imaging::{encode, raster::Rgb},
    inference::{
        Builds, Engine, Options,
        manifest::{self, Manifest},
    },
    pipeline::{Done, Ended, Input, Pipeline, Settings, Stop, Watch},
    ports::{Clock, ModelRuntime, Placement, Tensor},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The library, or None with a word about it.
fn library() -> Option<PathBuf> {
    let path = root().join(".tools/onnxruntime/libonnxruntime.so");
    let found = path.is_file().then_some(path);
    if found.is_none() {
        eprintln!("skipped: no ONNX Runtime in .tools (daemon/scripts/onnxruntime.sh brings it)");
    }
    found
}

fn runtime() -> Option<Arc<dyn ModelRuntime>> {
    Some(Arc::new(OrtRuntime::open(OrtOptions { library: library()?, threads: 1 }).expect("the library loads")))
}

fn engine(cache: &Path) -> Option<Engine> {
    let manifest = Manifest::load(cache, &root().join("weights")).expect("manifest");
    let providers = vec!["tensorrt".into(), "cuda".into(), "cpu".into()];
    let engines = Some((cache.join("engines"), Builds::InBackground));
    Some(Engine::new(manifest, Ok(runtime()?), Options { providers, engines, ..Options::default() }))
}

#[test]
fn the_iris_network_runs_and_says_that_the_cpu_did_the_work() {
    let dir = tempfile::tempdir().expect("temp folder");
    let Some(engine) = engine(dir.path()) else { return };
    let picture = Tensor { shape: vec![1, 3, 128, 128], data: vec![0.5; 3 * 128 * 128] };
    let out = engine.run("iris", &picture).expect("runs");
    assert_eq!(out[0].shape, [1, 4, 128, 128]);
    let about = engine.runtime().expect("there is one");
    assert!(about.starts_with("ONNX Runtime 1.") && about.contains("libonnxruntime"), "{about}");
    assert!(out[0].data.iter().all(|p| (0.0..=1.0).contains(p)));
    let status = engine.status().into_iter().find(|s| s.name == "iris").expect("row");
    if status.active.as_deref() == Some("cpu") {
        assert_eq!(status.state, "degraded");
        let reason = status.reason.expect("why not tensorrt");
        assert!(reason.contains("tensorrt:") && reason.contains("cuda:") && reason.contains("cpu did the work"), "{reason}");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("folder").flatten().map(|e| e.path()).collect();
    assert!(!left.iter().any(|p| p.to_string_lossy().contains("profile")), "the profile stays behind: {left:?}");
}

#[test]
fn a_super_resolution_network_gives_four_times_the_size() {
    let dir = tempfile::tempdir().expect("temp folder");
    let Some(engine) = engine(dir.path()) else { return };
    let picture = Tensor { shape: vec![1, 3, 24, 40], data: vec![0.5; 3 * 24 * 40] };
    let out = engine.run("realesr-animevideov3-x4", &picture).expect("runs");
    assert_eq!(out[0].shape, [1, 3, 96, 160]);
}

#[test]
fn a_network_with_other_names_or_shapes_is_a_mismatch_that_names_both() {
    let dir = tempfile::tempdir().expect("temp folder");
    let Some(runtime) = runtime() else { return };
    let manifest = Manifest::load(dir.path(), &root().join("weights")).expect("manifest");
    let spec = manifest.get("iris").expect("row").spec(root().join("weights/iris.onnx"));
    for wrong in [
        irisd::ports::ModelSpec { input: "photo".into(), ..spec.clone() },
        irisd::ports::ModelSpec { output: "mask".into(), ..spec.clone() },
        irisd::ports::ModelSpec { canary: vec![1, 3, 256, 256], ..spec.clone() },
    ] {
        let error = runtime.load(&wrong, &Placement::default()).err().expect("it does not fit");
        assert_eq!(error.code, Code::ModelMismatch, "{error}");
        assert!(error.detail.contains("wanted") && error.detail.contains("the file has"), "{error}");
    }
    let broken = dir.path().join("broken.onnx");
    std::fs::write(&broken, "not a network").expect("write");
    assert_eq!(
        runtime.load(&irisd::ports::ModelSpec { file: broken, ..spec }, &Placement::default()).err().expect("broken").code,
        Code::ModelFailed
    );
}

struct Wall(Instant);

impl Clock for Wall {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
    fn mono(&self) -> Duration {
        self.0.elapsed()
    }
}

struct Nobody;

impl Watch for Nobody {
    fn enter(&self, _: Stage, _: StepMs) -> Result<(), Stop> {
        Ok(())
    }
    fn checkpoint(&self, _: Stage, _: f32) -> Result<(), Stop> {
        Ok(())
    }
}

#[allow(clippy::result_large_err)] // once a test
fn run(picture: &Rgb, engine: Engine, dir: &Path, change: impl FnOnce(&mut Config)) -> Result<Done, Ended> {
    let photo = dir.join("photo.jpg");
    std::fs::write(&photo, encode::jpeg_bytes(picture, 92)).expect("write");
    let sha256 = manifest::hash(&photo).expect("hash");
    let mut config = Config::default();
    config.quality.min_sharpness = 0.0; // a drawing has no lens
    change(&mut config);
    let pipeline = Pipeline::new(Settings::from_config(&config), engine, Arc::new(Wall(Instant::now())));
    pipeline.run(&Input { photo, sha256, source: Source::Upload, out: dir.join("out") }, &Nobody)
}

#[test]
fn the_iris_network_finds_the_drawn_limbus_to_a_few_percent_and_is_named_in_the_report() {
    let dir = tempfile::tempdir().expect("temp folder");
    let Some(engine) = engine(dir.path()) else { return };
    let iris = run(&drawn::eye(800, 600), engine, dir.path(), |_| ()).expect("completes").report.iris;
    assert_eq!((iris.method.as_str(), iris.model.as_deref()), ("onnx", Some("iris")));
    assert!(iris.model_sha256.is_some() && iris.confidence > 0.5, "{iris:?}");
    let r = 200.0;
    let limbus = iris.limbus;
    assert!((limbus.cx - 400.0).hypot(limbus.cy - 300.0) < 0.08 * r, "{limbus:?}");
    assert!(((limbus.rx * limbus.ry).sqrt() - r).abs() < 0.1 * r, "{limbus:?}");
    let pupil = iris.pupil.expect("pupil");
    assert!(((pupil.rx * pupil.ry).sqrt() - 0.38 * r).abs() < 0.1 * r, "{pupil:?}");
}

#[test]
fn an_iris_that_the_photo_cuts_in_half_keeps_its_circle_and_is_called_cut_off() {
    let dir = tempfile::tempdir().expect("temp folder");
    let Some(engine) = engine(dir.path()) else { return };
    let half = drawn::eye(800, 600).crop(400, 0, 400, 600);
    match run(&half, engine.clone(), dir.path(), |_| ()) {
        Err(Ended::Refused(refusal, _)) => assert_eq!(refusal.fault.code, Code::IrisCutOff, "{}", refusal.fault),
        other => panic!("{other:?}"),
    }
    let iris = run(&half, engine, dir.path(), |c| c.quality.mode = irisd::config::QualityMode::Report).expect("completes").report.iris;
    assert!(iris.limbus.cx.abs() < 30.0 && (iris.limbus.rx - 200.0).abs() < 30.0, "{:?}", iris.limbus);
}

#[test]
fn the_iris_network_is_not_sure_of_pictures_that_are_no_eyes() {
    let dir = tempfile::tempdir().expect("temp folder");
    let Some(engine) = engine(dir.path()) else { return };
    let picture = |f: fn(usize, usize) -> [u8; 3]| {
        let mut rgb = Rgb::new(400, 300);
        (0..300).for_each(|y| (0..400).for_each(|x| rgb.set(x, y, f(x, y))));
        rgb
    };
    let page = picture(|x, y| if y % 20 < 8 && (x * 7 + y / 20 * 13) % 11 < 6 { [30; 3] } else { [240; 3] });
    let noise = picture(|x, y| [(x * 7919 + y * 104_729) % 251, (x * 31 + y * 977) % 253, (x * 17 + y * 3) % 255].map(|v| v as u8));
    let stripes = picture(|x, _| [if x % 40 < 20 { 20 } else { 230 }; 3]);
    for (name, rgb) in [("page", page), ("noise", noise), ("stripes", stripes)] {
        match run(&rgb, engine.clone(), dir.path(), |_| ()) {
            Err(Ended::Refused(refusal, _)) => {
                let fault = refusal.fault;
                assert!(matches!(fault.code, Code::NoIris | Code::LowConfidence), "{name}: {fault}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_named_super_resolution_network_makes_the_image_and_the_report_says_where_it_ran() {
    let dir = tempfile::tempdir().expect("temp folder");
    let Some(engine) = engine(dir.path()) else { return };
    let done = run(&drawn::eye(240, 180), engine, dir.path(), |c| c.enhance.model = "realesr-animevideov3-x4".into()).expect("completes");
    let enhance = done.report.enhance;
    assert_eq!((enhance.method.as_str(), enhance.fallback_reason.as_deref()), ("network", None));
    assert!(enhance.provider.is_some() && enhance.tiles >= Some(1), "{enhance:?}");
    let image = image::image_dimensions(dir.path().join("out/image.jpg")).expect("picture");
    assert_eq!(image, (done.report.crop.width * 4, done.report.crop.height * 4));
}

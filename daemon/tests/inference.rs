//! Networks on the real ONNX Runtime. Without the library (`daemon/scripts/onnxruntime.sh` brings it) these tests say so and pass.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use irisd::{
    adapters::model_ort::{OrtOptions, OrtRuntime},
    domain::fault::Code,
    inference::{Engine, manifest::Manifest},
    ports::{ModelRuntime, Tensor},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn options(library: PathBuf, cache: &Path) -> OrtOptions {
    OrtOptions {
        library,
        providers: vec!["tensorrt".into(), "cuda".into(), "cpu".into()],
        threads: 1,
        precision: "auto".into(),
        cache: cache.into(),
    }
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

fn runtime(cache: &Path) -> Option<Arc<dyn ModelRuntime>> {
    Some(Arc::new(OrtRuntime::open(options(library()?, cache)).expect("the library loads")))
}

fn engine(cache: &Path) -> Option<Engine> {
    let manifest = Manifest::load(cache, &root().join("weights")).expect("manifest");
    Some(Engine::new(manifest, Ok(runtime(cache)?), vec!["tensorrt".into(), "cuda".into(), "cpu".into()], None))
}

#[test]
fn the_iris_network_runs_and_says_that_the_cpu_did_the_work() {
    let dir = tempfile::tempdir().expect("temp folder");
    let Some(engine) = engine(dir.path()) else { return };
    let picture = Tensor { shape: vec![1, 3, 128, 128], data: vec![0.5; 3 * 128 * 128] };
    let out = engine.run("iris", &picture).expect("runs");
    assert_eq!(out[0].shape, [1, 4, 128, 128]);
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
    let Some(runtime) = runtime(dir.path()) else { return };
    let manifest = Manifest::load(dir.path(), &root().join("weights")).expect("manifest");
    let spec = manifest.get("iris").expect("row").spec(root().join("weights/iris.onnx"));
    for wrong in [
        irisd::ports::ModelSpec { input: "photo".into(), ..spec.clone() },
        irisd::ports::ModelSpec { output: "mask".into(), ..spec.clone() },
        irisd::ports::ModelSpec { canary: vec![1, 3, 256, 256], ..spec.clone() },
    ] {
        let error = runtime.load(&wrong).err().expect("it does not fit");
        assert_eq!(error.code, Code::ModelMismatch, "{error}");
        assert!(error.detail.contains("wanted") && error.detail.contains("the file has"), "{error}");
    }
    let broken = dir.path().join("broken.onnx");
    std::fs::write(&broken, "not a network").expect("write");
    assert_eq!(runtime.load(&irisd::ports::ModelSpec { file: broken, ..spec }).err().expect("broken").code, Code::ModelFailed);
}

//! The engine against a runtime that counts. (The real runtime: `tests/inference.rs`.)

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;

#[derive(Default)]
struct Counting {
    loads: AtomicUsize,
    fails_at: Option<usize>,
    runs: Arc<AtomicUsize>,
}

struct Fake {
    fails_at: Option<usize>,
    runs: Arc<AtomicUsize>,
}

impl ModelRuntime for Counting {
    fn load(&self, spec: &ModelSpec) -> Result<Box<dyn Model>, ModelError> {
        assert!(spec.file.is_file());
        self.loads.fetch_add(1, Ordering::SeqCst);
        thread::yield_now();
        Ok(Box::new(Fake { fails_at: self.fails_at, runs: Arc::clone(&self.runs) }))
    }
    fn about(&self) -> String {
        "a runtime that counts".into()
    }
}

impl Model for Fake {
    fn run(&mut self, input: &Tensor) -> Result<Vec<Tensor>, ModelError> {
        if self.fails_at == Some(self.runs.fetch_add(1, Ordering::SeqCst)) {
            return Err(ModelError { code: Code::ModelFailed, detail: "out of memory".into() });
        }
        let side = input.shape[2];
        Ok(vec![Tensor { shape: vec![1, 4, side, side], data: vec![0.0; 4 * side * side] }])
    }
    fn runs_on(&self) -> RunsOn {
        RunsOn { provider: "cpu".into(), precision: "fp32".into(), reason: Some("cuda: not there".into()) }
    }
}

fn manifest(state: &Path) -> Manifest {
    Manifest::load(state, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights")).expect("manifest")
}

fn engine(runtime: &Arc<Counting>) -> Engine {
    let runtime: Arc<dyn ModelRuntime> = Arc::clone(runtime) as _;
    Engine::new(manifest(Path::new("/nonexistent")), Ok(runtime), vec!["cuda".into(), "cpu".into()], None)
}

fn picture() -> Tensor {
    Tensor { shape: vec![1, 3, 128, 128], data: vec![0.0; 3 * 128 * 128] }
}

fn iris(engine: &Engine) -> ModelStatus {
    engine.status().into_iter().find(|s| s.name == "iris").expect("row")
}

#[test]
fn thirty_two_threads_that_ask_at_once_load_the_network_once() {
    let runtime = Arc::new(Counting::default());
    let engine = engine(&runtime);
    assert_eq!((iris(&engine).state.as_str(), iris(&engine).active), ("not_loaded", None));
    thread::scope(|s| {
        for _ in 0..32 {
            s.spawn(|| engine.run("iris", &picture()).expect("runs"));
        }
    });
    assert_eq!((runtime.loads.load(Ordering::SeqCst), runtime.runs.load(Ordering::SeqCst)), (1, 32));
    let shown = iris(&engine);
    assert_eq!((shown.state.as_str(), shown.active.as_deref()), ("degraded", Some("cpu")));
    assert_eq!(shown.reason.as_deref(), Some("cuda: not there"));
}

#[test]
fn a_failed_session_is_dropped_and_loaded_again_on_the_next_use() {
    let runtime = Arc::new(Counting { fails_at: Some(1), ..Default::default() });
    let engine = engine(&runtime);
    engine.run("iris", &picture()).expect("first");
    assert_eq!(engine.run("iris", &picture()).expect_err("second").code, Code::ModelFailed);
    assert_eq!(iris(&engine).state, "failed");
    engine.run("iris", &picture()).expect("third");
    assert_eq!(runtime.loads.load(Ordering::SeqCst), 2);
    assert_eq!(iris(&engine).state, "degraded");
}

#[test]
fn an_output_of_another_shape_than_the_manifest_states_is_a_mismatch_that_names_both() {
    let engine = engine(&Arc::default());
    let small = Tensor { shape: vec![1, 3, 64, 64], data: vec![0.0; 3 * 64 * 64] };
    let error = engine.run("iris", &small).expect_err("64 px come out");
    assert_eq!(error.code, Code::ModelMismatch);
    assert!(error.detail.contains("[1, 4, 64, 64]") && error.detail.contains("[1, 4, 128, 128]"), "{error}");
}

#[test]
fn without_a_runtime_the_reason_is_said_and_nothing_counts_as_installed() {
    let why = ModelError { code: Code::RuntimeMissing, detail: "no libonnxruntime.so".into() };
    let engine = Engine::new(manifest(Path::new("/nonexistent")), Err(why), vec!["cpu".into()], None);
    assert_eq!(engine.run("iris", &picture()).expect_err("no runtime").code, Code::RuntimeMissing);
    assert_eq!(engine.runtime(), Err("no libonnxruntime.so".into()));
    assert!(engine.installed(Role::Segmentation).is_empty());
}

#[test]
fn a_network_that_runs_on_the_cpu_is_not_taken_for_a_gpu_and_leaves_memory() {
    let runtime = Arc::new(Counting::default());
    let engine = engine(&runtime);
    assert!(!engine.on_gpu("iris"));
    assert!(lock(&engine.slot("iris").expect("row").session).model.is_none());
    assert!(!engine.on_gpu("realesr-animevideov3-x4"), "the first answer holds for the others");
    assert_eq!(runtime.loads.load(Ordering::SeqCst), 1);
}

#[test]
fn an_idle_network_leaves_memory_and_comes_back_when_it_is_asked_for() {
    let runtime = Arc::new(Counting::default());
    let shared: Arc<dyn ModelRuntime> = Arc::clone(&runtime) as _;
    let engine = Engine::new(manifest(Path::new("/nonexistent")), Ok(shared), vec!["cpu".into()], Some(Duration::from_millis(1)));
    engine.run("iris", &picture()).expect("runs");
    let deadline = Instant::now() + Duration::from_secs(20);
    while iris(&engine).state != "not_loaded" {
        assert!(Instant::now() < deadline, "it is still there");
        thread::yield_now();
    }
    engine.run("iris", &picture()).expect("runs again");
    assert_eq!(runtime.loads.load(Ordering::SeqCst), 2);
}

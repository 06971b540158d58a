//! The engine against a runtime of its own making: what loads, what runs, on which provider, and what is said. (The real runtime:
//! `tests/inference.rs`.)

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::ports::{ModelSpec, Placement, Share};

/// A run without an end goes on until it is told to stop, or until this: a test that fails must come back.
const ENDLESS: Duration = Duration::from_secs(20);

/// A device that tests describe.
#[derive(Default)]
struct Device {
    /// Providers that register.
    has: Vec<&'static str>,
    /// Who does the work where it registered; None: the first of the placement.
    works: Option<&'static str>,
    /// What is added to each value on this provider.
    off: Option<(&'static str, f32)>,
    /// The run that fails, counted over all sessions, trials left out; and how many after it.
    fails: Option<std::ops::Range<usize>>,
    /// Runs over inputs that are not the trial's have no end.
    endless: bool,
    /// Loads with an engine's folder that fail, and what they say.
    damaged: Mutex<usize>,
    /// Held: a build does not end.
    gate: Arc<Mutex<()>>,
    loads: Mutex<Vec<Placement>>,
    runs: Arc<AtomicUsize>,
}

struct Fake {
    provider: &'static str,
    off: f32,
    fails: Option<std::ops::Range<usize>>,
    endless: bool,
    runs: Arc<AtomicUsize>,
}

impl ModelRuntime for Device {
    fn registers(&self, providers: &[String]) -> Result<(), ModelError> {
        match providers.iter().find(|p| !self.has.contains(&p.as_str())) {
            Some(p) => Err(failed(&format!("{p} is not there"))),
            None => Ok(()),
        }
    }
    fn load(&self, spec: &ModelSpec, on: &Placement) -> Result<Box<dyn Model>, ModelError> {
        assert!(spec.file.is_file());
        self.registers(&on.providers)?;
        self.loads.lock().expect("lock").push(on.clone());
        thread::yield_now();
        if on.engine.is_some() {
            drop(self.gate.lock());
            let mut damaged = self.damaged.lock().expect("lock");
            if *damaged > 0 {
                *damaged -= 1;
                return Err(failed("the engine cannot be read"));
            }
        }
        let provider = match on.providers.first().map(String::as_str) {
            None => "cpu",
            Some(first) => self.works.unwrap_or(if first == "tensorrt" { "tensorrt" } else { "cuda" }),
        };
        let off = self.off.filter(|(p, _)| *p == provider).map_or(0.0, |(_, by)| by);
        let (fails, endless, runs) = (self.fails.clone(), self.endless, Arc::clone(&self.runs));
        Ok(Box::new(Fake { provider, off, fails, endless, runs }))
    }
    fn about(&self) -> String {
        "a runtime of a test".into()
    }
    fn identity(&self) -> String {
        "a gpu of a test".into()
    }
}

impl Fake {
    fn answer(&self, input: &Tensor) -> Vec<Tensor> {
        let side = input.shape[2];
        let value = |i: usize| input.data[i % input.data.len()] + self.off;
        vec![Tensor { shape: vec![1, 4, side, side], data: (0..4 * side * side).map(value).collect() }]
    }
}

impl Model for Fake {
    fn run(&mut self, input: &Tensor, stop: &RunStop) -> Result<Vec<Tensor>, ModelError> {
        let number = self.runs.fetch_add(1, Ordering::SeqCst);
        let begun = Instant::now();
        while self.endless && !stop.is_stopped() && begun.elapsed() < ENDLESS {
            thread::yield_now();
        }
        match &self.fails {
            Some(fails) if fails.contains(&number) => Err(failed("out of memory")),
            _ if stop.is_stopped() => Err(failed("terminated")),
            _ => Ok(self.answer(input)),
        }
    }
    fn trial(&mut self, input: &Tensor, _: &RunStop) -> Result<(Vec<Tensor>, Vec<Share>), ModelError> {
        let share = |provider: &str, nodes, us| Share { provider: provider.into(), nodes, us };
        let mut nodes = vec![share(self.provider, 118, 900)];
        if self.provider != "cpu" {
            nodes.push(share("cpu", 2, 10));
        }
        Ok((self.answer(input), nodes))
    }
}

fn failed(detail: &str) -> ModelError {
    ModelError { code: Code::ModelFailed, detail: detail.into() }
}

fn manifest() -> Manifest {
    Manifest::load(Path::new("/nonexistent"), &Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights")).expect("manifest")
}

fn engine_with(device: &Arc<Device>, options: Options) -> Engine {
    Engine::new(manifest(), Ok(Arc::clone(device) as Arc<dyn ModelRuntime>), options)
}

fn on(providers: &[&str]) -> Options {
    Options { providers: providers.iter().map(|p| (*p).to_owned()).collect(), ..Options::default() }
}

fn engine(device: &Arc<Device>) -> Engine {
    engine_with(device, on(&["cuda", "cpu"]))
}

fn picture() -> Tensor {
    Tensor { shape: vec![1, 3, 128, 128], data: vec![0.0; 3 * 128 * 128] }
}

fn iris(engine: &Engine) -> ModelStatus {
    engine.status().into_iter().find(|s| s.name == "iris").expect("row")
}

fn loads(device: &Device) -> Vec<String> {
    device.loads.lock().expect("lock").iter().map(|on| on.providers.join("+")).collect()
}

/// Until something that another thread does is there.
#[track_caller]
fn eventually(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + ENDLESS;
    while !there() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

#[test]
fn thirty_two_threads_that_ask_at_once_load_the_network_once() {
    let device = Arc::new(Device::default());
    let engine = engine(&device);
    assert_eq!((iris(&engine).state.as_str(), iris(&engine).active), ("not_loaded", None));
    thread::scope(|s| {
        for _ in 0..32 {
            s.spawn(|| engine.run("iris", &picture()).expect("runs"));
        }
    });
    assert_eq!((loads(&device).len(), device.runs.load(Ordering::SeqCst)), (1, 32));
    let shown = iris(&engine);
    assert_eq!((shown.state.as_str(), shown.active.as_deref(), shown.nodes.as_deref()), ("degraded", Some("cpu"), Some("cpu 118 nodes")));
    let said = shown.degraded().expect("it is said");
    assert_eq!(said, "iris: cuda wanted, cpu ran, because cuda: cuda is not there; cpu did the work");
}

#[test]
fn a_gpu_that_answers_as_the_cpu_does_runs_it_and_its_nodes_are_told() {
    let device = Arc::new(Device { has: vec!["cuda"], ..Device::default() });
    let engine = engine(&device);
    engine.run("iris", &picture()).expect("runs");
    let shown = iris(&engine);
    assert_eq!((shown.state.as_str(), shown.nodes.as_deref()), ("ready", Some("cuda 118 nodes, cpu 2 nodes")));
    assert_eq!((shown.reason.clone(), shown.degraded()), (None, None));
    assert_eq!(loads(&device), ["cuda", ""], "the CPU was asked for its own answer");
}

#[test]
fn a_gpu_whose_answer_is_off_is_not_believed_and_both_figures_are_said() {
    let device = Arc::new(Device { has: vec!["cuda"], off: Some(("cuda", 0.1)), ..Device::default() });
    let engine = engine(&device);
    engine.run("iris", &picture()).expect("the CPU runs it");
    let shown = iris(&engine);
    assert_eq!((shown.state.as_str(), shown.active.as_deref()), ("degraded", Some("cpu")));
    let reason = shown.reason.expect("it is said");
    assert!(reason.contains("0.1000 of the range off the CPU's; 0.02 is allowed"), "{reason}");
}

#[test]
fn a_provider_that_registers_and_leaves_the_work_to_the_cpu_is_no_gpu() {
    let device = Arc::new(Device { has: vec!["cuda"], works: Some("cpu"), ..Device::default() });
    let engine = engine(&device);
    assert_eq!(engine.runs_on("iris").expect("runs").provider, "cpu");
    let said = iris(&engine).degraded().expect("it is said");
    assert_eq!(said, "iris: cuda wanted, cpu ran, because cuda registered, and cpu did the work");
}

#[test]
fn a_session_that_fails_is_loaded_again_and_the_network_is_well_once_it_has_run_well() {
    let device = Arc::new(Device { has: vec!["cuda"], fails: Some(1..2), ..Device::default() });
    let engine = engine(&device);
    engine.run("iris", &picture()).expect("first");
    assert!(matches!(engine.run("iris", &picture()), Err(RunError::Failed(e)) if e.code == Code::ModelFailed), "worth one more try");
    let shown = iris(&engine);
    assert_eq!((shown.state.as_str(), shown.reason.as_deref()), ("degraded", Some("out of memory; it is loaded again with the next use")));
    engine.runs_on("iris").expect("loads");
    assert_eq!(iris(&engine).state, "degraded", "it has not run yet");
    engine.run("iris", &picture()).expect("third");
    assert_eq!((iris(&engine).state.as_str(), iris(&engine).reason), ("ready", None));
    assert_eq!(loads(&device), ["cuda", "", "cuda", ""]);
}

#[test]
fn a_network_that_fails_again_and_again_is_not_worth_another_try() {
    let device = Arc::new(Device { fails: Some(0..3), ..Device::default() });
    let engine = engine(&device);
    assert!(matches!(engine.run("iris", &picture()), Err(RunError::Failed(_))));
    for _ in 0..2 {
        assert!(matches!(engine.run("iris", &picture()), Err(RunError::Unusable(e)) if e.code == Code::ModelFailed));
        assert_eq!(iris(&engine).state, "failed");
    }
    engine.run("iris", &picture()).expect("well again");
    assert_eq!(iris(&engine).state, "degraded", "as it was: on the CPU");
}

#[test]
fn a_run_without_an_end_ends_when_its_job_is_told_to_stop_and_so_does_who_waits_for_it() {
    let device = Arc::new(Device { endless: true, ..Device::default() });
    let engine = engine(&device);
    let stops = [RunStop::default(), RunStop::default()];
    thread::scope(|s| {
        let runs = stops.clone().map(|stop| {
            let engine = engine.until(stop);
            s.spawn(move || engine.run("iris", &picture()))
        });
        eventually("one of them runs", || device.runs.load(Ordering::SeqCst) == 1);
        stops.iter().for_each(RunStop::stop);
        for run in runs {
            assert!(matches!(run.join().expect("no panic"), Err(RunError::Stopped)));
        }
    });
    assert_eq!((loads(&device).len(), iris(&engine).state.as_str()), (1, "degraded"), "the network is still there, and not to blame");
}

#[test]
fn an_output_of_another_shape_than_the_manifest_states_is_a_mismatch_that_names_both() {
    let engine = engine(&Arc::default());
    let small = Tensor { shape: vec![1, 3, 64, 64], data: vec![0.0; 3 * 64 * 64] };
    let Err(RunError::Unusable(error)) = engine.run("iris", &small) else { panic!("64 px come out") };
    assert_eq!(error.code, Code::ModelMismatch);
    assert!(error.detail.contains("[1, 4, 64, 64]") && error.detail.contains("[1, 4, 128, 128]"), "{error}");
}

#[test]
fn the_library_is_opened_once_and_only_when_a_network_that_lies_here_is_asked_for() {
    let (opened, device) = (Arc::new(AtomicUsize::new(0)), Arc::new(Device::default()));
    let (count, times) = (Arc::clone(&opened), || opened.load(Ordering::SeqCst));
    let open = move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(device as Arc<dyn ModelRuntime>)
    };
    let engine = Engine::opening(manifest(), open, Options::default());
    assert!(engine.spec("iris").is_ok() && engine.installed(Role::Reflections).is_empty() && !engine.status().is_empty());
    assert_eq!(times(), 0);
    assert!(engine.run("iris", &picture()).is_ok() && engine.runtime().is_ok());
    assert_eq!(times(), 1);
}

#[test]
fn without_a_runtime_the_reason_is_said_and_nothing_counts_as_installed() {
    let why = ModelError { code: Code::RuntimeMissing, detail: "no libonnxruntime.so".into() };
    let engine = Engine::new(manifest(), Err(why), Options::default());
    assert!(matches!(engine.run("iris", &picture()), Err(RunError::Unusable(e)) if e.code == Code::RuntimeMissing));
    assert_eq!(engine.runtime(), Err("no libonnxruntime.so".into()));
    assert!(engine.installed(Role::Segmentation).is_empty());
}

#[test]
fn a_network_that_runs_on_the_cpu_is_not_taken_for_a_gpu_and_leaves_memory() {
    let device = Arc::new(Device::default());
    let engine = engine(&device);
    assert!(!engine.on_gpu("iris"));
    assert_eq!(iris(&engine).state, "not_loaded");
    assert!(!engine.on_gpu("realesr-animevideov3-x4"), "the first answer holds for the others");
    assert_eq!(loads(&device).len(), 1);
}

#[test]
fn an_idle_network_leaves_memory_and_comes_back_when_it_is_asked_for() {
    let device = Arc::new(Device::default());
    let engine = engine_with(&device, Options { idle_unload: Some(Duration::from_millis(1)), ..Options::default() });
    engine.run("iris", &picture()).expect("runs");
    eventually("it leaves", || iris(&engine).state == "not_loaded");
    engine.run("iris", &picture()).expect("runs again");
    assert_eq!(loads(&device).len(), 2);
}

#[test]
fn a_network_that_does_not_fit_into_the_memory_is_refused_before_it_is_loaded() {
    let device = Arc::new(Device::default());
    let engine = engine_with(&device, Options { free: || Some(70 << 20), ..Options::default() });
    let Err(RunError::Unusable(e)) = engine.run("iris", &picture()) else { panic!("64 of 70 MiB are to stay free") };
    assert_eq!((e.code, loads(&device).len()), (Code::DeviceBusy, 0));
    assert!(e.detail.contains("it needs 30 MB and can have 6"), "{e}");
    let roomy = engine_with(&device, Options { free: || Some(1 << 30), memory: Some(30_000_000), ..Options::default() });
    roomy.run("iris", &picture()).expect("there is room");
    let name = "realesr-animevideov3-x4";
    assert_eq!(roomy.tile(name, 256, 1).ok(), Some(96), "100 MB at 256 px do not fit into 30");
    assert!(engine.tile(name, 256, 1).is_err_and(|e| e.to_string().contains("not enough memory")));
}

/// TensorRT first, engines in this folder.
fn with_engines(folder: &Path, builds: Builds) -> Options {
    Options { engines: Some((folder.to_owned(), builds)), ..on(&["tensorrt", "cuda", "cpu"]) }
}

fn nvidia() -> Device {
    Device { has: vec!["tensorrt", "cuda"], ..Device::default() }
}

fn engine_placements(device: &Device) -> Vec<PathBuf> {
    device.loads.lock().expect("lock").iter().filter_map(|on| on.engine.clone()).collect()
}

#[test]
fn while_an_engine_is_built_the_next_provider_serves_and_then_the_engine_takes_over() {
    let (dir, device) = (tempfile::tempdir().expect("folder"), Arc::new(nvidia()));
    let gate = Arc::clone(&device.gate);
    let building = gate.lock().expect("lock");
    let engine = engine_with(&device, with_engines(dir.path(), Builds::InBackground));
    engine.run("iris", &picture()).expect("cuda serves");
    let shown = iris(&engine);
    assert_eq!((shown.state.as_str(), shown.active.as_deref()), ("building", Some("cuda")));
    assert!(shown.building_s.is_some());
    let said = shown.degraded().expect("it is said");
    assert_eq!(said, "iris: tensorrt wanted, cuda ran, because tensorrt: its engine is being built; cuda did the work");
    drop(building);
    eventually("the engine takes over", || iris(&engine).active.as_deref() == Some("tensorrt"));
    let shown = iris(&engine);
    assert_eq!((shown.state.as_str(), shown.building_s, shown.reason.as_deref()), ("ready", None, None));
    engine.run("iris", &picture()).expect("tensorrt serves");
    assert_eq!(engine_placements(&device).len(), 1, "built once");

    // The next process finds it, and asks the CPU nothing: its answer lies beside the engine.
    let next = Arc::new(nvidia());
    let engine = engine_with(&next, with_engines(dir.path(), Builds::InBackground));
    assert_eq!(engine.runs_on("iris").expect("runs").provider, "tensorrt");
    assert_eq!(loads(&next), ["tensorrt+cuda"]);
}

#[test]
fn a_damaged_engine_is_set_aside_and_built_again() {
    let (dir, device) = (tempfile::tempdir().expect("folder"), Arc::new(nvidia()));
    engine_with(&device, with_engines(dir.path(), Builds::Never)).build_now("iris").expect("built ahead");
    *device.damaged.lock().expect("lock") = 1;
    let engine = engine_with(&device, with_engines(dir.path(), Builds::InBackground));
    engine.run("iris", &picture()).expect("somebody serves");
    eventually("the new engine takes over", || iris(&engine).active.as_deref() == Some("tensorrt"));
    let names: Vec<String> =
        std::fs::read_dir(dir.path()).expect("folder").flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|n| n.ends_with(".damaged")), "{names:?}");
}

#[test]
fn an_engine_that_cannot_be_built_is_said_and_not_tried_again_and_the_next_provider_goes_on() {
    let (dir, device) = (tempfile::tempdir().expect("folder"), Arc::new(nvidia()));
    *device.damaged.lock().expect("lock") = 1;
    let options = Options { idle_unload: Some(Duration::from_millis(1)), ..with_engines(dir.path(), Builds::InBackground) };
    let engine = engine_with(&device, options);
    engine.run("iris", &picture()).expect("cuda serves");
    eventually("the build ends", || {
        iris(&engine).building_s.is_none() && iris(&engine).reason.is_some_and(|r| r.contains("cannot be read"))
    });
    eventually("it leaves memory", || iris(&engine).state == "not_loaded");
    engine.run("iris", &picture()).expect("cuda serves again");
    let reason = iris(&engine).reason.expect("it is said");
    assert!(reason.starts_with("tensorrt: the engine cannot be read"), "{reason}");
    assert_eq!(engine_placements(&device).len(), 1);
}

#[test]
fn a_command_builds_no_engine_on_the_way_and_says_how_to_get_one() {
    let (dir, device) = (tempfile::tempdir().expect("folder"), Arc::new(nvidia()));
    let engine = engine_with(&device, with_engines(dir.path(), Builds::Never));
    let on = engine.runs_on("iris").expect("cuda serves");
    assert_eq!(on.provider, "cuda");
    assert!(on.reason.is_some_and(|r| r.contains("irisd weights build")));
    let cpu = engine_with(&device, Options { providers: vec!["cpu".into()], ..with_engines(dir.path(), Builds::Never) });
    assert!(cpu.build_now("iris").is_err_and(|e| e.detail.contains("does not begin with tensorrt")));
}

//! `make bench-enhance`: what the enhance stage costs beside the network that it runs, whether the network gives what Python's onnxruntime
//! gives, and how much memory a large result takes.
//!
//! Ratios are of one interleaved run on one machine; the absolute times are that machine's. Without the runtime library, Python or the
//! package index it says so and leaves that part out.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a table on stdout is what it is for

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use irisd::{
    app::parts,
    config::{Config, QualityMode, Scope},
    domain::{
        photo::Source,
        stage::{Stage, StepMs},
    },
    imaging::{
        encode,
        raster::Rgb,
        synth,
        tile::{self, Tiles},
    },
    inference::{Engine, manifest},
    pipeline::{Input, Pipeline, Settings, Stop, Watch},
    ports::{Clock, Tensor},
};

use common::{
    daemon::{irisd, text, write_config},
    eyes,
};

const MODEL: &str = "realesr-animevideov3-x4";
/// The iris of the overhead's measurement, px.
const SIDE: usize = 512;
const ROUNDS: usize = 5;

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

fn main() {
    let Some(library) = library() else { return println!("SKIPPED: IRISD_TEST_ONNXRUNTIME names no library") };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let python = python();
    println!("{MODEL}, {SIDE} x {SIDE} px to {0} x {0}, {cores} cores; medians of {ROUNDS} interleaved runs", 4 * SIDE);
    println!("load before: {}", fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    println!(
        "{:<9}{:>10}{:>12}{:>12}{:>14}{:>14}{:>15}",
        "threads", "stage s", "in run s", "stage/run", "Python s", "in run s", "stage/Python"
    );
    let mut threads = vec![1, cores];
    threads.dedup();
    for threads in threads {
        overhead(&library, threads, python.as_deref());
    }
    memory();
}

fn library() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("IRISD_TEST_ONNXRUNTIME").unwrap_or_default());
    path.is_file().then_some(path)
}

/// A Python with onnxruntime, or None with a word about it.
fn python() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/enhance.sh");
    let out = Command::new("sh").arg(script).output().unwrap();
    if !out.status.success() {
        println!("SKIPPED the comparison with Python: {}", text(&out));
        return None;
    }
    String::from_utf8(out.stdout).unwrap().lines().last().map(PathBuf::from)
}

fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights")
}

fn config(library: &Path, threads: usize) -> Config {
    let mut config = Config::default();
    (config.paths.state, config.paths.weights, config.paths.onnxruntime) = ("/nonexistent".into(), weights(), library.to_owned());
    (config.inference.providers, config.inference.threads) = (vec!["cpu".into()], threads);
    (config.segment.model, config.enhance.model) = ("classical".into(), MODEL.into());
    (config.enhance.scope, config.quality.mode, config.reflections.method) = (Scope::Photo, QualityMode::Off, "off".into());
    config
}

fn overhead(library: &Path, threads: usize, python: Option<&Path>) {
    let dir = tempfile::tempdir().unwrap();
    let iris = synth::eye(3, 800, 600).photo.crop(144, 44, SIDE, SIDE);
    let photo = dir.path().join("iris.png");
    fs::write(&photo, png(&iris)).unwrap();
    let config = config(library, threads);
    let engine = parts::engine(&config).unwrap();
    engine.runs_on(MODEL).unwrap();
    let pipeline = Pipeline::new(Settings::from_config(&config), engine.clone(), Arc::new(Wall(Instant::now())));
    let tiles = windows(&iris, &engine, config.enhance.tile as usize);
    let mut reference = python.map(|python| Reference::start(python, dir.path(), &tiles, threads));

    let stage = || {
        let input =
            Input { photo: photo.clone(), sha256: manifest::hash(&photo).unwrap(), source: Source::Upload, out: dir.path().join("out") };
        let before = engine.busy(MODEL);
        let enhance = pipeline.run(&input, &Nobody).unwrap().report;
        assert_eq!((enhance.enhance.method.as_str(), enhance.enhance.tiles), ("network", Some(tiles.len() as u32)));
        let inside = (engine.busy(MODEL) - before).as_secs_f64();
        (enhance.step_ms.enhance.unwrap() as f64 / 1e3, inside)
    };
    stage(); // warms caches and the allocator's arenas
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(stage());
        theirs.extend(reference.as_mut().map(Reference::once));
    }
    let ratio = |pairs: &[(f64, f64)]| median(pairs.iter().map(|p| p.0 / p.1));
    let (stage_s, run_s) = (median(ours.iter().map(|p| p.0)), median(ours.iter().map(|p| p.1)));
    print!("{threads:<9}{stage_s:>10.2}{run_s:>12.2}{:>12.3}", ratio(&ours));
    if theirs.is_empty() {
        return println!();
    }
    let rounds: Vec<(f64, f64)> = ours.iter().zip(&theirs).map(|(o, t)| (o.0, t.0)).collect();
    let (python_s, inside_s) = (median(theirs.iter().map(|p| p.0)), median(theirs.iter().map(|p| p.1)));
    println!("{python_s:>14.2}{inside_s:>14.2}{:>15.3}", ratio(&rounds));
    println!("         {} tiles; largest difference from Python's answers: {:.1e}", tiles.len(), difference(&engine, dir.path(), &tiles));
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn png(rgb: &Rgb) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::png(&mut encode::RgbRows::new(rgb), &mut bytes).unwrap();
    bytes
}

/// The windows that the stage will cut.
fn windows(iris: &Rgb, engine: &Engine, tile: usize) -> Vec<Rgb> {
    let row = engine.spec(MODEL).unwrap();
    let tiles = Tiles::fitted((iris.width, iris.height), tile, row.overlap);
    let cut = |x: isize, y: isize| tile::cut(iris, (x, y), (tiles.width, tiles.height));
    tiles.rows.iter().flat_map(|r| tiles.columns.iter().map(|c| cut(c.window, r.window))).collect()
}

fn tensor(window: &Rgb) -> Tensor {
    let px = window.width * window.height;
    let data = (0..3 * px).map(|i| f32::from(window.data[i % px * 3 + i / px]) / 255.0).collect();
    Tensor { shape: vec![1, 3, window.height, window.width], data }
}

/// Python's loop over the same tiles, in a process of its own that keeps its session.
struct Reference {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Reference {
    fn start(python: &Path, dir: &Path, tiles: &[Rgb], threads: usize) -> Self {
        let bytes: Vec<u8> = tiles.iter().flat_map(|t| t.data.iter().copied()).collect();
        fs::write(dir.join("tiles"), bytes).unwrap();
        let numbers = [tiles.len(), tiles[0].height, tiles[0].width, 4, threads].map(|n| n.to_string());
        let mut command = Command::new(python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/enhance.py"));
        command.arg(weights().join(format!("{MODEL}.onnx"))).arg(dir.join("tiles")).args(numbers).arg(dir.join("answers"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (ask, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut reference = Self { child, ask, answers };
        assert_eq!(reference.line(), "ready");
        reference
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Seconds of the loop, and of it inside run().
    fn once(&mut self) -> (f64, f64) {
        writeln!(self.ask, "go").unwrap();
        let line = self.line();
        let mut numbers = line.split(' ').map(|n| n.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Of our answers, values as the network gives them, from those of Python.
fn difference(engine: &Engine, dir: &Path, tiles: &[Rgb]) -> f32 {
    let bytes = fs::read(dir.join("answers")).unwrap();
    let theirs = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    let ours = tiles.iter().flat_map(|t| engine.run(MODEL, &tensor(t)).unwrap().remove(0).data);
    let mut n = 0;
    let worst = ours.zip(theirs).map(|(a, b)| (a - b).abs()).inspect(|_| n += 1).fold(0.0, f32::max);
    assert_eq!(n, bytes.len() / 4, "as many values from both");
    worst
}

/// Peak memory of `irisd process` while a whole photo becomes sixteen times as large.
fn memory() {
    println!("\n{:<14}{:>10}{:>14}{:>12}", "photo", "peak MB", "of Lanczos", "seconds");
    for size in ["600x600", "1500x1500"] {
        let photo = eyes::eye(1, size).path;
        let (peak, seconds) = peak_mb(&photo, MODEL);
        println!("{size:<14}{peak:>10.0}{:>14.0}{seconds:>12.0}", peak_mb(&photo, "lanczos").0);
    }
    println!("the network's own, by the manifest: 100 MB; the bound: 600 MB beside it");
}

fn peak_mb(photo: &Path, model: &str) -> (f64, f64) {
    let dir = tempfile::tempdir().unwrap();
    let extra = format!(
        "[enhance]\nscope = \"photo\"\nmodel = \"{model}\"\n[inference]\nproviders = [\"cpu\"]\n[quality]\nmode = \"off\"\n\
         [segment]\nmodel = \"classical\"\n"
    );
    let config = write_config(dir.path(), &dir.path().join("state"), &extra);
    let mut command = irisd();
    command.arg("process").arg(photo).arg("--out").arg(dir.path().join("out")).arg("--json").arg("--config").arg(&config);
    let begin = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // VmHWM only ever rises: the last look before the end is the peak.
    let mut peak = 0.0_f64;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let about = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let kib = about.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        peak = peak.max(kib.unwrap_or(0.0) * 1024.0 / 1e6);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{status}");
    (peak, begin.elapsed().as_secs_f64())
}

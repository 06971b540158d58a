//! `make bench-pixels`: the pixel operations and the whole pipeline without weights beside OpenCV, turn by turn in one run; then what
//! `enhance.detail` is worth beside Lanczos alone, and what finding an iris with the network that ships costs (no other side: where OpenCV
//! draws a disc, there is nothing to compare).
//!
//! OpenCV runs in a Python process (benches/pixels.py) that does one operation when it is asked for it. CPU time of all threads counts,
//! the median of the turns: on a machine that others use, too, the wall clock says little. The pipeline's figures contain the start
//! of the program, reading the photo and writing the results, and the making of thumbnails, which the Python side does not have.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a table on stdout is what it is for

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use irisd::{
    adapters::model_ort::{OrtOptions, OrtRuntime},
    domain::report::Ellipse,
    imaging::{
        clahe::clahe_gray,
        decode::{Limits, decode},
        detail,
        encode::{Chroma, GrayRows, RgbRows, jpeg, png},
        inpaint::fibres,
        mask::Region,
        raster::{Gray, Rgb, Rows},
        resize::{Lanczos, shrink},
        synth,
    },
    inference::{
        Engine, Options, RunError,
        manifest::{Manifest, Role},
    },
    pipeline::eyenet,
    ports::ModelRuntime,
};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::Value;

use common::{
    daemon::{irisd, text, write_config},
    eyes,
};

const TURNS: usize = 9;
const QUALITY: u8 = 95;
/// Ticks a second in /proc/PID/stat: USER_HZ, 100 on every Linux we run on.
const TICKS: f64 = 100.0;
/// Photos, and how often each is processed in a turn: a run is counted in ticks of 10 ms, and that of a small photo is two of them.
const SIZES: [(&str, usize); 3] = [("640x480", 20), ("1600x1200", 5), ("4000x3000", 2)];

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let eye = eyes::eye(1, "4000x3000");
    let mask = dir.path().join("mask.png");
    png(&mut GrayRows::new(&disc()), fs::File::create(&mask).unwrap()).unwrap();
    operations(&eye.bytes, Python::start(&[&eye.path, &mask]));
    pipelines();
    worth_of_detail();
    network(&eye.bytes);
}

// --- one operation

type Operation<'a> = Box<dyn Fn() + Sync + 'a>;

fn operations(bytes: &[u8], mut python: Python) {
    let limits = Limits { max_pixels: 1 << 30 };
    let photo = decode(bytes, &limits).unwrap().rgb;
    let square = photo.crop((photo.width - 1024) / 2, (photo.height - 1024) / 2, 1024, 1024);
    let grey = enlarged_grey(&square);
    let (mask, hole) = (disc(), Region { x: 0, y: 0, gray: holes() });
    let inside = Gray { width: 1024, height: 1024, data: vec![255; 1024 * 1024] };
    let limbus = Ellipse { cx: 512.0, cy: 512.0, rx: 420.0, ry: 420.0, angle_deg: 0.0 };
    let pupil = Ellipse { rx: 140.0, ry: 140.0, ..limbus };
    let all: [(&str, &str, Operation<'_>); 6] = [
        (
            "clahe",
            "CLAHE 4096x4096, 8 bits",
            Box::new(|| {
                clahe_gray(&grey, 2.0, 8);
            }),
        ),
        ("lanczos", "Lanczos 4x of 1024x1024x3", Box::new(|| drain(&mut Lanczos::new(&square, 4)))),
        (
            "inpaint",
            "inpainting 1 % of 1024x1024x3",
            Box::new(|| {
                fibres::fill(&mut square.clone(), &hole, &inside, &limbus, Some(&pupil), 0);
            }),
        ),
        (
            "decode",
            "JPEG decoding, 12 MP",
            Box::new(|| {
                decode(bytes, &limits).unwrap();
            }),
        ),
        (
            "encode",
            "JPEG encoding, 12 MP, q95, 4:2:0",
            Box::new(|| jpeg(&mut RgbRows::new(&photo), Vec::new(), QUALITY, Chroma::enlarged(QUALITY, 4)).unwrap()),
        ),
        ("png", "PNG of a mask, 4096x4096", Box::new(|| png(&mut GrayRows::new(&mask), Vec::new()).unwrap())),
    ];
    println!("\nCPU ms, median of {TURNS} turns (wall ms in brackets); OpenCV {}", python.version);
    println!("{:<36}{:>20}{:>20}{:>8}{:>22}{:>20}{:>8}", "", "1 thread", "OpenCV", "times", "2 threads", "OpenCV", "times");
    for (name, what, run) in &all {
        print!("{what:<36}");
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut turns: Vec<(Cost, Cost)> = Vec::new();
            pool.install(run); // warm, as the other side is
            python.ask(&format!("{name} {threads}"));
            for _ in 0..TURNS {
                let ours = cost(|| pool.install(run));
                turns.push((ours, python.ask(&format!("{name} {threads}")).0));
            }
            let (ours, theirs) = (median(turns.iter().map(|t| t.0)), median(turns.iter().map(|t| t.1)));
            let show = |c: Cost| format!("{:.1} ({:.1})", c.cpu, c.wall);
            // With two threads the wall clock is what a second thread is for.
            let times = if threads == 1 { theirs.cpu / ours.cpu } else { theirs.wall / ours.wall };
            print!("{:>20}{:>20}{times:>8.2}  ", show(ours), show(theirs));
        }
        println!();
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    wall: f64,
    cpu: f64,
}

fn cost(run: impl FnOnce()) -> Cost {
    let (wall, cpu) = (Instant::now(), threads_ms());
    run();
    Cost { wall: wall.elapsed().as_secs_f64() * 1e3, cpu: threads_ms() - cpu }
}

/// CPU time of all threads that are alive, by the scheduler's own account (nanoseconds; the ticks of /proc/PID/stat are too coarse).
fn threads_ms() -> f64 {
    let ran = |task: fs::DirEntry| fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse::<f64>().ok();
    fs::read_dir("/proc/self/task").unwrap().filter_map(|task| ran(task.ok()?)).sum::<f64>() / 1e6
}

fn median(costs: impl Iterator<Item = Cost> + Clone) -> Cost {
    let middle = |of: fn(&Cost) -> f64| {
        let mut all: Vec<f64> = costs.clone().map(|c| of(&c)).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Cost { wall: middle(|c| c.wall), cpu: middle(|c| c.cpu) }
}

/// All rows, into a strip that is used again, as an encoder takes them.
fn drain(rows: &mut dyn Rows) {
    let (row, mut left) = (rows.width() * rows.channels(), rows.height());
    let mut strip = vec![0; row * 64];
    while left > 0 {
        let n = left.min(64);
        rows.next_rows(&mut strip[..n * row]);
        left -= n;
    }
}

fn disc() -> Gray {
    let inside = |x: usize, y: usize| (x as f64 - 2048.0).hypot(y as f64 - 2048.0) <= 1400.0;
    Gray { width: 4096, height: 4096, data: (0..4096 * 4096).map(|i| if inside(i % 4096, i / 4096) { 255 } else { 0 }).collect() }
}

/// As in pixels.py: about 1 % of the square.
fn holes() -> Gray {
    let disc = |x: usize, y: usize, cx: f64, cy: f64, r: f64| (x as f64 - cx).hypot(y as f64 - cy) <= r;
    let inside = |x: usize, y: usize| {
        (300..=374).contains(&x) && (300..=374).contains(&y) || disc(x, y, 700.0, 600.0, 30.0) || disc(x, y, 560.0, 760.0, 25.0)
    };
    Gray { width: 1024, height: 1024, data: (0..1024 * 1024).map(|i| if inside(i % 1024, i / 1024) { 255 } else { 0 }).collect() }
}

fn enlarged_grey(square: &Rgb) -> Gray {
    let mut rows = Lanczos::new(square, 4);
    let mut grey = Gray::new(4096, 4096);
    let mut row = vec![0; 4096 * 3];
    for out in grey.data.chunks_exact_mut(4096) {
        rows.next_row(&mut row);
        out.iter_mut().zip(row.chunks_exact(3)).for_each(|(v, px)| *v = px[1]);
    }
    grey
}

struct Python {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl Python {
    /// `files`: the photo and the mask of the operations; none for pipelines alone.
    fn start(files: &[&Path]) -> Self {
        let python = env::var_os("IRISD_BENCH_PYTHON").expect("IRISD_BENCH_PYTHON: a Python with OpenCV; `make bench-pixels` brings one");
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/pixels.py"))
            .args(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (ask, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut python = Self { child, ask, answers, version: String::new() };
        python.version = python.line().trim_start_matches("ready ").to_owned();
        python
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "pixels.py ended");
        line.trim().to_owned()
    }

    /// What it cost, and the most memory that the process ever had, MB.
    fn ask(&mut self, what: &str) -> (Cost, f64) {
        writeln!(self.ask, "{what}").unwrap();
        let answer = self.line();
        let [wall, cpu, peak]: [f64; 3] = answer.split(' ').map(|v| v.parse().unwrap()).collect::<Vec<_>>().try_into().unwrap();
        (Cost { wall, cpu }, peak)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// --- the network

/// Finding the iris on 12 MP with the network that ships, three looks and their mirror images, geometry and mask included.
fn network(bytes: &[u8]) {
    let Some(library) = env::var_os("IRISD_TEST_ONNXRUNTIME") else {
        println!("\nthe network: skipped, IRISD_TEST_ONNXRUNTIME names no library");
        return;
    };
    let photo = decode(bytes, &Limits { max_pixels: 1 << 30 }).unwrap().rgb;
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights");
    println!("\nFinding the iris on 12 MP with the network; CPU ms, median of {TURNS} turns (wall ms in brackets)");
    for threads in [1, 2] {
        let runtime = OrtRuntime::open(OrtOptions { library: library.clone().into(), threads }).unwrap();
        let manifest = Manifest::load(Path::new(""), &weights).unwrap();
        let engine = Engine::new(manifest, Ok(Arc::new(runtime) as Arc<dyn ModelRuntime>), Options::default());
        let model = engine.installed(Role::Segmentation)[0];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let find = || {
            let found = pool.install(|| eyenet::find(&photo, model, &engine, |_| Ok::<_, RunError>(())));
            assert!(found.unwrap().is_some(), "an eye");
        };
        find(); // loads it
        let of = median((0..TURNS).map(|_| cost(find)).collect::<Vec<_>>().into_iter());
        println!("  {threads} thread(s) {:>18}", format!("{:.1} ({:.1})", of.cpu, of.wall));
    }
}

// --- the whole pipeline

fn pipelines() {
    println!("\nThe whole pipeline without weights, one thread; CPU ms, median of 3 turns");
    println!("{:<12}{:<8}{:>9}{:>9}{:>8}{:>9}{:>12}   steps, ms", "photo", "scope", "irisd", "Python", "times", "peak MB", "Python MB");
    for (size, runs) in SIZES {
        let eye = eyes::eye(1, size);
        for scope in ["photo", "iris"] {
            let dir = tempfile::tempdir().unwrap();
            let models = format!("[segment]\nmodel = \"classical\"\n[enhance]\nscope = \"{scope}\"\nmodel = \"lanczos\"\n");
            let extra = format!("{models}[inference]\nthreads = 1\n[quality]\nmode = \"report\"\n");
            let config = write_config(dir.path(), &dir.path().join("state"), &extra);
            let mut python = Python::start(&[]);
            let turn = |_| {
                let ours = one_turn(runs, &eye.path, dir.path(), &config);
                (ours, python.ask(&format!("pipeline {} {scope}", eye.path.display())))
            };
            let (mut ours, theirs): (Vec<Run>, Vec<(Cost, f64)>) = (0..3).map(turn).unzip();
            ours.sort_by(|a, b| a.cpu_ms.total_cmp(&b.cpu_ms));
            let (run, cpu) = (&ours[1], median(theirs.iter().map(|t| t.0)).cpu);
            let peak = theirs[2].1;
            let (times, mb, steps) = (cpu / run.cpu_ms, run.peak_mb, &run.steps);
            println!("{size:<12}{scope:<8}{:>9.1}{cpu:>9.1}{times:>8.2}{mb:>9.0}{peak:>12.0}   {steps}", run.cpu_ms);
        }
    }
}

struct Run {
    cpu_ms: f64,
    peak_mb: f64,
    steps: String,
}

/// The mean of some runs: each run's ticks are cut to whole ones, but not those of all that have ended, which the kernel adds up finer.
fn one_turn(runs: usize, photo: &Path, dir: &Path, config: &Path) -> Run {
    let before = children_ms();
    let all: Vec<(f64, String)> = (0..runs).map(|_| one_run(photo, dir, config)).collect();
    let peak_mb = all.iter().map(|(peak_mb, _)| *peak_mb).fold(0.0, f64::max);
    Run { cpu_ms: (children_ms() - before) / runs as f64, peak_mb, steps: all[0].1.clone() }
}

/// One `irisd process` with one thread: the most memory that it had, and its steps' times.
fn one_run(photo: &Path, dir: &Path, config: &Path) -> (f64, String) {
    let out = dir.join("out");
    let mut command = irisd();
    command.env("RAYON_NUM_THREADS", "1").arg("process").arg(photo).arg("--out").arg(&out).arg("--json").arg("--config").arg(config);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    // VmHWM only ever rises, so the last look before the end is the peak.
    let mut peak_mb = 0.0_f64;
    while waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG).unwrap().is_none() {
        peak_mb = peak_mb.max(high_water_mb(child.id()));
        thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let stem = photo.file_stem().unwrap().to_str().unwrap();
    let report: Value = serde_json::from_slice(&fs::read(out.join(format!("{stem}.report.json"))).unwrap()).unwrap();
    fs::remove_dir_all(&out).unwrap();
    let steps = common::live::STEPS.map(|s| format!("{s} {}", report["step_ms"][s]));
    (peak_mb, steps.join(", "))
}

fn high_water_mb(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}

/// User and system time of all children that have ended and were waited for.
fn children_ms() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The name in brackets may hold spaces; cutime and cstime are the 16th and 17th fields of proc(5), the 14th and 15th after it.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[13].parse::<f64>().unwrap() + fields[14].parse::<f64>().unwrap()) * 1e3 / TICKS
}

// --- enhance.detail

/// Sensor noise, levels.
const NOISES: [f32; 3] = [0.5, 2.0, 5.0];
const SEEDS: std::ops::RangeInclusive<u64> = 1..=8;

/// Synthetic eyes, made four times smaller through a lens and a noisy sensor, enlarged again, against what they were.
fn worth_of_detail() {
    println!("\nenhance.detail: PSNR of the iris against the truth, dB, mean of {} synthetic eyes of 640x480 enlarged 4x", SEEDS.count());
    println!("{:<20}{:>10}{:>10}{:>8}", "noise, levels", "Lanczos", "detail", "gain");
    for noise in NOISES {
        let pairs: Vec<[f64; 2]> = SEEDS.map(|seed| lanczos_and_detail(seed, noise)).collect();
        let [plain, sharp] = [0, 1].map(|k| pairs.iter().map(|p| p[k]).sum::<f64>() / pairs.len() as f64);
        println!("{noise:<20}{plain:>10.2}{sharp:>10.2}{:>8.2}", sharp - plain);
    }
}

fn lanczos_and_detail(seed: u64, noise: f32) -> [f64; 2] {
    let truth = synth::eye(seed, 2560, 1920);
    let mut small = shrink(&through_a_lens(&truth.photo), 640, 480);
    let mut state = seed;
    for v in &mut small.data {
        // A sum of uniform values is normal enough.
        let normal: f32 = (0..12).map(|_| uniform(&mut state)).sum::<f32>() - 6.0;
        *v = (f32::from(*v) + noise * normal).round().clamp(0.0, 255.0) as u8;
    }
    let plain = psnr(&mut Lanczos::new(&small, 4), &truth.photo, &truth.mask);
    detail::sharpen(&mut small);
    [plain, psnr(&mut Lanczos::new(&small, 4), &truth.photo, &truth.mask)]
}

fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f32 / (1u64 << 24) as f32
}

/// A box of 4 x 4 px twice: of the small picture's pixels one, beside the sensor's own.
fn through_a_lens(photo: &Rgb) -> Rgb {
    let boxed = |from: &Rgb| {
        let mut out = from.clone();
        for y in 0..from.height - 3 {
            for x in 0..from.width - 3 {
                let sum = |c: usize| (0..16).map(|i| u32::from(from.px(x + i % 4, y + i / 4)[c])).sum::<u32>();
                out.set(x, y, [0, 1, 2].map(|c| ((sum(c) + 8) / 16) as u8));
            }
        }
        out
    };
    let twice = boxed(&boxed(photo));
    // Each box moves the picture by 1.5 px to the left and up: three together, moved back.
    let mut out = photo.clone();
    for y in 3..photo.height {
        for x in 3..photo.width {
            out.set(x, y, twice.px(x - 3, y - 3));
        }
    }
    out
}

fn psnr(rows: &mut dyn Rows, truth: &Rgb, mask: &Gray) -> f64 {
    let (mut square, mut n) = (0.0, 0.0);
    let mut row = vec![0; truth.width * 3];
    for y in 0..truth.height {
        rows.next_row(&mut row);
        for (x, px) in row.chunks_exact(3).enumerate().filter(|(x, _)| mask.px(*x, y) >= 128) {
            square += px.iter().zip(truth.px(x, y)).map(|(a, b)| f64::from(a.abs_diff(b)).powi(2)).sum::<f64>();
            n += 3.0;
        }
    }
    10.0 * (255.0 * 255.0 * n / square).log10()
}

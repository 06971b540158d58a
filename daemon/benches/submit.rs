//! What a user waits for, in figures: submits with the store committed beside the disk's own fsync, then the pipeline's time and memory.
//!
//! `make bench` (cargo bench --bench submit). The state lies below `TMPDIR`: point it at the disk that the figures should be about.
//! The figures of the same stages in Python/OpenCV stand beside ours; they were taken on 2 cores, CPU time with one thread.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a table on stdout is what it is for

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};

use common::{
    daemon::{Daemon, irisd, text, write_config},
    eyes, raw,
};

/// Submits a measurement; enough for a p99 that ten values stand behind.
const SUBMITS: usize = 1000;
const SYNCS: usize = 300;
/// Ticks a second in /proc/PID/stat: USER_HZ, 100 on every Linux we run on.
const TICKS: f64 = 100.0;

/// Size; Python's CPU ms (whole photo, iris crop of 40 % height) and peak RSS in MB (whole photo).
const SIZES: [(&str, f64, f64, f64); 3] =
    [("640x480", 128.0, 26.0, 81.0), ("1600x1200", 874.0, 138.0, 214.0), ("4000x3000", 5573.0, 992.0, 826.0)];

fn main() {
    let daemon = Daemon::start("[queue]\nmax_pending = 1000000\n");
    println!("state below {}", daemon.dir.path().display());
    println!("\n{:<34}{:>10}{:>10}{:>10}{:>12}", "", "p50 ms", "p99 ms", "max ms", "a second");
    disk(daemon.dir.path());
    for clients in [1, 8, 64] {
        submits(&daemon, clients);
    }
    drop(daemon);
    println!(
        "\n{:<12}{:<8}{:>9}{:>9}{:>12}{:>9}{:>12}   steps, ms",
        "photo", "scope", "wall ms", "cpu ms", "Python cpu", "peak MB", "Python MB"
    );
    for size in SIZES {
        for scope in ["photo", "iris"] {
            pipeline(size, scope);
        }
    }
    println!("\none thread; ours with start of the program, reading the photo and writing the results; Python: the stages alone");
}

fn row(what: &str, mut times: Vec<Duration>, all: Duration) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let rate = times.len() as f64 / all.as_secs_f64();
    println!("{what:<34}{:>10.2}{:>10.2}{:>10.2}{rate:>12.0}", at(0.5), at(0.99), at(1.0));
}

/// The floor that no committed submit can be below: 4 KiB appended and synced.
fn disk(dir: &Path) {
    let path = dir.join("fsync-probe");
    let mut file = File::create(&path).unwrap();
    let begin = Instant::now();
    let times = (0..SYNCS).map(|_| {
        let at = Instant::now();
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        at.elapsed()
    });
    let times: Vec<_> = times.collect();
    row("4 KiB + fdatasync, 1 writer", times, begin.elapsed());
    fs::remove_file(path).unwrap();
}

/// `clients` keep-alive connections that submit one after another. The worker works on the jobs meanwhile, as on a real device.
fn submits(daemon: &Daemon, clients: usize) {
    let photo = daemon.client().photo(&eyes::plain(1, 64, 64));
    let body = json!({"photo_id": photo, "lane": "default"}).to_string();
    let head = raw::head("POST", "/api/v1/processing/submit", &daemon.base, &daemon.token);
    let request = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let begin = Instant::now();
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let (base, request) = (daemon.base.clone(), request.clone());
            thread::spawn(move || {
                let mut stream = raw::connect(&base);
                stream.set_nodelay(true).unwrap();
                let one = |_| {
                    let at = Instant::now();
                    stream.write_all(request.as_bytes()).unwrap();
                    let (status, body) = raw::read_answer(&mut stream, Duration::from_secs(60)).expect("an answer");
                    assert_eq!(status, 202, "{body}");
                    at.elapsed()
                };
                (0..SUBMITS.div_ceil(clients)).map(one).collect::<Vec<_>>()
            })
        })
        .collect();
    let times = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    row(&format!("submit, committed, {clients} client(s)"), times, begin.elapsed());
}

/// One `irisd process` with one thread; the median run of three by CPU time (one run for 12 MP).
fn pipeline((size, whole, iris, peak): (&str, f64, f64, f64), scope: &str) {
    let eye = eyes::eye(1, size);
    let dir = tempfile::tempdir().unwrap();
    let extra = format!("[enhance]\nscope = \"{scope}\"\nmodel = \"lanczos\"\n[inference]\nthreads = 1\n[quality]\nmode = \"report\"\n");
    let config = write_config(dir.path(), &dir.path().join("state"), &extra);
    let runs = if size == "4000x3000" { 1 } else { 3 };
    let mut measured: Vec<Run> = (0..runs).map(|_| run(&eye.path, dir.path(), &config)).collect();
    measured.sort_by(|a, b| a.cpu_ms.total_cmp(&b.cpu_ms));
    let run = &measured[runs / 2];
    let (python, python_mb) = if scope == "photo" { (whole, format!("{peak:.0}")) } else { (iris, "-".to_owned()) };
    println!(
        "{size:<12}{scope:<8}{:>9.0}{:>9.0}{python:>12.0}{:>9.0}{python_mb:>12}   {}",
        run.wall_ms, run.cpu_ms, run.peak_mb, run.steps
    );
}

struct Run {
    wall_ms: f64,
    cpu_ms: f64,
    peak_mb: f64,
    steps: String,
}

fn run(photo: &Path, dir: &Path, config: &Path) -> Run {
    let out = dir.join("out");
    let mut command = irisd();
    command.env("RAYON_NUM_THREADS", "1").arg("process").arg(photo).arg("--out").arg(&out).arg("--json").arg("--config").arg(config);
    let begin = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    // VmHWM only ever rises, so the last look before the end is the peak; NOWAIT leaves the dead child's CPU time to be read.
    let (mut peak_mb, mut wall_ms) = (0.0_f64, 0.0);
    while waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG).unwrap().is_none() {
        peak_mb = peak_mb.max(high_water_mb(child.id()));
        wall_ms = begin.elapsed().as_secs_f64() * 1e3;
        thread::sleep(Duration::from_millis(1));
    }
    let cpu_ms = cpu_ms(child.id());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let stem = photo.file_stem().unwrap().to_str().unwrap();
    let report: Value = serde_json::from_slice(&fs::read(out.join(format!("{stem}.report.json"))).unwrap()).unwrap();
    fs::remove_dir_all(&out).unwrap();
    let steps = common::live::STEPS.map(|s| format!("{s} {}", report["step_ms"][s]));
    Run { wall_ms, cpu_ms, peak_mb, steps: steps.join(", ") }
}

fn high_water_mb(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}

/// User and system time of a process that has ended and was not waited for, all its threads together.
fn cpu_ms(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in brackets may hold spaces; utime and stime are the 14th and 15th fields of proc(5), the 12th and 13th after it.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) * 1e3 / TICKS
}

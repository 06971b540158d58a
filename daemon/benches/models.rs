//! `make bench-models`: what networks cost the device beside their work: from the start to the first enhanced photo, memory without, with
//! and after a network, and what each network makes the process grow by (`memory_mb` of the manifest).
//!
//! Times and memory are those of the real daemon, driven over HTTP. Files are in the page cache: this is no cold disk. Without the runtime
//! library it says so and does nothing.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a table on stdout is what it is for

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use irisd::{app::parts, config::Config, inference::manifest::ModelRow, ports::Tensor};
use serde_json::Value;

use common::{JOB, client::Client, daemon::Daemon, eventually, eyes};

const MODEL: &str = "realesr-animevideov3-x4";
const PHOTO: &str = "640x480";
const ROUNDS: usize = 5;
/// Side of an input whose size is free: `enhance.tile`, px.
const TILE: usize = 256;
/// The argument with which this program calls itself, to look at one network in a process of its own.
const GROWTH: &str = "--growth-of";

fn main() {
    let Some(library) = library() else { return println!("SKIPPED: IRISD_TEST_ONNXRUNTIME names no library") };
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == GROWTH) {
        return println!("{:.1}", growth(&library, &arguments[at + 1]));
    }
    daemon();
    networks(&library);
}

fn library() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("IRISD_TEST_ONNXRUNTIME").unwrap_or_default());
    path.is_file().then_some(path)
}

// ---- the daemon

/// What one start showed: seconds, MB.
struct Start {
    listening: f64,
    first: f64,
    warm: f64,
    loaded: f64,
    peak: f64,
    unloaded: f64,
}

fn daemon() {
    let photo = eyes::eye(1, PHOTO).bytes;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("the daemon, a {PHOTO} photo, its iris enlarged by {MODEL}; medians of {ROUNDS} starts; load before: {}", load.trim());
    let idle: Vec<f64> = (0..ROUNDS).map(|_| idle()).collect();
    let starts: Vec<Start> = (0..ROUNDS).map(|_| start(&photo)).collect();
    let of = |get: fn(&Start) -> f64| median(starts.iter().map(get).collect());
    for (what, value, unit) in [
        ("start to listening", of(|s| s.listening), "s"),
        ("start to the first enhanced photo, cold", of(|s| s.first), "s"),
        ("the same photo again, everything loaded", of(|s| s.warm), "s"),
        ("RSS idle, no network asked for", median(idle), "MB"),
        ("RSS with iris and enhancement loaded, after the photos", of(|s| s.loaded), "MB"),
        ("RSS at its peak", of(|s| s.peak), "MB"),
        ("RSS after both were unloaded", of(|s| s.unloaded), "MB"),
    ] {
        println!("  {what:<56}{value:>9.2} {unit}");
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// A daemon that was asked for no network.
fn idle() -> f64 {
    let daemon = Daemon::start("[segment]\nmodel = \"classical\"\n[enhance]\nmodel = \"lanczos\"\n");
    daemon.client().get("/device").expect(200);
    memory(daemon.pid(), "VmRSS")
}

fn start(photo: &[u8]) -> Start {
    let extra =
        format!("[enhance]\nmodel = \"{MODEL}\"\n[inference]\nproviders = [\"cpu\"]\nidle_unload = \"2s\"\n[quality]\nmode = \"off\"\n");
    let mut daemon = Daemon::prepare(&extra);
    let begun = Instant::now();
    daemon.restart();
    let listening = begun.elapsed().as_secs_f64();
    let client = daemon.client();
    enhanced(&client, photo);
    let first = begun.elapsed().as_secs_f64();
    let again = Instant::now();
    enhanced(&client, &eyes::numbered(photo, 1));
    let warm = again.elapsed().as_secs_f64();
    let (loaded, peak) = (memory(daemon.pid(), "VmRSS"), memory(daemon.pid(), "VmHWM"));
    eventually("the networks leave memory", JOB, || states(&client).iter().all(|s| s == "not_loaded").then_some(()));
    Start { listening, first, warm, loaded, peak, unloaded: memory(daemon.pid(), "VmRSS") }
}

/// One photo from its upload to its result, by the network.
fn enhanced(client: &Client, photo: &[u8]) {
    let job = client.completed(&client.submit(&client.photo(photo)));
    let report: Value = serde_json::from_slice(&download(client, &job["report_url"])).unwrap();
    assert_eq!((&report["enhance"]["method"], &report["enhance"]["model"]), (&"network".into(), &MODEL.into()), "{report:#}");
}

fn download(client: &Client, url: &Value) -> Vec<u8> {
    let answer = reqwest::blocking::get(client.absolute(url)).unwrap();
    answer.error_for_status().unwrap().bytes().unwrap().to_vec()
}

fn states(client: &Client) -> Vec<String> {
    let device = client.get("/device").expect(200).json();
    device["models"].as_array().unwrap().iter().map(|m| m["state"].as_str().unwrap().to_owned()).collect()
}

/// A line of /proc/PID/status, MB.
fn memory(pid: u32, line: &str) -> f64 {
    let about = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = about.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    value.unwrap() * 1024.0 / 1e6
}

// ---- networks

fn networks(library: &Path) {
    println!("\nwhat the process grows by at most while a network is loaded, tried and run once ({TILE} px where its input is free), MB");
    for row in parts::engine(&config(library)).unwrap().manifest().models() {
        let out = Command::new(std::env::current_exe().unwrap()).args([GROWTH, &row.name]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        let said = if out.status.success() { said } else { "not here".to_owned() };
        println!("  {:<26}{said:>10}   the manifest: {}", row.name, row.memory_mb);
    }
}

fn config(library: &Path) -> Config {
    let mut config = Config::default();
    config.paths.state = "/nonexistent".into();
    config.paths.weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights");
    config.paths.onnxruntime = library.to_owned();
    config.inference.providers = vec!["cpu".into()];
    config
}

/// In a process of its own: what one network before did would be counted too.
fn growth(library: &Path, name: &str) -> f64 {
    let engine = parts::engine(&config(library)).unwrap();
    let row: &ModelRow = engine.spec(name).unwrap();
    let [n, c, h, w] = row.input.shape;
    let or = |side: usize, free: usize| if side == 0 { free } else { side };
    let shape = vec![or(n, 1), c + usize::from(row.mask.is_some()), or(h, TILE), or(w, TILE)];
    let input = Tensor { data: vec![0.5; shape.iter().product()], shape };
    engine.runtime().unwrap(); // the library is none of the network's
    let before = memory(std::process::id(), "VmRSS");
    engine.run(name, &input).unwrap();
    memory(std::process::id(), "VmHWM") - before
}

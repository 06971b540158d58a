//! A store that has grown for years: how fast it starts, how much memory it takes, and what a list, a job and a submit cost beside an
//! empty one.
//!
//! `make bench-scale` (ARGS="--finished 1000000"). The state lies below `TMPDIR`: point it at the disk that the figures should be about.
//! Submits to the large store and to an empty one take turns, so that their ratio holds on a busy machine, too; the rest does not.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a table on stdout is what it is for

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "scale/fill.rs"]
mod fill;
mod load;
#[path = "../tests/torture/proc.rs"]
#[allow(dead_code)] // the soak asks for more
mod proc;

use std::time::{Duration, Instant};

use clap::Parser;
use irisd::domain::ids::JobId;

use common::{SOON, client::Client, daemon::Daemon, eventually, eyes};
use load::Times;

/// The segmenter that needs no network: nothing warms up in the background of a start.
const CONFIG: &str = "[segment]\nmodel = \"classical\"\n[queue]\nmax_pending = 1000000\n";
const ROUNDS: usize = 5;
const SUBMITS: usize = 400;
const READS: usize = 2000;
/// For a store of a million rows on a slow disk.
const START: Duration = Duration::from_secs(120);

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 100_000)]
    finished: u64,
    #[arg(long, default_value_t = 10_000)]
    pending: usize,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let Arguments { finished, pending, .. } = Arguments::parse();
    let mut large = Daemon::prepare(CONFIG);
    let begin = Instant::now();
    let ids = fill::fill(&large.state, finished, pending, &eyes::plain(1, 64, 64));
    println!("{finished} finished and {pending} waiting jobs, made in {:.0} s", begin.elapsed().as_secs_f64());
    let size = |part: &str| proc::bytes_below(&large.state.join(part));
    let (index, journal) = (size("store/v1"), size("journal"));
    let each = |bytes: u64| bytes / (finished + pending as u64);
    println!("index {} MB, journal {} MB: {} and {} bytes a job", index >> 20, journal >> 20, each(index), each(journal));

    let (ready, rss) = start(&mut large);
    println!("\nstart to ready {:.2} s, resident {rss} MB", ready.as_secs_f64());
    reads(&large, ids);
    println!("resident after that: {} MB", resident(&large));
    large.stop();
    submits(&mut large, &mut Daemon::prepare(CONFIG));
    let (ready, rss) = start(&mut large);
    println!("start to ready {:.2} s, resident {rss} MB", ready.as_secs_f64());
}

/// From the start of the process until `readyz` says yes; MB resident then.
fn start(daemon: &mut Daemon) -> (Duration, u64) {
    let begin = Instant::now();
    let line = daemon.spawn().recv_timeout(START).expect("it starts");
    daemon.listens(&line).unwrap();
    let client = daemon.client();
    eventually("it is ready", SOON, || (client.get("root:/readyz").status == 200).then_some(()));
    (begin.elapsed(), resident(daemon))
}

fn resident(daemon: &Daemon) -> u64 {
    proc::figures(daemon.pid()).expect("it runs").rss_kib * 1024 / 1_000_000
}

fn reads(daemon: &Daemon, ids: Vec<JobId>) {
    load::header();
    let some = ids.clone();
    load::gets(daemon, READS, move |n| format!("/processing/jobs/{}", some[n * 7919 % some.len()])).row("one of all jobs");
    load::gets(daemon, READS, |_| "/processing/jobs".to_owned()).row("the newest 20 jobs");
    load::gets(daemon, READS, |_| "/processing/jobs?status=completed".to_owned()).row("the newest 20 completed jobs");
    load::gets(daemon, READS, |_| "/processing/jobs?status=failed".to_owned()).row("jobs that failed (there is none)");
    let cursors = cursors(&daemon.client(), 50);
    load::gets(daemon, READS, move |n| format!("/processing/jobs?cursor={}", cursors[n % cursors.len()])).row("older pages");
    let last = ids.len() - 100;
    load::gets(daemon, READS / 10, move |_| format!("/processing/jobs?offset={last}")).row("the oldest page by offset");
    load::gets(daemon, READS / 10, move |n| format!("/processing/jobs?client_ref=visit-{}", n * 31)).row("by the clinic's reference");
    load::gets(daemon, READS, |_| "/queue".to_owned()).row("the queue");
}

/// Where the pages behind the first begin.
fn cursors(client: &Client, n: usize) -> Vec<String> {
    let mut cursors: Vec<String> = Vec::new();
    while cursors.len() < n {
        let cursor = cursors.last().map(|c| format!("&cursor={c}")).unwrap_or_default();
        let page = client.get(&format!("/processing/jobs?limit=100{cursor}")).expect(200).json();
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursors.push(next.to_owned());
    }
    cursors
}

/// The large store and an empty one in turns; each is stopped while the other is asked.
fn submits(large: &mut Daemon, empty: &mut Daemon) {
    load::header();
    let mut times: [[Times; 2]; 2] = Default::default();
    let mut synced = Times::default();
    for round in 0..ROUNDS {
        for turn in [round % 2, 1 - round % 2] {
            let daemon = if turn == 0 { &mut *large } else { &mut *empty };
            start(daemon);
            synced.add(load::fsyncs(daemon.dir.path()));
            for (clients, times) in [1, 8].into_iter().zip(&mut times) {
                times[turn].add(load::submits(daemon, clients, SUBMITS));
            }
            daemon.stop();
        }
    }
    synced.row("4 KiB + fdatasync, 1 writer");
    for (clients, [large, empty]) in [1, 8].into_iter().zip(&mut times) {
        large.row(&format!("submit to the large store, {clients} client(s)"));
        empty.row(&format!("submit to an empty store, {clients} client(s)"));
        println!("  p99 of the large store is {:.2} times that of the empty one", large.at(0.99) / empty.at(0.99));
    }
}

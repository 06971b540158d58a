//! What a client waits for, in figures: submits by 1, 8 and 64 clients at once, each beside the disk's fsync of the same minute.
//!
//! `make bench` (cargo bench --bench submit). The state lies below `TMPDIR`: point it at the disk that the figures should be about.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a table on stdout is what it is for

#[path = "../tests/common/mod.rs"]
mod common;
mod load;

use common::daemon::Daemon;
use load::Times;

/// Submits a measurement, at least: enough for a p99 that ten values stand behind.
const SUBMITS: usize = 1000;
/// And of each client, so that most of the measurement has all of them at work: the first still connect at its begin, the last are alone at its end.
const SUBMITS_OF_A_CLIENT: usize = 64;
const CLIENTS: [usize; 3] = [1, 8, 64];
/// Fsyncs and submits take turns: both are of the same disk in the same state.
const ROUNDS: usize = 3;

fn main() {
    let daemon = Daemon::start("[queue]\nmax_pending = 1000000\n");
    println!("state below {}", daemon.dir.path().display());
    load::header();
    let mut rates = Vec::new();
    for clients in CLIENTS {
        let (mut synced, mut submitted) = (Times::default(), Times::default());
        for _ in 0..ROUNDS {
            synced.add(load::fsyncs(daemon.dir.path()));
            submitted.add(load::submits(&daemon, clients, SUBMITS.max(clients * SUBMITS_OF_A_CLIENT)));
        }
        synced.row("4 KiB + fdatasync, 1 writer");
        submitted.row(&format!("submit, committed, {clients} client(s)"));
        rates.push(submitted.a_second());
        if clients == 1 {
            let (is, most) = (submitted.at(0.5), 2.0 * synced.at(0.5) + 1.0);
            println!("  p50 is {is:.2} ms; two fsyncs and a millisecond are {most:.2} ms");
        }
    }
    println!("64 clients submit {:.1} times as many a second as one", rates[2] / rates[0]);
}

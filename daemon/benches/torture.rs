//! `make torture-soak` and its sisters: the long forms of tests/torture, one after the other or each for itself.
//!
//! Each is seeded, keeps its files in a work folder, and says at its end what held and what did not (exit 1). The daemon that is tried is
//! a copy in the work folder, so that a build in the middle of a long run does not change it. Results: docs/reliability.md.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a table on stdout is what it is for; a panic says that the program itself is at its end

#[path = "../tests/torture/audit.rs"]
mod audit;
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/torture/damage.rs"]
mod damage;
#[path = "../tests/torture/disk.rs"]
mod disk;
#[path = "../tests/torture/full.rs"]
mod full;
#[path = "../tests/torture/guest.rs"]
mod guest;
#[path = "../tests/torture/heard.rs"]
mod heard;
#[path = "../tests/torture/kill.rs"]
mod kill;
#[path = "../tests/torture/ledger.rs"]
mod ledger;
#[path = "../tests/torture/load.rs"]
mod load;
#[path = "../tests/torture/pixels.rs"]
mod pixels;
#[path = "../tests/torture/power.rs"]
mod power;
#[path = "../tests/torture/proc.rs"]
mod proc;
#[path = "../tests/torture/scene.rs"]
mod scene;
#[path = "../tests/torture/soak.rs"]
mod soak;
#[path = "../tests/torture/writelog.rs"]
mod writelog;
#[path = "../tests/torture/writes.rs"]
mod writes;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "torture")]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// The irisd to try; else the one that was built beside this program.
    #[arg(long, global = true)]
    program: Option<PathBuf>,
    /// What `cargo bench` adds.
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// Full, broken, read-only and damaged disks; prints the table of docs/reliability.md.
    Disk {
        /// 1: every write of a job fails in turn; n: each n-th.
        #[arg(long, default_value_t = 1)]
        every: usize,
        /// Emptied first.
        #[arg(long)]
        work: PathBuf,
    },
    /// SIGKILL at moments drawn by dice, under load.
    Kill {
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 2000)]
        kills: u64,
        #[arg(long, default_value_t = 100)]
        deep_every: u64,
        /// A run that was ended in the middle goes on.
        #[arg(long)]
        work: PathBuf,
    },
    /// Pictures that no camera makes, through the whole pipeline.
    Pixels {
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 1_000_000)]
        pictures: u64,
        /// A run that was ended in the middle goes on.
        #[arg(long)]
        work: PathBuf,
    },
    /// The plug of a virtual machine is pulled while irisd in it takes photos and jobs.
    Power {
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 50)]
        cuts: u64,
        #[arg(long, default_value_t = 10)]
        deep_every: u64,
        /// A run that was ended in the middle goes on.
        #[arg(long)]
        work: PathBuf,
    },
    /// Hours of load: memory, threads, open files and the store must not grow.
    Soak {
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 7200)]
        seconds: u64,
        /// Jobs a second.
        #[arg(long, default_value_t = 1.0)]
        rate: f64,
        /// Emptied first.
        #[arg(long)]
        work: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let program = arguments.program.unwrap_or_else(|| common::IRISD.into());
    let start_in = |work: &Path, anew| start_in(work, anew, &program);
    let faults = match arguments.what {
        What::Disk { every, work } => {
            start_in(&work, true);
            disk::run(&disk::Plan { work, every })
        }
        What::Kill { seed, kills, deep_every, work } => {
            start_in(&work, false);
            kill::run(&kill::Plan { work, seed, kills, deep_every })
        }
        What::Power { seed, cuts, deep_every, work } => {
            start_in(&work, false);
            power::run(&power::Plan { work, seed, cuts, deep_every }).unwrap_or_else(|| vec!["no QEMU, or no kernel for it".into()])
        }
        What::Pixels { seed, pictures, work } => pixels::run(&pixels::Plan { work, seed, pictures }),
        What::Soak { seed, seconds, rate, work } => {
            start_in(&work, true);
            let length = Duration::from_secs(seconds);
            let every = Duration::from_secs((seconds / 720).max(1));
            soak::run(&soak::Plan { work, seed, length, warm_up: length.min(Duration::from_secs(600)), every, rate }).faults
        }
    };
    faults.iter().for_each(|fault| println!("FAULT {fault}"));
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The work folder, with the program that is tried.
fn start_in(work: &Path, anew: bool, program: &Path) {
    // Only a folder of ours is emptied.
    if anew && work.join("irisd").exists() {
        std::fs::remove_dir_all(work).unwrap();
    }
    std::fs::create_dir_all(work).unwrap();
    common::daemon::keep_program_in(work, program);
}

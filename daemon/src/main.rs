//! `irisd`: arguments, then the command they name; its exit code.

use std::process::ExitCode;

use clap::Parser;
use irisd::cli::{self, Cli};

fn main() -> ExitCode {
    cli::main(Cli::parse())
}

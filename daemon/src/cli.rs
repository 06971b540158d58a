//! The command line: what may be typed, and how a command ends.
//!
//! Each command's body lives in a file of its own. stdout carries results alone (with `--json` JSON and nothing else); everything said
//! to the person goes to stderr. Exit codes: 0 done, 1 it failed, 2 wrong usage (clap says it), 78 the configuration is wrong.

use std::{
    fmt::Display,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    adapters::model_ort,
    config::{
        Config,
        load::{self, Problem},
    },
    telemetry,
};

mod check;
mod diag;
mod doctor;
mod jobs;
mod owner;
mod process;
mod remote;
mod run;
mod sample;
mod store;
mod submit;
mod token;
mod weights;

/// EX_CONFIG of sysexits.h.
const EXIT_CONFIG: u8 = 78;
const EXIT_FAILED: u8 = 1;
/// clap's own, for what clap cannot see.
const EXIT_USAGE: u8 = 2;

/// An iris photo appliance: capture, segment, clean, enhance and keep, on this device.
#[derive(Debug, Parser)]
#[command(name = "irisd", version, max_term_width = 110)]
pub struct Cli {
    /// Read this file instead of /etc/irisd/irisd.toml and /etc/irisd/conf.d/*.toml.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon. Prints `listening http://HOST:PORT` when it is ready.
    Run,
    /// The pipeline alone, no daemon: photos in, results in a folder.
    Process(process::Arguments),
    /// Read the configuration and name every problem at once.
    Check(check::Arguments),
    /// What this device can do, and what it lacks.
    Doctor(doctor::Arguments),
    /// Make a synthetic eye photo, with the truth about it beside it.
    Sample(sample::Arguments),
    /// Who may talk to the daemon.
    #[command(subcommand)]
    Token(token::Action),
    /// The networks of weights/manifest.toml.
    #[command(subcommand)]
    Weights(weights::Action),
    /// Jobs of the local daemon.
    #[command(subcommand)]
    Jobs(jobs::Action),
    /// Send photos to the local daemon.
    Submit(submit::Arguments),
    /// Take a photo with a camera of the local daemon.
    Capture(submit::CaptureArguments),
    /// The job store; the daemon must be stopped.
    #[command(subcommand)]
    Store(store::Action),
    /// A support bundle without secrets, names or photos.
    Diag(diag::Arguments),
}

/// Machine-readable output.
#[derive(Debug, Clone, Copy, Args)]
struct Output {
    /// JSON and nothing else on stdout.
    #[arg(long)]
    json: bool,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
enum Stop {
    Config(Vec<Problem>),
    Usage(&'static str),
    Failed(anyhow::Error),
    /// Everything is said already (a photo's fault in the JSON, a job that failed).
    Said,
}

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Failed(error.into())
    }
}

type Ended = Result<(), Stop>;

/// Runs the command; the exit code of the process.
pub fn main(cli: Cli) -> ExitCode {
    model_ort::tell_nobody();
    let config = cli.config.as_deref();
    let ended = match cli.command {
        Command::Run => run::run(config),
        Command::Process(arguments) => process::process(config, &arguments),
        Command::Check(arguments) => check::check(config, &arguments),
        Command::Doctor(arguments) => doctor::doctor(config, &arguments),
        Command::Sample(arguments) => sample::sample(&arguments),
        Command::Token(action) => token::token(config, &action),
        Command::Weights(action) => weights::weights(config, &action),
        Command::Jobs(action) => jobs::jobs(config, &action),
        Command::Submit(arguments) => submit::submit(config, &arguments),
        Command::Capture(arguments) => submit::capture(config, &arguments),
        Command::Store(action) => store::store(config, &action),
        Command::Diag(arguments) => diag::diag(config, &arguments),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Said) => ExitCode::from(EXIT_FAILED),
        Err(Stop::Config(problems)) => {
            problems.iter().for_each(tell);
            tell(format!("the configuration has {} problem(s); nothing was started", problems.len()));
            ExitCode::from(EXIT_CONFIG)
        }
        Err(Stop::Usage(what)) => {
            tell(format!("error: {what}"));
            ExitCode::from(EXIT_USAGE)
        }
        // `irisd jobs list | head`: whoever reads has read enough.
        Err(Stop::Failed(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(Stop::Failed(error)) => {
            tell(format!("irisd: {}", in_a_line(&error)));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// The error and its causes; a cause that stands in the words before it is not said again.
fn in_a_line(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .reduce(|said, cause| if said.contains(&cause) { said } else { format!("{said}: {cause}") })
        .unwrap_or_default()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// A line for whoever reads the results.
fn print(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// A line for the person at the terminal. A closed stderr is nobody's loss.
fn tell(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// The configuration of a command that does the daemon's work: it must be right.
fn configuration(config: Option<&Path>) -> Result<Config, Stop> {
    checked(config).map_err(Stop::Config)
}

/// The configuration, or every problem: those of its own, and the names of networks that are not there.
fn checked(config: Option<&Path>) -> Result<Config, Vec<Problem>> {
    load::load_and(config, environment(), check::models)
}

/// The configuration with which the daemon starts: what it names of broker, bucket and certificates must be of use, too.
fn startable(config: Option<&Path>) -> Result<Config, Vec<Problem>> {
    load::load_and(config, environment(), check::all)
}

/// The configuration of a command that only wants to find the daemon or its state folder.
fn configuration_unchecked(config: Option<&Path>) -> Result<Config, Stop> {
    load::load_unchecked(config, environment()).map_err(Stop::Config)
}

/// Variables that are no UTF-8 cannot be ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Log lines of commands other than `run`: what went wrong, and no more.
fn log_quietly() {
    telemetry::log_to_stderr("warn", "text");
}

/// A runtime for one command's few requests.
fn block_on<T>(future: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(future)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::inference::weights::FetchError;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_cause_that_the_error_names_itself_is_said_once_and_any_other_after_it() {
        let cause = || io::Error::other("is a folder");
        let named = anyhow::Error::new(FetchError::NotRun { path: "f".into(), source: cause() });
        assert_eq!(in_a_line(&named), "f could not be run: is a folder");
        assert_eq!(in_a_line(&anyhow::Error::new(cause()).context("f")), "f: is a folder");
    }

    #[test]
    fn every_command_of_the_contract_is_there() {
        for line in [
            "run --config f",
            "process a.jpg b.jpg --out d --json --config f",
            "process --merge a.jpg b.jpg c.jpg --out d",
            "check --config f",
            "doctor --json",
            "sample --seed 7 --size 640x480 --out f.jpg",
            "token create --owner a --scope kiosk",
            "token list",
            "token revoke x",
            "weights list",
            "weights fetch",
            "weights verify",
            "weights add f.onnx",
            "weights add f.onnx --row f.toml --json",
            "weights verify --json",
            "jobs list",
            "jobs show 01890000-0000-7000-8000-000000000000 --json",
            "jobs watch",
            "jobs watch 01890000-0000-7000-8000-000000000000",
            "jobs cancel 01890000-0000-7000-8000-000000000000",
            "jobs reprocess 01890000-0000-7000-8000-000000000000",
            "submit a.jpg --lane default --wait --url http://h --token-file t",
            "capture --camera c",
            "store verify",
            "store rebuild",
            "store export",
            "diag --out f.tar",
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("irisd").chain(line.split(' ')));
            assert!(parsed.is_ok(), "irisd {line}: {}", parsed.unwrap_err());
        }
        for line in ["", "process --out d", "jobs show 7", "token create --owner A/B --scope kiosk", "sample --seed 1 --size 0x5 --out f"] {
            assert!(Cli::try_parse_from(std::iter::once("irisd").chain(line.split_whitespace())).is_err(), "irisd {line} was taken");
        }
    }
}

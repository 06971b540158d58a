//! `irisd weights`: the networks of this device.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Ended, Output, Stop, configuration, configuration_unchecked, owner::become_owner_of, print, tell};
use crate::{
    app::parts::engine,
    config::Config,
    domain::fault::Code,
    inference::{
        manifest::Manifest,
        weights::{
            self, State, WeightStatus,
            add::{self, Staged},
        },
    },
    ports::ModelError,
};

/// Between two words about an engine in the making.
const TELL_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// What the manifest names, and what is there.
    List(Output),
    /// Compare each file with the manifest's sha256, load and run each network. Exit code 1 if one is not what it should be.
    Verify(Output),
    /// Bring what may be missing (in a source tree, with internet).
    Fetch(Output),
    /// Take a network's file onto this device. Its sha256 must stand in the manifest, or in the row that comes with it.
    Add(Add),
    /// Build TensorRT's engines now, minutes each, instead of while the first photos are served. Exit code 1 if one could not be built.
    Build(Build),
}

#[derive(Debug, Args)]
pub(super) struct Build {
    /// Names of `irisd weights list`; none: all that are installed.
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Add {
    file: PathBuf,
    /// A new network: one [[model]] as in weights/manifest.toml. It is loaded and tried before anything is changed.
    #[arg(long, value_name = "ROW.toml")]
    row: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub(super) fn weights(file: Option<&Path>, action: &Action) -> Ended {
    let config = configuration_unchecked(file)?;
    match action {
        Action::List(output) => show(&weights::list(&manifest(&config)?), *output),
        Action::Verify(output) => verify(&config, *output),
        Action::Fetch(output) => {
            weights::fetch(&config.paths.weights)?;
            verify(&config, *output)
        }
        Action::Add(a) => add(&config, a),
        Action::Build(b) => build(file, &b.names),
    }
}

fn build(file: Option<&Path>, names: &[String]) -> Ended {
    let config = configuration(file)?;
    become_owner_of(&config.paths.state)?;
    let engine = engine(&config)?;
    let installed = engine.manifest().models().iter().filter(|m| engine.manifest().locate(m).is_some()).map(|m| m.name.clone());
    let names: Vec<String> = if names.is_empty() { installed.collect() } else { names.to_vec() };
    let mut all = true;
    for name in names {
        let begun = Instant::now();
        let built = thread::scope(|scope| {
            let work = scope.spawn(|| engine.build_now(&name));
            let mut told = Duration::ZERO;
            while !work.is_finished() {
                thread::sleep(Duration::from_millis(100));
                if begun.elapsed() >= told + TELL_EVERY {
                    told = begun.elapsed();
                    tell(format!("{name}: its engine is being built, {} s", told.as_secs()));
                }
            }
            work.join()
        });
        let took = begun.elapsed().as_secs();
        match built {
            Ok(Ok(on)) => print(format!("{name} runs on {}, {} ({}); {took} s", on.provider, on.precision, on.by_nodes()))?,
            Ok(Err(e)) => {
                tell(format!("{name}: no engine: {e}. Without one the next of inference.providers runs it."));
                all = false;
            }
            Err(_) => return Err(anyhow::anyhow!("{name}: the build panicked").into()),
        }
    }
    if all { Ok(()) } else { Err(Stop::Said) }
}

fn manifest(config: &Config) -> anyhow::Result<Manifest> {
    Ok(Manifest::load(&config.paths.state, &config.paths.weights)?)
}

fn verify(config: &Config, output: Output) -> Ended {
    let rows = weights::verify_and_run(&engine(config)?);
    show(&rows, output)?;
    if rows.iter().all(WeightStatus::is_fine) { Ok(()) } else { Err(Stop::Said) }
}

fn add(config: &Config, a: &Add) -> Ended {
    // Opened first: the files may be ones that root alone can read.
    let mut file = File::open(&a.file).with_context(|| a.file.display().to_string())?;
    let row = a.row.as_ref().map(|path| fs::read_to_string(path).map(|text| (path, text)).with_context(|| path.display().to_string()));
    let row = row.transpose()?;
    become_owner_of(&config.paths.state)?;
    let manifest = manifest(config)?;
    let staged = match &row {
        None => add::known(&manifest, &a.file, &mut file)?,
        Some((from, text)) => {
            let staged = add::with_row(&manifest, (from, text), &a.file, &mut file)?;
            tried(config, &staged)?;
            staged
        }
    };
    let (name, role, sha256) = (staged.row.name.clone(), staged.row.role.name(), staged.row.sha256);
    let place = staged.install()?;
    if a.output.json {
        print(json!({ "name": name, "role": role, "path": place, "sha256": sha256 }))?;
    } else {
        print(format!("{name} {}", place.display()))?;
        tell("a daemon that runs takes it at its next start");
    }
    Ok(())
}

/// A new network on the CPU: whether it is what its row says does not hang on a GPU, and an engine for one would take minutes.
fn tried(config: &Config, staged: &Staged) -> anyhow::Result<()> {
    let mut trial = config.clone();
    (trial.paths.state, trial.paths.weights) = (staged.state.clone(), staged.state.clone());
    (trial.inference.providers, trial.inference.idle_unload) = (vec!["cpu".into()], String::new());
    let ran = engine(&trial)?.runs_on(&staged.row.name);
    ran.map(drop).map_err(|e| {
        let ModelError { code, detail } = e.into();
        let hint = if code == Code::RuntimeMissing { "; `irisd doctor` says what this device lacks" } else { "" };
        anyhow::anyhow!("{}: {detail}; nothing was changed{hint}", code.name())
    })
}

fn show(rows: &[WeightStatus], output: Output) -> Ended {
    if output.json {
        // Not by way of a Value: that would make 0.019999999552965164 of an f32.
        return Ok(print(serde_json::to_string(rows)?)?);
    }
    for row in rows {
        let state = match (row.state, &row.code) {
            (State::Present, None) => "present",
            (State::Present, Some(_)) => "UNUSABLE",
            (State::Missing, _) => "missing",
            (State::Tampered, _) => "TAMPERED",
        };
        let ran = row.provider.as_ref().zip(row.precision.as_ref()).map(|(on, precision)| format!("ran on {on}, {precision}"));
        let size = row.bytes.map(|b| format!("{:.1} MB", b as f64 / 1e6)).unwrap_or_default();
        let line =
            format!("{state:<9} {:<13} {:<24} {size:>8}  {:<13} {}", row.role, row.name, row.licence, ran.as_deref().unwrap_or_default());
        print(line.trim_end())?;
        if let Some(detail) = &row.detail {
            let code = row.code.as_ref().map(|code| format!("{code}: ")).unwrap_or_default();
            tell(format!("          {}: {code}{detail}", row.name));
        }
    }
    Ok(())
}

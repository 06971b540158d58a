//! `irisd weights`: the networks of this device.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Ended, Output, Stop, configuration_unchecked, owner::become_owner_of, print, tell};
use crate::inference::{
    manifest::Manifest,
    weights::{self, State, WeightStatus},
};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// What the manifest names, and what is there.
    List(Output),
    /// Compare each file with the manifest's sha256. Exit code 1 if one is not what it should be.
    Verify(Output),
    /// Bring what may be missing (in a source tree, with internet).
    Fetch,
    /// Take a network's file onto this device; its sha256 must stand in the manifest.
    Add(Add),
}

#[derive(Debug, Args)]
pub(super) struct Add {
    file: PathBuf,
}

pub(super) fn weights(config: Option<&Path>, action: &Action) -> Ended {
    let paths = configuration_unchecked(config)?.paths;
    let manifest = Manifest::load(&paths.state, &paths.weights)?;
    match action {
        Action::List(output) => show(&weights::list(&manifest), *output),
        Action::Verify(output) => {
            let rows = weights::verify(&manifest);
            show(&rows, *output)?;
            let wrong = |row: &WeightStatus| row.state == State::Tampered || (row.state == State::Missing && row.ships);
            if rows.iter().any(wrong) { Err(Stop::Said) } else { Ok(()) }
        }
        Action::Fetch => {
            weights::fetch(&paths.weights)?;
            Ok(())
        }
        Action::Add(a) => {
            // Opened first: the file may be one that root alone can read.
            let mut file = File::open(&a.file).with_context(|| a.file.display().to_string())?;
            become_owner_of(&paths.state)?;
            let (name, place) = weights::add(&manifest, &a.file, &mut file)?;
            Ok(print(format!("{name} {}", place.display()))?)
        }
    }
}

fn show(rows: &[WeightStatus], output: Output) -> Ended {
    if output.json {
        return Ok(print(json!(rows))?);
    }
    for row in rows {
        let state = match row.state {
            State::Present => "present",
            State::Missing => "missing",
            State::Tampered => "TAMPERED",
        };
        print(format!("{state:<9} {:<11} {:<28} {}", row.role, row.name, row.licence))?;
        if let Some(detail) = &row.detail {
            tell(format!("          {}: {detail}", row.name));
        }
    }
    Ok(())
}

//! `irisd check`: every problem of the configuration at once.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::{Ended, Output, Stop, print, startable};
use crate::{
    app::parts,
    config::{Config, load::Problem, schema},
    inference::manifest::{Manifest, Role},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Print the JSON Schema of the configuration instead (firmware-config/schema.json).
    #[arg(long, hide = true)]
    schema: bool,
}

pub(super) fn check(config: Option<&Path>, arguments: &Arguments) -> Ended {
    if arguments.schema {
        return Ok(print(format!("{:#}", schema::schema()))?);
    }
    let read = startable(config).map_err(Stop::Config);
    if !arguments.output.json {
        read?;
        return Ok(print("the configuration is fine")?);
    }
    let problems = match &read {
        Err(Stop::Config(problems)) => problems.as_slice(),
        _ => &[],
    };
    let problems: Vec<_> = problems.iter().map(|p| json!({ "at": p.at, "key": p.key, "message": p.message })).collect();
    print(json!({ "ok": read.is_ok(), "problems": problems }))?;
    read.map(drop)
}

/// Everything that keeps the daemon from starting: [`models`], and of a configuration that is itself in order the files that it names.
pub(super) fn all(config: &Config) -> Vec<Problem> {
    let files = if config.validate().is_empty() { parts::unusable(config) } else { Vec::new() };
    models(config).into_iter().chain(files).collect()
}

/// Names of networks that the manifest does not have, or has for another role: each job would fail. A manifest that cannot be read is
/// nothing to judge by.
pub(super) fn models(config: &Config) -> Vec<Problem> {
    let Ok(manifest) = Manifest::load(&config.paths.state, &config.paths.weights) else { return Vec::new() };
    let asked = [
        ("segment.model", &config.segment.model, &["auto", "classical"][..], Role::Segmentation),
        ("reflections.method", &config.reflections.method, &["auto", "classical", "off"], Role::Reflections),
        ("enhance.model", &config.enhance.model, &["auto", "lanczos"], Role::Enhancement),
    ];
    let wrong = asked.into_iter().filter_map(|(key, name, built_in, role)| {
        let rows = manifest.models().iter().filter(|row| row.role == role).map(|row| row.name.as_str());
        let known: Vec<&str> = built_in.iter().copied().chain(rows).collect();
        // An empty name is a problem already.
        let fine = name.is_empty() || known.contains(&name.as_str());
        let message = format!("there is no network {name:?} for {}; write one of {}", role.name(), known.join(", "));
        (!fine).then(|| Problem { at: None, key: key.to_owned(), message })
    });
    wrong.collect()
}

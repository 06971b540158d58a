//! `irisd check`: every problem of the configuration at once.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::{Ended, Output, Stop, configuration, print};
use crate::config::schema;

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
    let read = configuration(config);
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

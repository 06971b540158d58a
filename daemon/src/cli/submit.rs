//! `irisd submit` and `irisd capture`: photos for the local daemon.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Ended, Output, Stop, block_on, jobs, print, remote::Daemon};
use crate::client::Client;

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum LaneName {
    HighPriority,
    Default,
}

impl LaneName {
    const fn name(self) -> &'static str {
        match self {
            LaneName::HighPriority => "high_priority",
            LaneName::Default => "default",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[arg(required = true, value_name = "PHOTO")]
    photos: Vec<PathBuf>,
    /// Default: high_priority.
    #[arg(long)]
    lane: Option<LaneName>,
    /// Stay until every job has ended, and show its steps. Exit code 1 if one failed.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct CaptureArguments {
    /// Default: the first camera by name.
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// Default: high_priority.
    #[arg(long)]
    lane: Option<LaneName>,
    /// Only take the photo.
    #[arg(long)]
    no_submit: bool,
    /// Stay until the job has ended, and show its steps.
    #[arg(long, conflicts_with = "no_submit")]
    wait: bool,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    output: Output,
}

/// Leaves out what was not said, so that the daemon's default counts.
fn said(pairs: &[(&str, Value)]) -> Value {
    pairs.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| ((*k).to_owned(), v.clone())).collect::<serde_json::Map<_, _>>().into()
}

pub(super) fn submit(config: Option<&Path>, arguments: &Arguments) -> Ended {
    let (client, state) = arguments.daemon.find(config)?;
    block_on(async {
        let mut submitted = Vec::new();
        for path in &arguments.photos {
            let photo = client.upload(path, None).await?;
            let body = said(&[("photo_id", photo["id"].clone()), ("lane", json!(arguments.lane.map(LaneName::name)))]);
            submitted.push(client.post("/api/v1/processing/submit", &body, None).await?);
        }
        follow(&client, &state, submitted, arguments.wait, arguments.output).await
    })
}

pub(super) fn capture(config: Option<&Path>, arguments: &CaptureArguments) -> Ended {
    let (client, state) = arguments.daemon.find(config)?;
    block_on(async {
        let body = said(&[
            ("camera", json!(arguments.camera)),
            ("submit", json!(!arguments.no_submit)),
            ("lane", json!(arguments.lane.map(LaneName::name))),
        ]);
        let taken = client.post("/api/v1/capture", &body, None).await?;
        match taken.get("job").filter(|job| !job.is_null()) {
            Some(job) if arguments.wait => follow(&client, &state, vec![job.clone()], true, arguments.output).await,
            _ if arguments.output.json => Ok(print(taken)?),
            Some(job) => Ok(print(jobs::row(job))?),
            None => Ok(print(format!("photo {}", taken["photo"]["id"].as_str().unwrap_or("?")))?),
        }
    })
}

/// Prints the jobs as they are now, or, with `wait`, as they ended.
async fn follow(client: &Client, state: &Path, submitted: Vec<Value>, wait: bool, output: Output) -> Ended {
    let mut failed = false;
    for mut job in submitted {
        if wait {
            job = jobs::wait_for(client, &job, state, output).await?;
            failed |= job["status"] != "completed";
        }
        if output.json {
            print(&job)?;
        } else if !wait {
            print(jobs::row(&job))?;
        }
    }
    if failed { Err(Stop::Said) } else { Ok(()) }
}

//! `irisd submit` and `irisd capture`: photos for the local daemon.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Ended, Output, Stop, block_on, jobs, print, remote::Daemon, tell};
use crate::{
    client::{Client, ClientError},
    domain::{fault::FaultClass, job::MAX_MERGED},
    pipeline::process::{stored, unreadable},
};

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
    /// Another photo of the same eye, the lamp elsewhere in it (twice at most): what reflections hide in PHOTO comes from there instead of
    /// being made up.
    #[arg(long, value_name = "OTHER")]
    merge_with: Vec<PathBuf>,
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

/// One photo's way: its job as it is now or as it ended, or why there is none.
type Outcome = Result<Value, ClientError>;

/// Each photo for itself: one that is refused is named and keeps none of the others back.
pub(super) fn submit(config: Option<&Path>, arguments: &Arguments) -> Ended {
    let others = &arguments.merge_with;
    if !others.is_empty() && arguments.photos.len() != 1 {
        return Err(Stop::Usage("--merge-with belongs to one photo; submit the others on their own"));
    }
    if others.len() > MAX_MERGED {
        return Err(Stop::Usage("--merge-with may be given twice at most"));
    }
    let (client, state) = arguments.daemon.find(config)?;
    let (wait, output) = (arguments.wait, arguments.output);
    block_on(async {
        let (mut all, mut waiting) = (true, Vec::new());
        for path in &arguments.photos {
            let outcome = hand_in(&client, path, others, arguments.lane).await;
            if wait {
                waiting.push((path, outcome));
            } else {
                all &= tell_outcome(path, &outcome, wait, output)?;
            }
        }
        for (path, mut outcome) in waiting {
            if let Ok(job) = outcome {
                if !output.json {
                    print(path.display())?;
                }
                outcome = Ok(jobs::wait_for(&client, &job, &state, output).await?);
            }
            all &= tell_outcome(path, &outcome, wait, output)?;
        }
        if all { Ok(()) } else { Err(Stop::Said) }
    })
}

async fn hand_in(client: &Client, path: &Path, others: &[PathBuf], lane: Option<LaneName>) -> Outcome {
    for photo in others.iter().map(PathBuf::as_path).chain([path]) {
        let failed = |source| ClientError::File { path: photo.to_owned(), source };
        stored(photo).map_err(failed)?;
    }
    let photo = client.upload(path, None).await?;
    let mut with = Vec::new();
    for other in others {
        with.push(client.upload(other, None).await?["id"].clone());
    }
    let merge_with = if with.is_empty() { Value::Null } else { with.into() };
    let body = said(&[("photo_id", photo["id"].clone()), ("merge_with", merge_with), ("lane", json!(lane.map(LaneName::name)))]);
    client.post("/api/v1/processing/submit", &body, None).await
}

/// Prints it; whether the photo is on its way, or done where that was waited for.
fn tell_outcome(path: &Path, outcome: &Outcome, waited: bool, output: Output) -> Result<bool, Stop> {
    match outcome {
        _ if output.json => print(object(path, outcome))?,
        // Waiting has shown each step and the end.
        Ok(job) if !waited => print(format!("{}  {}", jobs::row(job), path.display()))?,
        Ok(_) => {}
        Err(_) => {
            let facts = object(path, outcome);
            let text = |key: &str| facts[key].as_str().unwrap_or_default().to_owned();
            tell(format!("{}: {} {} ({})", path.display(), text("message"), text("suggestion"), text("error_code")));
        }
    }
    Ok(outcome.as_ref().is_ok_and(|job| !waited || job["status"] == "completed"))
}

/// One photo of `--json`: what `process --json` says of it, the job's id, and behind these the Job where there is one.
fn object(path: &Path, outcome: &Outcome) -> Value {
    let (job, refusal) = match outcome {
        Ok(job) => (job.clone(), Value::Null),
        Err(e) => (Value::Null, refusal(path, e)),
    };
    let either = |of_job: &str, of_refusal: &str| if job.is_null() { &refusal[of_refusal] } else { &job[of_job] };
    let mut object = json!({
        "photo": path.to_string_lossy(),
        "status": if job.is_null() { json!("failed") } else { job["status"].clone() },
        "job_id": job["id"],
        "error_type": either("error_type", "error_type"),
        "error_code": either("error_code", "error_code"),
        "message": either("error_message", "message"),
        "suggestion": either("suggestion", "suggestion"),
    });
    if let (Value::Object(to), Value::Object(job)) = (&mut object, job) {
        to.extend(job);
    }
    object
}

fn refusal(path: &Path, error: &ClientError) -> Value {
    match error {
        ClientError::Refused { code, error_type, message, suggestion, .. } => {
            json!({ "error_type": error_type, "error_code": code, "message": message, "suggestion": suggestion })
        }
        ClientError::File { path: file, source } => {
            let fault = unreadable(file, source);
            let message = if file == path { fault.message } else { format!("{}: {}", file.display(), fault.message) };
            json!({ "error_type": fault.class, "error_code": fault.code, "message": message, "suggestion": fault.suggestion })
        }
        // The photo may have arrived: the same bytes again are the same photo.
        other => json!({
            "error_type": FaultClass::TransientError,
            "error_code": "daemon_unreachable",
            "message": format!("{other}."),
            "suggestion": "See that the daemon runs, then send the photo again.",
        }),
    }
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
            Some(job) if arguments.wait => {
                let ended = jobs::wait_for(&client, job, &state, arguments.output).await?;
                if arguments.output.json {
                    print(&ended)?;
                }
                if ended["status"] == "completed" { Ok(()) } else { Err(Stop::Said) }
            }
            _ if arguments.output.json => Ok(print(taken)?),
            Some(job) => Ok(print(jobs::row(job))?),
            None => Ok(print(format!("photo {}", taken["photo"]["id"].as_str().unwrap_or("?")))?),
        }
    })
}

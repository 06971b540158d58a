//! `irisd jobs`: what the local daemon's jobs do.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Ended, Output, Stop, block_on, print, remote::Daemon, tell};
use crate::{
    client::{Client, ClientError, ServerEvent},
    domain::{ids::JobId, job::Status, stage::Stage},
};

/// How often a job is looked at while somebody waits for it.
const LOOK: Duration = Duration::from_millis(200);
/// A daemon that restarts (an update, a crash) is waited for; its job goes on.
const AWAY_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// The newest jobs.
    List(List),
    /// Everything about one job.
    Show(One),
    /// One job's steps as they happen, or every event of every job until Ctrl-C.
    Watch(Watch),
    /// Stop a job that has not ended.
    Cancel(One),
    /// Run the same photo again, as a new job.
    Reprocess(One),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// pending, processing, completed, failed or cancelled.
    #[arg(long, value_parser = status)]
    status: Option<&'static str>,
    /// 1 to 100.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100))]
    limit: u8,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct One {
    id: JobId,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Watch {
    id: Option<JobId>,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    output: Output,
}

fn status(text: &str) -> Result<&'static str, String> {
    let known = Status::ALL.map(Status::name);
    known.into_iter().find(|n| *n == text).ok_or_else(|| format!("one of {}", known.join(", ")))
}

pub(super) fn jobs(config: Option<&Path>, action: &Action) -> Ended {
    match action {
        Action::List(a) => {
            let (client, _) = a.daemon.find(config)?;
            block_on(list(&client, a))
        }
        Action::Show(a) => one(config, a, |id| (None, format!("/api/v1/processing/jobs/{id}"))),
        Action::Cancel(a) => one(config, a, |id| (Some(json!({})), format!("/api/v1/processing/jobs/{id}/cancel"))),
        Action::Reprocess(a) => one(config, a, |id| (Some(json!({})), format!("/api/v1/processing/jobs/{id}/reprocess"))),
        Action::Watch(a) => {
            let (client, state) = a.daemon.find(config)?;
            block_on(async {
                let Some(id) = a.id else { return watch_all(&client, a.output).await };
                let job = client.get(&format!("/api/v1/processing/jobs/{id}")).await?;
                let ended = wait_for(&client, &job, &state, a.output).await?;
                if a.output.json {
                    print(&ended)?;
                }
                if ended["status"] == "completed" { Ok(()) } else { Err(Stop::Said) }
            })
        }
    }
}

async fn list(client: &Client, a: &List) -> Ended {
    let filter = a.status.map(|s| format!("&status={s}")).unwrap_or_default();
    let page = client.get(&format!("/api/v1/processing/jobs?limit={}{filter}", a.limit)).await?;
    if a.output.json {
        return Ok(print(page)?);
    }
    for job in page["items"].as_array().into_iter().flatten() {
        print(row(job))?;
    }
    tell(format!("{} of {} jobs", page["items"].as_array().map_or(0, Vec::len), page["total"]));
    Ok(())
}

/// A request about one job, and its answer.
fn one(config: Option<&Path>, a: &One, request: impl FnOnce(JobId) -> (Option<Value>, String)) -> Ended {
    let (client, _) = a.daemon.find(config)?;
    block_on(async {
        let (body, path) = request(a.id);
        let job = match body {
            None => client.get(&path).await?,
            Some(body) => client.post(&path, &body, None).await?,
        };
        if a.output.json {
            print(job)?
        } else {
            print(format!("{job:#}"))?
        }
        Ok(())
    })
}

/// Every event until Ctrl-C. A daemon that restarts is waited for; what happened meanwhile is sent again from the last id on.
async fn watch_all(client: &Client, output: Output) -> Ended {
    let mut last = None;
    let mut away_since = None;
    loop {
        let broke = match client.events(last).await {
            Ok(mut events) => {
                away_since = None;
                loop {
                    match events.next().await {
                        Ok(Some(event)) => {
                            last = event.id.or(last);
                            show(&event, output)?;
                        }
                        Ok(None) => break None,
                        Err(e) => break Some(e),
                    }
                }
            }
            Err(e @ (ClientError::Connect { .. } | ClientError::Lost(_) | ClientError::TimedOut(_))) => Some(e),
            Err(e) => return Err(e.into()),
        };
        if away_since.get_or_insert_with(Instant::now).elapsed() > AWAY_LIMIT {
            return Err(broke.map_or_else(|| anyhow::anyhow!("the daemon ended the stream"), Into::into).into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn show(event: &ServerEvent, output: Output) -> Ended {
    let data = &event.data;
    if output.json {
        return Ok(print(json!({ "id": event.id, "event": event.name, "data": data }))?);
    }
    match event.name.as_str() {
        "progress" => print(format!("{}  {:<12} {:>3} %", text(data, "job_id"), text(data, "current_step"), data["progress"]))?,
        name => print(format!("{}  {name:<12} {}", text(data, "job_id"), text(data, "ts")))?,
    }
    Ok(())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("-")
}

/// A job on one line.
pub(super) fn row(job: &Value) -> String {
    let why = job["error_code"].as_str().map(|code| format!("  {code}")).unwrap_or_default();
    let (id, status, lane) = (text(job, "id"), text(job, "status"), text(job, "lane"));
    format!("{id}  {status:<10}  {:>3} %  {lane:<13}  {}{why}", job["progress"], text(job, "created_at"))
}

/// Waits until the job has ended and shows each step once it is done; the job as it ended. With `--json` the steps go to stderr.
pub(super) async fn wait_for(client: &Client, job: &Value, state: &Path, output: Output) -> Result<Value, Stop> {
    let say = |line: String| -> Result<(), Stop> {
        if output.json {
            tell(line);
        } else {
            print(line)?;
        }
        Ok(())
    };
    let path = format!("/api/v1/processing/jobs/{}", text(job, "id"));
    say(format!("job {}", text(job, "id")))?;
    let (mut shown, mut away_since) = (0, None);
    loop {
        let job = match client.get(&path).await {
            Ok(job) => job,
            Err(e @ (ClientError::Connect { .. } | ClientError::Lost(_))) => {
                if away_since.get_or_insert_with(Instant::now).elapsed() > AWAY_LIMIT {
                    return Err(e.into());
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        away_since = None;
        let done = |stage: Stage| job["step_ms"][stage.name()].as_u64();
        // A cached result comes with the steps of the run that made it; a retry begins again: each step is shown once.
        while let Some(ms) = Stage::ALL.get(shown).and_then(|s| done(*s)) {
            let stage = Stage::ALL[shown];
            say(format!("  {:<12} {:>3} %  {ms:>6} ms", stage.name(), stage.band().1))?;
            shown += 1;
        }
        match text(&job, "status") {
            "completed" => {
                say(format!("  completed in {} ms", job["processing_time_ms"]))?;
                let folder = state.join("results").join(text(&job, "id"));
                if folder.is_dir() {
                    say(format!("  result: {}", folder.display()))?;
                }
                return Ok(job);
            }
            "failed" => {
                say(format!("  failed: {} {} ({})", text(&job, "error_message"), text(&job, "suggestion"), text(&job, "error_code")))?;
                return Ok(job);
            }
            "cancelled" => {
                say("  cancelled".to_owned())?;
                return Ok(job);
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

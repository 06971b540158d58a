//! `irisd diag`: one JSON file for support, without secrets, names or photos.
//!
//! What the configuration says of people, logins and secrets is replaced by whether it is set; of the store there are counts alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use super::{Ended, Stop, block_on, configuration_unchecked, doctor, print, remote::Daemon, startable};
use crate::{
    client::ClientError,
    config::{Config, validate::without_login},
    domain::time,
};

/// Lines of the journal that go along.
const LOG_LINES: &str = "500";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The bundle, a JSON file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn diag(flag: Option<&Path>, arguments: &Arguments) -> Ended {
    let problems = startable(flag).err().unwrap_or_default();
    // A configuration that cannot be read is what support wants to hear of, not a reason to say nothing.
    let config = match configuration_unchecked(flag) {
        Ok(config) => config,
        Err(Stop::Config(_)) => Config::default(),
        Err(other) => return Err(other),
    };
    let bundle = json!({
        "made_at": time::text(jiff::Timestamp::now()),
        "version": env!("CARGO_PKG_VERSION"),
        "system": system(),
        "problems": problems.iter().map(|p| json!({ "at": p.at, "key": p.key })).collect::<Vec<_>>(),
        "configuration": redacted(&config),
        "doctor": doctor(flag),
        "daemon": block_on(daemon(&config))?,
        "log": log(),
    });
    fs::write(&arguments.out, format!("{bundle:#}\n")).with_context(|| format!("{} cannot be written", arguments.out.display()))?;
    Ok(print(arguments.out.display())?)
}

/// What the doctor finds. What is wrong with the configuration is said by key alone, above: its words may repeat what somebody wrote.
fn doctor(flag: Option<&Path>) -> Value {
    let mut findings = doctor::findings(flag);
    findings.retain(|f| !f.is_of_configuration());
    json!(findings)
}

fn system() -> Value {
    let uname = rustix::system::uname();
    let read = |path: &str| fs::read_to_string(path).ok().map(|t| t.trim_matches(['\0', '\n', ' ']).to_owned());
    json!({
        "kernel": uname.release().to_string_lossy(),
        "machine": uname.machine().to_string_lossy(),
        "model": read("/proc/device-tree/model"),
        "os": read("/etc/os-release"),
        "jetpack": read("/etc/nv_tegra_release"),
        "memory": read("/proc/meminfo").and_then(|t| t.lines().next().map(str::to_owned)),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
    })
}

/// The configuration as it counts, less what is nobody's business.
fn redacted(config: &Config) -> Value {
    let mut all = serde_json::to_value(config).unwrap_or_default();
    redact(&mut all);
    all
}

fn redact(value: &mut Value) {
    let Value::Object(keys) = value else { return };
    for (key, value) in keys {
        let private =
            key.ends_with("_file") || matches!(key.as_str(), "username" | "owner" | "client_cert" | "client_key" | "tls_key" | "tls_cert");
        match value {
            Value::String(text) if private => *text = if text.is_empty() { "" } else { "(set)" }.to_owned(),
            Value::String(text) if text.contains('@') => *text = without_login(text),
            _ => redact(value),
        }
    }
}

/// What the running daemon says of itself; why it says nothing.
async fn daemon(config: &Config) -> Result<Value, Stop> {
    let client = match Daemon::default().client(config) {
        Ok(client) => client,
        Err(e) => return Ok(json!({ "error": e.to_string() })),
    };
    let mut said = serde_json::Map::new();
    for what in ["device", "queue", "uploads"] {
        let answer = client.get(&format!("/api/v1/{what}")).await;
        said.insert(what.to_owned(), answer.unwrap_or_else(|e: ClientError| json!({ "error": e.to_string() })));
    }
    Ok(Value::Object(said))
}

/// The last lines of the service's journal, where there is one. Log lines hold no names, photos or secrets (a promise with its own tests).
fn log() -> Value {
    let journal = Command::new("journalctl").args(["--unit", "irisd", "--lines", LOG_LINES, "--output", "cat", "--no-pager"]).output();
    match journal {
        Ok(said) if said.status.success() => json!(String::from_utf8_lossy(&said.stdout).lines().collect::<Vec<_>>()),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Camera;

    #[test]
    fn the_bundle_says_that_a_secret_is_set_and_not_where_or_what() {
        let mut config = Config::default();
        config.mqtt.username = "doctor-who".into();
        config.mqtt.password_file = "/etc/irisd/pw".into();
        config.s3.secret_key_file = "s3-secret-key".into();
        config.mqtt.url = "mqtt://nurse:hunter2@broker:1883".into();
        config.mqtt.topic_prefix = "nurse:hunter2@broker".into();
        config.s3.endpoint = "https://AKIA:hunter3@bucket".into();
        config.camera.insert("front".into(), Camera { owner: "anna".into(), ..Camera::default() });
        let text = redacted(&config).to_string();
        for private in ["doctor-who", "/etc/irisd/pw", "s3-secret-key", "anna", "nurse", "hunter2", "AKIA", "hunter3"] {
            assert!(!text.contains(private), "{private} is in {text}");
        }
        assert!(text.contains("(set)") && text.contains("irisd/weights") && text.contains("broker:1883"));
    }
}

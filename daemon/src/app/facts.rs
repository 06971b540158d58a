//! What the daemon says about itself, gathered in one place: `/device`, MQTT `info` and `health`, readiness, alerts, figures.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use super::House;
use crate::{
    adapters::systemd,
    config::Config,
    domain::{
        event::{EventKind, JobEvent},
        ids::{JobId, Seq},
        job::Lane,
        stage::Stage,
    },
    inference::{Engine, ModelStatus, manifest::Role, meets},
    outbox::{alerts, payload::DeviceFacts},
    pipeline::AUTO_NETWORK,
    store::StoreError,
};

pub const STORE_REBUILT: &str = "store_rebuilt";
pub const JOURNAL_DAMAGED: &str = "journal_damaged";
const DISK_LOW: &str = "disk_low";
const DISK_CAP: &str = "disk_cap";
const DISK_FULL: &str = "disk_full";

/// Every code that this program can raise.
pub const ALERTS: &[&str] =
    &[STORE_REBUILT, JOURNAL_DAMAGED, DISK_LOW, DISK_CAP, DISK_FULL, alerts::S3_DENIED, alerts::S3_UNREACHABLE, alerts::STRIP_FAILED];

/// How often gauges, alerts and told facts are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// The age of an engine in the making is told in steps, s: each change is a message.
const BUILDING_STEP: u64 = 10;
/// How often the store drops what nobody can ask for any more.
const TIDY: Duration = Duration::from_secs(60);
/// Events counted from the log at once, where more came than were waited for.
const READ_AT_ONCE: usize = 256;

/// Networks that the configuration makes use of, to be warm when the first photo comes.
pub fn wanted_models(config: &Config, engine: &Engine) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    match config.segment.model.as_str() {
        "auto" => names.extend(engine.installed(Role::Segmentation).first().map(|m| m.name.clone())),
        "classical" => {}
        name => names.push(name.to_owned()),
    }
    if !matches!(config.enhance.model.as_str(), "auto" | "lanczos") {
        names.push(config.enhance.model.clone());
    }
    names
}

/// The network that `enhance.model = auto` takes where a GPU runs it.
pub fn wanted_on_a_gpu(config: &Config, engine: &Engine) -> Option<String> {
    let installed = || engine.installed(Role::Enhancement).into_iter().find(|row| row.name == AUTO_NETWORK);
    (config.enhance.model == "auto").then(installed).flatten().map(|row| row.name.clone())
}

pub fn device(house: &House) -> Value {
    let (runtime, reason) = match house.engine.runtime() {
        Ok(about) => (Some(about), None),
        Err(why) => (None, Some(why)),
    };
    json!({
        "id": house.config.device_id(),
        "auth_mode": house.config.auth.mode,
        "program": "irisd",
        "version": env!("CARGO_PKG_VERSION"),
        "runtime": { "library": runtime, "reason": reason },
        "models": house.engine.status(),
        "degraded": degraded(house),
        "alerts": house.alerts.current(),
    })
}

/// Why the device is not ready, beyond what HTTP sees itself.
pub fn not_ready(house: &House) -> Vec<String> {
    let required = &house.config.inference.require;
    if required.is_empty() {
        return Vec::new();
    }
    let mut names = wanted_models(&house.config, &house.engine);
    names.extend(wanted_on_a_gpu(&house.config, &house.engine));
    let status = house.engine.status();
    not_on(required, status.iter().filter(|m| names.contains(&m.name)))
}

/// Why a demand for a provider is not met: each network that is used and does not run on it. Open to everybody: no paths.
fn not_on<'a>(required: &str, used: impl Iterator<Item = &'a ModelStatus>) -> Vec<String> {
    let mut used = used.peekable();
    if used.peek().is_none() {
        return vec![format!("inference.require = {required:?}, but no network is installed")];
    }
    let lacking = used.filter(|m| !m.active.as_deref().is_some_and(|ran| meets(required, ran)));
    let why = |m: &ModelStatus| match (&m.active, m.state.as_str()) {
        (Some(ran), _) => format!("{} runs on {ran}", m.name),
        (None, "not_loaded" | "warming") => format!("{} is being loaded", m.name),
        (None, state) => format!("{}: {state}", m.name),
    };
    lacking.map(|m| format!("inference.require = {required:?}, but {}; `irisd doctor` says more", why(m))).collect()
}

/// What works, but not as configured.
fn degraded(house: &House) -> Vec<String> {
    let mut reasons: Vec<String> = house.engine.status().iter().filter_map(ModelStatus::degraded).collect();
    if let Err(why) = house.engine.runtime() {
        reasons.push(format!("no networks: {why}; the classical stages do the work"));
    }
    reasons.extend(house.alerts.current().into_iter().map(|a| a.message));
    reasons
}

fn facts(house: &House) -> DeviceFacts {
    let status = house.engine.status();
    let used: Vec<&ModelStatus> = status.iter().filter(|m| m.active.is_some()).collect();
    let mut providers: Vec<String> = used.iter().filter_map(|m| m.active.clone()).collect();
    providers.sort();
    providers.dedup();
    let degraded = degraded(house);
    // A provider further down the list is told, but no fault: the default list is made for a Jetson and holds on any machine.
    let failed = status.iter().any(|m| m.state == "failed");
    let on = |m: &&ModelStatus| format!("{} on {}", m.name, m.nodes.as_deref().unwrap_or_default());
    let building = |m: &ModelStatus| Some(format!("{} {} s", m.name, m.building_s? / BUILDING_STEP * BUILDING_STEP));
    DeviceFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime: house.engine.runtime().unwrap_or_default(),
        providers,
        models: used.iter().map(|m| m.name.clone()).collect(),
        nodes: used.iter().map(on).collect(),
        building: status.iter().filter_map(building).collect(),
        ok: !failed && house.alerts.current().is_empty() && not_ready(house).is_empty(),
        degraded,
    }
}

/// The facts as MQTT tells them, looked at every [`LOOK`].
pub fn told(house: Arc<House>) -> watch::Receiver<DeviceFacts> {
    let (sender, receiver) = watch::channel(facts(&house));
    tokio::spawn(async move {
        while !sender.is_closed() {
            tokio::time::sleep(LOOK).await;
            sender.send_replace(facts(&house));
        }
    });
    receiver
}

/// Gauges, alerts, counters, the watchdog, and the store's own tidying, until the daemon ends.
pub async fn keep_house(house: Arc<House>) {
    let mut counted = house.store.last_event();
    let mut events = house.store.subscribe();
    let mut look = tokio::time::interval(LOOK);
    let mut tidy = tokio::time::interval(TIDY);
    let mut building = false;
    loop {
        tokio::select! {
            _ = look.tick() => {
                if let Err(e) = house.store.make_room().await {
                    tracing::warn!(error = %e, "no room could be made");
                }
                measure(&house);
                building = tell_systemd_of_engines(&house.engine.status(), building);
            }
            _ = tidy.tick() => {
                if let Err(e) = house.store.tidy_up().await {
                    tracing::warn!(error = %e, "old events and keys stay a while longer");
                }
            }
            event = events.recv() => match event {
                Ok(event) if event.seq.0 == counted.0 + 1 => {
                    count(&house, &event);
                    counted = event.seq;
                }
                Ok(event) if event.seq <= counted => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => counted = count_from_the_log(&house, counted),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

/// Minutes in which the GPU is busy with an engine: said. Gives whether one is in the making; `was`: a look before.
///
/// No time is asked for: the daemon is up, and EXTEND_TIMEOUT_USEC would put off the watchdog, whether or not anything gets on.
fn tell_systemd_of_engines(status: &[ModelStatus], was: bool) -> bool {
    let building: Vec<String> = status.iter().filter_map(|m| Some(format!("{} for {} s", m.name, m.building_s?))).collect();
    if !building.is_empty() {
        systemd::status(&format!("building the engine of {}; another provider serves photos meanwhile", building.join(", ")));
    } else if was {
        systemd::status("engines are built");
    }
    !building.is_empty()
}

fn measure(house: &House) {
    let (queue, space, metrics) = (house.store.queue(), house.store.space(), &house.metrics);
    metrics.set_queue(Lane::HighPriority, queue.pending_high);
    metrics.set_queue(Lane::Default, queue.pending_default);
    metrics.set_running(queue.running);
    metrics.set_uploads_pending(house.store.uploads().pending);
    metrics.set_disk(space.used, space.free, space.cap);
    let evicted = house.store.evicted();
    metrics.set_evicted(evicted.originals, evicted.results, evicted.bytes);
    let status = house.engine.status();
    metrics.set_providers(status.iter().filter_map(|m| Some((m.name.as_str(), m.active.as_deref()?))));
    metrics.set_models(status.iter().map(|m| (m.name.as_str(), m.state.as_str(), m.building_s)));
    let lacks = house.store.lacks_room();
    let low = space.free < space.reserve || matches!(lacks, Some(StoreError::DiskReserve { .. }));
    say(house, DISK_LOW, low, "The disk is nearly full; there is no room for the next photo. What is here is kept. Make room on the disk.");
    let held = "The disk is full; photos that wait are worked on as soon as there is room. Nothing is lost. Make room on the disk.";
    say(house, DISK_FULL, house.live.is_held(), held);
    // What the bucket has was removed before: the rest may not go.
    let full = space.used >= space.cap || matches!(lacks, Some(StoreError::OverCap { .. }));
    let words = "Photos and results have reached the configured size, and nothing of them may be removed; there is no room for the next photo. \
                 Let uploads finish, delete photos, or raise retention.cap.";
    say(house, DISK_CAP, full, words);
}

fn say(house: &House, code: &'static str, stands: bool, message: &str) {
    if stands {
        house.alerts.raise(code, message, house.clock.now());
    } else {
        house.alerts.resolve(code);
    }
}

/// Counts the events after `counted`; gives the last of them.
fn count_from_the_log(house: &House, mut counted: Seq) -> Seq {
    loop {
        let read = house.store.events_after(counted, READ_AT_ONCE).inspect_err(|e| tracing::warn!(error = %e, "events were not counted"));
        let events = read.map(|read| read.events).unwrap_or_default();
        for event in &events {
            count(house, event);
            counted = event.seq;
        }
        if events.len() < READ_AT_ONCE {
            return counted;
        }
    }
}

fn count(house: &House, event: &JobEvent) {
    match event.event {
        EventKind::Completed | EventKind::Failed | EventKind::Cancelled => {
            house.metrics.job_ended(event.status);
            time_steps(house, event.job_id);
        }
        EventKind::Retried => house.metrics.job_retried(),
        _ => {}
    }
}

fn time_steps(house: &House, id: JobId) {
    let Ok(Some(job)) = house.store.job(id) else { return };
    let ms = job.step_ms;
    let steps = [
        (Stage::Load, ms.load),
        (Stage::Segment, ms.segment),
        (Stage::Reflections, ms.reflections),
        (Stage::Enhance, ms.enhance),
        (Stage::Save, ms.save),
    ];
    for (stage, took) in steps {
        if let Some(took) = took {
            house.metrics.step_took(stage, Duration::from_millis(took));
        }
    }
    if let Some(took) = job.processing_time_ms {
        house.metrics.job_took(Duration::from_millis(took));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, state: &str, active: Option<&str>) -> ModelStatus {
        ModelStatus {
            name: name.into(),
            role: "segmentation".into(),
            configured: vec!["tensorrt".into(), "cuda".into(), "cpu".into()],
            active: active.map(str::to_owned),
            precision: None,
            nodes: None,
            state: state.into(),
            reason: None,
            building_s: None,
        }
    }

    #[test]
    fn a_demand_for_a_provider_waits_for_every_network_that_is_used_and_says_for_which() {
        let of = |models: &[ModelStatus], required| not_on(required, models.iter());
        assert!(of(&[], "cuda")[0].contains("no network is installed"));
        let loading = [model("iris", "warming", None), model("large", "ready", Some("cuda"))];
        assert_eq!(of(&loading, "cuda"), ["inference.require = \"cuda\", but iris is being loaded; `irisd doctor` says more"]);
        let one_on_the_cpu = [model("iris", "degraded", Some("cpu")), model("large", "ready", Some("tensorrt"))];
        assert_eq!(of(&one_on_the_cpu, "cuda"), ["inference.require = \"cuda\", but iris runs on cpu; `irisd doctor` says more"]);
        assert!(of(&[model("iris", "ready", Some("tensorrt"))], "cuda").is_empty(), "TensorRT is welcome where CUDA is demanded");
        assert!(!of(&[model("iris", "building", Some("cuda"))], "tensorrt").is_empty());
    }
}

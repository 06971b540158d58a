//! Figures for Prometheus, at `/metrics`. Labels come from closed lists (states, steps, routes as patterns): never ids, owners or paths.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use crate::domain::{
    job::{Lane, Status},
    stage::Stage,
};

/// Seconds: from a tenth of a commit's fsync to a network on a CPU.
const JOB_BUCKETS: [f64; 12] = [0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByName {
    name: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRoute {
    method: String,
    route: String,
    status: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByProvider {
    model: String,
    provider: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByModel {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    model: String,
    state: String,
}

type StepFamily = Family<ByName, Histogram, fn() -> Histogram>;

/// Every figure of the process. Cheap to clone; all clones count into the same figures.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    jobs: Family<ByName, Counter>,
    requests: Family<ByRoute, Counter>,
    retries: Counter,
    crashes: Counter,
    step_seconds: StepFamily,
    job_seconds: Histogram,
    queue: Family<ByName, Gauge>,
    running: Gauge,
    uploads_pending: Gauge,
    disk: Family<ByName, Gauge>,
    evicted: Family<ByName, Counter>,
    evicted_bytes: Counter,
    providers: Family<ByProvider, Gauge>,
    model_states: Family<ByState, Gauge>,
    building: Family<ByModel, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("irisd");
        registry.register("build", "The program that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let mut m = Self {
            registry: Arc::new(Registry::default()),
            jobs: Family::default(),
            requests: Family::default(),
            retries: Counter::default(),
            crashes: Counter::default(),
            step_seconds: Family::new_with_constructor(|| Histogram::new(JOB_BUCKETS)),
            job_seconds: Histogram::new(JOB_BUCKETS),
            queue: Family::default(),
            running: Gauge::default(),
            uploads_pending: Gauge::default(),
            disk: Family::default(),
            evicted: Family::default(),
            evicted_bytes: Counter::default(),
            providers: Family::default(),
            model_states: Family::default(),
            building: Family::default(),
        };
        registry.register("jobs", "Jobs that ended, by end state", m.jobs.clone());
        registry.register("http_requests", "Requests, by route pattern and status", m.requests.clone());
        registry.register("job_retries", "Automatic retries after a transient fault", m.retries.clone());
        registry.register("job_crashes", "Jobs that ran when the process died", m.crashes.clone());
        registry.register("step_seconds", "Wall time of a pipeline step", m.step_seconds.clone());
        registry.register("job_seconds", "Wall time of a job's pipeline", m.job_seconds.clone());
        registry.register("queue_depth", "Jobs that wait, by lane", m.queue.clone());
        registry.register("jobs_running", "Jobs that run", m.running.clone());
        registry.register("uploads_pending", "Objects that the bucket is still to be told", m.uploads_pending.clone());
        registry.register("disk_bytes", "used: photos and results; free: of the disk; cap: as configured", m.disk.clone());
        registry.register("evicted", "Originals and results removed because the bucket has them and room was needed", m.evicted.clone());
        registry.register("evicted_bytes", "Bytes of them", m.evicted_bytes.clone());
        registry.register("provider", "1 for the execution provider that really runs a model", m.providers.clone());
        registry.register("model_state", "1 for the state that a model is in, as /device names it", m.model_states.clone());
        registry.register("engine_building_seconds", "How long an engine has been in the making", m.building.clone());
        // Every end state is there from the start: a rate over a counter that appears with its first failure misses that failure.
        for status in [Status::Completed, Status::Failed, Status::Cancelled] {
            m.jobs.get_or_create(&ByName { name: status.name() }).inc_by(0);
        }
        m.registry = Arc::new(registry);
        m
    }

    pub fn job_ended(&self, status: Status) {
        self.jobs.get_or_create(&ByName { name: status.name() }).inc();
    }

    /// `route`: the pattern ("/api/v1/photos/{id}"), never the path: each id would make a series of its own.
    pub fn http_request(&self, method: &str, route: &str, status: u16) {
        // Anybody may invent a method: those of the standard alone have a series.
        let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].into_iter().find(|m| *m == method);
        let labels = ByRoute { method: known.unwrap_or("other").to_owned(), route: route.to_owned(), status: status.into() };
        self.requests.get_or_create(&labels).inc();
    }

    pub fn job_retried(&self) {
        self.retries.inc();
    }

    pub fn jobs_crashed(&self, jobs: u64) {
        self.crashes.inc_by(jobs);
    }

    pub fn step_took(&self, stage: Stage, time: Duration) {
        self.step_seconds.get_or_create(&ByName { name: stage.name() }).observe(time.as_secs_f64());
    }

    pub fn job_took(&self, time: Duration) {
        self.job_seconds.observe(time.as_secs_f64());
    }

    pub fn set_queue(&self, lane: Lane, waiting: usize) {
        self.queue.get_or_create(&ByName { name: lane.name() }).set(gauge(waiting as u64));
    }

    pub fn set_running(&self, jobs: usize) {
        self.running.set(gauge(jobs as u64));
    }

    pub fn set_uploads_pending(&self, objects: usize) {
        self.uploads_pending.set(gauge(objects as u64));
    }

    /// Bytes.
    pub fn set_disk(&self, used: u64, free: u64, cap: u64) {
        for (name, bytes) in [("used", used), ("free", free), ("cap", cap)] {
            self.disk.get_or_create(&ByName { name }).set(gauge(bytes));
        }
    }

    /// Sums since the start.
    pub fn set_evicted(&self, originals: u64, results: u64, bytes: u64) {
        for (name, sum) in [("originals", originals), ("results", results)] {
            let counter = self.evicted.get_or_create(&ByName { name });
            counter.inc_by(sum.saturating_sub(counter.get()));
        }
        self.evicted_bytes.inc_by(bytes.saturating_sub(self.evicted_bytes.get()));
    }

    /// What really runs each model; a model that changed its provider leaves no old row behind.
    pub fn set_providers<'a>(&self, running: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.providers.clear();
        for (model, provider) in running {
            self.providers.get_or_create(&ByProvider { model: model.to_owned(), provider: provider.to_owned() }).set(1);
        }
    }

    /// Each model's state, and for how long its engine has been in the making, s.
    pub fn set_models<'a>(&self, all: impl IntoIterator<Item = (&'a str, &'a str, Option<u64>)>) {
        self.model_states.clear();
        self.building.clear();
        for (model, state, building_s) in all {
            let model = model.to_owned();
            self.model_states.get_or_create(&ByState { model: model.clone(), state: state.to_owned() }).set(1);
            if let Some(s) = building_s {
                self.building.get_or_create(&ByModel { model }).set(gauge(s));
            }
        }
    }

    /// OpenMetrics text (`application/openmetrics-text; version=1.0.0; charset=utf-8`).
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_stands_in_the_rendered_text() {
        let metrics = Metrics::new();
        let elsewhere = metrics.clone();
        elsewhere.job_ended(Status::Completed);
        elsewhere.http_request("GET", "/api/v1/photos/{id}", 404);
        elsewhere.step_took(Stage::Enhance, Duration::from_millis(20));
        elsewhere.set_queue(Lane::HighPriority, 3);
        elsewhere.set_disk(1, 2, 3);
        elsewhere.set_evicted(1, 0, 7);
        elsewhere.set_evicted(2, 0, 9);
        elsewhere.set_providers([("iris-128", "cuda")]);
        elsewhere.set_providers([("iris-128", "cpu")]);
        elsewhere.set_models([("iris-128", "warming", None), ("large", "building", Some(3))]);
        elsewhere.set_models([("iris-128", "ready", None), ("large", "building", Some(83))]);
        let text = metrics.render();
        for line in [
            "irisd_jobs_total{name=\"completed\"} 1",
            "irisd_jobs_total{name=\"failed\"} 0",
            "irisd_http_requests_total{method=\"GET\",route=\"/api/v1/photos/{id}\",status=\"404\"} 1",
            "irisd_step_seconds_bucket{le=\"0.03\",name=\"enhance\"} 1",
            "irisd_queue_depth{name=\"high_priority\"} 3",
            "irisd_disk_bytes{name=\"cap\"} 3",
            "irisd_evicted_total{name=\"originals\"} 2",
            "irisd_evicted_bytes_total 9",
            "irisd_provider{model=\"iris-128\",provider=\"cpu\"} 1",
            "irisd_model_state{model=\"iris-128\",state=\"ready\"} 1",
            "irisd_engine_building_seconds{model=\"large\"} 83",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        assert!(!text.contains("cuda") && !text.contains("warming") && text.ends_with("# EOF\n"));
    }
}

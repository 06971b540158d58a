//! What the daemon knows of models: the manifest, and one lazily loaded copy of each network.
//!
//! ```text
//!              run, warm_up            loaded
//!  not_loaded ------------> warming ------------> ready       the first provider asked for did the work
//!      ^  ^                    |     \----------> degraded    another one did, `reason` says why
//!      |  | idle_unload        | error
//!      |  +-- ready, degraded  v
//!      +------ next use ---- failed                           a failed session is dropped; the next use loads it again
//! ```
//!
//! Invariants: each network is in memory at most once, however many ask for it at once; a session is used by one thread at a time;
//! [`Engine::status`] never waits for a network that loads or runs; only files that the manifest vouches for are loaded.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    domain::fault::Code,
    ports::{Model, ModelError, ModelRuntime, ModelSpec, RunsOn, Tensor},
};

pub mod manifest;
pub mod weights;

use manifest::{Manifest, ModelRow, Role};

/// How often idle networks are looked for, at most.
const IDLE_LOOK: Duration = Duration::from_secs(30);

/// One model of the manifest, as `/device` shows it (contract: Providers).
#[derive(Debug, Clone, Serialize)]
pub struct ModelStatus {
    pub name: String,
    pub role: String,
    /// What the configuration asks for, in order.
    pub configured: Vec<String>,
    /// What really ran; None until it ran.
    pub active: Option<String>,
    /// not_loaded | building | warming | ready | degraded | failed
    pub state: String,
    pub reason: Option<String>,
}

/// The models of this device. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    manifest: Manifest,
    runtime: Result<Arc<dyn ModelRuntime>, ModelError>,
    configured: Vec<String>,
    slots: BTreeMap<String, Slot>,
}

struct Slot {
    row: ModelRow,
    /// Held while a network loads or runs.
    session: Mutex<Session>,
    /// Held for a moment: what status shows.
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Session {
    model: Option<Box<dyn Model>>,
    last_use: Option<Instant>,
}

struct Shown {
    state: &'static str,
    active: Option<RunsOn>,
    reason: Option<String>,
}

/// A poisoned lock means that a network panicked; what it guards is still whole (a session is dropped on any doubt).
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// `runtime`: the library, or why there is none. `configured`: `[inference] providers`. `idle_unload`: a network that was not used
    /// for this long leaves memory; None: it stays.
    pub fn new(
        manifest: Manifest,
        runtime: Result<Arc<dyn ModelRuntime>, ModelError>,
        configured: Vec<String>,
        idle_unload: Option<Duration>,
    ) -> Self {
        let slot = |row: &ModelRow| Slot {
            row: row.clone(),
            session: Mutex::default(),
            shown: Mutex::new(Shown { state: "not_loaded", active: None, reason: None }),
        };
        let slots = manifest.models().iter().map(|row| (row.name.clone(), slot(row))).collect();
        let inner = Arc::new(Inner { manifest, runtime, configured, slots });
        if let Some(limit) = idle_unload {
            let weak = Arc::downgrade(&inner);
            let watch = move || unload_idle(&weak, limit);
            if let Err(e) = thread::Builder::new().name("model-idle".into()).spawn(watch) {
                tracing::warn!(error = %e, "idle networks will stay in memory");
            }
        }
        Self { inner }
    }

    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// The manifest's row. Errors: WeightsMissing, for a name that it does not have.
    pub fn spec(&self, name: &str) -> Result<&ModelRow, ModelError> {
        self.slot(name).map(|s| &s.row)
    }

    /// Whether a network of this role could be loaded: its file lies there, and there is a runtime.
    pub fn installed(&self, role: Role) -> Vec<&ModelRow> {
        if self.inner.runtime.is_err() {
            return Vec::new();
        }
        self.inner.manifest.models().iter().filter(|m| m.role == role && self.inner.manifest.locate(m).is_some()).collect()
    }

    /// Loads the network if need be and runs it. Input and output have the manifest's shapes, row-major.
    /// Errors: RuntimeMissing, WeightsMissing, WeightsTampered, ModelMismatch, ModelFailed (then it is loaded again next time).
    pub fn run(&self, name: &str, input: &Tensor) -> Result<Vec<Tensor>, ModelError> {
        let slot = self.slot(name)?;
        let mut session = lock(&slot.session);
        let result = self.loaded(slot, &mut session).and_then(|model| {
            let out = model.run(input)?;
            out.iter().try_for_each(|t| slot.row.check_output(&t.shape))?;
            Ok(out)
        });
        session.last_use = Some(Instant::now());
        if let Err(e) = &result {
            session.model = None;
            let mut shown = lock(&slot.shown);
            (shown.state, shown.reason) = ("failed", Some(e.detail.clone()));
        }
        result
    }

    /// A copy of the network of its own, in fp32 and without TensorRT, for as long as the caller keeps it: the second try after an answer
    /// that was no picture. The one exception to one copy a network; it is rare and short. Errors: as [`Engine::run`].
    pub fn load_plain(&self, name: &str) -> Result<Box<dyn Model>, ModelError> {
        let slot = self.slot(name)?;
        let file = self.inner.manifest.verified(&slot.row)?;
        let runtime = self.inner.runtime.as_ref().map_err(Clone::clone)?;
        runtime.load(&ModelSpec { plain: true, ..slot.row.spec(file) })
    }

    /// Time that the loaded copy of a network has spent inside the library; zero where it is not loaded.
    pub fn busy(&self, name: &str) -> Duration {
        self.slot(name).map_or(Duration::ZERO, |slot| lock(&slot.session).model.as_ref().map_or(Duration::ZERO, |m| m.busy()))
    }

    /// What a network really runs on; it is loaded if need be.
    pub fn runs_on(&self, name: &str) -> Result<RunsOn, ModelError> {
        let slot = self.slot(name)?;
        let mut session = lock(&slot.session);
        let loaded = self.loaded(slot, &mut session).map(|m| m.runs_on());
        session.last_use = Some(Instant::now());
        loaded
    }

    /// Whether a GPU provider does this network's work. A network that turns out to run on the CPU leaves memory again: the caller
    /// asks because it would not use it then. The answer is remembered.
    pub fn on_gpu(&self, name: &str) -> bool {
        let is_gpu = |r: &RunsOn| r.provider != "cpu";
        if !self.inner.configured.iter().any(|p| p != "cpu") {
            return false;
        }
        // What one network showed about this device holds for the others: no need to load 30 MB to see it again.
        let known = self.inner.slots.values().find_map(|s| lock(&s.shown).active.as_ref().map(is_gpu));
        if known == Some(false) {
            return false;
        }
        let gpu = self.runs_on(name).is_ok_and(|r| is_gpu(&r));
        if let (false, Ok(slot)) = (gpu, self.slot(name)) {
            lock(&slot.session).model = None;
        }
        gpu
    }

    /// Loads networks in the background, so that the first photo does not wait. Errors show in [`Engine::status`].
    pub fn warm_up(&self, names: Vec<String>) {
        let engine = self.clone();
        let work = move || {
            for name in names {
                if let Err(e) = engine.runs_on(&name) {
                    tracing::warn!(model = name, code = %e.code.name(), error = %e, "the network could not be loaded");
                }
            }
        };
        if let Err(e) = thread::Builder::new().name("model-warm-up".into()).spawn(work) {
            tracing::warn!(error = %e, "no warm-up: networks load with the first photo");
        }
    }

    pub fn status(&self) -> Vec<ModelStatus> {
        let show = |(name, slot): (&String, &Slot)| {
            let shown = lock(&slot.shown);
            ModelStatus {
                name: name.clone(),
                role: slot.row.role.name().to_owned(),
                configured: self.inner.configured.clone(),
                active: shown.active.as_ref().map(|r| r.provider.clone()),
                state: shown.state.to_owned(),
                reason: shown.reason.clone(),
            }
        };
        self.inner.slots.iter().map(show).collect()
    }

    /// Name, version and path of the runtime library, or why there is none.
    pub fn runtime(&self) -> Result<String, String> {
        self.inner.runtime.as_ref().map(|r| r.about()).map_err(|e| e.detail.clone())
    }

    fn slot(&self, name: &str) -> Result<&Slot, ModelError> {
        let unknown = || ModelError { code: Code::WeightsMissing, detail: format!("the manifest has no network {name:?}") };
        self.inner.slots.get(name).ok_or_else(unknown)
    }

    fn loaded<'a>(&self, slot: &Slot, session: &'a mut Session) -> Result<&'a mut Box<dyn Model>, ModelError> {
        if session.model.is_none() {
            // A TensorRT engine is built inside load: minutes of silence, so the state says so.
            let building = self.inner.configured.iter().any(|p| p == "tensorrt");
            lock(&slot.shown).state = if building { "building" } else { "warming" };
            let load = || {
                let file = self.inner.manifest.verified(&slot.row)?;
                let runtime = self.inner.runtime.as_ref().map_err(Clone::clone)?;
                runtime.load(&slot.row.spec(file))
            };
            let loaded = load();
            let mut shown = lock(&slot.shown);
            match &loaded {
                Ok(model) => {
                    let runs_on = model.runs_on();
                    shown.state = if runs_on.reason.is_none() { "ready" } else { "degraded" };
                    shown.reason = runs_on.reason.clone();
                    tracing::info!(model = slot.row.name, provider = runs_on.provider, precision = runs_on.precision, "network loaded");
                    shown.active = Some(runs_on);
                }
                Err(e) => (shown.state, shown.reason, shown.active) = ("failed", Some(e.detail.clone()), None),
            }
            session.model = Some(loaded?);
        }
        Ok(session.model.as_mut().expect("it was filled above"))
    }
}

fn unload_idle(inner: &Weak<Inner>, limit: Duration) {
    loop {
        thread::sleep(limit.min(IDLE_LOOK).max(Duration::from_millis(100)));
        let Some(inner) = inner.upgrade() else { return };
        for slot in inner.slots.values() {
            let Ok(mut session) = slot.session.try_lock() else { continue }; // in use: not idle
            if session.model.is_some() && session.last_use.is_none_or(|at| at.elapsed() >= limit) {
                session.model = None;
                lock(&slot.shown).state = "not_loaded";
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! What the daemon knows of models: the manifest, and one lazily loaded copy of each network.
//!
//! ```text
//!              run, warm_up            loaded, tried
//!  not_loaded ------------> warming ----------------> ready       the first provider asked for did the work
//!      ^  ^                    |     \--------------> degraded    another one did, or the last run failed; `reason` says why
//!      |  | idle_unload        | error
//!      |  +-- ready, degraded  v
//!      +------ next use ---- failed                               a failed session is dropped; the next use loads it again
//!
//!  building: TensorRT's engine is made on a thread of its own; photos are served by the next tier meanwhile, then the engine takes over
//! ```
//!
//! `load.rs`: how a network comes into memory; `trial.rs`: on which provider, and whether to believe it; `engines.rs`: TensorRT's engines on
//! disk; `memory.rs`: whether a run fits; `slot.rs`: a session, one hand at a time; `status.rs`: what is told.
//!
//! Invariants: each network is in memory at most once, however many ask for it at once (but while its engine is built, and for the second
//! try of [`Engine::load_plain`]); a session is used by one thread at a time; [`Engine::status`] never waits for a network that loads or
//! runs; only files that the manifest vouches for are loaded; nobody who was told to stop waits for a network or stays in one.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, LazyLock, Weak},
    thread,
    time::{Duration, Instant},
};

use crate::{
    domain::fault::{Code, FaultClass},
    ports::{Model, ModelError, ModelRuntime, RunStop, Tensor},
};

mod engines;
mod load;
pub mod manifest;
pub mod memory;
mod slot;
mod status;
mod trial;
pub mod weights;

use self::{
    manifest::{Manifest, ModelRow, Role},
    slot::{Slot, State, Stopped, Taken},
};
pub use self::{
    status::{ModelStatus, meets},
    trial::{RunsOn, window},
};

/// How often idle networks are looked for, at most.
const IDLE_LOOK: Duration = Duration::from_secs(30);

/// Why a network gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RunError {
    /// The job was told to stop.
    #[error("the run was told to stop")]
    Stopped,
    /// It had been loaded, and failed while it ran, for the first time in a row. The next use loads it anew: worth one more try.
    #[error(transparent)]
    Failed(ModelError),
    /// It cannot be used now: missing, wrong, too large for the memory, or it failed again.
    #[error(transparent)]
    Unusable(#[from] ModelError),
}

impl RunError {
    /// Files or settings are wrong: no other photo and no other moment would mend it, somebody must.
    pub fn is_the_devices(&self) -> bool {
        matches!(self, RunError::Unusable(e) if e.code.class() == FaultClass::ServerError)
    }
}

impl From<Stopped> for RunError {
    fn from(Stopped: Stopped) -> Self {
        RunError::Stopped
    }
}

/// For those whom nobody tells to stop.
impl From<RunError> for ModelError {
    fn from(e: RunError) -> Self {
        match e {
            RunError::Stopped => ModelError { code: Code::ModelFailed, detail: e.to_string() },
            RunError::Failed(e) | RunError::Unusable(e) => e,
        }
    }
}

/// What an [`Engine`] is made with.
#[derive(Clone)]
pub struct Options {
    /// `[inference] providers`, in order.
    pub providers: Vec<String>,
    /// Half precision on TensorRT.
    pub fp16: bool,
    /// `[enhance] tile`: what engines of networks that enlarge are built for, px.
    pub tile: usize,
    /// A network that was not used for this long leaves memory; None: it stays.
    pub idle_unload: Option<Duration>,
    /// Where TensorRT's engines are kept, and whether this process builds the ones that are not there, in the background.
    pub engines: Option<(PathBuf, Builds)>,
    /// Bytes that are free now; None: nobody knows, nothing is refused.
    pub free: fn() -> Option<u64>,
    /// What one network may take, bytes; None: what is free.
    pub memory: Option<u64>,
}

/// Who builds engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Builds {
    /// The daemon: it lives long enough.
    InBackground,
    /// A command, which would die in the middle of it.
    Never,
}

impl Default for Options {
    /// The CPU alone, without limits.
    fn default() -> Self {
        Self { providers: vec!["cpu".into()], fp16: false, tile: 256, idle_unload: None, engines: None, free: || None, memory: None }
    }
}

/// The models of this device. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    /// Ends the runs that are asked for through this clone.
    stop: RunStop,
}

/// The library, or why there is none.
type Opened = Result<Arc<dyn ModelRuntime>, ModelError>;

struct Inner {
    manifest: Manifest,
    /// Opened by whoever asks first: tens of milliseconds that a photo without networks need not pay for.
    runtime: LazyLock<Opened, Box<dyn FnOnce() -> Opened + Send>>,
    options: Options,
    slots: BTreeMap<String, Slot>,
}

impl Engine {
    /// `runtime`: the library, or why there is none.
    pub fn new(manifest: Manifest, runtime: Result<Arc<dyn ModelRuntime>, ModelError>, options: Options) -> Self {
        Self::opening(manifest, || runtime, options)
    }

    /// With a library that `open` brings when it is first needed, once.
    pub fn opening(
        manifest: Manifest,
        open: impl FnOnce() -> Result<Arc<dyn ModelRuntime>, ModelError> + Send + 'static,
        options: Options,
    ) -> Self {
        let runtime = LazyLock::new(Box::new(open) as Box<dyn FnOnce() -> Opened + Send>);
        let slots = manifest.models().iter().map(|row| (row.name.clone(), Slot::new(row.clone()))).collect();
        let idle = options.idle_unload;
        let inner = Arc::new(Inner { manifest, runtime, options, slots });
        if let Some(limit) = idle {
            let weak = Arc::downgrade(&inner);
            let watch = move || unload_idle(&weak, limit);
            if let Err(e) = thread::Builder::new().name("model-idle".into()).spawn(watch) {
                tracing::warn!(error = %e, "idle networks will stay in memory");
            }
        }
        Self { inner, stop: RunStop::default() }
    }

    /// The same networks, for somebody who may be told to stop.
    pub fn until(&self, stop: RunStop) -> Self {
        Self { inner: Arc::clone(&self.inner), stop }
    }

    /// What ends the runs that are asked for here.
    pub fn stop(&self) -> &RunStop {
        &self.stop
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
        let mut there: Vec<_> = self.lying_here(role).collect();
        if !there.is_empty() && self.inner.runtime.is_err() {
            there.clear();
        }
        there
    }

    /// The first that is [`installed`](Engine::installed), or why there is none. Codes: WeightsMissing, RuntimeMissing.
    pub fn one_of(&self, role: Role) -> Result<&ModelRow, ModelError> {
        let none = || ModelError { code: Code::WeightsMissing, detail: format!("no network for {} is installed", role.name()) };
        let row = self.lying_here(role).next().ok_or_else(none)?;
        self.inner.runtime.as_ref().map_err(Clone::clone)?;
        Ok(row)
    }

    fn lying_here(&self, role: Role) -> impl Iterator<Item = &ModelRow> {
        let manifest = &self.inner.manifest;
        manifest.models().iter().filter(move |m| m.role == role && manifest.locate(m).is_some())
    }

    /// Loads the network if need be and runs it. Input and output have the manifest's shapes, row-major.
    /// Codes: RuntimeMissing, WeightsMissing, WeightsTampered, ModelMismatch, ModelFailed (then it is loaded again next time), DeviceBusy
    /// (it does not fit into the memory that is free).
    pub fn run(&self, name: &str, input: &Tensor) -> Result<Vec<Tensor>, RunError> {
        let slot = self.slot(name)?;
        let mut session = slot.take(&self.stop)?;
        self.load(slot, &mut session)?;
        self.admit(slot, &mut session, &input.shape)?;
        let model = session.model.as_mut().expect("it was loaded above");
        let result = model.run(input, &self.stop).and_then(|out| {
            out.iter().try_for_each(|t| slot.row.check_answer(&input.shape, &t.shape))?;
            Ok(out)
        });
        session.last_use = Some(Instant::now());
        match result {
            Ok(out) => {
                if std::mem::take(&mut session.failures) > 0
                    && let Some(runs_on) = slot.shown().runs_on
                {
                    slot.show_loaded(&runs_on);
                }
                Ok(out)
            }
            Err(_) if self.stop.is_stopped() => Err(RunError::Stopped),
            Err(e) => Err(dropped(slot, &mut session, e)),
        }
    }

    /// A copy of the network of its own, in fp32 and without TensorRT, for as long as the caller keeps it: the second try after an answer
    /// that was no picture. The one exception to one copy a network; it is rare and short. Codes: as [`Engine::run`].
    pub fn load_plain(&self, name: &str) -> Result<Box<dyn Model>, RunError> {
        let slot = self.slot(name)?;
        self.fits(&slot.row, &slot.row.canary(), 0)?;
        self.plain(slot).map_err(|e| if self.stop.is_stopped() { RunError::Stopped } else { RunError::Unusable(e) })
    }

    /// Time that the loaded copy of a network has spent inside the library; zero where it is not loaded.
    pub fn busy(&self, name: &str) -> Duration {
        let session = self.slot(name).ok().and_then(|slot| slot.take(&self.stop).ok());
        session.and_then(|s| s.model.as_ref().map(|m| m.busy())).unwrap_or_default()
    }

    /// What a network really runs on; it is loaded if need be.
    pub fn runs_on(&self, name: &str) -> Result<RunsOn, RunError> {
        let slot = self.slot(name)?;
        let mut session = slot.take(&self.stop)?;
        self.load(slot, &mut session)?;
        session.last_use = Some(Instant::now());
        Ok(slot.shown().runs_on.expect("a loaded network has run"))
    }

    /// Whether a GPU provider does this network's work. A network that turns out to run on the CPU leaves memory again: the caller
    /// asks because it would not use it then. The answer is remembered.
    pub fn on_gpu(&self, name: &str) -> bool {
        let is_gpu = |r: &RunsOn| r.provider != "cpu";
        if !self.inner.options.providers.iter().any(|p| p != "cpu") {
            return false;
        }
        // What one network showed about this device holds for the others: no need to load 30 MB to see it again.
        let known = self.inner.slots.values().find_map(|s| s.shown().runs_on.as_ref().map(is_gpu));
        if known == Some(false) {
            return false;
        }
        let gpu = self.runs_on(name).is_ok_and(|r| is_gpu(&r));
        if let (false, Ok(slot)) = (gpu, self.slot(name))
            && let Ok(mut session) = slot.take(&self.stop)
        {
            session.unload();
            slot.show(|shown| shown.state = State::NotLoaded);
        }
        gpu
    }

    /// The largest side of a tile, up to `wanted`, that this network's runs fit into the memory with, px. Codes: DeviceBusy, where not
    /// even the smallest does.
    pub fn tile(&self, name: &str, wanted: usize, batch: usize) -> Result<usize, RunError> {
        let slot = self.slot(name)?;
        let held = slot.take(&self.stop)?.held;
        let Some(can_have) = self.can_have(held) else { return Ok(wanted) };
        memory::tile(&slot.row, wanted, batch, can_have).ok_or_else(|| {
            let window = window(&slot.row, 0);
            RunError::Unusable(too_large(memory::need(&slot.row, &[batch, 3, window, window]), can_have))
        })
    }

    /// Loads networks in the background, so that the first photo does not wait; `for_gpu` where a GPU runs it. Errors show in
    /// [`Engine::status`].
    pub fn warm_up(&self, names: Vec<String>, for_gpu: Option<String>) {
        let engine = self.clone();
        let work = move || {
            give_way();
            for name in names {
                if let Err(e) = engine.runs_on(&name) {
                    tracing::warn!(model = name, error = %e, "the network could not be loaded");
                }
            }
            if let Some(name) = for_gpu {
                engine.on_gpu(&name);
            }
        };
        if let Err(e) = thread::Builder::new().name("model-warm-up".into()).spawn(work) {
            tracing::warn!(error = %e, "no warm-up: networks load with the first photo");
        }
    }

    /// Name, version and path of the runtime library, or why there is none.
    pub fn runtime(&self) -> Result<String, String> {
        self.inner.runtime.as_ref().map(|r| r.about()).map_err(|e| e.detail.clone())
    }

    fn slot(&self, name: &str) -> Result<&Slot, ModelError> {
        let unknown = || ModelError { code: Code::WeightsMissing, detail: format!("the manifest has no network {name:?}") };
        self.inner.slots.get(name).ok_or_else(unknown)
    }

    /// Whether a run over this shape fits; then it counts as held.
    fn admit(&self, slot: &Slot, session: &mut Taken<'_>, shape: &[usize]) -> Result<(), ModelError> {
        let need = memory::need(&slot.row, shape);
        if need > session.held {
            self.fits(&slot.row, shape, session.held)?;
            session.held = need;
        }
        Ok(())
    }

    fn fits(&self, row: &ModelRow, shape: &[usize], held: u64) -> Result<(), ModelError> {
        let need = memory::need(row, shape);
        match self.can_have(held) {
            Some(can_have) if need > can_have => Err(too_large(need, can_have)),
            _ => Ok(()),
        }
    }

    /// None: nobody knows.
    fn can_have(&self, held: u64) -> Option<u64> {
        let (free, cap) = ((self.inner.options.free)(), self.inner.options.memory);
        (free.is_some() || cap.is_some()).then(|| memory::can_have(free.unwrap_or(u64::MAX), cap, held))
    }
}

fn too_large(need: u64, can_have: u64) -> ModelError {
    let mb = |bytes: u64| bytes.div_ceil(1_000_000);
    let detail = format!("not enough memory for the network: it needs {} MB and can have {}", mb(need), can_have / 1_000_000);
    ModelError { code: Code::DeviceBusy, detail }
}

/// A session that failed leaves; how that is told.
fn dropped(slot: &Slot, session: &mut Taken<'_>, e: ModelError) -> RunError {
    session.unload();
    session.failures += 1;
    let first = session.failures == 1 && e.code == Code::ModelFailed;
    let (state, what) = if first { (State::Degraded, "; it is loaded again with the next use") } else { (State::Failed, "") };
    slot.show(|shown| (shown.state, shown.reason) = (state, Some(format!("{}{what}", e.detail))));
    tracing::warn!(model = slot.row.name, failures = session.failures, error = %e, "a network failed while it ran");
    if first { RunError::Failed(e) } else { RunError::Unusable(e) }
}

fn unload_idle(inner: &Weak<Inner>, limit: Duration) {
    loop {
        thread::sleep(limit.min(IDLE_LOOK).max(Duration::from_millis(100)));
        let Some(inner) = inner.upgrade() else { return };
        for slot in inner.slots.values() {
            let Some(mut session) = slot.try_take() else { continue }; // in use: not idle
            if session.model.is_some() && session.last_use.is_none_or(|at| at.elapsed() >= limit) {
                session.unload();
                slot.show(|shown| shown.state = State::NotLoaded);
            }
        }
    }
}

/// setpriority(2): a tenth of the share of those who answer, where both want the processor; all of it where nobody else does.
const NICE: i32 = 10;

/// For threads that compute: the calling thread, and those that it starts from now on (rayon's, a network's), leave the processor to the
/// ones that take in photos and answer people.
pub fn give_way() {
    // Of Linux: "0" is the calling thread, not its process.
    if let Err(e) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(error = %e, "this thread computes beside those who answer");
    }
}

#[cfg(test)]
mod tests;

//! How a network comes into memory: the best tier that passes its trial; TensorRT by an engine that is kept, or is built meanwhile.
//!
//! ```text
//!   engine kept? --yes--> load it --fails--> set aside --+
//!        | no                                            v
//!        +-----------------------> next tier serves; a thread of its own builds the engine, tries it, and hands it over
//! ```

use std::{thread, time::Instant};

use super::{
    Builds, Engine, RunError,
    engines::{Engines, Key},
    slot::{Build, Slot, State, Taken},
    trial::{self, Proven, RunsOn, Trial},
};
use crate::{
    domain::fault::Code,
    ports::{Model, ModelError, RunStop},
};

const TENSORRT: &str = "tensorrt";
/// What the reason says while a thread is at it.
const IN_THE_MAKING: &str = "its engine is being built";

impl Engine {
    /// Loads the network, unless it is there.
    pub(super) fn load(&self, slot: &Slot, session: &mut Taken<'_>) -> Result<(), RunError> {
        if session.model.is_some() {
            return Ok(());
        }
        if let Err(e) = self.admit(slot, session, &slot.row.canary()) {
            slot.show(|shown| (shown.state, shown.reason) = (State::Degraded, Some(e.detail.clone())));
            return Err(e.into());
        }
        slot.show(|shown| shown.state = State::Warming);
        match self.trial(slot, |trial| self.choose(slot, trial)) {
            Ok(proven) => {
                self.take_over(slot, session, proven);
                Ok(())
            }
            Err(_) if self.stop.is_stopped() => {
                session.held = 0;
                slot.show(|shown| shown.state = State::NotLoaded);
                Err(RunError::Stopped)
            }
            Err(e) => {
                session.held = 0;
                slot.show(|shown| (shown.state, shown.reason, shown.runs_on) = (State::Failed, Some(e.detail.clone()), None));
                Err(e.into())
            }
        }
    }

    fn take_over(&self, slot: &Slot, session: &mut Taken<'_>, proven: Proven) {
        let on = &proven.runs_on;
        tracing::info!(model = slot.row.name, provider = on.provider, precision = on.precision, nodes = on.by_nodes(), "network loaded");
        session.model = Some(proven.model);
        if session.failures == 0 {
            slot.show_loaded(on);
        } else {
            // Well again is what has run well again.
            slot.show(|shown| (shown.state, shown.runs_on) = (State::Degraded, Some(on.clone())));
        }
    }

    /// Its file, verified, and the library, for a trial.
    fn trial<T>(&self, slot: &Slot, with: impl FnOnce(&Trial<'_>) -> Result<T, ModelError>) -> Result<T, ModelError> {
        let file = self.inner.manifest.verified(&slot.row)?;
        let runtime = self.inner.runtime.as_ref().map_err(Clone::clone)?;
        with(&Trial { runtime: &**runtime, row: &slot.row, file, fp16: self.inner.options.fp16, stop: &self.stop })
    }

    /// A copy without TensorRT: fp16 is its alone, and an engine takes minutes to build.
    pub(super) fn plain(&self, slot: &Slot) -> Result<Box<dyn Model>, ModelError> {
        let providers: Vec<String> = self.inner.options.providers.iter().filter(|p| *p != TENSORRT).cloned().collect();
        self.trial(slot, |trial| Ok(trial.first_of(&trial::tiers(&providers), "", Vec::new())?.model))
    }

    /// The best tier: TensorRT by a kept engine; where there is none, the next one, while the engine is built.
    fn choose(&self, slot: &Slot, trial: &Trial<'_>) -> Result<Proven, ModelError> {
        let mut tiers = trial::tiers(&self.inner.options.providers);
        let mut reasons = Vec::new();
        if tiers[0].first().is_some_and(|p| p == TENSORRT) {
            match self.by_kept_engine(slot, trial, &tiers[0]) {
                Ok(proven) => return Ok(proven),
                Err(e) if e.code == Code::ModelMismatch || self.stop.is_stopped() => return Err(e),
                Err(e) => reasons.push(format!("{TENSORRT}: {}", e.detail)),
            }
            tiers.remove(0);
        }
        let wanted = self.inner.options.providers.first().map_or("cpu", String::as_str);
        trial.first_of(&tiers, wanted, reasons)
    }

    /// Errors: why TensorRT does not run it, now or ever.
    fn by_kept_engine(&self, slot: &Slot, trial: &Trial<'_>, tier: &[String]) -> Result<Proven, ModelError> {
        trial.runtime.registers(tier)?;
        let Some((folder, builds)) = &self.inner.options.engines else {
            return Err(no_engine("this user keeps no engines here"));
        };
        let shape = trial::fixed_shape(&slot.row, self.inner.options.tile).ok_or_else(|| no_engine("its input has no fixed size"))?;
        let (engines, key) = (Engines(folder.clone()), key(trial, &shape));
        if engines.is_kept(&key) {
            match trial.of(tier, Some((&engines.place(&key), shape))) {
                Ok(proven) => {
                    keep(&engines, &key); // used again: it is not the next to go
                    return Ok(proven);
                }
                Err(e) if e.code == Code::ModelMismatch || self.stop.is_stopped() => return Err(e),
                Err(e) => {
                    tracing::warn!(model = slot.row.name, error = %e, "a kept engine cannot be used; it is set aside and built again");
                    engines.set_aside(&key).map_err(|e| no_engine(&format!("a damaged engine cannot be set aside: {e}")))?;
                }
            }
        }
        if let Build::Failed(why) = slot.shown().build {
            return Err(no_engine(&why));
        }
        match builds {
            Builds::Never => Err(no_engine("its engine is not built yet: run `irisd weights build`, or let the daemon do it")),
            Builds::InBackground => {
                self.build_in_background(slot);
                Err(no_engine(IN_THE_MAKING))
            }
        }
    }

    /// Builds the network's engine, unless there is one, and tries it. Minutes. Errors: why there is none.
    fn build(&self, slot: &Slot) -> Result<Proven, ModelError> {
        let Some((folder, _)) = &self.inner.options.engines else { return Err(no_engine("this user keeps no engines here")) };
        let tier = trial::tiers(&self.inner.options.providers).swap_remove(0);
        if tier.first().is_none_or(|p| p != TENSORRT) {
            return Err(no_engine("inference.providers does not begin with tensorrt"));
        }
        self.trial(slot, |trial| {
            trial.runtime.registers(&tier)?;
            let shape = trial::fixed_shape(&slot.row, self.inner.options.tile).ok_or_else(|| no_engine("its input has no fixed size"))?;
            let (engines, key) = (Engines(folder.clone()), key(trial, &shape));
            self.fits(&slot.row, &shape, 0)?;
            let unusable = |e: std::io::Error| no_engine(&format!("{}: {e}", folder.display()));
            let _alone = engines.alone().map_err(unusable)?;
            if !engines.is_kept(&key) {
                engines.begin(&key).map_err(unusable)?;
            }
            let proven = trial.of(&tier, Some((&engines.place(&key), shape)))?;
            keep(&engines, &key);
            Ok(proven)
        })
    }

    /// Builds a network's engine for one who waits for it; gives what ran. Errors: why there is none.
    pub fn build_now(&self, name: &str) -> Result<RunsOn, ModelError> {
        Ok(self.build(self.slot(name)?)?.runs_on)
    }

    fn build_in_background(&self, slot: &Slot) {
        let mut begins = false;
        slot.show(|shown| {
            if matches!(shown.build, Build::None) {
                (shown.build, begins) = (Build::Running(Instant::now()), true);
            }
        });
        if !begins {
            return;
        }
        let (engine, name) = (self.until(RunStop::default()), slot.row.name.clone());
        let work = move || {
            let Ok(slot) = engine.slot(&name) else { return };
            tracing::info!(model = name, "TensorRT's engine is being built; the next provider serves photos meanwhile");
            let built = engine.build(slot);
            // Whoever runs it on the next tier just now is waited for.
            let Ok(mut session) = slot.take(&engine.stop) else { return };
            match built {
                Ok(proven) => {
                    slot.show(|shown| shown.build = Build::None);
                    session.unload();
                    engine.take_over(slot, &mut session, proven);
                }
                Err(e) => {
                    tracing::warn!(model = name, error = %e, "TensorRT's engine could not be built; the next provider goes on");
                    slot.show(|shown| {
                        shown.build = Build::Failed(e.detail.clone());
                        let said = shown.reason.take().unwrap_or_default().replace(IN_THE_MAKING, &e.detail);
                        shown.reason = Some(said.clone());
                        if let Some(runs_on) = &mut shown.runs_on {
                            runs_on.reason = Some(said);
                        }
                    });
                }
            }
        };
        if let Err(e) = thread::Builder::new().name("model-build".into()).spawn(work) {
            slot.show(|shown| shown.build = Build::Failed(format!("no thread to build it on: {e}")));
        }
    }
}

fn no_engine(why: &str) -> ModelError {
    ModelError { code: Code::ModelFailed, detail: why.to_owned() }
}

fn key(trial: &Trial<'_>, shape: &[usize]) -> Key {
    Key::new(trial.row, &trial.runtime.identity(), if trial.fp16 { "fp16" } else { "fp32" }, shape)
}

/// Best effort: an engine that is not kept is built again.
fn keep(engines: &Engines, key: &Key) {
    if let Err(e) = engines.keep(key) {
        tracing::warn!(folder = %engines.0.display(), error = %e, "an engine may have to be built again");
    }
}

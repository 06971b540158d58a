//! The pipeline: load, segment, reflections, enhance, save. One file a stage; this one runs them, reports progress, honours stop.
//!
//! ```text
//!   original --load--> upright photo --segment--> mask, limbus, pupil, quality --reflections--> cleaned photo
//!                                        | gate: a quality_issue ends here, <out> holds annotated.jpg alone
//!   <out> <--save, rename-- <out>.tmp <--enhance: rows, as they are made, into image.jpg--
//! ```
//!
//! Invariants: the original is only read; a folder with its final name is complete and on the platter; a run that ends any other way
//! than in [`Done`] or [`Ended::Refused`] leaves nothing behind (what a killed process leaves, `<out>.tmp`, the next run of the job
//! removes). Synchronous: it lives on a worker's OS thread. No picture of the result's size is held: it is made and encoded row by row.

use std::{cell::Cell, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    domain::{
        fault::Fault,
        ids::Sha256,
        job::Artifacts,
        photo::Source,
        report::{NOTICE, Report, ReportFiles, SCHEMA},
        stage::{Stage, StepMs},
        transition::{Outcome, Refusal},
    },
    inference::{Engine, ModelStatus, RunError},
    ports::{Clock, ModelError, RunStop},
};

mod dereflect;
mod enhance;
pub mod eyenet;
#[cfg(test)]
mod fakes;
mod filler;
mod gate;
mod load;
mod merge;
mod network;
pub mod process;
mod reuse;
mod save;
mod segment;
mod settings;
mod tensor;

pub use enhance::AUTO_NETWORK;
pub use merge::{Another, Others};
pub use reuse::Earlier;
pub use settings::Settings;

/// One photo to work on.
pub struct Input {
    /// The original, read-only.
    pub photo: PathBuf,
    pub sha256: Sha256,
    pub source: Source,
    /// Where image.jpg, mask.png, synthetic.png, thumb.jpg and report.json go, or annotated.jpg of a refused photo. Filled as
    /// `<out>.tmp`, fsynced, then renamed: a folder with its final name is complete. One that is there already is replaced.
    pub out: PathBuf,
}

/// The job must not go on: cancelled, shut down, or out of time. What was begun on disk is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop;

/// Whoever runs the pipeline, seen from inside.
pub trait Watch: Sync {
    /// A step begins (stored before its work); `step_ms`: the steps that are done.
    fn enter(&self, stage: Stage, step_ms: StepMs) -> Result<(), Stop>;
    /// A place where the job may be stopped or give way (then this call blocks). `done`: share of this step, 0..1.
    fn checkpoint(&self, stage: Stage, done: f32) -> Result<(), Stop>;
    /// How long the job stood still so far: no part of its steps' times.
    fn paused(&self) -> Duration {
        Duration::ZERO
    }
    /// Ends a network's run that is under way when the job must stop.
    fn run_stop(&self) -> RunStop {
        RunStop::default()
    }
}

/// How a run ended without a result.
#[derive(Debug)]
pub enum Ended {
    Fault(Box<Fault>, StepMs),
    /// The gate refused the photo; `<out>` holds annotated.jpg.
    Refused(Box<Refusal>, StepMs),
    Stopped(StepMs),
}

/// A finished run: what the store keeps, and the report that was written.
#[derive(Debug)]
pub struct Done {
    pub outcome: Outcome,
    pub report: Report,
}

/// What runs photos. Cheap to share; each run is independent of the others.
pub struct Pipeline {
    settings: Settings,
    engine: Engine,
    clock: Arc<dyn Clock>,
}

impl Pipeline {
    pub fn new(settings: Settings, engine: Engine, clock: Arc<dyn Clock>) -> Self {
        Self { settings, engine, clock }
    }

    /// From the original to a complete folder. Blocking; seconds.
    #[allow(clippy::result_large_err)] // once a photo: a box would save nothing
    pub fn run(&self, input: &Input, watch: &dyn Watch) -> Result<Done, Ended> {
        self.merge(input, &Others::NONE, watch)
    }

    /// [`Pipeline::run`] for a photo whose lamps the `others`, of the same eye, may show without: what they show is taken from them
    /// instead of being made up. Errors beside those of a single photo, unless [`Misfit::LeftOut`] makes them warnings: MergeMismatch, and
    /// for each of the others NoIris, OriginalMissing and those of the decoder.
    ///
    /// [`Misfit::LeftOut`]: crate::domain::job::Misfit::LeftOut
    #[allow(clippy::result_large_err)]
    pub fn merge(&self, input: &Input, others: &Others<'_>, watch: &dyn Watch) -> Result<Done, Ended> {
        let begun = self.clock.mono();
        let mut steps = Steps {
            watch,
            clock: &*self.clock,
            begun,
            current: None,
            ms: StepMs::default(),
            reached: Cell::new(0.0),
            stood_in: Cell::new(false),
        };
        self.stages(input, others, &self.engine.until(watch.run_stop()), &mut steps).map_err(|halt| match halt {
            Halt::Stop => Ended::Stopped(steps.finished()),
            Halt::Fault(fault) | Halt::Again(fault) => Ended::Fault(Box::new(fault), steps.finished()),
            Halt::Refused(refusal) => Ended::Refused(refusal, steps.finished()),
        })
    }

    fn stages(&self, input: &Input, others: &Others<'_>, engine: &Engine, steps: &mut Steps<'_>) -> Result<Done, Halt> {
        steps.enter(Stage::Load)?;
        let load::Loaded { mut photo, facts } = load::run(input, &self.settings)?;

        steps.enter(Stage::Segment)?;
        let seen = segment::see(&photo, &self.settings, engine, steps)?;
        let laid = merge::run(&mut photo, &seen, others, &self.settings, engine, steps)?;
        let eye = match segment::verdict(&photo, seen, &self.settings, steps)? {
            segment::Verdict::Good(eye) => eye,
            segment::Verdict::Refused { fault, quality, picture } => {
                let annotated_bytes = save::refused(&input.out, &picture)?;
                return Err(Halt::Refused(Box::new(Refusal { fault, quality, annotated_bytes })));
            }
        };

        steps.enter(Stage::Reflections)?;
        let cleaned = dereflect::run(&mut photo, &eye, &self.settings, engine, steps)?;

        let merge = laid.facts(input.sha256, &eye.mask, &cleaned.made_up);

        steps.enter(Stage::Enhance)?;
        let folder = save::Folder::create(&input.out)?; // removed again when it is dropped unfinished
        let enhanced = enhance::run(photo, &eye, &self.settings, engine, &folder, steps)?;

        steps.enter(Stage::Save)?;
        let (crop, scale) = (enhanced.crop, enhanced.scale);
        let mask = save::mask(&folder, &eye.mask, crop, scale, steps)?;
        let synthetic = save::synthetic(&folder, &cleaned.made_up, crop, scale, steps)?;
        let thumb_bytes = save::thumb(&folder, &enhanced.thumb)?;
        let files = ReportFiles { image: enhanced.image, mask, synthetic };
        let step_ms = steps.finished();
        let used = [&eye.iris.model, &cleaned.facts.model, &enhanced.facts.model];
        let degraded = engine.status().iter().filter(|m| used.contains(&&Some(m.name.clone()))).filter_map(ModelStatus::degraded).collect();
        let report = Report {
            schema: SCHEMA,
            program: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: self.clock.now(),
            notice: NOTICE.to_owned(),
            photo: facts,
            crop,
            scale,
            iris: eye.iris,
            quality: eye.quality.metrics.clone(),
            verdict: eye.quality.verdict,
            warnings: eye.warnings.into_iter().chain(laid.left_out).collect(),
            degraded,
            reflections: cleaned.facts,
            merge,
            enhance: enhanced.facts,
            step_ms,
            processing_time_ms: millis(steps.now().saturating_sub(steps.begun)),
            files: files.clone(),
            cached: false,
        };
        let (report_sha256, report_bytes) = save::report(&folder, &report)?;
        steps.at(0.9)?;
        folder.finish()?;
        let outcome = Outcome {
            artifacts: Artifacts {
                files,
                report_sha256,
                report_bytes,
                thumb_bytes,
                on_disk: true,
                made_by: (!steps.stood_in.get()).then(|| self.fingerprint(others)),
            },
            quality: eye.quality,
            step_ms,
            processing_time_ms: report.processing_time_ms,
            cached: false,
        };
        Ok(Done { outcome, report })
    }
}

/// Why a stage did not end.
#[derive(Debug)]
enum Halt {
    Stop,
    Fault(Fault),
    /// A fault of this moment alone: the job is to come back, not to make do with less.
    Again(Fault),
    /// The gate's no, its picture saved.
    Refused(Box<Refusal>),
}

impl From<Stop> for Halt {
    fn from(Stop: Stop) -> Self {
        Halt::Stop
    }
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Halt::Fault(fault)
    }
}

impl From<ModelError> for Halt {
    fn from(e: ModelError) -> Self {
        Halt::Fault(Fault::new(e.code, e.detail))
    }
}

impl From<RunError> for Halt {
    fn from(e: RunError) -> Self {
        match e {
            RunError::Stopped => Halt::Stop,
            RunError::Failed(e) => Halt::Again(Fault::new(e.code, e.detail)),
            RunError::Unusable(e) => e.into(),
        }
    }
}

/// The step that runs, its clock, and the way to whoever watches.
struct Steps<'a> {
    watch: &'a dyn Watch,
    clock: &'a dyn Clock,
    begun: Duration,
    current: Option<(Stage, Duration)>,
    ms: StepMs,
    /// Highest share of the current step that was reported: progress never falls.
    reached: Cell<f32>,
    /// A classical way did the work of a network that could not.
    stood_in: Cell<bool>,
}

impl Steps<'_> {
    /// Ends the step that ran, begins the next.
    fn enter(&mut self, stage: Stage) -> Result<(), Halt> {
        self.ms = self.finished();
        self.current = Some((stage, self.now()));
        self.reached.set(0.0);
        self.watch.enter(stage, self.ms)?;
        Ok(self.at(0.0)?)
    }

    /// Monotonic time without the time that the job stood still.
    fn now(&self) -> Duration {
        self.clock.mono().saturating_sub(self.watch.paused())
    }

    /// A checkpoint; `done`: share of the current step, 0..1.
    fn at(&self, done: f32) -> Result<(), Stop> {
        let stage = self.current.map_or(Stage::Load, |(stage, _)| stage);
        self.reached.set(self.reached.get().max(done));
        self.watch.checkpoint(stage, self.reached.get())
    }

    /// The result is not what the configuration asks for: good enough to be shown, not to be offered again.
    fn stand_in(&self) {
        self.stood_in.set(true);
    }

    /// The times of the steps that ran, the current one's until now.
    fn finished(&self) -> StepMs {
        let mut ms = self.ms;
        if let Some((stage, since)) = self.current {
            ms.set(stage, millis(self.now().saturating_sub(since)));
        }
        ms
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

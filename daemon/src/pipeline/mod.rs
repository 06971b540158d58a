//! The pipeline: load, segment, reflections, enhance, save. One file a stage; this one runs them, reports progress, honours stop.

use std::path::PathBuf;

use crate::domain::{
    fault::Fault,
    ids::Sha256,
    photo::Source,
    report::Report,
    stage::{Stage, StepMs},
    transition::Outcome,
};

/// One photo to work on.
pub struct Input {
    /// The original, read-only.
    pub photo: PathBuf,
    pub sha256: Sha256,
    pub source: Source,
    /// Where image.jpg, mask.png, synthetic.png, thumb.jpg and report.json go. Filled as `<out>.tmp`, fsynced, then renamed: a
    /// folder with its final name is complete. One that is there already is replaced.
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
}

/// How a run ended without a result.
#[derive(Debug)]
pub enum Ended {
    Fault(Fault, StepMs),
    Stopped,
}

/// A finished run: what the store keeps, and the report that was written.
#[derive(Debug)]
pub struct Done {
    pub outcome: Outcome,
    pub report: Report,
}

#[derive(Clone)]
pub struct Pipeline {}

#[allow(clippy::todo, unused_variables)]
impl Pipeline {
    pub fn run(&self, input: &Input, watch: &dyn Watch) -> Result<Done, Ended> {
        todo!()
    }
}

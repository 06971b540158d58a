//! Which providers run a network, and whether to believe them.
//!
//! ```text
//!   [tensorrt, cuda] -> [cuda] -> [cpu]      best first; the first tier that passes runs the network
//!   a tier:  registers? -> load -> trial run -> finite? -> a GPU's answer within max_error of the CPU's own? -> the profile says what ran
//! ```
//!
//! A provider that "is there" may still run nothing, or run it wrongly: a driver that does not fit, a kernel for another chip, fp16 where it
//! does not do. So the trial runs one pattern, the same each time, and what counts is its answer and the profile of that run.

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::manifest::{ModelRow, Order, Role};
use crate::{
    domain::fault::Code,
    imaging::tile,
    ports::{Model, ModelError, ModelRuntime, Placement, RunStop, Share, Tensor},
};

/// A trial run that takes longer will not come back: minutes are what the largest network needs for one tile on the slowest CPU.
const TRIAL_LIMIT: Duration = Duration::from_secs(120);
/// Smallest window of a network that enlarges, px.
const MIN_WINDOW: usize = 64;
/// The CPU's answer to the trial, kept beside an engine: a large network takes the CPU half a minute for it.
const REFERENCE: &str = "reference.f32";

/// What really runs a network: read from its trial run, never from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunsOn {
    /// Where the nodes spent most of their time: "tensorrt", "cuda" or "cpu".
    pub provider: String,
    /// "fp32", "fp16".
    pub precision: String,
    /// Why it is not the provider that was asked for first.
    pub reason: Option<String>,
    /// All providers that ran nodes, the one with the most time first.
    pub nodes: Vec<Share>,
}

impl RunsOn {
    /// "tensorrt 118 nodes, cpu 2 nodes"
    pub fn by_nodes(&self) -> String {
        self.nodes.iter().map(|s| format!("{} {} nodes", s.provider, s.nodes)).collect::<Vec<_>>().join(", ")
    }
}

/// A network that passed its trial.
pub struct Proven {
    pub model: Box<dyn Model>,
    pub runs_on: RunsOn,
}

/// The tiers of a configuration: each GPU provider together with those after it, the CPU alone last. The CPU is always there.
pub fn tiers(providers: &[String]) -> Vec<Vec<String>> {
    let gpu: Vec<String> = providers.iter().filter(|p| *p != "cpu").cloned().collect();
    let mut tiers: Vec<Vec<String>> = (0..gpu.len()).map(|i| gpu[i..].to_vec()).collect();
    tiers.push(Vec::new());
    tiers
}

/// Side of the windows that a network with a free input gets where every run has one size, px. `tile`: as configured.
pub fn window(row: &ModelRow, tile: usize) -> usize {
    tile.max(MIN_WINDOW).max(tile::smallest(row.overlap)).next_multiple_of(8)
}

/// The one shape of all runs, which an engine can be built for. None: the input's size follows the photo.
pub fn fixed_shape(row: &ModelRow, tile: usize) -> Option<Vec<usize>> {
    let [n, c, h, w] = row.input.shape;
    let channels = c.max(1) + usize::from(row.mask.is_some());
    match row.role {
        _ if h > 0 && w > 0 => Some(vec![n.max(if row.role == Role::Enhancement { row.batch } else { 1 }).max(1), channels, h, w]),
        Role::Enhancement => Some(vec![row.batch.max(1), channels, window(row, tile), window(row, tile)]),
        _ => None,
    }
}

/// The trial's input: waves with grain, the same each time, over the input's whole range; a mask gets a hole in the middle.
pub fn canary(row: &ModelRow, shape: &[usize]) -> Tensor {
    let [_, channels, h, w] = shape[..] else { return Tensor { shape: shape.to_vec(), data: vec![0.5; shape.iter().product()] } };
    let mut grain = 0x2545_f491_u32; // any seed but 0: xorshift stays where it is there
    let mut noise = || {
        grain ^= grain << 13;
        grain ^= grain >> 17;
        grain ^= grain << 5;
        grain as f32 / u32::MAX as f32
    };
    let value = |i: usize, noise: f32| {
        let (c, y, x) = (i / (h * w) % channels, i / w % h, i % w);
        if let (Some(mask), true) = (&row.mask, c + 1 == channels) {
            let hole = (h / 3..=h / 2).contains(&y) && (w / 3..=w / 2).contains(&x);
            return mask.range[usize::from(hole)];
        }
        let [black, white] = match c {
            0..3 => row.input.ends(if row.input.order == Order::Rgb { c } else { 2 - c }),
            _ => row.input.range, // the map of a network that takes it as a fourth channel
        };
        let wave = ((x as f32 * 0.21 + c as f32).sin() + (y as f32 * 0.13).cos()) * 0.2 + 0.5;
        black + (white - black) * (wave + (noise - 0.5) * 0.2)
    };
    Tensor { shape: shape.to_vec(), data: (0..shape.iter().product()).map(|i| value(i, noise())).collect() }
}

/// Largest difference between two answers, share of the output's range; None: they have different sizes.
pub fn difference(answer: &[f32], reference: &[f32], row: &ModelRow) -> Option<f32> {
    let [black, white] = row.output_range();
    let most = || answer.iter().zip(reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    (answer.len() == reference.len()).then(|| most() / (white - black).abs().max(f32::MIN_POSITIVE))
}

/// A network that was loaded and ran: its answer, and what ran it.
type Tried = (Box<dyn Model>, Vec<f32>, Vec<Share>);

/// One network on its way through the tiers.
pub struct Trial<'a> {
    pub runtime: &'a dyn ModelRuntime,
    pub row: &'a ModelRow,
    /// Its file, verified.
    pub file: PathBuf,
    pub fp16: bool,
    /// Ends a trial run before its limit.
    pub stop: &'a RunStop,
}

impl Trial<'_> {
    /// The first of the tiers that passes, the CPU's last. `reasons`: why better ones were left out. Errors: those of the last tier;
    /// ModelMismatch at once, since a file that does not fit would fit no other provider either.
    pub fn first_of(&self, tiers: &[Vec<String>], wanted: &str, mut reasons: Vec<String>) -> Result<Proven, ModelError> {
        for tier in tiers {
            let result = self.runtime.registers(tier).and_then(|()| self.of(tier, None));
            match result {
                Ok(mut proven) => {
                    let on = &mut proven.runs_on;
                    if on.provider != wanted {
                        reasons.push(on.reason.take().unwrap_or_else(|| format!("{} did the work", on.provider)));
                        on.reason = Some(reasons.join("; "));
                    }
                    return Ok(proven);
                }
                Err(e) if tier.is_empty() || e.code == Code::ModelMismatch || self.stop.is_stopped() => return Err(e),
                Err(e) => {
                    tracing::info!(model = self.row.name, ?tier, error = %e, "these providers cannot run the network");
                    reasons.push(format!("{}: {}", tier[0], e.detail));
                }
            }
        }
        unreachable!("the last tier is the CPU's, and it returns")
    }

    /// One tier. `engine`: TensorRT's folder, and the one shape that it is for.
    pub fn of(&self, tier: &[String], engine: Option<(&Path, Vec<usize>)>) -> Result<Proven, ModelError> {
        let (folder, shape) = engine.map(|(folder, shape)| (folder.to_owned(), shape)).unzip();
        let (model, answer, nodes) = self.run(tier, folder.clone(), shape.clone())?;
        if !tier.is_empty() {
            let reference = self.reference(folder.as_deref(), shape)?;
            self.compare(tier, &answer, &reference)?;
        }
        let provider = nodes.first().map_or_else(|| "cpu".to_owned(), |share| share.provider.clone());
        let precision = if provider == "tensorrt" && self.fp16 { "fp16" } else { "fp32" };
        let reason =
            tier.first().filter(|first| **first != provider).map(|first| format!("{first} registered, and {provider} did the work"));
        Ok(Proven { model, runs_on: RunsOn { provider, precision: precision.to_owned(), reason, nodes } })
    }

    /// Loads it and runs the trial: the model, its answer, what ran.
    fn run(&self, tier: &[String], engine: Option<PathBuf>, shape: Option<Vec<usize>>) -> Result<Tried, ModelError> {
        let mut spec = self.row.spec(self.file.clone());
        spec.canary = shape.unwrap_or(spec.canary);
        let on = Placement { providers: tier.to_vec(), fp16: self.fp16, engine };
        let mut model = self.runtime.load(&spec, &on)?;
        let input = canary(self.row, &spec.canary);
        let (out, nodes) = limited(TRIAL_LIMIT, self.stop, |stop| model.trial(&input, stop)).map_err(|e| self.failed(tier, &e.detail))?;
        out.iter().try_for_each(|t| self.row.check_answer(&spec.canary, &t.shape))?;
        let answer = out.into_iter().next().map(|t| t.data).unwrap_or_default();
        if answer.is_empty() || answer.iter().any(|v| !v.is_finite()) {
            return Err(self.failed(tier, "the output is not finite"));
        }
        Ok((model, answer, nodes))
    }

    /// The CPU's own answer, from beside the engine where it is kept there.
    fn reference(&self, kept: Option<&Path>, shape: Option<Vec<usize>>) -> Result<Vec<f32>, ModelError> {
        let file = kept.map(|folder| folder.join(REFERENCE));
        if let Some(bytes) = file.as_ref().and_then(|f| std::fs::read(f).ok()) {
            return Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect());
        }
        let (_, answer, _) = self.run(&[], None, shape)?;
        if let Some(file) = file {
            let bytes: Vec<u8> = answer.iter().flat_map(|v| v.to_le_bytes()).collect();
            if let Err(e) = std::fs::write(&file, bytes) {
                tracing::warn!(file = %file.display(), error = %e, "the CPU's answer is not kept; it is made again next time");
            }
        }
        Ok(answer)
    }

    fn compare(&self, tier: &[String], answer: &[f32], reference: &[f32]) -> Result<(), ModelError> {
        let most = self.row.max_error;
        match difference(answer, reference, self.row) {
            Some(error) if error <= most => Ok(()),
            Some(error) => Err(self.failed(tier, &format!("its answer is {error:.4} of the range off the CPU's; {most} is allowed"))),
            None => Err(self.failed(tier, &format!("{} values came out, {} on the CPU", answer.len(), reference.len()))),
        }
    }

    fn failed(&self, tier: &[String], why: &str) -> ModelError {
        let on = tier.first().map_or("cpu", String::as_str);
        ModelError { code: Code::ModelFailed, detail: format!("{}: the trial run on {on}: {why}", self.row.name) }
    }
}

/// Work that is told to end when its time is over, or when `outer` is.
fn limited<T>(limit: Duration, outer: &RunStop, work: impl FnOnce(&RunStop) -> T) -> T {
    let stop = RunStop::default();
    let theirs = stop.clone();
    let _outer_counts_too = outer.on_stop(move || theirs.stop());
    let (done, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let theirs = &stop;
        let watch = move || {
            if ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                theirs.stop();
            }
        };
        if let Err(e) = thread::Builder::new().name("model-trial".into()).spawn_scoped(scope, watch) {
            tracing::warn!(error = %e, "a trial run has no limit");
        }
        let out = work(&stop);
        drop(done);
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::manifest::{Manifest, MaskPort};

    fn row(name: &str) -> ModelRow {
        let manifest = Manifest::load("/nonexistent".as_ref(), "/nonexistent".as_ref()).expect("the built-in one");
        manifest.get(name).expect("row").clone()
    }

    #[test]
    fn each_gpu_provider_is_tried_with_those_after_it_and_the_cpu_is_always_last() {
        let of = |providers: &[&str]| tiers(&providers.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["tensorrt", "cuda", "cpu"]), [vec!["tensorrt", "cuda"], vec!["cuda"], vec![]]);
        assert_eq!(of(&["cuda"]), [vec!["cuda"], vec![]]);
        assert_eq!(of(&["cpu"]), [Vec::<String>::new()]);
    }

    #[test]
    fn the_canary_is_the_same_each_time_fills_the_range_and_is_not_flat() {
        let row = row("realesr-animevideov3-x4");
        let tensor = canary(&row, &[1, 3, 32, 32]);
        assert_eq!(tensor, canary(&row, &[1, 3, 32, 32]));
        let (low, high) = tensor.data.iter().fold((1.0f32, 0.0f32), |(l, h), v| (l.min(*v), h.max(*v)));
        assert!(low >= 0.0 && high <= 1.0 && high - low > 0.5, "{low} to {high}");
    }

    #[test]
    fn a_mask_has_a_hole_in_the_middle_and_nothing_else() {
        let mut row = row("iris");
        row.mask = Some(MaskPort { name: "mask".into(), range: [0.0, 1.0] });
        let tensor = canary(&row, &[1, 4, 12, 12]);
        let mask = &tensor.data[3 * 144..];
        assert!(mask.iter().all(|v| *v == 0.0 || *v == 1.0) && mask[5 * 12 + 5] == 1.0 && mask[0] == 0.0);
    }

    #[test]
    fn an_engine_has_one_shape_and_a_network_whose_input_follows_the_photo_has_none() {
        assert_eq!(fixed_shape(&row("iris"), 256), Some(vec![1, 3, 128, 128]));
        assert_eq!(fixed_shape(&row("realesr-animevideov3-x4"), 250), Some(vec![1, 3, 256, 256]));
        assert_eq!(fixed_shape(&ModelRow { batch: 4, ..row("realesr-animevideov3-x4") }, 64), Some(vec![4, 3, 64, 64]));
        let mut free = row("realesr-animevideov3-x4");
        free.role = Role::Reflections;
        assert_eq!(fixed_shape(&free, 256), None);
    }

    #[test]
    fn differences_count_as_shares_of_the_outputs_range() {
        let mut row = row("iris");
        row.output.range = Some([0.0, 255.0]);
        assert_eq!(difference(&[10.0, 20.0], &[10.0, 71.0], &row), Some(0.2));
        assert_eq!(difference(&[10.0], &[10.0, 71.0], &row), None);
    }

    #[test]
    fn work_without_an_end_is_told_to_end_by_its_limit_and_from_outside() {
        let until_told = |stop: &RunStop| {
            while !stop.is_stopped() {
                thread::yield_now();
            }
        };
        limited(Duration::from_millis(1), &RunStop::default(), until_told);
        let outer = RunStop::default();
        outer.stop();
        limited(Duration::from_secs(3600), &outer, until_told);
    }
}

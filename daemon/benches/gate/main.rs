//! `make bench-gate`: the quality gate's figures on real and on drawn eyes, and where it begins to refuse.
//!
//! ```text
//!   FOLDER/images/*, FOLDER/negatives/*   figures of good eyes beside those of what is none; who is refused, and why
//!   drawn eyes, one thing made worse      blur, motion, exposure, glare, contrast: share refused at each level
//!   drawn eyes by colour                  dark brown ones must not be refused more than others
//! ```
//!
//! `cargo bench --bench gate -- [FOLDER]`, or EYES_DIR; without the folder the first part is skipped. The network finds the irises where the
//! runtime is (IRISD_TEST_ONNXRUNTIME), else the classical segmenter. GATE_EYES=n: drawn eyes a ramp (24).
#![allow(clippy::print_stdout)]

mod ramps;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use irisd::{
    adapters::model_ort::{OrtOptions, OrtRuntime},
    config::Config,
    domain::{fault::Code, quality::Metric, report::Ellipse},
    imaging::{
        highlights, mask,
        quality::{self, Judgement, Seen, Thresholds},
        raster::{Gray, Rgb},
        segment, synth,
    },
    inference::{
        Engine, Options,
        manifest::{Manifest, Role},
    },
    pipeline::{Settings, eyenet},
    ports::{ModelError, ModelRuntime},
};

/// Eyes that a kiosk would see, by what stands before the first underscore; other photos are near-infrared, or exposed wrongly on purpose.
const GOOD: [&str; 5] = ["ir", "ut", "mc", "p3", "sc"];
/// The contract's default, and a lower one for comparison.
const COVERAGES: [f64; 2] = [0.05, 0.02];
/// Drawn eyes looked at for the rate by colour.
const COLOUR_SEEDS: u64 = 210;

/// Finds irises and judges them as the pipeline does.
struct Gate {
    engine: Option<Engine>,
    thresholds: Thresholds,
}

/// What came of one photo.
struct Judged {
    /// None: nothing like an iris was found.
    found: Option<(f64, Judgement)>,
    gate_ms: f64,
}

impl Judged {
    /// What the person would be told with this least coverage; None: the photo passes.
    fn refused(&self, min_coverage: f64) -> Option<Code> {
        match &self.found {
            None => Some(Code::NoIris),
            Some((coverage, _)) if *coverage < min_coverage => Some(Code::NoIris),
            Some((_, judgement)) => judgement.faults.first().map(|f| f.code),
        }
    }

    fn metrics(&self) -> impl Iterator<Item = (&String, &Metric)> {
        self.found.iter().flat_map(|(_, j)| &j.quality.metrics)
    }
}

impl Gate {
    fn judge(&self, photo: &Rgb) -> Result<Judged> {
        type Found = (Gray, Ellipse, Option<Ellipse>, f64);
        let found: Option<Found> = match &self.engine {
            Some(engine) => {
                let row = engine.installed(Role::Segmentation)[0];
                let found = eyenet::find(photo, row, engine, |_| Ok::<_, ModelError>(()))?;
                found.map(|f| (f.mask, f.limbus, f.pupil, f.confidence))
            }
            None => segment::classical(photo).map(|f| (f.mask, f.limbus, f.pupil, f.confidence)),
        };
        let Some((mask, limbus, pupil, confidence)) = found else { return Ok(Judged { found: None, gate_ms: 0.0 }) };
        let glare = highlights::find(photo, &limbus, pupil.as_ref(), &mask).map.expand(photo.width, photo.height);
        let seen = Seen { photo, mask: &mask, limbus: &limbus, pupil: pupil.as_ref(), glare: &glare, confidence };
        let begun = Instant::now();
        let judgement = quality::measure(&seen, &self.thresholds);
        Ok(Judged { found: Some((mask::coverage(&mask), judgement)), gate_ms: begun.elapsed().as_secs_f64() * 1e3 })
    }
}

fn main() -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the package lies in the repository")?;
    let engine = engine(root).inspect_err(|e| println!("network: skipped, {e:#}; the classical segmenter looks")).ok();
    let gate = Gate { engine, thresholds: Settings::from_config(&Config::default()).thresholds };
    // cargo bench adds --bench.
    let named = std::env::args().skip(1).find(|a| !a.starts_with("--")).or_else(|| std::env::var("EYES_DIR").ok());
    match named.map(PathBuf::from).filter(|folder| folder.join("images").is_dir()) {
        Some(folder) => photos(&gate, &folder)?,
        None => println!("photos: skipped, no folder with images/ was named (make bench-gate EYES=FOLDER)"),
    }
    ramps::all(&gate)?;
    colours(&gate)?;
    Ok(ExitCode::SUCCESS)
}

/// The network that ships, on the CPU.
fn engine(root: &Path) -> Result<Engine> {
    let library = std::env::var_os("IRISD_TEST_ONNXRUNTIME").context("IRISD_TEST_ONNXRUNTIME names no library")?;
    let runtime = OrtRuntime::open(OrtOptions { library: library.into(), threads: 2 }).map(|r| Arc::new(r) as Arc<dyn ModelRuntime>)?;
    let engine = Engine::new(Manifest::load(Path::new(""), &root.join("weights"))?, Ok(runtime), Options::default());
    ensure!(!engine.installed(Role::Segmentation).is_empty(), "no segmentation network in weights/");
    Ok(engine)
}

// --- real photos

fn photos(gate: &Gate, folder: &Path) -> Result<()> {
    let look = |sub: &str| -> Result<Vec<(String, Judged)>> {
        let mut paths = std::fs::read_dir(folder.join(sub))?.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        let judge = |path: &PathBuf| -> Result<(String, Judged)> {
            let image = image::open(path).with_context(|| path.display().to_string())?.to_rgb8();
            let photo = Rgb { width: image.width() as usize, height: image.height() as usize, data: image.into_raw() };
            let name = path.file_name().context("a file")?.to_string_lossy().into_owned();
            Ok((name, gate.judge(&photo)?))
        };
        paths.iter().map(judge).collect()
    };
    let mut good = look("images")?;
    good.retain(|(name, _)| name.split('_').next().is_some_and(|prefix| GOOD.contains(&prefix)));
    let negatives = look("negatives")?;
    figures(&good, &negatives);
    for coverage in COVERAGES {
        refusals("good eyes", &good, coverage);
        refusals("negatives", &negatives, coverage);
    }
    let mut ms: Vec<f64> = good.iter().map(|(_, j)| j.gate_ms).filter(|ms| *ms > 0.0).collect();
    println!("  the gate's own time a photo: median {:.1} ms, p95 {:.1} ms", quantile(&mut ms, 0.5), quantile(&mut ms, 0.95));
    Ok(())
}

/// Quantiles of each figure, and how many of the good would fail by it alone.
fn figures(good: &[(String, Judged)], negatives: &[(String, Judged)]) {
    println!("figures: {} good eyes (fails = by this figure alone), negatives as far as something was found", good.len());
    let names = ["min", "5 %", "median", "95 %", "max", "fails"].map(|n| format!("{n:>8}")).concat();
    println!("  {:<22} {:>8} |{names} | negatives {:>8}{:>8}{:>8}", "", "limit", "min", "median", "max");
    let mut by_name: BTreeMap<&str, Figure> = BTreeMap::new();
    for (name, m) in good.iter().flat_map(|(_, j)| j.metrics()) {
        let figure = by_name.entry(name).or_default();
        figure.limit = m.threshold;
        figure.good.push(m.value);
        figure.fails += usize::from(!m.pass);
    }
    for (name, m) in negatives.iter().flat_map(|(_, j)| j.metrics()) {
        by_name.entry(name).or_default().none.push(m.value);
    }
    for (name, Figure { limit, mut good, fails, mut none }) in by_name {
        let column = |v: f64| format!("{v:>8.3}");
        let eyes = [0.0, 0.05, 0.5, 0.95, 1.0].map(|q| column(quantile(&mut good, q))).concat();
        let others = [0.0, 0.5, 1.0].map(|q| column(quantile(&mut none, q))).concat();
        println!("  {name:<22} {limit:>8.3} |{eyes}{fails:>8} |           {others}");
    }
}

/// One figure over all photos.
#[derive(Default)]
struct Figure {
    limit: f64,
    good: Vec<f64>,
    fails: usize,
    none: Vec<f64>,
}

fn refusals(title: &str, all: &[(String, Judged)], min_coverage: f64) {
    let mut codes = BTreeMap::<Code, Vec<&str>>::new();
    for (name, judged) in all {
        if let Some(code) = judged.refused(min_coverage) {
            codes.entry(code).or_default().push(name);
        }
    }
    let refused: usize = codes.values().map(Vec::len).sum();
    println!("  {title} refused at min_coverage {min_coverage}: {refused} of {}", all.len());
    codes.iter().for_each(|(code, names)| println!("    {} {}: {}", code.name(), names.len(), names.join(" ")));
}

/// Linear between neighbours, like numpy's; NaN of nothing.
fn quantile(values: &mut [f64], share: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    let at = share * (values.len() - 1) as f64;
    let (low, high) = (values[at as usize], values[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

// --- colours

/// Exposures, EV.
const EXPOSURES: [f64; 5] = [0.0, -2.0, -4.0, -5.0, 2.0];

/// Eyes of one colour.
#[derive(Default)]
struct Colour {
    eyes: usize,
    refused: [usize; EXPOSURES.len()],
    warned: usize,
    codes: BTreeMap<String, usize>,
}

/// Eyes that are just as good but for their colour, straight and in poor light.
fn colours(gate: &Gate) -> Result<()> {
    println!("colours: {COLOUR_SEEDS} drawn eyes of 640x480; refused at each exposure (EV), %; contrast warnings at 0 EV, %");
    let mut rows = BTreeMap::<String, Colour>::new();
    for seed in 0..COLOUR_SEEDS {
        let sample = synth::eye(seed, 640, 480);
        let row = rows.entry(sample.truth.iris_colour).or_default();
        row.eyes += 1;
        for (i, ev) in EXPOSURES.into_iter().enumerate() {
            let judged = gate.judge(&ramps::expose(&sample.photo, ev))?;
            if let Some(code) = judged.refused(COVERAGES[0]) {
                row.refused[i] += 1;
                *row.codes.entry(code.name()).or_default() += 1;
            }
            let warns = i == 0 && judged.metrics().any(|(name, m)| name.ends_with("contrast") && !m.pass);
            row.warned += usize::from(warns);
        }
    }
    let head: String = EXPOSURES.iter().map(|ev| format!("{ev:>7.0}")).collect();
    println!("  {:<12} {:>4}{head} {:>9}  codes", "", "n", "warned");
    for (colour, row) in rows {
        let share = |k: usize| 100.0 * k as f64 / row.eyes as f64;
        let shares: String = row.refused.iter().map(|k| format!("{:>7.1}", share(*k))).collect();
        println!("  {colour:<12} {:>4}{shares} {:>9.1}  {:?}", row.eyes, share(row.warned), row.codes);
    }
    Ok(())
}

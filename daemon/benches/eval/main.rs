//! `make eval`: how well irises are found, on a folder of real eye photos that stays outside the repository (no licence to hand them on).
//!
//! ```text
//!   FOLDER/images/X.jpg     eyes           FOLDER/masks/X.png    truth: visible iris with pupil, > 127
//!   FOLDER/negatives/*      no usable eye  FOLDER/circles.tsv    truth: limbus, pupil, lid lines, px of the photo
//! ```
//!
//! First the segmenters alone, the classical one and the network, then the whole pipeline with its gate through `irisd process`. A photo that
//! was refused counts as IoU 0 in the line "refused = 0" and is left out in "completed". At last how well each segmenter's mask follows the
//! good photos when they are exposed, flipped, turned, scaled and compressed otherwise (`tests/moves`). `cargo bench --bench eval -- [FOLDER]`,
//! or EYES_DIR; without the folder it says so and ends with 0. EVAL_MOVES=n looks at every n-th photo only, 0 at none.
#![allow(clippy::print_stdout)]

#[path = "../../tests/moves/mod.rs"]
mod moves;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use irisd::{
    adapters::model_ort::{OrtOptions, OrtRuntime},
    config::Config,
    domain::report::{Ellipse, Report},
    imaging::{
        geometry, mask,
        raster::{Gray, Rgb},
        segment,
    },
    inference::{
        Engine, Options, RunError,
        manifest::{Manifest, Role},
    },
    pipeline::eyenet,
    ports::ModelRuntime,
};

/// Eyes that a kiosk would see; other prefixes are near-infrared, or exposed wrongly on purpose.
const GOOD: [&str; 5] = ["ir", "ut", "mc", "p3", "sc"];
/// Below it a photo is iris_too_small, or of low confidence: the pipeline's defaults, for the segmenters that run without it.
fn least() -> (f64, f64) {
    let config = Config::default();
    (config.segment.min_coverage, config.quality.min_confidence)
}

struct Photo {
    path: PathBuf,
    name: String,
    /// What stands before the first underscore.
    prefix: String,
    negative: bool,
    truth: Option<Gray>,
    limbus: Option<Ellipse>,
}

/// What came of a photo. A refused one may still have a mask, where the segmenter was asked alone.
#[derive(Default)]
struct Outcome {
    refused: Option<String>,
    mask: Option<Gray>,
    limbus: Option<Ellipse>,
    confidence: f64,
    ms: Vec<(&'static str, f64)>,
}

fn main() -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the package lies in the repository")?;
    // cargo bench adds --bench.
    let named = std::env::args().skip(1).find(|a| !a.starts_with("--")).or_else(|| std::env::var("EYES_DIR").ok());
    let Some(folder) = named.map(PathBuf::from).filter(|folder| folder.join("images").is_dir()) else {
        println!("skipped: no folder with images/ was named (make eval EYES=FOLDER)");
        return Ok(ExitCode::SUCCESS);
    };
    let photos = load(&folder)?;
    let classical = photos.iter().map(classical).collect::<Result<Vec<_>>>()?;
    print("classical segmenter", &photos, &classical);
    let engine = engine(root).inspect_err(|e| println!("\nnetwork: skipped, {e:#}")).ok();
    if let Some(engine) = &engine {
        let found = photos.iter().map(|p| network(p, engine)).collect::<Result<Vec<_>>>()?;
        print("network", &photos, &found);
    }
    moved(&photos, "classical segmenter", |photo| Ok(segment::classical(photo).map(|f| f.mask)))?;
    if let Some(engine) = &engine {
        moved(&photos, "network", |photo| Ok(search(photo, engine)?.map(|f| f.mask)))?;
    }
    let Some(program) = option_env!("CARGO_BIN_EXE_irisd") else {
        println!("\npipeline: skipped, built without the program");
        return Ok(ExitCode::SUCCESS);
    };
    print("pipeline", &photos, &pipeline(program, root, &photos)?);
    Ok(ExitCode::SUCCESS)
}

// --- photos and their truth

fn load(folder: &Path) -> Result<Vec<Photo>> {
    let table = std::fs::read_to_string(folder.join("circles.tsv")).unwrap_or_default();
    let circles: HashMap<&str, Vec<Option<f64>>> = table
        .lines()
        .skip(1)
        .filter_map(|l| l.split_once('\t'))
        .map(|(name, rest)| (name, rest.split('\t').map(|v| v.parse().ok()).collect()))
        .collect();
    let mut photos = Vec::new();
    for (sub, negative) in [("images", false), ("negatives", true)] {
        let Ok(entries) = std::fs::read_dir(folder.join(sub)) else { continue };
        let mut paths = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            let name = path.file_name().context("a file")?.to_string_lossy().into_owned();
            let prefix = name.split('_').next().unwrap_or_default().to_owned();
            let circle = circles.get(name.as_str());
            let column = |i: usize| circle.and_then(|c| c.get(i).copied().flatten());
            let limbus = match [0, 1, 2, 3].map(column) {
                [Some(cx), Some(cy), Some(rx), Some(ry)] => Some(Ellipse { cx, cy, rx, ry, angle_deg: 0.0 }),
                _ => None,
            };
            let drawn = folder.join("masks").join(&name).with_extension("png");
            let truth = match (&limbus, negative) {
                (_, false) if drawn.exists() => Some(gray(&drawn)?),
                (Some(limbus), false) => {
                    let (width, height) = image::image_dimensions(&path)?;
                    Some(between_lids(width as usize, height as usize, limbus, column(8), column(9)))
                }
                _ => None,
            };
            photos.push(Photo { path, name, prefix, negative, truth, limbus });
        }
    }
    ensure!(!photos.is_empty(), "no photos in {}", folder.display());
    Ok(photos)
}

/// The limbus' ellipse cut by the lid lines.
fn between_lids(width: usize, height: usize, limbus: &Ellipse, top: Option<f64>, bottom: Option<f64>) -> Gray {
    let mut m = mask::ellipse(width, height, limbus);
    let (from, to) = (top.map_or(0, |v| v as usize).min(height), bottom.map_or(height, |v| v as usize).min(height));
    m.data[..from * width].fill(0);
    m.data[to * width..].fill(0);
    m
}

fn gray(path: &Path) -> Result<Gray> {
    let image = image::open(path).with_context(|| path.display().to_string())?.to_luma8();
    Ok(Gray { width: image.width() as usize, height: image.height() as usize, data: image.into_raw() })
}

fn rgb(path: &Path) -> Result<Rgb> {
    let image = image::open(path).with_context(|| path.display().to_string())?.to_rgb8();
    Ok(Rgb { width: image.width() as usize, height: image.height() as usize, data: image.into_raw() })
}

// --- the segmenters alone, and the whole way

fn classical(photo: &Photo) -> Result<Outcome> {
    let rgb = rgb(&photo.path)?;
    let start = Instant::now();
    let found = segment::classical(&rgb).map(|f| (f.mask, f.limbus, f.confidence));
    Ok(outcome(found, start))
}

fn network(photo: &Photo, engine: &Engine) -> Result<Outcome> {
    let rgb = rgb(&photo.path)?;
    let start = Instant::now();
    let found = search(&rgb, engine)?.map(|f| (f.mask, f.limbus, f.confidence));
    Ok(outcome(found, start))
}

fn outcome(found: Option<(Gray, Ellipse, f64)>, start: Instant) -> Outcome {
    let ms = vec![("segment", start.elapsed().as_secs_f64() * 1e3)];
    let Some((mask, limbus, confidence)) = found else { return Outcome { refused: Some("no_iris".into()), ms, ..Outcome::default() } };
    let (coverage_wanted, confidence_wanted) = least();
    let refused = match () {
        () if mask::coverage(&mask) < coverage_wanted => Some("iris_too_small".to_owned()),
        () if confidence < confidence_wanted => Some("low_confidence".to_owned()),
        () => None,
    };
    Outcome { refused, mask: Some(mask), limbus: Some(limbus), confidence, ms }
}

/// The network that ships, on the CPU.
fn engine(root: &Path) -> Result<Engine> {
    let library = std::env::var_os("IRISD_TEST_ONNXRUNTIME").context("IRISD_TEST_ONNXRUNTIME names no library")?;
    let options = OrtOptions { library: library.into(), threads: 2 };
    let runtime = OrtRuntime::open(options).map(|r| Arc::new(r) as Arc<dyn ModelRuntime>)?;
    let engine = Engine::new(Manifest::load(Path::new(""), &root.join("weights"))?, Ok(runtime), Options::default());
    ensure!(!engine.installed(Role::Segmentation).is_empty(), "no segmentation network in weights/");
    Ok(engine)
}

fn search(photo: &Rgb, engine: &Engine) -> Result<Option<eyenet::Found>> {
    Ok(eyenet::find(photo, engine.installed(Role::Segmentation)[0], engine, |_| Ok::<_, RunError>(()))?)
}

/// How well a mask follows its photo: IoU of the moved photo's mask with the moved mask, 0 where there is none any more.
fn moved(photos: &[Photo], title: &str, find: impl Fn(&Rgb) -> Result<Option<Gray>>) -> Result<()> {
    let every = std::env::var("EVAL_MOVES").ok().and_then(|v| v.parse().ok()).unwrap_or(1);
    if every == 0 {
        return Ok(());
    }
    let mut overlaps: Vec<Vec<f64>> = vec![Vec::new(); moves::ALL.len()];
    for photo in photos.iter().filter(|p| !p.negative && GOOD.contains(&p.prefix.as_str())).step_by(every) {
        let rgb = rgb(&photo.path)?;
        let Some(before) = find(&rgb)? else { continue };
        for (by, overlaps) in moves::ALL.iter().zip(&mut overlaps) {
            overlaps.push(find(&by.photo(&rgb))?.map_or(0.0, |after| moves::iou(&after, &by.mask(&before))));
        }
    }
    println!("\n{title}, good photos moved\n  {:<22} {:>4} {:>7} {:>7} {:>7} {:>7}", "", "n", "mean", "median", "p5", ">= .9");
    for (by, mut v) in moves::ALL.iter().zip(overlaps) {
        let n = v.len() as f64;
        let (mean, fair) = (v.iter().sum::<f64>() / n, 100.0 * v.iter().filter(|o| **o >= 0.9).count() as f64 / n);
        let (median, p5) = (percentile(&mut v, 0.5), percentile(&mut v, 0.05));
        println!("  {:<22} {:>4} {mean:>7.3} {median:>7.3} {p5:>7.3} {fair:>6.1}%", format!("{by:?}"), v.len());
    }
    Ok(())
}

/// One `irisd process --json` over all photos. The enhancement stays plain and the weights are the repository's, unless the environment
/// says otherwise: neither changes a mask.
fn pipeline(program: &str, root: &Path, photos: &[Photo]) -> Result<Vec<Outcome>> {
    let out = tempfile::tempdir()?;
    let mut command = Command::new(program);
    command.arg("process").args(photos.iter().map(|p| &p.path)).arg("--out").arg(out.path()).arg("--json");
    for (key, value) in [("IRISD_ENHANCE__MODEL", "lanczos".into()), ("IRISD_PATHS__WEIGHTS", root.join("weights").into_os_string())] {
        if std::env::var_os(key).is_none() {
            command.env(key, value);
        }
    }
    let done = command.output().with_context(|| program.to_owned())?;
    let lines: Vec<serde_json::Value> =
        String::from_utf8_lossy(&done.stdout).lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    ensure!(!lines.is_empty(), "irisd process said nothing ({}): {}", done.status, String::from_utf8_lossy(&done.stderr));
    let by_photo: HashMap<&str, &serde_json::Value> =
        lines.iter().filter_map(|l| Some((Path::new(l["photo"].as_str()?).file_name()?.to_str()?, l))).collect();
    photos
        .iter()
        .map(|p| {
            let line = by_photo.get(p.name.as_str()).with_context(|| format!("no line for {}", p.name))?;
            if line["status"] != "completed" {
                let code = line["error_code"].as_str().unwrap_or("no code");
                return Ok(Outcome { refused: Some(code.to_owned()), ..Outcome::default() });
            }
            let file = |kind: &str| -> Result<PathBuf> {
                let named = Path::new(line["files"][kind].as_str().with_context(|| format!("{}: no {kind}", p.name))?);
                Ok(if named.exists() { named.to_owned() } else { out.path().join(named) })
            };
            let report: Report = serde_json::from_slice(&std::fs::read(file("report")?)?).with_context(|| p.name.clone())?;
            Ok(Outcome {
                refused: None,
                mask: Some(on_photo(&gray(&file("mask")?)?, &report)),
                limbus: Some(report.iris.limbus),
                confidence: report.iris.confidence,
                ms: vec![("segment", report.step_ms.segment.unwrap_or(0) as f64), ("all", report.processing_time_ms as f64)],
            })
        })
        .collect()
}

/// The enhanced image's mask (crop x scale) in px of the photo: means over scale x scale.
fn on_photo(enhanced: &Gray, report: &Report) -> Gray {
    let mut out = Gray::new(report.photo.width as usize, report.photo.height as usize);
    let (crop, scale) = (report.crop, report.scale as usize);
    for y in 0..crop.height as usize {
        for x in 0..crop.width as usize {
            let block = (y * scale..(y + 1) * scale).flat_map(|j| enhanced.row(j)[x * scale..(x + 1) * scale].iter());
            let sum: usize = block.map(|v| usize::from(*v)).sum();
            let at = (crop.y as usize + y) * out.width + crop.x as usize + x;
            out.data[at] = (sum / (scale * scale)) as u8;
        }
    }
    out
}

// --- figures

/// (IoU, differing pixels / all pixels); without a mask nothing agrees.
fn compare(found: Option<&Gray>, truth: &Gray) -> (f64, f64) {
    let Some(found) = found.filter(|f| f.data.len() == truth.data.len()) else { return (0.0, mask::coverage(truth)) };
    let (mut both, mut either) = (0usize, 0usize);
    for (a, b) in found.data.iter().zip(&truth.data) {
        both += usize::from(*a >= 128 && *b >= 128);
        either += usize::from(*a >= 128 || *b >= 128);
    }
    (both as f64 / either.max(1) as f64, (either - both) as f64 / truth.data.len() as f64)
}

/// Linear between neighbours, like numpy's.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    let at = share * (values.len() - 1) as f64;
    let (low, high) = (values[at as usize], values[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

fn line(title: &str, scores: &[(f64, f64)]) {
    let n = scores.len() as f64;
    let mut iou: Vec<f64> = scores.iter().map(|s| s.0).collect();
    let mean = iou.iter().sum::<f64>() / n;
    let fair = 100.0 * iou.iter().filter(|v| **v >= 0.7).count() as f64 / n;
    let e1 = scores.iter().map(|s| s.1).sum::<f64>() / n;
    let (median, p5) = (percentile(&mut iou, 0.5), percentile(&mut iou, 0.05));
    println!("  {title:<22} {:>4} {mean:>7.3} {median:>7.3} {p5:>7.3} {fair:>6.1}% {e1:>8.4}", scores.len());
}

fn print(title: &str, photos: &[Photo], outcomes: &[Outcome]) {
    println!("\n{title}\n  {:<22} {:>4} {:>7} {:>7} {:>7} {:>7} {:>8}", "", "n", "mean", "median", "p5", ">= .7", "E1");
    let (mut by_prefix, mut completed, mut answered) = (BTreeMap::<&str, Vec<_>>::new(), Vec::new(), Vec::new());
    let mut all = Vec::new();
    for (photo, outcome) in photos.iter().zip(outcomes) {
        let Some(truth) = &photo.truth else { continue };
        let answer = compare(outcome.mask.as_ref(), truth);
        let score = if outcome.refused.is_some() { compare(None, truth) } else { answer };
        by_prefix.entry(&photo.prefix).or_default().push(score);
        if GOOD.contains(&photo.prefix.as_str()) {
            all.push(score);
            answered.extend(outcome.mask.is_some().then_some(answer));
            completed.extend(outcome.refused.is_none().then_some(score));
        }
    }
    by_prefix.iter().for_each(|(prefix, scores)| line(prefix, scores));
    line("good eyes, refused = 0", &all);
    line("good eyes, completed", &completed);
    line("good eyes, any mask", &answered);
    limbus(photos, outcomes);
    refusals(photos, outcomes);
    let mut ms = BTreeMap::<&str, Vec<f64>>::new();
    outcomes.iter().flat_map(|o| &o.ms).for_each(|(step, v)| ms.entry(step).or_default().push(*v));
    for (step, mut v) in ms {
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        println!("  ms a photo, {step}: mean {mean:.1}, p50 {:.1}, p99 {:.1}", percentile(&mut v.clone(), 0.5), percentile(&mut v, 0.99));
    }
}

/// Of the good photos with ellipses, by prefix and together: some ellipses were drawn on the limbus, others (`mc`) are the box of a label.
fn limbus(photos: &[Photo], outcomes: &[Outcome]) {
    let mut errors = BTreeMap::<&str, (Vec<f64>, Vec<f64>)>::new();
    for (photo, outcome) in photos.iter().zip(outcomes).filter(|(p, _)| GOOD.contains(&p.prefix.as_str())) {
        if let (Some(truth), Some(found)) = (&photo.limbus, &outcome.limbus) {
            let r = geometry::radius(truth);
            for group in [photo.prefix.as_str(), "together"] {
                let (centre, radius) = errors.entry(group).or_default();
                centre.push((found.cx - truth.cx).hypot(found.cy - truth.cy) / r);
                radius.push((geometry::radius(found) - r).abs() / r);
            }
        }
    }
    for (group, (mut centre, mut radius)) in errors {
        let [c, r] = [&mut centre, &mut radius].map(|v| format!("median {:.3}, p90 {:.3}", percentile(v, 0.5), percentile(v, 0.9)));
        println!("  limbus, {group} ({} photos): centre error / R {c}; radius error / R {r}", centre.len());
    }
}

fn refusals(photos: &[Photo], outcomes: &[Outcome]) {
    let mut codes = BTreeMap::<&str, Vec<&str>>::new();
    let good: Vec<_> = photos.iter().zip(outcomes).filter(|(p, _)| !p.negative && GOOD.contains(&p.prefix.as_str())).collect();
    for (photo, outcome) in &good {
        if let Some(code) = &outcome.refused {
            codes.entry(code).or_default().push(&photo.name);
        }
    }
    let refused: usize = codes.values().map(Vec::len).sum();
    let (wanted, _) = least();
    let small = good.iter().filter(|(p, _)| p.truth.as_ref().is_some_and(|t| mask::coverage(t) < wanted)).count();
    println!("  good eyes whose truth covers less than {:.1} % of the photo: {small}", 100.0 * wanted);
    println!("  good eyes refused: {refused} of {} ({:.1} %)", good.len(), 100.0 * refused as f64 / good.len().max(1) as f64);
    codes.iter().for_each(|(code, names)| println!("    {code} {}: {}", names.len(), names.join(" ")));
    let negatives: Vec<_> = photos.iter().zip(outcomes).filter(|(p, _)| p.negative).collect();
    let done = negatives.iter().filter(|(_, o)| o.refused.is_none()).count();
    println!("  negatives completed: {done} of {}", negatives.len());
    for (photo, o) in negatives {
        let coverage = o.mask.as_ref().map_or(0.0, mask::coverage);
        let end = o.refused.as_deref().unwrap_or("COMPLETED");
        println!("    {:<32} {end:<18} coverage {coverage:.3} confidence {:.2}", photo.name, o.confidence);
    }
}

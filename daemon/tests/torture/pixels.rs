//! Pictures that no camera makes, through load, segment, reflections, enhance and save: a result or a clear fault, never a panic.
//!
//! ```text
//! drawn eye --crop, paint over, overexpose, noise--> JPEG | PNG | WebP of many kinds --flip, cut, splice bytes--> Pipeline::run
//! ```
//!
//! Picture n of a seed is always the same one, so a fault is named by its number; its file is kept in the work folder. Small pictures, because
//! what breaks is seldom the size. Two threads; a run that was ended goes on behind the last thousand that was done.

use std::{
    fs,
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use image::{DynamicImage, ImageFormat, RgbImage};
use irisd::{
    adapters::clock::SystemClock,
    config::{Config, QualityMode, Scope},
    domain::{
        fault::{Code, FaultClass},
        photo::Source,
        stage::{Stage, StepMs},
    },
    imaging::synth,
    inference::{
        Engine, Options,
        manifest::{self, Manifest},
    },
    pipeline::{Ended, Input, Pipeline, Settings, Stop, Watch},
    ports::ModelError,
};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::common::Dice;

const THREADS: usize = 2;
/// Pictures between two notes of how far the run is.
const NOTED: u64 = 1000;
/// Eyes that the pictures are made of, px.
const EYES: u64 = 48;
const EYE: (usize, usize) = (128, 100);
/// A result is opened and measured once in this many.
const OPENED: u64 = 32;
/// A picture of this size has no business to take longer, whatever else the machine does.
const LONGEST: Duration = Duration::from_secs(30);

pub struct Plan {
    /// Faults and the place where a run goes on lie here.
    pub work: PathBuf,
    pub seed: u64,
    pub pictures: u64,
}

/// What the run came to, by outcome.
#[derive(Default)]
struct Tally {
    completed: AtomicU64,
    refused: AtomicU64,
    unreadable: AtomicU64,
    faults: Mutex<Vec<String>>,
}

/// Nobody stops these.
struct Alone;

impl Watch for Alone {
    fn enter(&self, _: Stage, _: StepMs) -> Result<(), Stop> {
        Ok(())
    }

    fn checkpoint(&self, _: Stage, _: f32) -> Result<(), Stop> {
        Ok(())
    }
}

pub fn run(plan: &Plan) -> Vec<String> {
    fs::create_dir_all(plan.work.join("faults")).unwrap();
    let place = plan.work.join(format!("done-{}", plan.seed));
    let mut done: u64 = fs::read_to_string(&place).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let begin_at = done;
    let (tally, pipelines) = (Tally::default(), pipelines());
    let eyes: Vec<RgbImage> = (0..EYES).map(|i| eye(plan.seed.wrapping_add(i))).collect();
    for (name, bytes) in odd_ones() {
        for pipeline in &pipelines {
            try_one(&format!("odd-{name}"), &bytes, pipeline, true, plan, &tally);
        }
    }
    let begin = Instant::now();
    while done < plan.pictures {
        let end = (done + NOTED).min(plan.pictures);
        let next = AtomicU64::new(done);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= end {
                            return;
                        }
                        let mut dice = Dice::new(plan.seed ^ n.wrapping_mul(0xD6E8_FEB8_6659_FD93));
                        let bytes = picture(&mut dice, &eyes);
                        let pipeline = &pipelines[dice.roll(pipelines.len() as u64) as usize];
                        try_one(&n.to_string(), &bytes, pipeline, n.is_multiple_of(OPENED), plan, &tally);
                    }
                });
            }
        });
        done = end;
        fs::write(&place, done.to_string()).unwrap();
        let faults = tally.faults.lock().unwrap().len();
        if done.is_multiple_of(10 * NOTED) || done == plan.pictures || faults > 0 {
            let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
            let (made, refused, unread) = (count(&tally.completed), count(&tally.refused), count(&tally.unreadable));
            let took = begin.elapsed().as_secs();
            println!("seed {}: {done} pictures, this run {took} s: {made} results, {refused} refused, {unread} unreadable", plan.seed);
        }
        if faults > 0 {
            break;
        }
    }
    let made = tally.completed.into_inner();
    let mut faults = tally.faults.into_inner().unwrap();
    if made < plan.pictures.saturating_sub(begin_at) / 10 && faults.is_empty() {
        faults.push(format!("{made} results alone: nothing was tried"));
    }
    faults
}

/// The gate on and off, iris and photo, with and without sharpening; the classical methods, which see every picture.
fn pipelines() -> Vec<Pipeline> {
    let kinds =
        [(QualityMode::Report, Scope::Iris, false), (QualityMode::Report, Scope::Photo, true), (QualityMode::Gate, Scope::Iris, true)];
    let make = |(mode, scope, detail)| {
        let mut config = Config::default();
        (config.quality.mode, config.enhance.scope, config.enhance.detail) = (mode, scope, detail);
        let none = ModelError { code: Code::RuntimeMissing, detail: "no library in this run".into() };
        let nowhere = Path::new("/nonexistent");
        let engine = Engine::new(Manifest::load(nowhere, nowhere).unwrap(), Err(none), Options::default());
        Pipeline::new(Settings::from_config(&config), engine, Arc::new(SystemClock::new()))
    };
    kinds.map(make).into()
}

fn try_one(name: &str, bytes: &[u8], pipeline: &Pipeline, open: bool, plan: &Plan, tally: &Tally) {
    let dir = scratch();
    let (photo, out) = (dir.path().join("photo"), dir.path().join("out"));
    fs::write(&photo, bytes).unwrap();
    let input = Input { sha256: manifest::hash(&photo).unwrap(), photo, source: Source::Upload, out: out.clone() };
    let begin = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| pipeline.run(&input, &Alone)));
    let wrong = match ended {
        Err(_) => Some("a panic".to_owned()),
        Ok(Ok(done)) => {
            tally.completed.fetch_add(1, Ordering::Relaxed);
            let file = &done.report.files.image;
            let opened = open.then(|| image::image_dimensions(out.join("image.jpg")));
            match opened {
                Some(Ok(size)) if size != (file.width, file.height) => Some(format!("image.jpg is {size:?}, the report says {file:?}")),
                Some(Err(e)) => Some(format!("image.jpg cannot be read: {e}")),
                _ => None,
            }
        }
        Ok(Err(Ended::Refused(..))) => {
            tally.refused.fetch_add(1, Ordering::Relaxed);
            None
        }
        // The picture alone may be to blame.
        Ok(Err(Ended::Fault(fault, _))) if fault.class != FaultClass::QualityIssue => Some(format!("{fault}")),
        Ok(Err(Ended::Fault(..))) => {
            tally.unreadable.fetch_add(1, Ordering::Relaxed);
            None
        }
        Ok(Err(Ended::Stopped(_))) => Some("it was stopped, and nobody stopped it".to_owned()),
    };
    let wrong = wrong.or_else(|| (begin.elapsed() > LONGEST).then(|| format!("it took {:?}", begin.elapsed())));
    if let Some(wrong) = wrong {
        let kept = plan.work.join("faults").join(name);
        fs::write(&kept, bytes).unwrap();
        tally.faults.lock().unwrap().push(format!("picture {name} of seed {}: {wrong}; {}", plan.seed, kept.display()));
    }
}

/// In memory where that is possible: what the disk does is tried elsewhere.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn eye(seed: u64) -> RgbImage {
    let rgb = synth::eye(seed, EYE.0, EYE.1).photo;
    RgbImage::from_raw(rgb.width as u32, rgb.height as u32, rgb.data).unwrap()
}

/// The ones that everybody thinks of, each once.
fn odd_ones() -> Vec<(&'static str, Vec<u8>)> {
    let plain = |w, h, v| DynamicImage::ImageRgb8(RgbImage::from_pixel(w, h, image::Rgb([v; 3])));
    let eye = DynamicImage::ImageRgb8(eye(1));
    let png = |picture: DynamicImage| encoded(&picture, ImageFormat::Png);
    let mut alpha = eye.to_rgba8();
    alpha.pixels_mut().enumerate().for_each(|(i, p)| p.0[3] = (i % 256) as u8);
    let cmyk: Vec<u8> = eye.to_rgb8().pixels().flat_map(|p| [255 - p[0], 255 - p[1], 255 - p[2], 0]).collect();
    vec![
        ("1x1", png(plain(1, 1, 90))),
        ("1xN", png(plain(1, 3000, 90))),
        ("Nx1", png(plain(3000, 1, 90))),
        ("black", png(plain(200, 150, 0))),
        ("white", png(plain(200, 150, 255))),
        ("grey", png(DynamicImage::ImageLuma8(eye.to_luma8()))),
        ("alpha", png(DynamicImage::ImageRgba8(alpha))),
        ("16-bit", png(DynamicImage::ImageRgb16(eye.to_rgb16()))),
        ("cmyk", jpeg(&cmyk, EYE, ColorType::Cmyk, |_| {})),
        ("empty", Vec::new()),
    ]
}

fn picture(dice: &mut Dice, eyes: &[RgbImage]) -> Vec<u8> {
    let eye = dice_index(dice, eyes.len());
    let mut picture = cropped(dice, &eyes[eye]);
    for _ in 0..dice.roll(4) {
        paint(dice, &mut picture);
    }
    let mut bytes = file(dice, &picture);
    if dice.roll(5) < 2 {
        for _ in 0..=dice.roll(6) {
            damage(dice, &mut bytes);
        }
    }
    bytes
}

fn dice_index(dice: &mut Dice, n: usize) -> usize {
    dice.roll(n as u64) as usize
}

fn cropped(dice: &mut Dice, eye: &RgbImage) -> RgbImage {
    let mut side = |whole: u32| match dice.roll(8) {
        0 => 1 + dice.roll(u64::from(whole)) as u32,
        1 | 2 => whole / 2 + dice.roll(u64::from(whole / 2)) as u32,
        _ => whole,
    };
    let (w, h) = (side(eye.width()), side(eye.height()));
    let (x, y) = (dice.roll(u64::from(eye.width() - w) + 1) as u32, dice.roll(u64::from(eye.height() - h) + 1) as u32);
    image::imageops::crop_imm(eye, x, y, w, h).to_image()
}

/// One thing that spoils pixels.
fn paint(dice: &mut Dice, picture: &mut RgbImage) {
    let (w, h) = picture.dimensions();
    match dice.roll(7) {
        // A block of one shade: glare, a hole, a label.
        0 | 1 => {
            let (x, y) = (dice.roll(u64::from(w)) as u32, dice.roll(u64::from(h)) as u32);
            let (bw, bh) = (1 + dice.roll(u64::from(w)) as u32, 1 + dice.roll(u64::from(h)) as u32);
            let shade = [0, 255, 250, dice.roll(256) as u8][dice_index(dice, 4)];
            for j in y..(y + bh).min(h) {
                for i in x..(x + bw).min(w) {
                    picture.put_pixel(i, j, image::Rgb([shade; 3]));
                }
            }
        }
        2 => {
            let amount = 1 + dice.roll(200) as i32;
            let mut noise = Dice::new(dice.roll(u64::MAX >> 1));
            picture.pixels_mut().for_each(|p| {
                p.0 = p.0.map(|v| (i32::from(v) + noise.roll(2 * amount as u64) as i32 - amount).clamp(0, 255) as u8);
            });
        }
        3 => {
            let gain = dice.roll(600) as u32;
            picture.pixels_mut().for_each(|p| p.0 = p.0.map(|v| (u32::from(v) * gain / 100).min(255) as u8));
        }
        4 => picture.pixels_mut().for_each(|p| p.0 = p.0.map(|v| 255 - v)),
        5 => picture.pixels_mut().for_each(|p| p.0.rotate_left(1)),
        _ => {
            let levels = 2 + dice.roll(6) as u32;
            picture.pixels_mut().for_each(|p| p.0 = p.0.map(|v| (u32::from(v) * levels / 256 * 255 / (levels - 1)).min(255) as u8));
        }
    }
}

fn file(dice: &mut Dice, picture: &RgbImage) -> Vec<u8> {
    let whole = DynamicImage::ImageRgb8(picture.clone());
    match dice.roll(10) {
        0 => encoded(&whole, ImageFormat::Png),
        1 => encoded(&DynamicImage::ImageLumaA8(whole.to_luma_alpha8()), ImageFormat::Png),
        2 => encoded(&DynamicImage::ImageRgb16(whole.to_rgb16()), ImageFormat::Png),
        3 => encoded(&whole, ImageFormat::WebP),
        kind => {
            let size = (picture.width() as usize, picture.height() as usize);
            let samplings = [SamplingFactor::R_4_4_4, SamplingFactor::R_4_2_0, SamplingFactor::R_4_2_2, SamplingFactor::R_4_1_1];
            let sampling = samplings[dice_index(dice, 4)];
            let restart = [0, 0, 1, 7][dice_index(dice, 4)];
            let set_up = |encoder: &mut Encoder<&mut Vec<u8>>| {
                encoder.set_sampling_factor(sampling);
                encoder.set_restart_interval(restart);
                encoder.set_progressive(kind == 4 || kind == 5);
            };
            if kind == 6 {
                jpeg(whole.to_luma8().as_raw(), size, ColorType::Luma, set_up)
            } else {
                jpeg(picture.as_raw(), size, ColorType::Rgb, set_up)
            }
        }
    }
}

/// One thing that spoils a file.
fn damage(dice: &mut Dice, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = dice_index(dice, bytes.len());
    let run = 1 + dice_index(dice, 40.min(bytes.len()));
    let end = (at + run).min(bytes.len());
    match dice.roll(7) {
        0 | 1 => bytes[at] ^= 1 << dice.roll(8),
        2 => bytes[at] = dice.roll(256) as u8,
        3 => _ = bytes.drain(at..end),
        4 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        5 => bytes[at..end].fill([0, 0xFF][dice_index(dice, 2)]),
        _ => bytes.truncate(at),
    }
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    // WebP knows no 16 bits and the like: what it is given is RGB.
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn jpeg(pixels: &[u8], (width, height): (usize, usize), kind: ColorType, set_up: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 88);
    set_up(&mut encoder);
    encoder.encode(pixels, width as u16, height as u16, kind).unwrap();
    bytes
}

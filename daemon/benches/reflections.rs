//! `make bench-reflections`: how well lamps are found, filled in, and taken from a second shot, on synthetic eyes whose truth is known and
//! on a folder of real ones that stays outside the repository.
//!
//! ```text
//!   find    lit eye ------------> highlights --against--> where the lamp changed the picture        precision, recall, F1
//!   fill    clean iris + lamp --> filled -----> OUT/*.png, index.tsv --reflections.py--> PSNR, SSIM beside OpenCV's two methods
//!   merge   two lit shots ------> merged ------against--> the first shot without its lamps           PSNR under the lamps
//! ```
//!
//! `cargo bench --bench reflections -- OUT [FOLDER]`; FOLDER as for the bench `eval`.
#![allow(clippy::print_stdout)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use irisd::{
    domain::report::Ellipse,
    imaging::{
        encode::{self, GrayRows, RgbRows},
        geometry, highlights,
        inpaint::fibres,
        mask::{self, Region},
        merge,
        raster::{Gray, Rgb},
        register::{self, Shot},
        synth::lamps::{self, Kind, Pose},
    },
};

/// Half the lamp's extent, limbus radii.
const SIZES: [f32; 3] = [0.05, 0.1, 0.18];
const SIDE: (usize, usize) = (640, 480);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let out = arguments.next().map_or_else(|| PathBuf::from("target/reflections"), PathBuf::from);
    let folder = arguments.next().map(PathBuf::from);
    find();
    merge();
    fill(&out, folder.as_deref())
}

// --- find

#[derive(Default, Clone, Copy)]
struct Tally {
    right: u64,
    wrong: u64,
    missed: u64,
}

impl Tally {
    fn add(&mut self, found: &Gray, truth: &Gray) {
        for (f, t) in found.data.iter().zip(&truth.data) {
            match (*f >= 128, *t >= 128) {
                (true, true) => self.right += 1,
                (true, false) => self.wrong += 1,
                (false, true) => self.missed += 1,
                (false, false) => (),
            }
        }
    }

    fn line(&self, what: &str) {
        let (right, wrong, missed) = (self.right as f64, self.wrong as f64, self.missed as f64);
        let (p, r) = (right / (right + wrong).max(1.0), right / (right + missed).max(1.0));
        println!("  {what:<22} precision {p:.3}  recall {r:.3}  F1 {:.3}", 2.0 * p * r / (p + r).max(1e-9));
    }
}

/// Pixel-wise, inside the true mask, with the true ellipses: what is measured here is the finder alone.
fn find() {
    println!("lamps found, pixel by pixel ({} x {} px, 12 eyes a line)", SIDE.0, SIDE.1);
    let mut all = Tally::default();
    let mut seed = 1000;
    let mut by_colour = std::collections::BTreeMap::<String, Tally>::new();
    for kind in Kind::ALL {
        for size in SIZES {
            let mut tally = Tally::default();
            for n in 0..12 {
                seed += 1;
                let l = lamps::lit(seed, n * 31 + kind as u64 * 7, kind, size, Pose::STRAIGHT, SIDE.0, SIDE.1);
                let found = highlights::find(&l.photo, &l.truth.limbus, Some(&l.truth.pupil), &l.mask).map.expand(SIDE.0, SIDE.1);
                tally.add(&found, &l.glare);
                all.add(&found, &l.glare);
                by_colour.entry(l.truth.iris_colour).or_default().add(&found, &l.glare);
            }
            tally.line(&format!("{} {size}", kind.name()));
        }
    }
    by_colour.iter().for_each(|(colour, t)| t.line(colour));
    all.line("all");
    let (mut taken, mut of) = (0, 0);
    for seed in 0..96 {
        let l = lamps::lit(2000 + seed, seed, Kind::Point, 0.05, Pose::STRAIGHT, SIDE.0, SIDE.1);
        taken += highlights::find(&l.clean, &l.truth.limbus, Some(&l.truth.pupil), &l.mask).area_px;
        of += l.mask.count_inside() as u64;
    }
    println!("  96 eyes without a lamp: {taken} of {of} px taken for glare ({:.4} %)", 100.0 * taken as f64 / of as f64);
}

// --- merge

/// Two shots of one eye, the second moved by up to 3 % and turned by up to 2 degrees under other lamps; and shots of two eyes.
fn merge() {
    println!("two shots ({} x {} px)", SIDE.0, SIDE.1);
    let glare = |l: &lamps::Lit| highlights::find(&l.photo, &l.truth.limbus, Some(&l.truth.pupil), &l.mask).map;
    let (mut same, mut other, mut quality, mut left) = (Vec::new(), Vec::new(), Vec::new(), 0u64);
    let mut before: Option<lamps::Lit> = None;
    for seed in 0..24u64 {
        let step = |k: u64| (seed * 7919 % k) as f32 / (k - 1) as f32 * 2.0 - 1.0;
        let pose = Pose { scale: 1.0 + 0.03 * step(11), turn_deg: 2.0 * step(7), shift: (0.06 * step(5), 0.06 * step(9)) };
        let kinds = [Kind::ALL[seed as usize % 4], Kind::ALL[(seed as usize / 4 + 1) % 4]];
        let a = lamps::lit(4000 + seed, 1 + seed, kinds[0], 0.12, Pose::STRAIGHT, SIDE.0, SIDE.1);
        let b = lamps::lit(4000 + seed, 100 + seed, kinds[1], 0.12, pose, SIDE.0, SIDE.1);
        let (ga, gb) = (glare(&a), glare(&b));
        let (first, second) = (shot(&a, &ga), shot(&b, &gb));
        if let Some(last) = &before {
            other.push(register::align(&first, &shot(last, &glare(last))).map_or(0.0, |f| f.correlation));
        }
        let Some(found) = register::align(&first, &second) else {
            same.push(0.0);
            continue;
        };
        same.push(found.correlation);
        let taken = merge::under_the_lamps(&first, &[(second, found.warp)]);
        let (mut square, mut n) = (0.0, 0.0f64);
        let mut covered = Gray::new(SIDE.0, SIDE.1);
        for (x, y, _, px) in &taken.pixels {
            covered.data[y * SIDE.0 + x] = 255;
            if a.glare.px(*x, *y) > 0 {
                px.iter().zip(a.clean.px(*x, *y)).for_each(|(p, q)| square += f64::from(p.abs_diff(q)).powi(2));
                n += 3.0;
            }
        }
        quality.push(10.0 * (255.0f64.powi(2) / (square / n.max(1.0)).max(0.25)).log10());
        left += a.glare.data.iter().zip(&covered.data).filter(|(g, c)| **g > 0 && **c == 0).count() as u64;
        before = Some(a);
    }
    let show = |what: &str, v: &mut Vec<f64>| {
        v.sort_by(f64::total_cmp);
        println!("  {what:<34} least {:.2}, median {:.2}, most {:.2}", v[0], v[v.len() / 2], v[v.len() - 1]);
    };
    show("correlation, the same eye", &mut same);
    show("correlation, another eye", &mut other);
    show("PSNR under the lamps, dB", &mut quality);
    println!("  glare that no second shot showed: {left} px");
}

fn shot<'a>(l: &'a lamps::Lit, glare: &'a Region) -> Shot<'a> {
    Shot { photo: &l.photo, mask: &l.mask, limbus: &l.truth.limbus, pupil: Some(&l.truth.pupil), glare }
}

// --- fill

/// An iris without lamps, or with its own kept out of the way.
struct Clean {
    name: String,
    photo: Rgb,
    mask: Gray,
    limbus: Ellipse,
    pupil: Option<Ellipse>,
    /// Where a lamp may be pasted.
    free: Gray,
}

fn fill(out: &Path, folder: Option<&Path>) -> Result<()> {
    fs::create_dir_all(out)?;
    let mut index = fs::File::create(out.join("index.tsv"))?;
    writeln!(index, "case\tset\tkind\tsize\tms\tchanged_outside")?;
    let synthetic = (0..16).map(|seed| {
        let l = lamps::lit(3000 + seed, seed, Kind::Point, 0.05, Pose::STRAIGHT, SIDE.0, SIDE.1);
        let (name, free) = (format!("s{seed}"), inner(&l.mask));
        Ok(Clean { name, photo: l.clean, free, mask: l.mask, limbus: l.truth.limbus, pupil: Some(l.truth.pupil) })
    });
    cases(out, &mut index, "synthetic", synthetic)?;
    match folder.filter(|f| f.join("images").is_dir()) {
        Some(folder) => cases(out, &mut index, "photos", real(folder)?.into_iter()),
        None => {
            println!("real eyes: skipped, no folder of photos was named");
            Ok(())
        }
    }
}

fn cases(out: &Path, index: &mut fs::File, set: &str, eyes: impl Iterator<Item = Result<Clean>>) -> Result<()> {
    for (n, eye) in eyes.enumerate() {
        let eye = cropped(&eye?);
        for kind in Kind::ALL {
            for size in SIZES {
                let seed = n as u64 * 101 + kind as u64 * 11 + (size * 100.0) as u64;
                let Some((photo, hole)) = lamps::pasted(&eye.photo, &eye.limbus, kind, size, seed, &eye.free) else { continue };
                let (region, mut ours) = (Region { x: 0, y: 0, gray: hole.clone() }, photo.clone());
                let start = std::time::Instant::now();
                fibres::fill(&mut ours, &region, &eye.mask, &eye.limbus, eye.pupil.as_ref(), 0);
                let ms = start.elapsed().as_secs_f64() * 1e3;
                let outside = (0..hole.data.len()).filter(|i| hole.data[*i] == 0 && !same(&ours, &photo, *i)).count();
                let case = format!("{}-{}-{size}", eye.name, kind.name());
                for (what, rgb) in [("clean", &eye.photo), ("photo", &photo), ("ours", &ours)] {
                    encode::png(&mut RgbRows::new(rgb), &mut fs::File::create(out.join(format!("{case}.{what}.png")))?)?;
                }
                encode::png(&mut GrayRows::new(&hole), &mut fs::File::create(out.join(format!("{case}.hole.png")))?)?;
                writeln!(index, "{case}\t{set}\t{}\t{size}\t{ms:.3}\t{outside}", kind.name())?;
            }
        }
    }
    Ok(())
}

fn same(a: &Rgb, b: &Rgb, i: usize) -> bool {
    a.data[i * 3..i * 3 + 3] == b.data[i * 3..i * 3 + 3]
}

/// Well inside a mask: the truth's edge is a person's guess to a few px.
fn inner(mask: &Gray) -> Gray {
    mask::erode(&mask::threshold(mask, 128), 3)
}

/// To the iris and a quarter of its radius around it.
fn cropped(eye: &Clean) -> Clean {
    let (left, top, right, bottom) = geometry::bounds(&eye.limbus);
    let margin = 0.25 * geometry::radius(&eye.limbus);
    let low = |v: f64| (v - margin).max(0.0) as usize;
    let (x, y) = (low(left), low(top));
    let (w, h) = (((right + margin) as usize).min(eye.photo.width) - x, ((bottom + margin) as usize).min(eye.photo.height) - y);
    let moved = |e: &Ellipse| geometry::transform(e, 1.0, -(x as f64), -(y as f64));
    Clean {
        name: eye.name.clone(),
        photo: eye.photo.crop(x, y, w, h),
        mask: eye.mask.crop(x, y, w, h),
        free: eye.free.crop(x, y, w, h),
        limbus: moved(&eye.limbus),
        pupil: eye.pupil.as_ref().map(moved),
    }
}

/// The photos of the folder's circles.tsv that are in colour, with the hand-drawn mask or the limbus between the lid lines.
fn real(folder: &Path) -> Result<Vec<Result<Clean>>> {
    let table = fs::read_to_string(folder.join("circles.tsv"))?;
    let rows = table.lines().skip(1).filter(|l| !l.starts_with("nir") && !l.starts_with("ub"));
    let eyes = rows.filter_map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let number = |i: usize| columns.get(i).and_then(|v| v.parse::<f64>().ok());
        let ellipse =
            |i: usize| Some(Ellipse { cx: number(i)?, cy: number(i + 1)?, rx: number(i + 2)?, ry: number(i + 3)?, angle_deg: 0.0 });
        let (limbus, pupil) = (ellipse(1)?, ellipse(5)?);
        let path = folder.join("images").join(columns[0]);
        (path.exists() && geometry::radius(&limbus) >= 40.0).then(|| read(folder, &path, limbus, pupil, number(9), number(10)))
    });
    Ok(eyes.collect())
}

fn read(folder: &Path, path: &Path, limbus: Ellipse, pupil: Ellipse, top: Option<f64>, bottom: Option<f64>) -> Result<Clean> {
    let image = image::open(path).with_context(|| path.display().to_string())?.to_rgb8();
    let photo = Rgb { width: image.width() as usize, height: image.height() as usize, data: image.into_raw() };
    let name = path.file_stem().context("a file")?.to_string_lossy().into_owned();
    let drawn = folder.join("masks").join(&name).with_extension("png");
    let mask = if drawn.exists() {
        let m = image::open(&drawn)?.to_luma8();
        Gray { width: photo.width, height: photo.height, data: m.into_raw() }
    } else {
        let mut m = mask::ellipse(photo.width, photo.height, &limbus);
        m.data[..top.map_or(0, |v| v as usize).min(photo.height) * photo.width].fill(0);
        m.data[bottom.map_or(photo.height, |v| v as usize).min(photo.height) * photo.width..].fill(0);
        m
    };
    // The photo's own lamps: whatever is bright in all channels, by a rule of its own, and what the finder takes for one.
    let mut own = highlights::find(&photo, &limbus, Some(&pupil), &mask).map.expand(photo.width, photo.height);
    for (o, px) in own.data.iter_mut().zip(photo.data.chunks_exact(3)) {
        if px.iter().all(|v| *v > 170) {
            *o = 255;
        }
    }
    let own = mask::dilate(&own, 4);
    let mut free = inner(&mask);
    free.data.iter_mut().zip(&own.data).for_each(|(f, o)| *f &= !o);
    Ok(Clean { name, photo, mask, limbus, pupil: Some(pupil), free })
}

//! Drawn eyes, one thing made worse step by step.

use std::collections::BTreeMap;

use anyhow::Result;
use irisd::{
    domain::report::Ellipse,
    imaging::{
        geometry,
        raster::{Gray, Rgb},
        synth::{
            self,
            lamps::{Kind, pasted},
        },
    },
};

use super::{COVERAGES, Gate};

const SIZE: (usize, usize) = (640, 480);

/// How a photo is made worse: `level` as the ramp counts, the truth for what scales with the iris. None: it cannot be done to this eye.
type Worse = fn(&Rgb, &Ellipse, f64, u64) -> Option<Rgb>;

pub fn all(gate: &Gate) -> Result<()> {
    let eyes = std::env::var("GATE_EYES").ok().and_then(|v| v.parse().ok()).unwrap_or(24);
    println!("ramps: {eyes} drawn eyes of {} x {} px; share refused at each level, %, the figure's median, and the codes", SIZE.0, SIZE.1);
    let blurs = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0];
    ramp(gate, eyes, "focus: sigma, % of R", "sharpness", &blurs, |p, e, v, _| Some(focus(p, v / 100.0 * geometry::radius(e))))?;
    let moves = [0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0];
    let directions: [(&str, Worse); 3] = [
        ("motion at 0 degrees: length, % of 2 R", |p, e, v, _| Some(smear(p, v / 50.0 * geometry::radius(e), 0.0))),
        ("motion at 45 degrees: length, % of 2 R", |p, e, v, _| Some(smear(p, v / 50.0 * geometry::radius(e), 45.0))),
        ("motion at 90 degrees: length, % of 2 R", |p, e, v, _| Some(smear(p, v / 50.0 * geometry::radius(e), 90.0))),
    ];
    for (title, worse) in directions {
        ramp(gate, eyes, title, "motion", &moves, worse)?;
    }
    let exposures = [-6.0, -5.0, -4.0, -2.0, 0.0, 1.0, 1.5, 2.0, 2.5, 3.0];
    ramp(gate, eyes, "exposure: EV", "lightness", &exposures, |p, _, v, _| Some(expose(p, v)))?;
    ramp(gate, eyes, "glare: half width of one softbox, % of R", "glare_share", &[0.0, 20.0, 40.0, 60.0, 70.0, 80.0, 90.0], lamp)?;
    let kept = [100.0, 50.0, 30.0, 20.0, 15.0, 10.0, 5.0];
    ramp(gate, eyes, "contrast kept, %", "confidence", &kept, |p, _, v, _| Some(veil(p, v / 100.0)))
}

/// `figure`: the one that the ramp is about.
fn ramp(gate: &Gate, eyes: u64, title: &str, figure: &str, levels: &[f64], worse: Worse) -> Result<()> {
    println!("  {title}");
    for level in levels {
        let (mut refused, mut n, mut codes, mut values) = (0usize, 0usize, BTreeMap::<String, usize>::new(), Vec::new());
        for seed in 0..eyes {
            let sample = synth::eye(1000 + seed, SIZE.0, SIZE.1);
            let Some(photo) = worse(&sample.photo, &sample.truth.limbus, *level, seed) else { continue };
            let judged = gate.judge(&photo)?;
            n += 1;
            values.extend(judged.metrics().find(|(name, _)| *name == figure).map(|(_, m)| m.value));
            if let Some(code) = judged.refused(COVERAGES[0]) {
                refused += 1;
                *codes.entry(code.name()).or_default() += 1;
            }
        }
        let share = 100.0 * refused as f64 / n.max(1) as f64;
        println!("    {level:>6.1}  {share:>5.1} of {n:>3}   {figure} {:.2}   {codes:?}", super::quantile(&mut values, 0.5));
    }
    Ok(())
}

/// Linear light times 2^ev, then sRGB again.
pub fn expose(photo: &Rgb, ev: f64) -> Rgb {
    let curve: Vec<u8> = (0..256)
        .map(|v| {
            let v = f64::from(v) / 255.0;
            let linear = if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) };
            let linear = (linear * ev.exp2()).min(1.0);
            let v = if linear <= 0.003_130_8 { linear * 12.92 } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
            (v * 255.0 + 0.5) as u8
        })
        .collect();
    Rgb { data: photo.data.iter().map(|v| curve[usize::from(*v)]).collect(), ..*photo }
}

/// A Gaussian of `sigma` px.
fn focus(photo: &Rgb, sigma: f64) -> Rgb {
    if sigma < 0.2 {
        return photo.clone();
    }
    let reach = (3.0 * sigma).ceil() as isize;
    let taps: Vec<(isize, f64)> = (-reach..=reach).map(|k| (k, (-0.5 * (k as f64 / sigma).powi(2)).exp())).collect();
    gather(
        &gather(photo, &taps.iter().map(|(k, w)| ((*k, 0), *w)).collect::<Vec<_>>()),
        &taps.iter().map(|(k, w)| ((0, *k), *w)).collect::<Vec<_>>(),
    )
}

/// The camera moved by `length` px during the exposure, `degrees` counter-clockwise.
fn smear(photo: &Rgb, length: f64, degrees: f64) -> Rgb {
    let (s, c) = degrees.to_radians().sin_cos();
    let steps = (length * 2.0).ceil().max(1.0) as usize;
    // Each place on the way is shared among the four px around it.
    let mut taps = BTreeMap::<(isize, isize), f64>::new();
    for i in 0..steps {
        let t = length * ((i as f64 + 0.5) / steps as f64 - 0.5);
        let (x, y) = (t * c, -t * s);
        for (dx, wx) in [(0, 1.0 - (x - x.floor())), (1, x - x.floor())] {
            for (dy, wy) in [(0, 1.0 - (y - y.floor())), (1, y - y.floor())] {
                *taps.entry((x.floor() as isize + dx, y.floor() as isize + dy)).or_default() += wx * wy;
            }
        }
    }
    gather(photo, &taps.into_iter().filter(|(_, w)| *w > 1e-6).collect::<Vec<_>>())
}

/// Weighted mean of px around each, the edge's beyond the edge.
fn gather(photo: &Rgb, taps: &[((isize, isize), f64)]) -> Rgb {
    let sum: f64 = taps.iter().map(|t| t.1).sum();
    let taps: Vec<((isize, isize), f32)> = taps.iter().map(|(at, w)| (*at, (w / sum) as f32)).collect();
    let mut out = photo.clone();
    for y in 0..photo.height {
        for x in 0..photo.width {
            let mut mean = [0.5f32; 3];
            for ((dx, dy), w) in &taps {
                let at = |v: usize, d: isize, n: usize| v.saturating_add_signed(d).min(n - 1);
                let px = photo.px(at(x, *dx, photo.width), at(y, *dy, photo.height));
                mean.iter_mut().zip(px).for_each(|(m, v)| *m += w * f32::from(v));
            }
            out.set(x, y, mean.map(|v| v as u8));
        }
    }
    out
}

/// One softbox more, wherever it falls on the iris.
fn lamp(photo: &Rgb, limbus: &Ellipse, percent: f64, seed: u64) -> Option<Rgb> {
    if percent == 0.0 {
        return Some(photo.clone());
    }
    let free = Gray { data: vec![255; photo.width * photo.height], width: photo.width, height: photo.height };
    pasted(photo, limbus, Kind::Softbox, (percent / 100.0) as f32, seed, &free).map(|(photo, _)| photo)
}

/// Light scattered over all of the picture: this share of the contrast is left, around a middle grey.
fn veil(photo: &Rgb, kept: f64) -> Rgb {
    Rgb { data: photo.data.iter().map(|v| (150.0 + (f64::from(*v) - 150.0) * kept + 0.5) as u8).collect(), ..*photo }
}

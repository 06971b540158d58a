//! Where an iris could be: a score for every centre (each second px) and radius of the coarse view.

use std::f64::consts::TAU;

use super::views::{View, Views};

/// A circle, px of the fine view.
#[derive(Debug, Clone, Copy)]
pub struct Circle {
    pub cx: f64,
    pub cy: f64,
    pub r: f64,
}

const ANGLES: usize = 32;
/// Each radius is this much longer than the one before.
const STEP: f64 = 1.09;
/// Limbus radii looked at, in long sides of the photo.
const SMALLEST: f64 = 0.045;
const LARGEST: f64 = 0.42;
/// One very strong edge (a lamp, a lash) must not outvote many fair ones. In units of the stretched view, 0..1.
const STRONG: f32 = 0.30;
const KEPT: usize = 12;

/// The best circles, apart from each other, best first.
pub fn candidates(views: &Views) -> Vec<Circle> {
    let view = views.iris.half();
    let long = view.width.max(view.height) as f64;
    let count = ((LARGEST / SMALLEST).ln() / STEP.ln()) as usize + 3;
    let radii: Vec<f64> = (0..count).map(|k| long * SMALLEST * STEP.powi(k as i32 - 1)).collect();
    let padded = Padded::new(&view, radii[count - 1].ceil() as usize + 2);
    let offsets = padded.offsets(&radii);
    let mut found: Vec<(f32, Circle)> = Vec::new();
    let mut sums = vec![[0.0f32; 4]; count];
    for y in (2..view.height.saturating_sub(2)).step_by(2) {
        for x in (2..view.width.saturating_sub(2)).step_by(2) {
            padded.vote(x, y, &offsets, &mut sums);
            let scores: Vec<f32> = sums.iter().map(score).collect();
            for k in 1..count - 1 {
                if scores[k] > 0.05 && scores[k] >= scores[k - 1] && scores[k] > scores[k + 1] {
                    let circle = Circle { cx: 2.0 * x as f64 + 1.0, cy: 2.0 * y as f64 + 1.0, r: 2.0 * radii[k] };
                    found.push((scores[k], circle));
                }
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut kept: Vec<Circle> = Vec::new();
    for (_, c) in found {
        let apart = |k: &Circle| (k.cx - c.cx).hypot(k.cy - c.cy) > 0.3 * k.r.min(c.r) || !(0.75..1.33).contains(&(k.r / c.r));
        if kept.iter().all(apart) {
            kept.push(c);
            if kept.len() == KEPT {
                break;
            }
        }
    }
    kept
}

/// Mean rise of brightness outwards over the arcs: right, left, below, above. The sides count most and must both be there; lids
/// cover the other two more often than not.
fn score([right, left, below, above]: &[f32; 4]) -> f32 {
    0.5 * right.min(*left) + 0.25 * (right + left) + 0.2 * below + 0.1 * above
}

/// Which of the four arcs an angle belongs to, and the arcs' sizes: the sides take 100 degrees each, below and above 80.
fn arc(angle: f64) -> usize {
    let turned = (angle.to_degrees() + 50.0).rem_euclid(360.0);
    match turned {
        t if t < 100.0 => 0,
        t if t < 180.0 => 2,
        t if t < 280.0 => 1,
        _ => 3,
    }
}

/// A view with its edges drawn out, so that votes need no bounds.
struct Padded {
    pad: usize,
    stride: usize,
    data: Vec<f32>,
}

impl Padded {
    fn new(view: &View, pad: usize) -> Self {
        let (stride, rows) = (view.width + 2 * pad, view.height + 2 * pad);
        let mut data = Vec::with_capacity(stride * rows);
        for y in 0..rows {
            let row = y.saturating_sub(pad).min(view.height - 1) * view.width;
            data.extend((0..stride).map(|x| view.data[row + x.saturating_sub(pad).min(view.width - 1)]));
        }
        Self { pad, stride, data }
    }

    /// For each angle (y downwards): its arc, and where its samples lie from the centre.
    fn offsets(&self, radii: &[f64]) -> Vec<(usize, Vec<isize>)> {
        (0..ANGLES)
            .map(|a| {
                let angle = TAU * (a as f64 + 0.5) / ANGLES as f64;
                let at = |r: &f64| (r * angle.sin()).round() as isize * self.stride as isize + (r * angle.cos()).round() as isize;
                (arc(angle), radii.iter().map(at).collect())
            })
            .collect()
    }

    fn vote(&self, x: usize, y: usize, offsets: &[(usize, Vec<isize>)], sums: &mut [[f32; 4]]) {
        let centre = ((y + self.pad) * self.stride + x + self.pad) as isize;
        sums.fill([0.0; 4]);
        let mut size = [0.0f32; 4];
        for (arc, along) in offsets {
            size[*arc] += 1.0;
            let mut before = self.data[(centre + along[0]) as usize];
            let mut here = self.data[(centre + along[1]) as usize];
            for k in 1..along.len() - 1 {
                let after = self.data[(centre + along[k + 1]) as usize];
                sums[k][*arc] += (after - before).clamp(-STRONG, STRONG);
                (before, here) = (here, after);
            }
        }
        for s in sums {
            s.iter_mut().zip(&size).for_each(|(v, n)| *v /= n * STRONG);
        }
    }
}

//! Where an iris could be: a score for every centre (each second px) and radius of the coarse view.

use std::f64::consts::TAU;

use super::views::{View, Views};
use crate::imaging::wide::wide;

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
    let rays = padded.rays(&radii);
    let mut votes = Votes::new(count, view.width.saturating_sub(2).div_ceil(2).saturating_sub(1));
    let mut found: Vec<(f32, Circle)> = Vec::new();
    for y in (2..view.height.saturating_sub(2)).step_by(2) {
        votes.count(&padded, y, &rays);
        for (k, r) in radii.iter().enumerate().take(count - 1).skip(1) {
            let [smaller, here, larger] = [k - 1, k, k + 1].map(|k| &votes.scores[k * votes.width..][..votes.width]);
            for (i, score) in here.iter().enumerate() {
                if *score > 0.05 && *score >= smaller[i] && *score > larger[i] {
                    found.push((*score, Circle { cx: 4.0 * i as f64 + 5.0, cy: 2.0 * y as f64 + 1.0, r: 2.0 * r }));
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
#[inline(always)]
fn score_of([right, left, below, above]: [f32; 4]) -> f32 {
    0.5 * right.min(left) + 0.25 * (right + left) + 0.2 * below + 0.1 * above
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

/// A view with its edges drawn out, so that votes need no bounds; its even and its odd columns apart, so that what the centres of one row
/// (each second px) read lies side by side.
struct Padded {
    pad: usize,
    /// Columns of one parity.
    stride: usize,
    columns: [Vec<f32>; 2],
}

/// A direction from the centre: its arc, and (dx, dy) of each radius.
struct Ray {
    arc: usize,
    along: Vec<(isize, isize)>,
}

impl Padded {
    fn new(view: &View, pad: usize) -> Self {
        let (stride, rows) = ((view.width + 2 * pad).div_ceil(2), view.height + 2 * pad);
        let columns = [0, 1].map(|parity| {
            let mut data = Vec::with_capacity(stride * rows);
            for y in 0..rows {
                let row = y.saturating_sub(pad).min(view.height - 1) * view.width;
                data.extend((0..stride).map(|i| view.data[row + (2 * i + parity).saturating_sub(pad).min(view.width - 1)]));
            }
            data
        });
        Self { pad, stride, columns }
    }

    /// All round, y downwards.
    fn rays(&self, radii: &[f64]) -> Vec<Ray> {
        (0..ANGLES)
            .map(|a| {
                let angle = TAU * (a as f64 + 0.5) / ANGLES as f64;
                let at = |r: &f64| ((r * angle.cos()).round() as isize, (r * angle.sin()).round() as isize);
                Ray { arc: arc(angle), along: radii.iter().map(at).collect() }
            })
            .collect()
    }

    /// What the centres (2, y), (4, y), ... have at this distance.
    fn beside(&self, y: usize, (dx, dy): (isize, isize), centres: usize) -> &[f32] {
        let column = (self.pad + 2).wrapping_add_signed(dx);
        let from = (y + self.pad).wrapping_add_signed(dy) * self.stride + column / 2;
        &self.columns[column % 2][from..from + centres]
    }
}

wide! {
    /// `sums`: the four arcs, one after the other.
    fn into_scores(sums: &[f32], scores: &mut [f32]) {
        let (right, rest) = sums.split_at(scores.len());
        let (left, rest) = rest.split_at(scores.len());
        let (below, above) = rest.split_at(scores.len());
        for ((((score, right), left), below), above) in scores.iter_mut().zip(right).zip(left).zip(below).zip(above) {
            *score = score_of([*right, *left, *below, *above]);
        }
    }
}

wide! {
    fn add_votes(sums: &mut [f32], after: &[f32], before: &[f32]) {
        for ((sum, after), before) in sums.iter_mut().zip(after).zip(before) {
            *sum += (after - before).clamp(-STRONG, STRONG);
        }
    }
}

/// The votes for the centres of one row.
struct Votes {
    /// Radii.
    count: usize,
    /// Centres.
    width: usize,
    /// Arc, radius, centre.
    sums: Vec<f32>,
    /// Radius, centre.
    scores: Vec<f32>,
}

impl Votes {
    fn new(count: usize, width: usize) -> Self {
        Self { count, width, sums: vec![0.0; 4 * count * width], scores: vec![0.0; count * width] }
    }

    fn count(&mut self, padded: &Padded, y: usize, rays: &[Ray]) {
        let width = self.width;
        self.sums.fill(0.0);
        let mut size = [0.0f32; 4];
        for Ray { arc, along } in rays {
            size[*arc] += 1.0;
            for k in 1..self.count - 1 {
                let before = padded.beside(y, along[k - 1], width);
                let after = padded.beside(y, along[k + 1], width);
                let sums = &mut self.sums[(arc * self.count + k) * width..][..width];
                add_votes(sums, after, before);
            }
        }
        for (arc, size) in size.into_iter().enumerate() {
            let part = self.count * width;
            self.sums[arc * part..][..part].iter_mut().for_each(|sum| *sum /= size * STRONG);
        }
        into_scores(&self.sums, &mut self.scores);
    }
}

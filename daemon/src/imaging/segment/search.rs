//! Where an iris could be: a score for every centre (each second px) and radius of the coarse view.

use std::{f64::consts::TAU, ops::Range};

use super::views::{Half, Views};
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
/// Whole numbers are counted, so many to a half view's sum of levels: the votes of an arc, ten at most, fit an i16.
const FINER: i16 = 8;
/// Centres that are counted together: a register of i16.
const LANES: usize = 16;
const KEPT: usize = 12;
/// A score that is no edge.
const LEAST: f32 = 0.05;

/// The best circles, apart from each other, best first.
pub fn candidates(views: &Views) -> Vec<Circle> {
    let view = views.iris.half();
    let long = view.width.max(view.height) as f64;
    let count = ((LARGEST / SMALLEST).ln() / STEP.ln()) as usize + 3;
    let radii: Vec<f64> = (0..count).map(|k| long * SMALLEST * STEP.powi(k as i32 - 1)).collect();
    let padded = Padded::new(&view, radii[count - 1].ceil() as usize + 2);
    let rays = padded.rays(&radii);
    let centres = view.width.saturating_sub(2).div_ceil(2).saturating_sub(1);
    let blocks = centres.div_ceil(LANES);
    // Radius, centre; the first and the last radius have no votes.
    let mut scores = vec![[0.0; LANES]; count * blocks];
    let mut marks = vec![[0u8; LANES]; blocks];
    let mut found: Vec<(f32, Circle)> = Vec::new();
    for y in (2..view.height.saturating_sub(2)).step_by(2) {
        for k in 1..count - 1 {
            let (before, after) = (&rays.starts[k - 1], &rays.starts[k + 1]);
            count_votes(padded.row(y), before, after, &rays.arcs, padded.strong, &mut scores[k * blocks..(k + 1) * blocks]);
        }
        for (k, r) in radii.iter().enumerate().take(count - 1).skip(1) {
            let [smaller, here, larger] = [k - 1, k, k + 1].map(|k| &scores[k * blocks..][..blocks]);
            mark_peaks(smaller, here, larger, &mut marks);
            for (block, marks) in marks.iter().enumerate().filter(|(_, marks)| **marks != [0; LANES]) {
                for i in (0..LANES).filter(|i| marks[*i] > 0 && block * LANES + i < centres) {
                    let circle = Circle { cx: 4.0 * (block * LANES + i) as f64 + 5.0, cy: 2.0 * y as f64 + 1.0, r: 2.0 * r };
                    found.push((here[block][i], circle));
                }
            }
        }
    }
    apart(&found)
}

/// The best circles, none of which is another one moved a little.
fn apart(found: &[(f32, Circle)]) -> Vec<Circle> {
    // Best first, of equal ones the first first: the bits of positive numbers are in the numbers' order.
    let mut order: Vec<u64> = found.iter().zip(0u64..).map(|((score, _), i)| u64::from(!score.to_bits()) << 32 | i).collect();
    order.sort_unstable();
    let mut kept: Vec<Circle> = Vec::new();
    for at in order {
        let c = found[at as u32 as usize].1;
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

/// A view with its edges drawn out, so that votes need no bounds; its even and, behind them, its odd columns, so that what the centres of one
/// row (each second px) read lies side by side. [`FINER`] than the view's sums.
struct Padded {
    pad: usize,
    /// Columns of one parity.
    stride: usize,
    /// Numbers of one parity.
    half: usize,
    data: Vec<i16>,
    /// [`STRONG`] in these numbers.
    strong: i16,
}

/// Directions from the centre, those of an arc side by side.
struct Rays {
    /// Of each radius: where on each ray the numbers for the centres (2, 0), (4, 0), ... start.
    starts: Vec<[usize; ANGLES]>,
    arcs: [Range<usize>; 4],
}

impl Padded {
    fn new(view: &Half, pad: usize) -> Self {
        let (stride, rows) = ((view.width + 2 * pad).div_ceil(2), view.height + 2 * pad);
        let half = stride * rows;
        // The last centres are counted with as many more as fill a register.
        let mut data = vec![0; 2 * half + LANES];
        for (parity, columns) in data.chunks_exact_mut(half).take(2).enumerate() {
            for (y, out) in columns.chunks_exact_mut(stride).enumerate() {
                let row = &view.sums[y.saturating_sub(pad).min(view.height - 1) * view.width..][..view.width];
                let px = |i: usize| FINER * row[(2 * i + parity).saturating_sub(pad).min(view.width - 1)];
                out.iter_mut().enumerate().for_each(|(i, out)| *out = px(i));
            }
        }
        Self { pad, stride, half, data, strong: (STRONG * f32::from(FINER) * view.span) as i16 }
    }

    /// All round, y downwards.
    fn rays(&self, radii: &[f64]) -> Rays {
        let mut angles: [f64; ANGLES] = std::array::from_fn(|a| TAU * (a as f64 + 0.5) / ANGLES as f64);
        angles.sort_by_key(|angle| arc(*angle));
        let starts = radii.iter().map(|r| angles.map(|angle| self.start((r * angle.cos()).round(), (r * angle.sin()).round()))).collect();
        let first = |n: usize| angles.partition_point(|angle| arc(*angle) < n);
        Rays { starts, arcs: std::array::from_fn(|n| first(n)..first(n + 1)) }
    }

    fn start(&self, dx: f64, dy: f64) -> usize {
        let (column, row) = ((self.pad + 2).wrapping_add_signed(dx as isize), self.pad.wrapping_add_signed(dy as isize));
        column % 2 * self.half + row * self.stride + column / 2
    }

    /// From the beginning of a row on.
    fn row(&self, y: usize) -> &[i16] {
        &self.data[y * self.stride..]
    }
}

wide! {
    /// The scores of one radius; `numbers`: of a [`Padded`], from the centres' row on.
    fn count_votes(
        numbers: &[i16],
        before: &[usize; ANGLES],
        after: &[usize; ANGLES],
        arcs: &[Range<usize>; 4],
        strong: i16,
        scores: &mut [[f32; LANES]],
    ) {
        for (block, scores) in scores.iter_mut().enumerate() {
            let mut arc_sums = [[0.0; LANES]; 4];
            for (arc, sums) in arcs.iter().zip(&mut arc_sums) {
                let mut votes = [0i16; LANES];
                for (before, after) in before[arc.start..arc.end].iter().zip(&after[arc.start..arc.end]) {
                    let (before, after) = (lanes(numbers, before + block * LANES), lanes(numbers, after + block * LANES));
                    for i in 0..LANES {
                        votes[i] += (after[i] - before[i]).clamp(-strong, strong);
                    }
                }
                let full = 1.0 / (arc.len() as f32 * f32::from(strong));
                for i in 0..LANES {
                    sums[i] = f32::from(votes[i]) * full;
                }
            }
            let [right, left, below, above] = &arc_sums;
            for i in 0..LANES {
                scores[i] = score_of([right[i], left[i], below[i], above[i]]);
            }
        }
    }
}

#[inline(always)]
fn lanes(numbers: &[i16], from: usize) -> &[i16; LANES] {
    numbers[from..].first_chunk().expect("there are as many behind the last centre")
}

wide! {
    /// Marks the centres whose score is an edge's, and not below that of the next smaller and above that of the next larger radius.
    fn mark_peaks(smaller: &[[f32; LANES]], here: &[[f32; LANES]], larger: &[[f32; LANES]], marks: &mut [[u8; LANES]]) {
        for (((smaller, here), larger), marks) in smaller.iter().zip(here).zip(larger).zip(marks) {
            for i in 0..LANES {
                marks[i] = u8::from((here[i] > LEAST) & (here[i] >= smaller[i]) & (here[i] > larger[i]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::raster::Rgb;

    /// A dark disc on a bright ground.
    fn disc(width: usize, height: usize, cx: f64, cy: f64, r: f64) -> Views {
        let mut photo = Rgb::new(width, height);
        for (x, y) in (0..width * height).map(|i| (i % width, i / width)) {
            let inside = (x as f64 + 0.5 - cx).hypot(y as f64 + 0.5 - cy) < r;
            photo.set(x, y, [if inside { 40 } else { 210 }; 3]);
        }
        Views::new(&photo)
    }

    #[test]
    fn the_best_circle_is_the_disc_wherever_it_lies_and_whatever_the_width_is() {
        // Centres lie 4 px apart. Widths on both sides of whole registers of centres; discs up to the last columns and rows that are counted.
        for (width, height) in [(320, 240), (268, 300), (262, 200), (140, 320)] {
            for (x, y) in [(0.3, 0.3), (0.5, 0.6), (0.75, 0.7)] {
                let (cx, cy, r) = (x * width as f64, y * height as f64, 0.17 * width.min(height) as f64);
                let best = candidates(&disc(width, height, cx, cy, r))[0];
                let off = (best.cx - cx).hypot(best.cy - cy);
                assert!(off < 4.5 && (best.r / r - 1.0).abs() < 0.1, "{width}x{height} ({cx}, {cy}) {r}: {best:?}");
            }
        }
    }

    #[test]
    fn candidates_are_apart_and_a_flat_photo_has_none() {
        let kept = candidates(&disc(320, 240, 150.0, 120.0, 40.0));
        for (i, a) in kept.iter().enumerate() {
            for b in &kept[i + 1..] {
                let near = (a.cx - b.cx).hypot(a.cy - b.cy) <= 0.3 * a.r.min(b.r) && (0.75..1.33).contains(&(a.r / b.r));
                assert!(!near, "{a:?} {b:?}");
            }
        }
        assert!(!kept.is_empty() && kept.len() <= KEPT);
        assert!(candidates(&Views::new(&Rgb::new(300, 220))).is_empty());
    }

    #[test]
    fn the_votes_of_the_strongest_edge_fit_their_numbers() {
        let padded = Padded::new(&Half { width: 4, height: 4, sums: vec![4 * 255; 16], span: 4.0 * 255.0 }, 2);
        let arcs = padded.rays(&[1.0]).arcs;
        let most = arcs.iter().map(|arc| arc.len() as i32).max().unwrap_or(0);
        assert_eq!(arcs.iter().map(|arc| arc.len()).sum::<usize>(), ANGLES);
        assert!(most * i32::from(padded.strong) <= i32::from(i16::MAX), "{most} rays of {}", padded.strong);
    }
}

//! Lashes and vessels: tapered strokes on layers of their own, 0..=255.

use super::{
    maths::{Dice, sin_cos},
    scene::Scene,
};
use crate::imaging::raster::Gray;

/// Straight pieces of a curve.
const PIECES: usize = 14;

/// A quadratic curve through px coordinates that gets thinner: widths at its start and end, px.
struct Stroke {
    points: [(f32, f32); 3],
    widths: (f32, f32),
    value: f32,
}

pub fn lashes(s: &Scene, width: usize, height: usize, seed: u64) -> Gray {
    let d = &mut Dice::new(seed ^ 0x1A54);
    let mut layer = Gray::new(width, height);
    let long = d.range(0.55, 0.8);
    let (upper, lower) = (90 + d.below(50), 45 + d.below(35));
    for row in 0..2 {
        for i in 0..upper / 2 {
            let t = (i as f32 + d.range(0.0, 1.0)) / (upper / 2) as f32 * 1.86 - 0.93;
            let u = s.middle + t * s.half;
            // Longer at the outer side, in loose bundles.
            let length = long * (0.72 + d.range(-0.2, 0.25) - 0.22 * t * s.mirror) * (1.0 - 0.45 * t * t);
            let lean = t * 0.95 + d.normal() * 0.16;
            lash(&mut layer, s, d, u, -1.0, length, lean, if row == 0 { 0.026 } else { 0.02 });
        }
    }
    for i in 0..lower {
        let t = (i as f32 + d.range(0.0, 1.0)) / lower as f32 * 1.7 - 0.85 - 0.06 * s.mirror;
        let u = s.middle + t * s.half;
        let (length, lean) = (d.range(0.14, 0.34), t * 0.8 + d.normal() * 0.25);
        lash(&mut layer, s, d, u, 1.0, length, lean, 0.013);
    }
    layer
}

/// `side`: -1 upper, 1 lower lid; the rest in radii.
#[allow(clippy::too_many_arguments)] // one lash, each number another of its measures
fn lash(layer: &mut Gray, s: &Scene, d: &mut Dice, u: f32, side: f32, length: f32, lean: f32, thick: f32) {
    let (top, bottom) = s.lids_at(u);
    let root = if side < 0.0 { top - 0.02 - d.range(0.0, 0.035) } else { bottom + 0.075 + d.range(0.0, 0.03) };
    let (sin, cos) = sin_cos(lean);
    // Upper lashes start out towards the viewer, sagging, and then sweep up: the middle point hangs low.
    let sag = if side < 0.0 { 0.34 } else { 0.12 };
    let tip = (u + sin * length, root + side * cos * length);
    let knee = (u + sin * length * 0.30, root + side * cos * length * (0.45 - sag));
    let stroke = Stroke {
        points: [s.pixel(u, root), s.pixel(knee.0, knee.1), s.pixel(tip.0, tip.1)],
        widths: (thick * s.radius * d.range(0.75, 1.15), thick * s.radius * 0.18),
        value: d.range(0.72, 1.0),
    };
    draw(layer, &stroke);
}

pub fn vessels(s: &Scene, width: usize, height: usize, seed: u64) -> Gray {
    let d = &mut Dice::new(seed ^ 0x5E55);
    let mut layer = Gray::new(width, height);
    for _ in 0..(10.0 + 16.0 * s.redness) as usize {
        let side = if d.chance(0.5) { 1.0 } else { -1.0 };
        let start = (s.middle + side * s.half * d.range(0.8, 1.0), d.normal() * 0.32 + 0.15);
        // Towards the limbus.
        let heading = (-side, d.normal() * 0.35);
        branch(&mut layer, s, d, start, heading, d_width(s), 0);
    }
    layer
}

fn d_width(s: &Scene) -> f32 {
    0.012 * s.radius
}

/// A vessel that winds on in short curves, thinner and thinner, and forks.
fn branch(layer: &mut Gray, s: &Scene, d: &mut Dice, start: (f32, f32), heading: (f32, f32), width: f32, depth: usize) {
    let (mut at, mut heading, mut width) = (start, heading, width * d.range(0.7, 1.1));
    for _ in 0..5 + d.below(4) {
        let stride = d.range(0.07, 0.17);
        heading.1 += d.normal() * 0.3;
        let next = (at.0 + heading.0 * stride, at.1 + heading.1 * stride);
        let knee = ((at.0 + next.0) * 0.5 + d.normal() * 0.012, (at.1 + next.1) * 0.5 + d.normal() * 0.035);
        let points = [s.pixel(at.0, at.1), s.pixel(knee.0, knee.1), s.pixel(next.0, next.1)];
        draw(layer, &Stroke { points, widths: (width, width * 0.86), value: (0.95 - 0.2 * depth as f32).max(0.3) });
        if depth < 2 && d.chance(0.3) {
            let fork = (heading.0, heading.1 + d.normal() * 0.8);
            branch(layer, s, d, next, fork, width * 0.65, depth + 1);
        }
        at = next;
        width *= 0.86;
    }
}

fn draw(layer: &mut Gray, stroke: &Stroke) {
    let [a, b, c] = stroke.points;
    let at = |i: usize| {
        let t = i as f32 / PIECES as f32;
        let (p, q, r) = ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t);
        (p * a.0 + q * b.0 + r * c.0, p * a.1 + q * b.1 + r * c.1)
    };
    for i in 0..PIECES {
        let width = |i: usize| stroke.widths.0 + (stroke.widths.1 - stroke.widths.0) * i as f32 / PIECES as f32;
        piece(layer, (at(i), width(i)), (at(i + 1), width(i + 1)), stroke.value);
    }
}

/// A straight piece between two (point, width), its edge softened over a pixel. Thinner than a pixel: fainter instead.
fn piece(layer: &mut Gray, from: ((f32, f32), f32), to: ((f32, f32), f32), value: f32) {
    let ((a, wa), (b, wb)) = (from, to);
    let reach = wa.max(wb).max(1.0) * 0.5 + 1.0;
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length2 = (dx * dx + dy * dy).max(1e-6);
    let span = |low: f32, high: f32, end: usize| {
        ((low - reach).floor().max(0.0) as usize).min(end)..((high + reach).ceil().max(0.0) as usize).min(end)
    };
    let xs = span(a.0.min(b.0), a.0.max(b.0), layer.width);
    for y in span(a.1.min(b.1), a.1.max(b.1), layer.height) {
        for x in xs.clone() {
            let (px, py) = (x as f32 + 0.5 - a.0, y as f32 + 0.5 - a.1);
            let t = ((px * dx + py * dy) / length2).clamp(0.0, 1.0);
            let (ox, oy) = (px - t * dx, py - t * dy);
            let width = wa + (wb - wa) * t;
            let cover = (width.max(1.0) * 0.5 + 0.5 - (ox * ox + oy * oy).sqrt()).clamp(0.0, 1.0) * width.min(1.0) * value;
            let cell = &mut layer.data[y * layer.width + x];
            *cell = (*cell).max((cover * 255.0) as u8);
        }
    }
}

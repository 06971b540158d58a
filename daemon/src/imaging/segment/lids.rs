//! The eyelids: one parabola above, one below, cutting the limbus' disc.
//!
//! A pixel of the disc speaks for iris (+) or against it (-) by its distance to the colours of the sure iris: a ring at the sides. The
//! upper lid is the parabola that has the most of what speaks against iris above it and the least of what speaks for it; none at all
//! where that sum stays below what chance gives.

use super::{refine::Eye, views::Views};
use crate::imaging::{
    geometry::{self, Frame},
    raster::Gray,
    wide::wide,
};

/// y = apex + slope (x - cx) + bend (x - cx)², px of the fine view; above: what lies above it is lid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    cx: f64,
    apex: f64,
    slope: f64,
    bend: f64,
}

impl Curve {
    fn y(&self, x: f64) -> f64 {
        let d = x - self.cx;
        self.apex + self.slope * d + self.bend * d * d
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lids {
    pub upper: Option<Curve>,
    pub lower: Option<Curve>,
}

impl Lids {
    /// Whether a point of the fine view lies between the lids.
    pub fn is_open(&self, x: f64, y: f64) -> bool {
        self.upper.is_none_or(|c| y > c.y(x)) && self.lower.is_none_or(|c| y < c.y(x))
    }

    /// Clears what lies behind the lids, with a soft edge; `sx`, `sy`: px of the mask for each px of the fine view.
    pub fn cut(&self, mask: &mut Gray, sx: f64, sy: f64) {
        let Some((left, first, right, last)) = mask.bounds(1) else { return };
        let row = |y: f64| (y.max(first as f64) as usize).min(last);
        for x in left..right {
            let at = (x as f64 + 0.5) / sx;
            let (top, bottom) = (self.upper.map(|c| c.y(at) * sy), self.lower.map(|c| c.y(at) * sy));
            // Between these rows all lies a px and more from either lid.
            let open = row(top.map_or(0.0, |t| t + 1.0))..row(bottom.map_or(last as f64, |b| b - 1.0));
            let beside = if open.is_empty() { (first..last, 0..0) } else { (first..open.start, open.end..last) };
            for y in beside.0.chain(beside.1) {
                let py = y as f64 + 0.5;
                let depth = top.map_or(1.0, |t| py - t).min(bottom.map_or(1.0, |b| b - py));
                let v = &mut mask.data[y * mask.width + x];
                *v = (f64::from(*v) * (0.5 + depth).clamp(0.0, 1.0)).round() as u8;
            }
        }
    }
}

/// What a lid must gain over none, in limbus areas.
const WORTH: f64 = 0.02;

pub fn find(views: &Views, eye: &Eye) -> Lids {
    let disc = Disc::new(views, eye);
    Lids { upper: disc.lid(-1.0), lower: disc.lid(1.0) }
}

/// What a pixel says that is surely no iris.
const SURE: i32 = 1 << 12;

/// The limbus' bounding box with, column by column, running sums of what speaks against iris, from above.
struct Disc {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    /// (height + 1) x width, of [`SURE`]: a disc of 320 px a side fits an i32.
    sums: Vec<i32>,
    cx: f64,
    cy: f64,
    r: f64,
}

impl Disc {
    fn new(views: &Views, eye: &Eye) -> Self {
        let (left, top, right, bottom) = geometry::bounds(&eye.limbus);
        let clamp = |v: f64, n: usize| (v.max(0.0) as usize).min(n);
        let (w, h) = (views.small.width, views.small.height);
        let (x, y) = (clamp(left, w), clamp(top, h));
        let (width, height) = (clamp(right.ceil(), w) - x, clamp(bottom.ceil(), h) - y);
        let model = Model::of_sides(views, eye);
        let (limbus, pupil) = (Frame::new(&eye.limbus), eye.pupil.as_ref().map(Frame::new));
        let mut sums = vec![0; width * (height + 1)];
        for j in 0..height {
            for i in 0..width {
                let (fx, fy) = ((x + i) as f64 + 0.5, (y + j) as f64 + 0.5);
                let speaks = match () {
                    () if !limbus.contains(fx, fy) => 0,
                    () if pupil.is_some_and(|p| p.rho2(fx, fy) < 1.1 * 1.1) => -SURE / 2,
                    () => (SURE as f32 * model.against(views.small.px(x + i, y + j))) as i32,
                };
                sums[(j + 1) * width + i] = sums[j * width + i] + speaks;
            }
        }
        Self { x, y, width, height, sums, cx: eye.limbus.cx, cy: eye.limbus.cy, r: geometry::radius(&eye.limbus) }
    }

    /// The best curve on the side that `sign` names: -1 above, 1 below.
    fn lid(&self, sign: f64) -> Option<Curve> {
        let mut best = ((f64::from(SURE) * WORTH * std::f64::consts::PI * self.r * self.r) as i32, None);
        let all: i32 = self.sums[self.height * self.width..].iter().sum();
        let (mut shape, mut rows) = (vec![0.0; self.width], vec![0; self.width]);
        for bend in [0.0, 0.15, 0.3, 0.45, 0.6] {
            for slope in [-0.3, -0.15, 0.0, 0.15, 0.3] {
                // All curves of a shape are one that is moved up and down.
                let curve = Curve { cx: self.cx, apex: 0.5 - self.y as f64, slope, bend: -sign * bend / self.r };
                shape.iter_mut().enumerate().for_each(|(i, y)| *y = curve.y((self.x + i) as f64 + 0.5) as f32);
                for k in 0..24 {
                    // From just inside the limbus to a tenth of a radius before the centre.
                    let apex = self.cy + sign * self.r * (0.97 - 0.037 * f64::from(k));
                    into_rows(&shape, apex as f32, self.height as u32, &mut rows);
                    let above: i32 = rows.iter().enumerate().map(|(i, row)| self.sums[*row as usize * self.width + i]).sum();
                    let gain = if sign < 0.0 { above } else { all - above };
                    if gain > best.0 {
                        best = (gain, Some(Curve { apex, ..curve }));
                    }
                }
            }
        }
        best.1
    }
}

wide! {
    /// The row that each place lies in, `last` at most.
    fn into_rows(shape: &[f32], apex: f32, last: u32, rows: &mut [u32]) {
        for (row, y) in rows.iter_mut().zip(shape) {
            *row = (y + apex).clamp(0.0, last as f32) as i32 as u32;
        }
    }
}

/// How much being darker than the iris counts, against being brighter.
const SHADOW: f32 = 0.5;

/// What iris looks like in this photo: median and spread of brightness and of two colour differences.
struct Model {
    middle: [f32; 3],
    spread: [f32; 3],
}

fn features([r, g, b]: [u8; 3]) -> [f32; 3] {
    let (r, g, b) = (f32::from(r), f32::from(g), f32::from(b));
    let sum = r + g + b + 40.0;
    [(r + g + b) / 3.0, 200.0 * r / sum, 200.0 * b / sum]
}

impl Model {
    fn of_sides(views: &Views, eye: &Eye) -> Self {
        let mut seen: [Vec<f32>; 3] = Default::default();
        let (small, e) = (&views.small, &eye.limbus);
        for a in 0..48 {
            let (sin, cos) = (std::f64::consts::TAU * f64::from(a) / 48.0).sin_cos();
            if !(-0.35..0.75).contains(&sin) {
                continue;
            }
            for k in [0.6, 0.68, 0.76, 0.84, 0.9] {
                let (x, y) = (e.cx + k * e.rx * cos, e.cy + k * e.ry * sin);
                let inside_pupil = eye.pupil.as_ref().is_some_and(|p| geometry::rho(p, x, y) < 1.1);
                if x < 0.0 || y < 0.0 || x >= small.width as f64 || y >= small.height as f64 || inside_pupil {
                    continue;
                }
                let f = features(small.px(x as usize, y as usize));
                seen.iter_mut().zip(f).for_each(|(s, v)| s.push(v));
            }
        }
        let (mut middle, mut spread) = ([0.0; 3], [1e3; 3]);
        for (c, mut v) in seen.into_iter().enumerate().filter(|(_, v)| v.len() >= 12) {
            let m = v.len() / 2;
            middle[c] = *v.select_nth_unstable_by(m, f32::total_cmp).1;
            v.iter_mut().for_each(|x| *x = (*x - middle[c]).abs());
            spread[c] = (1.48 * *v.select_nth_unstable_by(m, f32::total_cmp).1).max([12.0, 4.0, 4.0][c]);
        }
        Self { middle, spread }
    }

    /// -1 (surely iris) to 1 (surely not).
    fn against(&self, px: [u8; 3]) -> f32 {
        let f = features(px);
        let mut f = f;
        // The upper lid throws its shadow on the iris: darker is no sign of a lid until it is lash.
        if f[0] < self.middle[0] {
            f[0] = self.middle[0] + SHADOW * (f[0] - self.middle[0]);
        }
        let off = (0..3).map(|c| ((f[c] - self.middle[c]) / self.spread[c]).powi(2)).sum::<f32>().sqrt();
        ((off - 4.2) / 1.5).clamp(-1.0, 1.0)
    }
}

//! Holes filled from their edges inwards: A. Telea, "An image inpainting technique based on the fast marching method", 2004.
//!
//! ```text
//!   KNOWN  ...  the photo, never written
//!   BAND   ...  front of the march, a heap ordered by distance to the hole's edge
//!   UNKNOWN ..  still to be made up
//! ```
//!
//! Each pixel that the front reaches becomes a weighted mean of what is known within `radius`: weights favour pixels that are near, that
//! lie along the front's normal and at the same distance from the edge; every neighbour is carried on along its gradient. Work and
//! memory are those of the hole's bounding box, not of the photo.

pub mod fibres;
pub mod membrane;

use std::{cmp::Ordering, collections::BinaryHeap};

use super::{
    mask::Region,
    raster::{Gray, Rgb},
};

const KNOWN: u8 = 0;
const BAND: u8 = 1;
const UNKNOWN: u8 = 2;
/// Distance of what the march has not reached.
const FAR: f32 = 1e6;

/// Fills the pixels where `hole` (the photo's size) is not 0; every other pixel stays as it is, bit for bit. `radius`: how far around a
/// pixel is looked, px, 3 to 10. Gives the number of pixels made up: 0 where the hole is the whole photo, of which nothing is known.
pub fn telea(rgb: &mut Rgb, hole: &Gray, radius: usize) -> usize {
    assert_eq!((rgb.width, rgb.height), (hole.width, hole.height), "a hole of the photo's size");
    fill(rgb, hole, 0, 0, radius)
}

/// [`telea`] for a hole that is known with its place. What of it hangs over the photo's edge is left out.
pub fn telea_region(rgb: &mut Rgb, hole: &Region, radius: usize) -> usize {
    fill(rgb, &hole.gray, hole.x, hole.y, radius)
}

fn fill(rgb: &mut Rgb, hole: &Gray, dx: usize, dy: usize, radius: usize) -> usize {
    let Some(mut march) = March::new(rgb, hole, dx, dy, radius.max(1)) else { return 0 };
    let mut made = 0;
    while let Some(Front { distance: _, at }) = march.heap.pop() {
        if march.state[at] == KNOWN {
            continue;
        }
        march.state[at] = KNOWN;
        for next in march.neighbours(at) {
            if march.state[next] == KNOWN {
                continue;
            }
            if march.state[next] == UNKNOWN {
                march.state[next] = BAND;
                march.distance[next] = march.eikonal(next);
                let colour = march.colour(next);
                march.px[next] = colour;
                march.filled[next] = true;
                made += 1;
                march.heap.push(Front { distance: march.distance[next], at: next });
            } else {
                let d = march.eikonal(next);
                if d < march.distance[next] {
                    march.distance[next] = d;
                    march.heap.push(Front { distance: d, at: next });
                }
            }
        }
    }
    march.write_back(rgb);
    made
}

/// A pixel of the front; the heap gives the smallest distance first, ties in a fixed order so that a photo always comes out the same.
struct Front {
    distance: f32,
    at: usize,
}

impl Ord for Front {
    fn cmp(&self, other: &Self) -> Ordering {
        other.distance.total_cmp(&self.distance).then(other.at.cmp(&self.at))
    }
}

impl PartialOrd for Front {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Front {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Front {}

/// The hole's bounding box with a frame of `radius` + 1 px of known photo around it, where there is any.
struct March {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    px: Vec<[f32; 3]>,
    state: Vec<u8>,
    /// Whether `px` holds a colour: the photo's own, or one that was made up.
    filled: Vec<bool>,
    made_up: Vec<bool>,
    distance: Vec<f32>,
    heap: BinaryHeap<Front>,
    /// Offsets within the radius, with 1 / distance² and the unit direction's length left to the sum.
    disc: Vec<(isize, isize, f32)>,
}

impl March {
    fn new(rgb: &Rgb, hole: &Gray, dx: usize, dy: usize, radius: usize) -> Option<Self> {
        let (w, h) = (hole.width.min(rgb.width.saturating_sub(dx)), hole.height.min(rgb.height.saturating_sub(dy)));
        let is_hole = |x: usize, y: usize| x >= dx && y >= dy && x - dx < w && y - dy < h && hole.px(x - dx, y - dy) != 0;
        let mut rows = (0..h).filter(|y| hole.row(*y)[..w].iter().any(|v| *v != 0));
        let top = rows.next()?;
        let bottom = rows.next_back().unwrap_or(top);
        let (mut left, mut right) = (w, 0);
        for y in top..=bottom {
            let row = &hole.row(y)[..w];
            if let (Some(first), Some(last)) = (row.iter().position(|v| *v != 0), row.iter().rposition(|v| *v != 0)) {
                (left, right) = (left.min(first), right.max(last));
            }
        }
        let frame = radius + 1;
        let (x, y) = ((left + dx).saturating_sub(frame), (top + dy).saturating_sub(frame));
        let (x1, y1) = ((right + dx + frame + 1).min(rgb.width), (bottom + dy + frame + 1).min(rgb.height));
        let (width, height) = (x1 - x, y1 - y);
        let mut march = Self {
            x,
            y,
            width,
            height,
            px: Vec::with_capacity(width * height),
            state: Vec::with_capacity(width * height),
            filled: Vec::new(),
            made_up: Vec::new(),
            distance: Vec::new(),
            heap: BinaryHeap::new(),
            disc: disc(radius),
        };
        for py in y..y1 {
            for px in x..x1 {
                march.px.push(rgb.px(px, py).map(f32::from));
                march.state.push(if is_hole(px, py) { UNKNOWN } else { KNOWN });
            }
        }
        march.made_up = march.state.iter().map(|s| *s == UNKNOWN).collect();
        march.filled = march.made_up.iter().map(|m| !m).collect();
        march.distance = march.made_up.iter().map(|m| if *m { FAR } else { 0.0 }).collect();
        // The first front: known pixels that touch the hole.
        for at in 0..march.state.len() {
            if march.state[at] == KNOWN && march.neighbours(at).any(|n| march.made_up[n]) {
                march.state[at] = BAND;
                march.heap.push(Front { distance: 0.0, at });
            }
        }
        Some(march)
    }

    /// The pixels beside, above and below.
    fn neighbours(&self, at: usize) -> impl Iterator<Item = usize> + use<> {
        let (x, y, w) = (at % self.width, at / self.width, self.width);
        let found =
            [(x > 0).then(|| at - 1), (x + 1 < w).then_some(at + 1), (y > 0).then(|| at - w), (y + 1 < self.height).then_some(at + w)];
        found.into_iter().flatten()
    }

    /// Distance to the edge from the neighbours' (|grad T| = 1, upwind).
    fn eikonal(&self, at: usize) -> f32 {
        let (x, y, w) = (at % self.width, at / self.width, self.width);
        let side = |ok: bool, i: usize| if ok && self.filled_front(i) { self.distance[i] } else { FAR };
        let a = side(x > 0, at.wrapping_sub(1)).min(side(x + 1 < w, at + 1));
        let b = side(y > 0, at.wrapping_sub(w)).min(side(y + 1 < self.height, at + w));
        let (near, far) = (a.min(b), a.max(b));
        if far - near >= 1.0 { near + 1.0 } else { (near + far + (2.0 - (far - near) * (far - near)).sqrt()) / 2.0 }
    }

    fn filled_front(&self, i: usize) -> bool {
        self.state[i] != UNKNOWN
    }

    /// Central difference of what `value` gives, one-sided at the edge of what is known, 0 where nothing is known beside it.
    fn slope<T>(&self, at: usize, step: usize, low: bool, high: bool, value: impl Fn(usize) -> T) -> Option<(T, T, f32)> {
        let before = (low && self.filled[at - step]).then(|| value(at - step));
        let after = (high && self.filled[at + step]).then(|| value(at + step));
        match (before, after) {
            (Some(b), Some(a)) => Some((b, a, 0.5)),
            (Some(b), None) => Some((b, value(at), 1.0)),
            (None, Some(a)) => Some((value(at), a, 1.0)),
            (None, None) => None,
        }
    }

    fn colour(&self, at: usize) -> [f32; 3] {
        let (x, y, w, h) = (at % self.width, at / self.width, self.width, self.height);
        let grad = |value: Option<(f32, f32, f32)>| value.map_or(0.0, |(a, b, k)| (b - a) * k);
        let nx = grad(self.slope(at, 1, x > 0, x + 1 < w, |i| self.distance[i]));
        let ny = grad(self.slope(at, w, y > 0, y + 1 < h, |i| self.distance[i]));
        let (mut sum, mut total) = ([0.0f32; 3], 0.0f32);
        for (ox, oy, closeness) in &self.disc {
            let (qx, qy) = (x as isize + ox, y as isize + oy);
            if qx < 0 || qy < 0 || qx >= w as isize || qy >= h as isize {
                continue;
            }
            let (qx, qy) = (qx as usize, qy as usize);
            let q = qy * w + qx;
            if !self.filled[q] {
                continue;
            }
            // From q to here.
            let (rx, ry) = (-*ox as f32, -*oy as f32);
            let direction = ((rx * nx + ry * ny) * closeness.sqrt()).abs().max(1e-6);
            let level = 1.0 / (1.0 + (self.distance[q] - self.distance[at]).abs());
            let weight = direction * closeness * level;
            let gx = self.slope(q, 1, qx > 0, qx + 1 < w, |i| self.px[i]);
            let gy = self.slope(q, w, qy > 0, qy + 1 < h, |i| self.px[i]);
            for c in 0..3 {
                let along = gx.map_or(0.0, |(a, b, k)| (b[c] - a[c]) * k) * rx + gy.map_or(0.0, |(a, b, k)| (b[c] - a[c]) * k) * ry;
                sum[c] += weight * (self.px[q][c] + along * EXTRAPOLATE);
            }
            total += weight;
        }
        sum.map(|s| (s / total.max(1e-12)).clamp(0.0, 255.0))
    }

    fn write_back(&self, rgb: &mut Rgb) {
        for (i, px) in self.px.iter().enumerate() {
            if self.made_up[i] && self.filled[i] {
                rgb.set(self.x + i % self.width, self.y + i / self.width, px.map(|v| v.round() as u8));
            }
        }
    }
}

/// How much of a neighbour's gradient is carried on. All of it (as published) lets the steep rim of a highlight run across the hole.
const EXTRAPOLATE: f32 = 0.2;

fn disc(radius: usize) -> Vec<(isize, isize, f32)> {
    let r = radius as isize;
    let all = (-r..=r).flat_map(|y| (-r..=r).map(move |x| (x, y)));
    all.filter(|(x, y)| (1..=r * r).contains(&(x * x + y * y))).map(|(x, y)| (x, y, 1.0 / (x * x + y * y) as f32)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ramp(width: usize, height: usize) -> Rgb {
        let mut p = Rgb::new(width, height);
        for y in 0..height {
            for x in 0..width {
                p.set(x, y, [(40 + 2 * x) as u8, (200 - y) as u8, (60 + x / 2 + y / 2) as u8]);
            }
        }
        p
    }

    proptest! {
        #[test]
        fn pixels_outside_the_hole_stay_bit_for_bit(holes in proptest::collection::vec((0usize..40, 0usize..30, 1usize..9), 0..6), radius in 1usize..7) {
            let before = ramp(40, 30);
            let mut hole = Gray::new(40, 30);
            for (x, y, r) in holes {
                for j in y..(y + r).min(30) {
                    hole.data[j * 40 + x..j * 40 + (x + r).min(40)].fill(255);
                }
            }
            let mut after = before.clone();
            let made = telea(&mut after, &hole, radius);
            prop_assert_eq!(made, hole.data.iter().filter(|v| **v != 0).count());
            for i in 0..hole.data.len() {
                prop_assert!(hole.data[i] != 0 || after.data[i * 3..i * 3 + 3] == before.data[i * 3..i * 3 + 3]);
            }
        }
    }

    #[test]
    fn a_white_spot_on_a_smooth_ramp_disappears() {
        let clean = ramp(80, 60);
        let mut photo = clean.clone();
        let mut hole = Gray::new(12, 9);
        hole.data.fill(255);
        for y in 20..29 {
            for x in 30..42 {
                photo.set(x, y, [255, 255, 255]);
            }
        }
        assert_eq!(telea_region(&mut photo, &Region { x: 30, y: 20, gray: hole }, 5), 108);
        let worst = photo.data.iter().zip(&clean.data).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst < Some(14), "{worst:?}");
    }

    #[test]
    fn a_hole_that_is_the_whole_photo_or_none_changes_nothing() {
        let before = ramp(20, 10);
        for fill in [0, 255] {
            let mut photo = before.clone();
            assert_eq!(telea(&mut photo, &Gray { width: 20, height: 10, data: vec![fill; 200] }, 4), 0);
            assert_eq!(photo, before);
        }
    }

    #[test]
    fn a_hole_that_hangs_over_the_corner_is_filled_as_far_as_there_is_photo() {
        let mut photo = ramp(20, 10);
        let hole = Region { x: 17, y: 8, gray: Gray { width: 9, height: 9, data: vec![255; 81] } };
        assert_eq!(telea_region(&mut photo, &hole, 4), 6);
    }
}

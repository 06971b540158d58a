//! Highlights of an eye filled the way an iris is built: fibres run from pupil to limbus, zones of colour run round.
//!
//! ```text
//!        \   outwards  /
//!   round ... px ... round     the nearest known px on the ray and on the circle around the pupil, the nearer the heavier;
//!        /   inwards   \       iris looks at iris alone, pupil at pupil alone: the pupil's edge stays where it is
//! ```
//!
//! What finds too few known pixels that way (a hole that reaches the lids or the limbus all round) is left to [`telea_region`].

use super::{super::geometry, Region, telea_region};
use crate::{
    domain::report::Ellipse,
    imaging::raster::{Gray, Rgb},
};

/// How far a known px may lie from one that is made up, in limbus radii.
const REACH: f64 = 0.6;
/// Known px averaged at the end of a way: one alone would draw its noise as a streak.
const AVERAGED: usize = 3;
/// Fibres tell more of an iris px than its circle does.
const ALONG_FIBRE: f64 = 2.0;

/// Fills `hole` (where it is not 0) inside the limbus by rays and circles, the rest by fast marching within `radius` px. Every pixel
/// outside the hole stays bit for bit. Gives the number of pixels made up.
pub fn fill(rgb: &mut Rgb, hole: &Region, limbus: &Ellipse, pupil: Option<&Ellipse>, radius: usize) -> usize {
    let eye = Eye { hole, limbus, pupil, width: rgb.width, height: rgb.height };
    let mut made = Vec::new();
    let mut rest = Region { gray: Gray::new(hole.gray.width, hole.gray.height), ..*hole };
    for (i, _) in hole.gray.data.iter().enumerate().filter(|(_, v)| **v != 0) {
        let (x, y) = (hole.x + i % hole.gray.width, hole.y + i / hole.gray.width);
        if x >= rgb.width || y >= rgb.height {
            continue;
        }
        match eye.colour(rgb, x, y) {
            Some(px) => made.push((x, y, px)),
            None => rest.gray.data[i] = 255,
        }
    }
    // Written after all were read: a made-up px is no source for the next.
    for (x, y, px) in &made {
        rgb.set(*x, *y, *px);
    }
    made.len() + telea_region(rgb, &rest, radius)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Pupil,
    Iris,
    Outside,
}

struct Eye<'a> {
    hole: &'a Region,
    limbus: &'a Ellipse,
    pupil: Option<&'a Ellipse>,
    width: usize,
    height: usize,
}

impl Eye<'_> {
    fn part(&self, x: f64, y: f64) -> Part {
        match () {
            () if self.pupil.is_some_and(|p| geometry::contains(p, x, y)) => Part::Pupil,
            () if geometry::contains(self.limbus, x, y) => Part::Iris,
            () => Part::Outside,
        }
    }

    fn in_hole(&self, x: usize, y: usize) -> bool {
        let g = &self.hole.gray;
        x >= self.hole.x
            && y >= self.hole.y
            && x - self.hole.x < g.width
            && y - self.hole.y < g.height
            && g.px(x - self.hole.x, y - self.hole.y) != 0
    }

    fn colour(&self, rgb: &Rgb, x: usize, y: usize) -> Option<[u8; 3]> {
        let (px, py) = (x as f64 + 0.5, y as f64 + 0.5);
        let part = self.part(px, py);
        if part == Part::Outside {
            return None;
        }
        let centre = self.pupil.unwrap_or(self.limbus);
        let (dx, dy) = (px - centre.cx, py - centre.cy);
        let r = dx.hypot(dy).max(0.5);
        let (ux, uy) = (dx / r, dy / r);
        let straight = |sign: f64| move |d: f64| (px + sign * d * ux, py + sign * d * uy);
        // Near the centre a circle is too small to leave the hole: the pupil has no fibres, so straight ways across do.
        let round = |sign: f64| {
            move |d: f64| match part {
                Part::Pupil => (px - sign * d * uy, py + sign * d * ux),
                _ => {
                    let (s, c) = (sign * d / r).sin_cos();
                    (centre.cx + dx * c - dy * s, centre.cy + dx * s + dy * c)
                }
            }
        };
        let fibre = if part == Part::Iris { ALONG_FIBRE } else { 1.0 };
        let ways = [
            (self.way(rgb, part, straight(1.0)), fibre),
            (self.way(rgb, part, straight(-1.0)), fibre),
            (self.way(rgb, part, round(1.0)), 1.0),
            (self.way(rgb, part, round(-1.0)), 1.0),
        ];
        if ways.iter().filter(|(w, _)| w.is_some()).count() < 2 {
            return None;
        }
        let (mut sum, mut total) = ([0.0; 3], 0.0);
        for (found, weight) in ways {
            if let Some((colour, distance)) = found {
                let w = weight / (distance * distance);
                sum.iter_mut().zip(colour).for_each(|(s, c)| *s += w * c);
                total += w;
            }
        }
        Some(sum.map(|s| (s / total).round().clamp(0.0, 255.0) as u8))
    }

    /// Mean colour of the first known px along a way, and how far they are; None where it leaves the part or the photo first.
    fn way(&self, rgb: &Rgb, part: Part, at: impl Fn(f64) -> (f64, f64)) -> Option<([f64; 3], f64)> {
        let reach = (geometry::radius(self.limbus) * REACH).ceil() as usize;
        let (mut sum, mut n, mut first) = ([0.0; 3], 0usize, 0usize);
        for d in 1..=reach {
            let (fx, fy) = at(d as f64);
            if fx < 0.0 || fy < 0.0 || fx >= self.width as f64 || fy >= self.height as f64 || self.part(fx, fy) != part {
                break;
            }
            let (x, y) = (fx as usize, fy as usize);
            if self.in_hole(x, y) {
                if n > 0 {
                    break;
                }
                continue;
            }
            if n == 0 {
                first = d;
            }
            sum.iter_mut().zip(rgb.px(x, y)).for_each(|(s, v)| *s += f64::from(v));
            n += 1;
            if n == AVERAGED {
                break;
            }
        }
        (n > 0).then(|| (sum.map(|s| s / n as f64), first as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::geometry::circle;

    /// Fibres every 6 degrees in a ring, a black pupil.
    fn iris() -> (Rgb, Ellipse, Ellipse) {
        let (limbus, pupil) = (circle(100.0, 100.0, 90.0), circle(100.0, 100.0, 30.0));
        let mut photo = Rgb::new(200, 200);
        for y in 0..200 {
            for x in 0..200 {
                let (dx, dy) = (x as f64 + 0.5 - 100.0, y as f64 + 0.5 - 100.0);
                let v = 110.0 + 50.0 * (dy.atan2(dx) * 30.0).sin();
                let px = if dx.hypot(dy) < 30.0 { [10, 9, 8] } else { [v as u8, (v * 0.7) as u8, 40] };
                photo.set(x, y, px);
            }
        }
        (photo, limbus, pupil)
    }

    fn spot(x: usize, y: usize, side: usize) -> Region {
        Region { x, y, gray: Gray { width: side, height: side, data: vec![255; side * side] } }
    }

    fn error(photo: &Rgb, clean: &Rgb, hole: &Region) -> f64 {
        let side = hole.gray.width;
        let all = (0..side * side).flat_map(|i| {
            let (x, y) = (hole.x + i % side, hole.y + i / side);
            photo.px(x, y).into_iter().zip(clean.px(x, y))
        });
        all.map(|(a, b)| f64::from(a.abs_diff(b))).sum::<f64>() / (3 * side * side) as f64
    }

    #[test]
    fn fibres_go_on_through_a_hole_better_than_by_fast_marching() {
        let (clean, limbus, pupil) = iris();
        let hole = spot(150, 90, 16);
        let (mut ours, mut plain) = (clean.clone(), clean.clone());
        assert_eq!(fill(&mut ours, &hole, &limbus, Some(&pupil), 5), 256);
        telea_region(&mut plain, &hole, 5);
        assert!(
            error(&ours, &clean, &hole) < 0.7 * error(&plain, &clean, &hole),
            "{} {}",
            error(&ours, &clean, &hole),
            error(&plain, &clean, &hole)
        );
    }

    #[test]
    fn a_lamp_across_the_pupils_edge_leaves_the_edge_where_it_was_and_nothing_else_changes() {
        let (clean, limbus, pupil) = iris();
        let hole = spot(122, 92, 14);
        let mut photo = clean.clone();
        for y in 92..106 {
            for x in 122..136 {
                photo.set(x, y, [255; 3]);
            }
        }
        assert_eq!(fill(&mut photo, &hole, &limbus, Some(&pupil), 5), 196);
        assert!(photo.px(124, 99)[0] < 20 && photo.px(134, 99)[0] > 50, "{:?} {:?}", photo.px(124, 99), photo.px(134, 99));
        for (i, (a, b)) in photo.data.iter().zip(&clean.data).enumerate() {
            let (x, y) = (i / 3 % 200, i / 600);
            assert!(a == b || ((122..136).contains(&x) && (92..106).contains(&y)));
        }
    }

    #[test]
    fn a_hole_beyond_the_limbus_or_over_the_photos_edge_is_filled_by_fast_marching() {
        let (mut photo, _, pupil) = iris();
        let limbus = circle(100.0, 100.0, 60.0);
        assert_eq!(fill(&mut photo, &spot(190, 190, 20), &limbus, Some(&pupil), 5), 100);
    }
}

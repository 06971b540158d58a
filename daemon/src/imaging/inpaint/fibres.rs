//! Highlights of an eye filled the way an iris is built: zones of colour run round, fibres run from pupil to limbus.
//!
//! ```text
//!   known px beside the hole --mean by distance from the pupil--> profile      the zones: collarette, dark rim, pupil's edge
//!   known px at its border - profile --membrane, stiffer along the ray--> rest  the fibres, and what the light does
//!   made-up px = profile + rest
//! ```
//!
//! No other guess has a smaller expected error (see [`super::membrane`]). Iris, pupil and what lies outside of both hardly pull at each
//! other, so the pupil's edge stays where it is. Each separate hole is solved on
//! its own, from coarse to fine, in a window around it: the work grows with the holes, not with the photo. What has too little known iris
//! beside it is left to [`telea_region`].

use super::{
    super::geometry,
    Region,
    membrane::{IRIS, Membrane, OUTSIDE, PUPIL},
    telea_region,
};
use crate::{
    domain::report::Ellipse,
    imaging::{
        mask,
        raster::{Gray, Rgb},
    },
};

/// How far beside a hole the profile is taken, radians. Zones are no perfect circles: nearer is better, as long as noise is averaged out.
const BESIDE: f64 = 0.1;
/// Deviation of the profile's smoothing, bins; a bin is a px on an iris of [`FINE`] px radius or less.
const SMOOTH: f64 = 1.5;
const FINE: f64 = 200.0;
/// Resistance to bending of what is left of an iris without its zones, px^2. On drawn eyes and on photos alike a quarter of it gives
/// half the gain, four times as much little more.
const BEND: f32 = 4.0;
/// Fewer known px of a part say nothing about it.
const MIN_KNOWN: usize = 12;

const PARTS: usize = 3;

/// Fills `hole` (inside from 128 on), which lies on the photo; `mask`: the photo's size, visible iris with the pupil. `guard`: px around
/// the hole that are not believed (a lamp's own soft edge), though they stay as they are. Every pixel outside the hole stays bit for bit.
/// Gives the number of pixels made up.
pub fn fill(rgb: &mut Rgb, hole: &Region, mask: &Gray, limbus: &Ellipse, pupil: Option<&Ellipse>, guard: usize) -> usize {
    let eye = Eye::new(mask, limbus, pupil);
    let doubt = hole.widened(guard);
    let mut rest = Region { gray: Gray::new(hole.gray.width, hole.gray.height), ..*hole };
    let mut done = Vec::new();
    for runs in parts_of(hole, rgb) {
        match Patch::new(rgb, &doubt, &runs, &eye).map(Patch::solved) {
            Some(patch) => done.push(patch),
            None => runs.iter().for_each(|r| {
                let at = (r.y - hole.y) * hole.gray.width;
                rest.gray.data[at + r.x0 - hole.x..at + r.x1 - hole.x].fill(255);
            }),
        }
    }
    // Written after all were read: a made-up px is no source for the next hole.
    let made: usize = done.iter().map(|patch| patch.write(rgb)).sum();
    let radius = (geometry::radius(limbus) / 40.0).clamp(3.0, 10.0) as usize;
    made + telea_region(rgb, &rest, radius)
}

/// A stretch of a row, px of the photo.
#[derive(Debug, Clone, Copy)]
struct Run {
    y: usize,
    x0: usize,
    x1: usize,
}

/// The separate holes, as far as they lie on the photo.
fn parts_of(hole: &Region, rgb: &Rgb) -> Vec<Vec<Run>> {
    let mut parts: Vec<Vec<Run>> = Vec::new();
    mask::each_component(&hole.gray, |n, y, x0, x1| {
        parts.resize_with(parts.len().max(n + 1), Vec::new);
        let run = Run { y: hole.y + y, x0: hole.x + x0, x1: (hole.x + x1).min(rgb.width) };
        if run.y < rgb.height && run.x0 < run.x1 {
            parts[n].push(run);
        }
    });
    parts.retain(|p| !p.is_empty());
    parts
}

/// Where a point lies in the eye.
struct Eye<'a> {
    mask: &'a Gray,
    limbus: geometry::Frame,
    pupil: Option<(geometry::Frame, f64)>,
    centre: (f64, f64),
    /// px of the photo a bin of the profile.
    bin: f64,
}

impl<'a> Eye<'a> {
    fn new(mask: &'a Gray, limbus: &Ellipse, pupil: Option<&Ellipse>) -> Self {
        let middle = pupil.unwrap_or(limbus);
        Self {
            mask,
            limbus: geometry::Frame::new(limbus),
            pupil: pupil.map(|p| (geometry::Frame::new(p), geometry::radius(p))),
            centre: (middle.cx, middle.cy),
            bin: (geometry::radius(limbus) / FINE).max(1.0),
        }
    }

    /// Part of the px at (x, y), and its distance from the pupil's centre in bins.
    fn place(&self, x: usize, y: usize) -> (u8, f64) {
        let (fx, fy) = (x as f64 + 0.5, y as f64 + 0.5);
        if let Some((frame, radius)) = &self.pupil {
            let rho2 = frame.rho2(fx, fy);
            if rho2 <= 1.0 {
                return (PUPIL, rho2.sqrt() * radius / self.bin);
            }
        }
        let distance = (fx - self.centre.0).hypot(fy - self.centre.1) / self.bin;
        let seen = self.mask.data.get(y * self.mask.width + x).is_none_or(|v| *v >= 128);
        (if seen && self.limbus.contains(fx, fy) { IRIS } else { OUTSIDE }, distance)
    }
}

/// One hole in its window.
struct Patch {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    part: Vec<u8>,
    unknown: Vec<bool>,
    /// What the zones say, 0..255.
    profile: Vec<[f32; 3]>,
    /// Photo less profile, and a 0; made up where it is unknown.
    rest: Vec<[f32; 4]>,
    /// Whether a px belongs to this hole (others in the window are unknown, too, but filled elsewhere).
    own: Vec<bool>,
    centre: (f64, f64),
}

impl Patch {
    /// None: too little is known beside the hole.
    fn new(rgb: &Rgb, doubt: &Region, runs: &[Run], eye: &Eye<'_>) -> Option<Self> {
        let sector = Sector::of(runs, eye.centre);
        let margin = (BESIDE * sector.far + 2.0 * SMOOTH * eye.bin).ceil() as usize + 2;
        let (left, right) = (runs.iter().map(|r| r.x0).min()?, runs.iter().map(|r| r.x1).max()?);
        let (top, bottom) = (runs.first()?.y, runs.last()?.y + 1);
        let (x, y) = (left.saturating_sub(margin), top.saturating_sub(margin));
        let (width, height) = ((right + margin).min(rgb.width) - x, (bottom + margin).min(rgb.height) - y);
        let n = width * height;
        let (mut part, mut bins, mut unknown) = (vec![OUTSIDE; n], vec![0.0; n], vec![false; n]);
        let mut own = vec![false; n];
        for r in runs {
            let at = (r.y - y) * width;
            own[at + r.x0 - x..at + r.x1 - x].fill(true);
        }
        let mut bands: [Band; PARTS] = Default::default();
        let mut wanted = [false; PARTS];
        for j in 0..height {
            for i in 0..width {
                let (at, px, py) = (j * width + i, x + i, y + j);
                (part[at], bins[at]) = eye.place(px, py);
                unknown[at] = in_hole(doubt, px, py);
                let p = usize::from(part[at]);
                if own[at] {
                    wanted[p] = true;
                } else if !unknown[at] && sector.holds(px, py, eye.centre) {
                    bands[p].add(bins[at], rgb.px(px, py));
                }
            }
        }
        if (0..PARTS).any(|p| wanted[p] && bands[p].known < MIN_KNOWN) {
            return None;
        }
        let curves = bands.map(Band::curve);
        let profile: Vec<[f32; 3]> = (0..n).map(|i| curves[usize::from(part[i])].at(bins[i])).collect();
        let rest = (0..n)
            .map(|i| {
                let px = rgb.px(x + i % width, y + i / width);
                let [r, g, b] = [0, 1, 2].map(|c| if unknown[i] { 0.0 } else { f32::from(px[c]) - profile[i][c] });
                [r, g, b, 0.0]
            })
            .collect();
        let centre = (eye.centre.0 - x as f64, eye.centre.1 - y as f64);
        Some(Self { x, y, width, height, part, unknown, profile, rest, own, centre })
    }

    fn solved(mut self) -> Self {
        let mut level = Membrane {
            width: self.width,
            height: self.height,
            part: std::mem::take(&mut self.part),
            unknown: std::mem::take(&mut self.unknown),
            value: std::mem::take(&mut self.rest),
            centre: self.centre,
            bend: BEND,
        };
        level.solve();
        self.rest = level.value;
        self
    }

    fn write(&self, rgb: &mut Rgb) -> usize {
        let mut made = 0;
        for (i, _) in self.own.iter().enumerate().filter(|(_, own)| **own) {
            let px = [0, 1, 2].map(|c| (self.profile[i][c] + self.rest[i][c] + 0.5).clamp(0.0, 255.0) as u8);
            rgb.set(self.x + i % self.width, self.y + i / self.width, px);
            made += 1;
        }
        made
    }
}

fn in_hole(hole: &Region, x: usize, y: usize) -> bool {
    let (i, j) = (x.wrapping_sub(hole.x), y.wrapping_sub(hole.y));
    i < hole.gray.width && j < hole.gray.height && hole.gray.px(i, j) >= 128
}

/// The angles beside which a hole lies, seen from the pupil's centre.
struct Sector {
    /// Unit vector to its middle.
    middle: (f64, f64),
    /// Half its width with what lies beside, radians; all round from pi on.
    half: f64,
    /// Of the hole's farthest px, px.
    far: f64,
}

impl Sector {
    fn of(runs: &[Run], centre: (f64, f64)) -> Self {
        let points = || runs.iter().flat_map(|r| [r.x0, r.x1 - 1].map(|x| (x as f64 + 0.5 - centre.0, r.y as f64 + 0.5 - centre.1)));
        let pixels: f64 = runs.iter().map(|r| (r.x1 - r.x0) as f64).sum();
        let (mut sx, mut sy) = (0.0, 0.0);
        for r in runs {
            let n = (r.x1 - r.x0) as f64;
            sx += n * ((r.x0 + r.x1) as f64 / 2.0 - centre.0);
            sy += n * (r.y as f64 + 0.5 - centre.1);
        }
        let length = sx.hypot(sy);
        let far = points().map(|(x, y)| x.hypot(y)).fold(0.0, f64::max);
        // A hole around the centre, or one whose middle is there, is seen on all sides.
        if length < pixels || points().any(|(x, y)| x.hypot(y) < 2.0) {
            return Self { middle: (1.0, 0.0), half: std::f64::consts::PI, far };
        }
        let middle = (sx / length, sy / length);
        let reach = points().map(|(x, y)| (x * middle.1 - y * middle.0).atan2(x * middle.0 + y * middle.1).abs()).fold(0.0, f64::max);
        Self { middle, half: reach + BESIDE, far }
    }

    fn holds(&self, x: usize, y: usize, centre: (f64, f64)) -> bool {
        if self.half >= std::f64::consts::PI {
            return true;
        }
        let (dx, dy) = (x as f64 + 0.5 - centre.0, y as f64 + 0.5 - centre.1);
        (dx * self.middle.1 - dy * self.middle.0).atan2(dx * self.middle.0 + dy * self.middle.1).abs() <= self.half
    }
}

/// Colours by distance from the centre, as they are gathered.
#[derive(Default)]
struct Band {
    bins: Vec<([f64; 3], f64)>,
    known: usize,
}

impl Band {
    fn add(&mut self, bin: f64, px: [u8; 3]) {
        let at = bin as usize;
        if self.bins.len() <= at {
            self.bins.resize(at + 1, Default::default());
        }
        self.bins[at].0.iter_mut().zip(px).for_each(|(s, v)| *s += f64::from(v));
        self.bins[at].1 += 1.0;
        self.known += 1;
    }

    /// Means over a bell of [`SMOOTH`] bins; where nothing is known within its reach, straight between what is.
    fn curve(self) -> Curve {
        let reach = (4.0 * SMOOTH).ceil() as isize;
        let bell: Vec<f64> = (-reach..=reach).map(|k| (-0.5 * (k as f64 / SMOOTH).powi(2)).exp()).collect();
        let n = self.bins.len() as isize;
        let means = (0..n).filter_map(|i| {
            let (mut sum, mut weight) = ([0.0; 3], 0.0);
            for (k, b) in (-reach..=reach).zip(&bell) {
                if let Some((s, count)) = usize::try_from(i + k).ok().and_then(|j| self.bins.get(j)) {
                    sum.iter_mut().zip(s).for_each(|(a, v)| *a += b * v);
                    weight += b * count;
                }
            }
            (weight > 0.05).then(|| (i as f64 + 0.5, sum.map(|s| (s / weight) as f32)))
        });
        Curve(means.collect())
    }
}

/// (distance in bins, colour), ascending.
struct Curve(Vec<(f64, [f32; 3])>);

impl Curve {
    fn at(&self, bin: f64) -> [f32; 3] {
        let next = self.0.partition_point(|(b, _)| *b < bin);
        match (next.checked_sub(1).and_then(|i| self.0.get(i)), self.0.get(next)) {
            (Some((b0, c0)), Some((b1, c1))) => {
                let t = ((bin - b0) / (b1 - b0)) as f32;
                [0, 1, 2].map(|c| c0[c] + (c1[c] - c0[c]) * t)
            }
            (Some((_, c)), None) | (None, Some((_, c))) => *c,
            (None, None) => [0.0; 3],
        }
    }
}

#[cfg(test)]
mod tests;

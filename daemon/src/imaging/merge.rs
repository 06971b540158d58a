//! Lamps' pixels taken from another shot of the same eye, where they are real, instead of made up.
//!
//! ```text
//!   lamp in the first shot --refined warp--> the same place in another: seen there, and no lamp of its own?
//!        |                                         | yes: its px x gain + offset (from what both see around the lamp)
//!        |                                         v
//!        +---- what the lamp's flare lifts goes with it
//!        +---- the rest of a difference at the edge, as a membrane -----> px without a seam
//! ```
//!
//! What no other shot shows stays as it is: the reflection step will find it and make it up, and say so.

use std::collections::HashSet;

use super::{
    geometry,
    inpaint::membrane::{Membrane, PUPIL},
    mask::{self, Region},
    raster::Rgb,
    register::{self, Near, Shot, Warp},
};

/// Around a lamp, limbus radii: its edge goes with it.
const LAMP_EDGE: f64 = 0.025;
/// Around a lamp, limbus radii: what is compared.
const BESIDE: f64 = 0.10;
/// Fewer px than this seen by both around a lamp are too few to match brightness by.
const MIN_BESIDE: usize = 40;
/// Two shots of one camera differ by less.
const GAIN: (f32, f32) = (0.5, 2.0);
/// Flare is brighter by more than this many times the spread of two shots' differences.
const FLARE: f32 = 0.5;
/// px at a patch's edge: its margin is at least twice as wide.
const FRAME: usize = 3;
/// What differs by more than this many times the spread does not tell of the light; looked at again this often.
const OUTLYING: f32 = 2.0;
const TRIMMED: usize = 4;
/// The difference along the edge is smoothed by this much (px, half a window): it is mostly the sensor's grain.
const SMOOTH: usize = 2;

/// Real pixels for the first shot.
#[derive(Debug, Default)]
pub struct Taken {
    /// (x, y, which of the others, colour), px of the first shot, each once.
    pub pixels: Vec<(usize, usize, usize, [u8; 3])>,
}

/// What lies under the first shot's lamps, as the others show it. `others`: each with its warp from the first.
pub fn under_the_lamps(first: &Shot<'_>, others: &[(Shot<'_>, Warp)]) -> Taken {
    let mut taken = Taken::default();
    let edge = |shot: &Shot<'_>| (LAMP_EDGE * geometry::radius(shot.limbus)).ceil().max(2.0) as usize;
    let hole = hole(first, edge(first));
    let blind: Vec<Near> = others.iter().map(|(shot, _)| Near::new(shot.glare, edge(shot))).collect();
    let mut done = HashSet::new();
    for runs in components(&hole) {
        let mut patch = Patch::around(first, &hole, &runs, &done);
        for (k, (shot, warp)) in others.iter().enumerate() {
            let warp = register::refined(first, shot, warp, (patch.x, patch.y, patch.width, patch.height));
            let found = patch.take(first, shot, &warp, &blind[k]);
            done.extend(found.iter().map(|(x, y, _)| (*x, *y)));
            taken.pixels.extend(found.into_iter().map(|(x, y, px)| (x, y, k, px)));
        }
    }
    taken
}

/// The lamps with their edges, inside the visible iris.
fn hole(first: &Shot<'_>, by: usize) -> Region {
    let mut wide = first.glare.widened(by);
    let (w, h) = (first.photo.width, first.photo.height);
    for j in 0..wide.gray.height {
        for i in 0..wide.gray.width {
            let (x, y) = (wide.x + i, wide.y + j);
            if x >= w || y >= h || first.mask.px(x, y) < 128 {
                wide.gray.data[j * wide.gray.width + i] = 0;
            }
        }
    }
    wide
}

/// (y, x0, x1), px of the photo.
type Run = (usize, usize, usize);

/// Each separate lamp.
fn components(hole: &Region) -> Vec<Vec<Run>> {
    let mut all: Vec<Vec<Run>> = Vec::new();
    mask::each_component(&hole.gray, |n, y, x0, x1| {
        all.resize_with(all.len().max(n + 1), Vec::new);
        all[n].push((hole.y + y, hole.x + x0, hole.x + x1));
    });
    all
}

/// One lamp and what lies beside it.
struct Patch {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    /// Still to be found.
    wanted: Vec<bool>,
    /// The first shot shows the eye itself here.
    known: Vec<bool>,
}

impl Patch {
    /// `done`: px that were taken for another lamp.
    fn around(first: &Shot<'_>, hole: &Region, runs: &[Run], done: &HashSet<(usize, usize)>) -> Self {
        let margin = (BESIDE * geometry::radius(first.limbus)).ceil().max(6.0) as usize;
        let (x0, x1) = runs.iter().fold((usize::MAX, 0), |(a, b), (_, l, r)| (a.min(*l), b.max(*r)));
        let (y0, y1) = runs.iter().fold((usize::MAX, 0), |(a, b), (y, _, _)| (a.min(*y), b.max(y + 1)));
        let (x, y) = (x0.saturating_sub(margin), y0.saturating_sub(margin));
        let (width, height) = ((x1 + margin).min(first.photo.width) - x, (y1 + margin).min(first.photo.height) - y);
        let mut wanted = vec![false; width * height];
        for (row, l, r) in runs {
            wanted[(row - y) * width + l - x..(row - y) * width + r - x].fill(true);
        }
        let lamps = Near::new(hole, 0);
        let known = |i: usize| {
            let (px, py) = (x + i % width, y + i / width);
            first.mask.px(px, py) >= 128 && !lamps.holds(px, py) && !done.contains(&(px, py))
        };
        let known = (0..width * height).map(known).collect();
        Self { x, y, width, height, wanted, known }
    }

    fn place(&self, i: usize) -> (usize, usize) {
        (self.x + i % self.width, self.y + i / self.width)
    }

    /// Takes what `shot` shows of the wanted px.
    fn take(&mut self, first: &Shot<'_>, shot: &Shot<'_>, warp: &Warp, blind: &Near) -> Vec<(usize, usize, [u8; 3])> {
        let n = self.wanted.len();
        let seen: Vec<Option<[f32; 3]>> = (0..n).map(|i| self.seen(i, shot, warp, blind)).collect();
        let beside: Vec<([f32; 3], [f32; 3])> = (0..n)
            .filter(|i| self.known[*i])
            .filter_map(|i| {
                let (x, y) = self.place(i);
                Some((first.photo.px(x, y).map(f32::from), seen[i]?))
            })
            .collect();
        if beside.len() < MIN_BESIDE || !(0..n).any(|i| self.wanted[i] && seen[i].is_some()) {
            return Vec::new();
        }
        let light = light(beside);
        let here: Vec<Option<[f32; 3]>> =
            seen.iter().map(|q| q.map(|q| [0, 1, 2].map(|c| light.line[c].0 * q[c] + light.line[c].1))).collect();
        self.grow_over_the_flare(&self.difference(first, &here), light.spread);
        let rest = self.rest(&self.difference(first, &here));
        let mut found = Vec::new();
        for (i, rest) in rest.iter().enumerate() {
            let Some(px) = here[i].filter(|_| self.wanted[i]) else { continue };
            let (x, y) = self.place(i);
            found.push((x, y, [0, 1, 2].map(|c| (px[c] + rest[c] + 0.5).clamp(0.0, 255.0) as u8)));
            self.wanted[i] = false;
        }
        found
    }

    /// The other shot's px for a place that matters, if it shows the eye itself there.
    fn seen(&self, i: usize, shot: &Shot<'_>, warp: &Warp, blind: &Near) -> Option<[f32; 3]> {
        let (x, y) = self.place(i);
        let (u, v) = warp.at(x as f64 + 0.5, y as f64 + 0.5);
        if !(self.wanted[i] || self.known[i]) || u < 2.0 || v < 2.0 {
            return None;
        }
        let (ui, vi) = (u as usize, v as usize);
        let on_it = ui + 2 < shot.photo.width && vi + 2 < shot.photo.height;
        (on_it && shot.mask.px(ui, vi) >= 128 && !blind.holds(ui, vi)).then(|| cubic(shot.photo, u, v))
    }

    /// What the lens scatters of the lamp over what lies around it goes with it: as far from the lamp as the first shot is brighter than the
    /// other by more than their grain. Left alone, it would lift what is taken. The patch's frame stays: what is taken is fitted to it.
    fn grow_over_the_flare(&mut self, difference: &[Option<[f32; 3]>], spread: f32) {
        let mut edge: Vec<usize> = (0..self.wanted.len()).filter(|i| self.wanted[*i]).collect();
        while let Some(i) = edge.pop() {
            for j in self.neighbours(i) {
                let brighter = || self.mean(difference, j).map_or(0.0, |m| m.iter().sum::<f32>() / 3.0);
                if difference[j].is_some() && self.known[j] && brighter() > FLARE * spread.max(1.0) {
                    (self.known[j], self.wanted[j]) = (false, true);
                    edge.push(j);
                }
            }
        }
    }

    /// The four, but for those in the patch's frame.
    fn neighbours(&self, i: usize) -> impl Iterator<Item = usize> + use<> {
        let (w, h) = (self.width, self.height);
        let inside =
            move |j: &usize| (FRAME..w.saturating_sub(FRAME)).contains(&(j % w)) && (FRAME..h.saturating_sub(FRAME)).contains(&(j / w));
        [i.wrapping_sub(1), i + 1, i.wrapping_sub(w), i + w].into_iter().filter(inside)
    }

    /// First shot less what the other says, where both show the eye itself.
    fn difference(&self, first: &Shot<'_>, here: &[Option<[f32; 3]>]) -> Vec<Option<[f32; 3]>> {
        let of = |i: usize| {
            let (x, y) = self.place(i);
            let (px, other) = (first.photo.px(x, y), here[i].filter(|_| self.known[i])?);
            Some([0, 1, 2].map(|c| f32::from(px[c]) - other[c]))
        };
        (0..here.len()).map(of).collect()
    }

    /// Of what is there around a px, [`SMOOTH`] each way; None: nothing is.
    fn mean(&self, of: &[Option<[f32; 3]>], i: usize) -> Option<[f32; 3]> {
        let (x, y) = (i % self.width, i / self.width);
        let (mut sum, mut count) = ([0.0; 3], 0.0f32);
        for j in y.saturating_sub(SMOOTH)..(y + SMOOTH + 1).min(self.height) {
            for v in of[j * self.width..][x.saturating_sub(SMOOTH)..(x + SMOOTH + 1).min(self.width)].iter().flatten() {
                sum.iter_mut().zip(v).for_each(|(s, v)| *s += v);
                count += 1.0;
            }
        }
        (count > 0.0).then(|| sum.map(|s| s / count))
    }

    /// The difference over the lamp, from what it is along the edge.
    fn rest(&self, difference: &[Option<[f32; 3]>]) -> Vec<[f32; 3]> {
        let n = self.wanted.len();
        let smooth = |i: usize| self.mean(difference, i).map_or([0.0; 4], |[r, g, b]| [r, g, b, 0.0]);
        let mut membrane = Membrane {
            width: self.width,
            height: self.height,
            part: vec![PUPIL; n],
            unknown: difference.iter().map(Option::is_none).collect(),
            value: (0..n).map(|i| if difference[i].is_some() { smooth(i) } else { [0.0; 4] }).collect(),
            centre: (0.0, 0.0),
            // A difference of two shots is light and grain: nothing that a lens would have smoothed.
            bend: 0.0,
        };
        membrane.solve();
        membrane.value.into_iter().map(|[r, g, b, _]| [r, g, b]).collect()
    }
}

/// How the second shot's light becomes the first's, channel by channel, and by how much they differ all the same (levels, of one px).
struct Light {
    line: [(f32, f32); 3],
    spread: f32,
}

/// From what both see beside a lamp; what differs by more than the rest, as a lamp's flare does, counts nothing.
fn light(mut pairs: Vec<([f32; 3], [f32; 3])>) -> Light {
    let fit = |pairs: &[([f32; 3], [f32; 3])]| [0, 1, 2].map(|c| fitted(pairs.iter().map(|(a, b)| (a[c], b[c]))));
    let mut line = fit(&pairs);
    let mut spread = 0.0;
    for _ in 0..TRIMMED {
        let off = |(a, b): &([f32; 3], [f32; 3])| (0..3).map(|c| a[c] - line[c].0 * b[c] - line[c].1).sum::<f32>() / 3.0;
        let mut all: Vec<f32> = pairs.iter().map(|p| off(p).abs()).collect();
        let middle = all.len() / 2;
        // 1.4826 medians of a normal distribution's deviations are its standard deviation.
        spread = 1.4826 * *all.select_nth_unstable_by(middle, f32::total_cmp).1;
        let kept: Vec<_> = pairs.iter().filter(|p| off(p).abs() <= OUTLYING * spread.max(1.0)).copied().collect();
        if kept.len() < MIN_BESIDE {
            break;
        }
        pairs = kept;
        line = fit(&pairs);
    }
    Light { line, spread }
}

/// Gain and offset that make the second of each pair most like the first.
fn fitted(pairs: impl Iterator<Item = (f32, f32)> + Clone) -> (f32, f32) {
    let n = pairs.clone().count().max(1) as f32;
    let (ma, mb) = pairs.clone().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
    let (vb, cov) = pairs.fold((0.0, 0.0), |(v, c), (x, y)| (v + (y - mb) * (y - mb), c + (x - ma) * (y - mb)));
    // A flat place tells nothing of the gain.
    let gain = if vb > n { (cov / vb).clamp(GAIN.0, GAIN.1) } else { 1.0 };
    (gain, ma - gain * mb)
}

/// Catmull-Rom (Keys 1981, a = -1/2): a bilinear sample would be softer than its surroundings.
fn cubic(photo: &Rgb, x: f64, y: f64) -> [f32; 3] {
    let (x, y) = (x - 0.5, y - 0.5);
    let (i, j) = (x.floor() as isize, y.floor() as isize);
    let weights = |t: f32| {
        let (t2, t3) = (t * t, t * t * t);
        [-0.5 * t + t2 - 0.5 * t3, 1.0 - 2.5 * t2 + 1.5 * t3, 0.5 * t + 2.0 * t2 - 1.5 * t3, -0.5 * t2 + 0.5 * t3]
    };
    let (wx, wy) = (weights(x.rem_euclid(1.0) as f32), weights(y.rem_euclid(1.0) as f32));
    let mut sum = [0.0f32; 3];
    for (dy, wy) in wy.into_iter().enumerate() {
        let row = (j + dy as isize - 1).clamp(0, photo.height as isize - 1) as usize;
        for (dx, wx) in wx.into_iter().enumerate() {
            let px = photo.px((i + dx as isize - 1).clamp(0, photo.width as isize - 1) as usize, row);
            sum.iter_mut().zip(px).for_each(|(s, v)| *s += wx * wy * f32::from(v));
        }
    }
    sum
}

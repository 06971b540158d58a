//! The iris and a third of a radius around it, at a fixed scale.

use std::sync::OnceLock;

use super::Seen;
use crate::{
    domain::report::Ellipse,
    imaging::{
        geometry::{self, Frame},
        raster::Rgb,
        wide::wide,
    },
};

/// Limbus diameter, px of the patch, at most.
const DIAMETER: f64 = 200.0;
/// Half side of the patch, in limbus radii.
const REACH: f64 = 1.35;
/// Source pixels read for one of the patch, along each side: bounds the work on any photo.
const SAMPLES: usize = 3;

/// What a pixel of the patch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Off the photo.
    Off,
    /// Beside the limbus.
    Around,
    /// In the limbus, behind lids or lashes.
    Covered,
    Iris,
    Pupil,
    /// Glare on visible iris, and on the pupil.
    Glare,
    PupilGlare,
}

const KINDS: usize = Kind::PupilGlare as usize + 1;

pub struct Patch {
    pub side: usize,
    pub kind: Vec<Kind>,
    /// Px of each kind.
    counts: [usize; KINDS],
    pub rgb: Vec<[f32; 3]>,
    /// Limbus radius, px of the patch.
    pub radius: f64,
    /// px of the photo.
    pub limbus: Ellipse,
    pub pupil: Option<Ellipse>,
    /// Photo px a patch px, and the patch's corner on the photo.
    scale: f64,
    corner: (f64, f64),
}

impl Patch {
    pub fn new(seen: &Seen<'_>) -> Self {
        let Seen { photo, limbus, pupil, .. } = *seen;
        let radius = geometry::radius(limbus).max(1.0);
        let scale = (2.0 * radius / DIAMETER).max(1.0);
        let side = (2.0 * REACH * radius / scale).ceil() as usize;
        let corner = (limbus.cx - side as f64 * scale / 2.0, limbus.cy - side as f64 * scale / 2.0);
        let mut patch = Self {
            side,
            kind: vec![Kind::Off; side * side],
            counts: [0; KINDS],
            rgb: Vec::new(),
            radius: radius / scale,
            limbus: *limbus,
            pupil: pupil.copied(),
            scale,
            corner,
        };
        patch.tell(seen);
        let steps = (scale.ceil() as usize).clamp(1, SAMPLES);
        patch.rgb = means(photo, corner, scale, side, steps);
        for (rgb, _) in patch.rgb.iter_mut().zip(&patch.kind).filter(|(_, kind)| **kind == Kind::Off) {
            *rgb = [0.0; 3];
        }
        patch
    }

    /// What each px is, and how many are.
    fn tell(&mut self, seen: &Seen<'_>) {
        let Seen { photo, mask, glare, .. } = *seen;
        let on_patch = |e: &Ellipse| {
            let (cx, cy) = self.on_patch((e.cx, e.cy));
            Frame::new(&Ellipse { cx, cy, rx: e.rx / self.scale, ry: e.ry / self.scale, ..*e })
        };
        let (limbus, pupil) = (on_patch(&self.limbus), self.pupil.as_ref().map(on_patch));
        let columns: Vec<f64> = (0..self.side).map(|x| self.on_photo(x, 0).0).collect();
        let (left, right) = (columns.partition_point(|x| *x < 0.0), columns.partition_point(|x| *x < photo.width as f64));
        for y in 0..self.side {
            let cy = self.on_photo(0, y).1;
            if cy < 0.0 || cy >= photo.height as f64 {
                continue;
            }
            let kinds = &mut self.kind[y * self.side..][..self.side];
            kinds[left..right].fill(Kind::Around);
            let iris = limbus.span(y, 1.0, right);
            let in_pupil = pupil.map_or(0..0, |p| p.span(y, 1.0, right));
            let at = cy as usize * photo.width;
            for x in iris.start.max(left)..iris.end {
                let at = at + columns[x] as usize;
                kinds[x] = match (mask.data[at] >= 128, glare.data[at] >= 128, in_pupil.contains(&x)) {
                    (false, ..) => Kind::Covered,
                    (_, true, true) => Kind::PupilGlare,
                    (_, true, false) => Kind::Glare,
                    (_, false, true) => Kind::Pupil,
                    (_, false, false) => Kind::Iris,
                };
            }
        }
        self.kind.iter().for_each(|kind| self.counts[*kind as usize] += 1);
    }

    /// The centre of a patch px, px of the photo.
    pub fn on_photo(&self, x: usize, y: usize) -> (f64, f64) {
        (self.corner.0 + (x as f64 + 0.5) * self.scale, self.corner.1 + (y as f64 + 0.5) * self.scale)
    }

    /// The inverse of [`Patch::on_photo`], as a place: the px is its whole part.
    pub fn on_patch(&self, (x, y): (f64, f64)) -> (f64, f64) {
        ((x - self.corner.0) / self.scale, (y - self.corner.1) / self.scale)
    }

    /// How many px are of one of these kinds.
    pub fn count(&self, kinds: &[Kind]) -> f64 {
        kinds.iter().map(|kind| self.counts[*kind as usize]).sum::<usize>() as f64
    }

    pub fn of(&self, kind: Kind) -> impl Iterator<Item = [f32; 3]> {
        self.kind.iter().zip(&self.rgb).filter(move |(k, _)| **k == kind).map(|(_, c)| *c)
    }

    /// Mean L* (CIE 1976) of the visible iris, 0..100.
    pub fn lightness(&self) -> f64 {
        let mut levels: Vec<f32> = self.of(Kind::Iris).map(luminance).collect();
        into_lightness(&mut levels);
        mean_of(levels.iter().map(|v| f64::from(*v)))
    }

    /// Share of the visible iris with two channels burnt out.
    pub fn clipped(&self) -> f64 {
        mean_of(self.of(Kind::Iris).map(|c| if is_burnt(c) { 1.0 } else { 0.0 }))
    }

    /// Visible iris without glare / iris, lids and glare included.
    pub fn usable_area(&self) -> f64 {
        let whole = std::f64::consts::PI * self.radius * self.radius - self.count(&[Kind::Pupil, Kind::PupilGlare]);
        (self.count(&[Kind::Iris]) / whole.max(1.0)).min(1.0)
    }

    /// Glare / visible iris and pupil.
    pub fn glare_share(&self) -> f64 {
        let glare = self.count(&[Kind::Glare, Kind::PupilGlare]);
        glare / (glare + self.count(&[Kind::Iris, Kind::Pupil])).max(1.0)
    }

    /// Glare / visible pupil. None: no pupil is seen.
    pub fn pupil_glare(&self) -> Option<f64> {
        let seen = self.count(&[Kind::Pupil, Kind::PupilGlare]);
        (seen > 0.0).then(|| self.count(&[Kind::PupilGlare]) / seen)
    }
}

/// Where a sample lies between two columns, or two rows: both, and the share of the second.
type Line = (usize, usize, f32);

/// A square of `side` x `side` px from `corner` on, each `scale` px of the photo wide: the mean of `steps` x `steps` bilinear samples.
/// Nearest ones would jitter by half a px, which counts as fine detail where there is none.
fn means(photo: &Rgb, corner: (f64, f64), scale: f64, side: usize, steps: usize) -> Vec<[f32; 3]> {
    // The samples lie on a grid: where its lines fall is found once.
    let lines = |from: f64, n: usize, step: usize| -> Vec<Line> {
        let place = |i: usize| {
            let at = from + (i as f64 + (step as f64 + 0.5) / steps as f64) * scale;
            let at = (at - 0.5).clamp(0.0, (n - 1) as f64);
            (at as usize, (at as usize + 1).min(n - 1), at.fract() as f32)
        };
        (0..side).map(place).collect()
    };
    let [columns, rows]: [Vec<Vec<Line>>; 2] =
        [(corner.0, photo.width), (corner.1, photo.height)].map(|(from, n)| (0..steps).map(|step| lines(from, n, step)).collect());
    let mut across = [Across::new(side * steps), Across::new(side * steps)];
    let (mut out, mut sums, all) = (Vec::with_capacity(side * side), vec![[0.0; 3]; side], (steps * steps) as f32);
    for y in 0..side {
        sums.fill([0.0; 3]);
        for (y0, y1, fy) in rows.iter().map(|lines| lines[y]) {
            // Going down, the row below becomes the one above.
            if across[1].row == Some(y0) {
                across.swap(0, 1);
            }
            for (across, row) in across.iter_mut().zip([y0, y1]).filter(|(across, row)| across.row != Some(*row)) {
                across.row = Some(row);
                for (px, columns) in across.px.chunks_exact_mut(side).zip(&columns) {
                    read_between(photo.row(row), columns, px);
                }
            }
            let [upper, lower] = across.each_ref().map(|across| across.px.chunks_exact(side));
            for (upper, lower) in upper.zip(lower) {
                add_between(upper.as_flattened(), lower.as_flattened(), fy, sums.as_flattened_mut());
            }
        }
        out.extend(sums.iter().map(|sum| sum.map(|s| s / all)));
    }
    out
}

/// A row of the photo at the samples' columns: the first of each px, then the second of each.
struct Across {
    row: Option<usize>,
    px: Vec<[f32; 3]>,
}

impl Across {
    fn new(samples: usize) -> Self {
        Self { row: None, px: vec![[0.0; 3]; samples] }
    }
}

wide! {
    fn read_between(row: &[u8], columns: &[Line], out: &mut [[f32; 3]]) {
        let px = row.as_chunks::<3>().0;
        for (out, (x0, x1, fx)) in out.iter_mut().zip(columns) {
            let (a, b) = (px[*x0], px[*x1]);
            for c in 0..3 {
                out[c] = f32::from(a[c]) + (f32::from(b[c]) - f32::from(a[c])) * fx;
            }
        }
    }
}

wide! {
    fn add_between(upper: &[f32], lower: &[f32], share: f32, sums: &mut [f32]) {
        for ((sum, upper), lower) in sums.iter_mut().zip(upper).zip(lower) {
            *sum += upper + (lower - upper) * share;
        }
    }
}

/// Two channels at the end of their scale: the colour and its texture are lost.
pub fn is_burnt(rgb: [f32; 3]) -> bool {
    rgb.iter().filter(|v| **v >= 250.0).count() >= 2
}

/// Rec. 601, 0..255.
pub fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// Y of an sRGB colour (0..255 a channel), 0..1.
fn luminance(rgb: [f32; 3]) -> f32 {
    let [r, g, b] = rgb.map(linear);
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

wide! {
    /// CIE 1976 L*, 0..100, of each Y.
    fn into_lightness(levels: &mut [f32]) {
        for y in levels {
            // A third of the exponent is a cube root within 4 %; each step of Halley's iteration leaves the cube of that, so two what f32 holds.
            let mut root = f32::from_bits(y.to_bits() / 3 + 0x2A51_37A0);
            for _ in 0..2 {
                let cube = root * root * root;
                root *= (cube + 2.0 * *y) / (2.0 * cube + *y);
            }
            *y = if *y <= 216.0 / 24389.0 { *y * (24389.0 / 27.0) } else { 116.0 * root - 16.0 };
        }
    }
}

/// Entries of [`linear`]'s table for each of the 255 steps: between them a straight line is right to 1e-7.
const FINER: usize = 8;

/// Linear light (IEC 61966-2-1), 0..1, of a channel, 0..255.
fn linear(v: f32) -> f32 {
    static TABLE: OnceLock<[f32; 255 * FINER + 2]> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        std::array::from_fn(|i| {
            let v = i as f64 / (255 * FINER) as f64;
            (if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }) as f32
        })
    });
    let place = v.clamp(0.0, 255.0) * FINER as f32;
    let at = place as usize;
    table[at] + (table[at + 1] - table[at]) * (place - at as f32)
}

pub fn mean_of(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0usize), |(s, n), v| (s + v, n + 1));
    sum / n.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_the_mean_of_its_samples_one_by_one_also_over_the_edge_of_the_photo() {
        let mut photo = Rgb::new(61, 47);
        photo.data.iter_mut().enumerate().for_each(|(i, v)| *v = (i * 7919 % 251) as u8);
        for (corner, scale, side) in [((3.2, 5.7), 1.0, 30), ((-4.1, 20.3), 1.7, 25), ((10.0, -9.5), 4.4, 14)] {
            let steps = (scale as usize + 1).min(SAMPLES);
            let fast = means(&photo, corner, scale, side, steps);
            for (i, px) in fast.iter().enumerate() {
                let mut sum = [0.0; 3];
                for k in 0..steps * steps {
                    let at = |i: usize, k: usize, from: f64, n: usize| {
                        (from + (i as f64 + (k as f64 + 0.5) / steps as f64) * scale - 0.5).clamp(0.0, (n - 1) as f64)
                    };
                    let (x, y) = (at(i % side, k % steps, corner.0, 61), at(i / side, k / steps, corner.1, 47));
                    let (x1, y1) = ((x as usize + 1).min(60), (y as usize + 1).min(46));
                    let four = [(x as usize, y as usize), (x1, y as usize), (x as usize, y1), (x1, y1)].map(|(x, y)| photo.px(x, y));
                    for (channel, sum) in sum.iter_mut().enumerate() {
                        let [a, b, c, d] = four.map(|px| f64::from(px[channel]));
                        let (top, bottom) = (a + (b - a) * x.fract(), c + (d - c) * x.fract());
                        *sum += (top + (bottom - top) * y.fract()) / (steps * steps) as f64;
                    }
                }
                assert!((0..3).all(|c| (f64::from(px[c]) - sum[c]).abs() < 0.01), "scale {scale}, px {i}: {px:?} {sum:?}");
            }
        }
    }

    #[test]
    fn lightness_is_cie_1976_from_black_to_white() {
        let mut levels: Vec<f32> = (0..=10_000).map(|i| i as f32 / 1e4).collect();
        into_lightness(&mut levels);
        for (i, found) in levels.into_iter().enumerate() {
            let y = i as f64 / 1e4;
            let want = if y <= 216.0 / 24389.0 { y * 24389.0 / 27.0 } else { 116.0 * y.cbrt() - 16.0 };
            assert!((f64::from(found) - want).abs() < 5e-5, "{y}: {found} {want}");
        }
    }
}

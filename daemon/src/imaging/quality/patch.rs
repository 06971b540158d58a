//! The iris and a third of a radius around it, at a fixed scale.

use std::sync::OnceLock;

use super::Seen;
use crate::{
    domain::report::Ellipse,
    imaging::{
        geometry::{self, Frame},
        raster::Rgb,
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

pub struct Patch {
    pub side: usize,
    pub kind: Vec<Kind>,
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
        let Seen { photo, mask, limbus, pupil, glare, .. } = *seen;
        let radius = geometry::radius(limbus).max(1.0);
        let scale = (2.0 * radius / DIAMETER).max(1.0);
        let side = (2.0 * REACH * radius / scale).ceil() as usize;
        let corner = (limbus.cx - side as f64 * scale / 2.0, limbus.cy - side as f64 * scale / 2.0);
        let mut patch =
            Self { side, kind: Vec::new(), rgb: Vec::new(), radius: radius / scale, limbus: *limbus, pupil: pupil.copied(), scale, corner };
        let (limbus, pupil) = (Frame::new(limbus), pupil.map(Frame::new));
        let steps = (scale.ceil() as usize).clamp(1, SAMPLES);
        patch.kind.reserve(side * side);
        for y in 0..side {
            for x in 0..side {
                let (cx, cy) = patch.on_photo(x, y);
                let inside = cx >= 0.0 && cy >= 0.0 && cx < photo.width as f64 && cy < photo.height as f64;
                let at = cy.max(0.0) as usize * photo.width + cx.max(0.0) as usize;
                let in_pupil = pupil.is_some_and(|p| p.contains(cx, cy));
                patch.kind.push(match () {
                    () if !inside => Kind::Off,
                    () if !limbus.contains(cx, cy) => Kind::Around,
                    () if mask.data[at] < 128 => Kind::Covered,
                    () if glare.data[at] >= 128 && in_pupil => Kind::PupilGlare,
                    () if glare.data[at] >= 128 => Kind::Glare,
                    () if in_pupil => Kind::Pupil,
                    () => Kind::Iris,
                });
            }
        }
        patch.rgb = means(photo, corner, scale, side, steps);
        for (rgb, _) in patch.rgb.iter_mut().zip(&patch.kind).filter(|(_, kind)| **kind == Kind::Off) {
            *rgb = [0.0; 3];
        }
        patch
    }

    /// The centre of a patch px, px of the photo.
    pub fn on_photo(&self, x: usize, y: usize) -> (f64, f64) {
        (self.corner.0 + (x as f64 + 0.5) * self.scale, self.corner.1 + (y as f64 + 0.5) * self.scale)
    }

    /// The inverse of [`Patch::on_photo`], as a place: the px is its whole part.
    pub fn on_patch(&self, (x, y): (f64, f64)) -> (f64, f64) {
        ((x - self.corner.0) / self.scale, (y - self.corner.1) / self.scale)
    }

    pub fn count(&self, is: impl Fn(Kind) -> bool) -> f64 {
        self.kind.iter().filter(|k| is(**k)).count() as f64
    }

    pub fn of(&self, kind: Kind) -> impl Iterator<Item = [f32; 3]> {
        self.kind.iter().zip(&self.rgb).filter(move |(k, _)| **k == kind).map(|(_, c)| *c)
    }

    /// Mean L* (CIE 1976) of the visible iris, 0..100.
    pub fn lightness(&self) -> f64 {
        mean_of(self.of(Kind::Iris).map(lightness))
    }

    /// Share of the visible iris with two channels burnt out.
    pub fn clipped(&self) -> f64 {
        mean_of(self.of(Kind::Iris).map(|c| if is_burnt(c) { 1.0 } else { 0.0 }))
    }

    /// Visible iris without glare / iris, lids and glare included.
    pub fn usable_area(&self) -> f64 {
        let whole = std::f64::consts::PI * self.radius * self.radius - self.count(|k| matches!(k, Kind::Pupil | Kind::PupilGlare));
        (self.count(|k| k == Kind::Iris) / whole.max(1.0)).min(1.0)
    }

    /// Glare / visible iris and pupil.
    pub fn glare_share(&self) -> f64 {
        let glare = self.count(|k| matches!(k, Kind::Glare | Kind::PupilGlare));
        glare / (glare + self.count(|k| matches!(k, Kind::Iris | Kind::Pupil))).max(1.0)
    }
}

/// A square of `side` x `side` px from `corner` on, each `scale` px of the photo wide: the mean of `steps` x `steps` bilinear samples.
/// Nearest ones would jitter by half a px, which counts as fine detail where there is none.
fn means(photo: &Rgb, corner: (f64, f64), scale: f64, side: usize, steps: usize) -> Vec<[f32; 3]> {
    // The samples lie on a grid: where its lines fall is found once. The px before, the px behind, and the share of the latter.
    let lines = |from: f64, n: usize| -> Vec<(usize, usize, f32)> {
        let place = |i: usize| {
            let at = from + ((i / steps) as f64 + ((i % steps) as f64 + 0.5) / steps as f64) * scale;
            let at = (at - 0.5).clamp(0.0, (n - 1) as f64);
            (at as usize, (at as usize + 1).min(n - 1), at.fract() as f32)
        };
        (0..side * steps).map(place).collect()
    };
    let (columns, rows) = (lines(corner.0, photo.width), lines(corner.1, photo.height));
    let mut out = Vec::with_capacity(side * side);
    let mut sums = vec![[0f32; 3]; side];
    for rows in rows.chunks_exact(steps) {
        sums.fill([0.0; 3]);
        for (y0, y1, fy) in rows {
            let (upper, lower) = (photo.row(*y0), photo.row(*y1));
            for (sum, columns) in sums.iter_mut().zip(columns.chunks_exact(steps)) {
                for (x0, x1, fx) in columns {
                    let [a, b] = [x0, x1].map(|x| px_of(upper, *x));
                    let [c, d] = [x0, x1].map(|x| px_of(lower, *x));
                    for i in 0..3 {
                        let (top, bottom) = (a[i] + (b[i] - a[i]) * fx, c[i] + (d[i] - c[i]) * fx);
                        sum[i] += top + (bottom - top) * fy;
                    }
                }
            }
        }
        out.extend(sums.iter().map(|sum| sum.map(|s| s / (steps * steps) as f32)));
    }
    out
}

#[inline(always)]
fn px_of(row: &[u8], x: usize) -> [f32; 3] {
    let [r, g, b]: [u8; 3] = *row[x * 3..].first_chunk().expect("a px has three channels");
    [f32::from(r), f32::from(g), f32::from(b)]
}

/// Two channels at the end of their scale: the colour and its texture are lost.
pub fn is_burnt(rgb: [f32; 3]) -> bool {
    rgb.iter().filter(|v| **v >= 250.0).count() >= 2
}

/// Rec. 601, 0..255.
pub fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// CIE 1976 L* of an sRGB colour (0..255 a channel), 0..100.
fn lightness(rgb: [f32; 3]) -> f64 {
    let [r, g, b] = rgb.map(linear);
    let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    f64::from(if y <= 216.0 / 24389.0 { y * (24389.0 / 27.0) } else { 116.0 * y.cbrt() - 16.0 })
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

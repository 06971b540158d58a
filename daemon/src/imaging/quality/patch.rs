//! The iris and a third of a radius around it, at a fixed scale.

use crate::{
    domain::report::Ellipse,
    imaging::{
        geometry,
        raster::{Gray, Rgb},
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
enum Kind {
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
    side: usize,
    kind: Vec<Kind>,
    rgb: Vec<[f32; 3]>,
    /// Limbus radius, px of the patch.
    radius: f64,
    limbus: Ellipse,
    /// Photo px a patch px, and the patch's corner on the photo.
    scale: f64,
    corner: (f64, f64),
}

impl Patch {
    pub fn new(photo: &Rgb, mask: &Gray, limbus: &Ellipse, pupil: Option<&Ellipse>, glare: &Gray) -> Self {
        let radius = geometry::radius(limbus).max(1.0);
        let scale = (2.0 * radius / DIAMETER).max(1.0);
        let side = (2.0 * REACH * radius / scale).ceil() as usize;
        let corner = (limbus.cx - side as f64 * scale / 2.0, limbus.cy - side as f64 * scale / 2.0);
        let mut patch = Self { side, kind: Vec::new(), rgb: Vec::new(), radius: radius / scale, limbus: *limbus, scale, corner };
        let steps = (scale.ceil() as usize).clamp(1, SAMPLES);
        for y in 0..side {
            for x in 0..side {
                let (cx, cy) = patch.on_photo(x, y);
                let inside = cx >= 0.0 && cy >= 0.0 && cx < photo.width as f64 && cy < photo.height as f64;
                if !inside {
                    patch.kind.push(Kind::Off);
                    patch.rgb.push([0.0; 3]);
                    continue;
                }
                let at = cy as usize * photo.width + cx as usize;
                let in_pupil = pupil.is_some_and(|p| geometry::contains(p, cx, cy));
                patch.kind.push(match () {
                    () if !geometry::contains(limbus, cx, cy) => Kind::Around,
                    () if mask.data[at] < 128 => Kind::Covered,
                    () if glare.data[at] >= 128 && in_pupil => Kind::PupilGlare,
                    () if glare.data[at] >= 128 => Kind::Glare,
                    () if in_pupil => Kind::Pupil,
                    () => Kind::Iris,
                });
                patch.rgb.push(mean(photo, cx - scale / 2.0, cy - scale / 2.0, scale / steps as f64, steps));
            }
        }
        patch
    }

    /// The centre of a patch px, px of the photo.
    fn on_photo(&self, x: usize, y: usize) -> (f64, f64) {
        (self.corner.0 + (x as f64 + 0.5) * self.scale, self.corner.1 + (y as f64 + 0.5) * self.scale)
    }

    fn count(&self, is: impl Fn(Kind) -> bool) -> f64 {
        self.kind.iter().filter(|k| is(**k)).count() as f64
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = [f32; 3]> {
        self.kind.iter().zip(&self.rgb).filter(move |(k, _)| **k == kind).map(|(_, c)| *c)
    }

    /// Mean L* (CIE 1976) of the visible iris, 0..100.
    pub fn lightness(&self) -> f64 {
        mean_of(self.of(Kind::Iris).map(lightness))
    }

    /// Share of the visible iris with two channels burnt out.
    pub fn clipped(&self) -> f64 {
        mean_of(self.of(Kind::Iris).map(|c| if c.iter().filter(|v| **v >= 250.0).count() >= 2 { 1.0 } else { 0.0 }))
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

    /// Fine detail against coarse detail of luma inside the visible limbus, percent: 100 * RMS of (3 px mean - 9 px mean) / RMS of
    /// (9 px mean - 27 px mean of that). Blur takes the fine before the coarse, whatever the contrast, so dark irises are not called
    /// blurred; pupil edge and glints count, they are as sharp as the photo. The single px is left out: it is the sensor's noise. A
    /// band ratio in place of ISO/IEC 29794-6's band power, which is bound to one camera and scale.
    pub fn sharpness(&self) -> f64 {
        let luma: Vec<f32> = self.rgb.iter().map(|c| luma(*c)).collect();
        let fine = blur(&luma, self.side, 1);
        let middle = blur(&fine, self.side, 4);
        let coarse = blur(&middle, self.side, 12);
        let reach = self.radius * 0.95;
        let (mut high, mut low) = (0.0f64, 0.0f64);
        for (i, kind) in self.kind.iter().enumerate() {
            let (dx, dy) = ((i % self.side) as f64 - self.side as f64 / 2.0, (i / self.side) as f64 - self.side as f64 / 2.0);
            if dx.hypot(dy) < reach && !matches!(kind, Kind::Off | Kind::Around | Kind::Covered) {
                high += f64::from(fine[i] - middle[i]).powi(2);
                low += f64::from(middle[i] - coarse[i]).powi(2);
            }
        }
        // Half a level is the camera's own rounding: a flat patch has no detail to be sharp.
        100.0 * (high / (low + 0.25 * self.count(|k| k == Kind::Iris)).max(1e-9)).sqrt()
    }

    /// Luma of the sclera beside the limbus (the brighter half of what lies there) against iris and pupil.
    pub fn sclera_contrast(&self) -> Option<f64> {
        let mut beside: Vec<f32> = Vec::new();
        for (i, kind) in self.kind.iter().enumerate() {
            let (x, y) = self.on_photo(i % self.side, i / self.side);
            let (dx, dy) = ((x - self.limbus.cx).abs(), (y - self.limbus.cy).abs());
            if *kind == Kind::Around && dy < 0.5 * dx && geometry::rho(&self.limbus, x, y) > 1.06 {
                beside.push(luma(self.rgb[i]));
            }
        }
        if beside.len() < 20 || self.count(|k| k == Kind::Iris) < 20.0 {
            return None;
        }
        let from = beside.len() / 2;
        beside.select_nth_unstable_by(from, f32::total_cmp);
        let sclera = mean_of(beside[from..].iter().map(|v| f64::from(*v)));
        let iris = mean_of(self.of(Kind::Iris).map(|c| f64::from(luma(c))));
        let pupil = if self.count(|k| k == Kind::Pupil) > 0.0 { mean_of(self.of(Kind::Pupil).map(|c| f64::from(luma(c)))) } else { 0.0 };
        Some((sclera - iris) / (sclera + iris - 2.0 * pupil).max(1.0))
    }
}

/// Mean of `steps` x `steps` bilinear samples. Nearest ones would jitter by half a px, which counts as fine detail where there is none.
fn mean(photo: &Rgb, left: f64, top: f64, step: f64, steps: usize) -> [f32; 3] {
    let mut sum = [0.0; 3];
    let place = |v: f64, n: usize| {
        let v = (v - 0.5).clamp(0.0, (n - 1) as f64);
        (v as usize, (v as usize + 1).min(n - 1), v.fract() as f32)
    };
    for j in 0..steps {
        let (y0, y1, fy) = place(top + (j as f64 + 0.5) * step, photo.height);
        for i in 0..steps {
            let (x0, x1, fx) = place(left + (i as f64 + 0.5) * step, photo.width);
            let corners = [(x0, y0), (x1, y0), (x0, y1), (x1, y1)].map(|(x, y)| photo.px(x, y).map(f32::from));
            for (c, sum) in sum.iter_mut().enumerate() {
                let upper = corners[0][c] + (corners[1][c] - corners[0][c]) * fx;
                let lower = corners[2][c] + (corners[3][c] - corners[2][c]) * fx;
                *sum += upper + (lower - upper) * fy;
            }
        }
    }
    sum.map(|s| s / (steps * steps) as f32)
}

/// Box means over (2 radius + 1)², the edge's values beyond the edge.
fn blur(data: &[f32], side: usize, radius: usize) -> Vec<f32> {
    let window = (2 * radius + 1) as f32;
    let pass = |from: &[f32], step: usize, line: usize| {
        let mut out = vec![0.0; from.len()];
        for l in 0..side {
            let at = |k: isize| from[l * line + k.clamp(0, side as isize - 1) as usize * step];
            let mut sum: f32 = (-(radius as isize)..=radius as isize).map(at).sum();
            for k in 0..side as isize {
                out[l * line + k as usize * step] = sum / window;
                sum += at(k + radius as isize + 1) - at(k - radius as isize);
            }
        }
        out
    };
    pass(&pass(data, 1, side), side, 1)
}

/// Rec. 601, 0..255.
fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// CIE 1976 L* of an sRGB colour (0..255 a channel), 0..100.
fn lightness(rgb: [f32; 3]) -> f64 {
    let linear = |v: f32| {
        let v = f64::from(v) / 255.0;
        if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    };
    let y = 0.2126 * linear(rgb[0]) + 0.7152 * linear(rgb[1]) + 0.0722 * linear(rgb[2]);
    if y <= 216.0 / 24389.0 { y * 24389.0 / 27.0 } else { 116.0 * y.cbrt() - 16.0 }
}

fn mean_of(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0usize), |(s, n), v| (s + v, n + 1));
    sum / n.max(1) as f64
}

//! Segmentation by a network of the manifest: from the photo to a soft mask, two ellipses, and how sure it is.
//!
//! ```text
//!   whole photo, letterboxed --network--> limbus: centre, R --square of 3.4 R around it--> network, twice --> mask, limbus, pupil
//!                each look = the mean of the picture and its mirror image
//! ```
//!
//! Input 1 x 3 x N x N; output 1 x 4 x N x N, probabilities: 0 visible iris with pupil, 1 visible pupil, 2 whole limbus disc, 3 eye
//! opening. The recipe was chosen on photos of eyes (weights/README.md); zooming in is what makes a small iris's edge right.

use super::{Halt, Steps};
use crate::{
    domain::{fault::Code, report::Ellipse},
    imaging::{
        geometry, mask,
        raster::{Gray, Plane, Rgb},
        resize,
    },
    inference::{
        Engine,
        manifest::{ModelRow, Order},
    },
    ports::{ModelError, Tensor},
};

/// Side of the zoomed square, limbus radii.
const ZOOM: f64 = 3.4;
/// Looks at the zoomed square: the second is centred by the first.
const ZOOMS: usize = 2;
/// Channels of the output.
const VISIBLE: usize = 0;
const PUPIL: usize = 1;
const LIMBUS: usize = 2;
const CHANNELS: usize = 4;
/// From this share of clear answers on, doubt at the mask's edge is only the edge's.
const CLEAR: f64 = 0.3;
/// Fewer pixels of the network are noise.
const MIN_PX: usize = 12;

/// An iris, px of the photo.
pub struct Found {
    pub mask: Gray,
    pub limbus: Ellipse,
    pub pupil: Option<Ellipse>,
    /// 0..1.
    pub confidence: f64,
}

/// What the network saw in one square of the photo.
struct Look {
    cx: f64,
    cy: f64,
    side: f64,
    planes: [Plane; CHANNELS],
}

/// None: the network sees no iris. Errors: those of the network, or a stop.
pub fn find(photo: &Rgb, row: &ModelRow, engine: &Engine, steps: &Steps<'_>) -> Result<Option<Found>, Halt> {
    let (w, h) = (photo.width as f64, photo.height as f64);
    let first = look(photo, row, engine, (w / 2.0, h / 2.0, w.max(h)))?;
    steps.at(0.3)?;
    let mut last = None;
    for zoom in 0..ZOOMS {
        let from = last.as_ref().unwrap_or(&first);
        let Some((cx, cy, r)) = from.disc() else { break };
        last = Some(look(photo, row, engine, (cx, cy, ZOOM * r))?);
        steps.at(0.3 + 0.2 * (zoom + 1) as f32)?;
    }
    let Some(last) = last else { return Ok(None) };
    let mut mask = last.mask(photo);
    mask::clean(&mut mask);
    let Some(limbus) = last.ellipse(LIMBUS).or_else(|| last.disc().map(|(cx, cy, r)| geometry::circle(cx, cy, r))) else { return Ok(None) };
    if mask.count_inside() == 0 {
        return Ok(None);
    }
    let pupil = last.ellipse(PUPIL);
    let confidence = confidence(&signs(&first, &last, &limbus));
    Ok(Some(Found { mask, limbus, pupil, confidence }))
}

fn look(photo: &Rgb, row: &ModelRow, engine: &Engine, (cx, cy, side): (f64, f64, f64)) -> Result<Look, ModelError> {
    let [_, channels, n, width] = row.input.shape;
    if channels != 3 || n == 0 || n != width {
        let detail = format!("{}: segmentation wants an input of 1 x 3 x N x N, the manifest says {:?}", row.name, row.input.shape);
        return Err(ModelError { code: Code::ModelMismatch, detail });
    }
    let square = resize::square(photo, cx, cy, side, n, row.input.padding);
    let mut planes: [Plane; CHANNELS] = std::array::from_fn(|_| Plane::new(n, n));
    for mirrored in [false, true] {
        let out = engine.run(&row.name, &tensor(&square, row, mirrored))?;
        let data = out.first().filter(|t| t.shape == [1, CHANNELS, n, n]).map(|t| &t.data).ok_or_else(|| {
            let shapes: Vec<_> = out.iter().map(|t| &t.shape).collect();
            ModelError { code: Code::ModelMismatch, detail: format!("{}: {shapes:?} came out, 1 x 4 x {n} x {n} is wanted", row.name) }
        })?;
        if data.iter().any(|p| !p.is_finite()) {
            return Err(ModelError { code: Code::ModelFailed, detail: format!("{}: the output is not finite", row.name) });
        }
        for (plane, part) in planes.iter_mut().zip(data.chunks_exact(n * n)) {
            for (into, from) in plane.data.chunks_exact_mut(n).zip(part.chunks_exact(n)) {
                for x in 0..n {
                    into[x] += 0.5 * if mirrored { from[n - 1 - x] } else { from[x] };
                }
            }
        }
    }
    Ok(Look { cx, cy, side, planes })
}

/// N x N x 3 bytes to 1 x 3 x N x N in the manifest's range and order.
fn tensor(square: &Rgb, row: &ModelRow, mirrored: bool) -> Tensor {
    let n = square.width;
    let [black, white] = row.input.range;
    let mut data = vec![0.0; 3 * n * n];
    for (c, plane) in data.chunks_exact_mut(n * n).enumerate() {
        let from = if row.input.order == Order::Rgb { c } else { 2 - c };
        for (y, out) in plane.chunks_exact_mut(n).enumerate() {
            for (x, v) in out.iter_mut().enumerate() {
                let at = if mirrored { n - 1 - x } else { x };
                *v = black + (white - black) * f32::from(square.data[(y * n + at) * 3 + from]) / 255.0;
            }
        }
    }
    Tensor { shape: vec![1, 3, n, n], data }
}

impl Look {
    fn scale(&self) -> f64 {
        self.side / self.planes[0].width as f64
    }

    fn to_photo(&self, e: &Ellipse) -> Ellipse {
        geometry::transform(e, self.scale(), self.cx - self.side / 2.0, self.cy - self.side / 2.0)
    }

    fn ellipse(&self, channel: usize) -> Option<Ellipse> {
        geometry::ellipse_of_plane(&self.planes[channel], 0.5).map(|e| self.to_photo(&e))
    }

    fn mask(&self, photo: &Rgb) -> Gray {
        mask::from_square(&self.planes[VISIBLE], self.cx, self.cy, self.side, photo.width, photo.height)
    }

    /// Centre and radius of the limbus, px of the photo: of the largest component of what is limbus or visible iris. Where nothing
    /// reaches 0.5 but something stands out, the level follows it down: a faint first look still finds the place to zoom in on.
    fn disc(&self) -> Option<(f64, f64, f64)> {
        let n = self.planes[LIMBUS].width;
        let data: Vec<f32> = self.planes[LIMBUS].data.iter().zip(&self.planes[VISIBLE].data).map(|(a, b)| a.max(*b)).collect();
        let peak = data.iter().copied().fold(0.0, f32::max);
        [0.5, peak * 0.6].into_iter().filter(|_| peak > 0.15).find_map(|level| {
            let found = component(&data, n, level);
            let inside = found.data.iter().enumerate().filter(|(_, v)| **v > 0);
            let (mut x0, mut x1, mut y0, mut y1, mut area) = (n, 0, n, 0, 0usize);
            for (i, _) in inside {
                (x0, x1, y0, y1) = (x0.min(i % n), x1.max(i % n + 1), y0.min(i / n), y1.max(i / n + 1));
                area += 1;
            }
            if area < MIN_PX {
                return None;
            }
            let r = ((x1 - x0).max(y1 - y0) as f64).max(2.0 * (area as f64 / std::f64::consts::PI).sqrt()) / 2.0;
            let (cx, cy) = ((x0 + x1) as f64 / 2.0, (y0 + y1) as f64 / 2.0);
            let (left, top) = (self.cx - self.side / 2.0, self.cy - self.side / 2.0);
            Some((left + cx * self.scale(), top + cy * self.scale(), r * self.scale()))
        })
    }
}

/// The largest component of `data > level`, holes filled: 255 and 0, N x N.
fn component(data: &[f32], n: usize, level: f32) -> Gray {
    let mut found = Gray { width: n, height: n, data: data.iter().map(|p| if *p > level { 255 } else { 0 }).collect() };
    mask::clean(&mut found);
    found
}

/// What can be measured of a look, each 0..1.
#[derive(Debug, Clone, Copy)]
struct Signs {
    /// Mean probability inside the mask.
    sure: f64,
    /// Overlap of the limbus disc with its ellipse, less where the ellipse is long.
    round: f64,
    /// Overlap of the first look's mask with the last one's.
    agree: f64,
    /// Highest pupil probability inside the limbus.
    pupil: f64,
    /// Share of clear answers: 1 less the doubtful pixels, in masks.
    clear: f64,
}

fn signs(first: &Look, last: &Look, limbus: &Ellipse) -> Signs {
    let n = last.planes[0].width;
    let visible = component(&last.planes[VISIBLE].data, n, 0.5);
    let disc = component(&last.planes[LIMBUS].data, n, 0.5);
    let inside = visible.data.iter().filter(|v| **v > 0).count().max(1) as f64;
    let sum: f64 = visible.data.iter().zip(&last.planes[VISIBLE].data).filter(|(v, _)| **v > 0).map(|(_, p)| f64::from(*p)).sum();
    let doubtful = last.planes[VISIBLE].data.iter().filter(|p| (0.1..0.9).contains(*p)).count() as f64;
    let pupil = disc.data.iter().zip(&last.planes[PUPIL].data).filter(|(v, _)| **v > 0).map(|(_, p)| *p).fold(0.0, f32::max);
    // In the last look's square, so that both overlaps cost N x N whatever the photo's size.
    let scale = 1.0 / last.scale();
    let (dx, dy) = (-(last.cx - last.side / 2.0) * scale, -(last.cy - last.side / 2.0) * scale);
    let ellipse = mask::ellipse(n, n, &geometry::transform(limbus, scale, dx, dy));
    let (fx, fy) = (first.cx * scale + dx, first.cy * scale + dy);
    let mut before = mask::from_square(&first.planes[VISIBLE], fx, fy, first.side * scale, n, n);
    mask::clean(&mut before);
    let long = limbus.rx.max(limbus.ry) / limbus.rx.min(limbus.ry).max(1e-6);
    Signs {
        sure: sum / inside,
        round: overlap(&disc, &ellipse) / long.sqrt(),
        agree: overlap(&before, &visible),
        pupil: f64::from(pupil),
        clear: (1.0 - doubtful / inside).max(0.0),
    }
}

/// Intersection over union.
fn overlap(a: &Gray, b: &Gray) -> f64 {
    let pairs = || a.data.iter().zip(&b.data).map(|(a, b)| (*a >= 128, *b >= 128));
    let both = pairs().filter(|(a, b)| *a && *b).count();
    let any = pairs().filter(|(a, b)| *a || *b).count();
    both as f64 / any.max(1) as f64
}

/// A product, so that one sign alone is enough for a no: each was close to 1 on every eye tried and far from it on what else was tried.
fn confidence(s: &Signs) -> f64 {
    s.sure * s.round * (0.3 + 0.7 * s.pupil) * (0.3 + 0.7 * s.agree) * (0.7 + 0.3 * (s.clear / CLEAR).min(1.0))
}

//! The limbus on the photo itself: from an ellipse that is right to a few percent to the passage from dark to bright, to sub-pixel.
//!
//! ```text
//!   ellipse -> a ray at each angle that no lid hides -> brightness across -> the best of many sigmoids: place, width
//!           -> offsets by angle = radius + shift + squeeze, robust, drawn to 0 where nothing is seen -> ellipse, once more
//! ```
//!
//! The limbus is no line but a passage a few percent of the radius wide. People draw it where the dark ends, about a third of the way up
//! (docs/imaging.md), and so does this. The offsets have five unknowns, not one for each ray: what lids hide follows from what they leave,
//! and stays where the first ellipse had it when little is left.

use std::{f64::consts::TAU, sync::LazyLock};

use super::{Point, fit_ellipse, point, radius};
use crate::{
    domain::report::Ellipse,
    imaging::{raster::Rgb, resize, wide::wide},
};

const RAYS: usize = 96;
/// Each ray is the mean of three, this far apart (radians): fibres and vessels are narrower.
const FAN: f64 = 0.025;
/// Samples of a ray, from `1 - REACH` to `1 + REACH` radii.
const SAMPLES: usize = 41;
const REACH: f64 = 0.2;
/// Places and widths of the sigmoids that are tried, radii.
const PLACES: usize = 29;
const FARTHEST: f64 = 0.14;
const WIDTHS: [f64; 4] = [0.012, 0.025, 0.05, 0.09];
/// Where on a passage an ellipse lies, widths of its sigmoid inwards from the middle: at the steepest place, where a search for edges ends.
pub const STEEPEST: f64 = 0.0;
/// Where people draw it, and what the network learnt: 35 % of the way from dark to bright.
pub const DRAWN: f64 = 0.4;
/// A ray speaks when a sigmoid explains this share of its deviation.
const LIKE: f64 = 0.8;
/// Height of a full edge: the norm of a profile that goes from iris to a fair white.
const FULL: f64 = 0.25;
/// How many rays' worth of "no offset" stand against each unknown: little for radius and shift, more for squeeze and its direction.
const DOUBT: [f64; 5] = [1.0, 1.0, 1.0, 4.0, 4.0];
const ROUNDS: usize = 2;
/// Fewer rays cannot correct anything.
const MIN_SEEN: f64 = 6.0;
/// An offset of more than this is another edge, not a better place for this one; radii.
const FAR_OFF: f64 = 0.12;
/// Limbus radii that are looked at, px.
const MIN_RADIUS: f64 = 6.0;
/// Side of the square that is looked at, px: a radius of 100 of them, a tenth of one is a thousandth of it.
const SIDE: usize = 256;
/// The square, limbus radii.
const SPAN: f64 = 2.6;

/// The ellipse on the limbus' edge, px of the photo. `lies`: where on the passage `start` is, [`STEEPEST`] or [`DRAWN`]; of two edges the one nearer
/// to there wins. `exposed(x, y)`: whether that point of the photo is eyeball, not lid. None: too little edge is seen, or the edge lies
/// elsewhere; `start` is then the best there is.
pub fn limbus(photo: &Rgb, start: &Ellipse, lies: f64, exposed: impl Fn(f64, f64) -> bool) -> Option<Ellipse> {
    let r = start.rx.max(start.ry);
    if !(r.is_finite() && radius(start) >= MIN_RADIUS) {
        return None;
    }
    let square = Square::new(photo, start.cx, start.cy, SPAN * r);
    let mut e = *start;
    for _ in 0..ROUNDS {
        e = once(&square, &e, lies, &exposed)?;
    }
    let (moved, grown) = ((e.cx - start.cx).hypot(e.cy - start.cy) / radius(start), (radius(&e) / radius(start) - 1.0).abs());
    (moved <= FAR_OFF && grown <= FAR_OFF).then_some(e)
}

/// A part of the photo in which iris is dark and sclera bright whatever their colours: the mean of red and the darkest channel, 0..1.
struct Square {
    size: usize,
    data: Vec<f32>,
    left: f64,
    top: f64,
    /// px of the square for a px of the photo.
    scale: f64,
    photo: (f64, f64),
}

impl Square {
    fn new(photo: &Rgb, cx: f64, cy: f64, side: f64) -> Self {
        let size = (side.ceil() as usize).clamp(16, SIDE);
        let rgb = resize::square(photo, cx, cy, side, size, 0);
        let data = rgb.data.chunks_exact(3).map(|p| (f32::from(p[0]) + f32::from(p[0].min(p[1]).min(p[2]))) / 510.0).collect();
        let photo = (photo.width as f64, photo.height as f64);
        Self { size, data, left: cx - side / 2.0, top: cy - side / 2.0, scale: size as f64 / side, photo }
    }

    /// Bilinear at a point of the photo, the border's value beyond the border.
    fn at(&self, x: f64, y: f64) -> f64 {
        let last = (self.size - 1) as f64;
        let place = |v: f64, from: f64| ((v - from) * self.scale - 0.5).clamp(0.0, last);
        let (x, y) = (place(x, self.left), place(y, self.top));
        let (i, j) = ((x as usize).min(self.size - 2), (y as usize).min(self.size - 2));
        let (fx, fy) = ((x - i as f64) as f32, (y - j as f64) as f32);
        let (up, down) = (&self.data[j * self.size + i..][..2], &self.data[(j + 1) * self.size + i..][..2]);
        let (upper, lower) = (up[0] + (up[1] - up[0]) * fx, down[0] + (down[1] - down[0]) * fx);
        f64::from(upper + (lower - upper) * fy)
    }

    fn on_photo(&self, (x, y): Point) -> bool {
        x > 0.0 && y > 0.0 && x < self.photo.0 && y < self.photo.1
    }
}

type Profile = [f64; SAMPLES];

fn along(k: usize) -> f64 {
    REACH * (2.0 * k as f64 / (SAMPLES - 1) as f64 - 1.0)
}

/// Its mean taken away, and its norm.
fn centred(p: &Profile) -> (Profile, f64) {
    let mean = p.iter().sum::<f64>() / SAMPLES as f64;
    let c = p.map(|v| v - mean);
    (c, c.iter().map(|v| v * v).sum::<f64>().sqrt())
}

/// A value for each sigmoid: widths one after the other, each at all places.
type Each = [f64; WIDTHS.len() * PLACES];

/// Each sample of the sigmoids, which are of norm 1.
static SIGMOIDS: LazyLock<Box<[Each; SAMPLES]>> = LazyLock::new(|| {
    let mut sigmoids = Box::new([[0.0; WIDTHS.len() * PLACES]; SAMPLES]);
    for i in 0..WIDTHS.len() * PLACES {
        let (w, s) = (WIDTHS[i / PLACES], place(i % PLACES));
        let (c, norm) = centred(&std::array::from_fn(|k| 1.0 / (1.0 + (-1.6 * (along(k) - s) / w).exp())));
        sigmoids.iter_mut().zip(c).for_each(|(each, v)| each[i] = v / norm);
    }
    sigmoids
});

wide! {
    fn add_sample(alike: &mut Each, sigmoids: &Each, sample: f64) {
        for (alike, sigmoid) in alike.iter_mut().zip(sigmoids) {
            *alike += sigmoid * sample;
        }
    }
}

fn place(k: usize) -> f64 {
    FARTHEST * (2.0 * k as f64 / (PLACES - 1) as f64 - 1.0)
}

/// Where a ray crosses the limbus: angle (parameter of the ellipse), offset in radii, how much it counts.
struct Seen {
    angle: f64,
    offset: f64,
    weight: f64,
}

fn once(square: &Square, e: &Ellipse, lies: f64, exposed: &impl Fn(f64, f64) -> bool) -> Option<Ellipse> {
    let towards = |angle: f64, rho: f64| {
        let (x, y) = point(e, angle);
        (e.cx + (x - e.cx) * rho, e.cy + (y - e.cy) * rho)
    };
    let mut seen = Vec::new();
    for k in 0..RAYS {
        let angle = TAU * (k as f64 + 0.5) / RAYS as f64;
        let open = [0.93, 1.06].map(|rho| towards(angle, rho)).iter().all(|(x, y)| exposed(*x, *y));
        if !open || !square.on_photo(towards(angle, 1.0 + REACH)) {
            continue;
        }
        let fan = [-FAN, 0.0, FAN].map(|f| point(e, angle + f)).map(|(x, y)| (x - e.cx, y - e.cy));
        let sample = |i: usize| {
            let rho = 1.0 + along(i);
            fan.iter().map(|(dx, dy)| square.at(e.cx + dx * rho, e.cy + dy * rho)).sum::<f64>() / 3.0
        };
        seen.extend(crossing(&std::array::from_fn(sample), lies).map(|(offset, weight)| Seen { angle, offset, weight }));
    }
    if seen.iter().map(|s| s.weight).sum::<f64>() < MIN_SEEN {
        return None;
    }
    let offset = smooth(&seen)?;
    let moved: Vec<Point> = (0..64).map(|k| TAU * f64::from(k) / 64.0).map(|t| towards(t, 1.0 + dot(&basis(t), &offset))).collect();
    fit_ellipse(&moved)
}

/// Offset and weight of the sigmoid that is most like the profile; a far one must be clearly more like it than a near one. `lies`: the
/// place of a passage that would be on the ellipse.
fn crossing(profile: &Profile, lies: f64) -> Option<(f64, f64)> {
    let (profile, norm) = centred(profile);
    let mut alike: Each = [0.0; WIDTHS.len() * PLACES];
    SIGMOIDS.iter().zip(&profile).for_each(|(each, sample)| add_sample(&mut alike, each, *sample));
    let off = |i: usize| (place(i % PLACES) - lies * WIDTHS[i / PLACES]) / FARTHEST;
    let near = |i: usize| alike[i] * (1.0 - 0.5 * off(i).powi(2));
    let best = (0..alike.len()).max_by(|a, b| near(*a).total_cmp(&near(*b)))?;
    let at = best % PLACES;
    if at == 0 || at == PLACES - 1 || alike[best] < LIKE * norm || alike[best] <= 0.0 {
        return None;
    }
    let [before, here, after] = [alike[best - 1], alike[best], alike[best + 1]];
    let bend = before - 2.0 * here + after;
    let between = if bend < -1e-12 { (0.5 * (before - after) / bend).clamp(-1.0, 1.0) } else { 0.0 };
    let middle = place(at) + between * (place(1) - place(0));
    Some((middle - DRAWN * WIDTHS[best / PLACES], (here / FULL).min(1.0)))
}

/// Radius, shift along and across, squeeze along and between.
fn basis(t: f64) -> [f64; 5] {
    [1.0, t.cos(), t.sin(), (2.0 * t).cos(), (2.0 * t).sin()]
}

fn dot(a: &[f64; 5], b: &[f64; 5]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Ridge regression of the offsets on [`basis`], reweighted (Geman-McClure) so that lashes and glints lose their say.
fn smooth(seen: &[Seen]) -> Option<[f64; 5]> {
    let mut weights: Vec<f64> = seen.iter().map(|s| s.weight).collect();
    let mut found = [0.0; 5];
    for _ in 0..5 {
        let (mut m, mut v) = ([[0.0; 5]; 5], [0.0; 5]);
        (0..5).for_each(|i| m[i][i] = DOUBT[i]);
        for (s, w) in seen.iter().zip(&weights) {
            let b = basis(s.angle);
            for i in 0..5 {
                v[i] += w * b[i] * s.offset;
                (0..5).for_each(|j| m[i][j] += w * b[i] * b[j]);
            }
        }
        found = solve(m, v)?;
        let mut off: Vec<f64> = seen.iter().map(|s| (s.offset - dot(&basis(s.angle), &found)).abs()).collect();
        let spread = {
            let mut sorted = off.clone();
            let middle = sorted.len() / 2;
            (1.48 * *sorted.select_nth_unstable_by(middle, f64::total_cmp).1).max(0.008)
        };
        off.iter_mut().for_each(|o| *o = 1.0 / (1.0 + (*o / (1.5 * spread)).powi(2)).powi(2));
        weights = seen.iter().zip(&off).map(|(s, o)| s.weight * o).collect();
    }
    Some(found)
}

/// Gauss with pivots; None: singular.
fn solve(mut m: [[f64; 5]; 5], mut v: [f64; 5]) -> Option<[f64; 5]> {
    for c in 0..5 {
        let pivot = (c..5).max_by(|a, b| m[*a][c].abs().total_cmp(&m[*b][c].abs()))?;
        if m[pivot][c].abs() < 1e-12 {
            return None;
        }
        m.swap(c, pivot);
        v.swap(c, pivot);
        let (row, value) = (m[c], v[c]);
        for r in c + 1..5 {
            let f = m[r][c] / row[c];
            m[r].iter_mut().zip(row).for_each(|(a, b)| *a -= f * b);
            v[r] -= f * value;
        }
    }
    for c in (0..5).rev() {
        let rest: f64 = (c + 1..5).map(|k| m[c][k] * v[k]).sum();
        v[c] = (v[c] - rest) / m[c][c];
    }
    Some(v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::{
        geometry::{circle, signed_distance},
        synth,
    };

    /// A brown disc in a white, its passage `soft` px wide, a third of the way up on the ellipse.
    fn drawn(e: &Ellipse, soft: f64) -> Rgb {
        let mut photo = Rgb::new(300, 240);
        for y in 0..240 {
            for x in 0..300 {
                let d = signed_distance(e, x as f64 + 0.5, y as f64 + 0.5);
                let out = 1.0 / (1.0 + (1.6 * DRAWN - 4.0 * d / soft).exp());
                photo.set(x, y, [90.0 + 120.0 * out, 60.0 + 145.0 * out, 40.0 + 160.0 * out].map(|v| v as u8));
            }
        }
        photo
    }

    #[test]
    fn an_ellipse_that_is_off_by_some_percent_comes_back_to_sub_pixel() {
        let truth = Ellipse { cx: 150.3, cy: 118.6, rx: 64.0, ry: 60.0, angle_deg: 20.0 };
        for soft in [1.5, 4.0, 8.0] {
            let photo = drawn(&truth, soft);
            let start = Ellipse { cx: 152.5, cy: 116.0, rx: 65.5, ry: 63.0, angle_deg: 0.0 };
            let found = limbus(&photo, &start, DRAWN, |_, _| true).expect("a clear edge");
            let off = (found.cx - truth.cx).hypot(found.cy - truth.cy);
            // A softer edge is known less well.
            let fair = 0.3f64.max(soft / 16.0);
            assert!(off < fair && (radius(&found) - radius(&truth)).abs() < fair, "soft {soft}: {found:?}");
        }
    }

    #[test]
    fn what_a_lid_hides_follows_from_what_it_leaves() {
        let truth = circle(150.0, 120.0, 62.0);
        let mut photo = drawn(&truth, 4.0);
        photo.data[..85 * 900].fill(180);
        let found = limbus(&photo, &circle(150.0, 123.0, 60.0), DRAWN, |_, y| y > 88.0).expect("three quarters of an edge");
        assert!((found.cx - 150.0).hypot(found.cy - 120.0) < 1.0 && (radius(&found) - 62.0).abs() < 0.8, "{found:?}");
    }

    #[test]
    fn where_no_edge_is_seen_nothing_is_made_up() {
        assert_eq!(limbus(&Rgb::new(300, 240), &circle(150.0, 120.0, 60.0), DRAWN, |_, _| true), None);
        assert_eq!(limbus(&drawn(&circle(150.0, 120.0, 60.0), 3.0), &circle(150.0, 120.0, 60.0), DRAWN, |_, _| false), None);
        assert_eq!(limbus(&Rgb::new(3, 2), &circle(1.0, 1.0, 2.0), DRAWN, |_, _| true), None);
        assert_eq!(limbus(&Rgb::new(3, 2), &circle(1.0, 1.0, f64::INFINITY), DRAWN, |_, _| true), None);
    }

    /// The demo's eyes pass from iris to white between 0.7 widths (of 0.045 to 0.08 radii) inside of their truth and 0.5 outside: a third
    /// of the way up lies so much inside of it.
    const THIRD_OF_THE_WAY: f64 = 0.986;

    #[test]
    fn on_drawn_eyes_the_edge_is_found_to_a_hundredth_of_the_radius() {
        for seed in 0..8 {
            let sample = synth::eye(seed, 320, 240);
            let truth = sample.truth.limbus;
            let start = Ellipse { cx: truth.cx + 1.5, cy: truth.cy - 1.5, rx: truth.rx * 1.03, ry: truth.ry * 0.99, ..truth };
            let inside = |x: f64, y: f64| {
                // The mask ends at the limbus: a point is open where the mask is, drawn towards the centre.
                let (x, y) = (truth.cx + 0.85 * (x - truth.cx), truth.cy + 0.85 * (y - truth.cy));
                sample.mask.px((x as usize).min(319), (y as usize).min(239)) >= 128
            };
            let found = limbus(&sample.photo, &start, DRAWN, inside).expect("an edge");
            let r = radius(&truth);
            let (centre, size) = ((found.cx - truth.cx).hypot(found.cy - truth.cy) / r, (radius(&found) / r - THIRD_OF_THE_WAY).abs());
            assert!(centre < 0.02 && size < 0.015, "seed {seed}: centre {centre:.4}, radius {size:.4}");
        }
    }
}

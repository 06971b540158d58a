//! From a rough circle to limbus and pupil: integro-differential search (J. Daugman, 1993) and an ellipse through the edge itself.

use super::{
    search::Circle,
    views::{Around, View, Views},
};
use crate::{
    domain::report::Ellipse,
    imaging::geometry::{self, Point},
};

/// What was seen of an eye, px of the fine view.
#[derive(Debug, Clone)]
pub struct Eye {
    pub limbus: Ellipse,
    pub pupil: Option<Ellipse>,
    /// Share of the side arcs' angles with a clear edge from dark to bright, the worse side, 0..1.
    pub sides: f64,
    /// Mean edge of the pupil all round, 0..1; 0 without a pupil.
    pub pupil_score: f64,
    /// Mean edge of the limbus over its arcs, about 0..1.2.
    pub limbus_score: f64,
    /// How dark the iris is in its view, 0..1.
    pub dark: f64,
}

const ANGLES: usize = 64;
/// An edge of this height (of the stretched view) counts as full.
const STRONG: f32 = 0.30;
/// A clear edge.
const CLEAR: f32 = 0.08;

/// A candidate whose circle lies on an edge.
pub struct Outline {
    circle: Circle,
    /// Mean edge over the arcs, about 0..1.2.
    edge: f64,
    /// What speaks for an eye without a look for its pupil.
    score: f64,
    dark: f64,
}

impl Outline {
    /// Moves a candidate's circle to the edge; None where both sides show none.
    pub fn of(views: &Views, candidate: Circle) -> Option<Self> {
        let (mut c, around) = (candidate, Around::new());
        let mut edge = limbus_score(&views.iris, &c, &around);
        // Coordinate descent, steps halved from 6 % of the radius to 1 %.
        let mut step = 0.06 * c.r;
        while step > 0.01 * c.r {
            let moves = [(1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)];
            let tried = moves.map(|(x, y, r)| Circle { cx: c.cx + x * step, cy: c.cy + y * step, r: c.r + r * step });
            let (score, next) =
                tried.map(|t| (limbus_score(&views.iris, &t, &around), t)).into_iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
            if score > edge {
                (edge, c) = (score, next);
            } else {
                step /= 2.0;
            }
        }
        if edge <= 0.05 {
            return None;
        }
        let dark = dark(&views.iris, &c);
        // An edge alone is also drawn by pupils, lids and brows: what lies inside and beside it decides between candidates.
        Some(Self { circle: c, edge, score: edge + 0.5 * white(views, &c) + 0.3 * dark, dark })
    }
}

/// What the best pupil adds to a score.
const PUPIL: f64 = 0.42;

/// The best of them, with pupil and ellipse. A pupil is looked for only where the best one could still make this the better eye.
pub fn best(views: &Views, mut outlines: Vec<Outline>) -> Option<Eye> {
    outlines.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut best: Option<(f64, Outline, f64, Ellipse)> = None;
    for outline in outlines {
        if best.as_ref().is_some_and(|(score, ..)| outline.score + PUPIL < *score) {
            break;
        }
        let (pupil_score, pupil) = pupil(&views.pupil, &outline.circle);
        let score = outline.score + PUPIL * pupil_score;
        if best.as_ref().is_none_or(|(before, ..)| score > *before) {
            best = Some((score, outline, pupil_score, pupil));
        }
    }
    let (_, outline, pupil_score, pupil) = best?;
    let (limbus, sides) = limbus(&views.iris, &outline.circle);
    let pupil = (pupil_score > 0.12).then_some(pupil);
    Some(Eye { limbus, pupil, sides, pupil_score, limbus_score: outline.edge, dark: outline.dark })
}

/// Rise of brightness across the circle in each direction: mean of three samples outside minus three inside, within `reach`.
fn rises<const N: usize>(view: &View, c: &Circle, reach: f64, around: &Around<N>) -> [f32; N] {
    let mut rises = [0.0; N];
    for k in [0.25, 0.6, 1.0] {
        let [outside, inside] = [c.r + k * reach, c.r - k * reach].map(|r| view.ring(c.cx, c.cy, r, around));
        for (rise, (outside, inside)) in rises.iter_mut().zip(outside.iter().zip(&inside)) {
            *rise += (outside - inside) / 3.0;
        }
    }
    rises
}

/// Beyond this cosine a direction belongs to a side, px right of the centre or left.
const SIDE: f32 = 0.64;

/// Mean rise over right, left, below, above, weighted as in the coarse search.
fn limbus_score(view: &View, c: &Circle, around: &Around<ANGLES>) -> f64 {
    // Two reaches: shading of skin rises over the long one only, a limbus over both.
    let (far, near) = (rises(view, c, 0.12 * c.r, around), rises(view, c, (0.04 * c.r).max(1.5), around));
    let (mut sum, mut n) = ([0.0; 4], [0.0; 4]);
    for (i, (cos, sin)) in around.cos.iter().zip(&around.sin).enumerate() {
        let arc = match () {
            () if *cos > SIDE => 0,
            () if *cos < -SIDE => 1,
            () if *sin > 0.0 => 2,
            () => 3,
        };
        sum[arc] += ((0.5 * far[i] + 0.7 * near[i]) / STRONG).clamp(-1.0, 1.0);
        n[arc] += 1.0;
    }
    let [right, left, below, above] = [0, 1, 2, 3].map(|i: usize| f64::from(sum[i] / n[i]));
    0.5 * right.min(left) + 0.25 * (right + left) + 0.2 * below + 0.1 * above
}

/// The best circle inside (score 0..1): its edge all round, its inside dark. Searched coarse to fine.
fn pupil(view: &View, iris: &Circle) -> (f64, Ellipse) {
    let ring = ring_level(view, iris);
    // A whole edge is as high as this iris stands above this pupil: less, and every circle near the edge would count as full.
    let whole = ((ring - darkest(view, iris)) * 0.8).clamp(0.1, 0.35) as f32;
    let around = Around::<24>::new();
    // None: even with a whole edge it would not be above `best`.
    let score = |c: &Circle, best: f64| {
        let inside = f64::from(
            view.at(c.cx, c.cy) + view.at(c.cx - c.r / 2.0, c.cy) + view.at(c.cx + c.r / 2.0, c.cy) + view.at(c.cx, c.cy + c.r / 2.0),
        ) / 4.0;
        // Pupils are seldom wider than half the iris and lie near its middle: what is both is more often the iris inside the lids.
        let wide = (c.r / iris.r - 0.5).max(0.0) * 1.5;
        let off = ((c.cx - iris.cx).hypot(c.cy - iris.cy) / iris.r - 0.08).max(0.0) * 1.5;
        let rest = 0.5 * ((ring - inside) / 0.3).clamp(-1.0, 1.0) - wide - off;
        (1.0 + rest > best).then(|| {
            let edge: f32 = rises(view, c, 0.15 * c.r, &around).iter().map(|rise| (rise / whole).clamp(-0.2, 1.0)).sum();
            f64::from(edge) / 24.0 + rest
        })
    };
    let mut best = (f64::NEG_INFINITY, *iris);
    for k in 0..8 {
        let r = iris.r * (0.18 + 0.065 * f64::from(k));
        for j in -3..=3 {
            for i in -3..=3 {
                let c = Circle { cx: iris.cx + 0.07 * f64::from(i) * iris.r, cy: iris.cy + 0.07 * f64::from(j) * iris.r, r };
                if let Some(s) = score(&c, best.0).filter(|s| *s > best.0) {
                    best = (s, c);
                }
            }
        }
    }
    let mut step = 0.04 * iris.r;
    while step > 0.008 * iris.r {
        let c = best.1;
        let before = best.0;
        for (x, y, r) in [(1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)] {
            let t = Circle { cx: c.cx + x * step, cy: c.cy + y * step, r: (c.r + r * step).max(0.12 * iris.r) };
            if let Some(s) = score(&t, best.0).filter(|s| *s > best.0) {
                best = (s, t);
            }
        }
        if best.0 <= before {
            step /= 2.0;
        }
    }
    (best.0.clamp(0.0, 1.5) / 1.5, geometry::circle(best.1.cx, best.1.cy, best.1.r))
}

/// Median brightness of the iris between .75 and .9 of its radius, sides and below.
fn ring_level(view: &View, c: &Circle) -> f64 {
    let around = Around::<32>::new();
    let rings = [0.72, 0.82, 0.9].map(|k| view.ring(c.cx, c.cy, k * c.r, &around));
    let seen = |ring: [f32; 32]| ring.into_iter().zip(around.sin).filter_map(|(v, sin)| (sin > -0.5).then_some(v));
    let mut v: Vec<f32> = rings.into_iter().flat_map(seen).collect();
    let m = v.len() / 2;
    f64::from(*v.select_nth_unstable_by(m, f32::total_cmp).1)
}

/// Brightness that a tenth of the inner iris stays below.
fn darkest(view: &View, c: &Circle) -> f64 {
    let around = Around::<24>::new();
    let mut v = [0.05, 0.15, 0.25, 0.35, 0.45].map(|k| view.ring(c.cx, c.cy, k * c.r, &around));
    let v = v.as_flattened_mut();
    let m = v.len() / 10;
    f64::from(*v.select_nth_unstable_by(m, f32::total_cmp).1)
}

/// How much whiter (less coloured and brighter) it is beside the limbus than inside: the worse of both sides, 0..1.
fn white(views: &Views, c: &Circle) -> f64 {
    let side = |sign: f64| {
        let mut sum = 0.0;
        let mut n = 0.0;
        for k in [1.15, 1.25, 1.35] {
            for t in [-0.35f64, -0.15, 0.05, 0.25, 0.4] {
                let (x, y) = (c.cx + sign * k * c.r * t.cos(), c.cy + k * c.r * t.sin());
                let (i, j) = (x.floor(), y.floor());
                if i < 0.0 || j < 0.0 || i >= views.small.width as f64 || j >= views.small.height as f64 {
                    continue;
                }
                let [r, g, b] = views.small.px(i as usize, j as usize).map(f64::from);
                let (max, min) = (r.max(g).max(b), r.min(g).min(b));
                sum += (1.0 - (max - min) / max.max(30.0) / 0.5).clamp(0.0, 1.0)
                    * ((f64::from(views.iris.at(x, y)) - 0.3) / 0.5).clamp(0.0, 1.0);
                n += 1.0;
            }
        }
        if n > 0.0 { sum / n } else { 0.3 }
    };
    let (l, r) = (side(-1.0), side(1.0));
    0.6 * l.min(r) + 0.2 * (l + r)
}

/// How dark the inside is, 0..1; 1 from 0.7 on, else the pupil alone would pass for the better iris.
fn dark(view: &View, c: &Circle) -> f64 {
    ((1.0 - ring_level(view, c)) / 0.7).min(1.0)
}

/// The ellipse through the strongest edge near the circle at each angle, or the circle where too few agree.
fn limbus(view: &View, c: &Circle) -> (Ellipse, f64) {
    let around = Around::<96>::new();
    let wide = rises(view, c, 0.12 * c.r, &around);
    let tried: [_; 21] = std::array::from_fn(|k| c.r * (1.0 + 0.012 * (k as f64 - 10.0)));
    let tried = tried.map(|r| (r, rises(view, &Circle { r, ..*c }, 0.06 * c.r, &around)));
    let mut points: Vec<Point> = Vec::new();
    let (mut clear, mut all) = ([0.0; 2], [0.0; 2]);
    for (a, (cos, sin)) in around.cos.iter().zip(&around.sin).enumerate() {
        let side = usize::from(*cos < 0.0);
        if cos.abs() > SIDE {
            all[side] += 1.0;
            clear[side] += f64::from(u8::from(wide[a] > CLEAR));
        }
        // Above, lashes draw edges of their own: left out.
        if *sin < -0.75 {
            continue;
        }
        let edge = tried.iter().map(|(r, rises)| (rises[a], r)).max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((height, r)) = edge
            && height > CLEAR
        {
            points.push((c.cx + r * f64::from(*cos), c.cy + r * f64::from(*sin)));
        }
    }
    let sides = f64::min(clear[0] / all[0], clear[1] / all[1]);
    let circle = geometry::circle(c.cx, c.cy, c.r);
    let near = |e: &Ellipse| {
        (e.cx - c.cx).hypot(e.cy - c.cy) < 0.15 * c.r && (0.85..1.15).contains(&(geometry::radius(e) / c.r)) && e.ry / e.rx > 0.8
    };
    let fitted = if points.len() >= 40 { geometry::fit_ellipse_robust(&points).filter(near) } else { None };
    (fitted.unwrap_or(circle), sides)
}

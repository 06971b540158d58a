//! Ellipses: limbus and pupil. Continuous px coordinates, pixel centres at .5, y downwards.
//!
//! The rx axis points along (cos a, -sin a), counter-clockwise as one sees it. What is fitted here comes out with rx >= ry.

pub mod arc;
pub mod edge;

use super::raster::{Gray, Plane};
use crate::{domain::report::Ellipse, imaging::mask};

pub type Point = (f64, f64);

/// Too few contour points say nothing about five unknowns.
const MIN_POINTS: usize = 8;

pub fn circle(cx: f64, cy: f64, r: f64) -> Ellipse {
    Ellipse { cx, cy, rx: r, ry: r, angle_deg: 0.0 }
}

/// px².
pub fn area(e: &Ellipse) -> f64 {
    std::f64::consts::PI * e.rx * e.ry
}

/// Radius of the circle of the same area, px.
pub fn radius(e: &Ellipse) -> f64 {
    (e.rx * e.ry).max(0.0).sqrt()
}

/// An ellipse made ready for many points: its unit circle's coordinates are a matrix away. `rho`² is three times as fast as [`rho`], which
/// turns and measures anew each time; a 12 MP iris asks nine million times.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    cx: f64,
    cy: f64,
    u: Point,
    v: Point,
}

impl Frame {
    pub fn new(e: &Ellipse) -> Self {
        let (s, c) = e.angle_deg.to_radians().sin_cos();
        let (rx, ry) = (e.rx.max(1e-9), e.ry.max(1e-9));
        Self { cx: e.cx, cy: e.cy, u: (c / rx, -s / rx), v: (s / ry, c / ry) }
    }

    /// 0 at the centre, 1 on the ellipse; grows with the square of the distance.
    pub fn rho2(&self, x: f64, y: f64) -> f64 {
        let (dx, dy) = (x - self.cx, y - self.cy);
        let (u, v) = (dx * self.u.0 + dy * self.u.1, dx * self.v.0 + dy * self.v.1);
        u * u + v * v
    }

    pub fn contains(&self, x: f64, y: f64) -> bool {
        self.rho2(x, y) <= 1.0
    }

    /// The columns of row `y` of a picture whose px centres lie within `rho`, of the first `width`: the two ends of a row cost no more than
    /// two px. A centre right on the edge may fall to either side.
    pub fn span(&self, y: usize, rho: f64, width: usize) -> std::ops::Range<usize> {
        // a dx² + 2 b dx + c = 0, c from dy alone.
        let dy = y as f64 + 0.5 - self.cy;
        let a = self.u.0 * self.u.0 + self.v.0 * self.v.0;
        let b = (self.u.0 * self.u.1 + self.v.0 * self.v.1) * dy;
        let c = (self.u.1 * self.u.1 + self.v.1 * self.v.1) * dy * dy - rho * rho;
        let root = (b * b - a * c).sqrt();
        if root.is_nan() {
            return 0..0;
        }
        let at = |dx: f64| (self.cx + dx / a - 0.5).clamp(-1.0, width as f64);
        let (from, to) = (at(-b - root).ceil().max(0.0) as usize, (at(root - b).floor() + 1.0).max(0.0) as usize);
        from..to.min(width).max(from)
    }
}

/// (x, y) in the ellipse's own frame: along rx, along ry.
fn local(e: &Ellipse, x: f64, y: f64) -> Point {
    let (s, c) = e.angle_deg.to_radians().sin_cos();
    let (dx, dy) = (x - e.cx, y - e.cy);
    (dx * c - dy * s, dx * s + dy * c)
}

/// 0 at the centre, 1 on the ellipse.
pub fn rho(e: &Ellipse, x: f64, y: f64) -> f64 {
    Frame::new(e).rho2(x, y).sqrt()
}

pub fn contains(e: &Ellipse, x: f64, y: f64) -> bool {
    Frame::new(e).contains(x, y)
}

/// Distance to the ellipse, px, negative inside; first order (Sampson), so right near the edge, where it is used.
pub fn signed_distance(e: &Ellipse, x: f64, y: f64) -> f64 {
    let (rx, ry) = (e.rx.max(1e-9), e.ry.max(1e-9));
    let (u, v) = local(e, x, y);
    let f = (u / rx).hypot(v / ry);
    if f < 1e-9 {
        return -rx.min(ry);
    }
    let slope = (u / (rx * rx)).hypot(v / (ry * ry)) / f;
    (f - 1.0) / slope
}

/// The point at parameter `t`, radians, counter-clockwise from the rx axis.
pub fn point(e: &Ellipse, t: f64) -> Point {
    let (s, c) = e.angle_deg.to_radians().sin_cos();
    let (u, v) = (e.rx * t.cos(), -e.ry * t.sin());
    (e.cx + u * c + v * s, e.cy - u * s + v * c)
}

/// `n` corners, evenly in the parameter.
pub fn polygon(e: &Ellipse, n: usize) -> Vec<Point> {
    (0..n).map(|i| point(e, std::f64::consts::TAU * i as f64 / n as f64)).collect()
}

/// (left, top, right, bottom), px.
pub fn bounds(e: &Ellipse) -> (f64, f64, f64, f64) {
    let (s, c) = e.angle_deg.to_radians().sin_cos();
    let (w, h) = ((e.rx * c).hypot(e.ry * s), (e.rx * s).hypot(e.ry * c));
    (e.cx - w, e.cy - h, e.cx + w, e.cy + h)
}

/// Part of the ellipse's area that lies on a picture of `width` x `height` px, 0..1.
pub fn share_inside(e: &Ellipse, width: usize, height: usize) -> f64 {
    const STRIPS: usize = 256;
    let (left, top, right, bottom) = bounds(e);
    if left >= 0.0 && top >= 0.0 && right <= width as f64 && bottom <= height as f64 {
        return 1.0;
    }
    let (mut inside, mut all) = (0usize, 0usize);
    let frame = Frame::new(e);
    for j in 0..STRIPS {
        for i in 0..STRIPS {
            let x = left + (right - left) * (i as f64 + 0.5) / STRIPS as f64;
            let y = top + (bottom - top) * (j as f64 + 0.5) / STRIPS as f64;
            if frame.contains(x, y) {
                all += 1;
                inside += usize::from(x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64);
            }
        }
    }
    inside as f64 / all.max(1) as f64
}

/// The same ellipse in other coordinates: photo = plane * scale + (dx, dy).
pub fn transform(e: &Ellipse, scale: f64, dx: f64, dy: f64) -> Ellipse {
    Ellipse { cx: e.cx * scale + dx, cy: e.cy * scale + dy, rx: e.rx * scale, ry: e.ry * scale, ..*e }
}

/// Where the largest component of `plane >= level` ends: the crossings of its grid lines (marching squares), linearly
/// interpolated, unordered, px of the plane. Holes are no part of it, nor is the plane's own border.
pub fn contour(plane: &Plane, level: f32) -> Vec<Point> {
    let (w, h) = (plane.width, plane.height);
    let mut part = Gray { width: w, height: h, data: plane.data.iter().map(|v| if *v >= level { 255 } else { 0 }).collect() };
    mask::clean(&mut part);
    let mut points = Vec::new();
    let mut cross = |i: usize, j: usize, dx: f64, dy: f64| {
        if part.data[i] == part.data[j] {
            return;
        }
        let (a, b) = (plane.data[i], plane.data[j]);
        // A filled hole has no level between its pixels: the middle is as good as any.
        let t = if (a >= level) == (b >= level) { 0.5 } else { f64::from((level - a) / (b - a)) };
        points.push(((i % w) as f64 + 0.5 + t * dx, (i / w) as f64 + 0.5 + t * dy));
    };
    for y in 0..h {
        for x in 0..w {
            if x + 1 < w {
                cross(y * w + x, y * w + x + 1, 1.0, 0.0);
            }
            if y + 1 < h {
                cross(y * w + x, (y + 1) * w + x, 0.0, 1.0);
            }
        }
    }
    points
}

/// Limbus or pupil from a network's probability plane, px of the plane. Contour points at the plane's border are no edge of an eye.
pub fn ellipse_of_plane(prob: &Plane, level: f32) -> Option<Ellipse> {
    let (w, h) = (prob.width as f64, prob.height as f64);
    let mut points = contour(prob, level);
    points.retain(|(x, y)| *x > 1.5 && *y > 1.5 && *x < w - 1.5 && *y < h - 1.5);
    fit_ellipse_robust(&points)
}

/// [`fit_ellipse`], then again without the points that lie farther off than 2.5 times the usual (lids, lashes, spikes), until the set
/// stands still.
pub fn fit_ellipse_robust(points: &[Point]) -> Option<Ellipse> {
    const ROUNDS: usize = 8;
    let mut kept = points.to_vec();
    let mut best = fit_ellipse(&kept)?;
    for _ in 0..ROUNDS {
        let mut off: Vec<f64> = kept.iter().map(|(x, y)| signed_distance(&best, *x, *y).abs()).collect();
        let middle = off.len() / 2;
        let median = *off.select_nth_unstable_by(middle, f64::total_cmp).1;
        // 1.48 * the median of |residual| is the deviation of a normal error; a quarter px is what a grid cannot do better than.
        let limit = (2.5 * 1.48 * median).max(0.25);
        let next: Vec<Point> = points.iter().filter(|(x, y)| signed_distance(&best, *x, *y).abs() <= limit).copied().collect();
        // Fewer than half of the points are no majority to believe.
        if next.len() == kept.len() || next.len() * 2 < points.len() {
            break;
        }
        let Some(e) = fit_ellipse(&next) else { break };
        (kept, best) = (next, e);
    }
    Some(best)
}

/// Least-squares ellipse through contour points, rx >= ry. Direct fit (Fitzgibbon 1999) in the stable form of Halir and Flusser 1998,
/// on centred and scaled points. None: fewer than 8 points, all on a line, or no ellipse.
pub fn fit_ellipse(points: &[Point]) -> Option<Ellipse> {
    let n = points.len() as f64;
    if points.len() < MIN_POINTS {
        return None;
    }
    let (mx, my) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
    let spread = (points.iter().map(|(x, y)| (x - mx).powi(2) + (y - my).powi(2)).sum::<f64>() / n).sqrt();
    if !spread.is_finite() || spread < 1e-9 {
        return None;
    }
    let (mut s1, mut s2, mut s3) = ([[0.0; 3]; 3], [[0.0; 3]; 3], [[0.0; 3]; 3]);
    for (x, y) in points {
        let (x, y) = ((x - mx) / spread, (y - my) / spread);
        let (quadratic, linear) = ([x * x, x * y, y * y], [x, y, 1.0]);
        for i in 0..3 {
            for j in 0..3 {
                s1[i][j] += quadratic[i] * quadratic[j] / n;
                s2[i][j] += quadratic[i] * linear[j] / n;
                s3[i][j] += linear[i] * linear[j] / n;
            }
        }
    }
    let inverse = invert(&s3)?;
    // t = -s3^-1 s2', reduced = C1^-1 (s1 + s2 t), with C1 the constraint 4ac - b² = 1.
    let t = std::array::from_fn(|i| std::array::from_fn(|j| -(0..3).map(|k| inverse[i][k] * s2[j][k]).sum::<f64>()));
    let t: [[f64; 3]; 3] = t;
    let m: [[f64; 3]; 3] = std::array::from_fn(|i| std::array::from_fn(|j| s1[i][j] + (0..3).map(|k| s2[i][k] * t[k][j]).sum::<f64>()));
    let reduced = [m[2].map(|v| v / 2.0), m[1].map(|v| -v), m[0].map(|v| v / 2.0)];
    // Of the three eigenvectors exactly one is an ellipse.
    let a = eigenvalues(&reduced)
        .into_iter()
        .filter_map(|value| eigenvector(&reduced, value))
        .map(|a| (4.0 * a[0] * a[2] - a[1] * a[1], a))
        .filter(|(d, _)| *d > 1e-9)
        .max_by(|p, q| p.0.total_cmp(&q.0))?
        .1;
    let [d, e, f] = std::array::from_fn(|i| (0..3).map(|k| t[i][k] * a[k]).sum::<f64>());
    let found = from_conic(a[0], a[1], a[2], d, e, f)?;
    Some(transform(&found, spread, mx, my))
}

/// a x² + b xy + c y² + d x + e y + f = 0.
fn from_conic(a: f64, b: f64, c: f64, d: f64, e: f64, f: f64) -> Option<Ellipse> {
    let det = 4.0 * a * c - b * b;
    let (cx, cy) = ((b * e - 2.0 * c * d) / det, (b * d - 2.0 * a * e) / det);
    let at_centre = f + (d * cx + e * cy) / 2.0;
    let (mean, half) = ((a + c) / 2.0, ((a - c) / 2.0).hypot(b / 2.0));
    let sign = if mean < 0.0 { -1.0 } else { 1.0 };
    let (flat, steep) = (mean * sign - half, mean * sign + half);
    let (rx, ry) = ((-at_centre * sign / flat).sqrt(), (-at_centre * sign / steep).sqrt());
    // The long axis is where the form is flattest; y points down, the angle counts upwards.
    let along = 0.5 * (-b * sign).atan2((c - a) * sign);
    let mut angle_deg = -along.to_degrees();
    if angle_deg <= -90.0 {
        angle_deg += 180.0;
    }
    [cx, cy, rx, ry, angle_deg].iter().all(|v| v.is_finite()).then_some(Ellipse { cx, cy, rx, ry, angle_deg })
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Of a symmetric matrix.
fn invert(m: &[[f64; 3]; 3]) -> Option<[[f64; 3]; 3]> {
    let columns = [cross(m[1], m[2]), cross(m[2], m[0]), cross(m[0], m[1])];
    let det = dot(m[0], columns[0]);
    (det.abs() > 1e-12).then(|| columns.map(|c| c.map(|v| v / det)))
}

/// The real ones, by the trigonometric solution of the characteristic cubic. They are all real here (the matrix is a product of a
/// definite and a symmetric one).
fn eigenvalues(m: &[[f64; 3]; 3]) -> [f64; 3] {
    let trace = m[0][0] + m[1][1] + m[2][2];
    let minors = m[0][0] * m[1][1] - m[0][1] * m[1][0] + m[0][0] * m[2][2] - m[0][2] * m[2][0] + m[1][1] * m[2][2] - m[1][2] * m[2][1];
    let det = dot(m[0], cross(m[1], m[2]));
    let p = (trace * trace / 3.0 - minors).max(0.0) / 3.0;
    let q = trace * trace * trace / 27.0 - trace * minors / 6.0 + det / 2.0;
    let angle = (q / p.powf(1.5).max(1e-300)).clamp(-1.0, 1.0).acos() / 3.0;
    std::array::from_fn(|k| trace / 3.0 + 2.0 * p.sqrt() * (angle - std::f64::consts::TAU * k as f64 / 3.0).cos())
}

/// Normal to the rows of m - value * 1: the longest of their cross products.
fn eigenvector(m: &[[f64; 3]; 3], value: f64) -> Option<[f64; 3]> {
    let r: [[f64; 3]; 3] = std::array::from_fn(|i| std::array::from_fn(|j| m[i][j] - if i == j { value } else { 0.0 }));
    let best = [cross(r[0], r[1]), cross(r[0], r[2]), cross(r[1], r[2])].into_iter().max_by(|a, b| dot(*a, *a).total_cmp(&dot(*b, *b)))?;
    let length = dot(best, best).sqrt();
    (length > 1e-300).then(|| best.map(|v| v / length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alike(a: &Ellipse, b: &Ellipse, tolerance: f64) -> bool {
        polygon(a, 32).iter().all(|(x, y)| signed_distance(b, *x, *y).abs() < tolerance)
    }

    proptest! {
        #[test]
        fn a_fit_to_points_of_an_ellipse_gives_that_ellipse_back(
            cx in -50.0..900.0, cy in -50.0..900.0, rx in 20.0..400.0, squash in 0.4..1.0, angle in -89.0..89.0, from in 0.0..6.0, n in 12usize..80,
        ) {
            let e = Ellipse { cx, cy, rx, ry: rx * squash, angle_deg: angle };
            // Two thirds of the way round: lids hide the rest.
            let points: Vec<Point> = (0..n).map(|i| point(&e, from + 4.2 * i as f64 / n as f64)).collect();
            let found = fit_ellipse(&points).expect("an ellipse");
            prop_assert!(found.rx >= found.ry && (-90.0..=90.0).contains(&found.angle_deg));
            prop_assert!(alike(&found, &e, 1e-3 * rx), "{found:?} for {e:?}");
        }

        #[test]
        fn the_bounds_hold_every_point(rx in 1.0..50.0, ry in 1.0..50.0, angle in -90.0..90.0, t in 0.0..6.3) {
            let e = Ellipse { cx: 3.0, cy: 4.0, rx, ry, angle_deg: angle };
            let ((x, y), b) = (point(&e, t), bounds(&e));
            prop_assert!(x >= b.0 - 1e-9 && y >= b.1 - 1e-9 && x <= b.2 + 1e-9 && y <= b.3 + 1e-9);
            prop_assert!((rho(&e, x, y) - 1.0).abs() < 1e-9);
        }
    }

    proptest! {
        #[test]
        fn a_span_holds_the_px_of_a_row_that_lie_inside_and_no_others(
            cx in -20.0..80.0, cy in -20.0..60.0, rx in 0.5..40.0, ry in 0.5..40.0, angle_deg in -90.0..90.0, rho in 0.0..1.5,
        ) {
            let frame = Frame::new(&Ellipse { cx, cy, rx, ry, angle_deg });
            for y in 0..48 {
                let span = frame.span(y, rho, 64);
                for x in 0..64 {
                    let off = frame.rho2(x as f64 + 0.5, y as f64 + 0.5) - rho * rho;
                    prop_assert!(off.abs() < 1e-9 || span.contains(&x) == (off < 0.0), "({x}, {y}): {off} {span:?}");
                }
            }
        }
    }

    #[test]
    fn the_angle_turns_counter_clockwise_as_one_sees_it() {
        let e = Ellipse { cx: 0.0, cy: 0.0, rx: 10.0, ry: 2.0, angle_deg: 45.0 };
        assert!(contains(&e, 6.0, -6.0) && !contains(&e, 6.0, 6.0));
    }

    #[test]
    fn a_lid_chord_and_spikes_do_not_pull_the_fit_away() {
        let e = Ellipse { cx: 60.0, cy: 62.0, rx: 40.0, ry: 36.0, angle_deg: 10.0 };
        let mut points: Vec<Point> = polygon(&e, 120);
        points.extend((0..20).map(|i| (45.0 + i as f64, 40.0)));
        points.extend([(5.0, 5.0), (110.0, 20.0)]);
        assert!(alike(&fit_ellipse_robust(&points).expect("an ellipse"), &e, 0.5));
    }

    #[test]
    fn points_on_a_line_or_too_few_are_no_ellipse() {
        assert_eq!(fit_ellipse(&(0..40).map(|i| (f64::from(i), 2.0 * f64::from(i))).collect::<Vec<_>>()), None);
        assert_eq!(fit_ellipse(&[(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]), None);
        assert_eq!(ellipse_of_plane(&Plane::new(16, 16), 0.5), None);
    }

    #[test]
    fn a_plane_that_is_cut_by_its_border_still_gives_the_whole_ellipse_below_a_tenth_of_a_px() {
        let e = Ellipse { cx: 40.2, cy: 58.9, rx: 47.0, ry: 44.0, angle_deg: -30.0 };
        let mut plane = Plane::new(128, 128);
        for i in 0..plane.data.len() {
            let d = signed_distance(&e, (i % 128) as f64 + 0.5, (i / 128) as f64 + 0.5);
            plane.data[i] = (0.5 - d / 4.0).clamp(0.0, 1.0) as f32;
        }
        let found = ellipse_of_plane(&plane, 0.5).expect("an ellipse");
        assert!(alike(&found, &e, 0.1), "{found:?}");
    }

    #[test]
    fn half_of_a_disc_at_the_edge_lies_inside_the_picture() {
        assert!((share_inside(&circle(100.0, 50.0, 20.0), 100, 100) - 0.5).abs() < 0.01);
        assert_eq!(share_inside(&circle(50.0, 50.0, 20.0), 100, 100), 1.0);
        assert_eq!(share_inside(&circle(500.0, 50.0, 20.0), 100, 100), 0.0);
    }
}

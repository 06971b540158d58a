//! A coarse, soft mask drawn to the photo's own edges: the guided filter (He, Sun, Tang, "Guided Image Filtering", 2013), colour guide.
//!
//! In each window the mask is taken to be a linear function of the photo's colour, q = a . I + b. Where the photo is flat this is a mean, where
//! it has an edge q has the same edge: a limbus or a lid's rim is met without a model of either. Coefficients are found on a coarse
//! grid and applied on a finer one (He, Sun, "Fast Guided Filter", 2015).

use crate::imaging::raster::{Plane, Rgb};

/// q = a . I + b for every point of the coarse grid.
pub struct Coefficients {
    a: [Plane; 3],
    b: Plane,
}

/// `mask` and `guide` have one size. `radius`: half the window, px; `eps`: variance of a colour (0..1) below which a window counts as flat.
pub fn coefficients(mask: &Plane, guide: &Rgb, radius: usize, eps: f32) -> Coefficients {
    let (w, h) = (mask.width, mask.height);
    debug_assert_eq!((guide.width, guide.height), (w, h));
    let plane = |f: &dyn Fn(usize) -> f32| Plane { width: w, height: h, data: (0..w * h).map(f).collect() };
    let mean = |f: &dyn Fn(usize) -> f32| boxed(&plane(f), radius);
    let colour = |i: usize, c: usize| f32::from(guide.data[3 * i + c]) / 255.0;
    let of_mask = mean(&|i| mask.data[i]);
    let of_colour = [0, 1, 2].map(|c| mean(&|i| colour(i, c)));
    let both = [0, 1, 2].map(|c| mean(&|i| colour(i, c) * mask.data[i]));
    let pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)].map(|(c, d)| mean(&|i| colour(i, c) * colour(i, d)));
    let mut a = [0, 1, 2].map(|_| Plane::new(w, h));
    let mut b = Plane::new(w, h);
    for i in 0..w * h {
        let m = [0, 1, 2].map(|c| of_colour[c].data[i]);
        let p = of_mask.data[i];
        let cov = [0, 1, 2].map(|c| both[c].data[i] - m[c] * p);
        let [rr, rg, rb, gg, gb, bb] = std::array::from_fn(|k| {
            let (c, d) = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)][k];
            pairs[k].data[i] - m[c] * m[d] + if c == d { eps } else { 0.0 }
        });
        let slope = symmetric(rr, rg, rb, gg, gb, bb, cov);
        (0..3).for_each(|c| a[c].data[i] = slope[c]);
        b.data[i] = p - (0..3).map(|c| slope[c] * m[c]).sum::<f32>();
    }
    Coefficients { a: a.map(|p| boxed(&p, radius)), b: boxed(&b, radius) }
}

impl Coefficients {
    /// The mask on a finer picture of the same square; not held to 0..1.
    pub fn apply(&self, guide: &Rgb) -> Plane {
        let (w, h) = (guide.width, guide.height);
        let mut out = Plane::new(w, h);
        let (kx, ky) = (self.b.width as f32 / w as f32, self.b.height as f32 / h as f32);
        let (last_x, last_y) = (self.b.width - 1, self.b.height - 1);
        for y in 0..h {
            let v = ((y as f32 + 0.5) * ky - 0.5).clamp(0.0, last_y as f32);
            let (j, fy) = (v as usize, v - v.floor());
            let (top, bottom) = (j * self.b.width, (j + 1).min(last_y) * self.b.width);
            for x in 0..w {
                let u = ((x as f32 + 0.5) * kx - 0.5).clamp(0.0, last_x as f32);
                let (i, fx) = (u as usize, u - u.floor());
                let right = (i + 1).min(last_x);
                let at = |p: &Plane| {
                    let (upper, lower) = (p.data[top + i] + (p.data[top + right] - p.data[top + i]) * fx, {
                        p.data[bottom + i] + (p.data[bottom + right] - p.data[bottom + i]) * fx
                    });
                    upper + (lower - upper) * fy
                };
                let [r, g, b] = guide.px(x, y).map(|v| f32::from(v) / 255.0);
                out.data[y * w + x] = at(&self.a[0]) * r + at(&self.a[1]) * g + at(&self.a[2]) * b + at(&self.b);
            }
        }
        out
    }
}

/// x of M x = v, M symmetric and positive (eps on its diagonal).
fn symmetric(rr: f32, rg: f32, rb: f32, gg: f32, gb: f32, bb: f32, v: [f32; 3]) -> [f32; 3] {
    let (i00, i01, i02) = (gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg);
    let (i11, i12, i22) = (rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg);
    let det = (rr * i00 + rg * i01 + rb * i02).max(1e-12);
    [
        (i00 * v[0] + i01 * v[1] + i02 * v[2]) / det,
        (i01 * v[0] + i11 * v[1] + i12 * v[2]) / det,
        (i02 * v[0] + i12 * v[1] + i22 * v[2]) / det,
    ]
}

/// Mean over windows of 2 `radius` + 1 px, cut at the border; running sums, so the radius costs nothing.
fn boxed(p: &Plane, radius: usize) -> Plane {
    let (w, h) = (p.width, p.height);
    let mut across = Plane::new(w, h);
    for (row, out) in p.data.chunks_exact(w.max(1)).zip(across.data.chunks_exact_mut(w.max(1))) {
        let mut sum: f64 = row[..radius.min(w)].iter().map(|v| f64::from(*v)).sum();
        for x in 0..w {
            if x + radius < w {
                sum += f64::from(row[x + radius]);
            }
            if x > radius {
                sum -= f64::from(row[x - radius - 1]);
            }
            out[x] = (sum / ((x + radius).min(w - 1) - x.saturating_sub(radius) + 1) as f64) as f32;
        }
    }
    let mut out = Plane::new(w, h);
    let mut sums = vec![0.0f64; w];
    let change = |sums: &mut [f64], y: usize, sign: f64| {
        sums.iter_mut().zip(&across.data[y * w..(y + 1) * w]).for_each(|(s, v)| *s += sign * f64::from(*v));
    };
    (0..radius.min(h)).for_each(|y| change(&mut sums, y, 1.0));
    for y in 0..h {
        if y + radius < h {
            change(&mut sums, y + radius, 1.0);
        }
        if y > radius {
            change(&mut sums, y - radius - 1, -1.0);
        }
        let rows = ((y + radius).min(h - 1) - y.saturating_sub(radius) + 1) as f64;
        out.data[y * w..(y + 1) * w].iter_mut().zip(&sums).for_each(|(o, s)| *o = (s / rows) as f32);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_mean_is_the_mean_of_the_window_that_lies_on_the_picture() {
        let p = Plane { width: 9, height: 7, data: (0..63).map(|i| (i * 37 % 64) as f32).collect() };
        for radius in [0, 1, 3, 20] {
            let m = boxed(&p, radius);
            for y in 0..7usize {
                for x in 0..9usize {
                    let rows = y.saturating_sub(radius)..=(y + radius).min(6);
                    let seen: Vec<f32> = rows
                        .flat_map(|j| (x.saturating_sub(radius)..=(x + radius).min(8)).map(move |i| (i, j)))
                        .map(|(i, j)| p.px(i, j))
                        .collect();
                    let want = seen.iter().sum::<f32>() / seen.len() as f32;
                    assert!((m.px(x, y) - want).abs() < 1e-3, "({x}, {y}) radius {radius}");
                }
            }
        }
    }

    #[test]
    fn a_blurred_mask_takes_the_edge_of_the_photo_and_a_flat_photo_changes_nothing_but_its_blur() {
        let mut guide = Rgb::new(64, 48);
        let mut mask = Plane::new(64, 48);
        for y in 0..48 {
            for x in 0..64 {
                guide.set(x, y, if x < 33 { [60, 40, 30] } else { [200, 190, 180] });
                // Soft, and 2 px too far to the right.
                mask.data[y * 64 + x] = 1.0 / (1.0 + ((x as f32 - 34.5) / 1.5).exp());
            }
        }
        let out = coefficients(&mask, &guide, 6, 1e-3).apply(&guide);
        for y in 8..40 {
            let edge = (0..64).position(|x| out.px(x, y) < 0.5);
            assert_eq!(edge, Some(33));
        }
        let grey = Rgb { width: 64, height: 48, data: vec![120; 64 * 48 * 3] };
        let out = coefficients(&mask, &grey, 3, 1e-3).apply(&grey);
        assert!((out.px(10, 20) - 1.0).abs() < 0.01 && out.px(60, 20).abs() < 0.01);
    }

    #[test]
    fn coefficients_serve_a_finer_picture_of_the_same_square() {
        let picture = |n: usize| {
            let mut p = Rgb::new(n, n);
            (0..n * n).for_each(|i| p.set(i % n, i / n, if i % n * 16 < 7 * n { [20; 3] } else { [220; 3] }));
            p
        };
        let (coarse, fine) = (picture(32), picture(128));
        let mask = Plane { width: 32, height: 32, data: (0..1024).map(|i| 1.0 / (1.0 + ((i % 32) as f32 - 13.5).exp())).collect() };
        let out = coefficients(&mask, &coarse, 4, 1e-3).apply(&fine);
        let edge = (0..128).position(|x| out.px(x, 64) < 0.5).expect("an edge");
        assert!((54..=58).contains(&edge), "{edge}");
    }
}

//! The square of a photo that a segmentation network looks at.
//!
//! Strong reductions first halve the whole picture by area until less than 2 : 1 is left, then sample bilinearly: what OpenCV's
//! `resize(INTER_AREA)` and `warpAffine(INTER_LINEAR)` did in training, with the same pixel centres.

use rayon::prelude::*;

use super::{super::raster::Rgb, shrink};

/// The square of `side` px of the photo centred at (`cx`, `cy`) (px, pixel centres at .5), resampled to `out` x `out` x 3. What lies
/// outside of the photo is `pad`, blended over the last half pixel.
///
/// `side` is above 0; the halved copies take at most a third of the photo's memory.
pub fn square(source: &Rgb, cx: f64, cy: f64, side: f64, out: usize, pad: u8) -> Rgb {
    let mut halved: Option<Rgb> = None;
    let mut ratio = side / out as f64;
    while ratio > 2.0 {
        let from = halved.as_ref().unwrap_or(source);
        halved = Some(shrink(from, (from.width / 2).max(1), (from.height / 2).max(1)));
        ratio /= 2.0;
    }
    let small = halved.as_ref().unwrap_or(source);
    // An odd side was not halved exactly: where a point of the photo lies in the small picture.
    let (fx, fy) = (small.width as f64 / source.width as f64, small.height as f64 / source.height as f64);
    let step = side / out as f64;
    let place = |i: usize, centre: f64, f: f64| (centre + (i as f64 + 0.5 - out as f64 / 2.0) * step) * f - 0.5;

    let mut result = Rgb::new(out, out);
    result.data.par_chunks_exact_mut(out * 3).enumerate().for_each(|(y, row)| {
        let sy = place(y, cy, fy);
        for (x, px) in row.chunks_exact_mut(3).enumerate() {
            px.copy_from_slice(&bilinear(small, place(x, cx, fx), sy, pad));
        }
    });
    result
}

/// (x, y): pixel centres at whole numbers.
fn bilinear(rgb: &Rgb, x: f64, y: f64, pad: u8) -> [u8; 3] {
    let (x0, y0) = (x.floor(), y.floor());
    let (ax, ay) = ((x - x0) as f32, (y - y0) as f32);
    let at = |x: f64, y: f64| {
        let inside = x >= 0.0 && y >= 0.0 && x < rgb.width as f64 && y < rgb.height as f64;
        if inside { rgb.px(x as usize, y as usize) } else { [pad; 3] }
    };
    let [a, b, c, d] = [at(x0, y0), at(x0 + 1.0, y0), at(x0, y0 + 1.0), at(x0 + 1.0, y0 + 1.0)];
    std::array::from_fn(|i| {
        let [a, b, c, d] = [a, b, c, d].map(|p| f32::from(p[i]));
        let (top, bottom) = (a + (b - a) * ax, c + (d - c) * ax);
        (top + (bottom - top) * ay + 0.5) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: usize, height: usize) -> Rgb {
        let mut rgb = Rgb::new(width, height);
        for y in 0..height {
            for x in 0..width {
                rgb.set(x, y, [(x * 200 / width) as u8, (y * 200 / height) as u8, 77]);
            }
        }
        rgb
    }

    #[test]
    fn at_scale_one_the_square_is_a_plain_crop_with_its_padding() {
        let rgb = ramp(40, 30);
        let out = square(&rgb, 10.0, 15.0, 24.0, 24, 127);
        for y in 0..24 {
            for x in 0..24 {
                let want = match (x, y + 3) {
                    (x, y) if x >= 2 => rgb.px(x - 2, y),
                    _ => [127; 3],
                };
                assert_eq!(out.px(x, y), want, "({x}, {y})");
            }
        }
    }

    #[test]
    fn a_point_of_the_photo_lands_where_the_geometry_says_however_strong_the_reduction() {
        for side in [100.0, 190.0, 333.0, 801.0] {
            let rgb = ramp(801, 601);
            let out = square(&rgb, 400.5, 300.5, side, 64, 127);
            for i in [20usize, 31, 44] {
                let x = 400.5 + (i as f64 + 0.5 - 32.0) * side / 64.0;
                let want = (x - 0.5) * 200.0 / 801.0 - 0.4;
                assert!((f64::from(out.px(i, 32)[0]) - want).abs() <= 1.2, "side {side}, x {x}: {} {want}", out.px(i, 32)[0]);
                assert_eq!(out.px(i, 32)[2], 77);
            }
        }
    }

    #[test]
    fn a_one_pixel_photo_can_be_looked_at() {
        let out = square(&Rgb { width: 1, height: 1, data: vec![9, 8, 7] }, 0.5, 0.5, 1.0, 8, 127);
        assert!(out.px(3, 4)[0] < 127 && out.px(0, 0)[0] > 9, "the pixel in the middle, padding around");
        assert_eq!(out.width, 8);
    }
}

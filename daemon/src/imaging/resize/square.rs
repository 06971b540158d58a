//! The square of a photo that a segmentation network looks at.
//!
//! Strong reductions first halve the whole picture by area until less than 2 : 1 is left, then sample bilinearly: what OpenCV's
//! `resize(INTER_AREA)` and `warpAffine(INTER_LINEAR)` did in training, with the same pixel centres.

use super::{
    super::{cores, raster::Rgb, wide::wide},
    area::shrink_part,
};

/// Pixels of the result that are kept around the square in each of the smaller copies.
const SPARE: f64 = 4.0;

/// The square of `side` px of the photo centred at (`cx`, `cy`) (px, pixel centres at .5), resampled to `out` x `out` x 3. What lies
/// outside of the photo is `pad`, blended over the last half pixel.
///
/// `side` is above 0; of the halved copies, which would take a third of the photo's memory, only what lies under the square is made.
pub fn square(source: &Rgb, cx: f64, cy: f64, side: f64, out: usize, pad: u8) -> Rgb {
    let mut halved: Option<Rgb> = None;
    let mut ratio = side / out as f64;
    while ratio > 2.0 {
        let from = halved.as_ref().unwrap_or(source);
        let (width, height) = ((from.width / 2).max(1), (from.height / 2).max(1));
        // With room for the pixels that later steps read beside it.
        let under = |centre: f64, px: usize, small: usize| {
            let (scale, reach) = (small as f64 / px as f64, side / 2.0 + SPARE * side / out as f64);
            let end = |at: f64| ((at * scale).max(0.0) as usize).min(small);
            end(centre - reach)..end((centre + reach).max(0.0) + px as f64 / small as f64)
        };
        halved = Some(shrink_part(from, width, height, under(cx, source.width, width), under(cy, source.height, height)));
        ratio /= 2.0;
    }
    let small = halved.as_ref().unwrap_or(source);
    // An odd side was not halved exactly: where a point of the photo lies in the small picture.
    let (fx, fy) = (small.width as f64 / source.width as f64, small.height as f64 / source.height as f64);
    let step = side / out as f64;
    let place = |i: usize, centre: f64, f: f64| (centre + (i as f64 + 0.5 - out as f64 / 2.0) * step) * f - 0.5;

    // Where both neighbours along this side lie on the picture, which is nearly everywhere: the first of them, and how far it is from there.
    let inner = |at: f64, px: usize| (at >= 0.0 && at + 1.0 < px as f64).then(|| (at as usize, at.fract() as f32));
    let columns: Vec<_> = (0..out).map(|x| place(x, cx, fx)).map(|sx| (sx, inner(sx, small.width))).collect();
    // Of these all but one that ends a row: four numbers are read of a px.
    let is_quick = |column: &Option<(usize, f32)>| column.is_some_and(|(x, _)| x + 2 < small.width);
    let first = columns.iter().position(|(_, column)| is_quick(column)).unwrap_or(out);
    let quick: Vec<(usize, f32)> = columns[first..].iter().map_while(|(_, column)| column.filter(|c| is_quick(&Some(*c)))).collect();
    let mut result = Rgb::new(out, out);
    cores::pieces(
        &mut result.data,
        out * 3,
        || (),
        |(), y, row| {
            let sy = place(y, cy, fy);
            let row = row.as_chunks_mut::<3>().0;
            let slow = |row: &mut [[u8; 3]], from: usize| {
                row.iter_mut().zip(&columns[from..]).for_each(|(px, (sx, _))| *px = bilinear(small, *sx, sy, pad));
            };
            let Some((y, ay)) = inner(sy, small.height) else { return slow(row, 0) };
            let (before, rest) = row.split_at_mut(first);
            let (inside, behind) = rest.split_at_mut(quick.len());
            slow(before, 0);
            blend_row(small.row(y), small.row(y + 1), &quick, ay, inside);
            slow(behind, first + quick.len());
        },
    );
    result
}

wide! {
    /// Between two rows, `ay` of the lower one; `columns`: between which two px, and the share of the second.
    fn blend_row(upper: &[u8], lower: &[u8], columns: &[(usize, f32)], ay: f32, out: &mut [[u8; 3]]) {
        for (px, (x, ax)) in out.iter_mut().zip(columns) {
            let (upper, lower) = (two(upper, *x), two(lower, *x));
            let mut between = [0u8; 4];
            for i in 0..4 {
                between[i] = blend([upper[0][i], upper[1][i], lower[0][i], lower[1][i]], *ax, ay);
            }
            px.copy_from_slice(&between[..3]);
        }
    }
}

/// A px of a row and the next, each with a number that is not its own: so it fills a register's lane.
#[inline(always)]
fn two(row: &[u8], x: usize) -> [[u8; 4]; 2] {
    let seven: &[u8; 7] = row[x * 3..].first_chunk().expect("a column that has two neighbours");
    [[seven[0], seven[1], seven[2], seven[3]], [seven[3], seven[4], seven[5], seven[6]]]
}

/// Two numbers of a row and the two below them; `ax`, `ay`: how far from the first towards the others.
#[inline(always)]
fn blend(four: [u8; 4], ax: f32, ay: f32) -> u8 {
    let [a, b, c, d] = [f32::from(four[0]), f32::from(four[1]), f32::from(four[2]), f32::from(four[3])];
    let (top, bottom) = (a + (b - a) * ax, c + (d - c) * ax);
    (top + (bottom - top) * ay + 0.5) as u8
}

/// (x, y): pixel centres at whole numbers.
fn bilinear(rgb: &Rgb, x: f64, y: f64, pad: u8) -> [u8; 3] {
    let (x0, y0) = (x.floor(), y.floor());
    let (ax, ay) = ((x - x0) as f32, (y - y0) as f32);
    let at = |x: f64, y: f64| {
        let inside = x >= 0.0 && y >= 0.0 && x < rgb.width as f64 && y < rgb.height as f64;
        if inside { rgb.px(x as usize, y as usize) } else { [pad; 3] }
    };
    let [a, b, c, d] = [(x0, y0), (x0 + 1.0, y0), (x0, y0 + 1.0), (x0 + 1.0, y0 + 1.0)].map(|(x, y)| at(x, y));
    std::array::from_fn(|i| blend([a[i], b[i], c[i], d[i]], ax, ay))
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
    fn what_lies_beside_the_square_makes_no_difference() {
        let mut rgb = ramp(403, 301);
        rgb.data.iter_mut().enumerate().for_each(|(i, v)| *v = v.wrapping_add((i * 7919 % 97) as u8));
        for (cx, cy, side) in [(200.0, 150.0, 130.0), (61.3, 77.7, 110.0), (390.0, 20.0, 90.0)] {
            let part = square(&rgb, cx, cy, side, 16, 0);
            let mut halved = rgb.clone();
            let mut ratio = side / 16.0;
            while ratio > 2.0 {
                halved = super::super::shrink(&halved, halved.width / 2, halved.height / 2);
                ratio /= 2.0;
            }
            let f = (halved.width as f64 / 403.0, halved.height as f64 / 301.0);
            for (x, y) in (0..256).map(|i| (i % 16, i / 16)) {
                let at = |i: usize, centre: f64| centre + (i as f64 + 0.5 - 8.0) * side / 16.0;
                let want = bilinear(&halved, at(x, cx) * f.0 - 0.5, at(y, cy) * f.1 - 0.5, 0);
                assert_eq!(part.px(x, y), want, "side {side} ({x}, {y})");
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

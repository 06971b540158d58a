//! Smaller pictures: every result pixel is the mean of the area that it covers, parts of pixels counted as parts (what OpenCV calls
//! INTER_AREA). No ringing, no aliasing at any ratio, exact for whole ratios.

use std::ops::Range;

use super::super::{
    cores,
    raster::{Gray, Rgb},
    wide::wide,
};

/// Source: H x W x 3; result: `height` x `width` x 3. Meant for sizes up to the source's; above, pixels repeat.
pub fn shrink(source: &Rgb, width: usize, height: usize) -> Rgb {
    shrink_part(source, width, height, 0..width, 0..height)
}

/// [`shrink`], but only these columns and rows of the result are made; the others stay black, and cost nothing.
pub fn shrink_part(source: &Rgb, width: usize, height: usize, columns: Range<usize>, rows: Range<usize>) -> Rgb {
    Rgb { width, height, data: area::<3>(&source.data, (source.width, source.height), (width, height), columns, rows) }
}

/// Half the size, and half of that again: H / 4 x W / 4 x 3. Where the sides are multiples of four the picture between is not kept: of 12 MP it
/// would be 9 MB of fresh memory.
pub fn quarter(source: &Rgb) -> Rgb {
    let half = |n: usize| (n / 2).max(1);
    let (w, h) = (source.width, source.height);
    if w % 4 != 0 || h % 4 != 0 {
        let halves = shrink(source, half(w), half(h));
        return shrink(&halves, half(halves.width), half(halves.height));
    }
    let mut out = Rgb::new(w / 4, h / 4);
    cores::pieces(
        &mut out.data,
        w / 4 * 3,
        || vec![[[0; 3]; 2]; w / 2],
        |halves, y, out| {
            let (upper, lower) = halves.as_flattened_mut().split_at_mut(w / 2);
            let line = |below: usize| &source.data[(4 * y + below) * w * 3..][..w * 3];
            halve(line(0), line(1), upper);
            halve(line(2), line(3), lower);
            halve(upper.as_flattened(), lower.as_flattened(), out.as_chunks_mut::<3>().0);
        },
    );
    out
}

/// Source: H x W; result: `height` x `width`.
pub fn shrink_gray(source: &Gray, width: usize, height: usize) -> Gray {
    Gray { width, height, data: area::<1>(&source.data, (source.width, source.height), (width, height), 0..width, 0..height) }
}

/// The source pixels under one result pixel: from `first`, each with its share; shares sum to 1.
struct Cover {
    first: usize,
    shares: Vec<f32>,
}

fn covers(source: usize, result: usize) -> Vec<Cover> {
    let scale = source as f64 / result as f64;
    (0..result)
        .map(|i| {
            let (from, to) = (i as f64 * scale, ((i + 1) as f64 * scale).min(source as f64));
            let first = (from.floor() as usize).min(source - 1);
            // A sliver below 1e-6 of a pixel is rounding, not picture.
            let last = ((to - 1e-6).floor() as usize).clamp(first, source - 1);
            let share = |p: usize| ((to.min(p as f64 + 1.0) - from.max(p as f64)) / (to - from)) as f32;
            Cover { first, shares: (first..=last).map(share).collect() }
        })
        .collect()
}

fn area<const C: usize>(
    data: &[u8],
    (w, h): (usize, usize),
    (width, height): (usize, usize),
    made_columns: Range<usize>,
    made_rows: Range<usize>,
) -> Vec<u8> {
    assert!(w > 0 && h > 0 && width > 0 && height > 0, "{w}x{h} to {width}x{height}: no side may be 0");
    let mut out = vec![0; width * height * C];
    let (columns, rows) = (covers(w, width), covers(h, height));
    let (columns, rows) = (&columns[made_columns.clone()], &rows[made_rows.clone()]);
    let (Some(first), Some(last)) = (columns.first(), columns.last()) else { return out };
    let (from, to) = (first.first, last.first + last.shares.len());
    let halved = (w, h) == (2 * width, 2 * height);
    let lines = &mut out[made_rows.start * width * C..made_rows.end * width * C];
    cores::pieces(
        lines,
        width * C,
        || vec![0f32; (to - from) * C],
        |sums, number, out| {
            let row = &rows[number];
            let out = &mut out[made_columns.start * C..made_columns.end * C];
            if halved {
                let line = |below: usize| &data[((row.first + below) * w + from) * C..][..(to - from) * C];
                return halve(line(0), line(1), out.as_chunks_mut::<C>().0);
            }
            // Down the rows first: the long loop then runs along memory.
            sums.fill(0.0);
            for (i, share) in row.shares.iter().enumerate() {
                add_share(sums, &data[((row.first + i) * w + from) * C..][..(to - from) * C], *share);
            }
            for (px, column) in out.chunks_exact_mut(C).zip(columns) {
                let mut mean = [0.5f32; C];
                for (share, v) in column.shares.iter().zip(sums[(column.first - from) * C..].chunks_exact(C)) {
                    for c in 0..C {
                        mean[c] += share * v[c];
                    }
                }
                // `as` ends at 255.
                px.iter_mut().zip(mean).for_each(|(p, m)| *p = m as u8);
            }
        },
    );
    out
}

wide! {
    /// Means of two by two, as the shares of the general way give them: what 12 MP are shrunk by before all.
    fn halve<const C: usize>(upper: &[u8], lower: &[u8], out: &mut [[u8; C]]) {
        for ((px, upper), lower) in out.iter_mut().zip(upper.chunks_exact(2 * C)).zip(lower.chunks_exact(2 * C)) {
            for c in 0..C {
                px[c] = ((u16::from(upper[c]) + u16::from(upper[C + c]) + u16::from(lower[c]) + u16::from(lower[C + c]) + 2) / 4) as u8;
            }
        }
    }
}

wide! {
    fn add_share(sums: &mut [f32], line: &[u8], share: f32) {
        for (sum, v) in sums.iter_mut().zip(line) {
            *sum += share * f32::from(*v);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_mean_of_a_picture_survives_any_shrinking(w in 1usize..60, h in 1usize..60, fx in 1usize..60, fy in 1usize..60, seed in any::<u32>()) {
            let (nw, nh) = (fx.min(w), fy.min(h));
            let data: Vec<u8> = (0..w * h).map(|i| (seed.wrapping_mul(i as u32 * 2 + 1) >> 24) as u8).collect();
            let gray = Gray { width: w, height: h, data };
            let small = shrink_gray(&gray, nw, nh);
            let mean = |v: &[u8]| v.iter().map(|v| f64::from(*v)).sum::<f64>() / v.len() as f64;
            prop_assert!((mean(&gray.data) - mean(&small.data)).abs() <= 0.51);
        }
    }

    #[test]
    fn a_whole_ratio_is_the_plain_mean_of_its_block() {
        let rgb = Rgb { width: 4, height: 2, data: (0..24).map(|v| v * 10).collect() };
        let half = shrink(&rgb, 2, 1);
        assert_eq!(half.data, [75, 85, 95, 135, 145, 155]);
        assert_eq!(shrink(&rgb, 4, 2), rgb);
    }

    #[test]
    fn half_a_picture_is_the_rounded_mean_of_each_two_by_two_and_so_is_a_part_of_it() {
        let rgb = Rgb { width: 38, height: 22, data: (0..38 * 22 * 3).map(|i| (i * 7919 % 251) as u8).collect() };
        let part = shrink_part(&rgb, 19, 11, 3..17, 2..10);
        for (x, y) in (3..17).flat_map(|x| (2..10).map(move |y| (x, y))) {
            let four = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(i, j)| rgb.px(2 * x + i, 2 * y + j).map(f32::from));
            let mean = std::array::from_fn(|c| (four.iter().map(|px| px[c]).sum::<f32>() / 4.0 + 0.5) as u8);
            assert_eq!(part.px(x, y), mean, "({x}, {y})");
        }
    }

    #[test]
    fn a_part_of_a_result_is_what_the_whole_has_there() {
        let rgb = Rgb { width: 37, height: 23, data: (0..37 * 23 * 3).map(|i| (i * 7919 % 251) as u8).collect() };
        let (whole, part) = (shrink(&rgb, 17, 9), shrink_part(&rgb, 17, 9, 4..11, 2..9));
        for (x, y) in (0..17 * 9).map(|i| (i % 17, i / 17)) {
            let made = (4..11).contains(&x) && (2..9).contains(&y);
            assert_eq!(part.px(x, y), if made { whole.px(x, y) } else { [0; 3] }, "({x}, {y})");
        }
        assert_eq!(shrink_part(&rgb, 17, 9, 5..5, 0..9), Rgb::new(17, 9));
    }

    #[test]
    fn a_part_of_a_pixel_counts_as_a_part() {
        let gray = Gray { width: 3, height: 1, data: vec![0, 90, 240] };
        assert_eq!(shrink_gray(&gray, 2, 1).data, [30, 190]);
    }
}

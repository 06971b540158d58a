//! Whether what a network made of a picture is still that picture. Pure: two pictures in, a reason out.
//!
//! A broken network gives black, one grey, NaN, or another colour; a picture with one such tile must not be shown. (NaN is seen where
//! numbers become pixels: `tensor.rs`.) The measure is Lanczos, the enlargement that invents nothing: its weights sum to one, so the mean
//! of a block of its result is the mean of the same block of the source, which is at hand without enlarging anything.
//!
//! Bounds: docs/enhance.md has what networks that work were measured at, on real eyes.

use rayon::prelude::*;

use crate::imaging::raster::Rgb;

/// Side of a block, px of the source: large against a fibre or lash that a network may redraw, small against an iris.
const BLOCK: usize = 16;
/// How far a channel's mean may move from Lanczos' in one block, levels of 255. Working networks: at most 11.
const MAX_BLOCK_SHIFT: f64 = 38.0;
/// And over the whole tile. Working networks: at most 3.2.
const MAX_SHIFT: f64 = 13.0;
/// A channel of this much contrast (standard deviation, levels of 255) must keep [`MIN_KEPT`] of it. Working networks: at least 0.95.
const CONTRAST: f64 = 8.0;
const MIN_KEPT: f64 = 0.3;
/// A picture with a level above this is not black, levels of 255.
const BLACK: u8 = 8;

/// `before`: H x W x 3; `after`: the same, `scale` times as large. Err: what is wrong, for the report.
pub fn check(before: &Rgb, after: &Rgb, scale: usize) -> Result<(), String> {
    if after.data.iter().all(|v| *v == 0) && before.data.iter().any(|v| *v > BLACK) {
        return Err("is black".into());
    }
    let blocks = |length: usize| (length / BLOCK).max(1);
    let (columns, rows) = (blocks(before.width), blocks(before.height));
    let edges = |i: usize, n: usize, length: usize| (i * length / n, (i + 1) * length / n);
    let judged: Vec<Result<(Sums, Sums), String>> = (0..rows * columns)
        .into_par_iter()
        .map(|i| {
            let (x0, x1) = edges(i % columns, columns, before.width);
            let (y0, y1) = edges(i / columns, rows, before.height);
            let was = Sums::of(before, (x0, y0), (x1, y1));
            let is = Sums::of(after, (x0 * scale, y0 * scale), (x1 * scale, y1 * scale));
            let shift = farthest(was.mean(), is.mean());
            if shift.abs() > MAX_BLOCK_SHIFT {
                return Err(format!("changed its colour by {shift:.0} of 255 levels in a block of {BLOCK} px"));
            }
            Ok((was, is))
        })
        .collect();
    let (mut was, mut is) = (Sums::default(), Sums::default());
    for block in judged {
        let (a, b) = block?;
        was.add(&a);
        is.add(&b);
    }
    let shift = farthest(was.mean(), is.mean());
    if shift.abs() > MAX_SHIFT {
        return Err(format!("changed its colour by {shift:.0} of 255 levels"));
    }
    let lost = was.deviation().into_iter().zip(is.deviation()).any(|(was, is)| was > CONTRAST && is < MIN_KEPT * was);
    if lost { Err("lost its contrast".into()) } else { Ok(()) }
}

/// The largest change of a channel's mean, with its sign.
fn farthest(was: [f64; 3], is: [f64; 3]) -> f64 {
    let shifts = was.into_iter().zip(is).map(|(was, is)| is - was);
    shifts.fold(0.0, |most: f64, shift| if shift.abs() > most.abs() { shift } else { most })
}

/// Of each channel.
#[derive(Default)]
struct Sums {
    n: u64,
    sum: [u64; 3],
    squares: [u64; 3],
}

impl Sums {
    fn of(rgb: &Rgb, from: (usize, usize), to: (usize, usize)) -> Self {
        let mut all = Self { n: ((to.0 - from.0) * (to.1 - from.1)) as u64, ..Self::default() };
        for y in from.1..to.1 {
            // A row of a block in u32: 255 squared, 65,536 times, still fits.
            let (mut sum, mut squares) = ([0u32; 3], [0u32; 3]);
            for px in rgb.row(y)[from.0 * 3..to.0 * 3].chunks_exact(3) {
                for c in 0..3 {
                    let v = u32::from(px[c]);
                    (sum[c], squares[c]) = (sum[c] + v, squares[c] + v * v);
                }
            }
            for c in 0..3 {
                (all.sum[c], all.squares[c]) = (all.sum[c] + u64::from(sum[c]), all.squares[c] + u64::from(squares[c]));
            }
        }
        all
    }

    fn add(&mut self, other: &Self) {
        self.n += other.n;
        for c in 0..3 {
            (self.sum[c], self.squares[c]) = (self.sum[c] + other.sum[c], self.squares[c] + other.squares[c]);
        }
    }

    fn mean(&self) -> [f64; 3] {
        self.sum.map(|s| s as f64 / self.n.max(1) as f64)
    }

    fn deviation(&self) -> [f64; 3] {
        let n = self.n.max(1) as f64;
        std::array::from_fn(|c| (self.squares[c] as f64 / n - (self.sum[c] as f64 / n).powi(2)).max(0.0).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::{raster::Rows, resize::Lanczos};

    fn photo() -> Rgb {
        // Fibres, a dark pupil, a light corner.
        let mut rgb = Rgb::new(96, 80);
        for y in 0..80 {
            for x in 0..96 {
                let d = (x as f64 - 40.0).hypot(y as f64 - 40.0);
                let fibre = 25.0 * ((x as f64 - 40.0).atan2(y as f64 - 40.0) * 30.0).sin();
                let v = if d < 15.0 { 14.0 } else { 90.0 + fibre + d };
                rgb.set(x, y, [v * 0.9, v, v * 1.1].map(|v| v.clamp(0.0, 255.0) as u8));
            }
        }
        rgb
    }

    fn lanczos(photo: &Rgb) -> Rgb {
        let mut rows = Lanczos::new(photo, 4);
        let mut out = Rgb::new(rows.width(), rows.height());
        out.data.chunks_exact_mut(rows.width() * 3).for_each(|row| rows.next_row(row));
        out
    }

    #[test]
    fn a_blocks_mean_is_the_sources_in_a_lanczos_picture() {
        let (photo, large) = (photo(), lanczos(&photo()));
        for (x, y) in [(0, 0), (16, 16), (32, 32), (80, 64)] {
            let was = Sums::of(&photo, (x, y), (x + 16, y + 16)).mean();
            let is = Sums::of(&large, (4 * x, 4 * y), (4 * x + 64, 4 * y + 64)).mean();
            assert!(farthest(was, is).abs() < 2.0, "{was:?} {is:?}");
        }
        assert_eq!(check(&photo, &large, 4), Ok(()));
    }

    #[test]
    fn black_flat_and_shifted_pictures_do_not_pass_however_small_the_part_is() {
        let (photo, good) = (photo(), lanczos(&photo()));
        let spoiled = |spoil: &dyn Fn(usize, usize, [u8; 3]) -> [u8; 3]| {
            let mut out = good.clone();
            for y in 0..out.height {
                for x in 0..out.width {
                    let px = spoil(x, y, out.px(x, y));
                    out.set(x, y, px);
                }
            }
            check(&photo, &out, 4)
        };
        assert_eq!(spoiled(&|_, _, px| px), Ok(()));
        assert!(spoiled(&|_, _, _| [0; 3]).expect_err("black").contains("black"));
        assert!(spoiled(&|_, _, _| [124; 3]).expect_err("grey").contains("colour"));
        assert!(spoiled(&|_, _, px| [px[0], px[1], px[2].saturating_add(20)]).expect_err("bluer").contains("20 of 255 levels"));
        let block = |x, y| (128..192).contains(&x) && (192..256).contains(&y);
        assert!(spoiled(&|x, y, px| if block(x, y) { [0; 3] } else { px }).expect_err("a black block").contains("block"));
    }

    #[test]
    fn a_flat_answer_of_the_right_mean_is_seen_by_its_contrast() {
        let mut checks = Rgb::new(64, 64);
        (0..64).for_each(|y| (0..64).for_each(|x| checks.set(x, y, [if (x + y) % 2 == 0 { 100 } else { 150 }; 3])));
        let flat = Rgb { width: 256, height: 256, data: vec![125; 256 * 256 * 3] };
        assert!(check(&checks, &flat, 4).expect_err("flat").contains("contrast"));
    }

    #[test]
    fn a_dark_photo_may_have_a_black_answer_and_a_picture_of_one_px_is_judged_too() {
        let dark = Rgb { width: 32, height: 32, data: vec![5; 32 * 32 * 3] };
        assert_eq!(check(&dark, &Rgb::new(128, 128), 4), Ok(()));
        let one = Rgb { width: 1, height: 1, data: vec![200; 3] };
        assert!(check(&one, &Rgb::new(4, 4), 4).is_err());
        assert_eq!(check(&one, &Rgb { width: 4, height: 4, data: vec![200; 48] }, 4), Ok(()));
    }
}

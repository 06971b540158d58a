//! Pictures as a network takes them and gives them: N x C x H x W, f32, in the manifest's range and order of channels.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::{
    imaging::raster::{Gray, Rgb},
    inference::manifest::{ModelRow, Order},
    ports::Tensor,
};

/// Pictures of one size, H x W x 3, as N x 3 x H x W.
pub fn of(pictures: &[Rgb], row: &ModelRow) -> Tensor {
    let (w, h) = pictures.first().map_or((0, 0), |p| (p.width, p.height));
    let mut data = vec![0.0; pictures.len() * 3 * w * h];
    for (planes, picture) in data.chunks_exact_mut((3 * w * h).max(1)).zip(pictures) {
        fill(planes, picture, row);
    }
    Tensor { shape: vec![pictures.len(), 3, h, w], data }
}

/// A picture and its mask (255: to be filled) as 1 x 4 x H x W. Both have one size.
pub fn with_mask(picture: &Rgb, mask: &Gray, row: &ModelRow) -> Tensor {
    let (w, h) = (picture.width, picture.height);
    let mut data = vec![0.0; 4 * w * h];
    let (planes, last) = data.split_at_mut(3 * w * h);
    fill(planes, picture, row);
    let [known, hole] = row.mask.as_ref().map_or(row.input.range, |m| m.range);
    for (v, m) in last.iter_mut().zip(&mask.data) {
        *v = if *m >= 128 { hole } else { known };
    }
    Tensor { shape: vec![1, 4, h, w], data }
}

fn fill(planes: &mut [f32], picture: &Rgb, row: &ModelRow) {
    for (c, plane) in planes.chunks_exact_mut((picture.width * picture.height).max(1)).enumerate() {
        let from = channel(row, c);
        let [black, white] = row.input.ends(from);
        let levels: [f32; 256] = std::array::from_fn(|v| black + (white - black) * v as f32 / 255.0);
        for (v, rgb) in plane.iter_mut().zip(picture.data.chunks_exact(3)) {
            *v = levels[usize::from(rgb[from])];
        }
    }
}

/// Where channel `c` of a picture lies in a tensor, and the other way round.
fn channel(row: &ModelRow, c: usize) -> usize {
    if row.input.order == Order::Rgb { c } else { 2 - c }
}

/// The part at (x, y), w x h, of picture `n` of an answer, clamped to 0..=255. None: a value in it is not finite.
///
/// # Panics
/// Where the part lies outside of the answer: its shape was checked before.
pub fn picture(answer: &Tensor, n: usize, row: &ModelRow, (x, y): (usize, usize), (w, h): (usize, usize)) -> Option<Rgb> {
    let [black, white] = row.output_range();
    let (gain, offset) = (255.0 / (white - black), -255.0 * black / (white - black) + 0.5);
    let (rows, columns) = (answer.shape[2], answer.shape[3]);
    let planes = &answer.data[n * 3 * rows * columns..][..3 * rows * columns];
    let mut out = Rgb::new(w, h);
    let finite = AtomicBool::new(true);
    out.data.par_chunks_exact_mut((w * 3).max(1)).enumerate().for_each(|(r, line)| {
        for c in 0..3 {
            let from = (channel(row, c) * rows + y + r) * columns + x;
            let values = &planes[from..from + w];
            if !values.iter().fold(true, |all, v| all & v.is_finite()) {
                finite.store(false, Ordering::Relaxed);
            }
            for (px, v) in line.chunks_exact_mut(3).zip(values) {
                px[c] = (v * gain + offset) as u8; // `as` ends at 0 and 255
            }
        }
    });
    finite.into_inner().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::manifest::{Manifest, MaskPort};

    fn row(order: Order, range: [f32; 2], output: Option<[f32; 2]>) -> ModelRow {
        let manifest = Manifest::load("/nonexistent".as_ref(), "/nonexistent".as_ref()).expect("the built-in one");
        let mut row = manifest.models()[0].clone();
        (row.input.order, row.input.range, row.output.range) = (order, range, output);
        row
    }

    fn some_picture(seed: usize) -> Rgb {
        Rgb { width: 7, height: 5, data: (0..7 * 5 * 3).map(|i| ((i + seed) * 37 % 256) as u8).collect() }
    }

    #[test]
    fn a_picture_comes_back_from_a_tensor_in_any_range_and_order() {
        for order in [Order::Rgb, Order::Bgr] {
            for range in [[0.0, 1.0], [-1.0, 1.0], [0.0, 255.0]] {
                let row = row(order, range, None);
                let pictures = [some_picture(0), some_picture(11)];
                let tensor = of(&pictures, &row);
                assert_eq!(tensor.shape, [2, 3, 5, 7]);
                for (n, picture) in pictures.iter().enumerate() {
                    assert_eq!(super::picture(&tensor, n, &row, (0, 0), (7, 5)).as_ref(), Some(picture));
                    assert_eq!(super::picture(&tensor, n, &row, (2, 1), (4, 3)), Some(picture.crop(2, 1, 4, 3)));
                }
            }
        }
    }

    #[test]
    fn mean_and_deviation_are_those_of_red_green_and_blue_in_either_order() {
        for order in [Order::Rgb, Order::Bgr] {
            let mut row = row(order, [0.0, 1.0], None);
            (row.input.mean, row.input.deviation) = ([0.5, 0.4, 0.2], [0.5, 0.2, 0.1]);
            let picture = Rgb { width: 1, height: 1, data: vec![255, 102, 0] };
            let mut wanted = [1.0, 0.0, -2.0];
            if order == Order::Bgr {
                wanted.reverse();
            }
            let given = of(&[picture], &row).data;
            assert!(given.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{order:?}: {given:?}");
        }
    }

    #[test]
    fn an_output_may_have_a_range_of_its_own_and_is_clamped_to_it() {
        let row = row(Order::Rgb, [0.0, 1.0], Some([0.0, 255.0]));
        let data = [-3.0, 300.0, 77.4, 77.6, 0.0, 255.0].into_iter().flat_map(|v| [v]).collect();
        let answer = Tensor { shape: vec![1, 3, 1, 2], data };
        assert_eq!(picture(&answer, 0, &row, (0, 0), (2, 1)).expect("finite").data, [0, 77, 0, 255, 78, 255]);
    }

    #[test]
    fn one_value_that_is_not_finite_spoils_the_part_that_it_lies_in_and_no_other() {
        let row = row(Order::Rgb, [0.0, 1.0], None);
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut answer = of(&[some_picture(0)], &row);
            answer.data[35 + 2 * 7 + 3] = odd; // green, (3, 2)
            assert_eq!(picture(&answer, 0, &row, (0, 0), (7, 5)), None);
            assert!(picture(&answer, 0, &row, (0, 0), (3, 5)).is_some());
        }
    }

    #[test]
    fn the_mask_is_the_fourth_channel_in_its_own_range() {
        let mut row = row(Order::Bgr, [0.0, 1.0], None);
        row.mask = Some(MaskPort { name: "mask".into(), range: [1.0, 0.0] });
        let mask = Gray { width: 7, height: 5, data: (0..35).map(|i| if i == 4 { 255 } else { 100 }).collect() };
        let tensor = with_mask(&some_picture(0), &mask, &row);
        assert_eq!(tensor.shape, [1, 4, 5, 7]);
        let last = &tensor.data[3 * 35..];
        assert!(last.iter().enumerate().all(|(i, v)| *v == if i == 4 { 0.0 } else { 1.0 }));
        assert_eq!(tensor.data[..105], of(&[some_picture(0)], &row).data[..]);
    }
}

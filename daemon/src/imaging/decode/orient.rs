//! EXIF orientation: stored pixels to the upright picture.
//!
//! | value | stored row 0 is | done here |
//! |---|---|---|
//! | 2 3 4 | top mirrored, bottom mirrored, bottom | mirrored in place |
//! | 5 6 7 8 | left, right, right mirrored, left mirrored side | turned into a second picture; the first goes at once |

use rayon::prelude::*;

use super::super::raster::Rgb;

/// Rows of the result made together: their source columns lie within a few cache lines.
const BAND: usize = 16;

/// `orientation`: 1..=8; anything else counts as 1.
pub(super) fn upright(mut rgb: Rgb, orientation: u8) -> Rgb {
    match orientation {
        2 => mirror_rows(&mut rgb),
        3 => turn_half(&mut rgb),
        4 => {
            turn_half(&mut rgb);
            mirror_rows(&mut rgb);
        }
        5 => return transposed(&rgb, false, false),
        6 => return transposed(&rgb, false, true),
        7 => return transposed(&rgb, true, true),
        8 => return transposed(&rgb, true, false),
        _ => {}
    }
    rgb
}

/// Left and right exchanged.
fn mirror_rows(rgb: &mut Rgb) {
    rgb.data.par_chunks_mut(rgb.width * 3).for_each(reverse_pixels);
}

fn turn_half(rgb: &mut Rgb) {
    reverse_pixels(&mut rgb.data);
}

fn reverse_pixels(data: &mut [u8]) {
    let (mut a, mut b) = (0, data.len());
    while a + 6 <= b {
        for c in 0..3 {
            data.swap(a + c, b - 3 + c);
        }
        a += 3;
        b -= 3;
    }
}

/// Result (x, y) = source (y, x), the source's x or y counted from its far end.
fn transposed(src: &Rgb, from_right: bool, from_bottom: bool) -> Rgb {
    let mut out = Rgb::new(src.height, src.width);
    let row = out.width * 3;
    out.data.par_chunks_mut(row * BAND).enumerate().for_each(|(band, rows)| {
        let (first, count) = (band * BAND, rows.len() / row);
        for x in 0..src.height {
            let line = src.row(if from_bottom { src.height - 1 - x } else { x });
            for r in 0..count {
                let sx = if from_right { src.width - 1 - (first + r) } else { first + r };
                rows[r * row + x * 3..][..3].copy_from_slice(&line[sx * 3..sx * 3 + 3]);
            }
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// a b c
    /// d e f
    fn stored() -> Rgb {
        Rgb { width: 3, height: 2, data: (b'a'..=b'f').flat_map(|v| [v; 3]).collect() }
    }

    #[test]
    fn all_eight_orientations_come_upright() {
        let want = ["abc/def", "cba/fed", "fed/cba", "def/abc", "ad/be/cf", "da/eb/fc", "fc/eb/da", "cf/be/ad"];
        for (i, want) in want.iter().enumerate() {
            let out = upright(stored(), i as u8 + 1);
            let rows: Vec<String> = (0..out.height).map(|y| (0..out.width).map(|x| char::from(out.px(x, y)[0])).collect()).collect();
            assert_eq!(rows.join("/"), *want, "orientation {}", i + 1);
        }
    }
}

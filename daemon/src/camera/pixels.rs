//! Frames into pictures and files. Pure.

use std::sync::LazyLock;

use crate::{
    imaging::{decode, encode, raster::Rgb},
    ports::{Frame, FramePixels},
};

/// Widest preview, px.
pub const PREVIEW_WIDTH: usize = 960;
/// For aiming; the photo itself is never this.
const PREVIEW_QUALITY: u8 = 75;
/// Of an original that came without compression: no difference is seen, and a PNG of a noisy picture is four times as large.
const ORIGINAL_QUALITY: u8 = 95;
/// Above the largest sensors that speak V4L2.
const LIMITS: decode::Limits = decode::Limits { max_pixels: 120_000_000 };

/// H x W x 3, sRGB; None where the frame is damaged.
pub fn to_rgb(frame: &Frame) -> Option<Rgb> {
    let (width, height) = (frame.width as usize, frame.height as usize);
    match &frame.pixels {
        FramePixels::File(bytes) => decode::decode(&with_huffman_tables(bytes), &LIMITS).ok().map(|d| d.rgb),
        FramePixels::Yuyv { data, stride } => yuyv_to_rgb(data, *stride, width, height),
        FramePixels::Rgb(data) => (data.len() == width * height * 3).then(|| Rgb { width, height, data: data.clone() }),
    }
}

/// The original: a file stays as it is, byte for byte (but see [`with_huffman_tables`]); raw pixels become a JPEG.
pub fn to_file(frame: Frame) -> Vec<u8> {
    match frame.pixels {
        FramePixels::File(bytes) => with_huffman_tables(&bytes).into_owned(),
        // A damaged raw frame does not come here from an adapter; the intake refuses an empty file.
        _ => to_rgb(&frame).map(|rgb| encode::jpeg_bytes(&rgb, ORIGINAL_QUALITY)).unwrap_or_default(),
    }
}

/// A small JPEG for aiming; None where the frame is damaged. What is small already goes through as it is.
pub fn preview(frame: &Frame) -> Option<Vec<u8>> {
    match &frame.pixels {
        FramePixels::File(bytes) if (1..=PREVIEW_WIDTH).contains(&(frame.width as usize)) => Some(with_huffman_tables(bytes).into_owned()),
        _ => to_rgb(frame).map(|rgb| encode::jpeg_bytes(&shrink(rgb, PREVIEW_WIDTH), PREVIEW_QUALITY)),
    }
}

/// YUYV (Y0 U Y1 V), BT.601, limited range (Y 16..235, chroma 16..240), to H x W x 3. An odd last column shares its pair's chroma.
/// None where rows are missing.
pub fn yuyv_to_rgb(data: &[u8], stride: usize, width: usize, height: usize) -> Option<Rgb> {
    let row_bytes = width.div_ceil(2) * 4;
    if width == 0 || height == 0 || stride < row_bytes || data.len() < stride * (height - 1) + row_bytes {
        return None;
    }
    let mut rgb = Rgb::new(width, height);
    for (source, out) in data.chunks(stride).zip(rgb.data.chunks_exact_mut(width * 3)) {
        for (x, px) in out.chunks_exact_mut(3).enumerate() {
            let pair = &source[x / 2 * 4..];
            px.copy_from_slice(&bt601(pair[x % 2 * 2], pair[1], pair[3]));
        }
    }
    Some(rgb)
}

/// ITU-R BT.601-7, 8 bits, in 16.16 fixed point.
fn bt601(y: u8, u: u8, v: u8) -> [u8; 3] {
    let y = (i32::from(y) - 16) * 76_309; // 255 / 219
    let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
    let px = |sum: i32| ((sum + 32_768) >> 16).clamp(0, 255) as u8;
    [px(y + 104_597 * v), px(y - 25_675 * u - 53_279 * v), px(y + 132_201 * u)]
}

/// How sharp a picture is: the variance of the Laplacian of its green channel (Pech-Pacheco et al. 2000), at half size so that sensor
/// noise counts less than edges. Only good for comparing frames of one scene. 0 for pictures below 6 x 6 px.
pub fn sharpness(rgb: &Rgb) -> f64 {
    let (w, h) = (rgb.width / 2, rgb.height / 2);
    if w < 3 || h < 3 {
        return 0.0;
    }
    let half_row = |y: usize| -> Vec<f32> {
        let (a, b) = (rgb.row(2 * y), rgb.row(2 * y + 1));
        (0..w).map(|x| [a[6 * x + 1], a[6 * x + 4], b[6 * x + 1], b[6 * x + 4]].iter().map(|v| f32::from(*v)).sum::<f32>() / 4.0).collect()
    };
    let mut rows = [half_row(0), half_row(1), half_row(2)];
    let (mut sum, mut squares) = (0.0f64, 0.0f64);
    for y in 1..h - 1 {
        let [up, here, down] = &rows;
        for x in 1..w - 1 {
            let l = f64::from(up[x] + down[x] + here[x - 1] + here[x + 1] - 4.0 * here[x]);
            sum += l;
            squares += l * l;
        }
        if y + 2 < h {
            rows.rotate_left(1);
            rows[2] = half_row(y + 2);
        }
    }
    let n = ((w - 2) * (h - 2)) as f64;
    squares / n - (sum / n).powi(2)
}

/// At most `widest` px wide, by the mean over whole blocks of pixels.
pub fn shrink(rgb: Rgb, widest: usize) -> Rgb {
    let by = rgb.width.div_ceil(widest.max(1));
    if by <= 1 {
        return rgb;
    }
    let (width, height) = (rgb.width / by, (rgb.height / by).max(1));
    let rows = by.min(rgb.height);
    let mut out = Rgb::new(width, height);
    for y in 0..height {
        for x in 0..width {
            let mut sum = [0u32; 3];
            for r in y * by..y * by + rows {
                for px in rgb.row(r)[x * by * 3..(x + 1) * by * 3].chunks_exact(3) {
                    for (s, v) in sum.iter_mut().zip(px) {
                        *s += u32::from(*v);
                    }
                }
            }
            let n = (by * rows) as u32;
            out.set(x, y, sum.map(|s| ((s + n / 2) / n) as u8));
        }
    }
    out
}

/// The standard Huffman tables (ITU-T T.81, annex K.3) as JPEG segments. Our own encoder writes these, so they are taken from it.
static HUFFMAN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let jpeg = encode::jpeg_bytes(&Rgb::new(16, 16), 50);
    segments(&jpeg).filter(|(marker, _)| *marker == DHT).flat_map(|(_, bytes)| bytes.to_vec()).collect()
});

const DHT: u8 = 0xC4;
const SOS: u8 = 0xDA;

/// Many cameras leave the standard Huffman tables out of each MJPEG frame, to save room on the cable; no viewer reads such a file. The
/// tables are put in, pixels stay as they are. Every other file is given back untouched.
pub fn with_huffman_tables(file: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let bare = file.starts_with(&[0xFF, 0xD8]) && segments(file).any(|(m, _)| m == SOS) && segments(file).all(|(m, _)| m != DHT);
    if !bare {
        return file.into();
    }
    [&file[..2], &HUFFMAN, &file[2..]].concat().into()
}

/// Marker segments (marker, whole bytes) up to and including SOS.
fn segments(jpeg: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = jpeg.get(2..).unwrap_or_default();
    let mut ended = false;
    std::iter::from_fn(move || {
        let (&[0xFF, marker, hi, lo], false) = (rest.first_chunk::<4>()?, ended) else { return None };
        let length = 2 + usize::from(u16::from_be_bytes([hi, lo]));
        let segment = rest.get(..length)?;
        rest = &rest[length..];
        ended = marker == SOS;
        Some((marker, segment))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yuyv_becomes_the_colours_that_bt601_says() {
        for (yuv, rgb) in [
            ([16, 128, 128], [0, 0, 0]),
            ([235, 128, 128], [255, 255, 255]),
            ([81, 90, 240], [255, 0, 0]),
            ([145, 54, 34], [0, 255, 0]),
            ([41, 240, 110], [0, 0, 255]),
        ] {
            let got = bt601(yuv[0], yuv[1], yuv[2]);
            assert!(got.iter().zip(rgb).all(|(a, b): (&u8, u8)| a.abs_diff(b) <= 2), "{yuv:?} became {got:?}, not {rgb:?}");
        }
    }

    #[test]
    fn a_yuyv_row_may_be_longer_than_its_pixels_and_a_short_frame_is_damaged() {
        let row = [16, 128, 235, 128, 9, 9];
        let rgb = yuyv_to_rgb(&[row, row].concat(), 6, 2, 2).expect("whole");
        assert_eq!(rgb.px(0, 1), [0, 0, 0]);
        assert_eq!(rgb.px(1, 1), [255, 255, 255]);
        assert_eq!(yuyv_to_rgb(&row, 6, 2, 2), None);
    }

    fn stripes(width: usize, height: usize, soft: f64) -> Rgb {
        let mut rgb = Rgb::new(width, height);
        for y in 0..height {
            for x in 0..width {
                let v = (128.0 + 100.0 * ((x as f64 / 8.0).sin() / soft).tanh()) as u8;
                rgb.set(x, y, [v, v, v]);
            }
        }
        rgb
    }

    #[test]
    fn the_picture_with_harder_edges_is_the_sharper_one() {
        let (hard, soft, flat) = (stripes(120, 80, 0.1), stripes(120, 80, 1.0), Rgb::new(120, 80));
        assert!(sharpness(&hard) > 2.0 * sharpness(&soft));
        assert!(sharpness(&soft) > sharpness(&flat));
        assert_eq!(sharpness(&Rgb::new(4, 4)), 0.0);
    }

    #[test]
    fn a_preview_is_never_wider_than_its_limit_and_keeps_the_mean() {
        let small = shrink(stripes(2500, 30, 1.0), PREVIEW_WIDTH);
        assert_eq!((small.width, small.height), (833, 10));
        let mut even = Rgb::new(10, 4);
        even.data.fill(77);
        assert!(shrink(even, 3).data.iter().all(|v| *v == 77));
    }

    #[test]
    fn an_mjpeg_frame_without_huffman_tables_becomes_a_file_that_opens() {
        let picture = stripes(64, 48, 1.0);
        let whole = encode::jpeg_bytes(&picture, 90);
        let tables: usize = segments(&whole).filter(|(m, _)| *m == DHT).map(|(_, b)| b.len()).sum();
        assert!(tables > 400, "the encoder writes all four tables");
        let mut bare = whole[..2].to_vec();
        let mut at = 2;
        for (marker, bytes) in segments(&whole) {
            at += bytes.len();
            if marker != DHT {
                bare.extend_from_slice(bytes);
            }
        }
        bare.extend_from_slice(&whole[at..]);
        assert_eq!(bare.len() + tables, whole.len());
        let mended = with_huffman_tables(&bare);
        let (a, b) = (decode::decode(&mended, &LIMITS).expect("opens"), decode::decode(&whole, &LIMITS).expect("opens"));
        assert_eq!(a.rgb, b.rgb);
        assert_eq!(with_huffman_tables(&whole), whole, "a whole file is left as it is");
    }
}

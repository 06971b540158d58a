use jpeg_encoder::{ColorType as JpegColor, Encoder, SamplingFactor};
use moxcms::ColorProfile;

use super::*;
use crate::imaging::encode::{JPEG_MAX_SIDE, jpeg_bytes};

const LIMITS: Limits = Limits { max_pixels: 60_000_000 };

/// Smooth and coloured, with some detail, so that coded data fills the file evenly.
fn picture(width: usize, height: usize) -> Rgb {
    let mut rgb = Rgb::new(width, height);
    for y in 0..height {
        for x in 0..width {
            let grain = ((x * 7919 + y * 104_729) >> 3) % 24;
            rgb.set(x, y, [(x * 200 / width + grain) as u8, (y * 200 / height + grain) as u8, (90 + grain) as u8]);
        }
    }
    rgb
}

fn jpeg_with(rgb: &Rgb, set: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 90);
    set(&mut encoder);
    encoder.encode(&rgb.data, rgb.width as u16, rgb.height as u16, JpegColor::Rgb).unwrap();
    bytes
}

fn png_with(width: u32, height: u32, color: ::png::ColorType, depth: ::png::BitDepth, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == ::png::ColorType::Indexed {
        encoder.set_palette(vec![10, 20, 30, 200, 100, 50]);
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    bytes
}

fn webp_lossless(rgb: &Rgb) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut bytes);
    encoder.encode(&rgb.data, rgb.width as u32, rgb.height as u32, image::ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// 32 x 24, libwebp, quality 60.
const WEBP_LOSSY: &str = include_str!("lossy.webp.hex");

fn webp_lossy() -> Vec<u8> {
    hex::decode(WEBP_LOSSY.split_whitespace().collect::<String>()).unwrap()
}

/// EXIF with an orientation and a time, little-endian, as a TIFF block.
pub(in crate::imaging) fn exif(orientation: u8, time: &[u8; 20], offset: &[u8; 7]) -> Vec<u8> {
    let mut t = b"II*\0\x08\0\0\0".to_vec();
    t.extend(2u16.to_le_bytes());
    t.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0]);
    t.extend([0x69, 0x87, 4, 0, 1, 0, 0, 0, 38, 0, 0, 0]);
    t.extend([0; 4]);
    t.extend(2u16.to_le_bytes());
    t.extend([0x03, 0x90, 2, 0, 20, 0, 0, 0, 68, 0, 0, 0]);
    t.extend([0x11, 0x90, 2, 0, 7, 0, 0, 0, 88, 0, 0, 0]);
    t.extend([0; 4]);
    t.extend(time);
    t.extend(offset);
    t
}

fn mean_difference(a: &Rgb, b: &Rgb) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    a.data.iter().zip(&b.data).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.data.len() as f64
}

#[test]
fn what_is_no_picture_is_refused_with_its_own_code() {
    let code = |bytes: &[u8]| probe(bytes, &LIMITS).unwrap_err().fault().code;
    assert_eq!(code(b""), Code::EmptyFile);
    assert_eq!(code(b"hello, I am a photo called eye.jpg"), Code::UnsupportedImage);
    assert_eq!(code(b"GIF89a\x01\0\x01\0\0\0\0"), Code::UnsupportedImage);
    assert_eq!(code(&[0xFF, 0xD8, 0xFF, 0xD9]), Code::ImageCorrupt);
    assert_eq!(code(&[0xFF, 0xD8, 0xFF]), Code::ImageTruncated);
    assert_eq!(code(b"\x89PNG\r\n\x1a\n"), Code::ImageTruncated);
}

#[test]
fn a_jpeg_of_a_kind_that_is_not_read_is_called_by_its_kind() {
    let jpeg = jpeg_bytes(&picture(16, 16), 90);
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    for (at, byte, kind) in [
        (4, 12, "a 12-bit JPEG"),
        (1, 0xC3, "a lossless JPEG"),
        (1, 0xC5, "a hierarchical JPEG"),
        (1, 0xC9, "an arithmetic-coded JPEG"),
        (1, 0xCA, "an arithmetic-coded JPEG"),
    ] {
        let mut odd = jpeg.clone();
        odd[frame + at] = byte;
        let fault = probe(&odd, &LIMITS).unwrap_err().fault();
        assert_eq!(fault.code, Code::UnsupportedImage);
        assert!(fault.message.contains(kind) && fault.suggestion.contains("8 bits"), "{}", fault.message);
    }
}

#[test]
fn a_side_that_no_jpeg_could_have_is_refused_however_few_pixels_there_are() {
    let mut strip = png_with(4, 4, ::png::ColorType::Rgb, ::png::BitDepth::Eight, &[9; 48]);
    let mut sized = |width: u32, height: u32| {
        strip[16..20].copy_from_slice(&width.to_be_bytes());
        strip[20..24].copy_from_slice(&height.to_be_bytes());
        probe(&strip, &LIMITS)
    };
    assert_eq!(sized(65_536, 1), Err(DecodeError::TooLong { width: 65_536, height: 1 }));
    assert_eq!(sized(2, 65_536).map_err(|e| e.fault().code), Err(Code::TooManyPixels));
    assert!(sized(65_535, 900).is_ok());
}

#[test]
fn a_60000_by_60000_header_is_refused_before_anything_is_allocated() {
    let mut huge = png_with(4, 4, ::png::ColorType::Rgb, ::png::BitDepth::Eight, &[9; 48]);
    huge[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    huge[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let want = DecodeError::TooManyPixels { width: 60_000, height: 60_000, limit: 60_000_000 };
    assert_eq!(probe(&huge, &LIMITS), Err(want.clone()));
    assert_eq!(check(&huge, &LIMITS), Err(want.clone()));
    assert_eq!(decode(&huge, &LIMITS), Err(want));

    let mut jpeg = jpeg_bytes(&picture(16, 16), 90);
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xFF);
    let side = JPEG_MAX_SIDE as u32;
    assert_eq!(probe(&jpeg, &LIMITS), Err(DecodeError::TooManyPixels { width: side, height: side, limit: 60_000_000 }));
}

#[test]
fn a_picture_of_no_size_is_damaged() {
    let mut flat = png_with(4, 4, ::png::ColorType::Rgb, ::png::BitDepth::Eight, &[9; 48]);
    flat[16..20].fill(0);
    assert!(matches!(probe(&flat, &LIMITS), Err(DecodeError::Corrupt { .. })));
}

#[test]
fn each_format_comes_out_as_it_went_in_at_every_small_size() {
    for (w, h) in [(1, 1), (2, 1), (1, 3), (17, 9), (64, 48)] {
        let rgb = picture(w, h);
        let files = [
            ("jpeg", jpeg_bytes(&rgb, 95), 6.0),
            ("jpeg 4:2:0", jpeg_with(&rgb, |e| e.set_sampling_factor(SamplingFactor::F_2_2)), 20.0),
            ("jpeg progressive", jpeg_with(&rgb, |e| e.set_progressive(true)), 6.0),
            ("jpeg restarts", jpeg_with(&rgb, |e| e.set_restart_interval(2)), 6.0),
            ("png", png_with(w as u32, h as u32, ::png::ColorType::Rgb, ::png::BitDepth::Eight, &rgb.data), 0.0),
            ("webp", webp_lossless(&rgb), 0.0),
        ];
        for (name, bytes, tolerance) in files {
            let header = check(&bytes, &LIMITS).unwrap_or_else(|e| panic!("{name} {w}x{h}: {e}"));
            assert_eq!((header.width as usize, header.height as usize, header.orientation), (w, h, 1), "{name}");
            let difference = mean_difference(&decode(&bytes, &LIMITS).unwrap().rgb, &rgb);
            assert!(difference <= tolerance, "{name} {w}x{h}: {difference}");
        }
    }
    let lossy = decode(&webp_lossy(), &LIMITS).unwrap();
    assert_eq!((lossy.rgb.width, lossy.rgb.height), (32, 24));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let rgb = picture(96, 80);
    let files = [
        ("jpeg", jpeg_bytes(&rgb, 95)),
        ("jpeg 4:2:0", jpeg_with(&rgb, |e| e.set_sampling_factor(SamplingFactor::F_2_2))),
        ("jpeg progressive", jpeg_with(&rgb, |e| e.set_progressive(true))),
        ("png", png_with(96, 80, ::png::ColorType::Rgb, ::png::BitDepth::Eight, &rgb.data)),
        ("webp lossless", webp_lossless(&rgb)),
        ("webp lossy", webp_lossy()),
    ];
    for (name, bytes) in files {
        let last = (1..=20).map(|n| bytes.len() - n).filter(|n| *n > 12);
        for keep in (1..50).map(|n| bytes.len() * n / 50).filter(|n| *n > 12).chain(last) {
            // RIFF pads its chunks to even lengths; only that byte may be missing.
            if name.starts_with("webp") && keep + 1 == bytes.len() && check(&bytes[..keep], &LIMITS).is_ok() {
                continue;
            }
            let cut = check(&bytes[..keep], &LIMITS);
            assert!(matches!(cut, Err(DecodeError::Truncated { .. })), "{name}: {keep} of {} bytes gave {cut:?}", bytes.len());
        }
        check(&bytes, &LIMITS).unwrap();
        check(&[bytes.as_slice(), b"trailing bytes of a camera"].concat(), &LIMITS).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn half_a_jpeg_with_an_end_marker_put_behind_it_is_refused() {
    let rgb = picture(96, 80);
    let files = [
        ("4:4:4", jpeg_bytes(&rgb, 95)),
        ("4:2:0", jpeg_with(&rgb, |e| e.set_sampling_factor(SamplingFactor::F_2_2))),
        ("restarts", jpeg_with(&rgb, |e| e.set_restart_interval(3))),
        ("not interleaved", jpeg_with(&rgb, |e| e.set_optimized_huffman_tables(true))),
    ];
    for (name, bytes) in files {
        check(&bytes, &LIMITS).unwrap_or_else(|e| panic!("{name}: {e}"));
        let scan = bytes.windows(2).position(|w| w == [0xFF, 0xDA]).unwrap() + 14;
        for keep in (scan..bytes.len() - 12).step_by(101) {
            let ended = [&bytes[..keep], &[0, 0xFF, 0xD9]].concat();
            let got = check(&ended, &LIMITS);
            assert!(got.is_err(), "{name}: {keep} of {} bytes", bytes.len());
        }
    }
    // Each scan of a progressive picture on its own.
    let bytes = jpeg_with(&rgb, |e| e.set_progressive_scans(10));
    check(&bytes, &LIMITS).unwrap();
    for s in jpeg::segments(&bytes).map(Result::unwrap).filter(|s| s.marker == jpeg::SOS && s.whole.end - s.payload.end > 60) {
        let middle = (s.payload.end + s.whole.end) / 2;
        let holed = [&bytes[..middle], &[0], &bytes[s.whole.end..]].concat();
        assert!(check(&holed, &LIMITS).is_err(), "the scan at {}", s.whole.start);
    }
}

#[test]
fn damage_in_the_middle_never_panics_and_a_png_tells() {
    let rgb = picture(96, 80);
    let files = [
        jpeg_bytes(&rgb, 95),
        jpeg_with(&rgb, |e| e.set_progressive(true)),
        png_with(96, 80, ::png::ColorType::Rgb, ::png::BitDepth::Eight, &rgb.data),
        webp_lossless(&rgb),
        webp_lossy(),
    ];
    for (f, bytes) in files.iter().enumerate() {
        for at in (0..bytes.len()).step_by(bytes.len() / 97 + 1) {
            for value in [0x00, 0xFF, bytes[at] ^ 0x55] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let got = check(&damaged, &LIMITS);
                assert!(f != 2 || value == bytes[at] || got.is_err(), "a PNG byte at {at} was changed unseen");
            }
        }
    }
}

#[test]
fn grey_alpha_palette_and_sixteen_bits_become_8_bit_rgb() {
    use ::png::{BitDepth::*, ColorType::*};
    let one = |color, depth, data: &[u8]| decode(&png_with(1, 1, color, depth, data), &LIMITS).unwrap().rgb.px(0, 0);
    assert_eq!(one(Grayscale, Eight, &[77]), [77; 3]);
    assert_eq!(one(Grayscale, One, &[0x80]), [255; 3]);
    assert_eq!(one(Indexed, Eight, &[1]), [200, 100, 50]);
    assert_eq!(one(GrayscaleAlpha, Eight, &[0, 0]), [255; 3], "what is transparent lies on white");
    assert_eq!(one(Rgba, Eight, &[100, 0, 200, 128]), [177, 127, 227]);
    // Divided by 257 and rounded, not cut to the high byte: 0x80FF is 128.49, 0x7EFF is 126.502.
    assert_eq!(one(Rgb, Sixteen, &[0xFF, 0xFF, 0x80, 0xFF, 0x7E, 0xFF]), [255, 128, 127]);
    assert_eq!(one(Rgb, Sixteen, &[0x00, 0x81, 0x00, 0x80, 0x81, 0x02]), [1, 0, 129]);
}

#[test]
fn a_cmyk_and_a_ycck_jpeg_come_out_in_their_colours() {
    // Ink amounts as the encoder takes them: pure red is magenta and yellow.
    for color in [JpegColor::Cmyk, JpegColor::CmykAsYcck] {
        let mut bytes = Vec::new();
        let red: Vec<u8> = [0u8, 255, 255, 0].repeat(16 * 16);
        Encoder::new(&mut bytes, 95).encode(&red, 16, 16, color).unwrap();
        let px = decode(&bytes, &LIMITS).unwrap().rgb.px(8, 8);
        assert!(px[0] > 240 && px[1] < 15 && px[2] < 15, "{color:?}: {px:?}");
    }
}

#[test]
fn a_grey_jpeg_becomes_rgb() {
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes, 95).encode(&[120; 64 * 3], 16, 12, JpegColor::Luma).unwrap();
    let rgb = decode(&bytes, &LIMITS).unwrap().rgb;
    assert!(rgb.data.iter().all(|v| v.abs_diff(120) <= 1));
}

#[test]
fn orientation_and_time_of_capture_come_out_of_exif() {
    let rgb = picture(40, 24);
    for orientation in 1..=8 {
        let tiff = exif(orientation, b"2024:02:29 10:30:00\0", b"+05:30\0");
        let bytes = jpeg_with(&rgb, |e| e.add_exif_metadata(&tiff).unwrap());
        let decoded = decode(&bytes, &LIMITS).unwrap();
        let size = if orientation >= 5 { (24, 40) } else { (40, 24) };
        assert_eq!((decoded.rgb.width, decoded.rgb.height), size, "orientation {orientation}");
        assert_eq!((decoded.header.width as usize, decoded.header.height as usize), size);
        assert_eq!(decoded.header.orientation, orientation);
        assert_eq!(decoded.header.captured_at, Some("2024-02-29T05:00:00Z".parse().unwrap()));
        assert!(mean_difference(&decoded.rgb, &orient::upright(rgb.clone(), orientation)) < 6.0);
    }
}

#[test]
fn damaged_exif_is_ignored() {
    let rgb = picture(16, 16);
    let tiff = exif(9, b"2024:13:77 99:30:00\0", b"nonsens");
    let header = probe(&jpeg_with(&rgb, |e| e.add_exif_metadata(&tiff).unwrap()), &LIMITS).unwrap();
    assert_eq!((header.orientation, header.captured_at), (1, None));
    for cut in 0..tiff.len() {
        check(&jpeg_with(&rgb, |e| e.add_exif_metadata(&tiff[..cut]).unwrap()), &LIMITS).unwrap();
    }
}

#[test]
fn an_embedded_profile_is_turned_to_srgb_and_a_bad_one_ignored() {
    let flat = Rgb { width: 16, height: 16, data: [180, 60, 60].repeat(256) };
    let with = |icc: &[u8]| decode(&jpeg_with(&flat, |e| e.add_icc_profile(icc).unwrap()), &LIMITS).unwrap().rgb.px(8, 8);
    let plain = decode(&jpeg_with(&flat, |_| ()), &LIMITS).unwrap().rgb.px(8, 8);
    let p3 = with(&ColorProfile::new_display_p3().encode().unwrap());
    assert!(p3[0] > plain[0] + 5 && p3[1] < plain[1], "Display P3's red is redder than sRGB's: {p3:?} {plain:?}");
    assert_eq!(with(&ColorProfile::new_srgb().encode().unwrap()), plain);
    assert_eq!(with(b"this is no profile at all"), plain);
}

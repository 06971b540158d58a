//! Pictures to files, row by row: a 4x result of a 12 MP photo (576 MB) is never held whole.
//!
//! JPEG: see [`jpeg`]. Colour keeps its full resolution (4:4:4) from quality [`FULL_CHROMA_FROM`] on, because the pigment spots and
//! fibres of an iris are fine colour detail that 4:2:0 smears over two pixels; an enlarged picture has no colour detail that 4:2:0 could
//! lose (docs/decisions/0023-chroma-of-enlarged-pictures.md).
//! PNG (ISO/IEC 15948): grey or RGB, 8 bits, Up filter: masks are flat, and a row mostly repeats the one above.

mod jpeg;

use std::{
    io::{self, Write},
    sync::OnceLock,
};

use moxcms::ColorProfile;

use super::raster::{Gray, Rgb, Rows};

pub(super) use self::jpeg::ZIGZAG;
pub use self::jpeg::{Chroma, JPEG_MAX_SIDE, jpeg};

/// Quality (1..=100) from which the colour of a photo keeps its full resolution.
pub const FULL_CHROMA_FROM: u8 = 90;
/// Rows gathered before they go through the PNG's deflate and out, bytes.
const PNG_BUFFER_BYTES: usize = 64 << 10;
/// Rows of a PNG that are made at a time, at least, and bytes of them: enough work for every core.
const PNG_ROWS: usize = 64;
const PNG_ROWS_BYTES: usize = 256 << 10;

/// A whole RGB picture as rows.
pub struct RgbRows<'a> {
    rgb: &'a Rgb,
    next: usize,
}

impl<'a> RgbRows<'a> {
    pub fn new(rgb: &'a Rgb) -> Self {
        Self { rgb, next: 0 }
    }
}

impl Rows for RgbRows<'_> {
    fn width(&self) -> usize {
        self.rgb.width
    }
    fn height(&self) -> usize {
        self.rgb.height
    }
    fn channels(&self) -> usize {
        3
    }
    fn next_row(&mut self, out: &mut [u8]) {
        out.copy_from_slice(self.rgb.row(self.next));
        self.next += 1;
    }
}

/// A whole grey picture as rows.
pub struct GrayRows<'a> {
    gray: &'a Gray,
    next: usize,
}

impl<'a> GrayRows<'a> {
    pub fn new(gray: &'a Gray) -> Self {
        Self { gray, next: 0 }
    }
}

impl Rows for GrayRows<'_> {
    fn width(&self) -> usize {
        self.gray.width
    }
    fn height(&self) -> usize {
        self.gray.height
    }
    fn channels(&self) -> usize {
        1
    }
    fn next_row(&mut self, out: &mut [u8]) {
        out.copy_from_slice(self.gray.row(self.next));
        self.next += 1;
    }
}

impl Chroma {
    /// Of a photo at its own size.
    pub fn of(quality: u8) -> Self {
        if quality >= FULL_CHROMA_FROM { Chroma::Full } else { Chroma::Half }
    }

    /// Of a picture that was made `factor` times larger.
    pub fn enlarged(quality: u8, factor: usize) -> Self {
        if factor >= 2 { Chroma::Half } else { Chroma::of(quality) }
    }
}

/// [`jpeg`] of a whole picture into memory: thumbnails, previews, tests.
///
/// # Panics
/// Where a side is 0 or above [`JPEG_MAX_SIDE`].
pub fn jpeg_bytes(rgb: &Rgb, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    jpeg(&mut RgbRows::new(rgb), &mut bytes, quality, Chroma::of(quality)).expect("memory takes every write, and the sides are a JPEG's");
    bytes
}

/// Writes a PNG. Memory: a few rows. Errors: the writer's, or `InvalidInput` for a side of 0 or above 2^31 - 1.
pub fn png(rows: &mut dyn Rows, out: impl Write) -> io::Result<()> {
    let mut out = KeepError { out, error: None };
    png_rows(rows, &mut out).map_err(|e| out.error.take().unwrap_or(e))
}

/// The png crate turns the writer's error into text; a full disk must stay recognisable as one.
struct KeepError<W> {
    out: W,
    error: Option<io::Error>,
}

impl<W: Write> KeepError<W> {
    fn keep<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|e| {
            let kind = e.kind();
            // Interrupted is not the end: the caller tries again.
            if kind != io::ErrorKind::Interrupted {
                self.error = Some(e);
            }
            kind.into()
        })
    }
}

impl<W: Write> Write for KeepError<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.out.write(bytes);
        self.keep(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.flush();
        self.keep(result)
    }
}

fn png_rows(rows: &mut dyn Rows, out: impl Write) -> io::Result<()> {
    let (width, height) = (rows.width(), rows.height());
    let side = |px: usize| u32::try_from(px).map_err(|_| invalid(format!("a PNG cannot be {width}x{height} px")));
    let mut encoder = png::Encoder::new(out, side(width)?, side(height)?);
    encoder.set_color(if rows.channels() == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
    encoder.set_depth(png::BitDepth::Eight);
    if rows.channels() == 3 {
        encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
    }
    encoder.set_compression(png::Compression::Fast);
    encoder.set_filter(png::Filter::Up);
    let mut writer = encoder.write_header()?;
    let mut stream = writer.stream_writer_with_size(PNG_BUFFER_BYTES)?;
    let row = width * rows.channels();
    let mut some = vec![0; PNG_ROWS.max(PNG_ROWS_BYTES / row).min(height) * row];
    let mut left = height * row;
    while left > 0 {
        let now = left.min(some.len());
        rows.next_rows(&mut some[..now]);
        stream.write_all(&some[..now])?;
        left -= now;
    }
    stream.finish()?;
    writer.finish()?;
    Ok(())
}

/// Where the header of a profile says when it was made (ICC.1 7.2).
const PROFILE_DATE: std::ops::Range<usize> = 24..36;

/// A compact sRGB profile (matrix and parametric curve, ICC v4), without a date: the same picture is the same bytes, and says nothing of the
/// moment in which it was written.
pub(super) fn srgb_profile() -> &'static [u8] {
    static PROFILE: OnceLock<Vec<u8>> = OnceLock::new();
    PROFILE.get_or_init(|| {
        let mut profile = ColorProfile::new_srgb().encode().expect("the built-in profile can be written: a test does");
        profile[PROFILE_DATE].fill(0);
        profile
    })
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::decode::{Limits, decode};

    const LIMITS: Limits = Limits { max_pixels: 1 << 24 };

    fn picture(width: usize, height: usize) -> Rgb {
        let mut rgb = Rgb::new(width, height);
        for y in 0..height {
            for x in 0..width {
                rgb.set(x, y, [(x * 5 % 256) as u8, (y * 3 % 256) as u8, ((x + y) * 2 % 256) as u8]);
            }
        }
        rgb
    }

    #[test]
    fn a_png_holds_every_pixel_as_it_was() {
        for (w, h) in [(1, 1), (37, 23), (300, 200)] {
            let rgb = picture(w, h);
            let mut bytes = Vec::new();
            png(&mut RgbRows::new(&rgb), &mut bytes).unwrap();
            assert_eq!(decode(&bytes, &LIMITS).unwrap().rgb, rgb);
        }
        let gray = Gray { width: 5, height: 3, data: (0..15).map(|v| v * 17).collect() };
        let mut bytes = Vec::new();
        png(&mut GrayRows::new(&gray), &mut bytes).unwrap();
        let back = decode(&bytes, &LIMITS).unwrap().rgb;
        assert!(back.data.chunks_exact(3).map(|p| p[0]).eq(gray.data.iter().copied()));
    }

    #[test]
    fn a_jpeg_of_quality_95_is_close_to_its_source_in_every_colour() {
        for (w, h) in [(1, 1), (3, 2), (17, 16), (200, 133)] {
            let mut rgb = picture(w, h);
            for v in &mut rgb.data {
                *v = *v / 2 + 60;
            }
            let back = decode(&jpeg_bytes(&rgb, 95), &LIMITS).unwrap().rgb;
            assert_eq!((back.width, back.height), (w, h));
            let sum: u64 = back.data.iter().zip(&rgb.data).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            assert!(sum as f64 / (rgb.data.len() as f64) < 4.0, "{w}x{h}: mean error {}", sum as f64 / rgb.data.len() as f64);
        }
    }

    #[test]
    fn a_jpeg_carries_a_small_srgb_profile_that_a_reader_takes_for_srgb() {
        assert!(srgb_profile().len() < 2048, "{} bytes", srgb_profile().len());
        let bytes = jpeg_bytes(&picture(8, 8), 95);
        assert!(bytes.windows(12).any(|w| w == b"ICC_PROFILE\0"));
        assert!(ColorProfile::new_from_slice(srgb_profile()).is_ok());
        assert_eq!(srgb_profile()[PROFILE_DATE], [0; 12], "the same picture would be other bytes a second later");
    }

    #[test]
    fn a_picture_too_wide_for_a_jpeg_is_an_error_that_says_so() {
        struct Wide;
        impl Rows for Wide {
            fn width(&self) -> usize {
                65_536
            }
            fn height(&self) -> usize {
                1
            }
            fn channels(&self) -> usize {
                3
            }
            fn next_row(&mut self, _: &mut [u8]) {
                panic!("no row is asked for");
            }
        }
        let e = jpeg(&mut Wide, io::sink(), 95, Chroma::Full).unwrap_err();
        assert!(e.to_string().contains("65535"), "{e}");
    }

    #[test]
    fn a_full_disk_is_the_writers_own_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let rgb = picture(64, 64);
        assert_eq!(jpeg(&mut RgbRows::new(&rgb), Full, 95, Chroma::Full).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(png(&mut RgbRows::new(&rgb), Full).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}

//! Pictures to files, row by row: a 4x result of a 12 MP photo (576 MB) is never held whole.
//!
//! JPEG (ITU-T T.81, baseline): 4:4:4 from quality [`FULL_CHROMA_FROM`] on, because the pigment spots and fibres of an iris are fine
//! colour detail that 4:2:0 smears over two pixels; 4:2:0 below (thumbnails). An sRGB profile is embedded (ICC.1, APP2).
//! PNG (ISO/IEC 15948): grey or RGB, 8 bits, Up filter: masks are flat, and a row mostly repeats the one above.

use std::{
    cell::RefCell,
    io::{self, Write},
    sync::OnceLock,
};

use jpeg_encoder::{Encoder, EncodingError, ImageBuffer, JpegColorType, SamplingFactor, rgb_to_ycbcr};
use moxcms::ColorProfile;

use super::raster::{Gray, Rgb, Rows};

/// Largest side that a JPEG can say, px.
pub const JPEG_MAX_SIDE: usize = u16::MAX as usize;
/// Quality (1..=100) from which colour keeps its full resolution.
pub const FULL_CHROMA_FROM: u8 = 90;
/// Rows gathered before they go through the PNG's deflate and out, bytes.
const PNG_BUFFER_BYTES: usize = 64 << 10;

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

/// Writes a JPEG. `quality`: 1..=100. Memory: 16 rows. Errors: the writer's, or `InvalidInput` for a side of 0 or above
/// [`JPEG_MAX_SIDE`]. `out` gets small writes: hand in a `BufWriter` for a file, and flush it.
pub fn jpeg(rows: &mut dyn Rows, out: impl Write, quality: u8) -> io::Result<()> {
    let (width, height) = (rows.width(), rows.height());
    let side = |px: usize| match u16::try_from(px) {
        Ok(px) if px > 0 => Ok(px),
        _ => Err(invalid(format!("a JPEG cannot be {width}x{height} px: a side has 1 to {JPEG_MAX_SIDE} px"))),
    };
    let (w, h) = (side(width)?, side(height)?);
    let color = match rows.channels() {
        1 => JpegColorType::Luma,
        _ => JpegColorType::Ycbcr,
    };
    let mut encoder = Encoder::new(out, quality.clamp(1, 100));
    encoder.set_sampling_factor(if quality >= FULL_CHROMA_FROM { SamplingFactor::F_1_1 } else { SamplingFactor::F_2_2 });
    if color == JpegColorType::Ycbcr {
        encoder.add_icc_profile(srgb_profile()).map_err(encoding)?;
    }
    let row = vec![0; width * rows.channels()];
    let source = OneByOne { size: (w, h), color, state: RefCell::new(State { rows, row, made: 0 }) };
    encoder.encode_image(source).map_err(encoding)
}

/// [`jpeg`] of a whole picture into memory: thumbnails, previews, tests.
///
/// # Panics
/// Where a side is 0 or above [`JPEG_MAX_SIDE`].
pub fn jpeg_bytes(rgb: &Rgb, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    jpeg(&mut RgbRows::new(rgb), &mut bytes, quality).expect("memory takes every write, and the sides are a JPEG's");
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
    let mut row = vec![0; width * rows.channels()];
    for _ in 0..height {
        rows.next_row(&mut row);
        stream.write_all(&row)?;
    }
    stream.finish()?;
    writer.finish()?;
    Ok(())
}

/// A compact sRGB profile (matrix and parametric curve, ICC v4).
fn srgb_profile() -> &'static [u8] {
    static PROFILE: OnceLock<Vec<u8>> = OnceLock::new();
    PROFILE.get_or_init(|| ColorProfile::new_srgb().encode().expect("the built-in profile can be written: a test does"))
}

/// Rows as jpeg-encoder asks for them: by number, rising, the last one repeated to fill its block.
struct OneByOne<'a> {
    size: (u16, u16),
    color: JpegColorType,
    state: RefCell<State<'a>>,
}

struct State<'a> {
    rows: &'a mut dyn Rows,
    row: Vec<u8>,
    /// Rows taken so far; `row` holds the last of them.
    made: usize,
}

impl ImageBuffer for OneByOne<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        self.color
    }

    fn width(&self) -> u16 {
        self.size.0
    }

    fn height(&self) -> u16 {
        self.size.1
    }

    fn fill_buffers(&self, y: u16, buffers: &mut [Vec<u8>; 4]) {
        let mut state = self.state.borrow_mut();
        let State { rows, row, made } = &mut *state;
        while *made <= usize::from(y) {
            rows.next_row(row);
            *made += 1;
        }
        if self.color == JpegColorType::Luma {
            buffers[0].extend_from_slice(row);
            return;
        }
        for px in row.chunks_exact(3) {
            let (y, cb, cr) = rgb_to_ycbcr(px[0], px[1], px[2]);
            buffers[0].push(y);
            buffers[1].push(cb);
            buffers[2].push(cr);
        }
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn encoding(e: EncodingError) -> io::Error {
    match e {
        EncodingError::IoError(e) => e,
        other => invalid(other.to_string()),
    }
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
        let e = jpeg(&mut Wide, io::sink(), 95).unwrap_err();
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
        assert_eq!(jpeg(&mut RgbRows::new(&rgb), Full, 95).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(png(&mut RgbRows::new(&rgb), Full).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}

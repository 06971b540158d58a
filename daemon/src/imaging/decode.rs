//! From the bytes of a photo to upright 8-bit sRGB, or why not.
//!
//! ```text
//! bytes -> sniff -> container walk -> Header            probe: no pixel is allocated
//!                                  \-> decoder (strict) check: decoded and dropped; is the file whole?
//!                                       \-> ICC -> sRGB -> EXIF orientation -> Decoded
//! ```
//!
//! Invariants: a picture is refused by its header before memory is taken for it; a file that ends early or is damaged is refused, never
//! half shown (decoders are lenient by default: grey bands would pass for skin); metadata that cannot be read (EXIF, ICC) is ignored,
//! never a reason to refuse.
//!
//! Memory, above the file itself, in bytes a pixel: 3 for the result; a progressive JPEG adds 2 x components (4:4:4: 6) while it is
//! decoded, a WebP about 4; orientations 5..8 turn into a second picture (3) after the decoder has given back its own. 12 MP: 36 MB
//! baseline or PNG, 72 MB turned, 108 MB progressive.

mod color;
mod exif;
pub(super) mod jpeg;
mod orient;
pub(super) mod png;
pub(super) mod webp;

use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;

use super::{cores, raster::Rgb};
use crate::domain::{
    fault::{Code, Fault},
    photo::ImageFormat,
};

/// Px of one side: the most that a JPEG can say. A PNG can say more, and a strip of one by millions of px has memory for each of its columns.
const MOST_A_SIDE: u32 = 65_535;

/// What a photo may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Width x height, px.
    pub max_pixels: u64,
}

/// Why a photo could not be decoded. Nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the file is empty")]
    Empty,
    #[error("not a JPEG, PNG or WebP picture")]
    Unsupported,
    /// `kind` with its article: "a lossless JPEG".
    #[error("{kind}, which this program does not read")]
    UnsupportedKind { kind: String },
    #[error("{width}x{height} px is above the limit of {limit} px")]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    #[error("{width}x{height} px: a side has at most {MOST_A_SIDE}")]
    TooLong { width: u32, height: u32 },
    #[error("the file ends in the middle of the picture: {detail}")]
    Truncated { detail: String },
    #[error("the file is damaged: {detail}")]
    Corrupt { detail: String },
}

impl DecodeError {
    /// What the person reads.
    pub fn fault(&self) -> Fault {
        let code = match self {
            DecodeError::Empty => Code::EmptyFile,
            DecodeError::Unsupported | DecodeError::UnsupportedKind { .. } => Code::UnsupportedImage,
            DecodeError::TooManyPixels { .. } | DecodeError::TooLong { .. } => Code::TooManyPixels,
            DecodeError::Truncated { .. } => Code::ImageTruncated,
            DecodeError::Corrupt { .. } => Code::ImageCorrupt,
        };
        let mut fault = Fault::new(code, self.to_string());
        if let DecodeError::UnsupportedKind { kind } = self {
            fault.message = format!("The file is {kind}, a kind that this device does not read.");
            fault.suggestion = "Save the photo as an ordinary JPEG (8 bits, baseline or progressive) or as PNG, and send that.".to_owned();
        }
        fault
    }

    fn unsupported(kind: impl Into<String>) -> Self {
        DecodeError::UnsupportedKind { kind: kind.into() }
    }

    fn truncated(detail: impl Into<String>) -> Self {
        DecodeError::Truncated { detail: detail.into() }
    }

    fn corrupt(detail: impl Into<String>) -> Self {
        DecodeError::Corrupt { detail: detail.into() }
    }
}

/// What a photo says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub format: ImageFormat,
    /// Upright, px, at least 1.
    pub width: u32,
    pub height: u32,
    /// EXIF orientation of the stored pixels, 1..=8; 1 where there is none.
    pub orientation: u8,
    /// EXIF DateTimeOriginal with its offset; read as UTC where the camera wrote no offset.
    pub captured_at: Option<Timestamp>,
}

/// A photo as the pipeline takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Upright, 8-bit sRGB; transparent pixels lie on white.
    pub rgb: Rgb,
    pub header: Header,
}

/// Stored size in px, and the raw metadata that matters here.
#[derive(Debug, Default)]
struct Container {
    width: u32,
    height: u32,
    /// TIFF bytes, without the "Exif\0\0" that JPEG puts before them.
    exif: Option<Vec<u8>>,
}

/// Reads the headers only: cheap, and no pixel memory is taken whatever size the header claims.
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Header, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = ImageFormat::sniff(bytes).ok_or(DecodeError::Unsupported)?;
    let container = match format {
        ImageFormat::Jpeg => jpeg::container(bytes)?,
        ImageFormat::Png => png::container(bytes)?,
        ImageFormat::Webp => webp::container(bytes)?,
    };
    let Container { width, height, exif } = container;
    if width == 0 || height == 0 {
        return Err(DecodeError::corrupt(format!("the header says {width}x{height} px")));
    }
    let limit = limits.max_pixels;
    if u64::from(width) * u64::from(height) > limit {
        return Err(DecodeError::TooManyPixels { width, height, limit });
    }
    if width.max(height) > MOST_A_SIDE {
        return Err(DecodeError::TooLong { width, height });
    }
    let (orientation, captured_at) = exif.map_or((1, None), exif::read);
    let (width, height) = if orientation >= 5 { (height, width) } else { (width, height) };
    Ok(Header { format, width, height, orientation, captured_at })
}

/// [`probe`], and every pixel decoded once and dropped, on this thread alone: the file is whole.
pub fn check(bytes: &[u8], limits: &Limits) -> Result<Header, DecodeError> {
    let header = probe(bytes, limits)?;
    cores::by_itself(|| stored_pixels(bytes, header.format))?;
    Ok(header)
}

/// The upright picture. Transparent pixels are laid on white, as a viewer shows them on paper; 16-bit samples are rounded to 8;
/// CMYK and YCCK are taken as Adobe writes them (inverted) and multiplied out, their ink profiles ignored.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    let header = probe(bytes, limits)?;
    let (mut rgb, icc) = stored_pixels(bytes, header.format)?;
    if let Some(icc) = icc {
        color::to_srgb(&mut rgb, &icc);
    }
    Ok(Decoded { rgb: orient::upright(rgb, header.orientation), header })
}

/// Pixels as they are stored, and the embedded RGB or grey ICC profile.
fn stored_pixels(bytes: &[u8], format: ImageFormat) -> Result<(Rgb, Option<Vec<u8>>), DecodeError> {
    // The decoders are safe Rust that has panicked on crafted files before: then it is that photo's fault, not the daemon's end.
    let decoded = catch_unwind(AssertUnwindSafe(|| match format {
        ImageFormat::Jpeg => jpeg::pixels(bytes),
        ImageFormat::Png => png::pixels(bytes),
        ImageFormat::Webp => webp::pixels(bytes),
    }));
    decoded.unwrap_or_else(|_| Err(DecodeError::corrupt("the decoder gave up on it")))
}

/// Lays a pixel with alpha on white.
fn on_white(px: [u8; 4]) -> [u8; 3] {
    let alpha = u32::from(px[3]);
    let lay = |c: u8| ((u32::from(c) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
    [lay(px[0]), lay(px[1]), lay(px[2])]
}

#[cfg(test)]
pub(super) mod tests;

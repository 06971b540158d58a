//! JPEG (ITU-T T.81): its segments and its pixels.
//!
//! ```text
//! bytes --sequential, whole, nothing odd--> one walk over the codes (sequential)
//!   \---------- anything else ------------> are all codes there? (coded) --> pixels by zune-jpeg, or what is wrong
//! ```

mod coded;
mod sequential;

use std::ops::Range;

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

use super::{super::raster::Rgb, Container, DecodeError};

pub(in super::super) const SOI: u8 = 0xD8;
pub(in super::super) const EOI: u8 = 0xD9;
pub(in super::super) const SOS: u8 = 0xDA;
pub(in super::super) const APP1: u8 = 0xE1;
pub(in super::super) const APP2: u8 = 0xE2;
const ICC_NAME: &[u8] = b"ICC_PROFILE\0";
pub(in super::super) const EXIF_NAME: &[u8] = b"Exif\0\0";

/// One marker segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Segment {
    pub marker: u8,
    /// From its 0xFF to the end of the payload; of SOS to the end of its coded data.
    pub whole: Range<usize>,
    pub payload: Range<usize>,
}

/// Walks a file from marker to marker. Ends after EOI; an error where the file ends or makes no sense before that.
pub(in super::super) struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
    done: bool,
    /// Bytes that belong to nothing were skipped between two segments.
    pub junk: bool,
}

pub(in super::super) fn segments(bytes: &[u8]) -> Segments<'_> {
    Segments { bytes, at: 2, done: false, junk: false }
}

impl Segments<'_> {
    fn step(&mut self) -> Result<Segment, DecodeError> {
        let bytes = self.bytes;
        let cut = || DecodeError::truncated(format!("it has {} bytes and no end-of-image marker", bytes.len()));
        let start =
            self.at + bytes.get(self.at..).and_then(|rest| rest.windows(2).position(|w| w[0] == 0xFF && w[1] != 0)).ok_or_else(cut)?;
        self.junk |= start != self.at;
        let marker_at = start + bytes[start..].iter().position(|b| *b != 0xFF).ok_or_else(cut)?;
        let marker = bytes[marker_at];
        let after = marker_at + 1;
        if matches!(marker, 0x01 | 0xD0..=EOI) {
            self.at = after;
            return Ok(Segment { marker, whole: start..after, payload: after..after });
        }
        let length = bytes.get(after..after + 2).map(|b| usize::from(u16::from_be_bytes([b[0], b[1]]))).ok_or_else(cut)?;
        if length < 2 {
            return Err(DecodeError::corrupt(format!("segment {marker:02x} at byte {start} has no length")));
        }
        let payload = after + 2..after + length;
        if payload.end > bytes.len() {
            return Err(cut());
        }
        self.at = if marker == SOS { coded_data_end(bytes, payload.end) } else { payload.end };
        Ok(Segment { marker, whole: start..self.at, payload })
    }
}

impl Iterator for Segments<'_> {
    type Item = Result<Segment, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let segment = self.step();
        self.done = !matches!(&segment, Ok(s) if s.marker != EOI);
        Some(segment)
    }
}

/// Coded data runs to the next marker that is not a restart; FF 00 in it is a plain FF.
fn coded_data_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(found) = first_ff(&bytes[at..]) {
        at += found;
        match bytes.get(at + 1) {
            Some(0 | 0xD0..=0xD7) => at += 2,
            Some(0xFF) => at += 1,
            Some(_) => return at,
            None => break,
        }
    }
    bytes.len()
}

fn first_ff(bytes: &[u8]) -> Option<usize> {
    // Many at a time: an FF in coded data is rare.
    let clear = bytes.chunks_exact(32).take_while(|some| some.iter().fold(0, |most: u8, b| most.max(*b)) < 0xFF).count() * 32;
    Some(clear + bytes[clear..].iter().position(|b| *b == 0xFF)?)
}

/// Size and EXIF, up to the first scan.
pub(super) fn container(bytes: &[u8]) -> Result<Container, DecodeError> {
    let mut container = Container::default();
    let mut framed = false;
    for segment in segments(bytes) {
        let Segment { marker, payload, .. } = segment?;
        let payload = &bytes[payload];
        match marker {
            // Baseline, extended and progressive Huffman. The others exist on paper and in medical archives.
            0xC0..=0xC2 => {
                let [precision, h1, h0, w1, w0, ..] = payload else { return Err(DecodeError::corrupt("short frame header")) };
                if *precision != 8 {
                    return Err(DecodeError::unsupported(format!("a {precision}-bit JPEG")));
                }
                container.height = u32::from(u16::from_be_bytes([*h1, *h0]));
                container.width = u32::from(u16::from_be_bytes([*w1, *w0]));
                framed = true;
            }
            0xC3 | 0xCB => return Err(DecodeError::unsupported("a lossless JPEG")),
            0xC9 | 0xCA => return Err(DecodeError::unsupported("an arithmetic-coded JPEG")),
            0xC5..=0xC7 | 0xCD..=0xCF | 0xDE => return Err(DecodeError::unsupported("a hierarchical JPEG")),
            APP1 if container.exif.is_none() => container.exif = payload.strip_prefix(EXIF_NAME).map(<[u8]>::to_vec),
            SOS | EOI => break,
            _ => {}
        }
    }
    if framed { Ok(container) } else { Err(DecodeError::corrupt("no frame header before the first scan")) }
}

/// The ICC profile out of its numbered chunks (ICC.1 B.4); None where one is missing.
fn icc(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut chunks: Vec<(u8, u8, &[u8])> = segments(bytes)
        .map_while(Result::ok)
        .take_while(|s| s.marker != SOS)
        .filter(|s| s.marker == APP2)
        .filter_map(|s| match bytes[s.payload].strip_prefix(ICC_NAME)? {
            [number, count, data @ ..] => Some((*number, *count, data)),
            _ => None,
        })
        .collect();
    chunks.sort_by_key(|c| c.0);
    let whole = chunks.iter().enumerate().all(|(i, c)| usize::from(c.0) == i + 1 && usize::from(c.1) == chunks.len());
    (whole && !chunks.is_empty()).then(|| chunks.iter().flat_map(|c| c.2).copied().collect())
}

/// Pixels as stored, and the ICC profile unless it is one for inks.
pub(super) fn pixels(bytes: &[u8]) -> Result<(Rgb, Option<Vec<u8>>), DecodeError> {
    match in_one_walk(bytes) {
        Some(rgb) => Ok((rgb, icc(bytes))),
        None => in_two_walks(bytes),
    }
}

/// The usual file. None: another kind, or one with something wrong that is for [`in_two_walks`] to find.
fn in_one_walk(bytes: &[u8]) -> Option<Rgb> {
    // The library reads the headers here, too: what it would refuse in them is refused, and it knows whose three components are not
    // Y, Cb and Cr (an Adobe segment, or ids R, G and B).
    let decoder = headers(bytes, true).ok()?;
    matches!(decoder.input_colorspace(), Some(ColorSpace::YCbCr | ColorSpace::Luma)).then(|| sequential::pixels(bytes))?
}

fn in_two_walks(bytes: &[u8]) -> Result<(Rgb, Option<Vec<u8>>), DecodeError> {
    // The decoder fills what is missing with grey. A file that was cut lacks its EOI, wherever it was cut; one that was cut and given
    // a new EOI lacks codes for its last blocks.
    coded::check(bytes)?;
    let mut walk = segments(bytes);
    for segment in walk.by_ref() {
        segment?;
    }
    // Strict refuses codes that do not exist, but also stray bytes between segments, which are harmless.
    let mut decoder = headers(bytes, !walk.junk)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| DecodeError::corrupt("no frame header"))?;
    let inks = decoder.input_colorspace().is_some_and(|c| c.num_components() == 4);
    let mut rgb = Rgb::new(width, height);
    decoder.decode_into(&mut rgb.data).map_err(why)?;
    Ok((rgb, if inks { None } else { icc(bytes) }))
}

/// The library, with all up to the first scan read.
fn headers(bytes: &[u8], strict: bool) -> Result<JpegDecoder<ZCursor<&[u8]>>, DecodeError> {
    let options = DecoderOptions::default()
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_strict_mode(strict);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(why)?;
    Ok(decoder)
}

fn why(e: DecodeErrors) -> DecodeError {
    match e {
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => DecodeError::truncated("the coded data ends early"),
        DecodeErrors::Unsupported(_) => DecodeError::unsupported("an uncommon JPEG"),
        // Debug, because its Display writes "Exhausted data" and others over several lines.
        other => DecodeError::corrupt(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests;

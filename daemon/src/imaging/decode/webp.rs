//! WebP (RFC 9649): its RIFF chunks, and its pixels through image's decoder. Of an animation the first frame is taken.

use std::{io::Cursor, ops::Range};

use image::{ImageDecoder, codecs::webp::WebPDecoder};

use super::{super::raster::Rgb, Container, DecodeError, jpeg::EXIF_NAME, on_white};

/// "RIFF", length, "WEBP".
pub(in super::super) const HEAD_BYTES: usize = 12;

/// One chunk: (name, from its name to the end of its padding, its data).
pub(in super::super) type Chunk = ([u8; 4], Range<usize>, Range<usize>);

/// All chunks within the RIFF's length. The file must be at least that long, its last padding byte aside.
pub(in super::super) fn chunks(bytes: &[u8]) -> Result<Vec<Chunk>, DecodeError> {
    let u32_at = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let end = u32_at(4).ok_or_else(|| DecodeError::truncated("no RIFF length"))? + 8;
    if end > bytes.len() + 1 {
        return Err(DecodeError::truncated(format!("{} of {end} bytes are there", bytes.len())));
    }
    let mut found = Vec::new();
    let mut at = HEAD_BYTES;
    while at + 8 <= end.min(bytes.len()) {
        let name = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let data = at + 8..at + 8 + u32_at(at + 4).unwrap_or(0);
        if data.end > bytes.len() {
            return Err(DecodeError::truncated(format!("chunk {} at byte {at} is cut off", name.escape_ascii())));
        }
        if data.end > end {
            return Err(DecodeError::corrupt(format!("chunk {} at byte {at} is longer than the file", name.escape_ascii())));
        }
        let next = (data.end + (data.len() & 1)).min(bytes.len());
        found.push((name, at..next, data));
        at = next;
    }
    Ok(found)
}

pub(super) fn container(bytes: &[u8]) -> Result<Container, DecodeError> {
    let mut container = Container::default();
    let mut sized = false;
    for (name, _, data) in chunks(bytes)? {
        let data = &bytes[data];
        let size = match (&name, data) {
            (b"VP8X", [_, _, _, _, w0, w1, w2, h0, h1, h2, ..]) => {
                Some((u32::from_le_bytes([*w0, *w1, *w2, 0]) + 1, u32::from_le_bytes([*h0, *h1, *h2, 0]) + 1))
            }
            (b"VP8 ", [_, _, _, 0x9D, 0x01, 0x2A, w0, w1, h0, h1, ..]) => {
                Some((u32::from(u16::from_le_bytes([*w0, *w1])) & 0x3FFF, u32::from(u16::from_le_bytes([*h0, *h1])) & 0x3FFF))
            }
            (b"VP8L", [0x2F, b0, b1, b2, b3, ..]) => {
                let bits = u32::from_le_bytes([*b0, *b1, *b2, *b3]);
                Some(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
            }
            (b"EXIF", tiff) => {
                container.exif = Some(tiff.strip_prefix(EXIF_NAME).unwrap_or(tiff).to_vec());
                None
            }
            _ => None,
        };
        if let (Some(size), false) = (size, sized) {
            (container.width, container.height) = size;
            sized = true;
        }
    }
    if sized { Ok(container) } else { Err(DecodeError::corrupt("no picture chunk")) }
}

/// Pixels as stored, and the ICC profile.
pub(super) fn pixels(bytes: &[u8]) -> Result<(Rgb, Option<Vec<u8>>), DecodeError> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(why)?;
    let icc = decoder.icc_profile().ok().flatten();
    let (width, height) = decoder.dimensions();
    let alpha = decoder.color_type().has_alpha();
    let pixels = width as usize * height as usize;
    let mut data = vec![0; pixels * if alpha { 4 } else { 3 }];
    decoder.read_image(&mut data).map_err(why)?;
    if alpha {
        // In place: the three bytes of a pixel never lie behind its four.
        for i in 0..pixels {
            let px = on_white([data[i * 4], data[i * 4 + 1], data[i * 4 + 2], data[i * 4 + 3]]);
            data[i * 3..i * 3 + 3].copy_from_slice(&px);
        }
        data.truncate(pixels * 3);
    }
    Ok((Rgb { width: width as usize, height: height as usize, data }, icc))
}

fn why(e: image::ImageError) -> DecodeError {
    match e {
        image::ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::truncated("the coded data ends early")
        }
        image::ImageError::Unsupported(_) => DecodeError::unsupported("an uncommon WebP"),
        other => DecodeError::corrupt(other.to_string()),
    }
}

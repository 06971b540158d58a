//! PNG (ISO/IEC 15948): its chunks, and its pixels through the png crate, row by row.

use std::{io::Cursor, ops::Range};

use png::{BitDepth, ColorType, Decoder, DecodingError, InterlaceInfo, Limits, Transformations};

use super::{super::raster::Rgb, Container, DecodeError, on_white};

/// The decoder's own: a row, its window, text and profiles; never pixels, which are ours.
const OWN_BYTES: usize = 64 << 20;
pub(in super::super) const SIGNATURE_BYTES: usize = 8;

/// One chunk: (type, from its length to the end of its CRC, its data).
pub(in super::super) type Chunk = ([u8; 4], Range<usize>, Range<usize>);

/// All chunks up to IEND; an error where the file ends before that. CRCs are not looked at here.
pub(in super::super) fn chunks(bytes: &[u8]) -> impl Iterator<Item = Result<Chunk, DecodeError>> {
    let mut at = Some(SIGNATURE_BYTES);
    std::iter::from_fn(move || {
        let start = at?;
        let Some(head) = bytes.get(start..start + 8) else {
            at = None;
            return Some(Err(DecodeError::truncated("no IEND chunk")));
        };
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = [head[4], head[5], head[6], head[7]];
        let data = start + 8..start + 8 + length;
        if data.end + 4 > bytes.len() {
            at = None;
            return Some(Err(DecodeError::truncated(format!("chunk {} at byte {start} is cut off", kind.escape_ascii()))));
        }
        at = (kind != *b"IEND").then_some(data.end + 4);
        Some(Ok((kind, start..data.end + 4, data)))
    })
}

pub(super) fn container(bytes: &[u8]) -> Result<Container, DecodeError> {
    let mut container = Container::default();
    for (i, chunk) in chunks(bytes).enumerate() {
        // A cut behind the header is found by whoever reads the pixels; the header can be told all the same.
        let (kind, _, data) = match chunk {
            Ok(chunk) => chunk,
            Err(e) if i == 0 => return Err(e),
            Err(_) => break,
        };
        let data = &bytes[data];
        match (&kind, i) {
            (b"IHDR", 0) if data.len() >= 8 => {
                container.width = u32::from_be_bytes([data[0], data[1], data[2], data[3]]);
                container.height = u32::from_be_bytes([data[4], data[5], data[6], data[7]]);
            }
            (_, 0) => return Err(DecodeError::corrupt("the first chunk is not IHDR")),
            (b"eXIf", _) => container.exif = Some(data.to_vec()),
            _ => {}
        }
    }
    Ok(container)
}

/// Pixels as stored, and the ICC profile. Chunk CRCs and the stream's Adler sum are checked.
pub(super) fn pixels(bytes: &[u8]) -> Result<(Rgb, Option<Vec<u8>>), DecodeError> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: OWN_BYTES });
    decoder.ignore_checksums(false);
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(why)?;
    let icc = reader.info().icc_profile.as_ref().map(|p| p.to_vec());
    let (color, depth) = reader.output_color_type();
    let mut rgb = Rgb::new(reader.info().width as usize, reader.info().height as usize);
    let width = rgb.width;

    let mut sequential = 0;
    let mut line = Vec::with_capacity(width * 3);
    while let Some(row) = reader.next_interlaced_row().map_err(why)? {
        line.clear();
        to_rgb(row.data(), color, depth, &mut line);
        match row.interlace() {
            InterlaceInfo::Null(_) => {
                rgb.data[sequential * width * 3..][..width * 3].copy_from_slice(&line[..width * 3]);
                sequential += 1;
            }
            InterlaceInfo::Adam7(pass) => png::expand_interlaced_row(&mut rgb.data, width * 3, &line, pass, 24),
        }
    }
    reader.finish().map_err(why)?;
    Ok((rgb, icc))
}

/// A row after EXPAND: 8 or 16 bits, grey or RGB, with or without alpha.
fn to_rgb(row: &[u8], color: ColorType, depth: BitDepth, out: &mut Vec<u8>) {
    if depth == BitDepth::Sixteen {
        let narrow: Vec<u8> = row.chunks_exact(2).map(|s| ((u32::from(u16::from_be_bytes([s[0], s[1]])) + 128) / 257) as u8).collect();
        return to_rgb(&narrow, color, BitDepth::Eight, out);
    }
    match color {
        ColorType::Grayscale => out.extend(row.iter().flat_map(|v| [*v; 3])),
        ColorType::GrayscaleAlpha => out.extend(row.chunks_exact(2).flat_map(|p| on_white([p[0], p[0], p[0], p[1]]))),
        ColorType::Rgba => out.extend(row.chunks_exact(4).flat_map(|p| on_white([p[0], p[1], p[2], p[3]]))),
        // EXPAND leaves no palette.
        ColorType::Rgb | ColorType::Indexed => out.extend_from_slice(row),
    }
}

fn why(e: DecodingError) -> DecodeError {
    match e {
        DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => DecodeError::truncated("the coded data ends early"),
        other => DecodeError::corrupt(other.to_string()),
    }
}

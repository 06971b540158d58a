//! EXIF, XMP, IPTC, comments and thumbnails cut out of a file without touching its pixels: they can hold names, places and serial
//! numbers. What changes the picture stays: the colour profile, Adobe's colour transform, and the orientation, in an EXIF block that
//! holds nothing else.
//!
//! What is kept is listed, what is not listed goes: a marker or chunk that we do not know cannot carry a name out of the house.

use super::decode::{Header, Limits, jpeg, png, probe, webp};
use crate::domain::photo::ImageFormat;

/// The file without its metadata, pixels bit for bit the same. `bytes` is a file of `format` that was decoded before; an error says why
/// it could not be taken apart.
pub fn strip(bytes: &[u8], format: ImageFormat) -> Result<Vec<u8>, String> {
    let header = probe(bytes, &Limits { max_pixels: u64::MAX }).map_err(|e| e.to_string())?;
    if header.format != format {
        return Err(format!("it is {}, not {}", header.format.mime(), format.mime()));
    }
    match format {
        ImageFormat::Jpeg => strip_jpeg(bytes, header.orientation),
        ImageFormat::Png => strip_png(bytes, header.orientation),
        ImageFormat::Webp => strip_webp(bytes, &header),
    }
}

/// A TIFF block with the orientation (tag 0x112, SHORT) and nothing else (EXIF 2.32, 4.6.2).
fn orientation_exif(orientation: u8) -> Vec<u8> {
    let mut tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0]);
    tiff
}

fn strip_jpeg(bytes: &[u8], orientation: u8) -> Result<Vec<u8>, String> {
    let mut out = vec![0xFF, jpeg::SOI];
    if orientation != 1 {
        let tiff = orientation_exif(orientation);
        let length = (2 + jpeg::EXIF_NAME.len() + tiff.len()) as u16;
        out.extend([0xFF, jpeg::APP1]);
        out.extend(length.to_be_bytes());
        out.extend(jpeg::EXIF_NAME);
        out.extend(tiff);
    }
    // Ends with EOI: what cameras hang behind it (previews, videos, second pictures) goes too.
    for segment in jpeg::segments(bytes) {
        let segment = segment.map_err(|e| e.to_string())?;
        let payload = &bytes[segment.payload];
        let keep = match segment.marker {
            0xE0 => !payload.starts_with(b"JFXX\0"),
            jpeg::APP2 => payload.starts_with(b"ICC_PROFILE\0"),
            0xEE => payload.starts_with(b"Adobe"),
            0xE1..=0xEF | 0xFE => false,
            _ => true,
        };
        if keep {
            out.extend(&bytes[segment.whole]);
        }
    }
    Ok(out)
}

fn strip_png(bytes: &[u8], orientation: u8) -> Result<Vec<u8>, String> {
    /// Chunks that say how the pixels look.
    const LOOKS: [&[u8; 4]; 14] =
        [b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI", b"sBIT", b"bKGD", b"pHYs", b"acTL", b"fcTL", b"fdAT"];
    let mut out = bytes[..png::SIGNATURE_BYTES].to_vec();
    for chunk in png::chunks(bytes) {
        let (kind, whole, _) = chunk.map_err(|e| e.to_string())?;
        if kind[0].is_ascii_uppercase() || LOOKS.contains(&&kind) {
            out.extend(&bytes[whole]);
        }
        if kind == *b"IHDR" && orientation != 1 {
            let body = [b"eXIf".as_slice(), &orientation_exif(orientation)].concat();
            out.extend((body.len() as u32 - 4).to_be_bytes());
            out.extend(&body);
            out.extend(crc32fast::hash(&body).to_be_bytes());
        }
    }
    Ok(out)
}

/// Bits of VP8X's first byte (RFC 9649, 2.7.1).
const WEBP_HAS_EXIF: u8 = 0x08;
const WEBP_HAS_XMP: u8 = 0x04;

fn strip_webp(bytes: &[u8], header: &Header) -> Result<Vec<u8>, String> {
    let turned = header.orientation != 1;
    let mut out = b"RIFF\0\0\0\0WEBP".to_vec();
    let chunks = webp::chunks(bytes).map_err(|e| e.to_string())?;
    for (name, _, data) in &chunks {
        let mut data = bytes[data.clone()].to_vec();
        match name {
            b"VP8X" if !data.is_empty() => {
                data[0] &= !(WEBP_HAS_EXIF | WEBP_HAS_XMP);
                if turned {
                    data[0] |= WEBP_HAS_EXIF;
                }
            }
            b"VP8 " | b"VP8L" | b"ALPH" | b"ANIM" | b"ANMF" | b"ICCP" => {}
            _ => continue,
        }
        riff_chunk(&mut out, name, &data);
    }
    if turned {
        riff_chunk(&mut out, b"EXIF", &orientation_exif(header.orientation));
    }
    let length = (out.len() - 8) as u32;
    out[4..8].copy_from_slice(&length.to_le_bytes());
    Ok(out)
}

fn riff_chunk(out: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    out.extend(name);
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    if data.len() % 2 == 1 {
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::{
        decode::{decode, tests::exif},
        encode::{RgbRows, jpeg_bytes, png as write_png},
        raster::Rgb,
    };

    const LIMITS: Limits = Limits { max_pixels: 1 << 20 };
    const NAME: &[u8] = b"Erika Mustermann";

    fn picture() -> Rgb {
        Rgb { width: 24, height: 16, data: (0..24 * 16 * 3).map(|i| (i * 37 % 251) as u8).collect() }
    }

    fn camera_exif(orientation: u8) -> Vec<u8> {
        [exif(orientation, b"2024:02:29 10:30:00\0", b"+05:30\0"), NAME.to_vec()].concat()
    }

    fn with_segments(jpeg: &[u8], segments: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = jpeg[..2].to_vec();
        for (marker, payload) in segments {
            out.extend([0xFF, *marker]);
            out.extend((payload.len() as u16 + 2).to_be_bytes());
            out.extend(*payload);
        }
        [&out, &jpeg[2..]].concat()
    }

    /// A file with a name in every corner, for each format and orientation.
    fn files(orientation: u8) -> Vec<(ImageFormat, Vec<u8>)> {
        let tiff = camera_exif(orientation);
        let app1 = [b"Exif\0\0".as_slice(), &tiff].concat();
        let xmp = [b"http://ns.adobe.com/xap/1.0/\0".as_slice(), NAME].concat();
        let jpeg = with_segments(&jpeg_bytes(&picture(), 90), &[(0xE1, &app1), (0xE1, &xmp), (0xED, NAME), (0xFE, NAME), (0xE7, NAME)]);
        let jpeg = [&jpeg, NAME].concat();

        let mut plain = Vec::new();
        write_png(&mut RgbRows::new(&picture()), &mut plain).unwrap();
        let mut png = plain[..33].to_vec();
        for (kind, data) in [(b"eXIf", tiff.as_slice()), (b"tEXt", NAME), (b"zzZz", NAME)] {
            let body = [kind.as_slice(), data].concat();
            png.extend((data.len() as u32).to_be_bytes());
            png.extend(&body);
            png.extend(crc32fast::hash(&body).to_be_bytes());
        }
        png.extend(&plain[33..]);

        let mut simple = Vec::new();
        let encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut simple);
        encoder.encode(&picture().data, 24, 16, image::ExtendedColorType::Rgb8).unwrap();
        let mut webp = b"RIFF\0\0\0\0WEBP".to_vec();
        riff_chunk(&mut webp, b"VP8X", &[WEBP_HAS_EXIF | WEBP_HAS_XMP, 0, 0, 0, 23, 0, 0, 15, 0, 0]);
        webp.extend(&simple[12..]);
        riff_chunk(&mut webp, b"EXIF", &tiff);
        riff_chunk(&mut webp, b"XMP ", NAME);
        let length = (webp.len() - 8) as u32;
        webp[4..8].copy_from_slice(&length.to_le_bytes());

        vec![(ImageFormat::Jpeg, jpeg), (ImageFormat::Png, png), (ImageFormat::Webp, webp)]
    }

    #[test]
    fn nothing_of_a_person_stays_and_no_pixel_changes() {
        for orientation in [1, 6, 3] {
            for (format, bytes) in files(orientation) {
                let before = decode(&bytes, &LIMITS).unwrap();
                assert!(before.header.captured_at.is_some() && before.header.orientation == orientation, "{format:?}");
                let stripped = strip(&bytes, format).unwrap();
                let after = decode(&stripped, &LIMITS).unwrap();
                assert_eq!(after.rgb, before.rgb, "{format:?} {orientation}");
                assert_eq!(after.header.orientation, orientation, "{format:?}");
                assert_eq!(after.header.captured_at, None);
                assert!(!stripped.windows(5).any(|w| w == b"Erika"), "{format:?}: the name is still there");
                assert_eq!(strip(&stripped, format).unwrap(), stripped, "{format:?}: once is enough");
            }
        }
    }

    #[test]
    fn the_colour_profile_stays() {
        let bytes = strip(&jpeg_bytes(&picture(), 90), ImageFormat::Jpeg).unwrap();
        assert!(bytes.windows(12).any(|w| w == b"ICC_PROFILE\0"));
    }

    #[test]
    fn a_file_that_is_something_else_is_an_error() {
        assert!(strip(b"hello", ImageFormat::Jpeg).is_err());
        assert!(strip(&jpeg_bytes(&picture(), 90), ImageFormat::Png).is_err());
    }
}

//! Orientation and time of capture out of EXIF (CIPA DC-008). Whatever cannot be read counts as not there.

use exif::{In, Reader, Tag, Value};
use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{Offset, TimeZone},
};

/// `tiff`: the EXIF block from its TIFF header on. (1..=8, DateTimeOriginal)
pub(super) fn read(tiff: Vec<u8>) -> (u8, Option<Timestamp>) {
    // Cameras write small errors in maker notes all the time: one bad field must not turn the photo on its side.
    let parsed = Reader::new().continue_on_error(true).read_raw(tiff).or_else(|e| e.distill_partial_result(|_| ()));
    let Ok(fields) = parsed else { return (1, None) };
    let orientation = fields
        .get_field(Tag::Orientation, In::PRIMARY)
        .and_then(|f| f.value.get_uint(0))
        .and_then(|v| u8::try_from(v).ok())
        .filter(|v| (1..=8).contains(v))
        .unwrap_or(1);
    (orientation, captured_at(&fields))
}

fn captured_at(fields: &exif::Exif) -> Option<Timestamp> {
    let ascii = |tag| match &fields.get_field(tag, In::PRIMARY)?.value {
        Value::Ascii(parts) => parts.first().map(Vec::as_slice),
        _ => None,
    };
    let mut at = exif::DateTime::from_ascii(ascii(Tag::DateTimeOriginal)?).ok()?;
    if let Some(offset) = ascii(Tag::OffsetTimeOriginal) {
        at.parse_offset(offset).ok();
    }
    let [month, day, hour, minute, second] = [at.month, at.day, at.hour, at.minute, at.second].map(|v| i8::try_from(v).unwrap_or(-1));
    let local = DateTime::new(i16::try_from(at.year).ok()?, month, day, hour, minute, second, 0).ok()?;
    let offset = Offset::from_seconds(i32::from(at.offset.unwrap_or(0)) * 60).ok()?;
    Some(local.to_zoned(TimeZone::fixed(offset)).ok()?.timestamp())
}

//! A row's JSON in a third of the room: the same text, token by token, with the words and shapes that our rows are made of cut short.
//!
//! Finished jobs stay for ever, so their size is the store's size, its memory and the time of a start. Packing is lossless on the
//! text that serde_json writes (`unpack(pack(t)) == t`), and knows nothing of jobs or photos: a row may gain fields without a word here.
//!
//! ```text
//! 00          end of an object or array            08 ts     RFC 3339 UTC time: zigzag varint seconds since 1970, u8 digits, varint fraction
//! 01 02 03    null true false                      09 n ..   any other string: varint length, bytes as they stand in JSON
//! 04 .. 00    object: key value key value ...      0a v      integer >= 16: varint
//! 05 .. 00    array                                0b v      negative integer: varint of its magnitude
//! 06 16 bytes UUID, lower case                     0c d v    decimal: u8 digits after the point (bit 7: negative), varint of all digits
//! 07 n ..     lower-case hex text: u8 bytes, bytes 0d n ..   any other number: u8 length, text
//!                                                  10..1f    integers 0 to 15
//! 20..ff      the string WORDS[tag - 20]
//! ```
//! Varints are LEB128. The numbers of the words are the format: new ones only ever go to the end of [`WORDS`].

use std::sync::LazyLock;

/// Nesting that our rows stay far below; a damaged row must not overflow the stack.
const DEEPEST: u8 = 16;
const END: u8 = 0x00;
const OBJECT: u8 = 0x04;
const ARRAY: u8 = 0x05;
const UUID: u8 = 0x06;
const HEX: u8 = 0x07;
const TIME: u8 = 0x08;
const TEXT: u8 = 0x09;
const INTEGER: u8 = 0x0a;
const NEGATIVE: u8 = 0x0b;
const DECIMAL: u8 = 0x0c;
const NUMBER: u8 = 0x0d;
const SMALL: u8 = 0x10;
const WORD: u8 = 0x20;

/// Keys and values of rows, in the order of their numbers.
#[rustfmt::skip]
const WORDS: [&str; 142] = [
    "id", "seq", "photo_id", "user_id", "lane", "status", "current_step", "progress", "attempt", "transient_retries", "crashes",
    "crashes_in_step", "crashed_step", "fault", "artifacts", "upload", "quality", "step_ms", "processing_time_ms", "cached",
    "not_before", "client_ref", "eye", "captured_at", "created_at", "started_at", "completed_at", "reprocess_of",
    "high_priority", "default", "pending", "processing", "completed", "failed", "cancelled", "off", "uploading", "uploaded",
    "files", "image", "mask", "synthetic", "sha256", "bytes", "width", "height", "report_sha256", "report_bytes", "on_disk",
    "verdict", "metrics", "value", "unit", "threshold", "pass", "warn", "fail", "ratio", "px", "%",
    "load", "segment", "reflections", "enhance", "save", "local",
    "content_type", "source", "received_at", "camera", "folder", "image/jpeg", "image/png", "image/webp", "left", "right",
    "ts", "event", "job_id", "error_type", "error_code", "message", "suggestion", "submitted", "started", "retried",
    "class", "code", "detail", "quality_issue", "transient_error", "server_error",
    "next_row", "next_event", "subject", "s3_key", "file", "attempts", "path", "job", "original", "deleted", "application/json",
    "body", "answer", "at", "after", "since", "wait_ms", "Jobs", "Photo", "Capture", "photo",
    "coverage", "confidence", "inside", "iris_diameter", "lightness", "overexposed", "clipped", "sharpness", "usable_area",
    "glare_share", "pupil_ratio", "gaze", "deg", "iris_sclera_contrast", "ready", "no_iris",
    "annotated", "limbus_edge", "pupil_inside", "concentricity", "motion", "iris_pupil_contrast", "L*",
    "merge", "with", "misfit", "left_out", "others", "thumb_bytes",
];

/// Numbers of the words of each length: a job's row asks for forty strings, and one thread writes all rows.
static BY_LENGTH: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut by_length = Vec::<Vec<u8>>::new();
    for (n, word) in (0u8..).zip(WORDS) {
        by_length.resize_with(by_length.len().max(word.len() + 1), Vec::new);
        by_length[word.len()].push(n);
    }
    by_length
});

/// What is not the JSON that serde_json writes, or not what [`pack`] made of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Unpackable;

/// The short form of a JSON text. Err: no JSON, or not as serde_json writes it.
pub fn pack(json: &[u8]) -> Result<Vec<u8>, Unpackable> {
    let mut packer = Packer { json, at: 0, out: Vec::with_capacity(json.len() / 2) };
    packer.value(0)?;
    if packer.at == json.len() { Ok(packer.out) } else { Err(Unpackable) }
}

/// The text that was packed, appended to `out`.
pub fn unpack(packed: &[u8], out: &mut Vec<u8>) -> Result<(), Unpackable> {
    let mut reader = Reader { bytes: packed };
    let tag = reader.byte()?;
    reader.value(tag, out, 0)?;
    if reader.bytes.is_empty() { Ok(()) } else { Err(Unpackable) }
}

struct Packer<'a> {
    json: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

impl<'a> Packer<'a> {
    fn peek(&self) -> Result<u8, Unpackable> {
        self.json.get(self.at).copied().ok_or(Unpackable)
    }

    fn expect(&mut self, text: &[u8]) -> Result<(), Unpackable> {
        let found = self.json.get(self.at..).is_some_and(|rest| rest.starts_with(text));
        self.at += text.len();
        if found { Ok(()) } else { Err(Unpackable) }
    }

    fn value(&mut self, depth: u8) -> Result<(), Unpackable> {
        if depth > DEEPEST {
            return Err(Unpackable);
        }
        match self.peek()? {
            b'{' => self.members(OBJECT, b'}', depth),
            b'[' => self.members(ARRAY, b']', depth),
            b'"' => self.string(),
            b'n' => self.literal(b"null", 1),
            b't' => self.literal(b"true", 2),
            b'f' => self.literal(b"false", 3),
            _ => self.number(),
        }
    }

    fn literal(&mut self, text: &[u8], tag: u8) -> Result<(), Unpackable> {
        self.out.push(tag);
        self.expect(text)
    }

    fn members(&mut self, tag: u8, close: u8, depth: u8) -> Result<(), Unpackable> {
        self.out.push(tag);
        self.at += 1;
        let mut first = true;
        while self.peek()? != close {
            if !first {
                self.expect(b",")?;
            }
            first = false;
            if tag == OBJECT {
                self.string()?;
                self.expect(b":")?;
            }
            self.value(depth + 1)?;
        }
        self.at += 1;
        self.out.push(END);
        Ok(())
    }

    /// The text between two quotes, escapes left as they are.
    fn string(&mut self) -> Result<(), Unpackable> {
        self.expect(b"\"")?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        let text = &self.json[start..self.at];
        self.at += 1;
        self.put_string(text);
        Ok(())
    }

    fn put_string(&mut self, text: &[u8]) {
        let known = BY_LENGTH.get(text.len()).into_iter().flatten();
        if let Some(n) = known.copied().find(|n| WORDS[usize::from(*n)].as_bytes() == text) {
            self.out.push(WORD + n);
        } else if let Some(id) = as_uuid(text) {
            self.out.push(UUID);
            self.out.extend_from_slice(&id);
        } else if let Some(bytes) = as_hex(text) {
            self.out.extend_from_slice(&[HEX, bytes.len() as u8]);
            self.out.extend_from_slice(&bytes);
        } else if let Some((seconds, digits, fraction)) = as_time(text) {
            self.out.push(TIME);
            put_varint(&mut self.out, ((seconds << 1) ^ (seconds >> 63)) as u64);
            self.out.push(digits);
            put_varint(&mut self.out, fraction);
        } else {
            self.out.push(TEXT);
            put_varint(&mut self.out, text.len() as u64);
            self.out.extend_from_slice(text);
        }
    }

    fn number(&mut self) -> Result<(), Unpackable> {
        let rest = &self.json[self.at..];
        let len = rest.iter().position(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).unwrap_or(rest.len());
        let text = &rest[..len];
        if len == 0 || len > 255 {
            return Err(Unpackable);
        }
        self.at += len;
        let before = self.out.len();
        put_number(&mut self.out, text);
        // Whatever does not come back digit by digit (1e-7, -0.0, leading zeros) is kept as text.
        let mut again = Vec::with_capacity(len);
        let mut reader = Reader { bytes: &self.out[before + 1..] };
        if reader.value(self.out[before], &mut again, 0).is_err() || again != text {
            self.out.truncate(before);
            self.out.extend_from_slice(&[NUMBER, len as u8]);
            self.out.extend_from_slice(text);
        }
        Ok(())
    }
}

/// A number's digits as one integer, and where the point stands.
fn put_number(out: &mut Vec<u8>, text: &[u8]) {
    let (negative, digits) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let whole = digits.iter().position(|b| *b == b'.').unwrap_or(digits.len());
    let after = digits.len().saturating_sub(whole + 1);
    let value = digits.iter().filter(|b| b.is_ascii_digit()).try_fold(0u64, |v, b| v.checked_mul(10)?.checked_add(u64::from(b - b'0')));
    let value = value.unwrap_or(0);
    match (whole == digits.len(), negative) {
        (true, false) if value < 16 => return out.push(SMALL + value as u8),
        (true, false) => out.push(INTEGER),
        (true, true) => out.push(NEGATIVE),
        (false, _) => out.extend_from_slice(&[DECIMAL, (after.min(127) as u8) | u8::from(negative) << 7]),
    }
    put_varint(out, value);
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Unpackable> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Unpackable> {
        let (head, rest) = self.bytes.split_at_checked(n).ok_or(Unpackable)?;
        self.bytes = rest;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64, Unpackable> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Unpackable)
    }

    fn value(&mut self, tag: u8, out: &mut Vec<u8>, depth: u8) -> Result<(), Unpackable> {
        if depth > DEEPEST {
            return Err(Unpackable);
        }
        match tag {
            1 => out.extend_from_slice(b"null"),
            2 => out.extend_from_slice(b"true"),
            3 => out.extend_from_slice(b"false"),
            OBJECT | ARRAY => self.members(tag, out, depth)?,
            INTEGER => put_decimal(out, self.varint()?, 0, false),
            NEGATIVE => put_decimal(out, self.varint()?, 0, true),
            SMALL..WORD => put_decimal(out, u64::from(tag - SMALL), 0, false),
            DECIMAL => {
                let digits = self.byte()?;
                put_decimal(out, self.varint()?, usize::from(digits & 0x7f), digits & 0x80 != 0);
            }
            NUMBER => {
                let len = usize::from(self.byte()?);
                out.extend_from_slice(self.take(len)?);
            }
            _ => self.string(tag, out)?,
        }
        Ok(())
    }

    fn members(&mut self, tag: u8, out: &mut Vec<u8>, depth: u8) -> Result<(), Unpackable> {
        let (open, close) = if tag == OBJECT { (b'{', b'}') } else { (b'[', b']') };
        out.push(open);
        let mut first = true;
        loop {
            let next = self.byte()?;
            if next == END {
                out.push(close);
                return Ok(());
            }
            if !first {
                out.push(b',');
            }
            first = false;
            if tag == ARRAY {
                self.value(next, out, depth + 1)?;
                continue;
            }
            self.string(next, out)?;
            out.push(b':');
            let value = self.byte()?;
            self.value(value, out, depth + 1)?;
        }
    }

    fn string(&mut self, tag: u8, out: &mut Vec<u8>) -> Result<(), Unpackable> {
        out.push(b'"');
        match tag {
            UUID => {
                for (i, b) in self.take(16)?.iter().enumerate() {
                    if matches!(i, 4 | 6 | 8 | 10) {
                        out.push(b'-');
                    }
                    put_hex(out, *b);
                }
            }
            HEX => {
                let len = usize::from(self.byte()?);
                self.take(len)?.iter().for_each(|b| put_hex(out, *b));
            }
            TIME => {
                let zigzag = self.varint()?;
                let digits = self.byte()?;
                let fraction = self.varint()?;
                put_time(out, (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64), digits, fraction)?;
            }
            TEXT => {
                let len = usize::try_from(self.varint()?).map_err(|_| Unpackable)?;
                out.extend_from_slice(self.take(len)?);
            }
            WORD.. => out.extend_from_slice(WORDS.get(usize::from(tag - WORD)).ok_or(Unpackable)?.as_bytes()),
            _ => return Err(Unpackable),
        }
        out.push(b'"');
        Ok(())
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_hex(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// `value` with the point before its last `after` digits.
fn put_decimal(out: &mut Vec<u8>, mut value: u64, after: usize, negative: bool) {
    let mut digits = [b'0'; 160];
    let (mut at, mut written) = (digits.len(), 0);
    while value > 0 || written <= after {
        if after > 0 && written == after {
            at -= 1;
            digits[at] = b'.';
        }
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        written += 1;
    }
    if negative {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn as_uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 || [8, 13, 18, 23].iter().any(|i| text[*i] != b'-') {
        return None;
    }
    let mut digits = text.iter().enumerate().filter(|(i, _)| !matches!(i, 8 | 13 | 18 | 23)).map(|(_, b)| nibble(*b));
    let mut id = [0; 16];
    for byte in &mut id {
        *byte = digits.next()?? << 4 | digits.next()??;
    }
    Some(id)
}

fn as_hex(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !(8..=510).contains(&text.len()) {
        return None;
    }
    text.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

/// Seconds since 1970, digits of the fraction, the fraction as an integer; None unless [`put_time`] writes the very same text.
fn as_time(text: &[u8]) -> Option<(i64, u8, u64)> {
    if !(20..=30).contains(&text.len()) || text[10] != b'T' || text.last() != Some(&b'Z') {
        return None;
    }
    let number =
        |from: usize, to: usize| text[from..to].iter().try_fold(0i64, |v, b| b.is_ascii_digit().then(|| v * 10 + i64::from(b - b'0')));
    let days = days_of(number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let seconds = days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let digits = text.len().saturating_sub(21);
    let fraction = if digits == 0 { 0 } else { number(20, text.len() - 1)? };
    let mut again = Vec::with_capacity(30);
    put_time(&mut again, seconds, digits as u8, fraction as u64).ok()?;
    (again == text).then_some((seconds, digits as u8, fraction as u64))
}

/// Years 0 to 9999, as RFC 3339 has them.
fn put_time(out: &mut Vec<u8>, seconds: i64, digits: u8, fraction: u64) -> Result<(), Unpackable> {
    use std::io::Write;
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    if !(-719_528..=2_932_896).contains(&days) || digits > 9 {
        return Err(Unpackable);
    }
    let (year, month, day) = date_of(days);
    write!(out, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60).map_err(|_| Unpackable)?;
    if digits > 0 {
        write!(out, ".{fraction:0width$}", width = usize::from(digits)).map_err(|_| Unpackable)?;
    }
    out.push(b'Z');
    Ok(())
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_of`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z - era * 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests;

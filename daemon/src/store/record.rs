//! One row as bytes: what sled and the journal both hold.
//!
//! ```text
//! byte 0      version of the row format
//! bytes 1..5  CRC-32 (IEEE) of the rest, little endian
//! bytes 5..   version 1: the row as JSON; version 2: the same JSON, packed (`pack.rs`)
//! ```
//!
//! Rows are written as version 2 and read in either; a row of version 1 becomes one of version 2 when it is next written, and a
//! snapshot of the journal turns over all that are left (`upgraded`). JSON underneath, because a technician's export and the next
//! version's migration can both read it; the CRC, because a zeroed block under sled reads as a row of zeros and not as an error
//! (docs/decisions/0001).

use std::borrow::Cow;

use serde::{Serialize, de::DeserializeOwned};

use super::pack;

const JSON: u8 = 1;
const PACKED: u8 = 2;
/// No record: in sled's rows several of them begin so (`blocks.rs`).
pub const BLOCK: u8 = 3;
const HEADER: usize = 5;

#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    #[error("a row is shorter than its header")]
    Short,
    #[error("a row has format {0}; this program reads {JSON} and {PACKED}: it was written by a newer irisd")]
    Version(u8),
    #[error("a row's checksum is wrong")]
    Checksum,
    #[error("a row does not unpack")]
    Packing,
    #[error("a row does not parse: {0}")]
    Json(#[from] serde_json::Error),
}

pub fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>, BadRecord> {
    Ok(framed(&serde_json::to_vec(row)?))
}

fn framed(json: &[u8]) -> Vec<u8> {
    // What does not pack is kept as it is: no row is refused for its looks.
    let (version, body) = pack::pack(json).map_or((JSON, Cow::Borrowed(json)), |packed| (PACKED, Cow::Owned(packed)));
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.push(version);
    out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    out.extend_from_slice(&body);
    out
}

/// Whether these are the bytes that were written, without a look inside.
pub fn check(bytes: &[u8]) -> Result<(), BadRecord> {
    body(bytes).map(|_| ())
}

fn body(bytes: &[u8]) -> Result<(u8, &[u8]), BadRecord> {
    let (head, body) = bytes.split_at_checked(HEADER).ok_or(BadRecord::Short)?;
    if !matches!(head[0], JSON | PACKED) {
        return Err(BadRecord::Version(head[0]));
    }
    if head[1..] != crc32fast::hash(body).to_le_bytes() {
        return Err(BadRecord::Checksum);
    }
    Ok((head[0], body))
}

/// The JSON inside, checked.
fn json(bytes: &[u8]) -> Result<Cow<'_, [u8]>, BadRecord> {
    let (version, body) = body(bytes)?;
    if version == JSON {
        return Ok(Cow::Borrowed(body));
    }
    let mut text = Vec::with_capacity(body.len() * 4);
    pack::unpack(body, &mut text).map_err(|_| BadRecord::Packing)?;
    Ok(Cow::Owned(text))
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadRecord> {
    Ok(serde_json::from_slice(&json(bytes)?)?)
}

/// Whether this begins as a record does.
pub fn is_record(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(&(JSON | PACKED)))
}

pub fn is_newest(bytes: &[u8]) -> bool {
    bytes.first() != Some(&JSON)
}

/// The row in the newest format; None where it is already. Damaged rows are left as they are, for those who check them.
pub fn upgraded(bytes: &[u8]) -> Option<Vec<u8>> {
    if is_newest(bytes) {
        return None;
    }
    Some(framed(&json(bytes).ok()?)).filter(|new| new[0] != JSON)
}

/// A row as the first version of the program wrote it.
#[cfg(test)]
pub fn encode_v1<T: Serialize>(row: &T) -> Vec<u8> {
    let body = serde_json::to_vec(row).expect("serialises");
    [&[JSON][..], &crc32fast::hash(&body).to_le_bytes(), &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_and_any_flipped_bit_is_seen() {
        for bytes in [encode(&("photo", 7)).expect("encodes"), encode_v1(&("photo", 7))] {
            assert_eq!(decode::<(String, i32)>(&bytes).expect("decodes"), ("photo".to_owned(), 7));
            for i in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[i] ^= 4;
                assert!(decode::<(String, i32)>(&bad).is_err(), "a flip in byte {i} went unseen");
            }
        }
        assert!(decode::<(String, i32)>(&[0; 64]).is_err(), "zeros pass for a row");
    }

    #[test]
    fn a_row_of_the_first_format_is_read_and_becomes_one_of_the_second() {
        let old = encode_v1(&("photo", 7));
        let new = upgraded(&old).expect("there is a newer format");
        assert_eq!(new, encode(&("photo", 7)).expect("encodes"));
        assert_eq!(upgraded(&new), None);
        assert!(matches!(decode::<(String, i32)>(&[3, 0, 0, 0, 0, 0]), Err(BadRecord::Version(3))));
    }
}

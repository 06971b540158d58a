//! One row as bytes: what sled and the journal both hold.
//!
//! ```text
//! byte 0      version of the row format (1)
//! bytes 1..5  CRC-32 (IEEE) of the rest, little endian
//! bytes 5..   the row as JSON
//! ```
//!
//! JSON, because a technician's export and the next version's migration can both read it; the CRC, because a zeroed block under
//! sled reads as a row of zeros and not as an error (docs/decisions/0001).

use serde::{Serialize, de::DeserializeOwned};

const VERSION: u8 = 1;
const HEADER: usize = 5;

#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    #[error("a row is shorter than its header")]
    Short,
    #[error("a row has format {0}; this program reads {VERSION}")]
    Version(u8),
    #[error("a row's checksum is wrong")]
    Checksum,
    #[error("a row does not parse: {0}")]
    Json(#[from] serde_json::Error),
}

pub fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>, BadRecord> {
    let mut out = vec![VERSION, 0, 0, 0, 0];
    serde_json::to_writer(&mut out, row)?;
    let crc = crc32fast::hash(&out[HEADER..]);
    out[1..HEADER].copy_from_slice(&crc.to_le_bytes());
    Ok(out)
}

/// The JSON inside, checked.
pub fn body(bytes: &[u8]) -> Result<&[u8], BadRecord> {
    let (head, body) = bytes.split_at_checked(HEADER).ok_or(BadRecord::Short)?;
    if head[0] != VERSION {
        return Err(BadRecord::Version(head[0]));
    }
    if head[1..] != crc32fast::hash(body).to_le_bytes() {
        return Err(BadRecord::Checksum);
    }
    Ok(body)
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadRecord> {
    Ok(serde_json::from_slice(body(bytes)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_and_any_flipped_bit_is_seen() {
        let bytes = encode(&("photo", 7)).expect("encodes");
        assert_eq!(decode::<(String, i32)>(&bytes).expect("decodes"), ("photo".to_owned(), 7));
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 4;
            assert!(decode::<(String, i32)>(&bad).is_err(), "a flip in byte {i} went unseen");
        }
        assert!(decode::<(String, i32)>(&[0; 64]).is_err(), "zeros pass for a row");
    }
}

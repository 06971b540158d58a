//! A photo as it was received.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::{PhotoId, Seq, Sha256, UserId};

/// The three formats that the door takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImageFormat {
    #[serde(rename = "image/jpeg")]
    Jpeg,
    #[serde(rename = "image/png")]
    Png,
    #[serde(rename = "image/webp")]
    Webp,
}

impl ImageFormat {
    pub const fn mime(self) -> &'static str {
        match self {
            ImageFormat::Jpeg => "image/jpeg",
            ImageFormat::Png => "image/png",
            ImageFormat::Webp => "image/webp",
        }
    }

    /// File ending, without the dot; part of the S3 key of the original.
    pub const fn extension(self) -> &'static str {
        match self {
            ImageFormat::Jpeg => "jpg",
            ImageFormat::Png => "png",
            ImageFormat::Webp => "webp",
        }
    }

    /// By the first bytes of the file (magic numbers), never by its name or the sender's word.
    pub fn sniff(head: &[u8]) -> Option<Self> {
        match head {
            [0xFF, 0xD8, 0xFF, ..] => Some(ImageFormat::Jpeg),
            [0x89, b'P', b'N', b'G', 0x0D, 0x0A, 0x1A, 0x0A, ..] => Some(ImageFormat::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(ImageFormat::Webp),
            _ => None,
        }
    }
}

/// Where a photo came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Upload,
    Camera,
    Folder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Eye {
    Left,
    Right,
}

/// The clinic's own words about a photo or job; opaque to us, never on MQTT nor in logs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClientInfo {
    /// At most [`MAX_CLIENT_REF`] characters.
    #[serde(default)]
    pub client_ref: Option<String>,
    #[serde(default)]
    pub eye: Option<Eye>,
    #[serde(default)]
    pub captured_at: Option<Timestamp>,
}

impl ClientInfo {
    /// These words, and where nothing was said, the others.
    pub fn filled_by(self, other: Self) -> Self {
        Self {
            client_ref: self.client_ref.or(other.client_ref),
            eye: self.eye.or(other.eye),
            captured_at: self.captured_at.or(other.captured_at),
        }
    }
}

/// Longest `client_ref`, characters (contract).
pub const MAX_CLIENT_REF: usize = 128;

/// A photo row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Photo {
    pub id: PhotoId,
    pub seq: Seq,
    pub user_id: UserId,
    pub sha256: Sha256,
    pub bytes: u64,
    /// Upright (EXIF orientation applied), px.
    pub width: u32,
    pub height: u32,
    pub content_type: ImageFormat,
    pub source: Source,
    #[serde(flatten)]
    pub client: ClientInfo,
    pub received_at: Timestamp,
    /// The original still lies in `blobs/`.
    pub on_disk: bool,
    /// The bucket vouched for the original's bytes.
    pub uploaded: bool,
}

impl Photo {
    pub fn megapixels(&self) -> f64 {
        f64::from(self.width) * f64::from(self.height) / 1e6
    }

    /// Key of the original in the bucket.
    pub fn s3_key(&self) -> String {
        format!("photos/{}/{}.{}", self.user_id, self.id, self.content_type.extension())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_file_named_jpg_is_no_image() {
        assert_eq!(ImageFormat::sniff(b"hello, I am a photo"), None);
        assert_eq!(ImageFormat::sniff(b""), None);
        assert_eq!(ImageFormat::sniff(&[0xFF, 0xD8, 0xFF, 0xE0]), Some(ImageFormat::Jpeg));
    }
}

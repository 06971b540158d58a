//! Identifiers. Each is parsed once at the door and trusted from then on.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {0}")]
pub struct BadId(pub &'static str);

/// A photo, as this device knows it: one row, one owner. UUID v7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PhotoId(pub Uuid);

/// One run of the pipeline over one photo. UUID v7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

impl fmt::Display for PhotoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PhotoId {
    type Err = BadId;
    fn from_str(s: &str) -> Result<Self, BadId> {
        Uuid::try_parse(s).map(Self).map_err(|_| BadId("photo id"))
    }
}

impl FromStr for JobId {
    type Err = BadId;
    fn from_str(s: &str) -> Result<Self, BadId> {
        Uuid::try_parse(s).map(Self).map_err(|_| BadId("job id"))
    }
}

/// The owner of photos and jobs: `[a-z0-9._-]{1,64}`. It becomes part of S3 keys, hence the narrow alphabet; `.` and `..` are refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(String);

impl UserId {
    /// The owner in open mode, and of cameras and MQTT commands unless configured otherwise.
    pub fn local() -> Self {
        Self("local".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UserId {
    type Error = BadId;
    fn try_from(s: String) -> Result<Self, BadId> {
        let fits = (1..=64).contains(&s.len()) && s.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
        if fits && s != "." && s != ".." { Ok(Self(s)) } else { Err(BadId("owner name ([a-z0-9._-], 1 to 64 characters)")) }
    }
}

impl FromStr for UserId {
    type Err = BadId;
    fn from_str(s: &str) -> Result<Self, BadId> {
        Self::try_from(s.to_owned())
    }
}

impl From<UserId> for String {
    fn from(u: UserId) -> String {
        u.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 of a file's bytes; lower-case hex in JSON and file names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({})", &hex::encode(self.0)[..12])
    }
}

impl FromStr for Sha256 {
    type Err = BadId;
    fn from_str(s: &str) -> Result<Self, BadId> {
        let mut out = [0u8; 32];
        hex::decode_to_slice(s, &mut out).map_err(|_| BadId("sha256"))?;
        Ok(Self(out))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = BadId;
    fn try_from(s: String) -> Result<Self, BadId> {
        s.parse()
    }
}

impl From<Sha256> for String {
    fn from(s: Sha256) -> String {
        s.to_string()
    }
}

/// A place in the device's one stored order: jobs, photos and events are sorted by it, never by a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_name_cannot_leave_its_folder_or_bucket_prefix() {
        for bad in ["", ".", "..", "a/b", "A", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<UserId>().is_err(), "{bad:?} was taken");
        }
        for good in ["local", "kiosk-1", "a.b_c", &"x".repeat(64)] {
            assert!(good.parse::<UserId>().is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn a_sha256_survives_json() {
        let s = Sha256([7; 32]);
        let text = serde_json::to_string(&s).expect("serialises");
        assert_eq!(serde_json::from_str::<Sha256>(&text).expect("parses"), s);
    }
}

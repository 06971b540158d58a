//! Sizes and times as people write them: `"512MiB"`, `"30s"`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A number of bytes: "64MiB", "2GB", "4096".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub u64);

impl Bytes {
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
}

impl FromStr for Bytes {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        s.parse::<bytesize::ByteSize>().map(|b| Self(b.0)).map_err(|_| format!("{s:?} is not a size; write it as \"512MiB\""))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1 << 30 && n % (1 << 30) == 0 => write!(f, "{}GiB", n >> 30),
            n if n >= 1 << 20 && n % (1 << 20) == 0 => write!(f, "{}MiB", n >> 20),
            n if n >= 1 << 10 && n % (1 << 10) == 0 => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}B"),
        }
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;
    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<Bytes> for String {
    fn from(b: Bytes) -> String {
        b.to_string()
    }
}

/// A length of time: "30s", "15m", "500ms", "1h 30m".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl Span {
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
    pub const fn minutes(n: u64) -> Self {
        Self(Duration::from_secs(n * 60))
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        humantime::parse_duration(s).map(Self).map_err(|_| format!("{s:?} is not a length of time; write it as \"30s\""))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_secs(), self.0.subsec_millis()) {
            (s, 0) if s != 0 && s % 3600 == 0 => write!(f, "{}h", s / 3600),
            (s, 0) if s != 0 && s % 60 == 0 => write!(f, "{}m", s / 60),
            (s, 0) => write!(f, "{s}s"),
            _ => write!(f, "{}ms", self.0.as_millis()),
        }
    }
}

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<Span> for String {
    fn from(s: Span) -> String {
        s.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_as_people_write_them_and_come_back_the_same() {
        for (text, bytes) in [("512MiB", 512 << 20), ("1GiB", 1 << 30), ("0B", 0), ("100B", 100)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        for (text, ms) in [("30s", 30_000), ("15m", 900_000), ("500ms", 500), ("24h", 86_400_000), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(Span::millis(ms)));
            assert_eq!(Span::millis(ms).to_string(), text);
        }
        assert!("fast".parse::<Span>().is_err() && "much".parse::<Bytes>().is_err());
    }
}

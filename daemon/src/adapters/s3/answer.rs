//! What an S3 server's answer means, and how fast and how long we send: pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::ports::ObjectStoreError;

/// Names a failed request by its status and the server's own code. The server's text stays out: it can repeat the request's headers.
pub fn classify(status: u16, body: &str) -> ObjectStoreError {
    let code = element(body, "Code").unwrap_or_default();
    let said = if code.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status} {code}") };
    match (status, code.as_str()) {
        // The bytes were damaged on the way: the server compared them with what was signed.
        (_, "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch") => {
            ObjectStoreError::Mismatch(said)
        }
        // A code of the moment, whatever its status; also inside the 200 of a CompleteMultipartUpload.
        (_, "RequestTimeout" | "IncompleteBody" | "SlowDown" | "InternalError" | "ServiceUnavailable" | "NoSuchUpload" | "InvalidPart") => {
            ObjectStoreError::Unreachable(said)
        }
        (408 | 409 | 425 | 429 | 500.., _) => ObjectStoreError::Unreachable(said),
        (300..=399, _) => ObjectStoreError::Denied(format!("{said}: the bucket lives at another endpoint or in another region")),
        _ => ObjectStoreError::Denied(said),
    }
}

/// The server does not know `x-amz-checksum-sha256` (some compatible servers refuse what they do not know).
pub fn refuses_checksums(status: u16, body: &str) -> bool {
    status == 501
        || (status == 400 && body.to_ascii_lowercase().contains("checksum") && element(body, "Code").as_deref() != Some("BadDigest"))
}

/// Clocks that differ by less than this agree: no server refuses for it (AWS allows 15 min), and the network and the Date header's whole
/// seconds make such differences.
const NOTABLE: SignedDuration = SignedDuration::from_secs(60);

/// The server's clock, where its difference to `ours` (the time we would sign with now) is why it refuses.
pub fn server_time(status: u16, date: Option<&str>, ours: Timestamp) -> Option<Timestamp> {
    if !matches!(status, 400 | 401 | 403) {
        return None;
    }
    let server = jiff::fmt::rfc2822::parse(date?).ok()?.timestamp();
    (server.duration_since(ours).abs() > NOTABLE).then_some(server)
}

/// What all clocks showed when the server told its own.
#[derive(Debug, Clone, Copy)]
pub struct ServerTime {
    pub server: Timestamp,
    pub wall: Timestamp,
    pub mono: Duration,
}

impl ServerTime {
    /// The server's clock now. None once our wall clock was set (it jumped against the monotonic one): who set it knew better, and the
    /// next refusal teaches anew if not.
    pub fn at(&self, wall: Timestamp, mono: Duration) -> Option<Timestamp> {
        let passed = SignedDuration::try_from(mono.saturating_sub(self.mono)).ok()?;
        let jumped = wall.duration_since(self.wall).checked_sub(passed)?;
        if jumped.abs() > NOTABLE { None } else { self.server.checked_add(passed).ok() }
    }
}

/// Text of the first element of this name. S3's answers are flat, and we ask them for ids and codes alone: no XML parser for that.
pub fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.replace("&quot;", "\"").replace("&#34;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

/// An ETag without quotes and weak mark, lower case.
pub fn bare_etag(etag: &str) -> String {
    etag.trim().trim_start_matches("W/").trim_matches('"').to_ascii_lowercase()
}

/// Upload ids are opaque; in a query each byte beyond the unreserved ones is escaped (RFC 3986, 2.3).
pub fn escape(id: &str) -> String {
    id.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
        out
    })
}

/// Longest time for a request with this many bytes: a slow line is waited for, a server that never answers is not. A line that is
/// cut is noticed sooner, by TCP's own time-out.
pub fn time_limit(bytes: u64, max_rate: Option<u64>) -> Duration {
    /// Slower than this, bytes a second, counts as away.
    const SLOWEST: u64 = 16 << 10;
    let rate = max_rate.map_or(SLOWEST, |cap| (cap / 8).clamp(1, SLOWEST));
    Duration::from_secs(30 + bytes / rate)
}

/// A cap on bytes a second, shared by all uploads: each chunk books its time on the line.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub bytes_per_second: u64,
    /// When the line is free again.
    pub free_at: Duration,
}

impl Pace {
    /// How long to wait before these bytes may go.
    pub fn book(&mut self, now: Duration, bytes: usize) -> Duration {
        let start = self.free_at.max(now);
        self.free_at = start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.max(1) as f64);
        start - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_down_a_wrong_key_and_damaged_bytes_are_three_different_things() {
        let xml = |code: &str| format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>AKIA...</Message></Error>");
        assert!(matches!(classify(503, ""), ObjectStoreError::Unreachable(_)));
        assert!(matches!(classify(429, &xml("SlowDown")), ObjectStoreError::Unreachable(_)));
        assert!(matches!(classify(200, &xml("InternalError")), ObjectStoreError::Unreachable(_)));
        assert!(matches!(classify(403, &xml("SignatureDoesNotMatch")), ObjectStoreError::Denied(_)));
        assert!(matches!(classify(404, &xml("NoSuchBucket")), ObjectStoreError::Denied(_)));
        assert!(matches!(classify(307, ""), ObjectStoreError::Denied(_)));
        assert!(matches!(classify(400, &xml("BadDigest")), ObjectStoreError::Mismatch(_)));
        assert!(!classify(403, &xml("InvalidAccessKeyId")).to_string().contains("AKIA"), "the server's text is not repeated");
    }

    #[test]
    fn the_clock_is_learnt_only_from_a_refusal_by_a_server_whose_clock_really_differs() {
        let ours: Timestamp = "1970-01-01T00:10:00Z".parse().expect("a time");
        let date = Some("Sat, 01 Jan 2028 00:00:00 GMT");
        assert_eq!(server_time(403, date, ours).expect("learnt").to_string(), "2028-01-01T00:00:00Z");
        assert_eq!(server_time(200, date, ours), None);
        assert_eq!(server_time(403, None, ours), None);
        assert_eq!(server_time(403, Some("Thu, 01 Jan 1970 00:10:30 GMT"), ours), None);
    }

    #[test]
    fn a_learnt_time_runs_with_the_monotonic_clock_and_ends_when_the_wall_clock_is_set() {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        let learnt =
            ServerTime { server: time("2028-01-01T00:00:00Z"), wall: time("1970-01-01T00:10:00Z"), mono: Duration::from_secs(600) };
        let later = Duration::from_secs(600 + 7200);
        assert_eq!(learnt.at(time("1970-01-01T02:10:00Z"), later), Some(time("2028-01-01T02:00:00Z")));
        // Slewed, not set.
        assert_eq!(learnt.at(time("1970-01-01T02:10:30Z"), later), Some(time("2028-01-01T02:00:00Z")));
        // NTP sets the clock: to the server's own time, or back by a few minutes.
        for set in ["2028-01-01T02:00:00Z", "1970-01-01T02:05:00Z"] {
            assert_eq!(learnt.at(time(set), later), None, "{set}");
        }
    }

    #[test]
    fn elements_are_found_and_unescaped() {
        assert_eq!(element("<R><Key>a</Key><UploadId>1&amp;2</UploadId></R>", "UploadId").as_deref(), Some("1&2"));
        assert_eq!(element("<ETag>&quot;AB-2&quot;</ETag>", "ETag").map(|e| bare_etag(&e)).as_deref(), Some("ab-2"));
        assert_eq!(element("<Code>cut", "Code"), None);
        assert_eq!(escape("a+b/c=~"), "a%2Bb%2Fc%3D~");
    }

    #[test]
    fn a_rate_cap_spreads_the_chunks_and_does_not_save_up_idle_time() {
        let mut pace = Pace { bytes_per_second: 1000, free_at: Duration::ZERO };
        assert_eq!(pace.book(Duration::ZERO, 500), Duration::ZERO);
        assert_eq!(pace.book(Duration::ZERO, 500), Duration::from_millis(500));
        assert_eq!(pace.book(Duration::from_secs(60), 500), Duration::ZERO, "an idle minute is not made up for");
        assert_eq!(pace.book(Duration::from_secs(60), 500), Duration::from_millis(500));
    }

    #[test]
    fn the_time_limit_grows_with_the_bytes_and_with_a_slow_cap() {
        assert_eq!(time_limit(0, None), Duration::from_secs(30));
        assert!(time_limit(8 << 20, None) > Duration::from_secs(500));
        assert!(time_limit(8 << 20, Some(8 << 10)) > time_limit(8 << 20, None));
    }
}

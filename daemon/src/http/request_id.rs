//! A name for each request: in every answer (`x-request-id`), in every problem, in the log. What a caller brings is taken when it is
//! harmless in a log line, so that a proxy's id runs through.

use axum::http::HeaderMap;

pub const HEADER: &str = "x-request-id";

/// Longest id that is taken from a caller, characters.
const MAX_LEN: usize = 64;

tokio::task_local! {
    /// Set around each request's future by `layers::around`.
    pub static CURRENT: String;
}

/// The id of the request that this task serves; empty outside one.
pub fn current() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

pub fn choose(headers: &HeaderMap) -> String {
    let harmless = |s: &&str| (1..=MAX_LEN).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    match headers.get(HEADER).and_then(|v| v.to_str().ok()).filter(harmless) {
        Some(id) => id.to_owned(),
        None => uuid::Uuid::now_v7().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_id_is_taken_unless_it_could_hurt_a_log() {
        let with = |v: &str| HeaderMap::from_iter([(HEADER.parse().expect("a name"), v.parse().expect("a value"))]);
        assert_eq!(choose(&with("req-1.a_B")), "req-1.a_B");
        assert_ne!(choose(&with("a b")), "a b");
        assert_ne!(choose(&with(&"x".repeat(65))).len(), 65);
        assert_eq!(choose(&HeaderMap::new()).len(), 36);
    }
}

//! Cookies for browsers, which cannot set headers on EventSource, WebSocket and images.
//!
//! A session is a random name in memory that points to a token's id, never to the token. It ends with the daemon, with the token's
//! revocation (asked at each use), after [`LIFETIME`] without use, or with `DELETE /session`.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

pub const COOKIE: &str = "irisd_session";

/// A working day at a kiosk, unused.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// More browsers than any clinic has; the one that was idle longest makes room.
const MAX_SESSIONS: usize = 1024;

/// A cookie's value: as good as a token, so it is not printed.
#[derive(Clone)]
pub struct Name(String);

impl Name {
    pub fn new(value: &str) -> Self {
        Self(value.to_owned())
    }

    pub fn value(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Name(...)")
    }
}

struct Session {
    token_id: String,
    /// Monotonic.
    used: Duration,
}

#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Session>>);

impl Sessions {
    /// The cookie's value. `now` is monotonic here and below.
    pub fn begin(&self, token_id: &str, now: Duration) -> Result<String, getrandom::Error> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes)?;
        let name = URL_SAFE_NO_PAD.encode(bytes);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, s| now.saturating_sub(s.used) < LIFETIME);
        if all.len() >= MAX_SESSIONS
            && let Some(oldest) = all.iter().min_by_key(|(_, s)| s.used).map(|(name, _)| name.clone())
        {
            all.remove(&oldest);
        }
        all.insert(name.clone(), Session { token_id: token_id.to_owned(), used: now });
        Ok(name)
    }

    /// The id of the token behind a cookie.
    pub fn token_id(&self, cookie: &str, now: Duration) -> Option<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = all.get_mut(cookie).filter(|s| now.saturating_sub(s.used) < LIFETIME)?;
        session.used = now;
        Some(session.token_id.clone())
    }

    pub fn end(&self, cookie: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(cookie);
    }
}

/// The session cookie among a `Cookie` header's.
pub fn from_header(header: &str) -> Option<&str> {
    header.split(';').filter_map(|c| c.trim().split_once('=')).find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(100);

    #[test]
    fn a_session_lives_while_it_is_used_and_ends_when_told_or_forgotten() {
        let sessions = Sessions::default();
        let cookie = sessions.begin("tok", T0).expect("random");
        assert_eq!(sessions.token_id(&cookie, T0 + LIFETIME / 2).as_deref(), Some("tok"));
        assert_eq!(sessions.token_id(&cookie, T0 + LIFETIME).as_deref(), Some("tok"), "its use prolonged it");
        assert_eq!(sessions.token_id(&cookie, T0 + LIFETIME * 3), None);
        let cookie = sessions.begin("tok", T0).expect("random");
        sessions.end(&cookie);
        assert_eq!(sessions.token_id(&cookie, T0), None);
    }

    #[test]
    fn the_number_of_sessions_is_bounded_and_the_oldest_goes_first() {
        let sessions = Sessions::default();
        let first = sessions.begin("first", T0).expect("random");
        for n in 0..MAX_SESSIONS {
            sessions.begin("tok", T0 + Duration::from_secs(1 + n as u64)).expect("random");
        }
        assert_eq!(sessions.0.lock().expect("not poisoned").len(), MAX_SESSIONS);
        assert_eq!(sessions.token_id(&first, T0), None);
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        assert_eq!(from_header("a=b; irisd_session=xyz; c=d"), Some("xyz"));
        assert_eq!(from_header("xirisd_session=xyz"), None);
    }
}

//! Who may do what: tokens with scopes, cookies for browsers, Host and Origin, signed links.
//!
//! A handler says in its arguments what it needs, so that it cannot be forgotten and comes before anything is looked up (401, then 403,
//! then 404):
//!
//! - [`Caller`]: any scope, reads;
//! - [`Writer`]: kiosk or admin, changes something.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use serde::{Deserialize, Serialize};

use self::{sessions::Sessions, tokens::Tokens};
use super::{
    Api,
    error::{ApiError, ApiResult, Kind},
};
use crate::{config::AuthMode, domain::ids::UserId, ports::Clock};

pub mod sessions;
pub mod signer;
pub mod site;
pub mod tokens;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Own photos and jobs, capture.
    Kiosk,
    /// Reads everything, changes nothing.
    Viewer,
    Admin,
}

impl std::str::FromStr for Scope {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "kiosk" => Ok(Scope::Kiosk),
            "viewer" => Ok(Scope::Viewer),
            "admin" => Ok(Scope::Admin),
            _ => Err(format!("{s:?} is not a scope; it is kiosk, viewer or admin")),
        }
    }
}

/// Somebody who was let in.
#[derive(Debug, Clone)]
pub struct Caller {
    pub user: UserId,
    pub scope: Scope,
    /// None in open mode.
    pub token_id: Option<String>,
    /// The cookie by which a browser came.
    pub session: Option<sessions::Name>,
}

impl Caller {
    /// Kiosks see their own alone.
    pub fn may_see(&self, owner: &UserId) -> bool {
        self.scope != Scope::Kiosk || self.user == *owner
    }

    /// What lists are narrowed to; None: everybody's.
    pub fn only(&self) -> Option<UserId> {
        (self.scope == Scope::Kiosk).then(|| self.user.clone())
    }
}

/// A caller who may change things.
#[derive(Debug, Clone)]
pub struct Writer(pub Caller);

/// The doorkeeper.
pub struct Door {
    pub mode: AuthMode,
    pub tokens: Arc<Tokens>,
    pub sessions: Sessions,
    pub clock: Arc<dyn Clock>,
}

impl Door {
    pub fn admit(&self, headers: &HeaderMap) -> ApiResult<Caller> {
        if self.mode == AuthMode::Open {
            return Ok(Caller { user: UserId::local(), scope: Scope::Admin, token_id: None, session: None });
        }
        let (bearer, cookie) = (bearer(headers), cookie(headers));
        let row = match (bearer, cookie) {
            (Some(token), _) => self.tokens.check(token),
            (None, Some(cookie)) => self.sessions.token_id(cookie, self.clock.mono()).and_then(|id| self.tokens.by_id(&id)),
            (None, None) => return Err(ApiError::new(Kind::Unauthorized, "there is no Authorization header and no session cookie")),
        };
        let session = cookie.filter(|_| bearer.is_none()).map(sessions::Name::new);
        row.map(|r| Caller { user: r.owner, scope: r.scope, token_id: Some(r.id), session })
            .ok_or_else(|| ApiError::new(Kind::Unauthorized, "the token or session is unknown, ended or revoked"))
    }

    /// Asked again by what stays open for long: the token may have been revoked since, or the session ended. Counts as a use of the session.
    pub fn still_admits(&self, caller: &Caller) -> bool {
        let signed_in = |name: &sessions::Name| self.sessions.token_id(name.value(), self.clock.mono()).is_some();
        caller.token_id.as_ref().is_none_or(|id| self.tokens.by_id(id).is_some()) && caller.session.as_ref().is_none_or(signed_in)
    }
}

pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok()).find_map(sessions::from_header)
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> ApiResult<Self> {
        api.door.admit(&parts.headers)
    }
}

impl FromRequestParts<Arc<Api>> for Writer {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> ApiResult<Self> {
        let caller = api.door.admit(&parts.headers)?;
        match caller.scope {
            Scope::Kiosk | Scope::Admin => Ok(Writer(caller)),
            Scope::Viewer => Err(ApiError::new(Kind::Forbidden, "this needs scope kiosk or admin; the token has viewer, which only reads")),
        }
    }
}

/// Writes a file that only we may read: whole or not at all, on the platter when this returns.
fn private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let tmp = path.with_extension(format!("tmp.{}", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&tmp, path)?;
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    struct Still;
    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
        fn mono(&self) -> std::time::Duration {
            std::time::Duration::from_secs(1)
        }
    }

    fn door(mode: AuthMode, dir: &tempfile::TempDir) -> Door {
        let tokens = Arc::new(Tokens::open(dir.path()).expect("opens"));
        Door { mode, tokens, sessions: Sessions::default(), clock: Arc::new(Still) }
    }

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().expect("a value"))])
    }

    #[test]
    fn a_cookie_lets_in_until_its_token_is_revoked() {
        let dir = tempfile::tempdir().expect("a folder");
        let door = door(AuthMode::Token, &dir);
        let new = door.tokens.create("a".parse().expect("a name"), Scope::Viewer, Timestamp::UNIX_EPOCH).expect("made");
        let caller = door.admit(&headers(header::AUTHORIZATION, &format!("bearer {}", new.token))).expect("let in");
        assert_eq!(caller.scope, Scope::Viewer);
        let cookie = door.sessions.begin(&new.id, door.clock.mono()).expect("random");
        let jar = headers(header::COOKIE, &format!("x=1; irisd_session={cookie}"));
        assert!(door.admit(&jar).is_ok());
        door.tokens.revoke(&new.id).expect("revoked");
        assert_eq!(door.admit(&jar).expect_err("refused").kind(), Kind::Unauthorized);
        assert!(!door.still_admits(&caller));
    }

    #[test]
    fn what_a_browser_has_open_ends_with_its_session_and_not_with_another() {
        let dir = tempfile::tempdir().expect("a folder");
        let door = door(AuthMode::Token, &dir);
        let new = door.tokens.create("a".parse().expect("a name"), Scope::Viewer, Timestamp::UNIX_EPOCH).expect("made");
        let [mine, other] = [(), ()].map(|()| door.sessions.begin(&new.id, door.clock.mono()).expect("random"));
        let caller = door.admit(&headers(header::COOKIE, &format!("irisd_session={mine}"))).expect("let in");
        assert!(!format!("{caller:?}").contains(&mine), "a cookie is a secret");
        door.sessions.end(&other);
        assert!(door.still_admits(&caller));
        door.sessions.end(&mine);
        assert!(!door.still_admits(&caller));
    }

    #[test]
    fn nobody_gets_in_without_a_token_and_everybody_is_the_local_admin_in_open_mode() {
        let dir = tempfile::tempdir().expect("a folder");
        for h in [
            HeaderMap::new(),
            headers(header::AUTHORIZATION, "Bearer "),
            headers(header::AUTHORIZATION, "Basic eA=="),
            headers(header::COOKIE, "irisd_session=x"),
        ] {
            assert_eq!(door(AuthMode::Token, &dir).admit(&h).expect_err("refused").kind(), Kind::Unauthorized);
        }
        let caller = door(AuthMode::Open, &dir).admit(&HeaderMap::new()).expect("let in");
        assert_eq!((caller.user, caller.scope), (UserId::local(), Scope::Admin));
    }

    #[test]
    fn a_kiosk_sees_its_own_and_viewer_and_admin_see_everybodys() {
        let (me, other): (UserId, UserId) = ("me".parse().expect("a name"), "other".parse().expect("a name"));
        for (scope, sees_other) in [(Scope::Kiosk, false), (Scope::Viewer, true), (Scope::Admin, true)] {
            let caller = Caller { user: me.clone(), scope, token_id: None, session: None };
            assert!(caller.may_see(&me));
            assert_eq!(caller.may_see(&other), sees_other);
            assert_eq!(caller.only().is_none(), sees_other);
        }
    }
}

//! Bearer tokens: `<state>/tokens.toml` holds their SHA-256 only, never themselves.
//!
//! The daemon and `irisd token` both write it, under an flock on `tokens.lock`, as a new file that is renamed into place. The daemon looks at
//! the file's identity (inode, length, time) before each check and reads it again when it changed: a new token counts at once, and
//! so does its revocation. A file that cannot be read lets nobody in: a revoked token must not come back through a typing error.
//!
//! A token is `irisd_` and 32 random bytes in base64url. 256 bits cannot be guessed, so an unsalted fast hash is enough.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use subtle::ConstantTimeEq;

use super::{Scope, private_file};
use crate::domain::{
    ids::{Sha256, UserId},
    time,
};

const FILE: &str = "tokens.toml";
const LOCK: &str = "tokens.lock";
const LOCAL: &str = "local.token";
const PREFIX: &str = "irisd_";

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("there is no token {0}")]
    Unknown(String),
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

/// A token's row, as `irisd token list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRow {
    /// 8 hex characters, to name it by.
    pub id: String,
    pub owner: UserId,
    pub scope: Scope,
    pub sha256: Sha256,
    #[serde(with = "time")]
    pub created_at: Timestamp,
}

/// A token that was just made; the only moment in which it can be read.
pub struct NewToken {
    pub id: String,
    pub token: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    token: Vec<TokenRow>,
}

/// Which file was read: inode, length, modification time in ns.
type Stamp = (u64, u64, i64, i64);

struct Cached {
    stamp: Option<Stamp>,
    rows: Arc<Vec<TokenRow>>,
}

pub struct Tokens {
    state: PathBuf,
    cached: Mutex<Cached>,
}

impl Tokens {
    /// Reads `<state>/tokens.toml`; a missing file is an empty one.
    pub fn open(state: &Path) -> Result<Self, TokenError> {
        let tokens = Self { state: state.to_owned(), cached: Mutex::new(Cached { stamp: None, rows: Arc::default() }) };
        tokens.read()?;
        Ok(tokens)
    }

    /// Who holds this token.
    pub fn check(&self, token: &str) -> Option<TokenRow> {
        let hash = hash(token);
        // Every row is compared, in constant time: how long a refusal takes tells nothing.
        self.rows().iter().fold(None, |found, row| if bool::from(row.sha256.0.ct_eq(&hash.0)) { Some(row.clone()) } else { found })
    }

    /// The row of a token that was checked before, unless it was revoked since.
    pub fn by_id(&self, id: &str) -> Option<TokenRow> {
        self.rows().iter().find(|r| r.id == id).cloned()
    }

    pub fn list(&self) -> Result<Vec<TokenRow>, TokenError> {
        self.read()
    }

    pub fn create(&self, owner: UserId, scope: Scope, now: Timestamp) -> Result<NewToken, TokenError> {
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random::<32>()?));
        let id = hex::encode(random::<4>()?);
        let row = TokenRow { id: id.clone(), owner, scope, sha256: hash(&token), created_at: now };
        self.change(|rows| {
            rows.push(row);
            Ok(())
        })?;
        Ok(NewToken { id, token })
    }

    pub fn revoke(&self, id: &str) -> Result<(), TokenError> {
        self.change(|rows| {
            let before = rows.len();
            rows.retain(|r| r.id != id);
            if rows.len() == before { Err(TokenError::Unknown(id.to_owned())) } else { Ok(()) }
        })
    }

    /// The admin token of this machine's own commands, `<state>/local.token` (0600). Made at the first start, and made anew when it was
    /// revoked or lost: who can read the state folder is at home here anyway.
    pub fn ensure_local(&self, now: Timestamp) -> Result<(), TokenError> {
        let path = self.state.join(LOCAL);
        let known = fs::read_to_string(&path).ok().and_then(|t| self.check(t.trim()));
        if known.is_some_and(|row| row.scope == Scope::Admin) {
            return Ok(());
        }
        let new = self.create(UserId::local(), Scope::Admin, now)?;
        private_file(&path, new.token.as_bytes()).map_err(|source| TokenError::Io { path, source })
    }

    /// The rows as they stand now; none when the file cannot be read.
    fn rows(&self) -> Arc<Vec<TokenRow>> {
        let stamp = stamp(&self.path());
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.stamp != stamp {
            let rows = self.read().unwrap_or_else(|e| {
                tracing::error!("no token is accepted: {e}");
                Vec::new()
            });
            *cached = Cached { stamp, rows: Arc::new(rows) };
        }
        cached.rows.clone()
    }

    fn read(&self) -> Result<Vec<TokenRow>, TokenError> {
        let path = self.path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(TokenError::Io { path, source }),
        };
        // The parser's message would quote the line, and with it a hash.
        toml::from_str::<File>(&text).map(|f| f.token).map_err(|e| TokenError::Damaged { path, reason: e.message().to_owned() })
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<TokenRow>) -> Result<(), TokenError>) -> Result<(), TokenError> {
        let lock_path = self.state.join(LOCK);
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| TokenError::Io { path, source }
        };
        let lock = fs::File::create(&lock_path).map_err(io(&lock_path))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(|e| io(&lock_path)(e.into()))?;
        let mut file = File { token: self.read()? };
        edit(&mut file.token)?;
        let text = toml::to_string(&file).expect("rows of plain strings serialise");
        let path = self.path();
        private_file(&path, text.as_bytes()).map_err(io(&path))
    }

    fn path(&self) -> PathBuf {
        self.state.join(FILE)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
}

fn hash(token: &str) -> Sha256 {
    Sha256(sha2::Sha256::digest(token.as_bytes()).into())
}

fn random<const N: usize>() -> Result<[u8; N], TokenError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(TokenError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open(dir: &tempfile::TempDir) -> Tokens {
        Tokens::open(dir.path()).expect("opens")
    }

    fn owner() -> UserId {
        "clinic".parse().expect("a name")
    }

    #[test]
    fn a_token_made_by_another_process_counts_at_once_and_so_does_its_revocation() {
        let dir = tempfile::tempdir().expect("a folder");
        let (daemon, command) = (open(&dir), open(&dir));
        assert!(daemon.check("irisd_nobody").is_none());
        let new = command.create(owner(), Scope::Kiosk, Timestamp::UNIX_EPOCH).expect("made");
        let row = daemon.check(&new.token).expect("counts");
        assert_eq!((row.owner, row.scope, row.id.as_str()), (owner(), Scope::Kiosk, new.id.as_str()));
        command.revoke(&new.id).expect("revoked");
        assert!(daemon.check(&new.token).is_none());
        assert!(matches!(command.revoke(&new.id), Err(TokenError::Unknown(_))));
    }

    #[test]
    fn the_file_holds_no_token_and_nobody_else_may_read_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let new = open(&dir).create(owner(), Scope::Viewer, Timestamp::UNIX_EPOCH).expect("made");
        let path = dir.path().join(FILE);
        assert!(!fs::read_to_string(&path).expect("readable").contains(&new.token));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(new.token.starts_with(PREFIX) && new.token.len() == PREFIX.len() + 43);
    }

    #[test]
    fn a_damaged_file_lets_nobody_in() {
        let dir = tempfile::tempdir().expect("a folder");
        let tokens = open(&dir);
        let new = tokens.create(owner(), Scope::Admin, Timestamp::UNIX_EPOCH).expect("made");
        assert!(tokens.check(&new.token).is_some());
        fs::write(dir.path().join(FILE), "[[token]\nid = ").expect("written");
        assert!(tokens.check(&new.token).is_none());
        assert!(matches!(tokens.list(), Err(TokenError::Damaged { .. })));
    }

    #[test]
    fn the_local_token_is_made_once_and_anew_after_it_was_revoked() {
        let dir = tempfile::tempdir().expect("a folder");
        let tokens = open(&dir);
        let read = || fs::read_to_string(dir.path().join(LOCAL)).expect("there");
        tokens.ensure_local(Timestamp::UNIX_EPOCH).expect("made");
        let first = read();
        tokens.ensure_local(Timestamp::UNIX_EPOCH).expect("kept");
        assert_eq!(read(), first);
        let row = tokens.check(&first).expect("counts");
        assert_eq!((row.scope, row.owner), (Scope::Admin, UserId::local()));
        tokens.revoke(&row.id).expect("revoked");
        tokens.ensure_local(Timestamp::UNIX_EPOCH).expect("made anew");
        assert_ne!(read(), first);
        assert!(tokens.check(&read()).is_some());
    }
}

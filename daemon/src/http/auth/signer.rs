//! Signed result URLs of this device: `/api/v1/results/{job}/{file}?expires=SECONDS&sig=TEXT`.
//!
//! `sig` = base64url(HMAC-SHA256(key, "irisd-url-1\n{job}\n{file}\n{expires}")). The key lies in `<state>/url.key` (0600, made at the first
//! start), so links outlive a restart; whoever takes the file away ends them all.

use std::{fs, io, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};

use super::private_file;
use crate::domain::ids::JobId;

const FILE: &str = "url.key";

pub struct Signer([u8; 32]);

impl Signer {
    pub fn open(state: &Path) -> io::Result<Self> {
        let path = state.join(FILE);
        if let Ok(bytes) = fs::read(&path)
            && let Ok(key) = bytes.try_into()
        {
            return Ok(Self(key));
        }
        // None yet, or cut short by a power cut: nothing worth keeping hangs on the old one but links that last minutes.
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        private_file(&path, &key)?;
        Ok(Self(key))
    }

    /// Path and query of a link that is good until `expires` (Unix seconds).
    pub fn link(&self, job: JobId, file: &str, expires: i64) -> String {
        let sig = URL_SAFE_NO_PAD.encode(self.mac(job, file, expires).finalize().into_bytes());
        format!("/api/v1/results/{job}/{file}?expires={expires}&sig={sig}")
    }

    /// Whether `sig` is ours and its time has not passed. Compares in constant time.
    pub fn holds(&self, job: JobId, file: &str, expires: i64, sig: &str, now: i64) -> bool {
        URL_SAFE_NO_PAD.decode(sig).is_ok_and(|sig| self.mac(job, file, expires).verify_slice(&sig).is_ok()) && now < expires
    }

    fn mac(&self, job: JobId, file: &str, expires: i64) -> Hmac<sha2::Sha256> {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("irisd-url-1\n{job}\n{file}\n{expires}").as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn parts(link: &str) -> (i64, &str) {
        let (_, query) = link.split_once("?expires=").expect("a query");
        let (expires, sig) = query.split_once("&sig=").expect("a signature");
        (expires.parse().expect("a number"), sig)
    }

    #[test]
    fn a_link_opens_what_it_was_made_for_until_its_time_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let signer = Signer::open(dir.path()).expect("opens");
        let (job, other) = (JobId(Uuid::from_u128(1)), JobId(Uuid::from_u128(2)));
        let link = signer.link(job, "image.jpg", 1000);
        let (expires, sig) = parts(&link);
        assert!(signer.holds(job, "image.jpg", expires, sig, 999));
        assert!(!signer.holds(job, "image.jpg", expires, sig, 1000), "expired");
        assert!(!signer.holds(job, "image.jpg", expires + 1, sig, 999), "longer life");
        assert!(!signer.holds(job, "mask.png", expires, sig, 999), "another file");
        assert!(!signer.holds(other, "image.jpg", expires, sig, 999), "another job");
        assert!(!signer.holds(job, "image.jpg", expires, &sig[1..], 999), "a cut signature");
        assert!(!signer.holds(job, "image.jpg", expires, "", 999), "no signature");
    }

    #[test]
    fn links_outlive_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let link = Signer::open(dir.path()).expect("opens").link(JobId(Uuid::nil()), "f", 10);
        let (expires, sig) = parts(&link);
        assert!(Signer::open(dir.path()).expect("opens again").holds(JobId(Uuid::nil()), "f", expires, sig, 9));
        fs::write(dir.path().join(FILE), b"short").expect("written");
        assert!(!Signer::open(dir.path()).expect("opens anew").holds(JobId(Uuid::nil()), "f", expires, sig, 9));
    }
}

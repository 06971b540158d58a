//! The `endpoint` file: where commands on this device find the daemon (contract: files under `paths.state`).
//!
//! A disk without room must not keep the device from starting: what is on it is still to be read, uploaded and deleted, which makes the
//! room. So the file is tried again until it is there.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

const AGAIN: Duration = Duration::from_secs(2);

/// Writes the file, now or as soon as the disk takes it.
pub fn tell(state: &Path, url: &str) {
    let Err(e) = write(state, url) else { return };
    tracing::warn!(error = %e, "the endpoint file was not written; commands on this device need --url until it is");
    // An old one would lead to a port of before.
    withdraw(state);
    let (state, url): (PathBuf, String) = (state.to_owned(), url.to_owned());
    tokio::spawn(async move {
        while write(&state, &url).is_err() {
            tokio::time::sleep(AGAIN).await;
        }
    });
}

fn write(state: &Path, url: &str) -> io::Result<()> {
    let endpoint = state.join("endpoint");
    let tmp = endpoint.with_extension("tmp");
    fs::write(&tmp, url)?;
    fs::rename(&tmp, &endpoint)
}

pub fn withdraw(state: &Path) {
    match fs::remove_file(state.join("endpoint")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => tracing::debug!(error = %e, "the endpoint file stays"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_endpoint_that_cannot_be_written_takes_the_old_one_away_and_comes_later() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("endpoint"), "http://127.0.0.1:1").unwrap();
        // A folder of the temporary file's name: writing fails, as on a full disk.
        fs::create_dir(state.path().join("endpoint.tmp")).unwrap();
        tell(state.path(), "http://127.0.0.1:2");
        assert!(!state.path().join("endpoint").exists());
        fs::remove_dir(state.path().join("endpoint.tmp")).unwrap();
        while fs::read_to_string(state.path().join("endpoint")).ok().as_deref() != Some("http://127.0.0.1:2") {
            tokio::task::yield_now().await;
        }
        tell(state.path(), "http://127.0.0.1:3");
        assert_eq!(fs::read_to_string(state.path().join("endpoint")).unwrap(), "http://127.0.0.1:3");
    }
}

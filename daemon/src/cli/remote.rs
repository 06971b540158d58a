//! How a client command finds the local daemon: `--url`/`IRISD_URL`, else `<state>/endpoint`; the token from
//! `--token-file`/`IRISD_TOKEN_FILE`, else `<state>/local.token`. Neither variable is a configuration key.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;

use super::{Stop, configuration_unchecked};
use crate::{client::Client, config::Config};

/// Which daemon, and who asks.
#[derive(Debug, Default, Args)]
pub(super) struct Daemon {
    /// Address of the daemon. Default: the one that runs on this machine's state folder.
    #[arg(long, env = "IRISD_URL", value_name = "URL")]
    url: Option<String>,
    /// File that holds the token. Default: <state>/local.token.
    #[arg(long, env = "IRISD_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Daemon {
    /// The daemon's client, and the state folder where it would lie on this machine.
    pub(super) fn find(&self, config: Option<&Path>) -> Result<(Client, PathBuf), Stop> {
        let config = configuration_unchecked(config)?;
        let client = self.client(&config)?;
        Ok((client, config.paths.state))
    }

    pub(super) fn client(&self, config: &Config) -> anyhow::Result<Client> {
        let url = self.address(&config.paths.state)?;
        let certificate = Some(config.http.tls_cert.as_path()).filter(|path| !path.as_os_str().is_empty());
        Ok(Client::new(&url, self.token(&config.paths.state)?, certificate)?)
    }

    pub(super) fn address(&self, state: &Path) -> anyhow::Result<String> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let path = state.join("endpoint");
        let text = fs::read_to_string(&path);
        let text = text.with_context(|| format!("no daemon found at {}; is irisd running? Else name it with --url", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// A missing local.token is fine: in open mode nobody needs one, and else the daemon says so.
    fn token(&self, state: &Path) -> anyhow::Result<Option<String>> {
        let path = self.token_file.clone().unwrap_or_else(|| state.join("local.token"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.token_file.is_none() => Ok(None),
            Err(e) => Err(e).with_context(|| format!("the token in {} cannot be read; name another with --token-file", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_found_by_its_endpoint_file_unless_it_is_named() {
        let state = tempfile::tempdir().unwrap();
        let local = Daemon::default();
        assert!(local.address(state.path()).unwrap_err().to_string().contains("is irisd running?"));
        fs::write(state.path().join("endpoint"), "http://127.0.0.1:1234\n").unwrap();
        assert_eq!(local.address(state.path()).unwrap(), "http://127.0.0.1:1234");
        let named = Daemon { url: Some("http://kiosk:5".into()), token_file: Some("/nowhere/token".into()) };
        assert_eq!(named.address(state.path()).unwrap(), "http://kiosk:5");
        assert_eq!(local.token(state.path()).unwrap(), None);
        assert!(named.token(state.path()).is_err());
    }
}

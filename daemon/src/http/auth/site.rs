//! Who is asking, in the browser's sense: Host and Origin, in open mode too.
//!
//! **Host** against DNS rebinding: a hostile page can point its own name at this device's address, and its scripts then speak to us as
//! "same origin". What they cannot do is send another Host. So a Host is an IP address, `localhost`, this machine's name, or the host
//! of an allowed origin. **Origin**: browsers send it with everything that could change something, and with WebSockets, which no
//! CORS rule guards. Ours or allowed, else refused; `null` (files, sandboxed frames) is foreign.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header};

use super::super::error::{ApiError, Kind};

/// Which names and sites may speak to this device.
pub struct Sites {
    /// Lower case, without port.
    hosts: Vec<String>,
    /// `scheme://host[:port]`, lower case, without the scheme's own port.
    origins: Vec<String>,
}

impl Sites {
    /// `host_name`: of this machine; `<name>.local` (mDNS) goes with it.
    pub fn new(listen: SocketAddr, host_name: &str, allowed_origins: &[String]) -> Self {
        let name = host_name.to_ascii_lowercase();
        let short = name.split('.').next().unwrap_or_default().to_owned();
        let mut hosts = vec!["localhost".to_owned(), listen.ip().to_string(), format!("{short}.local"), short, name];
        let origins: Vec<String> = allowed_origins.iter().map(|o| normal_origin(o)).collect();
        hosts.extend(origins.iter().filter_map(|o| o.split_once("://")).map(|(_, authority)| host_of(authority).to_owned()));
        hosts.retain(|h| !h.is_empty() && h != ".local");
        Self { hosts, origins }
    }

    /// Refuses a Host that is not ours.
    pub fn check_host(&self, host: &str) -> Result<(), ApiError> {
        let name = host_of(host).to_ascii_lowercase();
        let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        if literal || self.hosts.contains(&name) {
            return Ok(());
        }
        Err(ApiError::new(Kind::HostNotAllowed, "the Host header is neither an IP address nor a name of this device"))
    }

    /// Whether the Origin of these headers, if there is one, may speak to us: `Ok(Some)` names an allowed foreign one.
    pub fn check_origin(&self, headers: &HeaderMap, host: &str) -> Result<Option<String>, ApiError> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
        let origin = normal_origin(origin.to_str().unwrap_or("null"));
        let own = |authority: &str| [80, 443].iter().any(|p| authority == host.trim_end_matches(&format!(":{p}"))) || authority == host;
        if origin.split_once("://").is_some_and(|(_, authority)| own(authority)) {
            return Ok(None);
        }
        if self.origins.contains(&origin) {
            return Ok(Some(origin));
        }
        Err(ApiError::new(Kind::OriginNotAllowed, "the Origin header names another site"))
    }
}

/// A host of an authority: `a:80` -> `a`, `[::1]:80` -> `[::1]`.
fn host_of(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority.find(']').map_or(authority, |end| &authority[..=end]);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn normal_origin(origin: &str) -> String {
    let o = origin.trim().trim_end_matches('/').to_ascii_lowercase();
    let port = if o.starts_with("https://") { ":443" } else { ":80" };
    o.strip_suffix(port).map_or_else(|| o.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites() -> Sites {
        Sites::new(([127, 0, 0, 1], 8080).into(), "Kiosk-7.clinic.lan", &["https://records.example/".to_owned()])
    }

    #[test]
    fn a_rebound_name_is_refused_and_every_name_of_the_device_is_not() {
        for host in [
            "127.0.0.1:8080",
            "192.168.1.5",
            "[::1]:8080",
            "localhost:9",
            "kiosk-7",
            "KIOSK-7.local:8080",
            "kiosk-7.clinic.lan",
            "records.example",
        ] {
            assert!(sites().check_host(host).is_ok(), "{host} was refused");
        }
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "", ".local"] {
            assert!(sites().check_host(host).is_err(), "{host} was let in");
        }
    }

    #[test]
    fn only_our_own_page_and_allowed_sites_may_send_requests() {
        let with = |origin: &str| HeaderMap::from_iter([(header::ORIGIN, origin.parse().expect("a value"))]);
        let own = "192.168.1.5:8080";
        assert!(matches!(sites().check_origin(&HeaderMap::new(), own), Ok(None)));
        assert!(matches!(sites().check_origin(&with("http://192.168.1.5:8080"), own), Ok(None)));
        assert!(matches!(sites().check_origin(&with("http://192.168.1.5"), "192.168.1.5:80"), Ok(None)));
        assert!(matches!(sites().check_origin(&with("https://records.example:443"), own), Ok(Some(_))));
        for foreign in
            ["http://evil.example", "null", "http://192.168.1.5:9090", "http://records.example", "http://192.168.1.5:8080.evil.example"]
        {
            assert!(sites().check_origin(&with(foreign), own).is_err(), "{foreign} was let in");
        }
    }
}

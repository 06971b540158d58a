//! The HTTP door: `/api/v1`, health, metrics, docs, the page.
//!
//! ```text
//! socket -> serve (limits, TLS, drain) -> layers (request id, Host, Origin, pace, panics, log) -> routes
//!        -> Caller | Writer (401, 403) -> handler -> store | intake | cameras -> views (JSON) or error (problem+json)
//! ```
//!
//! Handlers hold no state of their own and never block the runtime: the store's reads are short, files are streamed through `tokio::fs`, writes are
//! awaited. Whatever is open for long (events, previews) ends when `draining` turns true.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use self::{
    auth::{Door, sessions::Sessions, signer::Signer, site::Sites, tokens::Tokens},
    idempotency::KeyLocks,
};
use crate::{
    camera::Cameras,
    config::AuthMode,
    intake::Intake,
    ports::{Clock, ObjectStore},
    store::Store,
    telemetry::Metrics,
    worker::Live,
};

pub mod auth;
mod body;
mod capture;
mod device;
mod docs;
pub mod error;
mod events;
mod files;
mod health;
mod idempotency;
mod layers;
mod multipart;
mod paging;
mod photos;
mod processing;
pub mod request_id;
mod results;
mod routes;
pub mod serve;
mod session;
mod ui;
mod views;
mod ws;

pub use routes::router;

/// What app.rs hands over.
pub struct Parts {
    pub store: Store,
    pub intake: Intake,
    pub live: Live,
    pub cameras: Cameras,
    pub clock: Arc<dyn Clock>,
    pub tokens: Arc<Tokens>,
    pub signer: Signer,
    pub auth_mode: AuthMode,
    /// Presigns result URLs once a job is uploaded.
    pub bucket: Option<Arc<dyn ObjectStore>>,
    /// Life of result URLs, the device's own too.
    pub presign_ttl: Duration,
    /// Bytes of one photo.
    pub max_upload: u64,
    /// Where the listener really listens (port 0 resolved).
    pub listen: SocketAddr,
    pub tls: bool,
    pub host_name: String,
    pub allowed_origins: Vec<String>,
    pub max_pending: usize,
    /// `/device`: versions, providers, models. Cheap: it is called for each request.
    pub device: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Why the device is not ready beyond what this room sees itself (draining, disk); empty: it is.
    pub not_ready: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Requests are counted in it; `/metrics` shows it.
    pub metrics: Metrics,
    /// True from the moment at which the daemon begins to stop.
    pub draining: watch::Receiver<bool>,
}

/// The state that all handlers share.
pub struct Api {
    store: Store,
    intake: Intake,
    live: Live,
    cameras: Cameras,
    clock: Arc<dyn Clock>,
    door: Door,
    sites: Sites,
    signer: Signer,
    keys: KeyLocks,
    bucket: Option<Arc<dyn ObjectStore>>,
    presign_ttl: Duration,
    max_upload: u64,
    listen: SocketAddr,
    tls: bool,
    max_pending: usize,
    device: Arc<dyn Fn() -> Value + Send + Sync>,
    not_ready: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    metrics: Metrics,
    draining: watch::Receiver<bool>,
    /// Photos coming in at once.
    uploads: Arc<Semaphore>,
    /// Event streams, WebSockets and previews open at once.
    streams: Arc<Semaphore>,
    /// Sessions that begin at once.
    beginning: Semaphore,
}

/// Slow uploads must leave connections to everybody else ([`serve::MAX_CONNECTIONS`]).
pub const MAX_UPLOADS: usize = 32;

/// Open streams, likewise. A clinic has a handful of screens.
pub const MAX_STREAMS: usize = 64;

/// Sessions that begin at once with the token in the body, likewise: anybody may try.
const MAX_BEGINNING: usize = 16;

impl Api {
    pub fn new(parts: Parts) -> Arc<Self> {
        let sites = Sites::new(parts.listen, &parts.host_name, &parts.allowed_origins);
        Arc::new(Self {
            door: Door { mode: parts.auth_mode, tokens: parts.tokens, sessions: Sessions::default(), clock: parts.clock.clone() },
            sites,
            store: parts.store,
            intake: parts.intake,
            live: parts.live,
            cameras: parts.cameras,
            clock: parts.clock,
            signer: parts.signer,
            keys: KeyLocks::default(),
            bucket: parts.bucket,
            presign_ttl: parts.presign_ttl,
            max_upload: parts.max_upload,
            listen: parts.listen,
            tls: parts.tls,
            max_pending: parts.max_pending,
            device: parts.device,
            not_ready: parts.not_ready,
            metrics: parts.metrics,
            draining: parts.draining,
            uploads: Arc::new(Semaphore::new(MAX_UPLOADS)),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            beginning: Semaphore::new(MAX_BEGINNING),
        })
    }

    fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}

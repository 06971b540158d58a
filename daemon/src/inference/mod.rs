//! What the daemon knows of models: manifest, cache (lazy, one copy), providers (tiers), tensors.
//!
//! INTERFACE DRAFT (bodies follow).

use serde::Serialize;

/// One model of the manifest, as `/device` shows it (contract: Providers).
#[derive(Debug, Clone, Serialize)]
pub struct ModelStatus {
    pub name: String,
    pub role: String,
    /// What the configuration asks for, in order.
    pub configured: Vec<String>,
    /// What really ran; None until it ran.
    pub active: Option<String>,
    /// not_loaded | building | warming | ready | degraded | failed
    pub state: String,
    pub reason: Option<String>,
}

/// The models of this device. Cheap to clone.
#[derive(Clone)]
pub struct Engine {}

#[allow(clippy::todo)]
impl Engine {
    pub fn status(&self) -> Vec<ModelStatus> {
        todo!()
    }
    /// Name, version, path of the runtime library, or why there is none.
    pub fn runtime(&self) -> Result<String, String> {
        todo!()
    }
}

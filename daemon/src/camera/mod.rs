//! Owns the camera threads: open, reopen, burst and choice, preview. Frames come from adapters, photos go to intake.
//!
//! INTERFACE DRAFT (bodies follow).

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::{
    domain::photo::ClientInfo,
    intake::{Accepted, IntakeError},
    ports::CameraError,
};

#[derive(Debug, Clone, Serialize)]
pub struct CameraStatus {
    pub name: String,
    /// v4l | folder | synthetic
    pub kind: String,
    /// opening | ready | gone
    pub state: String,
    /// Why it is not ready.
    pub reason: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("no camera is configured")]
    NoCamera,
    #[error("there is no camera named {0}")]
    Unknown(String),
    #[error(transparent)]
    Camera(#[from] CameraError),
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

#[derive(Clone)]
pub struct Cameras {}

#[allow(clippy::todo, unused_variables)]
impl Cameras {
    pub fn list(&self) -> Vec<CameraStatus> {
        todo!()
    }
    /// None: the first camera by name. The photo belongs to the camera's configured owner, unless `owner` is given.
    pub async fn capture(
        &self,
        name: Option<&str>,
        owner: Option<crate::domain::ids::UserId>,
        client: ClientInfo,
    ) -> Result<Accepted, CaptureError> {
        todo!()
    }
    /// The newest preview picture (JPEG); it moves only while somebody holds a receiver.
    pub fn preview(&self, name: &str) -> Result<watch::Receiver<Option<Arc<Vec<u8>>>>, CaptureError> {
        todo!()
    }
}

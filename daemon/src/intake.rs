//! The one way in: limits -> fsynced file -> store -> acknowledge. Camera, folder and HTTP all use it.
//!
//! INTERFACE DRAFT (bodies follow).

use crate::{
    domain::{
        ids::UserId,
        photo::{ClientInfo, Photo, Source},
    },
    store::{Idempotency, Store, StoreError},
};

/// Who sends, and what is said about the photo.
pub struct Incoming {
    pub user_id: UserId,
    pub source: Source,
    pub client: ClientInfo,
    pub idempotency: Option<Idempotency>,
}

#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("the photo is above the limit of {limit} bytes")]
    TooLarge { limit: u64 },
    /// Not an image, damaged, or above the pixel limit: the fault says which (its code is one of the file codes).
    #[error("{0}")]
    Refused(crate::domain::fault::Fault),
    /// Too many photos are being checked at once.
    #[error("the device is busy")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the photo could not be written: {0}")]
    Io(#[from] std::io::Error),
}

/// A photo that is on disk and in the store.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub photo: Photo,
    /// False: this owner sent these bytes before.
    pub fresh: bool,
}

#[derive(Clone)]
pub struct Intake {}

/// A photo on its way in: bytes go to a temporary file, hashed as they come. Dropped: the file is removed.
pub struct Upload {}

#[allow(clippy::todo, unused_variables)]
impl Intake {
    pub fn new(store: Store, max_upload: u64, max_pixels: u64) -> Self {
        todo!()
    }
    /// `declared`: Content-Length, where known.
    pub async fn begin(&self, declared: Option<u64>) -> Result<Upload, IntakeError> {
        todo!()
    }
    pub async fn finish(&self, upload: Upload, incoming: Incoming) -> Result<Accepted, IntakeError> {
        todo!()
    }
    pub async fn accept_bytes(&self, bytes: Vec<u8>, incoming: Incoming) -> Result<Accepted, IntakeError> {
        todo!()
    }
}

#[allow(clippy::todo, unused_variables)]
impl Upload {
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), IntakeError> {
        todo!()
    }
}

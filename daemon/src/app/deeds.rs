//! What happens on its own: photos of watched folders become jobs, commands over MQTT become captures and jobs.

use std::sync::Arc;

use crate::{
    camera::{Cameras, CaptureError, OnPhoto},
    domain::{
        fault::{Code, Fault},
        ids::{JobId, PhotoId},
        job::{Lane, Merge},
        photo::{ClientInfo, Photo},
    },
    intake::IntakeError,
    outbox::command::{Command, CommandResult, Handler},
    store::{NewJobs, Store, StoreError},
};

/// A photo of a watched folder becomes a job in the default lane, once: after a restart every file is seen again.
pub fn watched_photo(store: Store) -> OnPhoto {
    Arc::new(move |accepted| {
        let store = store.clone();
        Box::pin(async move {
            if !accepted.fresh && !store.jobs_of_photo(accepted.photo.id).is_empty() {
                return Ok(());
            }
            submit(&store, &accepted.photo, None, Lane::Default).await.map(|_| ()).map_err(|e| e.to_string())
        })
    })
}

pub fn commands(store: Store, cameras: Cameras) -> Handler {
    Arc::new(move |command| {
        let (store, cameras) = (store.clone(), cameras.clone());
        Box::pin(async move {
            match command {
                Command::Capture { camera, submit, lane } => capture(&store, &cameras, camera.as_deref(), submit, lane).await,
                Command::Submit { photo_id, lane } => submit_known(&store, photo_id, lane).await,
            }
        })
    })
}

async fn capture(store: &Store, cameras: &Cameras, camera: Option<&str>, wanted: bool, lane: Lane) -> CommandResult {
    if wanted && let Err(e) = store.room_for(1) {
        return failed(store_code(&e), &e);
    }
    let taken = match cameras.capture(camera, None, ClientInfo::default()).await {
        Ok(taken) => taken,
        Err(e) => return CommandResult::Failed { code: capture_code(&e), message: capture_words(&e) },
    };
    let photo_id = Some(taken.photo.id);
    if !wanted {
        return CommandResult::Done { photo_id, job_id: None };
    }
    match submit(store, &taken.photo, taken.merge(), lane).await {
        Ok(job) => CommandResult::Done { photo_id, job_id: Some(job) },
        Err(e) => failed(store_code(&e), &e),
    }
}

async fn submit_known(store: &Store, id: PhotoId, lane: Lane) -> CommandResult {
    let photo = match store.photo(id) {
        Ok(Some(photo)) => photo,
        Ok(None) => return failed("not_found", &StoreError::NotFound("photo")),
        Err(e) => return failed(store_code(&e), &e),
    };
    match submit(store, &photo, None, lane).await {
        Ok(job) => CommandResult::Done { photo_id: Some(id), job_id: Some(job) },
        Err(e) => failed(store_code(&e), &e),
    }
}

async fn submit(store: &Store, photo: &Photo, merge: Option<Merge>, lane: Lane) -> Result<JobId, StoreError> {
    let user_id = photo.user_id.clone();
    let new = NewJobs { user_id, photo_ids: vec![photo.id], merge, lane, client: ClientInfo::default(), reprocess_of: None };
    let jobs = store.submit(new, None).await?;
    jobs.first().map(|j| j.id).ok_or(StoreError::NotFound("job"))
}

fn failed(code: &str, why: &dyn std::fmt::Display) -> CommandResult {
    CommandResult::Failed { code: code.to_owned(), message: why.to_string() }
}

/// A refused photo has words for people.
fn capture_words(e: &CaptureError) -> String {
    match e {
        CaptureError::Intake(IntakeError::Refused(fault)) => format!("{} {}", fault.message, fault.suggestion),
        other => other.to_string(),
    }
}

fn capture_code(e: &CaptureError) -> String {
    match e {
        CaptureError::NoCamera | CaptureError::Unknown(_) => "not_found".into(),
        CaptureError::Busy => "busy".into(),
        CaptureError::Camera(e) => Fault::new(Code::CameraUnavailable, e.to_string()).code.name(),
        CaptureError::Intake(IntakeError::Refused(fault)) => fault.code.name(),
        CaptureError::Intake(IntakeError::Store(e)) => store_code(e).into(),
        CaptureError::Intake(_) => "internal".into(),
    }
}

fn store_code(e: &StoreError) -> &'static str {
    match e {
        StoreError::NotFound(_) => "not_found",
        StoreError::QueueFull { .. } => "queue_full",
        StoreError::DiskReserve { .. } | StoreError::OverCap { .. } => "disk_full",
        StoreError::OriginalEvicted => "original_evicted",
        StoreError::Closed => "shutting_down",
        _ => "internal",
    }
}

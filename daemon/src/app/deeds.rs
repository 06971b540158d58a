//! What happens on its own: photos of watched folders become jobs, commands over MQTT become captures and jobs.

use std::sync::Arc;

use crate::{
    camera::{Cameras, CaptureError, OnPhoto},
    domain::{
        ids::{JobId, PhotoId},
        job::{Lane, Merge},
        photo::{ClientInfo, Photo},
    },
    http::error::ApiError,
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
        return failed(e);
    }
    let taken = match cameras.capture(camera, None, ClientInfo::default()).await {
        Ok(taken) => taken,
        Err(CaptureError::Intake(IntakeError::Refused(fault))) => {
            let message = format!("{} {}", fault.message, fault.suggestion); // a refused photo has words for people
            return CommandResult::Failed { code: fault.code.name(), message };
        }
        Err(e) => return failed(e),
    };
    let photo_id = Some(taken.photo.id);
    if !wanted {
        return CommandResult::Done { photo_id, job_id: None };
    }
    match submit(store, &taken.photo, taken.merge(), lane).await {
        Ok(job) => CommandResult::Done { photo_id, job_id: Some(job) },
        Err(e) => failed(e),
    }
}

async fn submit_known(store: &Store, id: PhotoId, lane: Lane) -> CommandResult {
    let photo = match store.photo(id) {
        Ok(Some(photo)) => photo,
        Ok(None) => return failed(StoreError::NotFound("photo")),
        Err(e) => return failed(e),
    };
    match submit(store, &photo, None, lane).await {
        Ok(job) => CommandResult::Done { photo_id: Some(id), job_id: Some(job) },
        Err(e) => failed(e),
    }
}

async fn submit(store: &Store, photo: &Photo, merge: Option<Merge>, lane: Lane) -> Result<JobId, StoreError> {
    let user_id = photo.user_id.clone();
    let new = NewJobs { user_id, photo_ids: vec![photo.id], merge, lane, client: ClientInfo::default(), reprocess_of: None };
    let jobs = store.submit(new, None).await?;
    jobs.first().map(|j| j.id).ok_or(StoreError::NotFound("job"))
}

/// The code is the one that HTTP gives, from its own table: programs that speak both know one list.
fn failed(why: impl std::fmt::Display + Into<ApiError>) -> CommandResult {
    let message = why.to_string();
    CommandResult::Failed { code: why.into().code(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_code_that_http_gives() {
        let code = |result| match result {
            CommandResult::Failed { code, .. } => code,
            done @ CommandResult::Done { .. } => panic!("{done:?}"),
        };
        assert_eq!(code(failed(StoreError::DiskReserve { free: 1, reserve: 2 })), "disk_reserve");
        assert_eq!(code(failed(StoreError::QueueFull { pending: 3, limit: 3 })), "queue_full");
        assert_eq!(code(failed(CaptureError::Busy)), "busy");
        assert_eq!(code(failed(CaptureError::Intake(IntakeError::Busy))), "busy");
        assert_eq!(code(failed(CaptureError::NoCamera)), "not_found");
        assert_eq!(code(crate::outbox::command::busy()), "busy");
    }
}

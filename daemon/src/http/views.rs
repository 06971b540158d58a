//! Photos and jobs as clients see them: the contract's keys, all of them, always; what is not known is null.
//!
//! A job's links are made here: a presigned URL of the bucket once the upload is verified, else a signed URL of this device, else (evicted, no
//! bucket) null. The thumbnail never leaves the device.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Api, error::ApiResult};
use crate::{
    domain::{
        event::ProgressTick,
        fault::{Code, FaultClass},
        ids::{JobId, PhotoId, UserId},
        job::{Job, Lane, Status, UploadStatus},
        photo::{ClientInfo, Photo},
        quality::Quality,
        stage::{Stage, StepMs},
        time,
    },
    store::Ahead,
};

/// How a caller wants its links.
pub struct Base {
    /// Scheme and authority under which the caller reached us; the device's links begin with it.
    origin: String,
    /// `?urls=device`: links of this device while the files are here, the bucket's afterwards. For the page, which may load nothing from elsewhere.
    device_first: bool,
}

impl FromRequestParts<Arc<Api>> for Base {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Self::Rejection> {
        let scheme = if api.tls { "https" } else { "http" };
        let listen = api.listen.to_string();
        let host = parts.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or(&listen);
        let device_first = parts.uri.query().is_some_and(|q| q.split('&').any(|p| p == "urls=device"));
        Ok(Self { origin: format!("{scheme}://{host}"), device_first })
    }
}

pub fn photo(p: &Photo) -> Value {
    json!({
        "id": p.id,
        "user_id": p.user_id,
        "sha256": p.sha256,
        "bytes": p.bytes,
        "width": p.width,
        "height": p.height,
        "content_type": p.content_type,
        "source": p.source,
        "client_ref": p.client.client_ref,
        "eye": p.client.eye,
        "captured_at": p.client.captured_at,
        "received_at": time::text(p.received_at),
    })
}

/// Written as it is, without a [`Value`] in between: a list has up to a hundred of them.
#[derive(Serialize)]
pub struct JobView {
    id: JobId,
    photo_id: PhotoId,
    merge_with: Vec<PhotoId>,
    user_id: UserId,
    lane: Lane,
    status: Status,
    current_step: Option<Stage>,
    progress: u8,
    attempt: u32,
    error_type: Option<FaultClass>,
    error_code: Option<Code>,
    error_message: Option<String>,
    suggestion: Option<String>,
    /// Worth another try with the same photo.
    retryable: bool,
    result_s3_key: Option<String>,
    mask_s3_key: Option<String>,
    report_s3_key: Option<String>,
    upload_status: UploadStatus,
    #[serde(flatten)]
    links: Links,
    quality: Option<Quality>,
    step_ms: StepMs,
    processing_time_ms: Option<u64>,
    queue_position: Option<usize>,
    eta_ms: Option<u64>,
    transient_retries: u32,
    crashes: u32,
    cached: bool,
    #[serde(flatten)]
    client: ClientInfo,
    #[serde(with = "time")]
    created_at: Timestamp,
    #[serde(with = "time::optional")]
    started_at: Option<Timestamp>,
    #[serde(with = "time::optional")]
    completed_at: Option<Timestamp>,
    reprocess_of: Option<JobId>,
}

#[derive(Debug, Default, Serialize)]
struct Links {
    result_url: Option<String>,
    mask_url: Option<String>,
    report_url: Option<String>,
    thumb_url: Option<String>,
    original_url: Option<String>,
    #[serde(with = "time::optional")]
    urls_expire_at: Option<Timestamp>,
}

pub async fn job(api: &Api, base: &Base, job: Job) -> ApiResult<JobView> {
    let photo = api.store.photo(job.photo_id)?;
    Ok(view(api, base, job, photo).await)
}

pub async fn jobs(api: &Api, base: &Base, jobs: Vec<Job>) -> ApiResult<Vec<JobView>> {
    let photos = api.store.photos_under(jobs.iter().map(|j| j.photo_id))?;
    let mut views = Vec::with_capacity(jobs.len());
    for (job, photo) in jobs.into_iter().zip(photos) {
        views.push(view(api, base, job, photo).await);
    }
    Ok(views)
}

async fn view(api: &Api, base: &Base, job: Job, photo: Option<Photo>) -> JobView {
    let links = links(api, base, &job, photo.as_ref()).await;
    let ahead = if job.status == Status::Pending { api.store.ahead(&job) } else { None };
    let eta = api.live.eta_ms(&job, ahead.unwrap_or_default(), photo.as_ref().map_or(0.0, Photo::megapixels));
    let (current_step, progress) = live(&job, api.live.progress(job.id));
    let in_bucket = |ending: &str| (job.upload != UploadStatus::Off).then(|| job.s3_key(ending));
    JobView {
        id: job.id,
        photo_id: job.photo_id,
        merge_with: job.merged().to_vec(),
        lane: job.lane,
        status: job.status,
        current_step,
        progress,
        attempt: job.attempt,
        error_type: job.fault.as_ref().map(|f| f.class),
        error_code: job.fault.as_ref().map(|f| f.code),
        error_message: job.fault.as_ref().map(|f| f.message.clone()),
        suggestion: job.fault.as_ref().map(|f| f.suggestion.clone()),
        retryable: job.fault.as_ref().is_some_and(|f| f.class == FaultClass::TransientError),
        result_s3_key: in_bucket(".jpg"),
        mask_s3_key: in_bucket(".png"),
        report_s3_key: in_bucket(".json"),
        upload_status: upload_status(&job, api.bucket.is_some()),
        links,
        step_ms: job.step_ms,
        processing_time_ms: job.processing_time_ms,
        queue_position: ahead.map(Ahead::place),
        eta_ms: eta,
        transient_retries: job.transient_retries,
        crashes: job.crashes,
        cached: job.cached,
        created_at: job.created_at,
        started_at: job.started_at,
        completed_at: job.completed_at,
        reprocess_of: job.reprocess_of,
        user_id: job.user_id,
        quality: job.quality,
        client: job.client,
    }
}

/// The stored place of a running job, moved on by the newest tick; a tick that is older than the row counts nothing.
fn live(job: &Job, tick: Option<ProgressTick>) -> (Option<Stage>, u8) {
    match tick {
        Some(t) if job.status == Status::Processing && t.progress >= job.progress => (Some(t.current_step), t.progress),
        _ => (job.current_step, job.progress),
    }
}

/// The row knows of uploads once there is something to upload; before, a job whose result will go to the bucket waits for that.
fn upload_status(job: &Job, bucket: bool) -> UploadStatus {
    if bucket && !job.status.is_final() { UploadStatus::Pending } else { job.upload }
}

async fn links(api: &Api, base: &Base, job: &Job, photo: Option<&Photo>) -> Links {
    let life = SignedDuration::try_from(api.presign_ttl).unwrap_or(SignedDuration::from_mins(15));
    let expires = api.clock.now().checked_add(life).unwrap_or(Timestamp::MAX);
    let on_device = |file: &str| format!("{}{}", base.origin, api.signer.link(job.id, file, expires.as_second()));
    let local = job.artifacts.as_ref().is_some_and(|a| a.on_disk);
    let mut links = Links::default();

    if job.artifacts.is_some() {
        if job.upload == UploadStatus::Uploaded && !(local && base.device_first) {
            links.result_url = presigned(api, &job.s3_key(".jpg")).await;
            links.mask_url = presigned(api, &job.s3_key(".png")).await;
            links.report_url = presigned(api, &job.s3_key(".json")).await;
        }
        if local {
            links.result_url.get_or_insert_with(|| on_device("image.jpg"));
            links.mask_url.get_or_insert_with(|| on_device("mask.png"));
            links.report_url.get_or_insert_with(|| on_device("report.json"));
            links.thumb_url = Some(on_device("thumb.jpg"));
        }
    }
    // What a refused photo has instead of a result.
    if job.annotated.is_some_and(|a| a.on_disk) {
        links.thumb_url = Some(on_device("annotated.jpg"));
    }
    if let Some(photo) = photo {
        if photo.on_disk {
            links.original_url = Some(on_device(&format!("original.{}", photo.content_type.extension())));
        } else if photo.uploaded {
            links.original_url = presigned(api, &photo.s3_key()).await;
        }
    }
    let any = [&links.result_url, &links.thumb_url, &links.original_url].into_iter().any(Option::is_some);
    // Whole seconds: what the signature covers.
    links.urls_expire_at = any.then(|| Timestamp::from_second(expires.as_second()).unwrap_or(expires));
    links
}

/// A presigned URL, or None where the bucket's adapter cannot make one: the device's own link stands in.
async fn presigned(api: &Api, key: &str) -> Option<String> {
    match api.bucket.as_ref()?.presign_get(key, api.presign_ttl).await {
        Ok(url) => Some(url),
        Err(e) => {
            tracing::warn!("no presigned URL: {e}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::transition::tests::pending;

    fn tick(job: &Job, current_step: Stage, progress: u8) -> Option<ProgressTick> {
        Some(ProgressTick { job_id: job.id, user_id: job.user_id.clone(), current_step, progress })
    }

    #[test]
    fn live_progress_moves_a_running_job_on_and_never_back() {
        let mut job = pending();
        job.status = Status::Processing;
        (job.current_step, job.progress) = (Some(Stage::Reflections), 40);
        assert_eq!(live(&job, tick(&job, Stage::Reflections, 47)), (Some(Stage::Reflections), 47));
        assert_eq!(live(&job, tick(&job, Stage::Segment, 39)), (Some(Stage::Reflections), 40), "an old tick");
        assert_eq!(live(&job, None), (Some(Stage::Reflections), 40));
        job.status = Status::Cancelled;
        assert_eq!(live(&job, tick(&job, Stage::Enhance, 70)).1, 40, "a job that ended stands still");
    }

    #[test]
    fn with_a_bucket_an_unfinished_job_waits_for_its_upload_and_one_that_has_none_is_off() {
        let mut job = pending();
        for (status, with, without) in [
            (Status::Pending, UploadStatus::Pending, UploadStatus::Off),
            (Status::Processing, UploadStatus::Pending, UploadStatus::Off),
            (Status::Failed, UploadStatus::Off, UploadStatus::Off),
            (Status::Cancelled, UploadStatus::Off, UploadStatus::Off),
        ] {
            job.status = status;
            assert_eq!((upload_status(&job, true), upload_status(&job, false)), (with, without), "{status:?}");
        }
        (job.status, job.upload) = (Status::Completed, UploadStatus::Uploaded);
        assert_eq!(upload_status(&job, true), UploadStatus::Uploaded);
    }
}

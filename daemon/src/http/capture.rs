//! `/capture` and `/cameras`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api,
    auth::{Caller, Writer},
    body,
    error::{ApiError, ApiResult, Kind},
    multipart, photos,
    processing::{Asked, lane},
    request_id,
    views::{self, Base},
};
use crate::{
    domain::{
        ids::{JobId, PhotoId},
        job::Lane,
        photo::{ClientInfo, Eye},
    },
    store::{Answer, Idempotency, NewJobs},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    camera: Option<String>,
    submit: Option<bool>,
    lane: Option<Lane>,
    client_ref: Option<String>,
    eye: Option<Eye>,
    captured_at: Option<jiff::Timestamp>,
}

/// The photo belongs to whoever pressed the button: a kiosk must be able to see what it took.
pub async fn capture(
    State(api): State<Arc<Api>>,
    Writer(caller): Writer,
    base: Base,
    asked: Asked,
    body: body::Json<Capture>,
) -> ApiResult<Response> {
    let b = body.value;
    let client = multipart::checked(ClientInfo { client_ref: b.client_ref, eye: b.eye, captured_at: b.captured_at })?;
    let idempotency = asked.idempotency(&caller.user, &body.bytes)?;
    let wanted = Wanted { camera: b.camera, submit: b.submit.unwrap_or(true), lane: lane(b.lane), client, idempotency };
    // On a task of its own: a client that hangs up must not leave a photo that was taken without its job and without its key.
    let taking = take(api.clone(), caller, wanted);
    let taken = tokio::spawn(request_id::CURRENT.scope(request_id::current(), taking)).await;
    captured(&api, &base, taken.map_err(ApiError::internal)??).await
}

/// What a capture left.
struct Left {
    photo: PhotoId,
    others: Vec<PhotoId>,
    job: Option<JobId>,
}

/// A capture whose words were checked.
struct Wanted {
    camera: Option<String>,
    submit: bool,
    lane: Lane,
    client: ClientInfo,
    idempotency: Option<Idempotency>,
}

async fn take(api: Arc<Api>, caller: Caller, wanted: Wanted) -> ApiResult<Left> {
    let _held = api.keys.hold(wanted.idempotency.as_ref()).await;
    if let Some(i) = &wanted.idempotency
        && let Some(answer) = api.store.replay(i)?
    {
        let Answer::Capture { photo, job, others } = answer else { return Err(photos::other_answer()) };
        return Ok(Left { photo, others, job });
    }
    if wanted.submit {
        // Before the shot: each try of a client that comes again would keep one more photo without a job.
        api.store.room_for(1)?;
    }
    let taken = api.cameras.capture(wanted.camera.as_deref(), Some(caller.user.clone()), wanted.client.clone()).await?;
    let (photo, others): (_, Vec<PhotoId>) = (taken.photo.id, taken.others.iter().map(|p| p.id).collect());
    let mut job = None;
    if wanted.submit {
        let (merge, user_id) = (taken.merge(), taken.photo.user_id);
        let new = NewJobs { user_id, photo_ids: vec![photo], merge, lane: wanted.lane, client: wanted.client, reprocess_of: None };
        // With the job its key's answer is stored: a second try must not make a second one.
        let kept = others.clone();
        let answer = move |jobs: Vec<JobId>| Answer::Capture { photo, job: jobs.first().copied(), others: kept };
        job = api.store.submit_as(new, wanted.idempotency, answer).await?.first().map(|j| j.id);
    } else if let Some(i) = wanted.idempotency {
        api.store.remember(i, Answer::Capture { photo, job: None, others: others.clone() }).await?;
    }
    Ok(Left { photo, others, job })
}

/// As they are now: a replay may come after somebody deleted one of the others.
async fn captured(api: &Api, base: &Base, left: Left) -> ApiResult<Response> {
    let photo = api.store.photo(left.photo)?.ok_or_else(|| ApiError::not_found("photo"))?;
    let others = left.others.into_iter().filter_map(|id| api.store.photo(id).transpose()).collect::<Result<Vec<_>, _>>()?;
    let others: Vec<Value> = others.iter().map(views::photo).collect();
    let mut answer = json!({ "photo": views::photo(&photo), "others": others });
    if let Some(id) = left.job {
        let job = api.store.job(id)?.ok_or_else(|| ApiError::not_found("job"))?;
        answer["job"] = json!(views::job(api, base, job).await?);
    }
    let location = format!("/api/v1/photos/{}", photo.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(answer)).into_response())
}

pub async fn cameras(State(api): State<Arc<Api>>, _: Caller) -> Json<Value> {
    let items = api.cameras.list();
    Json(json!({ "total": items.len(), "items": items }))
}

/// Without a picture for this long, a preview looks whether there is a camera, and whether its caller may still look.
const PREVIEW_SILENCE: Duration = Duration::from_secs(5);
/// So many silences in a row end it: a caller that is gone is noticed by writing to it alone.
const PREVIEW_SILENCES: u32 = 6;

/// Motion JPEG: one part a picture, until the caller leaves or the daemon stops. A slow caller misses pictures, never delays them.
pub async fn preview(State(api): State<Arc<Api>>, caller: Caller, Path(name): Path<String>) -> ApiResult<Response> {
    let permit = api.streams.clone().try_acquire_owned().map_err(|_| ApiError::new(Kind::Busy, "too many streams are open"))?;
    let mut pictures = api.cameras.preview(&name)?;
    pictures.mark_changed(); // the newest one is shown at once
    let draining = api.draining.clone();
    let watcher = (api, caller, name, permit);
    let parts = stream::unfold((pictures, draining, watcher), |(mut pictures, mut draining, watcher)| async move {
        for _ in 0..PREVIEW_SILENCES {
            let (api, caller, name, _) = &watcher;
            tokio::select! {
                changed = pictures.changed() => changed.ok()?,
                () = tokio::time::sleep(PREVIEW_SILENCE) => if api.cameras.is_gone(name) { return None },
                _ = draining.wait_for(|d| *d) => return None,
            }
            // The token may have been revoked since.
            if !api.door.still_admits(caller) {
                return None;
            }
            let picture = pictures.borrow_and_update().clone();
            if let Some(jpeg) = picture {
                return Some((Ok::<_, Infallible>(part(&jpeg)), (pictures, draining, watcher)));
            }
        }
        None
    });
    Ok(([(header::CONTENT_TYPE, "multipart/x-mixed-replace; boundary=frame")], Body::from_stream(parts)).into_response())
}

fn part(jpeg: &[u8]) -> Bytes {
    let head = format!("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
    [head.as_bytes(), jpeg, b"\r\n"].concat().into()
}

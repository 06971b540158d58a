//! `/photos`: upload, list, one, its bytes, delete.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;

use super::{
    Api,
    auth::{Caller, Writer},
    error::{ApiError, ApiResult, Kind},
    files::{self, Served},
    idempotency,
    multipart::{self, Fields},
    paging::{self, ListQuery, ListView, Query},
    views,
};
use crate::{
    domain::photo::{Photo, Source},
    intake::Incoming,
    store::Answer,
};

/// A 2xx means that the photo lies fsynced on disk.
pub async fn upload(
    State(api): State<Arc<Api>>,
    Writer(caller): Writer,
    Query(fields): Query<Fields>,
    request: Request,
) -> ApiResult<Response> {
    let key = idempotency::key(request.headers())?;
    let _turn = api.uploads.try_acquire().map_err(|_| ApiError::new(Kind::Busy, "too many photos are coming in at once"))?;
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let received = multipart::receive(&api, fields, request, key.is_some()).await?;

    let said = serde_json::to_vec(&received.client).expect("plain values serialise");
    let body = idempotency::fingerprint(&method, &path, &[&received.sha256.map(|s| s.0).unwrap_or_default(), &said]);
    let idempotency = idempotency::of(key, &caller.user, body);
    let _held = api.keys.hold(idempotency.as_ref()).await;
    if let Some(i) = &idempotency
        && let Some(answer) = api.store.replay(i)?
    {
        let (id, fresh) = match answer {
            Answer::Photo(id) => (id, true),
            Answer::KnownPhoto(id) => (id, false),
            Answer::Jobs(_) | Answer::Capture { .. } => return Err(other_answer()),
        };
        let photo = api.store.photo(id)?.ok_or_else(|| ApiError::not_found("photo"))?;
        return Ok(created(&photo, fresh));
    }
    let incoming = Incoming { user_id: caller.user, source: Source::Upload, client: received.client, idempotency };
    let accepted = api.intake.finish(received.upload, incoming).await?;
    Ok(created(&accepted.photo, accepted.fresh))
}

fn created(photo: &Photo, fresh: bool) -> Response {
    let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
    (status, [(header::LOCATION, format!("/api/v1/photos/{}", photo.id))], Json(views::photo(photo))).into_response()
}

/// A key whose fingerprint fits was answered with something else: the store mixed two up.
pub fn other_answer() -> ApiError {
    ApiError::internal("an Idempotency-Key leads to another kind of answer")
}

pub async fn list(State(api): State<Arc<Api>>, caller: Caller, Query(query): Query<ListQuery>) -> ApiResult<Json<ListView<Value>>> {
    let page = query.page()?;
    let list = api.store.photos(&query.filter(&caller)?, page)?;
    let items = list.items.iter().map(views::photo).collect();
    Ok(Json(paging::listed(&list, page, items)))
}

pub async fn get(State(api): State<Arc<Api>>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    Ok(Json(views::photo(&find(&api, &caller, &id)?)))
}

/// The original, as it was received.
pub async fn image(State(api): State<Arc<Api>>, caller: Caller, Path(id): Path<String>, headers: HeaderMap) -> ApiResult<Response> {
    let photo = find(&api, &caller, &id)?;
    original(&api, &photo, &headers).await
}

pub async fn original(api: &Api, photo: &Photo, headers: &HeaderMap) -> ApiResult<Response> {
    let path = api.store.blob_path(&photo.sha256);
    let served = Served {
        path: &path,
        content_type: photo.content_type.mime(),
        name: format!("{}.{}", photo.id, photo.content_type.extension()),
        etag: Some(photo.sha256.to_string()),
    };
    files::serve(served, headers).await
}

pub async fn delete(State(api): State<Arc<Api>>, Writer(caller): Writer, Path(id): Path<String>) -> ApiResult<StatusCode> {
    let photo = find(&api, &caller, &id)?;
    api.store.delete_photo(photo.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A photo that this caller may see. An id that is none, an unknown one and somebody else's look the same.
pub fn find(api: &Api, caller: &Caller, id: &str) -> ApiResult<Photo> {
    let photo = id.parse().ok().map(|id| api.store.photo(id)).transpose()?.flatten();
    photo.filter(|p| caller.may_see(&p.user_id)).ok_or_else(|| ApiError::not_found("photo"))
}

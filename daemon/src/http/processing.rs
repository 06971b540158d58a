//! `/processing`: submit, batch, jobs, reprocess, cancel.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{
    Api,
    auth::{Caller, Writer},
    body,
    error::{ApiError, ApiResult, Kind},
    idempotency, multipart,
    paging::{self, ListQuery, ListView, Query},
    photos,
    views::{self, Base, JobView},
};
use crate::{
    domain::{
        ids::{PhotoId, UserId},
        job::{Job, Lane, MAX_MERGED, Merge, Misfit},
        photo::{ClientInfo, Eye},
    },
    store::{Answer, Idempotency, NewJobs, StoreError},
};

/// Photos of one batch (contract).
const MAX_BATCH: usize = 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    photo_id: PhotoId,
    merge_with: Option<Vec<PhotoId>>,
    lane: Option<Lane>,
    client_ref: Option<String>,
    eye: Option<Eye>,
    captured_at: Option<jiff::Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    photo_ids: Vec<PhotoId>,
    lane: Option<Lane>,
    client_ref: Option<String>,
    eye: Option<Eye>,
    captured_at: Option<jiff::Timestamp>,
}

#[derive(Serialize)]
struct Jobs {
    jobs: Vec<JobView>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reprocess {
    lane: Option<Lane>,
}

/// Where a POST went, for its fingerprint.
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Asked {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self { method: parts.method.clone(), path: parts.uri.path().to_owned(), headers: parts.headers.clone() })
    }
}

impl Asked {
    /// The request's key as the store knows it.
    pub fn idempotency(&self, caller: &UserId, body: &[u8]) -> ApiResult<Option<Idempotency>> {
        let body = idempotency::fingerprint(&self.method, &self.path, &[body]);
        Ok(idempotency::of(idempotency::key(&self.headers)?, caller, body))
    }
}

pub async fn submit(
    State(api): State<Arc<Api>>,
    Writer(caller): Writer,
    base: Base,
    asked: Asked,
    body: body::Json<Submit>,
) -> ApiResult<Response> {
    let b = body.value;
    let client = multipart::checked(ClientInfo { client_ref: b.client_ref, eye: b.eye, captured_at: b.captured_at })?;
    let merge = merge(b.photo_id, b.merge_with.unwrap_or_default())?;
    let photos: Vec<PhotoId> = [b.photo_id].into_iter().chain(merge.iter().flat_map(|m| m.with.clone())).collect();
    let owner = owner_of(&api, &caller, &photos, &asked.headers)?;
    let idempotency = asked.idempotency(&caller.user, &body.bytes)?;
    let new = NewJobs { user_id: owner, photo_ids: vec![b.photo_id], merge, lane: lane(b.lane), client, reprocess_of: None };
    one(&api, &base, create(&api, &caller, new, idempotency).await?).await
}

pub async fn batch(
    State(api): State<Arc<Api>>,
    Writer(caller): Writer,
    base: Base,
    asked: Asked,
    body: body::Json<Batch>,
) -> ApiResult<Response> {
    let b = body.value;
    if !(1..=MAX_BATCH).contains(&b.photo_ids.len()) {
        return Err(ApiError::new(Kind::InvalidBody, format!("photo_ids has 1 to {MAX_BATCH} ids; there are {}", b.photo_ids.len())));
    }
    let client = multipart::checked(ClientInfo { client_ref: b.client_ref, eye: b.eye, captured_at: b.captured_at })?;
    let owner = owner_of(&api, &caller, &b.photo_ids, &asked.headers)?;
    let idempotency = asked.idempotency(&caller.user, &body.bytes)?;
    let new = NewJobs { user_id: owner, photo_ids: b.photo_ids, merge: None, lane: lane(b.lane), client, reprocess_of: None };
    let jobs = create(&api, &caller, new, idempotency).await?;
    let jobs = views::jobs(&api, &base, jobs).await?;
    Ok((StatusCode::ACCEPTED, Json(Jobs { jobs })).into_response())
}

pub async fn reprocess(
    State(api): State<Arc<Api>>,
    Writer(caller): Writer,
    Path(id): Path<String>,
    base: Base,
    asked: Asked,
    body: body::Json<Reprocess>,
) -> ApiResult<Response> {
    let old = find(&api, &caller, &id)?;
    let idempotency = asked.idempotency(&caller.user, &body.bytes)?;
    let new = NewJobs {
        user_id: old.user_id,
        photo_ids: vec![old.photo_id],
        merge: old.merge,
        lane: lane(body.value.lane),
        client: old.client,
        reprocess_of: Some(old.id),
    };
    one(&api, &base, create(&api, &caller, new, idempotency).await?).await
}

/// The body means nothing here, but to the fingerprint.
pub async fn cancel(
    State(api): State<Arc<Api>>,
    Writer(caller): Writer,
    Path(id): Path<String>,
    base: Base,
    asked: Asked,
    body: body::Json<IgnoredAny>,
) -> ApiResult<Json<JobView>> {
    let job = find(&api, &caller, &id)?;
    let idempotency = asked.idempotency(&caller.user, &body.bytes)?;
    // To its end even if the client hangs up: a job that is cancelled in the store alone would go on to the end of its step.
    let (deed, id) = (api.clone(), job.id);
    let cancelled = tokio::spawn(async move {
        let job = deed.store.cancel(id, idempotency).await?;
        deed.live.stop(id);
        Ok::<_, StoreError>(job)
    });
    let job = cancelled.await.map_err(ApiError::internal)??;
    Ok(Json(views::job(&api, &base, job).await?))
}

pub async fn get(State(api): State<Arc<Api>>, caller: Caller, Path(id): Path<String>, base: Base) -> ApiResult<Json<JobView>> {
    let job = find(&api, &caller, &id)?;
    Ok(Json(views::job(&api, &base, job).await?))
}

pub async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    base: Base,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<ListView<JobView>>> {
    let page = query.page()?;
    let mut list = api.store.jobs(&query.filter(&caller)?, page)?;
    let items = views::jobs(&api, &base, std::mem::take(&mut list.items)).await?;
    Ok(Json(paging::listed(&list, page, items)))
}

/// Somebody waits in front of the screen unless it is said otherwise.
pub fn lane(said: Option<Lane>) -> Lane {
    said.unwrap_or(Lane::HighPriority)
}

/// Photos that somebody named to be merged into `photo`; one that does not fit is that person's to know.
fn merge(photo: PhotoId, with: Vec<PhotoId>) -> ApiResult<Option<Merge>> {
    let wrong = |what: String| Err(ApiError::new(Kind::InvalidBody, what));
    if with.len() > MAX_MERGED {
        return wrong(format!("merge_with has at most {MAX_MERGED} ids; there are {}", with.len()));
    }
    if with.contains(&photo) {
        return wrong("merge_with names the photo itself; it is for other photos of the same eye".to_owned());
    }
    if with.iter().enumerate().any(|(n, id)| with[..n].contains(id)) {
        return wrong("merge_with names a photo twice".to_owned());
    }
    Ok((!with.is_empty()).then_some(Merge { with, misfit: Misfit::Fails }))
}

/// Creates jobs, or finds those that the key created before. What is answered is the jobs as they are now.
pub async fn create(api: &Api, caller: &Caller, new: NewJobs, idempotency: Option<Idempotency>) -> ApiResult<Vec<Job>> {
    let _held = api.keys.hold(idempotency.as_ref()).await;
    if let Some(i) = &idempotency
        && let Some(answer) = api.store.replay(i)?
    {
        let Answer::Jobs(ids) = answer else { return Err(photos::other_answer()) };
        // Two tokens of one name may have different scopes.
        let seen = |id| api.store.job(id)?.filter(|job| caller.may_see(&job.user_id)).ok_or_else(|| ApiError::not_found("job"));
        return ids.into_iter().map(seen).collect();
    }
    Ok(api.store.submit(new, idempotency).await?)
}

async fn one(api: &Api, base: &Base, jobs: Vec<Job>) -> ApiResult<Response> {
    let job = jobs.into_iter().next().ok_or_else(|| ApiError::internal("a submit made no job"))?;
    let location = format!("/api/v1/processing/jobs/{}", job.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(views::job(api, base, job).await?)).into_response())
}

/// The one owner of these photos: an admin's jobs belong to the photo's owner, a batch is one transaction of one owner, and nobody's photo is
/// merged into another's.
///
/// A request with a key may be a replay, whose photos somebody has deleted since and whose jobs are there: it is the caller's own then, and
/// the store, which knows the key or misses the photos, has the last word.
fn owner_of(api: &Api, caller: &Caller, ids: &[PhotoId], headers: &HeaderMap) -> ApiResult<UserId> {
    let mut owner: Option<UserId> = None;
    for id in ids {
        let Some(photo) = api.store.photo(*id)?.filter(|p| caller.may_see(&p.user_id)) else {
            return if idempotency::key(headers)?.is_some() { Ok(caller.user.clone()) } else { Err(ApiError::not_found("photo")) };
        };
        if owner.as_ref().is_some_and(|o| *o != photo.user_id) {
            return Err(ApiError::new(Kind::InvalidBody, "photos that are submitted together must have one owner"));
        }
        owner = Some(photo.user_id);
    }
    owner.ok_or_else(|| ApiError::not_found("photo"))
}

fn find(api: &Api, caller: &Caller, id: &str) -> ApiResult<Job> {
    let job = id.parse().ok().map(|id| api.store.job(id)).transpose()?.flatten();
    job.filter(|j| caller.may_see(&j.user_id)).ok_or_else(|| ApiError::not_found("job"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_typing_error_in_a_body_is_refused_not_ignored() {
        let id = uuid::Uuid::nil();
        let ok: Submit = serde_json::from_value(json!({ "photo_id": id, "lane": "default", "eye": null })).expect("valid");
        assert_eq!(lane(ok.lane), Lane::Default);
        assert_eq!(lane(None), Lane::HighPriority);
        for bad in
            [json!({ "photo_id": id, "lan": "default" }), json!({ "photo_id": id, "lane": "fast" }), json!({ "photo_id": "x" }), json!({})]
        {
            assert!(serde_json::from_value::<Submit>(bad.clone()).is_err(), "{bad}");
        }
        assert!(serde_json::from_value::<Batch>(json!({ "photo_ids": id })).is_err());
    }

    #[test]
    fn at_most_two_photos_are_merged_each_another_one() {
        let id = |n| PhotoId(uuid::Uuid::from_u128(n));
        assert_eq!(merge(id(1), vec![]).expect("nothing to merge"), None);
        let both = merge(id(1), vec![id(3), id(2)]).expect("valid").expect("something to merge");
        assert_eq!(both, Merge { with: vec![id(3), id(2)], misfit: Misfit::Fails });
        for bad in [vec![id(2), id(3), id(4)], vec![id(1)], vec![id(2), id(1)], vec![id(2), id(2)]] {
            assert_eq!(merge(id(1), bad.clone()).expect_err("refused").kind(), Kind::InvalidBody, "{bad:?}");
        }
    }
}

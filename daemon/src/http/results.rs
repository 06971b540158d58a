//! Signed links to results and originals on this device. The signature is the ticket: no token, so that they work in `<img>` and for
//! whoever the clinic's program hands them to, until they expire.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    response::Response,
};
use serde::Deserialize;

use super::{
    Api,
    error::{ApiError, ApiResult, Kind},
    files::{self, Served},
    paging::Query,
    photos,
};
use crate::domain::{ids::JobId, job::Job};

/// As text: what cannot be read is as wrong as a bad signature, and is answered alike.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ticket {
    expires: String,
    sig: String,
}

pub async fn file(
    State(api): State<Arc<Api>>,
    Path((job, name)): Path<(String, String)>,
    Query(ticket): Query<Ticket>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let refused = || ApiError::new(Kind::BadSignature, "the link was changed or has expired");
    let id: JobId = job.parse().map_err(|_| refused())?;
    let expires = ticket.expires.parse().map_err(|_| refused())?;
    if !api.signer.holds(id, &name, expires, &ticket.sig, api.clock.now().as_second()) {
        return Err(refused());
    }
    let job = api.store.job(id)?.ok_or_else(|| ApiError::not_found("result"))?;
    let mut response = if let Some(ending) = name.strip_prefix("original.") {
        let photo = api.store.photo(job.photo_id)?.filter(|p| p.content_type.extension() == ending);
        photos::original(&api, &photo.ok_or_else(|| ApiError::not_found("file"))?, &headers).await?
    } else {
        result(&api, &job, &name, &headers).await?
    };
    // The clinic's own pages may show it: the link itself is what lets them.
    response.headers_mut().insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin"));
    Ok(response)
}

/// Known names only: nothing of the caller's text becomes part of a path.
async fn result(api: &Api, job: &Job, name: &str, headers: &HeaderMap) -> ApiResult<Response> {
    let (file, content_type, sha256) = match (&job.artifacts, name) {
        (Some(a), "image.jpg") => ("image.jpg", "image/jpeg", Some(a.files.image.sha256)),
        (Some(a), "mask.png") => ("mask.png", "image/png", Some(a.files.mask.sha256)),
        (Some(a), "synthetic.png") => ("synthetic.png", "image/png", Some(a.files.synthetic.sha256)),
        (Some(a), "report.json") => ("report.json", "application/json", Some(a.report_sha256)),
        (Some(_), "thumb.jpg") => ("thumb.jpg", "image/jpeg", None),
        (None, "annotated.jpg") if job.annotated.is_some() => ("annotated.jpg", "image/jpeg", None),
        _ => return Err(ApiError::not_found("file")),
    };
    let folder = if job.artifacts.is_some() { api.store.result_dir(job.id) } else { api.store.refused_dir(job.id) };
    let path = folder.join(file);
    // A job writes its folder once and for all, so its id names the small pictures' bytes too.
    let etag = sha256.map_or_else(|| format!("{}-thumb", job.id), |s| s.to_string());
    let served = Served { path: &path, content_type, name: format!("{}-{file}", job.id), etag: Some(etag) };
    files::serve(served, headers).await
}

//! `/session`: a browser changes its token for a cookie.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api,
    auth::{
        self, Caller,
        sessions::{COOKIE, LIFETIME},
    },
    body,
    error::{ApiError, ApiResult, Kind},
};
use crate::config::AuthMode;

fn view(caller: &Caller) -> Value {
    json!({ "user_id": caller.user, "scope": caller.scope })
}

/// Who am I.
pub async fn get(caller: Caller) -> Json<Value> {
    Json(view(&caller))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// Instead of the Authorization header.
    token: Option<String>,
}

/// Longest time for the body of one who has not said who he is: it comes with its head.
const BODY_TIME: Duration = Duration::from_secs(3);

/// Needs the token itself: a cookie cannot prolong itself past its token's holder.
pub async fn begin(State(api): State<Arc<Api>>, mut headers: HeaderMap, request: Request) -> ApiResult<Response> {
    let body = if auth::bearer(&headers).is_some() {
        api.door.admit(&headers)?;
        body::Json::<Begin>::from_request(request, &()).await?
    } else {
        body_of_a_stranger(&api, request).await?
    };
    if let (None, Some(token)) = (auth::bearer(&headers), body.value.token) {
        let value = format!("Bearer {token}").parse().map_err(|_| ApiError::new(Kind::Unauthorized, "the token is none of ours"))?;
        headers.insert(header::AUTHORIZATION, value);
    }
    if auth::bearer(&headers).is_none() && api.door.mode == AuthMode::Token {
        return Err(ApiError::new(Kind::Unauthorized, "a session begins with a token in the Authorization header"));
    }
    let caller = api.door.admit(&headers)?;
    let mut response = Json(view(&caller)).into_response();
    if let Some(id) = &caller.token_id {
        let name = api.door.sessions.begin(id, api.clock.mono()).map_err(ApiError::internal)?;
        set_cookie(&api, &mut response, &name, LIFETIME.as_secs())?;
    }
    Ok(response)
}

/// The one body that is read before anybody knows whose it is: only for a moment, and of few at once, or it would take the connections of
/// those who are known.
async fn body_of_a_stranger(api: &Api, request: Request) -> ApiResult<body::Json<Begin>> {
    let _turn = api.beginning.try_acquire().map_err(|_| ApiError::new(Kind::Busy, "too many sessions begin at once"))?;
    let body = tokio::time::timeout(BODY_TIME, body::Json::<Begin>::from_request(request, &())).await;
    body.map_err(|_| ApiError::new(Kind::RequestTimeout, "the body came too slowly"))?
}

/// Ends the cookie's session; there is nothing to refuse.
pub async fn end(State(api): State<Arc<Api>>, headers: HeaderMap) -> ApiResult<Response> {
    if let Some(name) = auth::cookie(&headers) {
        api.door.sessions.end(name);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&api, &mut response, "", 0)?;
    Ok(response)
}

fn set_cookie(api: &Api, response: &mut Response, name: &str, max_age: u64) -> ApiResult<()> {
    let secure = if api.tls { "; Secure" } else { "" };
    let value = format!("{COOKIE}={name}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age}{secure}");
    response.headers_mut().insert(header::SET_COOKIE, value.parse().map_err(ApiError::internal)?);
    Ok(())
}

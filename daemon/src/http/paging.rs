//! Query parameters of the lists: limit, offset or page or cursor, filters.
//!
//! A cursor is a place in the stored order, opaque to clients: pages do not shift when something new comes in at the front.

use axum::{extract::FromRequestParts, http::request::Parts};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    auth::Caller,
    error::{ApiError, ApiResult, Kind},
};
use crate::{
    domain::{
        ids::{PhotoId, Seq},
        job::Status,
        photo::Eye,
    },
    store::{Filter, Listed, Page},
};

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

/// Query parameters; what cannot be read (a parameter that stands twice) is a problem like any other.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        axum::extract::Query::try_from_uri(&parts.uri).map(|q| Self(q.0)).map_err(|e| invalid(&e.body_text()))
    }
}

/// All as text: what is wrong with one is said in our own words.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ListQuery {
    limit: Option<String>,
    offset: Option<String>,
    page: Option<String>,
    cursor: Option<String>,
    status: Option<String>,
    photo_id: Option<String>,
    client_ref: Option<String>,
    eye: Option<String>,
    captured_at: Option<String>,
}

impl ListQuery {
    pub fn page(&self) -> ApiResult<Page> {
        let limit = number("limit", self.limit.as_deref(), 1, MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
        let offset = number("offset", self.offset.as_deref(), 0, usize::MAX)?;
        let page = number("page", self.page.as_deref(), 1, usize::MAX / MAX_LIMIT)?;
        let before = given(self.cursor.as_deref()).map(read_cursor).transpose()?;
        if [offset.is_some(), page.is_some(), before.is_some()].into_iter().filter(|x| *x).count() > 1 {
            return Err(invalid("offset, page and cursor exclude each other"));
        }
        Ok(Page { limit, offset: offset.or(page.map(|p| (p - 1) * limit)).unwrap_or(0), before })
    }

    pub fn filter(&self, caller: &Caller) -> ApiResult<Filter> {
        Ok(Filter {
            owner: caller.only(),
            status: given(self.status.as_deref()).map(status).transpose()?,
            photo: given(self.photo_id.as_deref())
                .map(|s| s.parse::<PhotoId>().map_err(|_| invalid("photo_id is not a UUID")))
                .transpose()?,
            client_ref: given(self.client_ref.as_deref()).map(str::to_owned),
            eye: given(self.eye.as_deref()).map(eye).transpose()?,
            captured_at: given(self.captured_at.as_deref()).map(captured_at).transpose()?,
        })
    }
}

/// A list as clients see it.
#[derive(Serialize)]
pub struct ListView<V> {
    items: Vec<V>,
    total: usize,
    limit: usize,
    offset: usize,
    next_cursor: Option<String>,
}

/// The frame of a list; `items` are already views.
pub fn listed<T, V: Serialize>(list: &Listed<T>, page: Page, items: Vec<V>) -> ListView<V> {
    ListView { items, total: list.total, limit: page.limit, offset: page.offset, next_cursor: list.next.map(cursor) }
}

pub fn eye(s: &str) -> ApiResult<Eye> {
    match s {
        "left" => Ok(Eye::Left),
        "right" => Ok(Eye::Right),
        _ => Err(invalid("eye is left or right")),
    }
}

pub fn captured_at(s: &str) -> ApiResult<Timestamp> {
    s.parse().map_err(|_| invalid("captured_at is an RFC 3339 time with its offset; a + in an address is written %2B"))
}

fn status(s: &str) -> ApiResult<Status> {
    let names = Status::ALL.map(Status::name).join(", ");
    Status::ALL.into_iter().find(|st| st.name() == s).ok_or_else(|| invalid(&format!("status is one of {names}")))
}

fn number(name: &str, text: Option<&str>, from: usize, to: usize) -> ApiResult<Option<usize>> {
    let Some(text) = given(text) else { return Ok(None) };
    match text.parse() {
        Ok(n) if (from..=to).contains(&n) => Ok(Some(n)),
        _ if to == MAX_LIMIT => Err(invalid(&format!("{name} is a number from {from} to {to}"))),
        _ => Err(invalid(&format!("{name} is a number from {from}"))),
    }
}

/// An empty parameter is one that was not given: forms send those.
fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|t| !t.is_empty())
}

fn cursor(seq: Seq) -> String {
    URL_SAFE_NO_PAD.encode(format!("1:{seq}"))
}

fn read_cursor(text: &str) -> ApiResult<Seq> {
    let seq = URL_SAFE_NO_PAD.decode(text).ok().and_then(|b| String::from_utf8(b).ok());
    let seq = seq.as_deref().and_then(|s| s.strip_prefix("1:")).and_then(|s| s.parse().ok());
    seq.map(Seq).ok_or_else(|| invalid("cursor is not one of ours"))
}

fn invalid(detail: &str) -> ApiError {
    ApiError::new(Kind::InvalidParameter, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(set: impl FnOnce(&mut ListQuery)) -> ListQuery {
        let mut q = ListQuery::default();
        set(&mut q);
        q
    }

    #[test]
    fn a_cursor_comes_back_as_the_same_place_and_anything_else_is_refused() {
        let q = query(|q| q.cursor = Some(cursor(Seq(7_000_000_000))));
        assert_eq!(q.page().expect("valid").before, Some(Seq(7_000_000_000)));
        for bad in ["7", "MTp4", "!!", "MjoxMA"] {
            assert_eq!(query(|q| q.cursor = Some(bad.into())).page().expect_err(bad).kind(), Kind::InvalidParameter);
        }
    }

    #[test]
    fn limits_are_1_to_100_and_20_unless_said() {
        assert_eq!(ListQuery::default().page().expect("valid").limit, 20);
        for (text, ok) in [("1", true), ("100", true), ("0", false), ("101", false), ("-1", false), ("x", false), ("", true)] {
            assert_eq!(query(|q| q.limit = Some(text.into())).page().is_ok(), ok, "{text:?}");
        }
    }

    #[test]
    fn page_2_begins_after_one_limit() {
        let q = query(|q| (q.limit, q.page) = (Some("10".into()), Some("2".into())));
        assert_eq!(q.page().expect("valid").offset, 10);
        assert!(query(|q| (q.offset, q.page) = (Some("1".into()), Some("2".into()))).page().is_err());
    }
}

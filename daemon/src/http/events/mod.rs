//! `/events`: job events as Server-Sent Events (WHATWG HTML, 9.2).
//!
//! ```text
//! id: 4711                     a transition: durable, in the device's order, resent after Last-Event-ID
//! event: completed
//! data: {"type":"completed","seq":4711,...}
//!
//! event: progress              where a running job is: neither stored nor resent, so without an id
//! data: {"type":"progress",...}
//!
//! id: 9000                     what was missed is gone, or never was ours: read the lists again; events go on after this id
//! event: reset
//! data: {"type":"reset","seq":9000}
//!
//! : keep-alive                 every 15 s
//! ```

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::stream;
use serde::Deserialize;

use self::feed::{Feed, Item};
use super::{Api, auth::Caller, error::ApiResult, paging::Query};

pub mod feed;

/// How long a browser waits before it connects again.
const RECONNECT: Duration = Duration::from_secs(2);

/// Browsers send the header when they connect again by themselves; a page that starts anew can only use the query.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Since {
    last_event_id: Option<String>,
}

impl Since {
    pub fn or_header(self, headers: &HeaderMap) -> Option<String> {
        let header = headers.get("last-event-id").map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        header.or(self.last_event_id).filter(|id| !id.is_empty())
    }
}

pub async fn sse(State(api): State<Arc<Api>>, caller: Caller, Query(since): Query<Since>, headers: HeaderMap) -> ApiResult<Response> {
    let feed = Feed::open(api, caller, since.or_header(&headers).as_deref())?;
    let first = Event::default().retry(RECONNECT).comment("hello");
    let events = stream::unfold((feed, Some(first)), |(mut feed, first)| async move {
        let event = match first {
            Some(first) => first,
            None => event(&feed.next().await?),
        };
        Some((Ok::<_, Infallible>(event), (feed, None)))
    });
    Ok(([("x-accel-buffering", "no")], Sse::new(events)).into_response())
}

fn event(item: &Item) -> Event {
    match item {
        Item::Alive => Event::default().comment("keep-alive"),
        item => {
            // Compact JSON has no line break, which would end the field.
            let event = Event::default().event(item.name()).data(item.json().to_string());
            item.seq().map_or(event.clone(), |seq| event.id(seq.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use jiff::Timestamp;

    use super::*;
    use crate::domain::{
        event::{EventKind, JobEvent, ProgressTick},
        ids::Seq,
        stage::Stage,
        transition::tests::pending,
    };

    async fn text(item: Item) -> String {
        let response = Sse::new(stream::iter([Ok::<_, Infallible>(event(&item))])).into_response();
        String::from_utf8(to_bytes(response.into_body(), 1 << 16).await.expect("read").to_vec()).expect("UTF-8")
    }

    #[tokio::test]
    async fn a_transition_has_an_id_and_its_name_and_progress_has_no_id() {
        let job = pending();
        let e = JobEvent::of(&job, EventKind::Submitted, Seq(42), Timestamp::UNIX_EPOCH);
        let t = text(Item::Event(Arc::new(e))).await;
        assert!(t.contains("id: 42\n") && t.contains("event: submitted\n"), "{t}");
        let data: serde_json::Value = serde_json::from_str(t.lines().find_map(|l| l.strip_prefix("data: ")).expect("data")).expect("JSON");
        assert_eq!((&data["type"], &data["seq"]), (&"submitted".into(), &42.into()));
        assert_eq!(data["job_id"], job.id.to_string());

        let tick = ProgressTick { job_id: job.id, user_id: job.user_id, current_step: Stage::Enhance, progress: 61 };
        let t = text(Item::Progress(tick)).await;
        assert!(t.contains("event: progress\n") && !t.contains("id: "), "{t}");
        assert_eq!(text(Item::Alive).await, ": keep-alive\n\n");
        assert!(text(Item::Reset(Seq(7))).await.contains("id: 7\n"));
    }

    #[test]
    fn the_header_wins_over_the_query() {
        let headers = HeaderMap::from_iter([("last-event-id".parse().expect("a name"), "9".parse().expect("a value"))]);
        let since = || Since { last_event_id: Some("3".into()) };
        assert_eq!(since().or_header(&headers).as_deref(), Some("9"));
        assert_eq!(since().or_header(&HeaderMap::new()).as_deref(), Some("3"));
        assert_eq!(Since::default().or_header(&HeaderMap::new()), None);
    }
}

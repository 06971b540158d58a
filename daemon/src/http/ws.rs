//! `/ws`: the same events as WebSocket text messages, one JSON object each. What a client sends is read (so that its pongs and its goodbye
//! are seen) and ignored.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        State,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code},
    },
    http::HeaderMap,
    response::Response,
};
use tokio::time::{Instant, sleep_until};

use super::{
    Api,
    auth::Caller,
    error::ApiResult,
    events::{
        Since,
        feed::{Feed, Item},
    },
    paging::Query,
};

/// A client that answered no ping for three of them is gone.
const SILENCE: Duration = Duration::from_secs(45);

/// Clients have nothing to say: bytes.
const MAX_MESSAGE: usize = 4096;

pub async fn upgrade(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(since): Query<Since>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> ApiResult<Response> {
    let feed = Feed::open(api, caller, since.or_header(&headers).as_deref())?;
    Ok(upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).on_upgrade(|socket| talk(socket, feed)))
}

async fn talk(mut socket: WebSocket, mut feed: Feed) {
    let mut heard = Instant::now();
    loop {
        let message = tokio::select! {
            item = feed.next() => match item {
                Some(Item::Alive) => Message::Ping(Default::default()),
                Some(item) => Message::Text(item.json().to_string().into()),
                None => {
                    let reason = Utf8Bytes::from_static("the stream has ended");
                    Message::Close(Some(CloseFrame { code: close_code::AWAY, reason }))
                }
            },
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {
                    heard = Instant::now();
                    continue;
                }
            },
            () = sleep_until(heard + SILENCE) => return,
        };
        let last = matches!(message, Message::Close(_));
        if socket.send(message).await.is_err() || last {
            return;
        }
    }
}

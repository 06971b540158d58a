//! The broker, over rumqttc's MQTT v5: [`EventSink`] with an answer for each message.
//!
//! ```text
//!            CONNACK + SUBACK              broken: every waiting publish fails
//! [away] ------------------------> [connected] ------------------------------> [away] 0.5 s .. 2 s, again
//!                                       | close: last message, its PUBACK, DISCONNECT
//!                                       +------------------------------------> [closed]
//! ```
//!
//! Invariants:
//! - A connection has its own client, event loop and table of waiting publishes, and takes them with it when it breaks. rumqttc drops
//!   what waits when the broker knows no session, and a packet id that collides can hang its loop: nothing of an old connection is
//!   carried into a new one. The caller hears of the failure and publishes again (at least once).
//! - rumqttc gives no future for a PUBACK. It says in which order publishes left (`Outgoing::Publish(id)`, the order in which they were
//!   queued) and which id was acknowledged; the table puts the two together.
//! - A message is queued by the call of `publish`, not by the first poll of its future: futures that wait together are polled in no
//!   order that one may count on (tokio's budget puts a task's futures back at random places), and messages would leave in that order.
//! - The event loop's future is never dropped half way, unless its connection goes too: a packet that was taken from the queue, but not
//!   yet written, would be lost.
//! - No acknowledgement is waited for without end: a broker that answers pings, and that alone, would hold back every event.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use rand::Rng;
use rumqttc::{
    Outgoing, TlsConfiguration, Transport,
    v5::{
        AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions,
        mqttbytes::{
            QoS,
            v5::{ConnectProperties, Filter, LastWill, PubAck, PubAckReason, SubscribeReasonCode},
        },
    },
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::ports::{EventSink, Message, PUBLISHES_AT_ONCE, Qos, SinkError};

#[cfg(test)]
mod tests;

/// A dead broker is noticed after at most two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// TCP, TLS and CONNACK together; with the longest pause it stays below the 5 s in which a broker that returns is found.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a PUBACK or SUBACK; then the connection is given up, and what was not acknowledged is published again, in order, on the next one.
/// Longer than a broker takes that saves its state to a slow disk, or a line of some kbit/s for all the publishes at once; short enough
/// that nobody looks at the dashboard of a device that seems to stand still and goes to fetch it.
const ACK_LIMIT: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// rumqttc's queue: what a caller that was stopped left there, the publishes of the next one, SUBSCRIBE and DISCONNECT find room.
const QUEUE: usize = 2 * PUBLISHES_AT_ONCE + 4;
/// Commands and greetings that nobody took yet; further ones are dropped.
const INCOMING: usize = 64;
/// Largest packet that the broker may send us, bytes; a command is a few hundred.
const MAX_INCOMING_BYTES: u32 = 64 << 10;

/// Where the broker is and who we are. Secrets come read from their files.
#[derive(Clone)]
pub struct Options {
    /// `mqtt://host[:1883]` or `mqtts://host[:8883]`.
    pub url: String,
    /// Empty: anonymous.
    pub username: String,
    pub password: String,
    /// PEM; None: the device's own CA certificates.
    pub ca: Option<Vec<u8>>,
    /// PEM: certificate chain and key of this client.
    pub client_cert: Option<(Vec<u8>, Vec<u8>)>,
    /// One device, one id: a second connection with the same id throws the first one out.
    pub client_id: String,
    /// What the broker says in our name when we vanish; None: nothing.
    pub will: Option<Message>,
    pub subscriptions: Vec<String>,
}

/// Why the options cannot work; nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum BadOptions {
    #[error("{0:?} is not a broker's address; write it as mqtt://host:1883 or mqtts://host:8883, without user or password")]
    Url(String),
    #[error("the {what} cannot be used: {why}")]
    Tls { what: &'static str, why: String },
}

/// Who waits for a publish.
type Waiter = oneshot::Sender<Result<(), SinkError>>;

/// One connection: its client and the publishes that wait.
struct Connection {
    client: AsyncClient,
    /// Queued, in order; rumqttc has not said yet under which id.
    queued: VecDeque<Waiter>,
    /// Sent with this id, PUBACK outstanding; and when it has to be there.
    sent: HashMap<u16, (Waiter, Instant)>,
    /// Bytes that the broker takes at most.
    max_packet: usize,
}

struct Shared {
    /// None: away.
    connection: Mutex<Option<Connection>>,
    connected: watch::Sender<bool>,
    /// No new connection after this.
    closing: watch::Sender<bool>,
    /// [`ACK_LIMIT`], but in tests.
    ack_limit: Duration,
}

/// The broker. Dropped without [`EventSink::close`], the connection breaks and the broker publishes the will.
pub struct MqttSink {
    shared: Arc<Shared>,
    incoming: Mutex<Option<mpsc::Receiver<Message>>>,
    task: JoinHandle<()>,
}

impl MqttSink {
    /// Starts to connect, and keeps connecting, on the current tokio runtime.
    pub fn start(options: Options) -> Result<Self, BadOptions> {
        Self::with_ack_limit(options, ACK_LIMIT)
    }

    fn with_ack_limit(options: Options, ack_limit: Duration) -> Result<Self, BadOptions> {
        let prepared = prepare(&options)?;
        let (tx, rx) = mpsc::channel(INCOMING);
        let (connected, closing) = (watch::channel(false).0, watch::channel(false).0);
        let shared = Arc::new(Shared { connection: Mutex::new(None), connected, closing, ack_limit });
        let task = tokio::spawn(keep_connected(shared.clone(), prepared, options.subscriptions, tx));
        Ok(Self { shared, incoming: Mutex::new(Some(rx)), task })
    }
}

impl Drop for MqttSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl EventSink for MqttSink {
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), SinkError>> {
        let queued = self.shared.queue(message);
        Box::pin(async move { queued?.await.unwrap_or_else(|_| Err(away("the connection broke"))) })
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.shared.connected.subscribe()
    }

    fn incoming(&self) -> Option<mpsc::Receiver<Message>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn close(&self, last: Message, limit: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut connected = self.shared.connected.subscribe();
            let goodbye = async {
                if let Err(error) = self.publish(last).await {
                    tracing::debug!(%error, "the last message was not taken; the broker will publish the will");
                    return;
                }
                if let Some(connection) = &*self.shared.lock() {
                    let _ = connection.client.try_disconnect();
                }
                let _ = connected.wait_for(|up| !up).await;
            };
            // Said before, not after: when the broker answers DISCONNECT by hanging up, nobody may connect again.
            self.shared.closing.send_replace(true);
            if tokio::time::timeout(limit, goodbye).await.is_err() {
                tracing::debug!("the broker did not take our goodbye in time");
            }
            self.task.abort();
            self.shared.broken("closed");
        })
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues under the lock: the order of `queued` is the order in rumqttc's queue.
    fn queue(&self, message: Message) -> Result<oneshot::Receiver<Result<(), SinkError>>, SinkError> {
        let mut guard = self.lock();
        let connection = guard.as_mut().ok_or_else(|| away("not connected"))?;
        // A packet above the broker's limit would end the connection, again and again.
        if message.topic.len() + message.payload.len() + 64 > connection.max_packet {
            return Err(away("the message is larger than the broker takes"));
        }
        let qos = match message.qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
        };
        let queued = connection.client.try_publish(message.topic, qos, message.retain, message.payload);
        queued.map_err(|_| away("the queue is full or the topic is not valid"))?;
        let (tx, rx) = oneshot::channel();
        connection.queued.push_back(tx);
        Ok(rx)
    }

    /// A publish left under this id; 0 is QoS 0, which is done with that.
    fn left(&self, id: u16) {
        if let Some(connection) = self.lock().as_mut()
            && let Some(waiter) = connection.queued.pop_front()
        {
            if id == 0 {
                let _ = waiter.send(Ok(()));
            } else {
                connection.sent.insert(id, (waiter, Instant::now() + self.ack_limit));
            }
        }
    }

    fn acknowledged(&self, ack: &PubAck) {
        let waiter = self.lock().as_mut().and_then(|connection| connection.sent.remove(&ack.pkid));
        let verdict = match ack.reason {
            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Ok(()),
            reason => Err(SinkError(format!("the broker refuses the message: {reason:?}"))),
        };
        if let Some((waiter, _)) = waiter {
            let _ = waiter.send(verdict);
        }
    }

    /// When the first PUBACK is late. What is queued and does not leave waits for one of these, too.
    fn ack_due(&self) -> Option<Instant> {
        self.lock().as_ref()?.sent.values().map(|(_, due)| *due).min()
    }

    /// Everything that waits on this connection fails.
    fn broken(&self, why: &str) {
        self.connected.send_if_modified(|up| std::mem::replace(up, false));
        if let Some(connection) = self.lock().take() {
            for waiter in connection.queued.into_iter().chain(connection.sent.into_values().map(|(waiter, _)| waiter)) {
                let _ = waiter.send(Err(away(why)));
            }
        }
    }
}

fn away(why: &str) -> SinkError {
    SinkError(why.to_owned())
}

async fn keep_connected(shared: Arc<Shared>, options: MqttOptions, subscriptions: Vec<String>, incoming: mpsc::Sender<Message>) {
    let mut closing = shared.closing.subscribe();
    let mut pause = FIRST_PAUSE;
    let mut said = String::new();
    while !*closing.borrow_and_update() {
        let why = one_connection(&shared, &options, &subscriptions, &incoming).await;
        let was_up = *shared.connected.borrow();
        shared.broken(&why);
        // Said once for each reason: a broker that is away for a night would fill the log. The end that we asked for is no news.
        if !*closing.borrow() && (was_up || said != why) {
            tracing::warn!(reason = %why, "the broker is away; trying again");
            said = why;
        }
        pause = if was_up { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        let jitter = rand::rng().random_range(0.7..=1.0);
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
            _ = closing.changed() => {}
        }
    }
}

/// Whether the broker lets us in: one connection, ended at once; else why not. The caller gives it an id of its own and no will, so that a daemon
/// that runs is neither thrown out nor spoken for.
pub async fn probe(options: &Options) -> Result<(), String> {
    let prepared = prepare(options).map_err(|e| e.to_string())?;
    let (client, mut events) = AsyncClient::new(prepared, QUEUE);
    loop {
        match next_event(&mut events).await? {
            Event::Incoming(Incoming::ConnAck(_)) => client.try_disconnect().map_err(|e| e.to_string())?,
            Event::Outgoing(Outgoing::Disconnect) => return Ok(()),
            _ => {}
        }
    }
}

/// From the TCP connection to its end; gives the reason of the end.
async fn one_connection(shared: &Shared, options: &MqttOptions, subscriptions: &[String], incoming: &mpsc::Sender<Message>) -> String {
    let (client, mut events) = AsyncClient::new(options.clone(), QUEUE);
    let mut client = Some(client);
    let mut subscribed_by = None;
    loop {
        let event = match subscribed_by.into_iter().chain(shared.ack_due()).min() {
            Some(due) => {
                timeout_at(due, next_event(&mut events)).await.unwrap_or_else(|_| Err("an acknowledgement does not come".to_owned()))
            }
            None => next_event(&mut events).await,
        };
        match event {
            Err(why) => return why,
            Ok(Event::Incoming(Incoming::ConnAck(ack))) => {
                let Some(client) = client.take() else { return "two CONNACKs".to_owned() };
                let filters = subscriptions.iter().map(|topic| Filter::new(topic.clone(), QoS::AtLeastOnce));
                if !subscriptions.is_empty() && client.try_subscribe_many(filters).is_err() {
                    return "a subscription is not a valid topic".to_owned();
                }
                let max_packet = ack.properties.and_then(|p| p.max_packet_size).map_or(usize::MAX, |n| n as usize);
                *shared.lock() = Some(Connection { client, queued: VecDeque::new(), sent: HashMap::new(), max_packet });
                if subscriptions.is_empty() {
                    up(shared);
                } else {
                    subscribed_by = Some(Instant::now() + shared.ack_limit);
                }
            }
            Ok(Event::Incoming(Incoming::SubAck(ack))) => {
                subscribed_by = None;
                // A broker whose rules forbid a subscription still takes our messages.
                if ack.return_codes.iter().any(|code| !matches!(code, SubscribeReasonCode::Success(_))) {
                    tracing::warn!("the broker refuses a subscription; commands and greetings may not arrive");
                }
                up(shared);
            }
            Ok(Event::Incoming(Incoming::PubAck(ack))) => {
                shared.acknowledged(&ack);
                // rumqttc forgets a publish that waits for this id when its holder was refused: only a new connection frees it.
                if ack.reason != PubAckReason::Success && events.state.collision.is_some() {
                    return "a packet id is blocked".to_owned();
                }
            }
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                let message = Message {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: publish.payload.to_vec(),
                    qos: if publish.qos == QoS::AtMostOnce { Qos::AtMostOnce } else { Qos::AtLeastOnce },
                    retain: publish.retain,
                };
                if incoming.try_send(message).is_err() {
                    tracing::warn!("a message from the broker was dropped: {INCOMING} wait already");
                }
            }
            Ok(Event::Outgoing(Outgoing::Publish(id))) => shared.left(id),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return "closed".to_owned(),
            Ok(_) => {}
        }
    }
}

fn up(shared: &Shared) {
    if !shared.connected.send_replace(true) {
        tracing::info!("connected to the broker");
    }
}

/// A ping makes an event at least each keep-alive. A poll that takes two is stuck in a write that nobody reads.
async fn next_event(events: &mut EventLoop) -> Result<Event, String> {
    let limit = CONNECT_TIMEOUT + events.options.keep_alive() * 2;
    match tokio::time::timeout(limit, events.poll()).await {
        Err(_) => Err("no sign of life".to_owned()),
        Ok(Err(ConnectionError::ConnectionRefused(code))) => Err(format!("the broker refuses us: {code:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(event)) => Ok(event),
    }
}

/// Whether the options can work; nothing is started.
pub fn check(options: &Options) -> Result<(), BadOptions> {
    prepare(options).map(drop)
}

fn prepare(options: &Options) -> Result<MqttOptions, BadOptions> {
    let (tls, host, port) = split_url(&options.url).ok_or_else(|| BadOptions::Url(without_user(&options.url)))?;
    let mut mqtt = MqttOptions::new(&options.client_id, host, port);
    mqtt.set_keep_alive(KEEP_ALIVE)
        .set_clean_start(true)
        .set_connection_timeout(CONNECT_TIMEOUT.as_secs())
        .set_connect_properties(ConnectProperties { max_packet_size: Some(MAX_INCOMING_BYTES), ..ConnectProperties::new() })
        .set_outgoing_inflight_upper_limit(2 * PUBLISHES_AT_ONCE as u16);
    if let Some(will) = &options.will {
        mqtt.set_last_will(LastWill::new(&will.topic, will.payload.clone(), QoS::AtLeastOnce, will.retain, None));
    }
    if !options.username.is_empty() {
        mqtt.set_credentials(&options.username, &options.password);
    }
    if tls {
        mqtt.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(tls_config(options)?))));
    }
    Ok(mqtt)
}

/// (TLS, host, port). IPv6 addresses keep their brackets.
fn split_url(url: &str) -> Option<(bool, &str, u16)> {
    let (tls, rest) = match url.split_once("://")? {
        ("mqtt", rest) => (false, rest),
        ("mqtts", rest) => (true, rest),
        _ => return None,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (rest, if tls { 8883 } else { 1883 }),
    };
    let plain = !host.is_empty() && !host.contains(['@', '/', '?', '#']) && (host.starts_with('[') || !host.contains(':'));
    plain.then_some((tls, host, port))
}

/// The address as an error may show it: what stands before an `@` could be a password.
fn without_user(url: &str) -> String {
    url.rsplit_once('@').map_or_else(|| url.to_owned(), |(_, host)| format!("...@{host}"))
}

/// With a CA given, it alone is trusted: a broker's certificate from elsewhere is no broker of this clinic.
fn tls_config(options: &Options) -> Result<ClientConfig, BadOptions> {
    let bad = |what, why: String| BadOptions::Tls { what, why };
    let mut roots = RootCertStore::empty();
    match &options.ca {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|e| bad("CA file", e.to_string()))?;
                roots.add(certificate).map_err(|e| bad("CA file", e.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(bad("CA file", "there is no certificate in it".to_owned()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| bad("TLS provider", e.to_string()))?
        .with_root_certificates(roots);
    let Some((chain, key)) = &options.client_cert else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|e| bad("client certificate", e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| bad("client key", e.to_string()))?;
    builder.with_client_auth_cert(chain, key).map_err(|e| bad("client certificate", e.to_string()))
}

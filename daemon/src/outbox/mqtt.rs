//! The task that tells the broker everything: events in their order, what runs now, summaries, alerts; and that takes commands.
//!
//! ```text
//!  away --connected--> birth: status, summaries, alerts, discovery --> events that wait --> states that stand, once --> [idle] --+
//!   ^                                                                        ^                                                   | changed, tick,
//!   +--------------------- any publish fails ------------------------------- + <-------------------------------------------------+ command, summary
//! ```
//!
//! Invariants: events leave in the order of their `seq` and are confirmed in that order, a batch at a time; after a break it goes on with
//! the first unconfirmed one. A job's retained state is written only from here, and a live step only while its job's last announced event
//! says that it runs: the last thing that stays is the final state. Commands run on tasks of their own, and only their results wait for
//! the broker.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesOrdered};
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use super::{
    alerts::{self, Alert},
    command::{self, CommandResult, Handler},
    discovery,
    payload::{DeviceFacts, HOMEASSISTANT_STATUS, Topics, summaries},
    stopped,
    summary::Summaries,
};
use crate::{
    domain::{
        event::{EventKind, JobEvent, ProgressTick},
        ids::{JobId, Seq},
        job::Status,
        stage::Stage,
    },
    ports::{Clock, EventSink, Message, PUBLISHES_AT_ONCE, SinkError},
    store::Store,
};

mod states;
#[cfg(test)]
mod tests;

/// Events that are read at once; a break sends at most these again.
const BATCH: usize = 64;
/// Progress ticks of one job: two a second.
const TICK: Duration = Duration::from_millis(500);
/// Pause after the broker refused a message on a connection that stands (its access rules, its quota).
const REFUSED: Duration = Duration::from_secs(2);
/// Commands that run at once; further ones are answered "busy".
const COMMANDS: usize = 4;
/// Refusals that are logged for each connection: a topic that is forbidden stays so, each second.
const COMPLAINTS: u32 = 5;
/// At the end: for the events that wait, and for the last word.
const LAST_EVENTS: Duration = Duration::from_secs(2);
const LAST_WORD: Duration = Duration::from_secs(2);

pub struct Options {
    pub topics: Topics,
    /// Home Assistant discovery.
    pub discovery: bool,
    /// Every code that this program can raise: those that do not stand are cleared at each connection, because a process before this one
    /// may have left them at the broker.
    pub alert_codes: Vec<&'static str>,
    /// None: commands are not taken.
    pub commands: Option<Handler>,
}

/// What is told beside the store's events.
pub struct Sources {
    pub live: broadcast::Receiver<ProgressTick>,
    pub facts: watch::Receiver<DeviceFacts>,
    pub alerts: watch::Receiver<Vec<Alert>>,
}

/// Runs until `shutdown` turns true; then says what waits, `stopped`, and closes the sink.
pub fn spawn_mqtt(
    store: Store,
    sink: Arc<dyn EventSink>,
    clock: Arc<dyn Clock>,
    sources: Sources,
    options: Options,
    shutdown: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let task = Task {
        cursor: store.mqtt_cursor(),
        incoming: sink.incoming(),
        store,
        sink,
        clock,
        sources,
        options,
        seq: 0,
        running: HashMap::new(),
        alerts_told: Vec::new(),
        summaries: Summaries::default(),
        refused: 0,
        stuck: HashMap::new(),
        commands: JoinSet::new(),
    };
    tokio::spawn(task.run(shutdown))
}

/// A job whose last announced event says that it runs.
struct Running {
    event: JobEvent,
    /// Step and percent of the last tick.
    live: Option<(Stage, u8)>,
    ticked: Option<Duration>,
}

/// A command that ended: verb, the sender's id, what came of it.
type Answered = (&'static str, Option<String>, CommandResult);

struct Task {
    store: Store,
    sink: Arc<dyn EventSink>,
    clock: Arc<dyn Clock>,
    sources: Sources,
    options: Options,
    incoming: Option<mpsc::Receiver<Message>>,
    /// Last event that the broker acknowledged.
    cursor: Seq,
    /// Counter of what has no event of its own.
    seq: u64,
    running: HashMap<JobId, Running>,
    /// As the broker was told on this connection.
    alerts_told: Vec<Alert>,
    summaries: Summaries,
    /// Messages that the broker refused on this connection.
    refused: u32,
    /// States whose clearing the broker refused on this connection, and when it is asked again (monotonic).
    stuck: HashMap<JobId, Duration>,
    /// Not polled from here: a capture holds a place in intake, and all who send photos would wait behind it for the broker.
    commands: JoinSet<Answered>,
}

/// Why an idle task goes on.
enum Woke {
    Lost,
    Look,
    Tick(ProgressTick),
    Said(Message),
    Answered(Answered),
}

impl Task {
    async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut connected = self.sink.connected();
        let mut said = String::new();
        loop {
            tokio::select! {
                () = stopped(&mut shutdown) => break,
                up = connected.wait_for(|up| *up) => if up.is_err() { break },
            }
            let error = tokio::select! {
                () = stopped(&mut shutdown) => break,
                Err(error) = self.session() => error,
            };
            // Broken since: the wait above is the pause. Else the broker refused something, and is asked again later.
            if connected.has_changed().unwrap_or(true) {
                continue;
            }
            if said != error.0 {
                tracing::warn!(%error, "the broker does not take a message; it is offered again");
                said = error.0;
            }
            tokio::select! {
                () = stopped(&mut shutdown) => break,
                () = tokio::time::sleep(REFUSED) => {}
            }
        }
        self.commands.abort_all(); // nobody would hear what came of them
        if *connected.borrow() {
            let last = async {
                while self.send_events().await? {}
                self.tell_put_back().await
            };
            let _ = tokio::time::timeout(LAST_EVENTS, last).await;
        }
        self.sink.close(self.options.topics.status("stopped"), LAST_WORD).await;
    }

    /// One connection, from birth to its loss. Never Ok: a session ends with its connection.
    async fn session(&mut self) -> Result<std::convert::Infallible, SinkError> {
        let mut connected = self.sink.connected();
        if !*connected.borrow_and_update() {
            return Err(lost());
        }
        let mut changed = self.store.changed();
        self.birth().await?;
        let mut states_told = false;
        loop {
            changed.mark_unchanged();
            let more = self.send_events().await?;
            if !more {
                self.clear_states().await?;
                self.tell_put_back().await?;
                if !std::mem::replace(&mut states_told, true) {
                    self.tell_states_again().await?;
                }
            }
            self.send_alerts().await?;
            if self.clock.mono() >= self.summaries.due_at() {
                self.send_summaries().await?;
            }
            match self.idle(&mut connected, &mut changed, more).await {
                Woke::Lost => return Err(lost()),
                Woke::Look => {}
                Woke::Tick(tick) => self.tick(&tick).await?,
                Woke::Said(message) => self.hear(message).await?,
                Woke::Answered(answer) => self.answer(answer).await?,
            }
        }
    }

    async fn idle(&mut self, connected: &mut watch::Receiver<bool>, changed: &mut watch::Receiver<u64>, more: bool) -> Woke {
        let until_summary = self.summaries.due_at().saturating_sub(self.clock.mono());
        let woke = tokio::select! {
            biased;
            _ = connected.changed() => Woke::Lost,
            answer = answered(&mut self.commands) => Woke::Answered(answer),
            message = said(&mut self.incoming) => Woke::Said(message),
            tick = ticked(&mut self.sources.live) => Woke::Tick(tick),
            () = std::future::ready(()), if more => Woke::Look,
            () = altered(changed) => Woke::Look,
            () = altered(&mut self.sources.facts) => Woke::Look,
            () = altered(&mut self.sources.alerts) => Woke::Look,
            () = tokio::time::sleep(until_summary) => return Woke::Look,
        };
        if matches!(woke, Woke::Look) {
            self.summaries.touch();
        }
        woke
    }

    /// A message that may be missing. One that the broker refuses (its access rules may forbid `homeassistant/` to us) is left out;
    /// an event is not: it is offered until it is taken.
    async fn say(&mut self, message: Message) -> Result<(), SinkError> {
        self.offer(message).await.map(|_taken| ())
    }

    /// Whether the broker took it.
    async fn offer(&mut self, message: Message) -> Result<bool, SinkError> {
        let topic = message.topic.clone();
        match self.sink.publish(message).await {
            Err(error) if *self.sink.connected().borrow() => {
                self.refused += 1;
                if self.refused <= COMPLAINTS {
                    tracing::warn!(%error, topic, "the broker does not take a message; it is left out");
                }
                Ok(false)
            }
            outcome => outcome.map(|()| true),
        }
    }

    async fn birth(&mut self) -> Result<(), SinkError> {
        self.refused = 0;
        self.stuck.clear();
        self.say(self.options.topics.status("online")).await?;
        self.summaries.forget();
        self.send_summaries().await?;
        self.alerts_told.clear();
        let standing: Vec<_> = self.sources.alerts.borrow().iter().map(|a| a.code).collect();
        let silent: Vec<_> = self.options.alert_codes.iter().copied().filter(|code| !standing.contains(code)).collect();
        for code in silent {
            self.say(self.options.topics.alert_resolved(code)).await?;
        }
        self.send_alerts().await?;
        self.send_discovery().await?;
        Ok(())
    }

    async fn send_discovery(&mut self) -> Result<(), SinkError> {
        if !self.options.discovery {
            return Ok(());
        }
        let config = discovery::config(&self.options.topics, &self.sources.facts.borrow().version);
        self.say(config).await
    }

    /// The next batch of events; true: more wait.
    async fn send_events(&mut self) -> Result<bool, SinkError> {
        let batch = match self.store.events_after(self.cursor, BATCH) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::error!(%error, "the events that wait for the broker cannot be read");
                return Ok(false);
            }
        };
        if batch.gap {
            tracing::warn!(after = %self.cursor, "the broker was away for longer than events are kept; the oldest were not announced");
            self.running.clear();
        }
        let before = self.cursor;
        let outcome = self.publish_in_order(&batch.events).await;
        if self.cursor > before
            && let Err(error) = self.store.mqtt_confirmed(self.cursor).await
        {
            // They will be said again after a restart, with the same seq.
            tracing::warn!(%error, "the broker's confirmation could not be stored");
        }
        outcome.map(|()| batch.events.len() == BATCH)
    }

    /// `cursor` follows the acknowledgements in order.
    async fn publish_in_order(&mut self, events: &[JobEvent]) -> Result<(), SinkError> {
        let (mut messages, mut last_of) = (Vec::new(), Vec::new());
        for event in events {
            // `uploaded` changes nothing that the state shows, and would bring back a state that was cleared an hour after the job's end.
            if event.event != EventKind::Uploaded {
                messages.push(self.options.topics.job_state(event, None));
                last_of.push(None);
            }
            messages.push(self.options.topics.job_event(event));
            last_of.push(Some(event));
        }
        let sink = self.sink.clone();
        publish_all(&*sink, messages, |n, outcome| {
            outcome?;
            if let Some(event) = last_of[n] {
                self.cursor = event.seq;
                if event.status == Status::Processing {
                    self.running.insert(event.job_id, Running { event: event.clone(), live: None, ticked: None });
                } else {
                    self.running.remove(&event.job_id);
                }
            }
            Ok(())
        })
        .await
    }

    async fn send_alerts(&mut self) -> Result<(), SinkError> {
        let standing = self.sources.alerts.borrow().clone();
        let (raised, resolved) = alerts::news(&self.alerts_told, &standing);
        for alert in &raised {
            let (seq, ts) = self.stamp();
            self.say(self.options.topics.alert(alert, seq, ts)).await?;
        }
        for code in resolved {
            self.say(self.options.topics.alert_resolved(code)).await?;
        }
        self.alerts_told = standing;
        Ok(())
    }

    async fn send_summaries(&mut self) -> Result<(), SinkError> {
        let facts = self.sources.facts.borrow_and_update().clone();
        let current = summaries(&facts, &self.store.queue(), &self.store.uploads(), &self.store.space());
        for (name, fields) in self.summaries.news(self.clock.mono(), current) {
            let (seq, ts) = self.stamp();
            self.say(self.options.topics.summary(name, seq, ts, fields)).await?;
        }
        Ok(())
    }

    async fn tick(&mut self, tick: &ProgressTick) -> Result<(), SinkError> {
        let now = self.clock.mono();
        // Not announced as running, or announced as ended: the tick is late, and its state would stay for ever.
        let Some(running) = self.running.get_mut(&tick.job_id) else { return Ok(()) };
        let step_before = running.live.map(|(step, _)| step).or(running.event.current_step);
        let stepped = step_before != Some(tick.current_step);
        running.live = Some((tick.current_step, tick.progress));
        let due = running.ticked.is_none_or(|at| now.saturating_sub(at) >= TICK);
        if due {
            running.ticked = Some(now);
        }
        if stepped {
            let state = self.options.topics.job_state(&running.event, running.live);
            self.say(state).await?;
        }
        if due {
            let (seq, ts) = self.stamp();
            self.say(self.options.topics.progress(tick, seq, ts)).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, message: Message) -> Result<(), SinkError> {
        if message.topic == HOMEASSISTANT_STATUS {
            let online = message.payload == b"online" && !message.retain;
            return if online { self.send_discovery().await } else { Ok(()) };
        }
        let (Some(verb), Some(handler)) = (self.options.topics.verb(&message.topic), &self.options.commands) else { return Ok(()) };
        // A retained command would be done again at each connection.
        if message.retain {
            tracing::warn!(verb, "a retained command was ignored");
            return Ok(());
        }
        if message.payload.is_empty() {
            return Ok(()); // MQTT's way to take a retained message back
        }
        let request = command::parse(verb, &message.payload);
        let refused = match request.command {
            Ok(command) if self.commands.len() < COMMANDS => {
                let (run, id) = (handler(command), request.request_id);
                self.commands.spawn(async move { (verb, id, run.await) });
                return Ok(());
            }
            Ok(_) => command::busy(),
            Err(refused) => refused,
        };
        self.answer((verb, request.request_id, refused)).await
    }

    async fn answer(&mut self, (verb, id, result): Answered) -> Result<(), SinkError> {
        let (seq, ts) = self.stamp();
        self.say(self.options.topics.result(verb, id.as_deref(), &result, seq, ts)).await
    }

    fn stamp(&mut self) -> (u64, jiff::Timestamp) {
        self.seq += 1;
        (self.seq, self.clock.now())
    }
}

fn lost() -> SinkError {
    SinkError("the connection broke".to_owned())
}

/// Publishes many at once; they leave in the order given, and `answered(n, outcome)` hears of each in that order. Ends with its first error.
async fn publish_all(
    sink: &dyn EventSink,
    messages: Vec<Message>,
    mut answered: impl FnMut(usize, Result<(), SinkError>) -> Result<(), SinkError>,
) -> Result<(), SinkError> {
    let (mut messages, mut n) = (messages.into_iter(), 0);
    let mut waiting = FuturesOrdered::new();
    loop {
        let room = PUBLISHES_AT_ONCE - waiting.len();
        waiting.extend(messages.by_ref().take(room).map(|message| sink.publish(message)));
        match waiting.next().await {
            None => return Ok(()),
            Some(outcome) => answered(n, outcome)?,
        }
        n += 1;
    }
}

/// The next value's arrival; never, once nobody can send one.
async fn altered<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending().await
    }
}

async fn ticked(live: &mut broadcast::Receiver<ProgressTick>) -> ProgressTick {
    loop {
        match live.recv().await {
            Ok(tick) => return tick,
            Err(broadcast::error::RecvError::Lagged(_)) => {} // ticks are worth nothing once they are old
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The next command that ends; never, while none runs.
async fn answered(commands: &mut JoinSet<Answered>) -> Answered {
    loop {
        match commands.join_next().await {
            Some(Ok(answer)) => return answer,
            Some(Err(error)) => tracing::error!(%error, "a command did not end well; nobody is told what came of it"),
            None => std::future::pending().await,
        }
    }
}

async fn said(incoming: &mut Option<mpsc::Receiver<Message>>) -> Message {
    match incoming {
        Some(receiver) => match receiver.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

//! The task before a broker that answers when and as the test says.

use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::*;
use crate::{
    adapters::clock::ManualClock,
    domain::{
        fault::{Code, Fault},
        ids::Sha256,
        job::{Job, Lane},
        photo::{ClientInfo, ImageFormat, Source},
        stage::StepMs,
    },
    ports::Qos,
    store::{self, NewJobs, NewPhoto},
};

/// Longest wait for what should happen.
const SOON: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

struct Broker {
    published: Mutex<Vec<Message>>,
    connected: watch::Sender<bool>,
    /// False: PUBACKs are held back.
    answers: watch::Sender<bool>,
    /// Empty payloads (clearings) are refused.
    refuses_clearings: watch::Sender<bool>,
    incoming: Mutex<Option<mpsc::Receiver<Message>>>,
}

impl EventSink for Broker {
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), SinkError>> {
        let refused = *self.refuses_clearings.borrow() && message.payload.is_empty();
        self.published.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        let (mut answers, mut connected) = (self.answers.subscribe(), self.connected.subscribe());
        Box::pin(async move {
            tokio::select! {
                _ = answers.wait_for(|answers| *answers) => {}
                _ = connected.wait_for(|up| !up) => return Err(lost()),
            }
            if refused { Err(SinkError("not authorized".to_owned())) } else { Ok(()) }
        })
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    fn incoming(&self) -> Option<mpsc::Receiver<Message>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn close(&self, last: Message, _: Duration) -> BoxFuture<'_, ()> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).push(last);
        Box::pin(async {})
    }
}

/// The task with all that it needs.
struct House {
    _dir: tempfile::TempDir,
    store: Store,
    clock: Arc<ManualClock>,
    topics: Topics,
    photos: u8,
}

struct Telling {
    broker: Arc<Broker>,
    say: mpsc::Sender<Message>,
    live: broadcast::Sender<ProgressTick>,
    _facts: watch::Sender<DeviceFacts>,
    _alerts: watch::Sender<Vec<Alert>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::at("2030-01-01T00:00:00Z".parse().expect("a time")));
        let options = store::Options {
            state: dir.path().to_owned(),
            clock: clock.clone(),
            uploads: false,
            upload_originals: false,
            upload_synthetic: false,
            max_pending: 100,
            crash_limit: 3,
            mqtt: true,
            cap: 1 << 40,
            reserve: 0,
            evict_uploaded: true,
        };
        let store = Store::open(options).expect("opens").0;
        let topics = Topics { prefix: "irisd".to_owned(), device: "test".to_owned() };
        Self { _dir: dir, store, clock, topics, photos: 0 }
    }

    fn tell(&self, commands: Option<Handler>) -> Telling {
        let (say, incoming) = mpsc::channel(16);
        let broker = Arc::new(Broker {
            published: Mutex::default(),
            connected: watch::Sender::new(true),
            answers: watch::Sender::new(true),
            refuses_clearings: watch::Sender::new(false),
            incoming: Mutex::new(Some(incoming)),
        });
        let (live, facts, alerts, stop) =
            (broadcast::Sender::new(16), watch::Sender::default(), watch::Sender::default(), watch::Sender::new(false));
        let options = Options { topics: self.topics.clone(), discovery: false, alert_codes: Vec::new(), commands };
        let sources = Sources { live: live.subscribe(), facts: facts.subscribe(), alerts: alerts.subscribe() };
        let task = spawn_mqtt(self.store.clone(), broker.clone(), self.clock.clone(), sources, options, stop.subscribe());
        Telling { broker, say, live, _facts: facts, _alerts: alerts, stop, task }
    }

    async fn submitted(&mut self) -> Job {
        self.photos += 1;
        let sha256 = Sha256([self.photos; 32]);
        let blob = self.store.blob_path(&sha256);
        std::fs::create_dir_all(blob.parent().expect("a folder")).expect("made");
        std::fs::write(blob, "x").expect("written");
        let new = NewPhoto {
            user_id: "kiosk".parse().expect("a name"),
            sha256,
            bytes: 1,
            width: 1,
            height: 1,
            content_type: ImageFormat::Jpeg,
            source: Source::Upload,
            client: ClientInfo::default(),
        };
        let photo = self.store.add_photo(new, None).await.expect("stored").0;
        let jobs = NewJobs {
            user_id: photo.user_id.clone(),
            photo_ids: vec![photo.id],
            merge: None,
            lane: Lane::Default,
            client: ClientInfo::default(),
            reprocess_of: None,
        };
        self.store.submit(jobs, None).await.expect("submitted").remove(0)
    }

    fn state_topic(&self, job: &Job) -> String {
        self.topics.of(&format!("job/{}/state", job.id))
    }
}

impl Telling {
    /// Payloads on a topic, in their order.
    fn on(&self, topic: &str) -> Vec<Vec<u8>> {
        let published = self.broker.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.iter().filter(|m| m.topic == topic).map(|m| m.payload.clone()).collect()
    }

    /// Status, step and seq of the states told of a job; one that was told again counts once.
    fn states(&self, topic: &str) -> Vec<(String, Option<String>, u64)> {
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let state = |payload: Vec<u8>| {
            let v: Value = serde_json::from_slice(&payload).expect("JSON");
            (text(&v["status"]).expect("a status"), text(&v["current_step"]), v["seq"].as_u64().expect("a seq"))
        };
        let mut told: Vec<_> = self.on(topic).into_iter().map(state).collect();
        told.dedup();
        told
    }

    async fn command(&self, id: &str) {
        let payload = format!("{{\"request_id\":\"{id}\"}}").into_bytes();
        let message = Message { topic: "irisd/test/cmd/capture".to_owned(), payload, qos: Qos::AtLeastOnce, retain: false };
        self.say.send(message).await.expect("the task listens");
    }

    async fn end(self) -> Vec<Message> {
        self.stop.send_replace(true);
        tokio::time::timeout(SOON, self.task).await.expect("it ends").expect("and well");
        std::mem::take(&mut *self.broker.published.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, so).await.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"));
}

#[tokio::test]
async fn a_command_goes_on_while_the_broker_owes_an_acknowledgement_and_while_it_is_away() {
    for away in [false, true] {
        let mut house = House::new();
        // Begun, told to go on, done: a capture holds a place in intake from the first to the last.
        let (begun, go, done) = (watch::Sender::new(false), watch::Sender::new(false), watch::Sender::new(false));
        let handler: Handler = {
            let (begun, go, done) = (begun.clone(), go.clone(), done.clone());
            Arc::new(move |_| {
                let (begun, mut go, done) = (begun.clone(), go.subscribe(), done.clone());
                Box::pin(async move {
                    begun.send_replace(true);
                    let _ = go.wait_for(|go| *go).await;
                    done.send_replace(true);
                    CommandResult::Done { photo_id: None, job_id: None }
                })
            })
        };
        let telling = house.tell(Some(handler));
        telling.command("7").await;
        until("the command begins", || *begun.borrow()).await;
        telling.broker.answers.send_replace(false);
        house.submitted().await;
        until("an event waits", || !telling.on("irisd/test/job/event").is_empty()).await;
        if away {
            telling.broker.connected.send_replace(false);
        }
        go.send_replace(true);
        until("the command ends", || *done.borrow()).await;
        assert!(telling.on("irisd/test/cmd/capture/result").is_empty(), "the broker hears nothing now");
        telling.broker.answers.send_replace(true);
        telling.broker.connected.send_replace(true);
        until("its result is told", || !telling.on("irisd/test/cmd/capture/result").is_empty()).await;
        telling.end().await;
    }
}

#[tokio::test]
async fn four_commands_run_at_once_and_the_fifth_is_told_that_the_device_is_busy() {
    let house = House::new();
    let running = watch::Sender::new(0);
    let handler: Handler = {
        let running = running.clone();
        Arc::new(move |_| {
            running.send_modify(|n| *n += 1);
            Box::pin(std::future::pending())
        })
    };
    let telling = house.tell(Some(handler));
    for n in 1..=COMMANDS + 1 {
        telling.command(&n.to_string()).await;
    }
    until("the answer", || !telling.on("irisd/test/cmd/capture/result").is_empty()).await;
    let answer: Value = serde_json::from_slice(&telling.on("irisd/test/cmd/capture/result")[0]).expect("JSON");
    assert_eq!((&answer["request_id"], &answer["code"]), (&"5".into(), &"busy".into()));
    assert_eq!(*running.borrow(), COMMANDS);
    telling.end().await;
    until("none is left behind", || running.sender_count() == 1).await;
}

#[tokio::test]
async fn a_clearing_that_the_broker_refuses_is_offered_again_after_a_while_and_noted_when_it_is_taken() {
    let mut house = House::new();
    let job = house.submitted().await;
    let telling = house.tell(None);
    house.store.cancel(job.id, None).await.expect("cancelled");
    until("all is told", || house.store.mqtt_cursor() == house.store.last_event()).await;
    telling.broker.refuses_clearings.send_replace(true);
    house.clock.advance(HOUR);
    let topic = house.state_topic(&job);
    let clearings = || telling.on(&topic).iter().filter(|payload| payload.is_empty()).count();
    for _ in 0..10 {
        // Each is a change of the store, after which the task looks at what is due.
        house.submitted().await;
        until("all is told", || house.store.mqtt_cursor() == house.store.last_event()).await;
    }
    until("a clearing", || clearings() > 0).await;
    assert_eq!((clearings(), house.store.mqtt_clears()), (1, vec![job.id]), "refused, so neither noted nor hurried");
    telling.broker.refuses_clearings.send_replace(false);
    house.clock.advance(Duration::from_secs(5 * 60));
    house.submitted().await;
    until("it is noted", || house.store.mqtt_clears().is_empty()).await;
    assert_eq!(clearings(), 2);
    telling.end().await;
}

#[tokio::test]
async fn a_job_that_goes_back_to_wait_is_told_as_pending_without_an_event() {
    let mut house = House::new();
    let telling = house.tell(None);
    let job = house.submitted().await;
    let topic = house.state_topic(&job);
    house.store.claim(job.id).await.expect("claimed");
    until("it runs", || telling.states(&topic).len() == 2).await;
    let busy = Fault::new(Code::DeviceBusy, "test");
    house.store.fail(job.id, busy, StepMs::default(), Duration::from_secs(2)).await.expect("stored");
    until("it waits", || telling.states(&topic).len() == 3).await;
    // A tick of the attempt that is over.
    let tick = ProgressTick { job_id: job.id, user_id: job.user_id.clone(), current_step: Stage::Enhance, progress: 70 };
    telling.live.send(tick).expect("the task listens");
    house.store.claim(job.id).await.expect("claimed");
    until("it runs again", || telling.states(&topic).len() == 4).await;
    house.store.put_back(job.id).await.expect("put back");
    until("it waits again", || telling.states(&topic).len() == 5).await;
    let told = telling.states(&topic);
    let told: Vec<_> = told.iter().map(|(status, step, seq)| (status.as_str(), step.as_deref(), *seq)).collect();
    let (waits, load) = ("pending", Some("load"));
    assert_eq!(told, [(waits, None, 1), ("processing", load, 2), (waits, None, 2), ("processing", load, 3), (waits, None, 3)]);
    let why = |payload: &Vec<u8>| {
        String::from_utf8_lossy(payload).contains("\"status\":\"pending\",") && String::from_utf8_lossy(payload).contains("device_busy")
    };
    assert!(telling.on(&topic).iter().any(why), "the person sees why it waits");
    assert_eq!(telling.on("irisd/test/job/event").len(), 3);
    telling.end().await;
}

#[tokio::test]
async fn a_job_that_was_put_back_at_the_end_or_before_this_connection_is_told_as_pending() {
    let mut house = House::new();
    let job = house.submitted().await;
    let topic = house.state_topic(&job);
    let telling = house.tell(None);
    house.store.claim(job.id).await.expect("claimed");
    until("it runs, and that is answered for", || house.store.mqtt_cursor() == house.store.last_event()).await;
    // The broker owes the answer to a second job's events while the worker puts the first one back and the daemon ends.
    telling.broker.answers.send_replace(false);
    house.submitted().await;
    until("an event waits", || telling.on("irisd/test/job/event").len() == 3).await;
    house.store.put_back(job.id).await.expect("put back");
    let broker = telling.broker.clone();
    telling.stop.send_replace(true);
    broker.answers.send_replace(true);
    let last = telling.end().await.into_iter().rfind(|m| m.topic == topic).expect("a state");
    assert!(String::from_utf8_lossy(&last.payload).contains("\"status\":\"pending\""), "at the end");

    let telling = house.tell(None);
    until("the state is told again", || !telling.states(&topic).is_empty()).await;
    assert_eq!(telling.states(&topic), [("pending".to_owned(), None, 2)], "by the next process");
    telling.end().await;
}

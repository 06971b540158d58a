use std::sync::atomic::{AtomicBool, Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// Longest wait for what should happen.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_broker_address_is_taken_apart_and_one_with_a_password_is_refused_without_showing_it() {
    assert_eq!(split_url("mqtt://broker"), Some((false, "broker", 1883)));
    assert_eq!(split_url("mqtts://broker.lan:8884/"), Some((true, "broker.lan", 8884)));
    assert_eq!(split_url("mqtt://[::1]:1883"), Some((false, "[::1]", 1883)));
    assert_eq!(split_url("mqtts://[::1]"), Some((true, "[::1]", 8883)));
    for bad in ["", "broker:1883", "http://broker", "mqtt://", "mqtt://broker:x", "mqtt://u:secret@broker", "mqtt://::1:1883"] {
        assert_eq!(split_url(bad), None, "{bad}");
    }
    assert!(!BadOptions::Url(without_user("mqtt://u:secret@broker")).to_string().contains("secret"));
}

/// A broker that can be told to answer pings and nothing else, which mosquitto cannot.
struct Mute {
    port: u16,
    suback: Arc<AtomicBool>,
    puback: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Drop for Mute {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Mute {
    async fn start(suback: bool, puback: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (suback, puback) = (Arc::new(AtomicBool::new(suback)), Arc::new(AtomicBool::new(puback)));
        let answers = (suback.clone(), puback.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answers.clone()));
            }
        });
        Self { port, suback, puback, task }
    }

    fn sink(&self, ack_limit: Duration) -> MqttSink {
        let options = Options {
            url: format!("mqtt://127.0.0.1:{}", self.port),
            username: String::new(),
            password: String::new(),
            ca: None,
            client_cert: None,
            client_id: "irisd-test".to_owned(),
            will: None,
            subscriptions: vec!["cmd/+".to_owned()],
        };
        MqttSink::with_ack_limit(options, ack_limit).expect("good options")
    }
}

/// Until the client goes. MQTT v5, 2.1: one byte of type and flags, the length of the rest, the rest.
async fn serve(mut stream: TcpStream, (suback, puback): (Arc<AtomicBool>, Arc<AtomicBool>)) -> std::io::Result<()> {
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u8().await?;
        assert!(length < 0x80, "the test's packets are short");
        let mut rest = vec![0; length.into()];
        stream.read_exact(&mut rest).await?;
        match kind >> 4 {
            1 => stream.write_all(&[0x20, 3, 0, 0, 0]).await?,
            8 if suback.load(Ordering::SeqCst) => stream.write_all(&[0x90, 4, rest[0], rest[1], 0, 1]).await?,
            3 if puback.load(Ordering::SeqCst) => {
                let id = 2 + usize::from(rest[1]);
                stream.write_all(&[0x40, 2, rest[id], rest[id + 1]]).await?;
            }
            12 => stream.write_all(&[0xd0, 0]).await?,
            _ => {}
        }
    }
}

fn message() -> Message {
    Message { topic: "a".to_owned(), payload: b"x".to_vec(), qos: Qos::AtLeastOnce, retain: false }
}

async fn until(sink: &MqttSink, up: bool) {
    let mut connected = sink.connected();
    let so = tokio::time::timeout(SOON, connected.wait_for(|now| *now == up)).await;
    drop(so.unwrap_or_else(|_| panic!("connected: never {up}")).expect("the sink lives"));
}

#[tokio::test]
async fn a_broker_that_does_not_acknowledge_a_publish_is_left_and_found_again() {
    let broker = Mute::start(true, false).await;
    let sink = broker.sink(Duration::from_millis(300));
    until(&sink, true).await;
    let answer = tokio::time::timeout(SOON, sink.publish(message())).await;
    assert!(answer.expect("the wait has an end").is_err());
    broker.puback.store(true, Ordering::SeqCst);
    until(&sink, true).await;
    sink.publish(message()).await.expect("acknowledged on a new connection");
}

#[tokio::test]
async fn a_broker_that_does_not_acknowledge_the_subscriptions_is_left_and_found_again() {
    let broker = Mute::start(false, true).await;
    let sink = broker.sink(Duration::from_millis(300));
    tokio::time::sleep(Duration::from_millis(100)).await;
    broker.suback.store(true, Ordering::SeqCst);
    until(&sink, true).await;
    sink.publish(message()).await.expect("acknowledged on a new connection");
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_owed_stands_longer_than_the_limit() {
    let broker = Mute::start(true, true).await;
    let sink = broker.sink(Duration::from_millis(100));
    until(&sink, true).await;
    sink.publish(message()).await.expect("acknowledged");
    let mut connected = sink.connected();
    connected.mark_unchanged();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!connected.has_changed().expect("the sink lives"), "the connection was given up");
}

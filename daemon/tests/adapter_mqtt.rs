//! The broker's adapter against a real mosquitto.
#![allow(clippy::unwrap_used)]

mod servers;

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use irisd::{
    adapters::mqtt::{MqttSink, Options},
    ports::{EventSink, Message, PUBLISHES_AT_ONCE, Qos},
};
use servers::{
    ca::TestCa,
    mosquitto::{Mosquitto, Watcher},
    within,
};

fn message(topic: &str, payload: &str, retain: bool) -> Message {
    Message { topic: topic.to_owned(), payload: payload.as_bytes().to_vec(), qos: Qos::AtLeastOnce, retain }
}

fn options(broker: &Mosquitto) -> Options {
    Options {
        url: format!("mqtt://127.0.0.1:{}", broker.port),
        username: String::new(),
        password: String::new(),
        ca: None,
        client_cert: None,
        client_id: "irisd-test".to_owned(),
        will: Some(message("irisd/test/status", "offline", true)),
        subscriptions: vec!["irisd/test/cmd/+".to_owned()],
    }
}

async fn connected(sink: &MqttSink) {
    within("connect", sink.connected().wait_for(|up| *up)).await.unwrap();
}

async fn away(sink: &MqttSink) {
    within("break", sink.connected().wait_for(|up| !up)).await.unwrap();
}

#[tokio::test]
async fn a_hundred_publishes_are_acknowledged_and_arrive_in_their_order() {
    let broker = Mosquitto::start().await;
    let mut watcher = Watcher::on(&broker, "order/#", &[]);
    let sink = MqttSink::start(options(&broker)).unwrap();
    connected(&sink).await;
    // Retained, so that the watcher sees it however late it subscribes; then it is there.
    sink.publish(message("order/hello", "x", true)).await.unwrap();
    watcher.sees_start("order/hello ").await;
    let all = stream::iter(0..100).map(|n| sink.publish(message("order/n", &n.to_string(), false)));
    let answers: Vec<_> = within("publish", all.buffered(PUBLISHES_AT_ONCE).collect()).await;
    assert!(answers.iter().all(Result::is_ok));
    watcher.sees("order/n 0 99").await;
    let numbers: Vec<_> = watcher.seen.iter().filter_map(|l| l.strip_prefix("order/n 0 ")).collect();
    assert_eq!(numbers, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    let tick = Message { qos: Qos::AtMostOnce, ..message("order/tick", "t", false) };
    sink.publish(tick).await.unwrap();
    watcher.sees("order/tick 0 t").await;
}

#[tokio::test]
async fn messages_leave_in_the_order_of_the_calls_however_their_futures_are_polled() {
    let broker = Mosquitto::start().await;
    let mut watcher = Watcher::on(&broker, "order/#", &[]);
    let sink = MqttSink::start(options(&broker)).unwrap();
    connected(&sink).await;
    sink.publish(message("order/hello", "x", true)).await.unwrap();
    watcher.sees_start("order/hello ").await;
    let mut all: Vec<_> = (0..PUBLISHES_AT_ONCE).map(|n| sink.publish(message("order/n", &n.to_string(), false))).collect();
    all.reverse();
    let answers = within("publish", futures_util::future::join_all(all)).await;
    assert!(answers.iter().all(Result::is_ok));
    watcher.sees(&format!("order/n 0 {}", PUBLISHES_AT_ONCE - 1)).await;
    let numbers: Vec<_> = watcher.seen.iter().filter_map(|l| l.strip_prefix("order/n 0 ")).collect();
    assert_eq!(numbers, (0..PUBLISHES_AT_ONCE).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_the_retained_will_and_a_clean_end_leaves_the_last_word() {
    let broker = Mosquitto::start().await;
    for (clean, left) in [(false, "offline"), (true, "stopped")] {
        let sink = MqttSink::start(options(&broker)).unwrap();
        connected(&sink).await;
        sink.publish(message("irisd/test/status", "online", true)).await.unwrap();
        if clean {
            within("close", sink.close(message("irisd/test/status", "stopped", true), Duration::from_secs(10))).await;
            assert!(sink.publish(message("late", "x", false)).await.is_err());
        }
        drop(sink);
        // A new subscriber each time: what it is told first is what the broker retained.
        servers::until("the retained status", || {
            let mut watcher = Watcher::on(&broker, "irisd/test/status", &["-C", "1"]);
            async move {
                let mut first = watcher.next();
                while first.is_none() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    first = watcher.next();
                }
                first == Some(format!("irisd/test/status 1 {left}"))
            }
        })
        .await;
    }
}

#[tokio::test]
async fn while_the_broker_is_away_publishes_fail_at_once_and_after_it_is_back_they_work() {
    let mut broker = Mosquitto::start().await;
    let sink = MqttSink::start(options(&broker)).unwrap();
    connected(&sink).await;
    for _ in 0..2 {
        broker.kill();
        away(&sink).await;
        let answer = within("a publish without a broker", sink.publish(message("a", "x", false))).await;
        assert!(answer.is_err());
        broker.up().await;
        connected(&sink).await;
        within("publish", sink.publish(message("a", "x", true))).await.unwrap();
        Watcher::on(&broker, "a", &[]).sees("a 1 x").await;
    }
}

#[tokio::test]
async fn a_publish_that_waits_for_its_acknowledgement_fails_when_the_connection_breaks() {
    let mut broker = Mosquitto::start().await;
    let sink = MqttSink::start(options(&broker)).unwrap();
    connected(&sink).await;
    // Stopped, not killed: the connection stands, nobody acknowledges.
    broker.signal("STOP");
    let publish = sink.publish(message("a", "x", false));
    let mut publish = std::pin::pin!(publish);
    assert!((&mut publish).now_or_never().is_none(), "acknowledged by a stopped broker");
    broker.kill();
    assert!(within("the waiting publish", publish).await.is_err());
}

#[tokio::test]
async fn messages_on_subscribed_topics_arrive_and_a_flood_of_them_blocks_nothing() {
    let broker = Mosquitto::start().await;
    let sink = MqttSink::start(options(&broker)).unwrap();
    let mut incoming = sink.incoming().unwrap();
    assert!(sink.incoming().is_none(), "taken once");
    connected(&sink).await;
    let other = MqttSink::start(Options { client_id: "other".to_owned(), subscriptions: vec![], ..options(&broker) }).unwrap();
    connected(&other).await;
    other.publish(message("irisd/test/cmd/capture", "{}", false)).await.unwrap();
    let got = within("a command", incoming.recv()).await.unwrap();
    assert_eq!((got.topic.as_str(), got.payload.as_slice(), got.retain), ("irisd/test/cmd/capture", &b"{}"[..], false));
    for _ in 0..500 {
        other.publish(message("irisd/test/cmd/capture", "{}", false)).await.unwrap();
    }
    within("publish beside a flood", sink.publish(message("a", "x", false))).await.unwrap();
}

#[tokio::test]
async fn tls_with_the_clinics_ca_and_a_password_connects_and_anything_less_does_not() {
    let ca = TestCa::new();
    let broker = Mosquitto::with_tls(&ca, "iris", "s3cret").await;
    let good = Options {
        url: format!("mqtts://localhost:{}", broker.port),
        username: "iris".to_owned(),
        password: "s3cret".to_owned(),
        ca: Some(ca.ca.clone().into_bytes()),
        ..options(&broker)
    };
    let sink = MqttSink::start(good.clone()).unwrap();
    connected(&sink).await;
    within("publish", sink.publish(message("a", "x", false))).await.unwrap();

    let wrong_password = Options { password: "other".to_owned(), client_id: "b".to_owned(), ..good.clone() };
    let wrong_ca = Options { ca: Some(TestCa::new().ca.into_bytes()), client_id: "c".to_owned(), ..good.clone() };
    for bad in [wrong_password, wrong_ca] {
        let sink = MqttSink::start(bad).unwrap();
        let up = tokio::time::timeout(Duration::from_secs(3), async { sink.connected().wait_for(|up| *up).await.map(drop) }).await;
        assert!(up.is_err(), "connected");
    }
    assert!(MqttSink::start(Options { ca: Some(b"none".to_vec()), ..good }).is_err());
}

#[tokio::test]
async fn a_client_certificate_opens_a_broker_that_asks_for_one() {
    let ca = TestCa::new();
    let broker = Mosquitto::with_client_certificates(&ca).await;
    let without = Options { url: format!("mqtts://localhost:{}", broker.port), ca: Some(ca.ca.clone().into_bytes()), ..options(&broker) };
    let with = Options { client_cert: Some((ca.cert.into_bytes(), ca.key.into_bytes())), client_id: "b".to_owned(), ..without.clone() };
    let sink = MqttSink::start(with).unwrap();
    connected(&sink).await;
    within("publish", sink.publish(message("a", "x", false))).await.unwrap();
    let sink = MqttSink::start(without).unwrap();
    let up = tokio::time::timeout(Duration::from_secs(3), async { sink.connected().wait_for(|up| *up).await.map(drop) }).await;
    assert!(up.is_err(), "connected");
}

#[tokio::test]
async fn a_message_that_the_broker_refuses_fails_alone_and_the_connection_stands() {
    let broker = Mosquitto::with("allow_anonymous true\nacl_file DIR/acl\nmax_packet_size 2000\n", |dir| {
        std::fs::write(dir.path().join("acl"), "topic readwrite irisd/#\n").unwrap();
    })
    .await;
    let sink = MqttSink::start(options(&broker)).unwrap();
    connected(&sink).await;
    let mut still = sink.connected();
    still.mark_unchanged();
    let large = "x".repeat(5000);
    for refused in [message("homeassistant/device/test/config", "{}", true), message("irisd/test/large", &large, false)] {
        assert!(within("an answer", sink.publish(refused)).await.is_err());
        within("publish", sink.publish(message("irisd/test/a", "x", false))).await.unwrap();
    }
    assert!(!still.has_changed().unwrap(), "the connection broke");
}

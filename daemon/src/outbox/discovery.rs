//! Home Assistant's device discovery: one retained message from which it makes a device with its entities (Home Assistant documentation,
//! "MQTT Discovery", device discovery payload, since 2024.11). Pure.

use serde_json::{Map, Value, json};

use super::payload::{Topics, retained};
use crate::ports::Message;

/// One entity of the device.
struct Entity {
    id: &'static str,
    platform: &'static str,
    name: &'static str,
    topic: &'static str,
    template: &'static str,
    more: &'static [(&'static str, &'static str)],
}

const BYTES: &[(&str, &str)] = &[("device_class", "data_size"), ("unit_of_measurement", "B"), ("state_class", "measurement")];
const COUNT: &[(&str, &str)] = &[("state_class", "measurement")];
const SECONDS: &[(&str, &str)] = &[("device_class", "duration"), ("unit_of_measurement", "s")];

const ENTITIES: &[Entity] = &[
    Entity {
        id: "problem",
        platform: "binary_sensor",
        name: "Problem",
        topic: "health",
        template: "{{ 'OFF' if value_json.ok else 'ON' }}",
        more: &[("device_class", "problem")],
    },
    sensor("degraded", "Degraded because", "health", "{{ value_json.degraded }}", &[]),
    sensor("running", "Jobs running", "queue", "{{ value_json.running }}", COUNT),
    sensor("pending_high_priority", "Jobs waiting, high priority", "queue", "{{ value_json.pending_high_priority }}", COUNT),
    sensor("pending_default", "Jobs waiting, default", "queue", "{{ value_json.pending_default }}", COUNT),
    sensor("oldest_wait", "Longest wait", "queue", "{{ value_json.oldest_wait_s }}", SECONDS),
    sensor("uploads_pending", "Uploads waiting", "uploads", "{{ value_json.pending }}", COUNT),
    sensor("uploads_bytes", "Uploads waiting, bytes", "uploads", "{{ value_json.bytes }}", BYTES),
    sensor("storage_used", "Storage used", "storage", "{{ value_json.used }}", BYTES),
    sensor("storage_free", "Disk free", "storage", "{{ value_json.free }}", BYTES),
    sensor("last_event", "Last event", "job/event", "{{ value_json.event }}", &[]),
];

const fn sensor(
    id: &'static str,
    name: &'static str,
    topic: &'static str,
    template: &'static str,
    more: &'static [(&'static str, &'static str)],
) -> Entity {
    Entity { id, platform: "sensor", name, topic, template, more }
}

/// `homeassistant/device/<device>/config`.
pub fn config(topics: &Topics, version: &str) -> Message {
    let device = &topics.device;
    let components: Map<String, Value> = ENTITIES.iter().map(|e| (e.id.to_owned(), component(e, topics))).collect();
    let config = json!({
        "device": { "identifiers": [format!("irisd_{device}")], "name": format!("irisd {device}"), "model": "irisd", "sw_version": version },
        "origin": { "name": "irisd", "sw_version": version },
        // `stopped` and `offline` are both "not available"; without the template Home Assistant would not know the first word.
        "availability": [{
            "topic": topics.of("status"), "value_template": "{{ 'online' if value == 'online' else 'offline' }}",
        }],
        "components": components,
        "qos": 1,
    });
    retained(format!("homeassistant/device/{device}/config"), config.to_string().into_bytes())
}

fn component(entity: &Entity, topics: &Topics) -> Value {
    let mut fields = Map::from_iter([
        ("platform".to_owned(), entity.platform.into()),
        ("unique_id".to_owned(), format!("irisd_{}_{}", topics.device, entity.id).into()),
        ("name".to_owned(), entity.name.into()),
        ("state_topic".to_owned(), topics.of(entity.topic).into()),
        ("value_template".to_owned(), entity.template.into()),
    ]);
    fields.extend(entity.more.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))));
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outbox::payload::{DeviceFacts, summaries},
        store::{QueueCounts, Space, UploadCounts},
    };

    #[test]
    fn every_entity_reads_a_key_that_is_really_published() {
        let topics = Topics { prefix: "irisd".to_owned(), device: "kiosk-1".to_owned() };
        let message = config(&topics, "0.1.0");
        assert_eq!((message.topic.as_str(), message.retain), ("homeassistant/device/kiosk-1/config", true));
        let config: Value = serde_json::from_slice(&message.payload).expect("JSON");
        let components = config["components"].as_object().expect("components");
        assert_eq!(components.len(), ENTITIES.len(), "an id stands twice");
        let published = summaries(&DeviceFacts::default(), &QueueCounts::default(), &UploadCounts::default(), &Space::default());
        for entity in ENTITIES.iter().filter(|e| e.topic != "job/event") {
            let (_, fields) = published.iter().find(|(name, _)| *name == entity.topic).expect("the topic exists");
            assert!(fields.keys().any(|key| entity.template.contains(&format!("value_json.{key} "))), "{}", entity.id);
        }
    }
}

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn comes_back(value: &Value) -> usize {
    let text = serde_json::to_vec(value).expect("serialises");
    let packed = pack(&text).expect("packs");
    let mut again = Vec::new();
    unpack(&packed, &mut again).expect("unpacks");
    assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&text));
    packed.len()
}

fn strings() -> impl Strategy<Value = String> {
    prop_oneof![
        ".*",
        "[0-9a-f]{8,80}",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?Z",
        prop::sample::select(&WORDS[..]).prop_map(str::to_owned),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-40i64..40).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-1_000_000i32..1_000_000).prop_map(|n| Value::from(f64::from(n) / 1e4)),
        strings().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((strings(), inner), 0..8).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_comes_back_byte_for_byte(value in values()) {
        comes_back(&value);
    }

    #[test]
    fn noise_is_refused_or_read_and_never_a_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let _refused = unpack(&noise, &mut Vec::new());
        let _refused = pack(&noise);
    }
}

#[test]
fn what_rows_are_made_of_takes_little_room() {
    let id = "0192d0a1-7c3e-7abc-8def-0123456789ab";
    assert_eq!(comes_back(&json!(id)), 17);
    assert_eq!(comes_back(&json!("2026-11-22T10:11:12.123456789Z")), 1 + 5 + 1 + 4);
    assert_eq!(comes_back(&json!("ab".repeat(32))), 34);
    assert_eq!(comes_back(&json!({ "status": "completed", "progress": 7, "value": 12.5 })), 1 + 2 + 2 + 1 + 3 + 1);
}

/// Stores on disks hold these numbers: a word that moves makes rows of another device unreadable.
#[test]
fn the_words_keep_their_numbers() {
    assert_eq!((WORDS[0], WORDS[29], WORDS[65], WORDS[107]), ("id", "default", "local", "since"));
    assert!(WORDS.len() <= 224, "a tag is one byte");
    let distinct: std::collections::BTreeSet<_> = WORDS.iter().collect();
    assert_eq!(distinct.len(), WORDS.len());
}

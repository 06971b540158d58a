//! `firmware-config/schema.json`: a JSON Schema of the configuration, for editors and provisioning tools.
//!
//! Types and defaults come from [`Config`]'s defaults, descriptions from the comments of `firmware-config/irisd.toml`, choices from
//! [`validate`](super::validate). A test holds the file to what this makes (`irisd check --schema`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Camera, Config,
    validate::{CHOICES, PROVIDERS},
};

/// The annotated defaults, as they are installed.
pub const ANNOTATED: &str = include_str!("../../../firmware-config/irisd.toml");

/// Keys whose text is a size; the rest of the texts say their form in the description.
const SIZES: &[&str] = &["http.max_upload", "upload.part_size", "retention.cap", "retention.reserve"];
/// Keys whose text is a length of time.
const SPANS: &[&str] = &["s3.presign_ttl", "queue.ageing", "queue.job_timeout", "camera.NAME.settle"];

/// The whole schema.
pub fn schema() -> Value {
    let comments = comments(ANNOTATED);
    let defaults = serde_json::to_value(Config::default()).expect("the defaults are plain values");
    let mut sections = Map::new();
    for (section, keys) in defaults.as_object().expect("a configuration is a table") {
        if section != "camera" {
            sections.insert(section.clone(), table(section, keys, &comments));
        }
    }
    let camera = serde_json::to_value(Camera::default()).expect("the defaults are plain values");
    sections.insert("camera".into(), json!({ "type": "object", "additionalProperties": table("camera.NAME", &camera, &comments) }));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "irisd",
        "description": "Configuration of irisd, as TOML.",
        "type": "object",
        "additionalProperties": false,
        "properties": sections,
    })
}

fn table(section: &str, defaults: &Value, comments: &BTreeMap<String, String>) -> Value {
    let keys = defaults.as_object().expect("a section is a table");
    let properties: Map<String, Value> =
        keys.iter().map(|(key, default)| (key.clone(), property(&format!("{section}.{key}"), default, comments))).collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn property(key: &str, default: &Value, comments: &BTreeMap<String, String>) -> Value {
    let mut schema = match default {
        Value::Bool(_) => json!({ "type": "boolean" }),
        Value::Number(n) if n.is_f64() => json!({ "type": "number", "minimum": 0 }),
        Value::Number(_) => json!({ "type": "integer", "minimum": 0 }),
        Value::Array(_) if key == "inference.providers" => json!({ "type": "array", "items": { "enum": PROVIDERS } }),
        Value::Array(_) => json!({ "type": "array", "items": { "type": "string" } }),
        _ => json!({ "type": "string" }),
    };
    if let Some((_, words)) = CHOICES.iter().find(|(k, _)| *k == key) {
        schema["enum"] = json!(words);
    }
    if SIZES.contains(&key) {
        schema["pattern"] = json!("^[0-9.]+ ?([KMGT]i?)?B?$");
    }
    if SPANS.contains(&key) {
        schema["pattern"] = json!("^([0-9]+ ?(ms|s|m|h|d) ?)+$");
    }
    schema["default"] = default.clone();
    if let Some(text) = comments.get(key) {
        schema["description"] = json!(text);
    }
    schema
}

/// Comment lines by the key below them; a key without its own shares the one above. Commented-out keys (the camera's) count too.
fn comments(annotated: &str) -> BTreeMap<String, String> {
    let (mut section, mut said, mut fresh) = (String::new(), String::new(), true);
    let mut all = BTreeMap::new();
    for line in annotated.lines() {
        let bare = line.trim_start_matches("# ");
        if let Some(name) = bare.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            (section, said, fresh) = (name.to_owned(), String::new(), true);
        } else if let Some((key, _)) =
            bare.split_once(" = ").filter(|(k, _)| k.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'3'))
        {
            all.insert(format!("{section}.{key}"), said.clone());
            fresh = true;
        } else if let Some(text) = line.strip_prefix("# ") {
            if fresh {
                said.clear();
            }
            said = format!("{said} {text}").trim().to_owned();
            fresh = false;
        }
    }
    all
}

/// What stands commented out in the annotated file, as TOML: the keys of a camera.
pub fn annotated_camera() -> String {
    let start = ANNOTATED.find("# [camera.NAME]").unwrap_or(ANNOTATED.len());
    let lines = ANNOTATED[start..].lines().map(|l| l.trim_start_matches("# "));
    lines.filter(|l| l.starts_with('[') || l.split_once(" = ").is_some_and(|(k, _)| !k.contains([' ', ':']))).collect::<Vec<_>>().join("\n")
}

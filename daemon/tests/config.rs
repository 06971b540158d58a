//! What is shipped below firmware-config/ and docs/ says what the program does.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::{collections::BTreeSet, fs, path::PathBuf};

use irisd::{
    config::{
        Camera, Config,
        load::load,
        schema::{ANNOTATED, annotated_camera, schema},
    },
    domain::fault::{CATALOGUE, FaultClass},
};
use toml::{Table, Value};

fn repo(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// `section.key = value` of every key.
fn leaves(table: &Table) -> Vec<(String, Value)> {
    let keys = |(section, keys): (&String, &Value)| {
        let keys = keys.as_table().expect("a section is a table").clone();
        let section = section.clone();
        keys.into_iter().map(move |(key, value)| (format!("{section}.{key}"), value)).collect::<Vec<_>>()
    };
    table.iter().filter(|(name, _)| *name != "camera").flat_map(keys).collect()
}

#[test]
fn the_annotated_file_names_every_key_with_its_built_in_default() {
    let written: Table = ANNOTATED.parse().unwrap();
    let defaults = Table::try_from(Config::default()).unwrap();
    let (written_leaves, default_leaves) = (leaves(&written), leaves(&defaults));
    for (key, default) in &default_leaves {
        let there = written_leaves.iter().find(|(k, _)| k == key);
        let (_, value) = there.unwrap_or_else(|| panic!("firmware-config/irisd.toml does not name {key}"));
        assert_eq!(value, default, "{key}");
    }
    assert_eq!(written_leaves.len(), default_leaves.len(), "firmware-config/irisd.toml names keys that there are not");
    assert_eq!(written.try_into::<Config>().unwrap(), Config::default());
}

#[test]
fn the_annotated_file_names_every_key_of_a_camera() {
    let table: Table = annotated_camera().parse().unwrap();
    let written = table["camera"]["NAME"].as_table().unwrap();
    let defaults = Table::try_from(Camera::default()).unwrap();
    assert_eq!(*written, defaults);
}

#[test]
fn the_annotated_file_loads_as_the_daemon_loads_it() {
    assert_eq!(load(Some(&repo("firmware-config/irisd.toml")), std::iter::empty()), Ok(Config::default()));
}

#[test]
fn every_profile_loads() {
    let mut seen = 0;
    for entry in fs::read_dir(repo("firmware-config/profiles")).unwrap() {
        let path = entry.unwrap().path();
        if let Err(problems) = load(Some(&path), std::iter::empty()) {
            panic!("{}: {problems:#?}", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 3);
}

#[test]
fn the_provisioning_example_lacks_nothing_but_the_secrets_of_the_device() {
    let problems = load(Some(&repo("firmware-config/provision.example.toml")), std::iter::empty()).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(problems.iter().all(|p| p.key.ends_with("_file") && p.message.starts_with("there is no file")), "{problems:#?}");
}

#[test]
fn the_schema_is_current_and_describes_every_key() {
    let written = fs::read_to_string(repo("firmware-config/schema.json")).expect("irisd check --schema > firmware-config/schema.json");
    let made = schema();
    let current = serde_json::from_str::<serde_json::Value>(&written).unwrap() == made;
    assert!(current, "firmware-config/schema.json is out of date: irisd check --schema > firmware-config/schema.json");
    let text = made.to_string();
    assert_eq!(text.matches("\"default\"").count(), text.matches("\"description\"").count() - 1, "a key has no comment");
}

#[test]
fn a_problem_says_the_line_that_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.toml");
    fs::write(&file, "[http]\nlisten = \"0.0.0.0:80\"\n[auth]\nmode = \"open\"\n").unwrap();
    let problems = load(Some(&file), std::iter::empty()).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().starts_with(&format!("{}:4: auth.mode: ", file.display())), "{}", problems[0]);
}

#[test]
fn docs_list_every_fault_with_its_class_and_cause_and_no_other() {
    let text = fs::read_to_string(repo("docs/errors.md")).unwrap();
    let rows: Vec<Vec<&str>> =
        text.lines().filter(|l| l.starts_with("| `")).map(|l| l.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let named: BTreeSet<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let known: BTreeSet<String> = CATALOGUE.iter().map(|e| e.code.name()).collect();
    assert_eq!(named, known.iter().map(String::as_str).collect::<BTreeSet<_>>());
    for entry in CATALOGUE {
        let code = entry.code.name();
        let row = rows.iter().find(|row| row[0].trim_matches('`') == code).unwrap();
        let class = match entry.class {
            FaultClass::QualityIssue => "quality_issue",
            FaultClass::TransientError => "transient_error",
            FaultClass::ServerError => "server_error",
        };
        assert_eq!(row[1], class, "{code}");
        assert!(row[2].len() > 20 && row[3] == entry.suggestion, "{code}: cause and suggestion");
    }
}

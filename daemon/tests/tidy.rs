//! The order of the house, read off its sources: who imports whom, where each outside crate is named, how long a file may be.
//!
//! Sources are read as tokens, so that comments, strings and layout play no part; modules under `#[cfg(test)]` are left out.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Lines a file may have, tests included.
const LONGEST_FILE: usize = 500;

/// Who may import whom, by top-level module. What is not listed may be imported by nobody but itself.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("config", &["domain"]),
    ("telemetry", &["domain"]),
    ("ports", &["domain"]),
    ("imaging", &["domain", "ports", "config", "telemetry"]),
    ("store", &["domain", "ports", "config", "telemetry"]),
    ("scheduler", &["domain", "ports", "config", "telemetry", "store", "imaging"]),
    ("inference", &["domain", "ports", "config", "telemetry", "imaging", "store", "scheduler"]),
    ("intake", &["domain", "ports", "config", "telemetry", "imaging", "store", "scheduler", "inference"]),
    ("pipeline", &["domain", "ports", "config", "telemetry", "imaging", "store", "scheduler", "inference"]),
    ("outbox", &["domain", "ports", "config", "telemetry", "imaging", "store", "scheduler"]),
    ("worker", &["domain", "ports", "config", "telemetry", "imaging", "store", "scheduler", "inference", "intake", "pipeline", "outbox"]),
    ("camera", &["domain", "ports", "config", "telemetry", "imaging", "store", "scheduler", "inference", "intake", "pipeline", "outbox"]),
    (
        "http",
        &[
            "domain",
            "ports",
            "config",
            "telemetry",
            "imaging",
            "store",
            "scheduler",
            "inference",
            "intake",
            "pipeline",
            "outbox",
            "worker",
            "camera",
        ],
    ),
    ("adapters", &["domain", "ports"]),
    ("client", &["domain"]),
];

/// These may import everything: they put the house together.
const MAY_IMPORT_ALL: &[&str] = &["app", "cli", "main", "lib"];

/// Where an outside crate may be named: a file, or a folder that ends in `/`.
const ONE_PLACE: &[(&str, &[&str])] = &[
    ("sled", &["store/", "store.rs"]),
    ("ort", &["adapters/model_ort.rs", "adapters/model_ort/"]),
    ("v4l", &["adapters/camera_v4l.rs", "adapters/camera_v4l/"]),
    ("rumqttc", &["adapters/mqtt.rs", "adapters/mqtt/"]),
    ("s3", &["adapters/s3.rs", "adapters/s3/"]),
    ("axum", &["http/", "client.rs", "client/"]),
    ("hyper", &["http/", "client.rs", "client/"]),
    ("hyper_util", &["http/", "client.rs", "client/"]),
    ("sd_notify", &["adapters/systemd.rs"]),
    ("tikv_jemallocator", &["adapters/allocator.rs"]),
    ("clap", &["cli.rs", "cli/", "main.rs"]),
    ("prometheus_client", &["telemetry.rs", "telemetry/"]),
    ("anyhow", &["cli.rs", "cli/", "app.rs", "app/", "main.rs"]),
];

/// What the daemon does not do, and what it does instead: `a::b` as the source names it, and where it may stand all the same.
const BANNED: &[(&str, &str, &str, &str)] = &[
    ("thread", "spawn", "", "a thread without a name cannot be told apart in a dump: thread::Builder::new().name()"),
    ("mpsc", "unbounded_channel", "", "without a limit: channel(LIMIT)"),
    ("SystemTime", "now", "adapters/clock.rs", "the wall clock jumps (a Jetson boots in 1970): ports::Clock"),
    ("Timestamp", "now", "adapters/ cli/", "the wall clock jumps (a Jetson boots in 1970): ports::Clock"),
];

/// One source file of ours.
struct Source {
    /// Below `src/`.
    path: String,
    text: String,
    /// Without test modules, flattened: groups appear as their delimiters.
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

impl Source {
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap()
    }

    /// `store/journal/frame.rs` is `store::journal::frame`; `mod.rs` is its folder.
    fn module_path(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').collect()
    }
}

fn sources() -> Vec<Source> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(&root).unwrap().display().to_string();
        Source { tokens: tokens(&text, &path), text, path }
    };
    // A file that only a `#[cfg(test)] mod tests;` names is test code as a whole.
    paths.into_iter().map(read).filter(|s| !s.path.ends_with("/tests.rs") && !s.path.contains("/tests/")).collect()
}

fn tokens(text: &str, path: &str) -> Vec<Token> {
    let stream: TokenStream = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut flat = Vec::new();
    flatten(stream, &mut flat);
    flat
}

fn flatten(stream: TokenStream, flat: &mut Vec<Token>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    let mut i = 0;
    while i < trees.len() {
        if is_cfg_test(&trees[i..]) {
            i = after_item(&trees, i + 2);
            continue;
        }
        match &trees[i] {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::None => ("", ""),
                };
                flat.push(Token { text: open.to_owned(), line: group.span_open().start().line });
                flatten(group.stream(), flat);
                flat.push(Token { text: close.to_owned(), line: group.span_close().start().line });
            }
            TokenTree::Literal(literal) => flat.push(Token { text: "\"\"".to_owned(), line: literal.span().start().line }),
            other => flat.push(Token { text: other.to_string(), line: other.span().start().line }),
        }
        i += 1;
    }
}

/// `#` `[cfg(test)]`
fn is_cfg_test(trees: &[TokenTree]) -> bool {
    match trees {
        [TokenTree::Punct(hash), TokenTree::Group(attribute), ..] => {
            hash.as_char() == '#' && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
        }
        _ => false,
    }
}

/// The index behind the item that starts at `i`: behind its block or its semicolon.
fn after_item(trees: &[TokenTree], mut i: usize) -> usize {
    while i < trees.len() {
        i += 1;
        match &trees[i - 1] {
            TokenTree::Group(g) if g.delimiter() == Delimiter::Brace => break,
            TokenTree::Punct(p) if p.as_char() == ';' => break,
            _ => {}
        }
    }
    i
}

fn word(tokens: &[Token], i: usize) -> &str {
    tokens.get(i).map_or("", |t| t.text.as_str())
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The first names of `a`, or of `{a::b, c}`, that begins at `i`.
fn heads(tokens: &[Token], i: usize) -> Vec<(String, usize)> {
    if word(tokens, i) != "{" {
        return vec![(word(tokens, i).to_owned(), tokens.get(i).map_or(0, |t| t.line))];
    }
    let (mut depth, mut at_start, mut found) = (0, false, Vec::new());
    for token in &tokens[i..] {
        match token.text.as_str() {
            "{" => (depth, at_start) = (depth + 1, depth == 0),
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            "," if depth == 1 => at_start = true,
            name if at_start && is_name(name) => {
                found.push((name.to_owned(), token.line));
                at_start = false;
            }
            _ => {}
        }
    }
    found
}

/// Top-level modules of ours that a file names: `crate::x`, `crate::{x, y}`, and `super::` up to the root.
fn imports(source: &Source) -> Vec<(String, usize)> {
    let t = &source.tokens;
    let mut found = Vec::new();
    for i in 0..t.len() {
        let colons = |at: usize| word(t, at) == ":" && word(t, at + 1) == ":";
        if word(t, i) == "crate" && colons(i + 1) {
            found.extend(heads(t, i + 3));
        } else if word(t, i) == "super" && colons(i + 1) && word(t, i.wrapping_sub(1)) != ":" {
            let (mut at, mut ups) = (i, 0);
            while word(t, at) == "super" && colons(at + 1) {
                (at, ups) = (at + 3, ups + 1);
            }
            if ups >= source.module_path().len() {
                found.extend(heads(t, at));
            }
        }
    }
    found
}

/// Outside crates that a file names: a name before `::` that no other name leads to.
fn crates(source: &Source) -> Vec<(String, usize)> {
    let t = &source.tokens;
    (0..t.len())
        .filter(|&i| is_name(word(t, i)) && word(t, i + 1) == ":" && word(t, i + 2) == ":" && word(t, i.wrapping_sub(1)) != ":")
        // `use self::s3`, fields and the like are no crates; inside `use crate::{s3::X}` the name stands behind `{` or `,` of our own.
        .map(|i| (t[i].text.clone(), t[i].line))
        .collect()
}

fn fail_if_any(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn modules_import_in_one_direction() {
    let rules: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|s| !MAY_IMPORT_ALL.contains(&s.module())) {
        let Some(allowed) = rules.get(source.module()) else {
            complaints.push(format!("{}: a new top-level module; give it a place in tests/tidy.rs and in lib.rs", source.path));
            continue;
        };
        for (name, line) in imports(source) {
            let synthetic = source.path.starts_with("adapters/camera_synthetic") && name == "imaging";
            let own_neighbour = source.module() == "adapters" && name == "adapters";
            let fine = allowed.contains(&name.as_str()) || name == source.module() || synthetic;
            // adapters never name each other: only paths inside one adapter's own folder.
            if !fine || own_neighbour {
                complaints.push(format!("{}:{line}: {} must not import {name}", source.path, source.module()));
            }
        }
    }
    fail_if_any(complaints);
}

#[test]
fn each_outside_crate_is_named_in_its_own_place() {
    let mut complaints = Vec::new();
    for source in sources() {
        for (name, line) in crates(&source) {
            let Some((_, places)) = ONE_PLACE.iter().find(|(krate, _)| *krate == name) else { continue };
            let at_home = places.iter().any(|p| source.path == *p || (p.ends_with('/') && source.path.starts_with(p)));
            // `use super::{s3}` or `adapters::{s3::X}` name our own module of that name.
            let ours = matches!(source.module(), "app" | "cli") && matches!(name.as_str(), "s3");
            if !at_home && !ours {
                complaints.push(format!("{}:{line}: {name} is named in {} alone", source.path, places.join(" and ")));
            }
        }
    }
    fail_if_any(complaints);
}

#[test]
fn no_file_outgrows_a_head() {
    let long = sources().into_iter().map(|s| (s.text.lines().count(), s.path)).filter(|(lines, _)| *lines > LONGEST_FILE);
    fail_if_any(long.map(|(lines, path)| format!("{path}: {lines} lines; {LONGEST_FILE} at most, split it by topic")).collect());
}

#[test]
fn nothing_is_unwrapped_and_nothing_is_left_to_do() {
    let mut complaints = Vec::new();
    for source in sources() {
        let t = &source.tokens;
        for i in 0..t.len() {
            let method = word(t, i) == "." && word(t, i + 1) == "unwrap" && word(t, i + 2) == "(";
            let macros = matches!(word(t, i), "todo" | "unimplemented" | "dbg") && word(t, i + 1) == "!";
            if method || macros {
                complaints.push(format!("{}:{}: {} outside of tests", source.path, t[i].line, word(t, i + usize::from(method))));
            }
        }
        for (i, line) in source.text.lines().enumerate() {
            for mark in ["TODO", "FIXME", "XXX", "INTERFACE DRAFT"] {
                if line.contains(mark) && !source.path.ends_with("tidy.rs") {
                    complaints.push(format!("{}:{}: {mark}", source.path, i + 1));
                }
            }
        }
    }
    fail_if_any(complaints);
}

#[test]
fn what_the_daemon_must_not_do_it_does_not() {
    let mut complaints = Vec::new();
    for source in sources() {
        let t = &source.tokens;
        for (i, token) in t.iter().enumerate() {
            let path = |(a, b): (&str, &str)| token.text == a && word(t, i + 1) == ":" && word(t, i + 2) == ":" && word(t, i + 3) == b;
            for (a, b, places, instead) in BANNED {
                if path((a, b)) && !places.split(' ').any(|p| !p.is_empty() && source.path.starts_with(p)) {
                    complaints.push(format!("{}:{}: {a}::{b}: {instead}", source.path, token.line));
                }
            }
        }
    }
    fail_if_any(complaints);
}

#[test]
fn every_module_opens_with_what_it_is() {
    let silent = sources().into_iter().filter(|s| !s.text.starts_with("//!"));
    fail_if_any(silent.map(|s| format!("{}: the first line must be a //! that says what it is", s.path)).collect());
}

#[cfg(test)]
mod of_itself {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned(), tokens: tokens(text, path) }
    }

    fn names(found: Vec<(String, usize)>) -> Vec<String> {
        found.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn imports_are_found_in_groups_in_bodies_and_behind_super_but_not_in_comments_and_tests() {
        let text = r#"
            // use crate::comment;
            use crate::{a::{b, c}, d, e::f as g};
            use super::super::up::X;
            use super::beside;
            fn f() { let _ = crate::h::now(); println!("{}", crate::in_macro::x()); "crate::string"; }
            #[cfg(test)]
            mod tests { use crate::only_tests; }
            fn g(x: crate::last::X) {}
        "#;
        assert_eq!(names(imports(&source("store/rows.rs", text))), ["a", "d", "e", "up", "h", "in_macro", "last"]);
        assert_eq!(names(imports(&source("store/mod.rs", "use super::up;"))), ["up"]);
    }

    #[test]
    fn crates_are_told_from_modules_of_the_same_name_behind_a_path() {
        let text = "use sled::Db; fn f() { ort::init(); } use crate::adapters::s3::X; use std::io;";
        assert_eq!(names(crates(&source("x.rs", text))), ["sled", "ort", "crate", "std"]);
    }
}

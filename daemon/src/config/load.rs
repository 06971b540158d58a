//! Reading the configuration: layers of files and environment become one [`Config`], or every reason why not.
//!
//! ```text
//! built-in defaults <- /etc/irisd/irisd.toml <- /etc/irisd/conf.d/*.toml (by name) <- IRISD_<SECTION>__<KEY>
//!                      `------ --config FILE takes the place of both ------'
//! ```
//!
//! What keys there are, and of which type, is read off the defaults themselves: a key that [`Config`] gains is known here at once.
//! Each value is tried on its own, so that one bad key hides no other, and remembers where it was set.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{Spanned, Table, Value, de::DeTable};

use super::{Camera, Config};

/// Where the files lie unless `--config` names one.
pub const ETC: &str = "/etc/irisd";
/// Before the section of a key in the environment.
const ENV_PREFIX: &str = "IRISD_";
/// Names below this likeness (Jaro-Winkler, 0..1) are no help as a suggestion.
const LIKENESS: f64 = 0.75;

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `FILE:LINE` or the variable's name; None: nobody set it, the default does not fit the rest.
    pub at: Option<String>,
    /// `section.key`; empty: the file as a whole.
    pub key: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// `section.key`, or `camera.NAME.key`, to where it was set.
type Origins = BTreeMap<String, String>;

/// The configuration that the daemon runs with: layered, then validated. Every problem at once.
pub fn load(config_flag: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Config, Vec<Problem>> {
    load_and(config_flag, env, |_| Vec::new())
}

/// [`load`], and what else the caller knows to be wrong with it (what it names may be there or not).
pub fn load_and(
    config_flag: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    also: impl FnOnce(&Config) -> Vec<Problem>,
) -> Result<Config, Vec<Problem>> {
    let mut layers = read(Path::new(ETC), config_flag, env);
    let config = layers.config();
    for mut problem in config.validate().into_iter().chain(also(&config)) {
        problem.at = layers.origins.get(&problem.key).cloned();
        layers.problems.push(problem);
    }
    if layers.problems.is_empty() { Ok(config) } else { Err(layers.problems) }
}

/// Only what can be read, without asking whether the daemon could run with it: for clients of the daemon, which may be other users on
/// the machine and cannot see its secrets.
pub fn load_unchecked(config_flag: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Config, Vec<Problem>> {
    let layers = read(Path::new(ETC), config_flag, env);
    if layers.problems.is_empty() { Ok(layers.config()) } else { Err(layers.problems) }
}

/// A secret from its file, without the newline at its end. A relative path is looked up in `$CREDENTIALS_DIRECTORY` (systemd's
/// `LoadCredential=`) where that is set.
pub fn read_secret(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(secret_path(path))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Where a secret's file really lies.
pub fn secret_path(path: &Path) -> PathBuf {
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(dir) if path.is_relative() => Path::new(&dir).join(path),
        _ => path.to_path_buf(),
    }
}

fn read(etc: &Path, config_flag: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Layers {
    let mut layers = Layers::new();
    match config_flag {
        Some(file) => layers.add_file(file),
        None => files_below(etc).iter().for_each(|f| layers.add_file(f)),
    }
    layers.add_env(env);
    layers
}

/// `irisd.toml`, then `conf.d/*.toml` by name; those that are there.
fn files_below(etc: &Path) -> Vec<PathBuf> {
    let main = etc.join("irisd.toml");
    let mut dropins: Vec<PathBuf> = fs::read_dir(etc.join("conf.d"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        // An editor's copy, as everywhere.
        .filter(|path| !path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b".")))
        .collect();
    dropins.sort();
    main.exists().then_some(main).into_iter().chain(dropins).collect()
}

/// The layers read so far.
struct Layers {
    /// Every section and key with its default; `camera` is left out, it is made of `camera_defaults` by name.
    defaults: Table,
    camera_defaults: Table,
    merged: Table,
    origins: Origins,
    problems: Vec<Problem>,
}

impl Layers {
    fn new() -> Self {
        let mut defaults = Table::try_from(Config::default()).expect("the defaults are plain values");
        defaults.remove("camera");
        let camera_defaults = Table::try_from(Camera::default()).expect("the defaults are plain values");
        Self { defaults, camera_defaults, merged: Table::new(), origins: Origins::new(), problems: Vec::new() }
    }

    /// Relative folders are those of the current folder, here and now: the daemon's threads and its log name them in full.
    fn config(&self) -> Config {
        let mut config: Config = self.merged.clone().try_into().expect("each value was tried when it was set");
        for folder in [&mut config.paths.state, &mut config.paths.weights] {
            // An empty path is nobody's folder: `validate` says so.
            *folder = std::path::absolute(&*folder).unwrap_or_default();
        }
        config
    }

    fn problem(&mut self, at: &str, key: &str, message: impl Into<String>) {
        self.problems.push(Problem { at: Some(at.to_owned()), key: key.to_owned(), message: message.into() });
    }

    fn sections(&self) -> impl Iterator<Item = &str> {
        self.defaults.keys().map(String::as_str).chain(["camera"])
    }

    // ---- files

    fn add_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problem(&name, "", format!("the file cannot be read: {error}")),
        };
        self.add_text(&name, &text);
    }

    fn add_text(&mut self, name: &str, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let at = error.span().map_or_else(|| name.to_owned(), |span| place(name, text, span.start));
            self.problem(&at, "", error.message());
        }
        // A second, plain reading for the values: the spanned one keeps numbers as text.
        let (true, Ok(values)) = (errors.is_empty(), text.parse::<Table>()) else { return };
        for (section, spanned) in table.get_ref() {
            let at = place(name, text, section.span().start);
            let Some(keys) = spanned.get_ref().as_table() else {
                self.problem(&at, section.get_ref(), "stands outside of a section; keys belong below a line such as [http]");
                continue;
            };
            let value = &values[section.get_ref().as_ref()];
            if section.get_ref() == "camera" {
                for (camera, keys) in keys {
                    let camera_name = camera.get_ref().as_ref();
                    let Some(keys) = keys.get_ref().as_table() else {
                        let at = place(name, text, camera.span().start);
                        self.problem(&at, &format!("camera.{camera_name}"), "is no camera; write [camera.NAME] and its keys below it");
                        continue;
                    };
                    self.merged_camera(camera_name);
                    self.add_keys(name, text, &["camera", camera_name], keys, &value[camera_name]);
                }
            } else if self.defaults.contains_key(section.get_ref().as_ref()) {
                self.add_keys(name, text, &[section.get_ref()], keys, value);
            } else {
                let hint = did_you_mean(section.get_ref(), self.sections());
                self.problem(&at, section.get_ref(), format!("there is no such section{hint}"));
            }
        }
    }

    fn add_keys(&mut self, name: &str, text: &str, section: &[&str], keys: &DeTable<'_>, values: &Value) {
        for key in keys.keys() {
            let at = place(name, text, key.span().start);
            self.set(&at, section, key.get_ref(), values[Spanned::get_ref(key).as_ref()].clone());
        }
    }

    // ---- environment

    fn add_env(&mut self, env: impl Iterator<Item = (String, String)>) {
        let mut vars: Vec<(String, String)> = env.filter(|(name, _)| name.starts_with(ENV_PREFIX) && name.contains("__")).collect();
        vars.sort();
        for (name, text) in vars {
            let lower = name[ENV_PREFIX.len()..].to_lowercase();
            let parts: Vec<&str> = lower.split("__").collect();
            match parts[..] {
                ["camera", camera, key] => {
                    let camera = self.camera_called(camera);
                    self.set_text(&name, &["camera", &camera], key, &text);
                }
                [section, key] if self.defaults.contains_key(section) => self.set_text(&name, &[section], key, &text),
                ["camera", ..] => self.problem(&name, "camera", "write IRISD_CAMERA__<NAME>__<KEY>"),
                [section, ..] => {
                    let hint = did_you_mean(section, self.sections());
                    self.problem(&name, section, format!("there is no such section{hint}"));
                }
                [] => unreachable!("split gives at least one part"),
            }
        }
    }

    /// A variable's name cannot hold `-`: `FRONT_DESK` means a camera `front-desk` of the files, where there is one.
    fn camera_called(&self, env_name: &str) -> String {
        let cameras = self.merged.get("camera").and_then(Value::as_table);
        let known = cameras.into_iter().flat_map(Table::keys).find(|n| n.replace('-', "_") == env_name);
        known.cloned().unwrap_or_else(|| env_name.to_owned())
    }

    fn set_text(&mut self, at: &str, section: &[&str], key: &str, text: &str) {
        match self.defaults_of(section).get(key).map(|default| typed(text, default)) {
            Some(Ok(value)) => self.set(at, section, key, value),
            Some(Err(wanted)) => self.problem(at, &full(section, key), format!("{text:?} is not {wanted}")),
            None => self.set(at, section, key, Value::String(text.to_owned())), // unknown: `set` says so
        }
    }

    // ---- one value

    fn defaults_of(&self, section: &[&str]) -> &Table {
        match section {
            ["camera", _] => &self.camera_defaults,
            [name] => self.defaults[*name].as_table().expect("a section is a table"),
            _ => unreachable!("sections have one name, cameras two"),
        }
    }

    fn merged_camera(&mut self, name: &str) -> &mut Table {
        let cameras = self.merged.entry("camera").or_insert_with(|| Value::Table(Table::new()));
        let cameras = cameras.as_table_mut().expect("made as a table");
        cameras.entry(name).or_insert_with(|| Value::Table(Table::new())).as_table_mut().expect("made as a table")
    }

    /// Takes the value if it fits its key, else notes the problem.
    fn set(&mut self, at: &str, section: &[&str], key: &str, value: Value) {
        let Some(default) = self.defaults_of(section).get(key).cloned() else {
            let hint = did_you_mean(key, self.defaults_of(section).keys().map(String::as_str));
            return self.problem(at, &full(section, key), format!("there is no such key{hint}"));
        };
        if let Err(why) = fits(section, key, &value) {
            return self.problem(at, &full(section, key), format!("{why}; the default is {default}"));
        }
        self.origins.insert(full(section, key), at.to_owned());
        let table = match section {
            ["camera", name] => self.merged_camera(name),
            _ => {
                let table = self.merged.entry(section[0]).or_insert_with(|| Value::Table(Table::new()));
                table.as_table_mut().expect("made as a table")
            }
        };
        table.insert(key.to_owned(), value);
    }
}

/// Whether the typed configuration takes this one value.
fn fits(section: &[&str], key: &str, value: &Value) -> Result<(), String> {
    let one = Table::from_iter([(key.to_owned(), value.clone())]);
    let tried = match section {
        ["camera", _] => Camera::deserialize(one).map(drop),
        _ => Config::deserialize(Table::from_iter([(section[0].to_owned(), Value::Table(one))])).map(drop),
    };
    tried.map_err(|error| error.message().trim().to_owned())
}

/// A variable's text as the type of the key's default, or what it should have been.
fn typed(text: &str, default: &Value) -> Result<Value, &'static str> {
    match default {
        Value::Boolean(_) => match text {
            "true" | "1" | "yes" | "on" => Ok(Value::Boolean(true)),
            "false" | "0" | "no" | "off" => Ok(Value::Boolean(false)),
            _ => Err("true or false"),
        },
        Value::Integer(_) => text.replace('_', "").parse().map(Value::Integer).map_err(|_| "a whole number"),
        Value::Float(_) => text.parse().map(Value::Float).map_err(|_| "a number"),
        Value::Array(_) if text.trim_start().starts_with('[') => {
            let table: Table = format!("a = {text}").parse().map_err(|_| "a list such as [\"a\", \"b\"] or a,b")?;
            Ok(table["a"].clone())
        }
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

fn full(section: &[&str], key: &str) -> String {
    format!("{}.{key}", section.join("."))
}

fn place(file: &str, text: &str, offset: usize) -> String {
    let line = 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count();
    format!("{file}:{line}")
}

fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let best = known.map(|k| (strsim::jaro_winkler(word, k), k)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((likeness, name)) if likeness >= LIKENESS => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CameraKind, units::Bytes};

    fn layered(texts: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let mut layers = Layers::new();
        texts.iter().for_each(|(name, text)| layers.add_text(name, text));
        layers.add_env(env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        if layers.problems.is_empty() { Ok(layers.config()) } else { Err(layers.problems.iter().map(Problem::to_string).collect()) }
    }

    #[test]
    fn later_layers_win_key_by_key() {
        let c = layered(
            &[
                ("a", "[http]\nlisten = \"127.0.0.1:1\"\nmax_upload = \"1MiB\""),
                ("b", "[http]\nlisten = \"127.0.0.1:2\"\n[camera.front-desk]\nkind = \"synthetic\"\nburst = 1"),
            ],
            &[
                ("IRISD_HTTP__LISTEN", "127.0.0.1:3"),
                ("IRISD_CAMERA__FRONT_DESK__BURST", "7"),
                ("IRISD_CAMERA__OTHER__KIND", "folder"),
                ("IRISD_QUALITY__MIN_SHARPNESS", "2"),
                ("IRISD_S3__PATH_STYLE", "false"),
                ("IRISD_INFERENCE__PROVIDERS", "cuda, cpu"),
                ("IRISD_HTTP__ALLOWED_ORIGINS", r#"["http://a", "http://b"]"#),
                ("IRISD_URL", "http://no.key"),
                ("PATH", "/bin"),
            ],
        )
        .expect("all of it is right");
        assert_eq!(c.http.listen.port(), 3);
        assert_eq!(c.http.max_upload, Bytes::mib(1));
        assert_eq!((c.camera["front-desk"].burst, c.camera["front-desk"].kind), (7, CameraKind::Synthetic));
        assert_eq!(c.camera["other"].kind, CameraKind::Folder);
        assert_eq!((c.quality.min_sharpness, c.s3.path_style), (2.0, false));
        assert_eq!(c.inference.providers, ["cuda", "cpu"]);
        assert_eq!(c.http.allowed_origins, ["http://a", "http://b"]);
    }

    #[test]
    fn every_problem_is_named_at_once_with_its_line_and_a_suggestion() {
        let text = "[http]\nlisen = \"127.0.0.1:1\"\nmax_upload = 5\n\n[mqqt]\nurl = \"\"\n[camera.a]\nkind = \"webcam\"\n";
        let problems = layered(&[("f.toml", text)], &[("IRISD_QUEUE__MAX_PENDING", "many"), ("IRISD_QEUE__X", "1")]).unwrap_err();
        let all = problems.join("\n");
        for part in [
            "f.toml:2: http.lisen: there is no such key; did you mean `listen`?",
            "f.toml:3: http.max_upload: ",
            "the default is \"64MiB\"",
            "f.toml:5: mqqt: there is no such section; did you mean `mqtt`?",
            "f.toml:8: camera.a.kind: ",
            "IRISD_QUEUE__MAX_PENDING: queue.max_pending: \"many\" is not a whole number",
            "IRISD_QEUE__X: qeue: there is no such section; did you mean `queue`?",
        ] {
            assert!(all.contains(part), "{part:?} is not in:\n{all}");
        }
        assert_eq!(problems.len(), 6, "{all}");
    }

    #[test]
    fn relative_folders_are_those_of_the_current_folder_and_an_empty_one_is_refused() {
        let c = layered(&[("f.toml", "[paths]\nstate = \"here/state\"\nweights = \"/w\"\n")], &[]).unwrap();
        assert_eq!(c.paths.state, std::env::current_dir().unwrap().join("here/state"));
        assert_eq!(c.paths.weights, Path::new("/w"));
        let env = [("IRISD_PATHS__STATE".to_owned(), String::new())];
        let problems = load(Some(Path::new("/dev/null")), env.into_iter()).unwrap_err();
        assert!(problems.iter().any(|p| p.key == "paths.state"), "{problems:?}");
    }

    #[test]
    fn a_file_that_is_no_toml_names_its_line() {
        let problems = layered(&[("f.toml", "[http]\nlisten = 127.0.0.1:80 80\n")], &[]).unwrap_err();
        assert!(problems[0].starts_with("f.toml:2: "), "{problems:?}");
        let problems = layered(&[("f.toml", "level = \"info\"\n")], &[]).unwrap_err();
        assert!(problems[0].contains("outside of a section"), "{problems:?}");
    }

    #[test]
    fn files_below_etc_come_in_the_order_of_their_names_and_a_named_file_takes_their_place() {
        let etc = tempfile::tempdir().unwrap();
        fs::create_dir(etc.path().join("conf.d")).unwrap();
        for (name, port) in
            [("irisd.toml", 1), ("conf.d/20.toml", 3), ("conf.d/10.toml", 2), ("conf.d/99.txt", 9), ("conf.d/.99.toml", 8), ("own.toml", 4)]
        {
            fs::write(etc.path().join(name), format!("[http]\nlisten = \"127.0.0.1:{port}\"\n")).unwrap();
        }
        let port = |flag: Option<&Path>| read(etc.path(), flag, std::iter::empty()).config().http.listen.port();
        assert_eq!(port(None), 3);
        assert_eq!(port(Some(&etc.path().join("own.toml"))), 4);
        let missing = read(etc.path(), Some(Path::new("/nowhere.toml")), std::iter::empty());
        assert!(missing.problems[0].to_string().starts_with("/nowhere.toml: the file cannot be read"));
    }
}

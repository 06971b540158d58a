//! The profile of a session's first run: which provider did how many nodes, and how long they took.

use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::failed;
use crate::ports::{ModelError, Share};

/// A profile file that goes away again, whatever happens.
pub struct Profile {
    folder: PathBuf,
    pub prefix: PathBuf,
}

impl Profile {
    /// In the system's folder for such, which others write to as well: a name that nobody can guess, a folder that was not there.
    pub fn new() -> Result<Self, ModelError> {
        let number = getrandom::u64().map_err(|e| failed("random bytes", e))?;
        let folder = std::env::temp_dir().join(format!("irisd-profile-{number:016x}"));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|e| failed(&folder.display().to_string(), e))?;
        Ok(Self { prefix: folder.join("run"), folder })
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder); // best effort: a few kB in the system's folder for such
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    dur: u64,
    #[serde(default)]
    args: BTreeMap<String, serde_json::Value>,
}

/// What each provider did, the one with the most time first. Errors: no node of the profile names its provider.
pub fn shares(profile: &Path) -> io::Result<Vec<Share>> {
    of(&std::fs::read(profile)?)
}

/// By time, not by number: TensorRT fuses a whole network into one node, beside which a handful of shape nodes stay on the CPU.
fn of(profile: &[u8]) -> io::Result<Vec<Share>> {
    let events: Vec<Event> = serde_json::from_slice(profile)?;
    let mut all: BTreeMap<String, Share> = BTreeMap::new();
    // A node leaves an event for its kernel, in older libraries others for its fences, which do nothing that counts.
    for event in events.iter().filter(|e| e.cat == "Node" && !e.name.contains("fence")) {
        if let Some(provider) = event.args.get("provider").and_then(|p| p.as_str()).filter(|p| !p.is_empty()) {
            let name = short(provider);
            let share = all.entry(name.clone()).or_insert(Share { provider: name, nodes: 0, us: 0 });
            (share.nodes, share.us) = (share.nodes + 1, share.us + event.dur);
        }
    }
    let mut all: Vec<Share> = all.into_values().collect();
    all.sort_by_key(|s| std::cmp::Reverse((s.us, s.nodes)));
    if all.is_empty() { Err(io::Error::other("no node names its provider")) } else { Ok(all) }
}

/// As the configuration names it.
fn short(provider: &str) -> String {
    match provider {
        "TensorrtExecutionProvider" | "NvTensorRTRTXExecutionProvider" => "tensorrt".to_owned(),
        other => other.trim_end_matches("ExecutionProvider").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ONNX Runtime writes it, cut down.
    fn event(name: &str, provider: &str, dur: u64) -> String {
        format!(
            r#"{{"cat": "Node", "pid": 1, "tid": 2, "dur": {dur}, "ts": 3, "ph": "X", "name": "{name}", "args": {{"provider": "{provider}"}}}}"#
        )
    }

    #[test]
    fn the_provider_with_the_most_time_comes_first_however_few_nodes_it_has() {
        let session = r#"{"cat": "Session", "dur": 9999, "name": "model_run", "args": {}}"#;
        let text = [
            session.to_owned(),
            event("shape_kernel_time", "CPUExecutionProvider", 3),
            event("gather_kernel_time", "CPUExecutionProvider", 4),
            event("gather_fence_before", "CPUExecutionProvider", 500),
            event("TRTKernel_0_kernel_time", "TensorrtExecutionProvider", 400),
            event("cast_kernel_time", "CUDAExecutionProvider", 20),
        ];
        let found = of(format!("[{}]", text.join(",")).as_bytes()).expect("a profile");
        let told: Vec<_> = found.iter().map(|s| (s.provider.as_str(), s.nodes, s.us)).collect();
        assert_eq!(told, [("tensorrt", 1, 400), ("cuda", 1, 20), ("cpu", 2, 7)]);
    }

    #[test]
    fn a_profile_in_which_no_node_names_its_provider_is_no_truth() {
        assert!(of(b"[]").is_err() && of(b"not a profile").is_err());
        assert!(of(br#"[{"cat": "Node", "dur": 4, "name": "a_kernel_time", "args": {"provider": ""}}]"#).is_err());
    }
}

//! What is told about each network: what was asked for, what really ran, and why they differ.

use serde::Serialize;

use super::{
    Engine,
    slot::{Build, Slot},
    trial::RunsOn,
};

/// One model of the manifest, as `/device` shows it (contract: Providers).
#[derive(Debug, Clone, Serialize)]
pub struct ModelStatus {
    pub name: String,
    pub role: String,
    /// What the configuration asks for, in order.
    pub configured: Vec<String>,
    /// What really ran; None until it ran.
    pub active: Option<String>,
    pub precision: Option<String>,
    /// Nodes by provider, of the trial run: "tensorrt 118 nodes, cpu 2 nodes".
    pub nodes: Option<String>,
    /// not_loaded | building | warming | ready | degraded | failed
    pub state: String,
    pub reason: Option<String>,
    /// How long its engine has been in the making, s.
    pub building_s: Option<u64>,
}

impl ModelStatus {
    /// "iris: cuda wanted, cpu ran, because ..."; None: all is as configured, or nothing is known yet.
    pub fn degraded(&self) -> Option<String> {
        let reason = self.reason.as_deref().unwrap_or("no reason known");
        matches!(self.state.as_str(), "degraded" | "failed" | "building").then(|| match (&self.active, self.configured.first()) {
            (Some(ran), Some(wanted)) if ran != wanted => format!("{}: {wanted} wanted, {ran} ran, because {reason}", self.name),
            _ => format!("{}: {reason}", self.name),
        })
    }
}

/// Whether what ran is what is demanded. TensorRT is CUDA's better half: who demands the GPU by `cuda` has it.
pub fn meets(required: &str, ran: &str) -> bool {
    ran == required || (required == "cuda" && ran == "tensorrt")
}

impl Engine {
    /// Never waits for a network that loads or runs.
    pub fn status(&self) -> Vec<ModelStatus> {
        let show = |(name, slot): (&String, &Slot)| {
            let shown = slot.shown();
            let building = if let Build::Running(since) = shown.build { Some(since.elapsed().as_secs()) } else { None };
            ModelStatus {
                name: name.clone(),
                role: slot.row.role.name().to_owned(),
                configured: self.inner.options.providers.clone(),
                active: shown.runs_on.as_ref().map(|r| r.provider.clone()),
                precision: shown.runs_on.as_ref().map(|r| r.precision.clone()),
                nodes: shown.runs_on.as_ref().map(RunsOn::by_nodes),
                state: if building.is_some() { "building" } else { shown.state.name() }.to_owned(),
                reason: shown.reason,
                building_s: building,
            }
        };
        self.inner.slots.iter().map(show).collect()
    }
}

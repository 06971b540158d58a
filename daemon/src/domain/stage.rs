//! The five steps of the pipeline and their share of the progress bar.

use serde::{Deserialize, Serialize};

/// A step. The names are the contract's `current_step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Load,
    Segment,
    Reflections,
    Enhance,
    Save,
}

impl Stage {
    pub const ALL: [Stage; 5] = [Stage::Load, Stage::Segment, Stage::Reflections, Stage::Enhance, Stage::Save];

    /// The share of the progress bar, in percent: from, to.
    pub const fn band(self) -> (u8, u8) {
        match self {
            Stage::Load => (0, 10),
            Stage::Segment => (10, 40),
            Stage::Reflections => (40, 60),
            Stage::Enhance => (60, 90),
            Stage::Save => (90, 100),
        }
    }

    /// Overall percent when `done` (0.0..=1.0) of this step is done.
    pub fn percent(self, done: f32) -> u8 {
        let (from, to) = self.band();
        from + (f32::from(to - from) * done.clamp(0.0, 1.0)) as u8
    }

    pub const fn name(self) -> &'static str {
        match self {
            Stage::Load => "load",
            Stage::Segment => "segment",
            Stage::Reflections => "reflections",
            Stage::Enhance => "enhance",
            Stage::Save => "save",
        }
    }
}

/// Wall time of each step, ms; absent where the step did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StepMs {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub load: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub segment: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reflections: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub enhance: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub save: Option<u64>,
}

impl StepMs {
    pub fn set(&mut self, stage: Stage, ms: u64) {
        *match stage {
            Stage::Load => &mut self.load,
            Stage::Segment => &mut self.segment,
            Stage::Reflections => &mut self.reflections,
            Stage::Enhance => &mut self.enhance,
            Stage::Save => &mut self.save,
        } = Some(ms);
    }

    pub fn total(&self) -> u64 {
        [self.load, self.segment, self.reflections, self.enhance, self.save].into_iter().flatten().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bands_cover_0_to_100_without_gap_or_overlap() {
        let mut at = 0;
        for s in Stage::ALL {
            assert_eq!(s.band().0, at);
            at = s.band().1;
        }
        assert_eq!(at, 100);
        assert_eq!(Stage::Segment.percent(0.5), 25);
        assert_eq!(Stage::Save.percent(7.0), 100);
    }
}

//! What the pipeline needs of the configuration.

use crate::{
    config::{Config, QualityMode, Scope},
    imaging::{decode::Limits, quality::Thresholds},
    inference::manifest::Role,
};

/// Plain values, copied once at start.
#[derive(Debug, Clone)]
pub struct Settings {
    pub limits: Limits,
    /// auto | classical | a name of the manifest
    pub segment_model: String,
    /// Iris mask / photo, 0..1.
    pub min_coverage: f64,
    /// A quality_issue ends the job; else it becomes a warning of the report.
    pub gate: bool,
    pub thresholds: Thresholds,
    /// auto | classical | off | a name of the manifest
    pub reflections: String,
    /// auto | lanczos | a name of the manifest
    pub enhance_model: String,
    pub scope: Scope,
    /// 1..=4
    pub scale: u32,
    /// px of the photo.
    pub tile: u32,
    /// Sharpening within the photo's noise, before Lanczos.
    pub detail: bool,
    /// What networks are asked for: the device's providers in order, and the precision.
    pub inference: (Vec<String>, String),
}

impl Settings {
    pub fn from_config(config: &Config) -> Self {
        let q = &config.quality;
        Self {
            limits: Limits { max_pixels: config.http.max_pixels },
            segment_model: config.segment.model.clone(),
            min_coverage: config.segment.min_coverage,
            gate: q.mode == QualityMode::Gate,
            thresholds: Thresholds {
                min_confidence: q.min_confidence,
                min_limbus_edge: q.min_limbus_edge,
                min_pupil_inside: q.min_pupil_inside,
                min_concentricity: q.min_concentricity,
                min_iris_diameter: q.min_iris_diameter,
                min_sharpness: q.min_sharpness,
                max_motion: q.max_motion,
                min_lightness: q.min_lightness,
                max_lightness: q.max_lightness,
                max_clipped: q.max_clipped,
                max_glare: q.max_glare,
                max_pupil_glare: q.max_pupil_glare,
                min_usable_area: q.min_usable_area,
                min_inside: q.min_inside,
                min_pupil_ratio: q.min_pupil_ratio,
                max_pupil_ratio: q.max_pupil_ratio,
                max_gaze: q.max_gaze,
                min_iris_sclera_contrast: q.min_iris_sclera_contrast,
                min_iris_pupil_contrast: q.min_iris_pupil_contrast,
            },
            reflections: config.reflections.method.clone(),
            enhance_model: config.enhance.model.clone(),
            scope: config.enhance.scope,
            scale: config.enhance.scale.clamp(1, 4),
            tile: config.enhance.tile,
            detail: config.enhance.detail,
            inference: (config.inference.providers.clone(), config.inference.precision.clone()),
        }
    }

    /// What a network may do. The other steps are done classically, whatever lies on the device.
    pub fn roles(&self) -> Vec<Role> {
        let asked = [
            (Role::Segmentation, self.segment_model != "classical"),
            (Role::Reflections, !matches!(self.reflections.as_str(), "classical" | "off")),
            (Role::Enhancement, self.enhance_model != "lanczos"),
        ];
        asked.into_iter().filter_map(|(role, asked)| asked.then_some(role)).collect()
    }
}

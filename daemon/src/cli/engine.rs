//! The networks of this device, for commands that work without the daemon.

use std::sync::Arc;

use crate::{
    adapters::model_ort::{OrtOptions, OrtRuntime},
    config::{Config, units::Span},
    inference::{
        Engine,
        manifest::{Manifest, ManifestError},
    },
    ports::ModelRuntime,
};

/// What `[inference]` and `[paths]` say of the library. A missing library is no error: the classical methods need none.
pub fn engine(config: &Config) -> Result<Engine, ManifestError> {
    let manifest = Manifest::load(&config.paths.state, &config.paths.weights)?;
    let runtime = OrtRuntime::open(OrtOptions {
        library: config.paths.onnxruntime.clone(),
        providers: config.inference.providers.clone(),
        threads: config.inference.threads,
        precision: config.inference.precision.clone(),
        cache: config.paths.state.join("engines"),
    });
    let runtime = runtime.map(|r| Arc::new(r) as Arc<dyn ModelRuntime>);
    let idle = config.inference.idle_unload.parse::<Span>().ok().map(|s| s.0);
    Ok(Engine::new(manifest, runtime, config.inference.providers.clone(), idle))
}

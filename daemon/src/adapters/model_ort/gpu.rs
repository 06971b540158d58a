//! NVIDIA's providers: how they are asked for, and what their engines depend on.
//!
//! Nobody has run this on a GPU yet. It was reviewed against ort 2.0.0-rc.15 (`src/ep/tensorrt.rs`, `src/ep/cuda.rs`: each call below sets the
//! option of the same name of ONNX Runtime) and ONNX Runtime's own pages on its TensorRT and CUDA providers; docs/jetson.md says what is
//! still to be seen on a device.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ort::ep::{self, ExecutionProviderDispatch};

use super::{failed, session};
use crate::ports::{ModelError, ModelSpec, Placement};

/// The provider of this name, which must register: without this, ort would go on with the CPU and not say so.
pub fn provider(name: &str) -> ExecutionProviderDispatch {
    match name {
        "tensorrt" => ep::TensorRT::default().build().error_on_failure(),
        _ => cuda().build().error_on_failure(),
    }
}

/// The same, for a network.
pub fn provider_for(name: &str, spec: &ModelSpec, on: &Placement) -> Result<ExecutionProviderDispatch, ModelError> {
    if name != "tensorrt" {
        return Ok(cuda().build().error_on_failure());
    }
    // One shape, stated: the engine is then built while the session is made and not in the middle of a photo, and no second one is built
    // for another size.
    let shapes = session::shapes(spec)?;
    let mut tensorrt = ep::TensorRT::default()
        .with_fp16(on.fp16)
        .with_profile_min_shapes(&shapes)
        .with_profile_opt_shapes(&shapes)
        .with_profile_max_shapes(&shapes);
    if let Some(folder) = &on.engine {
        fs::create_dir_all(folder).map_err(|e| failed(&folder.display().to_string(), e))?;
        let path = folder.display();
        tensorrt = tensorrt.with_engine_cache(true).with_engine_cache_path(&path).with_timing_cache(true).with_timing_cache_path(path);
    }
    Ok(tensorrt.build().error_on_failure())
}

/// TF32 off: the library has it on, and what is then called fp32 has ten bits.
fn cuda() -> ep::CUDA {
    ep::CUDA::default().with_tf32(false)
}

/// Versions and names that a kept engine depends on, for people to read too.
pub fn identity(runtime_version: &str) -> String {
    let tensorrt = newest(&library_folders().iter().flat_map(|f| names_in(f)).collect::<Vec<_>>());
    let unknown = || "unknown".to_owned();
    format!("onnxruntime {runtime_version}, tensorrt {}, gpu {}", tensorrt.unwrap_or_else(unknown), gpu_name().unwrap_or_else(unknown))
}

fn library_folders() -> Vec<PathBuf> {
    let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let said = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let usual = [multiarch.as_str(), "/usr/lib", "/usr/local/lib"].map(PathBuf::from);
    std::env::split_paths(&said).filter(|p| p.is_absolute()).chain(usual).collect()
}

fn names_in(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// The fullest version among `libnvinfer.so.10`, `libnvinfer.so.10.3.0`: the plain ones are links to it.
fn newest(names: &[String]) -> Option<String> {
    let versions = names.iter().filter_map(|n| n.strip_prefix("libnvinfer.so."));
    let parts = |v: &&str| v.split('.').map(|p| p.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    versions.filter(|v| v.starts_with(|c: char| c.is_ascii_digit())).max_by_key(parts).map(str::to_owned)
}

/// As the driver names it; on a Jetson, whose driver names none, the board.
fn gpu_name() -> Option<String> {
    let cards = fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let mut models = cards.filter_map(|card| model_line(&fs::read_to_string(card.path().join("information")).ok()?));
    let board = || fs::read_to_string("/proc/device-tree/model").ok().map(|t| t.trim_end_matches('\0').trim().to_owned());
    models.next().or_else(board).filter(|name| !name.is_empty())
}

fn model_line(information: &str) -> Option<String> {
    information.lines().find_map(|l| l.strip_prefix("Model:")).map(|name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_version_of_tensorrt_is_taken_and_other_libraries_are_not() {
        let names = ["libnvinfer.so", "libnvinfer.so.10", "libnvinfer.so.10.3.0", "libnvinfer.so.8.6.2", "libnvinfer_plugin.so.11.0.0"];
        assert_eq!(newest(&names.map(str::to_owned)).as_deref(), Some("10.3.0"));
        assert_eq!(newest(&["libc.so.6".to_owned()]), None);
    }

    #[test]
    fn the_card_is_named_as_the_driver_names_it() {
        assert_eq!(model_line("Model: \t\t NVIDIA RTX A2000\nIRQ:   \t\t 36\n").as_deref(), Some("NVIDIA RTX A2000"));
        assert_eq!(model_line("IRQ: 36\n"), None);
    }
}

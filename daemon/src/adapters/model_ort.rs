//! ONNX Runtime: the library that runs networks. The only file that names `ort`.
//!
//! ```text
//!   search library -> dlopen, version >= 1.22 -> one environment for the process
//!   load(model):  [tensorrt, cuda] -> [cuda] -> [cpu]     each tier with errors on: what cannot register fails loudly
//!                 names and shapes -> canary run -> profile -> the provider that did the work
//! ```
//!
//! What runs is read, never assumed: a provider that fails to register falls back to the CPU in silence unless asked not to, and
//! "available" only means compiled in. Hence the tiers, and the profile of one trial run, which names the provider of every node.
//!
//! A library that is missing, is no library, or is too old gives [`Code::RuntimeMissing`]; nothing here hangs, panics or aborts for it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    os::unix::fs::DirBuilderExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use ort::{
    environment::Environment,
    ep::{self, ExecutionProvider},
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::{TensorElementType, TensorRef, ValueType},
};
use serde::Deserialize;

use crate::{
    domain::fault::Code,
    ports::{Model, ModelError, ModelRuntime, ModelSpec, RunsOn, Tensor},
};

const LIBRARY: &str = "libonnxruntime.so";

/// What app.rs hands over from `[inference]` and `[paths]`.
#[derive(Debug, Clone)]
pub struct OrtOptions {
    /// libonnxruntime.so; empty: searched ([`search`]).
    pub library: PathBuf,
    /// "tensorrt", "cuda", "cpu", wanted in this order.
    pub providers: Vec<String>,
    /// Threads of one session; 0: the cores there are.
    pub threads: usize,
    /// auto | fp32 | fp16. fp16 counts with TensorRT alone; auto is fp32: Real-ESRGAN gives black tiles in fp16.
    pub precision: String,
    /// Folder for TensorRT's engines, which take minutes to build; made when TensorRT is used. Empty: engines are not kept.
    pub cache: PathBuf,
}

/// The loaded library. One a process: ONNX Runtime allows a single environment.
pub struct OrtRuntime {
    environment: Environment,
    library: PathBuf,
    version: String,
    options: OrtOptions,
}

/// The environment of this process, once there is one. A library cannot be unloaded, so a second one is refused.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

fn missing(detail: impl Into<String>) -> ModelError {
    ModelError { code: Code::RuntimeMissing, detail: detail.into() }
}

fn failed(what: &str, e: impl std::fmt::Display) -> ModelError {
    ModelError { code: Code::ModelFailed, detail: format!("{what}: {e}") }
}

/// Where the library is looked for when the configuration names none, in this order: `ORT_DYLIB_PATH`; beside the program and in its
/// `../lib/irisd`; `.tools/onnxruntime` of the checkout whose `target/` the program lies in; `/usr/local/lib`, `/usr/lib` and the
/// system's multiarch folder.
pub fn search() -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(named) = std::env::var_os("ORT_DYLIB_PATH").filter(|v| !v.is_empty()) {
        places.push(PathBuf::from(named));
    }
    if let Some(program) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        places.push(program.join(LIBRARY));
        places.push(program.join("../lib/irisd").join(LIBRARY));
        let checkout = program.ancestors().find(|p| p.ends_with("target")).and_then(Path::parent);
        places.extend(checkout.map(|c| c.join(".tools/onnxruntime").join(LIBRARY)));
    }
    let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    places.extend(["/usr/local/lib", "/usr/lib", &multiarch].map(|dir| Path::new(dir).join(LIBRARY)));
    places
}

impl OrtRuntime {
    /// Loads the library. Errors: RuntimeMissing.
    pub fn open(options: OrtOptions) -> Result<Self, ModelError> {
        let library = if options.library.as_os_str().is_empty() {
            let places = search();
            places.iter().find(|p| p.is_file()).cloned().ok_or_else(|| {
                let tried: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
                missing(format!("no {LIBRARY} at {}; name one in paths.onnxruntime", tried.join(", ")))
            })?
        } else {
            options.library.clone()
        };
        // Resolved first: ort would take a relative path as one beside the program.
        let library = library.canonicalize().map_err(|e| missing(format!("{}: {e}", library.display())))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let environment = match &*loaded {
            Some((path, environment)) if *path == library => environment.clone(),
            Some((path, _)) => return Err(missing(format!("{} is already loaded; start the program again", path.display()))),
            None => {
                // ort asserts on a library whose entry point answers null; that is a broken file, no reason to die.
                let opened = catch_unwind(AssertUnwindSafe(|| -> Result<Environment, String> {
                    ort::init_from(&library).map_err(|e| e.to_string())?.with_name("irisd").build().map_err(|e| e.to_string())
                }));
                let broken = Err("it is no usable ONNX Runtime".to_owned());
                let environment = opened.unwrap_or(broken).map_err(|e| missing(format!("{}: {e}", library.display())))?;
                loaded.insert((library.clone(), environment)).1.clone()
            }
        };
        let version = version_in(&library).unwrap_or_else(|| "of unknown version".to_owned());
        Ok(Self { environment, library, version, options })
    }

    /// Tiers to try, best first: each GPU provider together with those after it, the CPU alone last. The CPU is always there. A plain
    /// network leaves TensorRT out: fp16 is its alone, and an engine takes minutes to build.
    fn tiers(&self, spec: &ModelSpec) -> Vec<Vec<&str>> {
        let wanted = |p: &&str| *p == "cuda" || (*p == "tensorrt" && !spec.plain);
        let gpu: Vec<&str> = self.options.providers.iter().map(String::as_str).filter(wanted).collect();
        let mut tiers: Vec<Vec<&str>> = (0..gpu.len()).map(|i| gpu[i..].to_vec()).collect();
        tiers.push(Vec::new());
        tiers
    }

    fn fp16(&self) -> bool {
        self.options.precision == "fp16"
    }

    fn load_tier(&self, spec: &ModelSpec, tier: &[&str]) -> Result<OrtModel, ModelError> {
        let threads = match self.options.threads {
            0 => thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let profile = Profile::new()?;
        let (cache, keep) = (&self.options.cache, !self.options.cache.as_os_str().is_empty());
        // Compiled into the library; whether its own libraries are there shows when it registers.
        if keep && tier.contains(&"tensorrt") && ep::TensorRT::is_available().unwrap_or(false) {
            std::fs::create_dir_all(cache).map_err(|e| failed(&cache.display().to_string(), e))?;
        }
        let setup = || -> Result<Session, ort::Error> {
            let providers = tier.iter().map(|name| match *name {
                "tensorrt" => ep::TensorRT::default()
                    .with_fp16(self.fp16())
                    .with_engine_cache(keep)
                    .with_engine_cache_path(cache.display())
                    .with_timing_cache(keep)
                    .build()
                    .error_on_failure(),
                _ => ep::CUDA::default().build().error_on_failure(),
            });
            let mut builder = Session::builder(&self.environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(threads)?
                .with_intra_op_spinning(false)? // spinning threads would eat the cores that the pixel stages need
                .with_execution_providers(providers.collect::<Vec<_>>())?
                .with_profiling(&profile.prefix)?;
            builder.commit_from_file(&spec.file)
        };
        let session = setup().map_err(|e| failed(&format!("{} could not be loaded", spec.name), e))?;
        check_ports(&session, spec)?;
        let mut model = OrtModel {
            session,
            spec: spec.clone(),
            runs_on: RunsOn { provider: String::new(), precision: String::new(), reason: None },
            busy: Duration::ZERO,
        };
        let canary = Tensor { shape: spec.canary.clone(), data: vec![0.5; spec.canary.iter().product()] };
        let out = model.run(&canary)?;
        if out.iter().any(|t| t.data.iter().any(|v| !v.is_finite())) {
            return Err(failed(&format!("{}: the trial run on {tier:?}", spec.name), "the output is not finite"));
        }
        let file = model.session.end_profiling().map_err(|e| failed("profile", e))?;
        let provider = provider_of(Path::new(&file)).map_err(|e| failed("profile", e))?;
        let precision = if provider == "tensorrt" && self.fp16() { "fp16" } else { "fp32" };
        model.runs_on = RunsOn { provider, precision: precision.into(), reason: None };
        Ok(model)
    }
}

impl ModelRuntime for OrtRuntime {
    fn load(&self, spec: &ModelSpec) -> Result<Box<dyn Model>, ModelError> {
        let mut reasons = Vec::new();
        for tier in self.tiers(spec) {
            match self.load_tier(spec, &tier) {
                Ok(mut model) => {
                    let first = self.options.providers.first().map_or("cpu", String::as_str);
                    if model.runs_on.provider != first {
                        reasons.push(format!("{} did the work", model.runs_on.provider));
                        model.runs_on.reason = Some(reasons.join("; "));
                    }
                    return Ok(Box::new(model));
                }
                // A file that does not fit would fit no other provider either.
                Err(e) if tier.is_empty() || e.code == Code::ModelMismatch => return Err(e),
                Err(e) => {
                    tracing::info!(model = spec.name, ?tier, error = %e, "these providers cannot run the network");
                    reasons.push(format!("{}: {}", tier[0], e.detail));
                    let _ = std::fs::remove_dir(&self.options.cache); // goes if it is empty: made for TensorRT, which then did not run
                }
            }
        }
        unreachable!("the last tier is the CPU's, and it returns")
    }

    fn about(&self) -> String {
        format!("ONNX Runtime {}, {}", self.version, self.library.display())
    }
}

struct OrtModel {
    session: Session,
    spec: ModelSpec,
    runs_on: RunsOn,
    busy: Duration,
}

impl Model for OrtModel {
    fn run(&mut self, input: &Tensor) -> Result<Vec<Tensor>, ModelError> {
        let fail = |e: ort::Error| failed(&self.spec.name, e);
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::new();
        for (name, shape, data) in dealt(&self.spec, input)? {
            let view = TensorRef::from_array_view((shape, data)).map_err(fail)?;
            inputs.push((name.into(), view.into()));
        }
        let begun = Instant::now();
        let outputs = self.session.run(inputs).map_err(fail)?;
        self.busy += begun.elapsed();
        let value = outputs.get(&self.spec.output).ok_or_else(|| failed(&self.spec.name, "the output did not come"))?;
        let (shape, data) = value.try_extract_tensor::<f32>().map_err(fail)?;
        Ok(vec![Tensor { shape: shape.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect(), data: data.to_vec() }])
    }

    fn runs_on(&self) -> RunsOn {
        self.runs_on.clone()
    }

    fn busy(&self) -> Duration {
        self.busy
    }
}

/// What one input of a network is given: name, shape, values.
type Given<'a> = (&'a str, Vec<usize>, &'a [f32]);

/// The tensor as the network's inputs take it: all of it, or its last channel apart. In a batch the channels of one input would not
/// lie together, so a network with a mask runs one picture at a time.
fn dealt<'a>(spec: &'a ModelSpec, input: &'a Tensor) -> Result<Vec<Given<'a>>, ModelError> {
    let Some(mask) = &spec.mask else { return Ok(vec![(&spec.input, input.shape.clone(), &input.data)]) };
    match input.shape[..] {
        [1, channels, h, w] if channels > 1 && input.data.len() == channels * h * w => {
            let (picture, last) = input.data.split_at((channels - 1) * h * w);
            Ok(vec![(&spec.input, vec![1, channels - 1, h, w], picture), (mask, vec![1, 1, h, w], last)])
        }
        _ => Err(ModelError { code: Code::ModelMismatch, detail: format!("{}: no picture with a mask: {:?}", spec.name, input.shape) }),
    }
}

/// The version of a library, from its ELF symbol versions (`VERS_1.31.1`): ort asks the library for it, but does not hand it on.
fn version_in(library: &Path) -> Option<String> {
    const MARK: &[u8] = b"\0VERS_";
    let bytes = std::fs::read(library).ok()?;
    let at = bytes.windows(MARK.len()).position(|w| w == MARK)? + MARK.len();
    let text = bytes[at..].iter().take_while(|b| b.is_ascii_digit() || **b == b'.').map(|b| char::from(*b)).collect::<String>();
    (!text.is_empty()).then_some(text)
}

/// The file's input and output must have the manifest's names, be f32, and take the canary's shape.
fn check_ports(session: &Session, spec: &ModelSpec) -> Result<(), ModelError> {
    let describe = |outlets: &[ort::value::Outlet]| -> String {
        outlets.iter().map(|o| format!("{} {:?}", o.name(), o.dtype().tensor_shape())).collect::<Vec<_>>().join(", ")
    };
    let mismatch = |what: String| ModelError { code: Code::ModelMismatch, detail: format!("{}: {what}", spec.name) };
    let canary = Tensor { shape: spec.canary.clone(), data: vec![0.5; spec.canary.iter().product()] };
    let wanted = dealt(spec, &canary)?;
    let takes = |(name, wanted, _): &Given<'_>| {
        let input = session.inputs().iter().find(|i| i.name() == *name);
        input.is_some_and(|input| match input.dtype() {
            ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => {
                shape.len() == wanted.len() && shape.iter().zip(wanted).all(|(is, want)| *is < 0 || *is == *want as i64)
            }
            _ => false,
        })
    };
    if session.inputs().len() != wanted.len() || !wanted.iter().all(takes) {
        let wanted: Vec<String> = wanted.iter().map(|(name, shape, _)| format!("{name} f32 {shape:?}")).collect();
        return Err(mismatch(format!("input {} is wanted, the file has: {}", wanted.join(" and "), describe(session.inputs()))));
    }
    if !session.outputs().iter().any(|o| o.name() == spec.output) {
        return Err(mismatch(format!("the output {} is wanted, the file has: {}", spec.output, describe(session.outputs()))));
    }
    Ok(())
}

/// A profile file that goes away again, whatever happens.
struct Profile {
    folder: PathBuf,
    prefix: PathBuf,
}

impl Profile {
    /// In the system's folder for such, which others write to as well: a name that nobody can guess, a folder that was not there.
    fn new() -> Result<Self, ModelError> {
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
struct ProfileEvent {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    dur: u64,
    #[serde(default)]
    args: BTreeMap<String, serde_json::Value>,
}

/// The provider in which the nodes of the trial run spent most of their time: "tensorrt", "cuda", "cpu". By time, not by number: TensorRT
/// fuses a whole network into one node, beside which a handful of shape nodes stay on the CPU.
fn provider_of(profile: &Path) -> std::io::Result<String> {
    let events: Vec<ProfileEvent> = serde_json::from_slice(&std::fs::read(profile)?)?;
    let mut spent: BTreeMap<String, u64> = BTreeMap::new();
    for event in events.iter().filter(|e| e.cat == "Node") {
        if let Some(provider) = event.args.get("provider").and_then(|p| p.as_str()).filter(|p| !p.is_empty()) {
            *spent.entry(provider.to_owned()).or_default() += event.dur.max(1);
        }
    }
    let most = spent.into_iter().max_by_key(|(_, us)| *us).map(|(name, _)| name);
    let name = most.ok_or_else(|| std::io::Error::other("no node names its provider"))?;
    Ok(match name.as_str() {
        "CPUExecutionProvider" => "cpu".to_owned(),
        "CUDAExecutionProvider" => "cuda".to_owned(),
        "TensorrtExecutionProvider" | "NvTensorRTRTXExecutionProvider" => "tensorrt".to_owned(),
        other => other.trim_end_matches("ExecutionProvider").to_lowercase(),
    })
}

//! ONNX Runtime: the library that runs networks. The only place that names `ort`.
//!
//! ```text
//!   search library -> dlopen, version >= 1.22 -> one environment for the process
//!   load(spec, placement): providers registered with errors on -> session (TensorRT: its engine) -> names and shapes held against the spec
//! ```
//!
//! Nothing is assumed here and nothing is chosen: a provider that cannot register is an error, never a silent CPU; what ran each node is
//! read from a profile (`profile.rs`); which providers are tried, and whether to believe them, is `inference/trial.rs`.
//!
//! A library that is missing, is no library, or is too old gives [`Code::RuntimeMissing`]; nothing here hangs, panics or aborts for it.
//!
//! Nothing leaves the device by it: since 1.29 Microsoft's builds report what they run to Microsoft unless told otherwise ([`tell_nobody`]).

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use ort::{
    environment::Environment,
    session::{
        Session,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
};

use self::{profile::Profile, session::OrtModel};
use crate::{
    domain::fault::Code,
    ports::{Model, ModelError, ModelRuntime, ModelSpec, Placement},
};

mod gpu;
mod profile;
mod session;

const LIBRARY: &str = "libonnxruntime.so";

/// Has ONNX Runtime report nothing to its makers: no uploader, no file with a number for this device, no cache of events.
///
/// It reads these two names (1.29 to 1.31 the first, later ones the second: microsoft/onnxruntime pull requests 27379, 29843) when its environment is
/// made, and only then: the call that ort offers, `with_telemetry`, comes after the first report. To be called before the first thread.
#[allow(clippy::disallowed_methods, reason = "a library reads nothing else, and there is no thread yet")]
pub fn tell_nobody() {
    for name in ["ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"] {
        // SAFETY: the caller is the only thread of Rust or of a library that reads the environment.
        unsafe { env::set_var(name, "1") };
    }
}

/// What app.rs hands over from `[inference]` and `[paths]`.
#[derive(Debug, Clone)]
pub struct OrtOptions {
    /// libonnxruntime.so; empty: searched ([`search`]).
    pub library: PathBuf,
    /// Threads of one session; 0: the cores there are.
    pub threads: usize,
}

/// The loaded library. One a process: ONNX Runtime allows a single environment.
pub struct OrtRuntime {
    environment: Environment,
    library: PathBuf,
    version: String,
    threads: usize,
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
    if let Some(named) = env::var_os("ORT_DYLIB_PATH").filter(|v| !v.is_empty()) {
        places.push(PathBuf::from(named));
    }
    if let Some(program) = env::current_exe().ok().as_deref().and_then(Path::parent) {
        places.push(program.join(LIBRARY));
        places.push(program.join("../lib/irisd").join(LIBRARY));
        let checkout = program.ancestors().find(|p| p.ends_with("target")).and_then(Path::parent);
        places.extend(checkout.map(|c| c.join(".tools/onnxruntime").join(LIBRARY)));
    }
    let multiarch = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
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
        if !is_a_library(&library) {
            return Err(missing(format!("{}: it is no library", library.display())));
        }
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let environment = match &*loaded {
            Some((path, environment)) if *path == library => environment.clone(),
            Some((path, _)) => return Err(missing(format!("{} is already loaded; start the program again", path.display()))),
            None => {
                // ort asserts on a library whose entry point answers null; that is a broken file, no reason to die.
                let opened = catch_unwind(AssertUnwindSafe(|| -> Result<Environment, String> {
                    let environment = ort::init_from(&library).map_err(|e| e.to_string())?.with_name("irisd").with_telemetry(false);
                    environment.build().map_err(|e| e.to_string())
                }));
                let broken = Err("it is no usable ONNX Runtime".to_owned());
                let environment = opened.unwrap_or(broken).map_err(|e| missing(format!("{}: {e}", library.display())))?;
                loaded.insert((library.clone(), environment)).1.clone()
            }
        };
        let version = version_in(&library).unwrap_or_else(|| "of unknown version".to_owned());
        Ok(Self { environment, library, version, threads: options.threads })
    }

    fn builder(&self) -> Result<SessionBuilder, ort::Error> {
        let threads = match self.threads {
            0 => thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        Ok(Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(threads)?
            .with_intra_op_spinning(false)?) // spinning threads would eat the cores that the pixel stages need
    }
}

impl ModelRuntime for OrtRuntime {
    fn registers(&self, providers: &[String]) -> Result<(), ModelError> {
        let all: Vec<_> = providers.iter().map(|name| gpu::provider(name)).collect();
        let register = || -> Result<(), ort::Error> {
            self.builder()?.with_execution_providers(all)?;
            Ok(())
        };
        register().map_err(|e| ModelError { code: Code::ModelFailed, detail: e.to_string().trim_end_matches('.').to_owned() })
    }

    fn load(&self, spec: &ModelSpec, on: &Placement) -> Result<Box<dyn Model>, ModelError> {
        let profile = Profile::new()?;
        let providers = on.providers.iter().map(|name| gpu::provider_for(name, spec, on)).collect::<Result<Vec<_>, _>>()?;
        let setup = || -> Result<Session, ort::Error> {
            let mut builder = self.builder()?.with_execution_providers(providers)?.with_profiling(&profile.prefix)?;
            builder.commit_from_file(&spec.file)
        };
        let session = setup().map_err(|e| failed(&format!("{} could not be loaded", spec.name), e))?;
        Ok(Box::new(OrtModel::new(session, spec, profile)?))
    }

    fn about(&self) -> String {
        format!("ONNX Runtime {}, {}", self.version, self.library.display())
    }

    fn identity(&self) -> String {
        gpu::identity(&self.version)
    }
}

/// The system's loader says no more than that it failed.
fn is_a_library(file: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(file).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// The version of a library, from its ELF symbol versions (`VERS_1.31.1`): ort asks the library for it, but does not hand it on.
fn version_in(library: &Path) -> Option<String> {
    let mut names = BufReader::new(File::open(library).ok()?);
    let mut name = Vec::new();
    // Linkers put the names at the head of a library: tens of megabytes behind it are not read.
    while names.read_until(0, &mut name).ok()? > 0 {
        if let Some(version) = name.strip_prefix(b"VERS_") {
            let text: String = version.iter().take_while(|b| b.is_ascii_digit() || **b == b'.').map(|b| char::from(*b)).collect();
            return (!text.is_empty()).then_some(text);
        }
        name.clear();
    }
    None
}

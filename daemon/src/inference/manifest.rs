//! `weights/manifest.toml`: the networks that this program knows, and what their files must be.
//!
//! The manifest of the build is compiled in, so that `irisd weights list` can name what is missing on an empty device. Then each `*.toml`
//! of `paths.weights`, and each of `<state>/weights`, in the order of their names, adds rows or replaces those of the same name. Files are
//! looked for in the other order: `<state>/weights` (what a person added), then `paths.weights` (what the package brought).
//!
//! Invariant: [`Manifest::verified`] is the only way to a path that a runtime may load, and it hashes the file each time. A file
//! whose sha256 is not its row's is never loaded: a swapped network would give masks that look right.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256 as Hasher};

use crate::{
    domain::{fault::Code, ids::Sha256},
    ports::{ModelError, ModelSpec},
};

mod check;

const BUILT_IN: &str = include_str!("../../../weights/manifest.toml");
const EXTENSION: &str = "toml";
/// Height and width of the trial input of a network whose input size is free, px.
const CANARY: usize = 32;

/// What a network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Segmentation,
    Enhancement,
    Reflections,
}

impl Role {
    pub const fn name(self) -> &'static str {
        match self {
            Role::Segmentation => "segmentation",
            Role::Enhancement => "enhancement",
            Role::Reflections => "reflections",
        }
    }
}

/// One channel of a segmentation's answer: how sure the network is, 0..1, that a pixel belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Visible iris with the visible pupil.
    Iris,
    /// Visible pupil.
    Pupil,
    /// The whole disc within the limbus, under the lids too.
    Limbus,
    /// Between the lids.
    Opening,
}

/// Channel order of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Rgb,
    Bgr,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputPort {
    pub name: String,
    /// N C H W; 0: free.
    pub shape: [usize; 4],
    /// The values that black and white become, before `mean` and `deviation`.
    pub range: [f32; 2],
    pub order: Order,
    /// Subtracted from red, green and blue.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Red, green and blue are divided by it then.
    #[serde(default = "one")]
    pub deviation: [f32; 3],
    /// Grey around a letterboxed picture, 0..255.
    pub padding: u8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputPort {
    pub name: String,
    /// N C H W; 0: free.
    pub shape: [usize; 4],
    /// The values that are black and white; None: the input's `range`.
    #[serde(default)]
    pub range: Option<[f32; 2]>,
    /// What each channel is (role segmentation).
    #[serde(default)]
    pub classes: Vec<Class>,
}

/// The second input of a network of the role reflections: N x 1 x H x W. Without it the mask is the fourth channel of the input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskPort {
    pub name: String,
    /// The values of a pixel that is known and of one that is to be filled.
    pub range: [f32; 2],
}

/// One row of the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRow {
    pub name: String,
    pub role: Role,
    /// A plain file name.
    pub file: String,
    pub sha256: Sha256,
    pub input: InputPort,
    #[serde(default)]
    pub mask: Option<MaskPort>,
    pub output: OutputPort,
    /// Output side / input side.
    pub scale: usize,
    /// px around a tile's core that the network must see and that are not kept (role enhancement).
    #[serde(default = "overlap")]
    pub overlap: usize,
    /// Tiles in one run where a GPU provider runs the network; on the CPU it is always one (docs/enhance.md).
    #[serde(default = "batch")]
    pub batch: usize,
    /// How far the trial run's answer on a GPU may be from the CPU's, as a share of the output's range. More: that provider is not used.
    #[serde(default = "max_error")]
    pub max_error: f32,
    /// What the process grows by at most while the network is loaded, tried and run on one input, MB; measured (docs/models.md).
    pub memory_mb: u32,
    /// In the package; else made by weights/fetch.sh.
    pub ships: bool,
    pub licence: String,
    pub source: String,
}

/// px; for a network of which nobody said how far it sees.
const fn overlap() -> usize {
    24
}

const fn batch() -> usize {
    1
}

/// TF32 keeps 10 bits of a factor: a thousandth after some twenty layers. A wrong kernel or layout is off by tenths. 0.02, five levels of
/// 255, lies well between.
const fn max_error() -> f32 {
    0.02
}

const fn one() -> [f32; 3] {
    [1.0; 3]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    model: Vec<ModelRow>,
}

/// Why the manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} is not a manifest: {reason}")]
    Malformed { path: PathBuf, reason: String },
}

/// The rows, and the folders in which files are looked for.
#[derive(Debug, Clone)]
pub struct Manifest {
    models: Vec<ModelRow>,
    places: Vec<PathBuf>,
}

impl Manifest {
    /// Built-in rows, then those of `<weights>/*.toml`, then those of `<state>/weights/*.toml`. Folders may be missing.
    pub fn load(state: &Path, weights: &Path) -> Result<Self, ManifestError> {
        let places = vec![state.join("weights"), weights.to_owned()];
        let mut models = parse(Path::new("the built-in manifest"), BUILT_IN)?;
        for path in documents(&places[1])?.into_iter().chain(documents(&places[0])?) {
            let text = std::fs::read_to_string(&path).map_err(|source| ManifestError::Unreadable { path: path.clone(), source })?;
            for row in parse(&path, &text)? {
                models.retain(|m| m.name != row.name);
                models.push(row);
            }
            check::files(&models).map_err(|reason| ManifestError::Malformed { path, reason })?;
        }
        Ok(Self { models, places })
    }

    pub fn models(&self) -> &[ModelRow] {
        &self.models
    }

    pub fn get(&self, name: &str) -> Option<&ModelRow> {
        self.models.iter().find(|m| m.name == name)
    }

    /// Where weights that a person adds go: `<state>/weights`.
    pub fn own_place(&self) -> &Path {
        &self.places[0]
    }

    /// The row's file as it lies there, not yet hashed.
    pub fn locate(&self, row: &ModelRow) -> Option<PathBuf> {
        self.places.iter().map(|p| p.join(&row.file)).find(|p| p.is_file())
    }

    /// The row's file, whose bytes are the right ones. Errors: WeightsMissing, WeightsTampered.
    pub fn verified(&self, row: &ModelRow) -> Result<PathBuf, ModelError> {
        let Some(path) = self.locate(row) else {
            let places: Vec<String> = self.places.iter().map(|p| p.display().to_string()).collect();
            let detail = format!("{} ({}) is not in {}", row.file, row.name, places.join(" nor in "));
            return Err(ModelError { code: Code::WeightsMissing, detail });
        };
        let found = hash(&path)
            .map_err(|e| ModelError { code: Code::WeightsMissing, detail: format!("{} cannot be read: {e}", path.display()) })?;
        if found != row.sha256 {
            let detail = format!("{} has sha256 {found}, the manifest says {}", path.display(), row.sha256);
            return Err(ModelError { code: Code::WeightsTampered, detail });
        }
        Ok(path)
    }
}

impl InputPort {
    /// The values that black and white become in a channel of a picture (0 red, 1 green, 2 blue).
    pub fn ends(&self, channel: usize) -> [f32; 2] {
        self.range.map(|v| (v - self.mean[channel]) / self.deviation[channel])
    }
}

impl ModelRow {
    /// The shape of the trial input: all channels, those of the mask too.
    pub fn canary(&self) -> Vec<usize> {
        let [n, c, h, w] = self.input.shape;
        let or = |v: usize, free: usize| if v == 0 { free } else { v };
        vec![or(n, 1), or(c, 3) + usize::from(self.mask.is_some()), or(h, CANARY), or(w, CANARY)]
    }

    pub fn spec(&self, file: PathBuf) -> ModelSpec {
        ModelSpec {
            name: self.name.clone(),
            file,
            input: self.input.name.clone(),
            mask: self.mask.as_ref().map(|m| m.name.clone()),
            output: self.output.name.clone(),
            canary: self.canary(),
        }
    }

    /// The output's values of black and white.
    pub fn output_range(&self) -> [f32; 2] {
        self.output.range.unwrap_or(self.input.range)
    }

    /// An answer must have the shape that belongs to its input: the row's own, or `scale` times the input's sides where these are free.
    /// Errors: ModelMismatch, with both.
    pub fn check_answer(&self, input: &[usize], answer: &[usize]) -> Result<(), ModelError> {
        let stated = self.output.shape;
        let sides = input.iter().skip(2).map(|side| side * self.scale);
        let wanted: Vec<usize> = input.iter().take(1).copied().chain([stated[1]]).chain(sides).collect();
        if answer == wanted && stated.iter().zip(answer).all(|(want, is)| *want == 0 || want == is) {
            return Ok(());
        }
        let (name, output) = (&self.name, &self.output.name);
        let detail =
            format!("{name}: {output} of {input:?} came out as {answer:?}, {wanted:?} is wanted; the manifest says {stated:?} (0: free)");
        Err(ModelError { code: Code::ModelMismatch, detail })
    }
}

/// The manifests of a folder, in the order of their names.
fn documents(place: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    let unreadable = |source| ManifestError::Unreadable { path: place.to_owned(), source };
    let entries = match std::fs::read_dir(place) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(e)),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|e| e.path())).collect();
    let mut found = paths.map_err(unreadable)?;
    found.retain(|p| p.extension().is_some_and(|e| e == EXTENSION));
    found.sort();
    Ok(found)
}

/// The rows of `text`, which came from `path`, each of them checked.
pub fn parse(path: &Path, text: &str) -> Result<Vec<ModelRow>, ManifestError> {
    let malformed = |reason: String| ManifestError::Malformed { path: path.to_owned(), reason };
    let rows = toml::from_str::<Document>(text).map_err(|e| malformed(e.to_string().trim_end().to_owned()))?.model;
    check::rows(&rows).map_err(malformed)?;
    Ok(rows)
}

/// SHA-256 of a file, read in pieces.
pub fn hash(path: &Path) -> io::Result<Sha256> {
    hash_all(&mut File::open(path)?)
}

/// SHA-256 of what is left of an open file.
pub fn hash_all(file: &mut File) -> io::Result<Sha256> {
    let (mut hasher, mut piece) = (Hasher::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Sha256(hasher.finalize().into())),
            n => hasher.update(&piece[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo_weights() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights")
    }

    #[test]
    fn every_shipped_file_is_the_one_that_the_manifest_names() {
        let dir = tempfile::tempdir().expect("temp folder");
        let manifest = Manifest::load(dir.path(), &repo_weights()).expect("manifest");
        let shipped: Vec<_> = manifest.models().iter().filter(|m| m.ships).collect();
        assert!(shipped.len() >= 2);
        for row in shipped {
            manifest.verified(row).unwrap_or_else(|e| panic!("{}: {e}", row.name));
        }
    }

    #[test]
    fn a_changed_file_is_refused_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().expect("temp folder");
        let weights = dir.path().join("package");
        std::fs::create_dir(&weights).expect("folder");
        let manifest = Manifest::load(dir.path(), &weights).expect("manifest");
        let row = manifest.get("iris").expect("row");
        assert_eq!(manifest.verified(row).expect_err("nothing there").code, Code::WeightsMissing);
        let mut bytes = std::fs::read(repo_weights().join("iris.onnx")).expect("weights");
        bytes[1000] ^= 1;
        std::fs::write(weights.join("iris.onnx"), bytes).expect("write");
        let error = manifest.verified(row).expect_err("one bit differs");
        assert_eq!(error.code, Code::WeightsTampered);
        assert!(error.detail.contains(&row.sha256.to_string()), "{error}");
    }
}

//! TensorRT's engines on disk: which one belongs to what, which are whole, which must go.
//!
//! ```text
//!   <state>/engines/<network>-<hash of the key>/    key.txt, reference.f32, and what TensorRT keeps: *.engine, *.profile, *.timing
//!
//!     (nothing) --begin--> half built --keep--> whole --load fails--> set aside as <folder>.damaged --> built again
//!                              \--process dies--> removed by the next begin
//! ```
//!
//! The key holds everything that an engine depends on: the network's sha256, the library, TensorRT, the GPU, the precision, the shape. A
//! change of any of them is another folder. `key.txt` is written last: a folder without it was not finished.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::manifest::ModelRow;

const KEY: &str = "key.txt";
const DAMAGED: &str = ".damaged";
/// For all engines together, bytes: a network's takes some tens of megabytes, and each update of JetPack leaves a set behind.
const CAP: u64 = 2 << 30;

/// What an engine is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// One line a fact.
    text: String,
    /// Of its folder.
    name: String,
}

impl Key {
    /// `identity`: library, TensorRT and GPU ([`crate::ports::ModelRuntime::identity`]). `shape`: of every run.
    pub fn new(row: &ModelRow, identity: &str, precision: &str, shape: &[usize]) -> Self {
        let text = format!("sha256 {}\n{identity}\nprecision {precision}\nshape {shape:?}\n", row.sha256);
        let plain: String = row.name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let name = format!("{plain}-{}", &hex::encode(Sha256::digest(&text))[..16]);
        Self { text, name }
    }
}

/// A folder among the engines, as a decision needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    name: String,
    bytes: u64,
    /// When it was last loaded, s.
    used: i64,
    whole: bool,
}

/// What must go so that all together stay under the cap: what is not whole first, then what was not used for longest. `stays` stays.
fn surplus(mut all: Vec<Kept>, stays: &str, cap: u64) -> Vec<String> {
    let mut sum: u64 = all.iter().map(|k| k.bytes).sum();
    all.sort_by_key(|k| (k.whole, k.used));
    let mut gone = Vec::new();
    for kept in all.into_iter().filter(|k| k.name != stays) {
        if sum <= cap {
            break;
        }
        sum -= kept.bytes;
        gone.push(kept.name);
    }
    gone
}

/// The folder of all engines. It is made when the first one is built.
#[derive(Debug, Clone)]
pub struct Engines(pub PathBuf);

impl Engines {
    pub fn place(&self, key: &Key) -> PathBuf {
        self.0.join(&key.name)
    }

    pub fn is_kept(&self, key: &Key) -> bool {
        fs::read_to_string(self.place(key).join(KEY)).is_ok_and(|text| text == key.text)
    }

    /// For as long as the file is held, nobody else builds engines here, in another process neither. Waits.
    pub fn alone(&self) -> io::Result<File> {
        fs::create_dir_all(&self.0)?;
        let file = File::create(self.0.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// An empty folder for an engine that is to be built; what a killed process left of it is removed.
    pub fn begin(&self, key: &Key) -> io::Result<PathBuf> {
        let place = self.place(key);
        remove(&place)?;
        fs::create_dir_all(&place)?;
        Ok(place)
    }

    /// It is whole, or was used again. Then makes room, if it must.
    pub fn keep(&self, key: &Key) -> io::Result<()> {
        fs::write(self.place(key).join(KEY), &key.text)?;
        for name in surplus(self.all()?, &key.name, CAP) {
            tracing::info!(engine = name, "an old engine makes room");
            remove(&self.0.join(name))?;
        }
        Ok(())
    }

    /// It could not be loaded: out of the way, kept for whoever wants to know why, the first to go.
    pub fn set_aside(&self, key: &Key) -> io::Result<()> {
        let mut aside = self.place(key).into_os_string();
        aside.push(DAMAGED);
        remove(Path::new(&aside))?;
        fs::rename(self.place(key), aside)
    }

    fn all(&self) -> io::Result<Vec<Kept>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let stamp = fs::metadata(entry.path().join(KEY));
            let mut bytes = 0;
            for file in fs::read_dir(entry.path()).into_iter().flatten() {
                bytes += file?.metadata()?.len();
            }
            let used = stamp.as_ref().map_or(0, MetadataExt::mtime);
            all.push(Kept { whole: stamp.is_ok() && !name.ends_with(DAMAGED), name, bytes, used });
        }
        Ok(all)
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::manifest::Manifest;

    fn row() -> ModelRow {
        let manifest = Manifest::load("/nonexistent".as_ref(), "/nonexistent".as_ref()).expect("the built-in one");
        manifest.models()[0].clone()
    }

    #[test]
    fn another_network_library_gpu_precision_or_shape_is_another_engine() {
        let (row, jetson) = (row(), "onnxruntime 1.23.0, tensorrt 10.3.0, gpu Orin");
        let mut other = row.clone();
        other.sha256.0[0] ^= 1;
        let shape = [1, 3, 128, 128];
        let all = [
            Key::new(&row, jetson, "fp32", &shape),
            Key::new(&other, jetson, "fp32", &shape),
            Key::new(&row, "onnxruntime 1.23.0, tensorrt 10.7.0, gpu Orin", "fp32", &shape),
            Key::new(&row, jetson, "fp16", &shape),
            Key::new(&row, jetson, "fp32", &[1, 3, 256, 256]),
        ];
        let names: std::collections::BTreeSet<_> = all.iter().map(|k| k.name.clone()).collect();
        assert_eq!(names.len(), all.len());
        assert_eq!(all[0], Key::new(&row, jetson, "fp32", &shape));
    }

    #[test]
    fn damaged_engines_go_first_then_those_unused_for_longest_and_never_one_in_use() {
        let kept = |name: &str, used, whole| Kept { name: name.into(), bytes: 10, used, whole };
        let all = vec![kept("new", 9, true), kept("used", 1, true), kept("old", 2, true), kept("broken", 8, false)];
        assert!(surplus(all.clone(), "used", 40).is_empty());
        assert_eq!(surplus(all.clone(), "used", 35), ["broken"]);
        assert_eq!(surplus(all.clone(), "used", 25), ["broken", "old"]);
        assert_eq!(surplus(all, "used", 0), ["broken", "old", "new"]);
    }

    #[test]
    fn an_engine_counts_from_its_key_on_and_is_set_aside_and_built_again() {
        let dir = tempfile::tempdir().expect("folder");
        let engines = Engines(dir.path().join("engines"));
        let key = Key::new(&row(), "a gpu", "fp16", &[1]);
        assert!(!engines.is_kept(&key));
        let place = engines.begin(&key).expect("begun");
        fs::write(place.join("a.engine"), "half").expect("written");
        assert!(!engines.is_kept(&key), "it is not finished");
        let place = engines.begin(&key).expect("begun again");
        assert_eq!(fs::read_dir(&place).expect("folder").count(), 0, "what a killed process left is gone");
        engines.keep(&key).expect("kept");
        assert!(engines.is_kept(&key));
        engines.set_aside(&key).expect("aside");
        assert!(!engines.is_kept(&key) && !place.exists());
        engines.begin(&key).expect("begun");
        engines.keep(&key).expect("kept");
        let all = engines.all().expect("listed");
        assert_eq!(all.iter().filter(|k| k.whole).count(), 1, "{all:?}");
        assert_eq!(all.len(), 2, "the damaged one waits for whoever wants to know why");
    }
}

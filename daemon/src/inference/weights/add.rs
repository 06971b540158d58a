//! How a network comes onto the device: its file alone, if the manifest knows its sha256; or file and row together.
//!
//! ```text
//!   FILE (+ ROW.toml) --hash, copy, fsync--> <state>/weights.new/weights/ --tried out (with a row)--> rename --> <state>/weights/
//! ```
//!
//! Constraints: what lies in `<state>/weights` is whole, after a power cut too: a file comes there by a rename, and its row after it, by
//! another one. A file whose row did not come is none of the manifest's and is never loaded. What is to be tried lies in a state folder
//! of its own, so that it is loaded as the daemon would load it, and nothing of it stays where it is refused.

use std::{
    fs::{self, File},
    io::{self, Seek, Write},
    path::{Path, PathBuf},
};

use crate::{
    domain::ids::Sha256,
    inference::manifest::{self, Manifest, ManifestError, ModelRow, hash, hash_all},
};

/// Why a file was not added. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    #[error("{path} cannot be read: {source}; nothing was changed")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{path} (sha256 {sha256}) is none of the networks of the manifest, nothing was changed; `irisd weights list` names them, \
         and `--row ROW.toml` brings a new one (docs/models.md)"
    )]
    Unknown { path: PathBuf, sha256: Sha256 },
    #[error("{0}; nothing was changed")]
    Row(#[from] ManifestError),
    #[error("{path} has {count} rows, one [[model]] is wanted; nothing was changed")]
    Rows { path: PathBuf, count: usize },
    #[error("{path} has sha256 {sha256}, the row of {name} says {stated}: one of the two is not what was sent; nothing was changed")]
    OtherBytes { path: PathBuf, sha256: Sha256, name: String, stated: Sha256 },
    #[error("{file} is already the file of the network {name}; write another `file` into the row; nothing was changed")]
    FileTaken { file: String, name: String },
    #[error("{path} cannot be written: {source}; what was there before is still there")]
    Unwritable { path: PathBuf, source: io::Error },
}

/// A network that lies ready beside its place. Dropped: it is gone again.
pub struct Staged {
    pub row: ModelRow,
    /// A state folder of its own: `weights/` in it holds the file and, if it is new, the row.
    pub state: PathBuf,
    /// `<state>/weights`.
    place: PathBuf,
    /// What goes there, in this order.
    files: Vec<String>,
}

/// Makes `file`, whose name is `path`, ready, if it is one of the manifest's networks.
pub fn known(manifest: &Manifest, path: &Path, file: &mut File) -> Result<Staged, AddError> {
    let sha256 = digest(path, file)?;
    let row = manifest.models().iter().find(|m| m.sha256 == sha256);
    let row = row.ok_or_else(|| AddError::Unknown { path: path.to_owned(), sha256 })?;
    stage(manifest, row, None, path, file)
}

/// Makes `file` ready together with its row: `text`, which came from `from`. A network of that name, if there is one, is replaced.
pub fn with_row(manifest: &Manifest, (from, text): (&Path, &str), path: &Path, file: &mut File) -> Result<Staged, AddError> {
    let rows = manifest::parse(from, text)?;
    let [row] = &rows[..] else { return Err(AddError::Rows { path: from.to_owned(), count: rows.len() }) };
    let sha256 = digest(path, file)?;
    if sha256 != row.sha256 {
        return Err(AddError::OtherBytes { path: path.to_owned(), sha256, name: row.name.clone(), stated: row.sha256 });
    }
    // Other bytes under a name that a row already vouches for would look like a tampered file until the new row is there.
    if let Some(other) = manifest.models().iter().find(|m| m.file == row.file && m.sha256 != row.sha256) {
        return Err(AddError::FileTaken { file: row.file.clone(), name: other.name.clone() });
    }
    stage(manifest, row, Some(text), path, file)
}

fn digest(path: &Path, file: &mut File) -> Result<Sha256, AddError> {
    let sha256 = hash_all(file).and_then(|sha256| file.rewind().map(|()| sha256));
    sha256.map_err(|source| AddError::Unreadable { path: path.to_owned(), source })
}

fn stage(manifest: &Manifest, row: &ModelRow, text: Option<&str>, path: &Path, file: &mut File) -> Result<Staged, AddError> {
    let place = manifest.own_place().to_owned();
    let state = place.with_extension("new");
    let mut staged = Staged { row: row.clone(), state, place, files: vec![row.file.clone()] };
    let mut fill = |staged: &mut Staged| -> io::Result<()> {
        let folder = staged.folder();
        let _ = fs::remove_dir_all(&staged.state); // what a power cut left of an earlier one
        fs::create_dir_all(&folder)?;
        let copy = folder.join(&row.file);
        let mut out = File::create(&copy)?;
        io::copy(file, &mut out)?;
        out.sync_all()?;
        // The copy is hashed, not trusted: the source may have changed, the disk may have lied.
        if hash(&copy)? != row.sha256 {
            return Err(io::Error::other(format!("the copy of {} has other bytes", path.display())));
        }
        if let Some(text) = text {
            let name = format!("{}.toml", row.name);
            let mut out = File::create(folder.join(&name))?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            staged.files.push(name);
        }
        Ok(())
    };
    match fill(&mut staged) {
        Ok(()) => Ok(staged),
        Err(source) => Err(AddError::Unwritable { path: staged.folder(), source }),
    }
}

impl Staged {
    fn folder(&self) -> PathBuf {
        self.state.join("weights")
    }

    /// Moves it to its place, which is given back. A running daemon takes it at its next start.
    pub fn install(self) -> Result<PathBuf, AddError> {
        let install = || -> io::Result<()> {
            fs::create_dir_all(&self.place)?;
            for file in &self.files {
                fs::rename(self.folder().join(file), self.place.join(file))?;
                // One after the other: a row on the platter before its file would name what is not there.
                File::open(&self.place)?.sync_all()?;
            }
            File::open(self.place.parent().unwrap_or(&self.place))?.sync_all()
        };
        let to = self.place.join(&self.row.file);
        install().map_err(|source| AddError::Unwritable { path: to.clone(), source }).map(|()| to)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.state); // best effort: the next one sweeps it
    }
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;
    use crate::inference::weights::{State, verify};

    fn iris() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../weights/iris.onnx")
    }

    fn manifest(dir: &Path) -> Manifest {
        Manifest::load(dir, &dir.join("none")).expect("manifest")
    }

    fn write(path: PathBuf, bytes: &[u8]) -> (PathBuf, File) {
        fs::write(&path, bytes).expect("write");
        let file = File::open(&path).expect("open");
        (path, file)
    }

    /// A row for a network of these bytes.
    fn row(name: &str, bytes: &[u8]) -> String {
        let sha256 = Sha256(sha2::Sha256::digest(bytes).into());
        format!(
            "[[model]]\nname = \"{name}\"\nrole = \"enhancement\"\nfile = \"{name}.onnx\"\nsha256 = \"{sha256}\"\nscale = 4\n\
             input = {{ name = \"in\", shape = [0, 3, 0, 0], range = [0.0, 1.0], order = \"rgb\", padding = 0 }}\n\
             output = {{ name = \"out\", shape = [0, 3, 0, 0] }}\nmemory_mb = 10\nships = false\nlicence = \"MIT\"\nsource = \"a test\"\n"
        )
    }

    #[test]
    fn a_file_is_added_by_its_content_and_anything_else_is_refused() {
        let dir = tempfile::tempdir().expect("temp folder");
        let manifest = manifest(dir.path());
        let (path, mut file) = write(dir.path().join("iris.onnx"), b"not a network");
        assert!(matches!(known(&manifest, &path, &mut file), Err(AddError::Unknown { .. })));
        assert!(!manifest.own_place().exists(), "nothing was changed");

        let (path, mut file) = write(dir.path().join("download (1).bin"), &fs::read(iris()).expect("weights"));
        let staged = known(&manifest, &path, &mut file).expect("known");
        assert_eq!(staged.row.name, "iris");
        assert_eq!(staged.install().expect("installed"), dir.path().join("weights/iris.onnx"));
        let rows = verify(&manifest);
        assert_eq!(rows.iter().find(|r| r.name == "iris").map(|r| r.state), Some(State::Present));
        assert!(rows.iter().any(|r| r.state == State::Missing && r.detail.is_some()));
        assert!(!dir.path().join("weights.new").exists());
    }

    #[test]
    fn a_network_that_is_not_installed_leaves_nothing_and_a_row_is_seen_only_together_with_its_file() {
        let dir = tempfile::tempdir().expect("temp folder");
        let text = row("brought", b"a network");
        let (path, mut file) = write(dir.path().join("n.bin"), b"a network");
        let from = Path::new("row.toml");
        let staged = with_row(&manifest(dir.path()), (from, &text), &path, &mut file).expect("staged");
        // Loaded as the daemon would load it, from the state folder of its own.
        let trial = Manifest::load(&staged.state, &staged.state).expect("manifest");
        trial.verified(trial.get("brought").expect("row")).expect("file");
        drop(staged);
        assert!(!dir.path().join("weights.new").exists() && !dir.path().join("weights").exists());

        file.rewind().expect("rewind");
        with_row(&manifest(dir.path()), (from, &text), &path, &mut file).expect("staged").install().expect("installed");
        let manifest = manifest(dir.path());
        manifest.verified(manifest.get("brought").expect("row")).expect("file");
    }

    #[test]
    fn what_a_power_cut_left_half_written_is_swept_by_the_next_one_and_never_loaded() {
        let dir = tempfile::tempdir().expect("temp folder");
        let half = dir.path().join("weights.new/weights");
        fs::create_dir_all(&half).expect("folder");
        fs::write(half.join("iris.onnx"), b"half").expect("write");
        // The file came, its row did not.
        fs::create_dir_all(dir.path().join("weights")).expect("folder");
        fs::write(dir.path().join("weights/brought.onnx"), b"a network").expect("write");
        let known_before = manifest(dir.path());
        assert!(known_before.get("brought").is_none() && known_before.locate(known_before.get("iris").expect("row")).is_none());

        let (path, mut file) = write(dir.path().join("n.bin"), b"a network");
        let text = row("brought", b"a network");
        with_row(&known_before, ("row.toml".as_ref(), &text), &path, &mut file).expect("staged").install().expect("installed");
        let manifest = manifest(dir.path());
        manifest.verified(manifest.get("brought").expect("row")).expect("file");
        assert!(!dir.path().join("weights.new").exists());
    }

    #[test]
    fn a_row_that_does_not_belong_to_the_file_is_refused_with_both_hashes_and_a_file_name_that_is_taken_with_its_owner() {
        let dir = tempfile::tempdir().expect("temp folder");
        let manifest = manifest(dir.path());
        let (path, mut file) = write(dir.path().join("n.bin"), b"another network");
        let (from, text) = (Path::new("row.toml"), row("brought", b"a network"));
        let error = with_row(&manifest, (from, &text), &path, &mut file).err().expect("other bytes").to_string();
        let found = hash(&path).expect("hash").to_string();
        assert!(error.contains(&found) && error.contains("the row of brought says") && error.contains("nothing was changed"), "{error}");

        let taken = row("brought", b"another network").replace("brought.onnx", "iris.onnx");
        file.rewind().expect("rewind");
        let error = with_row(&manifest, (from, &taken), &path, &mut file).err().expect("taken").to_string();
        assert!(error.contains("iris.onnx is already the file of the network iris"), "{error}");

        let two = text.clone() + &row("second", b"another network");
        let error = with_row(&manifest, (from, &two), &path, &mut file).err().expect("two rows").to_string();
        assert!(error.contains("row.toml has 2 rows"), "{error}");
        assert!(!dir.path().join("weights").exists(), "nothing was changed");
    }
}

//! Every write of a job fails in turn: `fault.c`, loaded into the daemon, counts the calls that change files below the state folder and
//! fails the one that is wanted, with ENOSPC or EIO, once or until it is told to stop.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use super::scene::{Row, Scene};

const ENOSPC: u32 = 28;
const EIO: u32 = 5;
const EROFS: u32 = 30;
/// Bytes of the control file.
const CONTROL: usize = 256;
const WHAT_AT: usize = 20;
/// How long a disk stays full.
const FULL_FOR: Duration = Duration::from_millis(700);

/// The file that the daemon's `fault.c` has mapped.
struct Control(File);

impl Control {
    fn new(path: &Path) -> Self {
        let file = File::options().create(true).truncate(true).read(true).write(true).open(path).unwrap();
        file.write_all_at(&[0; CONTROL], 0).unwrap();
        Self(file)
    }

    fn word(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.0.read_exact_at(&mut bytes, at * 4).unwrap();
        u32::from_ne_bytes(bytes)
    }

    fn set(&self, at: u64, word: u32) {
        self.0.write_all_at(&word.to_ne_bytes(), at * 4).unwrap();
    }

    /// From now on calls are counted, and the call `at` fails (and all behind it, with `mode` 2).
    fn arm(&self, mode: u32, at: u32, error: u32) {
        self.set(0, 0);
        for (i, word) in [(1, at), (2, error), (3, 0), (4, 0)] {
            self.set(i, word);
        }
        self.set(0, mode);
    }

    fn disarm(&self) {
        self.set(0, 0);
    }

    fn count(&self) -> u32 {
        self.word(3)
    }

    fn failed(&self) -> u32 {
        self.word(4)
    }

    /// The kind of file that the last failed call was about, without ids: `write journal`, `fsync blobs`.
    fn what(&self) -> String {
        let mut text = vec![0; CONTROL - WHAT_AT];
        self.0.read_exact_at(&mut text, WHAT_AT as u64).unwrap();
        let text = String::from_utf8_lossy(&text);
        let (call, path) = text.trim_end_matches('\0').split_once(' ').unwrap_or(("nothing", ""));
        let room = path.trim_start_matches('/').split('/').next().unwrap_or("").to_owned();
        format!("{call} {room}")
    }
}

/// Compiles `fault.c`.
fn library(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture/fault.c");
    let library = dir.join("fault.so");
    let status = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    assert!(status.expect("a C compiler is installed (apt-get install clang)").success());
    library
}

/// `every`: 1 tries each write of a job, n each n-th.
pub fn run(work: &Path, every: usize) -> Vec<Row> {
    fs::create_dir_all(work).unwrap();
    let work = &fs::canonicalize(work).unwrap();
    let library = library(work);
    let control = Control::new(&work.join("control"));
    let mut scene = Scene::new(&work.join("daemon"), None);
    let preload = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAULT_BELOW", scene.daemon.state.display().to_string()),
        ("FAULT_CONTROL", work.join("control").display().to_string()),
    ];
    scene.daemon.environment = preload.map(|(name, value)| (name.to_owned(), value)).to_vec();
    scene.daemon.restart();
    scene.furnish();
    control.arm(0, 0, 0);
    scene.works_again().expect("a job without a fault");
    let writes = control.count();
    assert!(writes > 20, "fault.c sees {writes} writes of a whole job: is it loaded?");
    let rows = [
        ("ENOSPC", ENOSPC, 1, "once"),
        ("EIO", EIO, 1, "once"),
        ("ENOSPC", ENOSPC, 2, "from it on, for 0.7 s"),
        ("EIO", EIO, 2, "from it on, for 0.7 s"),
        ("EROFS (read-only)", EROFS, 2, "from it on, for 0.7 s"),
    ];
    rows.map(|(name, error, mode, how)| {
        let mut seen = BTreeMap::<String, usize>::new();
        let mut faults = Vec::new();
        let mut tried = 0;
        for at in (1..=writes).step_by(every) {
            tried += 1;
            let begin = std::time::Instant::now();
            match one(&mut scene, &control, (mode, at, error)) {
                Ok(what) => what.into_iter().for_each(|w| *seen.entry(w).or_default() += 1),
                Err(why) => faults.push(format!("{name} {how}, write {at} ({}): {why}", control.what())),
            }
            println!("{name} {how}, write {at} of {writes} ({}): {:.1} s", control.what(), begin.elapsed().as_secs_f64());
        }
        control.disarm();
        faults.extend(scene.kept());
        let seen = seen.iter().map(|(what, n)| format!("{what} ({n})")).collect::<Vec<_>>().join(", ");
        Row { what: format!("{name} {how}, at {tried} of the {writes} writes of a job in turn"), how: "fault.c".into(), seen, faults }
    })
    .into()
}

/// A photo and its job with the fault on its way; then, without it, everything works again. What became of it.
fn one(scene: &mut Scene, control: &Control, (mode, at, error): (u32, u32, u32)) -> Result<Vec<String>, String> {
    control.arm(mode, at, error);
    let lifted = (mode == 2).then(|| {
        let control = Control(control.0.try_clone().unwrap());
        thread::spawn(move || {
            thread::sleep(FULL_FOR);
            control.disarm();
        })
    });
    let mut job = None;
    let outcome = scene.upload().and_then(|photo| scene.submit(&photo)).and_then(|id| {
        job = Some(id.clone());
        scene.end_of(&id)
    });
    if let Some(lifted) = lifted {
        lifted.join().unwrap();
    }
    control.disarm();
    let hit = control.failed() > 0;
    let mut seen = vec![match &outcome {
        _ if !hit => "no such write this time".into(),
        Ok(job) if job["status"] == "completed" => "the job completed".into(),
        Ok(job) => format!("the job failed with {}", job["error_code"].as_str().unwrap_or("no code")),
        Err(why) if job.is_none() => format!("refused: {why}"),
        Err(why) => format!("accepted, then {why}"),
    }];
    seen.extend(scene.works_again()?);
    if let Some(job) = job {
        let end = scene.end_of(&job)?;
        let fine = end["status"] == "completed" || ["disk_full", "storage_busy"].iter().any(|code| end["error_code"] == *code);
        if !fine {
            return Err(format!("an accepted job ended as {end}"));
        }
    }
    Ok(seen)
}

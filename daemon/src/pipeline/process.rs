//! `irisd process`: the pipeline alone, over files, without daemon, store or bucket.

use std::{
    borrow::Cow,
    collections::HashSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{Another, Ended, Input, Others, Pipeline, Stop, Watch};
use crate::{
    domain::{
        fault::{Code, Fault, FaultClass},
        job::Misfit,
        photo::Source,
        report::Report,
        stage::{Stage, StepMs},
    },
    inference::manifest::hash,
};

/// The pipeline's files of a result, and how their names end in `--out`. The image last: whoever waits for the picture finds the others.
const RESULT: [(&str, &str); 4] =
    [("mask.png", ".mask.png"), ("synthetic.png", ".synthetic.png"), ("report.json", ".report.json"), ("image.jpg", ".jpg")];
/// The same of a refused photo.
const REFUSAL: [(&str, &str); 1] = [("annotated.jpg", ".annotated.jpg")];
/// Of the longest ending, bytes.
const ENDING: usize = 14;
/// What a disk takes as a file's name, bytes.
const FILE_NAME: usize = 255;
/// The work folder's name, before the process' number.
const WORK: &str = ".irisd-process-";

/// One line of `process --json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// A name that is no UTF-8 is told as nearly as JSON can.
    photo: Cow<'a, str>,
    status: &'static str,
    error_type: Option<FaultClass>,
    error_code: Option<Code>,
    message: Option<String>,
    suggestion: Option<String>,
    files: Option<Files>,
}

/// What lies in `--out` afterwards.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum Files {
    /// NAME.jpg, NAME.mask.png, NAME.synthetic.png (255: made up), NAME.report.json.
    Made { image: String, mask: String, synthetic: String, report: String },
    /// NAME.annotated.jpg: the photo, small, and what is wrong with it.
    Refused { annotated: String },
}

/// Why there is no result; the picture of a refused photo.
struct Unmade {
    fault: Fault,
    annotated: Option<PathBuf>,
}

impl From<Fault> for Unmade {
    fn from(fault: Fault) -> Self {
        Self { fault, annotated: None }
    }
}

/// The image, all files, and the report.
struct Made {
    image: PathBuf,
    files: Files,
    report: Report,
}

/// Nobody stops a command but by ending it.
struct Alone;

impl Watch for Alone {
    fn enter(&self, _: Stage, _: StepMs) -> Result<(), Stop> {
        Ok(())
    }
    fn checkpoint(&self, _: Stage, _: f32) -> Result<(), Stop> {
        Ok(())
    }
}

/// Runs each photo; a line each on `stdout` (JSON, or for people). `out` is made. Gives whether all of them completed.
/// Errors: `out` cannot be made or written to (its path is named), or `stdout` is gone; a photo's own trouble is in its line.
pub fn process_files(photos: &[PathBuf], out: &Path, json: bool, pipeline: &Pipeline, stdout: &mut dyn Write) -> io::Result<bool> {
    let alone: Vec<&[PathBuf]> = photos.iter().map(std::slice::from_ref).collect();
    process_each(&alone, out, json, pipeline, stdout)
}

/// [`process_files`] for photos of one eye: the first is worked on, and what its lamps hide is taken from the others where they show it.
/// One line, of the first photo.
pub fn merge_files(photos: &[PathBuf], out: &Path, json: bool, pipeline: &Pipeline, stdout: &mut dyn Write) -> io::Result<bool> {
    process_each(&[photos], out, json, pipeline, stdout)
}

/// Each group: the photo, and others of the same eye.
fn process_each(groups: &[&[PathBuf]], out: &Path, json: bool, pipeline: &Pipeline, stdout: &mut dyn Write) -> io::Result<bool> {
    let place = made(out).map_err(|e| io::Error::new(e.kind(), format!("results cannot be written to {}: {e}", out.display())))?;
    let originals: HashSet<PathBuf> = groups.iter().flat_map(|g| g.iter()).filter_map(|p| p.canonicalize().ok()).collect();
    // An original is never touched, also where `out` is the folder it lies in.
    let is_original =
        |name: &str| RESULT.iter().chain(&REFUSAL).any(|(_, ending)| originals.contains(&place.join(format!("{name}{ending}"))));
    let mut taken = HashSet::new();
    let mut all = true;
    for group in groups {
        let Some((photo, others)) = group.split_first() else { continue };
        let name = free_name(photo, &mut taken, is_original);
        let result = one(photo, others, out, &name, pipeline);
        all &= result.is_ok();
        say(photo, &result, json, stdout)?;
    }
    Ok(all)
}

fn say(photo: &Path, result: &Result<Made, Unmade>, json: bool, stdout: &mut dyn Write) -> io::Result<()> {
    if json {
        serde_json::to_writer(&mut *stdout, &line(photo, result))?;
        writeln!(stdout)?;
        return stdout.flush();
    }
    match result {
        Ok(Made { image, report, .. }) => {
            let iris = &report.iris;
            let facts = format!("iris {:.1} %, confidence {:.2}, {}", 100.0 * iris.coverage, iris.confidence, iris.method);
            writeln!(stdout, "{}: {} ({facts}; {} ms)", photo.display(), image.display(), report.processing_time_ms)?;
            for (n, other) in report.merge.iter().flat_map(|m| &m.photos).enumerate().skip(1) {
                writeln!(stdout, "  photo {}: {} px under the lamps of the first", n + 1, other.px)?;
            }
            report.warnings.iter().try_for_each(|w| writeln!(stdout, "  note: {w}"))?;
        }
        Err(Unmade { fault, annotated }) => {
            writeln!(stdout, "{}: {} {}", photo.display(), fault.message, fault.suggestion)?;
            annotated.iter().try_for_each(|picture| writeln!(stdout, "  shown in {}", picture.display()))?;
        }
    }
    stdout.flush()
}

/// Makes the folder and tries to write there, before any photo is worked on; its real path.
fn made(out: &Path) -> io::Result<PathBuf> {
    let trial = work_folder(out);
    fs::create_dir_all(&trial)?;
    fs::remove_dir_all(&trial)?;
    sweep(out);
    out.canonicalize()
}

/// Removes what a run left that was ended in the middle, where it can.
fn sweep(out: &Path) {
    for entry in fs::read_dir(out).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_prefix(WORK)).and_then(|n| n.trim_end_matches(".tmp").parse::<u32>().ok());
        if pid.is_some_and(|pid| Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{pid}")).exists()) {
            let _stays = fs::remove_dir_all(entry.path());
        }
    }
}

/// Where one photo's files are made before they get their names.
fn work_folder(out: &Path) -> PathBuf {
    out.join(format!("{WORK}{}", std::process::id()))
}

fn line<'a>(photo: &'a Path, result: &Result<Made, Unmade>) -> Line<'a> {
    let fault = result.as_ref().err().map(|u| &u.fault);
    let files = match result {
        Ok(made) => Some(made.files.clone()),
        Err(unmade) => unmade.annotated.as_deref().map(|annotated| Files::Refused { annotated: told(annotated) }),
    };
    Line {
        photo: photo.to_string_lossy(),
        status: if fault.is_none() { "completed" } else { "failed" },
        error_type: fault.map(|f| f.class),
        error_code: fault.map(|f| f.code),
        message: fault.map(|f| f.message.clone()),
        suggestion: fault.map(|f| f.suggestion.clone()),
        files,
    }
}

fn told(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The photo's stem, cut where the disk takes no longer one, or with `-2`, `-3` where an earlier photo has it or an original stands.
/// Compared without case: some disks know none.
fn free_name(photo: &Path, taken: &mut HashSet<String>, is_original: impl Fn(&str) -> bool) -> String {
    let stem = photo.file_stem().map_or_else(|| "photo".into(), |s| s.to_string_lossy().into_owned());
    let numbers = std::iter::once(String::new()).chain((2..).map(|n| format!("-{n}")));
    let mut names = numbers.map(|n| format!("{}{n}", &stem[..stem.floor_char_boundary(FILE_NAME - ENDING - n.len())]));
    names.find(|n| !is_original(n) && taken.insert(n.to_lowercase())).expect("the numbers do not end")
}

/// A pipe or a device may never end.
pub fn stored(photo: &Path) -> io::Result<()> {
    let kind = fs::metadata(photo)?.file_type();
    if kind.is_file() || kind.is_dir() { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "a pipe or a device")) }
}

/// A path that leads to no photo: whoever typed it can mend it, the device is well.
pub fn unreadable(photo: &Path, e: &io::Error) -> Fault {
    let mut fault = Fault::new(Code::OriginalMissing, format!("{}: {e}", photo.display()));
    let (message, suggestion) = match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ("There is no such file.", "Check the path."),
        io::ErrorKind::IsADirectory => ("This is a folder, not a photo.", "Name the photos in it."),
        io::ErrorKind::PermissionDenied => ("This user may not read the file.", "Check the file's permissions."),
        io::ErrorKind::InvalidInput => ("This is a pipe or a device, not a photo.", "Save the photo to a file first."),
        _ => ("The file cannot be read.", "Check the disk or card that it lies on."),
    };
    (fault.message, fault.suggestion) = (message.to_owned(), suggestion.to_owned());
    fault
}

/// What `irisd process` says of a fault: nothing is tried again by itself here, there is no button and no job, and the detail is for
/// whoever typed the command.
fn for_a_command(fault: Fault) -> Fault {
    let (what, suggestion) = match fault.code {
        Code::DiskFull => ("There is no room left for the results", "Make room on that disk, then run the command again."),
        Code::StorageBusy => ("A file could not be read or written", "Check the disk that it lies on, then run the command again."),
        Code::DeviceBusy => ("The device was busy", "End what else needs it, then run the command again."),
        Code::ModelFailed => (
            "The network stopped while it worked on this photo",
            "Run the command again; if it stays so, `irisd weights verify` says more.",
        ),
        Code::OriginalMissing => ("The photo's file has gone meanwhile", "Run the command again once it is back."),
        Code::Internal => {
            ("Something went wrong inside the program", "Run the command again; if it stays so, send support what `irisd diag` writes.")
        }
        _ => return fault,
    };
    Fault { message: format!("{what} ({}).", fault.detail), suggestion: suggestion.to_owned(), ..fault }
}

/// Where the files of one photo come to lie, and where they are made.
struct Place<'a> {
    out: &'a Path,
    name: &'a str,
    work: PathBuf,
}

impl Place<'_> {
    fn of(&self, ending: &str) -> PathBuf {
        self.out.join(format!("{}{ending}", self.name))
    }

    /// Gives what was made its names.
    fn bring(&self, files: &[(&str, &str)]) -> io::Result<()> {
        files.iter().try_for_each(|(made, ending)| fs::rename(self.work.join(made), self.of(ending)))?;
        fs::remove_dir_all(&self.work)?;
        File::open(self.out)?.sync_all()
    }

    /// Removes an earlier run's result. A picture without a report beside it is somebody's own.
    fn clear_result(&self) -> io::Result<()> {
        if self.of(".report.json").exists() { self.clear(&RESULT) } else { Ok(()) }
    }

    /// Removes what an earlier run left: it would speak against what this one says. The last first: no picture stays without its report.
    fn clear(&self, files: &[(&str, &str)]) -> io::Result<()> {
        files.iter().rev().try_for_each(|(_, ending)| match fs::remove_file(self.of(ending)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        })
    }
}

fn one(photo: &Path, others: &[PathBuf], out: &Path, name: &str, pipeline: &Pipeline) -> Result<Made, Unmade> {
    let hashed = |photo: &Path| stored(photo).and_then(|()| hash(photo)).map_err(|e| unreadable(photo, &e));
    let sha256 = hashed(photo)?;
    let place = Place { out, name, work: work_folder(out) };
    let input = Input { photo: photo.to_owned(), sha256, source: Source::Upload, out: place.work.clone() };
    let others = others.iter().map(|other| match hashed(other) {
        Ok(sha256) => Ok(Another { photo: other.clone(), sha256 }),
        Err(fault) => Err(Fault { message: format!("{}: {}", other.display(), fault.message), ..fault }),
    });
    let others = others.collect::<Result<Vec<_>, Fault>>()?;
    let others = Others { photos: &others, misfit: Misfit::Fails };
    let run = || pipeline.merge(&input, &others, &Alone);
    let done = run().or_else(|ended| match ended {
        // As the daemon does: what was of that moment alone gets one more try.
        Ended::Fault(fault, _) if fault.class == FaultClass::TransientError => run(),
        ended => Err(ended),
    });
    let unwritten = |e: io::Error| for_a_command(super::save::fault(out, &e));
    match done {
        Ok(done) => {
            place.clear(&REFUSAL).and_then(|()| place.bring(&RESULT)).map_err(unwritten)?;
            let [mask, synthetic, report, image] = RESULT.map(|(_, ending)| place.of(ending));
            let files = Files::Made { image: told(&image), mask: told(&mask), synthetic: told(&synthetic), report: told(&report) };
            Ok(Made { image, files, report: done.report })
        }
        Err(Ended::Refused(refusal, _)) => {
            place.clear_result().and_then(|()| place.bring(&REFUSAL)).map_err(unwritten)?;
            let [annotated] = REFUSAL.map(|(_, ending)| place.of(ending));
            Err(Unmade { fault: refusal.fault, annotated: Some(annotated) })
        }
        Err(Ended::Fault(fault, _)) => {
            // Not for what is wrong with the device, or with another photo: of this one, what there is still holds.
            if fault.class == FaultClass::QualityIssue && others.photos.is_empty() {
                place.clear_result().and_then(|()| place.clear(&REFUSAL)).map_err(unwritten)?;
            }
            Err(Unmade::from(for_a_command(*fault)))
        }
        Err(Ended::Stopped(_)) => Err(Unmade::from(for_a_command(Fault::new(Code::Internal, "the run was stopped")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fault::CATALOGUE;

    #[test]
    fn what_a_run_left_that_was_ended_in_the_middle_goes_and_another_runs_work_stays() {
        let out = tempfile::tempdir().expect("a folder");
        // Linux gives no process this number.
        let (left, running) = (out.path().join(format!("{WORK}4294967294.tmp")), out.path().join(format!("{WORK}1.tmp")));
        for folder in [&left, &running] {
            fs::create_dir(folder).expect("made");
        }
        made(out.path()).expect("made");
        assert!(!left.exists() && running.exists());
    }

    #[test]
    fn photos_of_one_stem_get_numbers_and_never_each_others_names_nor_an_originals() {
        let mut taken = HashSet::new();
        let names: Vec<_> = ["a/eye.jpg", "b/eye.png", "c/eye-2.jpg", "d/EYE.jpg", "e/.jpg"]
            .map(|p| free_name(Path::new(p), &mut taken, |n| n == "EYE-3"))
            .into();
        assert_eq!(names, ["eye", "eye-2", "eye-2-2", "EYE-4", ".jpg"]);
    }

    #[test]
    fn a_name_as_long_as_the_disk_takes_one_leaves_room_for_the_endings_and_the_number() {
        let mut taken = HashSet::new();
        let photo = format!("{}\u{e9}{}.jpg", "a".repeat(238), "b".repeat(11));
        let names = [(); 2].map(|()| free_name(Path::new(&photo), &mut taken, |_| false));
        assert_eq!(names, [format!("{}\u{e9}b", "a".repeat(238)), format!("{}-2", "a".repeat(238))]);
        assert_eq!(RESULT.iter().chain(&REFUSAL).map(|(_, ending)| ending.len()).max(), Some(ENDING));
    }

    #[test]
    fn a_command_promises_no_second_try_no_button_and_no_job() {
        // The last three are no command's: there is no queue that ends a photo, and no camera.
        let never = [Code::JobTimeout, Code::PoisonPhoto, Code::CameraUnavailable];
        for code in CATALOGUE.iter().map(|e| e.code).filter(|code| !never.contains(code)) {
            let said = for_a_command(Fault::new(code, "why"));
            for word in ["by itself", "Reprocess", "job", "photo is kept"] {
                assert!(!format!("{} {}", said.message, said.suggestion).contains(word), "{said:?}");
            }
        }
    }
}

//! A real small filesystem that fills up, and one that turns read-only: ext4 in a file, mounted through a loop device (root alone may).

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    kill::tail,
    scene::{Row, Scene},
};

const SIZE: &str = "40M";

/// Mounted; unmounted when it is dropped.
struct Disk {
    at: PathBuf,
}

impl Disk {
    /// None: this machine lets us have none.
    fn mount(work: &Path) -> Option<Self> {
        fs::create_dir_all(work.join("disk")).unwrap();
        let (image, at) = (work.join("disk.img"), work.join("disk"));
        let run = |program: &str, args: &[&str], path: &Path, more: Option<&Path>| {
            let mut command = Command::new(program);
            command.args(args).arg(path).args(more);
            command.output().is_ok_and(|o| o.status.success())
        };
        let made = run("truncate", &["-s", SIZE], &image, None)
            && run("mkfs.ext4", &["-q", "-F", "-m", "0"], &image, None)
            && run("mount", &["-o", "loop"], &image, Some(&at));
        made.then_some(Self { at })
    }

    fn remount(&self, how: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.at).status().unwrap();
        assert!(status.success(), "remount,{how}");
    }

    /// Not a byte is left.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.at.join("filler")).unwrap();
        for size in [1 << 20, 4096, 1] {
            let block = vec![7; size];
            while file.write_all(&block).and_then(|()| file.sync_all()).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.at.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// None: no root, or no loop devices.
pub fn run(work: &Path) -> Option<Vec<Row>> {
    fs::create_dir_all(work).unwrap();
    let work = &fs::canonicalize(work).unwrap();
    let disk = Disk::mount(work)?;
    let mut scene = Scene::new(&work.join("daemon"), Some(&disk.at.join("state")));
    scene.daemon.restart();
    scene.furnish();
    let mut rows =
        vec![at_work(&mut scene, "full disk while it works", "dd until ENOSPC; room again: rm", &disk, Disk::fill, Disk::make_room)];
    rows.push(at_start(&mut scene, "full disk at the start", &disk, Disk::fill, Disk::make_room));
    rows.push(at_work(
        &mut scene,
        "read-only remount while it works",
        "mount -o remount,ro; later rw",
        &disk,
        |d| d.remount("ro"),
        |d| d.remount("rw"),
    ));
    rows.push(at_start(&mut scene, "read-only at the start", &disk, |d| d.remount("ro"), |d| d.remount("rw")));
    scene.daemon.kill9();
    Some(rows)
}

fn at_work(scene: &mut Scene, what: &str, how: &str, disk: &Disk, spoil: fn(&Disk), mend: fn(&Disk)) -> Row {
    let photo = scene.photos()[0].clone();
    spoil(disk);
    let mut seen = vec![format!("upload: {}", scene.upload().map_or_else(|why| why, |_| "taken".into()))];
    seen.push(format!("submit: {}", scene.submit(&photo).map_or_else(|why| why, |_| "taken".into())));
    let reads = scene.daemon.is_running() && scene.client().get(&format!("/photos/{photo}/image")).status == 200;
    seen.push(if reads { "reads go on".into() } else { "reads do not go on".into() });
    mend(disk);
    let mut faults = Vec::new();
    match scene.works_again() {
        Ok(more) => {
            seen.extend(more);
            seen.push("works again by itself".into());
        }
        Err(why) => faults.push(format!("{what}: {why}")),
    }
    faults.extend(scene.kept());
    Row { what: what.into(), how: how.into(), seen: seen.join("; "), faults }
}

/// It starts, or it says on stderr what is to be done; once that is done it starts.
fn at_start(scene: &mut Scene, what: &str, disk: &Disk, spoil: fn(&Disk), mend: fn(&Disk)) -> Row {
    scene.daemon.kill9();
    spoil(disk);
    let before = scene.daemon.log().len();
    let mut faults = Vec::new();
    let mut seen = match scene.daemon.try_restart() {
        Ok(()) => "starts, and answers what it can".to_owned(),
        Err(_) => {
            let log = scene.daemon.log();
            let last = tail(&log[before..]).lines().last().unwrap_or("").to_owned();
            if !last.starts_with("irisd: ") {
                faults.push(format!("{what}: it ends without a word: {last}"));
            }
            format!("does not start: \"{last}\"")
        }
    };
    mend(disk);
    match scene.works_again() {
        Ok(_) => seen.push_str("; works again once there is room"),
        Err(why) => faults.push(format!("{what}: {why}")),
    }
    faults.extend(scene.kept());
    Row { what: what.into(), how: "as above, with the daemon stopped".into(), seen, faults }
}

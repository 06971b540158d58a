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

    /// What ext4 does to itself when its disk fails: nothing is written any more, whoever has files open.
    fn abort(&self) {
        let status = Command::new("mount").args(["-o", "remount,abort"]).arg(&self.at).status().unwrap();
        assert!(status.success(), "mount -o remount,abort");
    }

    /// Mounted anew, as after a restart of the device. Nobody may have files open.
    fn mount_again(&self, how: &str) {
        let status = Command::new("umount").arg(&self.at).status().unwrap();
        assert!(status.success(), "umount");
        let image = self.at.with_extension("img");
        // 1: errors were corrected.
        let checked = Command::new("fsck.ext4").arg("-p").arg(&image).output().unwrap();
        assert!(checked.status.code().is_some_and(|c| c <= 1), "{checked:?}");
        let status = Command::new("mount").args(["-o", &format!("loop,{how}")]).arg(&image).arg(&self.at).status().unwrap();
        assert!(status.success(), "mount {how}");
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
    let room = |d: &Disk, _: &mut Scene| d.make_room();
    let again = |d: &Disk, s: &mut Scene| {
        s.daemon.kill9();
        d.mount_again("rw");
    };
    let rows = vec![
        at_work(&mut scene, "full disk while it works", "written full; room again by rm", &disk, Disk::fill, room),
        at_start(&mut scene, "full disk at the start", &disk, Disk::fill, room),
        at_work(
            &mut scene,
            "ext4 gives up and is read-only while it works",
            "mount -o remount,abort; then stopped, fsck -p, mounted again",
            &disk,
            Disk::abort,
            again,
        ),
        at_start(&mut scene, "read-only at the start", &disk, |d| d.mount_again("ro"), again),
    ];
    scene.daemon.kill9();
    Some(rows)
}

fn at_work(scene: &mut Scene, what: &str, how: &str, disk: &Disk, spoil: fn(&Disk), mend: fn(&Disk, &mut Scene)) -> Row {
    let photo = scene.photos()[0].clone();
    spoil(disk);
    let mut seen = vec![format!("upload: {}", scene.upload().map_or_else(|why| why, |_| "taken".into()))];
    seen.push(format!("submit: {}", scene.submit(&photo).map_or_else(|why| why, |_| "taken".into())));
    let read = scene.client().try_send(scene.client().request(reqwest::Method::GET, &format!("/photos/{photo}/image")));
    let reads = read.is_ok_and(|answer| answer.status == 200);
    seen.push(if reads { "reads go on".into() } else { "reads do not go on".into() });
    mend(disk, scene);
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
fn at_start(scene: &mut Scene, what: &str, disk: &Disk, spoil: fn(&Disk), mend: fn(&Disk, &mut Scene)) -> Row {
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
    mend(disk, scene);
    match scene.works_again() {
        Ok(_) => seen.push_str("; works again once there is room"),
        Err(why) => faults.push(format!("{what}: {why}")),
    }
    faults.extend(scene.kept());
    Row { what: what.into(), how: "as above, with the daemon stopped".into(), seen, faults }
}

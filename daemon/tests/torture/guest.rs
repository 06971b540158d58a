//! A virtual machine that runs irisd on a disk of its own (daemon/scripts/guest.sh), and can be unplugged.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::common::{broker::free_port, daemon::program};

/// A slow machine with no hardware to help it.
const BOOT: Duration = Duration::from_secs(180);
const DISK: u64 = 512 << 20;

/// What a machine is made of; its disk survives it.
pub struct Hardware {
    work: PathBuf,
    kernel: PathBuf,
}

pub struct Guest {
    qemu: Child,
    pub base: String,
    pub token: String,
    pub boot: Duration,
}

impl Hardware {
    /// None: there is no QEMU here, or no kernel (`guest.sh kernel` brings it).
    pub fn find(work: &Path) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let kernel = root.join(".tools/guest/vmlinuz");
        let has = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        if !kernel.exists() || !has("qemu-system-x86_64") || !has("cpio") {
            return None;
        }
        fs::create_dir_all(work).unwrap();
        let hardware = Self { work: work.to_owned(), kernel };
        let script = root.join("daemon/scripts/guest.sh");
        let status = Command::new(script).arg("initramfs").arg(work.join("initramfs")).arg(program()).status();
        assert!(status.expect("guest.sh runs").success(), "guest.sh initramfs");
        if !hardware.platter().exists() {
            File::create(hardware.platter()).and_then(|f| f.set_len(DISK)).unwrap();
            let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(hardware.platter()).status();
            assert!(made.expect("mkfs.ext4 is installed").success());
        }
        Some(hardware)
    }

    /// What is durable.
    pub fn platter(&self) -> PathBuf {
        self.work.join("platter.img")
    }

    /// Everything that the guest wrote since it was started.
    pub fn log(&self) -> PathBuf {
        self.work.join("writes.log")
    }

    pub fn console(&self) -> PathBuf {
        self.work.join("console.log")
    }

    /// Starts the machine. It writes to a copy of the platter, and each of its writes into the log.
    pub fn power_on(&self) -> (Child, u16) {
        let disk = self.work.join("disk.img");
        let copied = Command::new("cp").arg("--sparse=always").arg(self.platter()).arg(&disk).status().unwrap();
        assert!(copied.success(), "a copy of the disk");
        File::create(self.log()).unwrap();
        let port = free_port();
        let file = |name: &str, path: &Path| format!("driver=file,node-name={name},filename={}", path.display());
        let mut qemu = Command::new("qemu-system-x86_64");
        // Without AVX2, which TCG emulates so slowly that a job takes ten times as long as on the portable path.
        qemu.args(["-accel", "tcg", "-cpu", "Nehalem", "-m", "384", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(self.work.join("initramfs"))
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .args(["-blockdev", &file("disk", &disk), "-blockdev", &file("log", &self.log())])
            .args(["-blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log,log-super-update-interval=1"])
            .args(["-device", "virtio-blk-pci,drive=logged"])
            .args(["-netdev", &format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:8080")])
            .args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        (qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("QEMU can be started"), port)
    }

    /// Starts it and waits until irisd answers; what its console said where it does not. A disk whose journal the kernel does not take (a
    /// block of it was torn) is checked as every Linux does before it mounts one, without a question, and started again.
    pub fn boot(&self) -> Result<Guest, String> {
        self.try_boot().or_else(|said| {
            if !said.lines().any(|line| line == "UNMOUNTABLE") {
                return Err(said);
            }
            let checked = Command::new("e2fsck").arg("-p").arg(self.platter()).output().expect("e2fsck is installed");
            println!("the disk was checked:\n{}", String::from_utf8_lossy(&checked.stdout));
            // e2fsck(8): 1 is "errors corrected"; above it somebody would have to come.
            if checked.status.code().is_some_and(|code| code <= 1) { self.try_boot() } else { Err(said) }
        })
    }

    fn try_boot(&self) -> Result<Guest, String> {
        let begin = Instant::now();
        let (mut qemu, port) = self.power_on();
        let (tx, lines) = mpsc::channel();
        let stdout = qemu.stdout.take().unwrap();
        let mut console = File::options().create(true).append(true).open(self.console()).unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                let _ = std::io::Write::write_all(&mut console, format!("{line}\n").as_bytes());
                let _ = tx.send(line); // read on when nobody listens
            }
        });
        let mut guest = Guest { qemu, base: format!("http://127.0.0.1:{port}"), token: String::new(), boot: Duration::ZERO };
        let mut said = Vec::new();
        while let Ok(line) = lines.recv_timeout(BOOT.saturating_sub(begin.elapsed())) {
            if let Some(token) = line.strip_prefix("TOKEN ") {
                token.trim().clone_into(&mut guest.token);
                guest.boot = begin.elapsed();
                return Ok(guest);
            }
            said.push(line);
        }
        guest.unplug();
        Err(format!("irisd does not come up in the guest; its console:\n{}", said.join("\n")))
    }
}

impl Guest {
    /// Memory and everything that only it held are gone.
    pub fn unplug(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.unplug();
    }
}

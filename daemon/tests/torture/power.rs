//! The plug is pulled on a virtual machine in which irisd takes photos and jobs; what it answered for is there after the next boot.
//!
//! ```text
//! platter --> boot (one in five: cut on its way up) --> newest answers there? --> load for 0.3 to 4.3 s --> SIGKILL to QEMU
//!    ^                                                                                                         |
//!    +-- everything up to the last flush, and of the writes behind it what the dice leave (writelog.rs) -------+
//! ```
//!
//! Lost in a cut: the guest's memory with all that it had not written, and of what it had written but not flushed about half, some of it in
//! the middle of a write. Not modelled: a disk that lies about its flushes, or that damages what it was not asked to write.

use std::{fs, path::PathBuf, sync::Arc, thread, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    audit::{self, Listing},
    guest::{Guest, Hardware},
    ledger::Ledger,
    load::{Clerk, Office},
    writelog,
};
use crate::common::{Dice, client::Client, eyes};

const CLERKS: usize = 2;
const PAUSE: Duration = Duration::from_millis(60);
const SHOWN: usize = 20;

pub struct Plan {
    pub work: PathBuf,
    pub seed: u64,
    pub cuts: u64,
    pub deep_every: u64,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Progress {
    seed: u64,
    cuts: u64,
    cuts_in_boot: u64,
    deep_looks: u64,
    next_number: u64,
    writes: usize,
    unflushed: usize,
    lost: usize,
}

struct Run<'a> {
    plan: &'a Plan,
    progress: Progress,
    hardware: Hardware,
    office: Arc<Office>,
    clerks: Vec<Clerk>,
    boot: Duration,
}

/// None: there is no QEMU, or no kernel for it. Goes on where a run in this work folder was ended.
pub fn run(plan: &Plan) -> Option<Vec<String>> {
    let hardware = Hardware::find(&plan.work)?;
    let old = fs::read(plan.work.join("progress.json")).ok().and_then(|b| serde_json::from_slice::<Progress>(&b).ok());
    let progress = old.unwrap_or(Progress { seed: plan.seed, ..Progress::default() });
    assert_eq!(progress.seed, plan.seed, "the work folder belongs to another seed");
    let pictures = (0..6).map(|n| eyes::eye(200 + n, "160x120").bytes).collect();
    let office = Office::new(Ledger::open(&plan.work.join("ledger.jsonl")), progress.next_number, pictures);
    let clerks = (0..CLERKS).map(|_| Clerk::new(office.clone())).collect();
    let mut run = Run { plan, progress, hardware, office, clerks, boot: Duration::from_secs(8) };
    let mut faults = Vec::new();
    while faults.is_empty() && run.progress.cuts < plan.cuts {
        let last = run.progress.cuts + 1 >= plan.cuts;
        faults = run.cycle();
        if faults.is_empty() && (last || run.progress.cuts / plan.deep_every > run.progress.deep_looks) {
            faults = run.deep_look();
        }
        println!("{}", run.summary());
    }
    faults.truncate(SHOWN);
    if !faults.is_empty() {
        println!("FAULTS after cut {} with seed {}:\n{}", run.progress.cuts, plan.seed, faults.join("\n"));
    }
    Some(faults)
}

impl Run<'_> {
    fn cycle(&mut self) -> Vec<String> {
        let mut dice = Dice::new(self.plan.seed.wrapping_mul(1_000_003).wrapping_add(self.progress.cuts));
        if dice.roll(5) == 0 {
            let (mut qemu, _) = self.hardware.power_on();
            // Late in the boot: before it nothing is written.
            thread::sleep(self.boot.mul_f64(0.6 + 0.4 * dice.roll(1000) as f64 / 1000.0));
            let _ = qemu.kill();
            let _ = qemu.wait();
            self.progress.cuts_in_boot += 1;
            self.after_cut(&mut dice);
        }
        let mut guest = match self.hardware.boot() {
            Ok(guest) => guest,
            Err(why) => return vec![why],
        };
        self.boot = guest.boot;
        let client = client(&guest);
        let fresh = self.office.ledger.lock().unwrap().take_fresh();
        let mut faults = audit::newest_answers(&client, &fresh, &self.office.ledger.lock().unwrap());
        let working: Vec<_> = std::mem::take(&mut self.clerks)
            .into_iter()
            .map(|mut clerk| {
                let (client, dice) = (client.clone(), Dice::new(dice.roll(u64::MAX >> 33)));
                thread::spawn(move || {
                    clerk.work(&client, dice, PAUSE);
                    clerk
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(300 + dice.roll(4000)));
        guest.unplug();
        self.clerks = working.into_iter().map(|w| w.join().unwrap()).collect();
        self.after_cut(&mut dice);
        faults.append(&mut self.office.wrong.lock().unwrap());
        faults
    }

    /// The platter as the cut left it.
    fn after_cut(&mut self, dice: &mut Dice) {
        let platter = writelog::cut(&self.hardware.log(), &self.hardware.platter(), dice).expect("the log of the writes");
        let p = &mut self.progress;
        p.cuts += 1;
        (p.writes, p.unflushed, p.lost) = (p.writes + platter.writes, p.unflushed + platter.unflushed, p.lost + platter.lost);
        p.next_number = self.office.numbers.load(std::sync::atomic::Ordering::Relaxed);
        let path = self.plan.work.join("progress.json");
        let tmp = path.with_extension("new");
        fs::write(&tmp, serde_json::to_vec(p).unwrap()).and_then(|()| fs::rename(&tmp, &path)).unwrap();
    }

    fn deep_look(&mut self) -> Vec<String> {
        let mut guest = match self.hardware.boot() {
            Ok(guest) => guest,
            Err(why) => return vec![why],
        };
        let client = client(&guest);
        audit::quiet(&client);
        let listing = Listing::of(&client);
        let mut faults = audit::answers(&self.office.ledger.lock().unwrap(), &listing);
        faults.extend(audit::ends(&listing));
        faults.extend(audit::served(&client, &listing));
        guest.unplug();
        let mut dice = Dice::new(self.plan.seed ^ self.progress.cuts);
        self.after_cut(&mut dice);
        self.progress.deep_looks += 1;
        faults
    }

    fn summary(&self) -> String {
        let p = &self.progress;
        format!(
            "seed {}: {} cuts ({} during the boot), {} deep looks; {}; {} writes, {} of them not flushed at the cut, {} of those lost or torn; \
             last boot {:.1} s",
            p.seed,
            p.cuts,
            p.cuts_in_boot,
            p.deep_looks,
            self.office.ledger.lock().unwrap().summary(),
            p.writes,
            p.unflushed,
            p.lost,
            self.boot.as_secs_f64()
        )
    }
}

fn client(guest: &Guest) -> Client {
    Client::new(&guest.base, Some(&guest.token))
}

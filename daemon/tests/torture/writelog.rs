//! What a disk with a write cache has on its platter when the power goes, made from the log of everything that was written to it.
//!
//! QEMU's `blklogwrites` writes each request of the guest down, in order, in the format of the kernel's dm-log-writes. The platter holds
//! what was written up to the last flush that was done, and of the writes behind it any, whole or in part, in no order that the guest
//! could count on. Which ones is drawn by dice.
//!
//! ```text
//! log   = head (one sector: u64 magic, u64 version, u64 entries, u32 sector size) entry*
//! entry = one sector (u64 first sector, u64 sectors, u64 flags, u64 0), then the data unless it is a discard; little endian
//! ```

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use crate::common::Dice;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

#[derive(Debug, Default, Clone, Copy)]
pub struct Platter {
    pub writes: usize,
    /// Behind the last flush.
    pub unflushed: usize,
    /// Of those, not on the platter, or only in part.
    pub lost: usize,
}

struct Write<'a> {
    at: u64,
    data: &'a [u8],
    flags: u64,
}

/// Brings `image` (the platter before) to what it is after the cut.
pub fn cut(log: &Path, image: &Path, dice: &mut Dice) -> io::Result<Platter> {
    let bytes = fs::read(log)?;
    let sector = word(&bytes, 24, 4) as usize;
    let writes = writes(&bytes, sector);
    let flushed = writes.iter().rposition(|w| w.flags & FLUSH != 0).map_or(0, |last| last + 1);
    let image = File::options().write(true).open(image)?;
    let mut platter = Platter { writes: writes.len(), unflushed: writes.len() - flushed, lost: 0 };
    for (i, write) in writes.iter().enumerate() {
        let sectors = write.data.len() / sector.max(1);
        let kept = match dice.roll(8) {
            _ if i < flushed || write.flags & FUA != 0 => sectors,
            0..=3 => 0,
            4 => dice.roll(sectors as u64 + 1) as usize,
            _ => sectors,
        };
        platter.lost += usize::from(kept < sectors);
        image.write_all_at(&write.data[..kept * sector], write.at)?;
    }
    image.sync_all()?;
    Ok(platter)
}

fn writes(log: &[u8], sector: usize) -> Vec<Write<'_>> {
    let (mut found, mut at) = (Vec::new(), sector);
    if sector == 0 || word(log, 0, 8) != MAGIC {
        return found;
    }
    for _ in 0..word(log, 16, 8) {
        if at + sector > log.len() {
            break;
        }
        let (first, sectors, flags) = (word(log, at, 8), word(log, at + 8, 8) as usize, word(log, at + 16, 8));
        at += sector;
        let bytes = if flags & DISCARD == 0 { sectors * sector } else { 0 };
        // The entry was counted, its data had not yet come when QEMU was killed: the guest was not told that it is written.
        let Some(data) = log.get(at..at + bytes) else { break };
        found.push(Write { at: first * sector as u64, data, flags });
        at += bytes;
    }
    found
}

fn word(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes.get(at..at + len).map_or(0, |b| b.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

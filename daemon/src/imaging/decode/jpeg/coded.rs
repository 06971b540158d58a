//! Is the coded data of a JPEG whole? Walks the Huffman codes of every scan (ITU-T T.81 F.2 and G.2) without making a pixel of them.
//!
//! Why: every decoder fills what is missing with grey, and an end-of-image marker is no proof: a camera that ran out of card, or a
//! program that "repaired" the file, writes one behind half a picture. Here each scan must hold a code for each of its blocks.
//!
//! Bytes left over behind the last block are accepted (encoders pad). Memory: 8 bytes a block of a progressive picture, 2 MB for 12 MP.

use super::{Segment, segments};
use crate::imaging::decode::DecodeError;

/// Scans that a picture may have; ten are usual. Empty scans cost their maker nothing and us a walk over all blocks.
const MAX_SCANS: usize = 100;
/// Bits of a code that are looked up at once.
const FAST_BITS: u32 = 9;
/// Bits of such a code and its value, at most.
const LONGEST_BITS: u32 = FAST_BITS + 15;

/// Ok also for what cannot be judged here: tables that are left to the decoder's defaults (motion JPEG).
pub(super) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut state = State::default();
    for segment in segments(bytes) {
        let Segment { marker, whole, payload } = segment?;
        let body = &bytes[payload.clone()];
        match marker {
            0xC4 => state.tables(body).ok_or_else(|| DecodeError::corrupt("a code table is damaged"))?,
            0xC0..=0xC2 => state.frame(body, marker == 0xC2).ok_or_else(|| DecodeError::corrupt("the frame header is damaged"))?,
            0xDD => state.restart = body.get(..2).map_or(0, |b| usize::from(u16::from_be_bytes([b[0], b[1]]))),
            super::SOS => {
                state.scans += 1;
                if state.scans > MAX_SCANS {
                    return Err(DecodeError::corrupt(format!("it has more than {MAX_SCANS} scans")));
                }
                match state.scan(body, &bytes[payload.end..whole.end]) {
                    Ok(()) => {}
                    Err(Stop::NoTable) => return Ok(()),
                    Err(Stop::Short) => {
                        return Err(DecodeError::truncated(format!("scan {} lacks data before its end", state.scans)));
                    }
                    Err(Stop::Damaged(what)) => return Err(DecodeError::corrupt(format!("scan {}: {what}", state.scans))),
                }
            }
            _ => {}
        }
    }
    match state.components.iter().position(|c| !c.scanned) {
        Some(i) => Err(DecodeError::truncated(format!("component {i} has no data"))),
        None => Ok(()),
    }
}

enum Stop {
    Short,
    Damaged(&'static str),
    NoTable,
}

#[derive(Default)]
struct State {
    width: usize,
    height: usize,
    progressive: bool,
    components: Vec<Component>,
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    /// MCUs between restarts; 0: none.
    restart: usize,
    scans: usize,
}

struct Component {
    id: u8,
    h: usize,
    v: usize,
    scanned: bool,
    /// Progressive: for each block, which coefficients are known to be other than 0 (bit k, zigzag order).
    known: Vec<u64>,
}

/// What a scan does to a block.
#[derive(Clone, Copy)]
enum Pass {
    Baseline,
    DcFirst,
    Bit,
    AcFirst,
    AcRefine,
}

impl State {
    fn frame(&mut self, body: &[u8], progressive: bool) -> Option<()> {
        self.height = usize::from(u16::from_be_bytes([*body.get(1)?, *body.get(2)?]));
        self.width = usize::from(u16::from_be_bytes([*body.get(3)?, *body.get(4)?]));
        self.progressive = progressive;
        let count = usize::from(*body.get(5)?);
        let listed = body.get(6..6 + count * 3)?;
        self.components = listed
            .chunks_exact(3)
            .map(|c| Component { id: c[0], h: usize::from(c[1] >> 4), v: usize::from(c[1] & 15), scanned: false, known: Vec::new() })
            .collect();
        let sane = self.components.iter().all(|c| (1..=4).contains(&c.h) && (1..=4).contains(&c.v));
        (sane && (1..=4).contains(&count)).then_some(())
    }

    fn tables(&mut self, mut body: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = body {
            let counts = rest.get(..16)?;
            let total = counts.iter().map(|n| usize::from(*n)).sum::<usize>();
            let table = Table::new(counts, rest.get(16..16 + total)?)?;
            let place = usize::from(kind & 15);
            *if kind >> 4 == 0 { self.dc.get_mut(place)? } else { self.ac.get_mut(place)? } = Some(table);
            body = &rest[16 + total..];
        }
        Some(())
    }

    fn scan(&mut self, header: &[u8], data: &[u8]) -> Result<(), Stop> {
        const HEADER: Stop = Stop::Damaged("its header makes no sense");
        let count = usize::from(*header.first().ok_or(HEADER)?);
        let [first, last, approximation] =
            header.get(1 + count * 2..4 + count * 2).and_then(|b| <[u8; 3]>::try_from(b).ok()).ok_or(HEADER)?;
        let pass = match (self.progressive, first, approximation >> 4) {
            (false, ..) => Pass::Baseline,
            (true, 0, 0) => Pass::DcFirst,
            (true, 0, _) => Pass::Bit,
            (true, _, 0) => Pass::AcFirst,
            (true, ..) => Pass::AcRefine,
        };
        let ac_scan = matches!(pass, Pass::AcFirst | Pass::AcRefine);
        if last > 63 || first > last || (ac_scan && count != 1) || !(1..=4).contains(&count) {
            return Err(HEADER);
        }
        let h_max = self.components.iter().map(|c| c.h).max().ok_or(HEADER)?;
        let v_max = self.components.iter().map(|c| c.v).max().ok_or(HEADER)?;

        // Which component, how many blocks of it an MCU holds, and its tables.
        let mut parts = Vec::with_capacity(count);
        for pair in header[1..1 + count * 2].chunks_exact(2) {
            let index = self.components.iter().position(|c| c.id == pair[0]).ok_or(HEADER)?;
            self.components[index].scanned = true;
            let blocks = if count == 1 { 1 } else { self.components[index].h * self.components[index].v };
            parts.push((index, blocks, usize::from(pair[1] >> 4), usize::from(pair[1] & 15)));
        }
        let (across, down) = if count == 1 {
            let c = &self.components[parts[0].0];
            ((self.width * c.h).div_ceil(h_max).div_ceil(8), (self.height * c.v).div_ceil(v_max).div_ceil(8))
        } else {
            (self.width.div_ceil(8 * h_max), self.height.div_ceil(8 * v_max))
        };
        let mut known = std::mem::take(&mut self.components[parts[0].0].known);
        if ac_scan {
            known.resize(across * down, 0);
        }
        let mut unused = 0;

        let mut bits = Bits::new(data);
        let mut run = 0u32;
        let band = (u32::from(first), u32::from(last));
        for mcu in 0..across * down {
            if self.restart != 0 && mcu != 0 && mcu % self.restart == 0 {
                bits.restart()?;
                run = 0;
            }
            for &(_, blocks, dc, ac) in &parts {
                // Scans of AC values have one component and one block an MCU: the MCU's number is the block's.
                let known = known.get_mut(mcu).filter(|_| ac_scan).unwrap_or(&mut unused);
                for _ in 0..blocks {
                    match pass {
                        Pass::Baseline => {
                            bits.dc(pick(&self.dc, dc)?)?;
                            bits.ac(pick(&self.ac, ac)?)?;
                        }
                        Pass::DcFirst => bits.dc(pick(&self.dc, dc)?)?,
                        Pass::Bit => bits.skip(1)?,
                        Pass::AcFirst => bits.ac_first(pick(&self.ac, ac)?, band, &mut run, known)?,
                        Pass::AcRefine => bits.ac_refine(pick(&self.ac, ac)?, band, &mut run, known)?,
                    }
                }
            }
        }
        self.components[parts[0].0].known = known;
        Ok(())
    }
}

fn pick(tables: &[Option<Table>; 4], index: usize) -> Result<&Table, Stop> {
    tables.get(index).and_then(Option::as_ref).ok_or(Stop::NoTable)
}

/// Codes to values: the first bits looked up at once, longer codes by their range.
struct Table {
    /// (bits, value); 0 bits: longer than FAST_BITS, or no code.
    fast: Vec<(u8, u8)>,
    /// For each length 1..=16: one past the last code, filled up to 16 bits, and what turns a code into an index of `values`.
    ends: [u32; 17],
    offsets: [i32; 17],
    values: Vec<u8>,
}

impl Table {
    fn new(counts: &[u8], values: &[u8]) -> Option<Self> {
        let mut table = Table { fast: vec![(0, 0); 1 << FAST_BITS], ends: [0; 17], offsets: [0; 17], values: values.to_vec() };
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = u32::from(counts[length as usize - 1]);
            table.offsets[length as usize] = index as i32 - code as i32;
            if code + count > 1 << length {
                return None;
            }
            for _ in 0..count {
                if length <= FAST_BITS {
                    let from = (code << (FAST_BITS - length)) as usize;
                    table.fast[from..from + (1 << (FAST_BITS - length))].fill((length as u8, values[index]));
                }
                code += 1;
                index += 1;
            }
            table.ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }
}

/// Whether one of the eight bytes is FF.
#[inline(always)]
pub(super) fn has_ff(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 255;
    (!word).wrapping_sub(ONES) & word & (ONES << 7) != 0
}

/// The bits of a scan, stuffing removed. A marker ends them, and only a restart goes past one.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, held: 0, count: 0 }
    }

    /// Holds at least 49 bits afterwards, where there are so many.
    fn fill(&mut self) {
        // Eight bytes without an FF among them need no look at each.
        if let Some(eight) = self.data.get(self.at..).and_then(|rest| rest.first_chunk()).map(|eight| u64::from_be_bytes(*eight))
            && !has_ff(eight)
        {
            let bytes = (63 - self.count) / 8;
            self.held = (self.held << (8 * bytes)) | (eight >> (64 - 8 * bytes));
            self.count += 8 * bytes;
            self.at += bytes as usize;
            return;
        }
        while self.count <= 48 {
            let byte = match self.data.get(self.at..) {
                Some([0xFF, 0, ..]) => {
                    self.at += 2;
                    0xFF
                }
                Some([0xFF, ..]) | Some([]) | None => return,
                Some([byte, ..]) => {
                    self.at += 1;
                    *byte
                }
            };
            self.held = (self.held << 8) | u64::from(byte);
            self.count += 8;
        }
    }

    fn take(&mut self, n: u32) -> Result<u32, Stop> {
        if self.count < n {
            self.fill();
            if self.count < n {
                return Err(Stop::Short);
            }
        }
        self.count -= n;
        Ok((self.held >> self.count) as u32 & ((1 << n) - 1))
    }

    /// A code of at most [`FAST_BITS`] that is looked up, with its value's bits passed over. None: it must be gone about more carefully.
    #[inline(always)]
    fn short_code(&mut self, table: &Table) -> Option<u8> {
        if self.count < LONGEST_BITS {
            self.fill();
            if self.count < LONGEST_BITS {
                return None;
            }
        }
        let next = (self.held >> (self.count - FAST_BITS)) as usize & ((1 << FAST_BITS) - 1);
        let (length, value) = table.fast[next];
        if length == 0 {
            return None;
        }
        self.count -= u32::from(length) + u32::from(value & 15);
        Some(value)
    }

    fn skip(&mut self, n: u32) -> Result<(), Stop> {
        self.take(n).map(drop)
    }

    fn code(&mut self, table: &Table) -> Result<u8, Stop> {
        if self.count < 16 {
            self.fill();
        }
        // The next 16 bits; beyond the end zeros, which then lack.
        let next =
            if self.count >= 16 { (self.held >> (self.count - 16)) as u32 } else { (self.held << (16 - self.count)) as u32 } & 0xFFFF;
        let (length, value) = table.fast[(next >> (16 - FAST_BITS)) as usize];
        let (length, value) = if length > 0 {
            (u32::from(length), value)
        } else {
            let longer = (FAST_BITS + 1..=16).find(|l| next < table.ends[*l as usize]);
            // No code begins like this: damage, unless the data has simply ended here.
            let Some(length) = longer else {
                return Err(if self.count < 16 { Stop::Short } else { Stop::Damaged("a code does not exist") });
            };
            let index = (next >> (16 - length)) as i32 + table.offsets[length as usize];
            (length, *table.values.get(index as usize).ok_or(Stop::Damaged("a code does not exist"))?)
        };
        if length > self.count {
            return Err(Stop::Short);
        }
        self.count -= length;
        Ok(value)
    }

    fn dc(&mut self, table: &Table) -> Result<(), Stop> {
        let size = u32::from(self.code(table)?);
        if size > 16 {
            return Err(Stop::Damaged("a value is too long"));
        }
        self.skip(size)
    }

    fn ac(&mut self, table: &Table) -> Result<(), Stop> {
        let mut k = 1;
        while k < 64 {
            let code = match self.short_code(table) {
                Some(code) => code,
                None => {
                    let code = self.code(table)?;
                    self.skip(u32::from(code & 15))?;
                    code
                }
            };
            match (code >> 4, code & 15) {
                (15, 0) => k += 16,
                (_, 0) => return Ok(()),
                (zeros, _) => k += u32::from(zeros) + 1,
            }
        }
        // One past the end is full; more does not fit a block.
        if k > 64 { Err(Stop::Damaged("a block has more than 64 values")) } else { Ok(()) }
    }

    fn ac_first(&mut self, table: &Table, (first, last): (u32, u32), run: &mut u32, known: &mut u64) -> Result<(), Stop> {
        if *run > 0 {
            *run -= 1;
            return Ok(());
        }
        let mut k = first;
        while k <= last {
            let code = self.code(table)?;
            let (zeros, size) = (u32::from(code >> 4), u32::from(code & 15));
            match (zeros, size) {
                (15, 0) => k += 16,
                (_, 0) => {
                    *run = (1 << zeros) - 1 + self.take(zeros)?;
                    return Ok(());
                }
                _ => {
                    k += zeros;
                    if k > last {
                        return Err(Stop::Damaged("a block has more values than its band"));
                    }
                    self.skip(size)?;
                    *known |= 1 << k;
                    k += 1;
                }
            }
        }
        Ok(())
    }

    /// T.81 G.1.2.3: values known already get one more bit each as they are passed; new ones arrive between them.
    fn ac_refine(&mut self, table: &Table, (first, last): (u32, u32), run: &mut u32, known: &mut u64) -> Result<(), Stop> {
        let mut k = first;
        while *run == 0 && k <= last {
            let code = self.code(table)?;
            let (mut zeros, size) = (u32::from(code >> 4), code & 15);
            match (zeros, size) {
                (15, 0) => {}
                (_, 0) => {
                    *run = (1 << zeros) + self.take(zeros)?;
                    break;
                }
                _ => self.skip(1)?,
            }
            while k <= last {
                if *known >> k & 1 == 1 {
                    self.skip(1)?;
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
            if size != 0 {
                if k > last {
                    return Err(Stop::Damaged("a block has more values than its band"));
                }
                *known |= 1 << k;
            }
            k += 1;
        }
        if *run > 0 {
            for k in k..=last {
                if *known >> k & 1 == 1 {
                    self.skip(1)?;
                }
            }
            *run -= 1;
        }
        Ok(())
    }

    /// Drops the bits that fill the last byte and steps over the restart marker, which must be next.
    fn restart(&mut self) -> Result<(), Stop> {
        // Whole bytes that were not needed are padding; the marker itself was never passed.
        (self.held, self.count) = (0, 0);
        let rest = self.data.get(self.at..).unwrap_or_default();
        let marker = rest.windows(2).position(|w| w[0] == 0xFF && (0xD0..=0xD7).contains(&w[1])).ok_or(Stop::Short)?;
        self.at += marker + 2;
        Ok(())
    }
}

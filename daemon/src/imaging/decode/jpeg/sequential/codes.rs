//! Huffman codes to quantised values times their steps (ITU-T T.81 F.2.2), block by block.
//!
//! ```text
//! bytes --8 at a time, while none is FF--> held, next bit on top --first 10 bits--> entry: bits of code and value, zeros before it, its size
//!        \-one at a time near an FF: stuffing dropped, a marker ends them
//! ```
//!
//! What lacks at a marker is read as zeros and counted: whoever decodes asks at the end of a row whether any of it was used.

use super::super::coded::has_ff;
use crate::imaging::encode::ZIGZAG;

/// Bits of a code that are looked up at once. Of our own photos' codes one in a thousand is longer.
const FAST_BITS: u32 = 10;
/// Bits that a code and its value take at most: 16 and 15.
const LONGEST_BITS: u32 = 31;

/// For each zigzag position of a component's blocks its place, row-major, and the step of its values.
pub struct Steps([(u8, u8); POSITIONS]);

/// A damaged block may run 15 past its end before that is seen; a power of two, so that no position needs a check.
const POSITIONS: usize = 128;

impl Steps {
    /// `steps`: in zigzag order.
    pub fn new(steps: &[u8; 64]) -> Self {
        Self(std::array::from_fn(|k| (ZIGZAG[k.min(63)], steps[k.min(63)])))
    }
}

/// 64 values times their steps, row-major.
pub type Block = [i16; 64];

/// What an inverse DCT must be ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The mean alone.
    Flat,
    /// The magnitudes' sum is at most [`USUAL`]; so it is of a flat one.
    Usual,
    /// It is more.
    Steep,
}

/// So large may a block's magnitudes be in all that the first half of its inverse DCT fits 16 bits: 5683 / 1024 times that
/// (`transform.rs`). No picture of 8 bits comes near; noise quantised coarsely may.
pub const USUAL: u32 = 5900;

/// What a code says. All in one number, because the next code waits for it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry(u32);

impl Entry {
    /// Longer than [`FAST_BITS`], or no code.
    const NONE: Entry = Entry(0);

    fn new(length: u32, symbol: u8) -> Self {
        let (zeros, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        Entry((length + size) | length << 8 | size << 16 | zeros << 24)
    }

    /// Bits of the code and of the value behind it.
    fn bits(self) -> u32 {
        self.0 & 63
    }

    fn length(self) -> u32 {
        self.0 >> 8 & 31
    }

    /// Bits of the value.
    fn size(self) -> u32 {
        self.0 >> 16 & 15
    }

    fn zeros(self) -> usize {
        (self.0 >> 24) as usize
    }
}

/// Codes to entries: the first bits looked up at once, longer codes by their range.
pub struct Table {
    fast: Box<[Entry; 1 << FAST_BITS]>,
    /// For each length 1..=16: one past the last code, filled up to 16 bits, and what turns a code into an index of `symbols`.
    ends: [u32; 17],
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// `counts`: of codes of each length 1..=16. None: more than such lengths allow.
    pub fn new(counts: &[u8], symbols: &[u8]) -> Option<Self> {
        let fast = Box::new([Entry::NONE; 1 << FAST_BITS]);
        let mut table = Table { fast, ends: [0; 17], offsets: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0u32, 0usize);
        for (length, count) in (1u32..).zip(counts) {
            table.offsets[length as usize] = index as i32 - code as i32;
            if code + u32::from(*count) > 1 << length {
                return None;
            }
            for symbol in symbols.get(index..index + usize::from(*count))? {
                if length <= FAST_BITS {
                    let free = FAST_BITS - length;
                    table.fast[(code << free) as usize..][..1 << free].fill(Entry::new(length, *symbol));
                }
                code += 1;
            }
            index += usize::from(*count);
            table.ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }

    /// `next`: the next 16 bits.
    #[cold]
    #[inline(never)]
    fn long(&self, next: u32) -> Option<Entry> {
        let length = (FAST_BITS + 1..=16).find(|l| next < self.ends[*l as usize])?;
        let index = (next >> (16 - length)) as i32 + self.offsets[length as usize];
        Some(Entry::new(length, *self.symbols.get(usize::try_from(index).ok()?)?))
    }
}

/// The bits of a scan. Copied into registers for a row and back: what is slow takes it and gives it again.
#[derive(Clone, Copy)]
pub struct Bits<'a> {
    /// What is not held yet.
    rest: &'a [u8],
    /// The next bit on top. Below `count` bits may stand some of the bytes of `rest`, which are laid over themselves later.
    held: u64,
    count: u32,
    /// Bits of `count` that are not in the data.
    made_up: u32,
}

impl<'a> Bits<'a> {
    /// `data`: a scan's, up to the marker that ends it or the end of the file.
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data, held: 0, count: 0, made_up: 0 }
    }

    /// Holds enough for a code with its value.
    #[inline(always)]
    fn ready(&mut self) {
        if self.count < LONGEST_BITS {
            match self.rest.first_chunk().map(|eight| u64::from_be_bytes(*eight)) {
                Some(eight) if !has_ff(eight) => {
                    self.held |= eight >> self.count;
                    self.rest = &self.rest[((63 - self.count) / 8) as usize..];
                    self.count |= 56;
                }
                _ => *self = self.filled(),
            }
        }
    }

    /// Byte by byte, without the 0 behind an FF; zeros from a marker on.
    #[cold]
    #[inline(never)]
    fn filled(mut self) -> Self {
        while self.count <= 56 {
            let byte = match self.rest {
                [0xFF, 0, rest @ ..] => {
                    self.rest = rest;
                    0xFF
                }
                [0xFF, ..] | [] => {
                    self.made_up += 8;
                    0
                }
                [byte, rest @ ..] => {
                    self.rest = rest;
                    *byte
                }
            };
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        self
    }

    /// Whether no bit was used that is not in the data.
    pub fn whole(self) -> bool {
        self.made_up <= self.count
    }

    /// What begins with the next marker, or is empty at the end; None: there is more before it than bits that fill a byte.
    fn marker(self) -> Option<&'a [u8]> {
        let all = self.filled();
        let next = all.whole() && all.count - all.made_up < 8 && matches!(all.rest, [] | [0xFF, ..]);
        next.then_some(all.rest)
    }

    pub fn ended(self) -> bool {
        self.marker().is_some_and(<[u8]>::is_empty)
    }

    /// Behind restart marker `number` (modulo 8), which must be next.
    pub fn restarted(self, number: usize) -> Option<Self> {
        self.marker()?.strip_prefix(&[0xFF, 0xD0 | (number % 8) as u8]).map(Self::new)
    }

    /// A code's entry, with the bits from its value on.
    #[inline(always)]
    fn code(&mut self, table: &Table) -> Option<(Entry, u64)> {
        self.ready();
        let mut entry = table.fast[(self.held >> (64 - FAST_BITS)) as usize];
        if entry == Entry::NONE {
            entry = table.long((self.held >> 48) as u32)?;
        }
        let value = self.held << entry.length();
        self.held <<= entry.bits();
        self.count -= entry.bits();
        Some((entry, value))
    }

    /// `before`: the component's last DC value, which becomes this one's. None: damaged, or beyond 16 bits.
    #[inline(always)]
    pub fn block(&mut self, dc: &Table, ac: &Table, steps: &Steps, before: &mut i32, block: &mut Block) -> Option<Kind> {
        *block = [0; 64];
        let (entry, bits) = self.code(dc)?;
        if entry.size() > 0 {
            let (magnitude, sign) = value(bits, entry.size());
            *before += (magnitude ^ sign) - sign;
        }
        let mean = *before * i32::from(steps.0[0].1);
        block[0] = mean as i16;
        let mut sum = mean.unsigned_abs();
        let mut k = 1;
        while k < 64 {
            let (entry, bits) = self.code(ac)?;
            if entry.size() == 0 {
                if entry.zeros() < 15 {
                    break;
                }
                k += 16;
                continue;
            }
            k += entry.zeros();
            let (place, step) = steps.0[k % POSITIONS];
            let (magnitude, sign) = value(bits, entry.size());
            let magnitude = magnitude * i32::from(step);
            block[usize::from(place) % 64] = ((magnitude ^ sign) - sign) as i16;
            sum += magnitude as u32;
            k += 1;
        }
        if k > 64 || before.unsigned_abs() > i16::MAX as u32 || sum > i16::MAX as u32 {
            return None;
        }
        Some(match k {
            _ if sum > USUAL => Kind::Steep,
            1 => Kind::Flat,
            _ => Kind::Usual,
        })
    }
}

/// The value of `size` bits, 1..=15, on top of `bits`: those that begin with 0 are negative and say their magnitude inverted (T.81
/// F.2.2.1). The magnitude, and 0 or -1 for a negative one.
#[inline(always)]
fn value(bits: u64, size: u32) -> (i32, i32) {
    let sign = !(bits as i64 >> 63);
    (((bits ^ sign as u64) >> (64 - size)) as i32, sign as i32)
}

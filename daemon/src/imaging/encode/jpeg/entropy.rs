//! Huffman codes of a strip's blocks (ITU-T T.81 F.1.2), in two steps: bits into a buffer without a branch for full bytes, then a copy
//! that puts 00 behind each FF.

use super::{
    block::Block,
    tables::{self, ZIGZAG},
};

/// Bytes that a block takes at most: 64 values of up to 26 bits.
const BLOCK_BYTES: usize = 208;
/// Written at a time.
const WORD_BYTES: usize = 8;
/// A place in a block's bytes modulo this needs no check.
const PLACES: usize = 256;
/// Where a block's codes go.
type Room = [u8; PLACES + WORD_BYTES];

/// Code and length for what can be said of luma or chroma.
pub struct Coder {
    /// By size of the difference: (code << size) << 6 | bits in all.
    dc: [u32; 16],
    /// By run of zeros << 4 | size, the same way.
    ac: [u32; 256],
}

/// Place of zigzag position z in a transposed [`Block`].
const ORDER: [u8; 64] = {
    let mut order = [0; 64];
    let mut z = 0;
    while z < 64 {
        order[z] = ZIGZAG[z] % 8 * 8 + ZIGZAG[z] / 8;
        z += 1;
    }
    order
};

/// For each eighth of a block's mask and each value of its byte: the same bits in zigzag order.
static SPREAD: [[u64; 256]; 8] = {
    let mut spread = [[0; 256]; 8];
    let mut z = 0;
    while z < 64 {
        let (byte, bit) = (ORDER[z] as usize / 8, ORDER[z] % 8);
        let mut value = 0;
        while value < 256 {
            if value >> bit & 1 == 1 {
                spread[byte][value] |= 1 << z;
            }
            value += 1;
        }
        z += 1;
    }
    spread
};

const END_OF_BLOCK: usize = 0x00;
const SIXTEEN_ZEROS: usize = 0xF0;

impl Coder {
    /// `component`: 0 luma, 1 chroma.
    pub fn new(component: usize) -> Self {
        let entry = |(code, length): (u16, u8), size: usize| (u32::from(code) << size) << 6 | (u32::from(length) + size as u32);
        let (dc, ac) = (tables::codes(&tables::DC[component]), tables::codes(&tables::AC[component]));
        Self { dc: std::array::from_fn(|i| entry(dc[i], i)), ac: std::array::from_fn(|i| entry(ac[i], i & 15)) }
    }
}

/// Bits that are still to be written: the last `count` of `bits`.
#[derive(Clone, Copy)]
struct Held {
    bits: u64,
    count: u32,
}

impl Held {
    #[inline(always)]
    fn push(&mut self, code: u32, bits: u32) {
        self.bits = self.bits << bits | u64::from(code);
        self.count += bits;
    }

    #[inline(always)]
    fn push_value(&mut self, entry: u32, value: i32, size: u32) {
        // A negative value is said by its low bits minus one (T.81 F.1.2.1).
        let low = (value + (value >> 31)) as u32 & ((1 << size) - 1);
        self.push(entry >> 6 | low, entry & 63);
    }

    /// Writes all, of which there are fewer than 64, left-aligned; what does not fill a byte stays and goes out again with the next.
    #[inline(always)]
    fn write(&mut self, room: &mut Room, at: &mut usize) {
        room[*at % PLACES..][..WORD_BYTES].copy_from_slice(&(self.bits << 1 << (63 - self.count)).to_be_bytes());
        *at += (self.count / 8) as usize;
        self.count %= 8;
    }
}

/// The bits of a strip, before stuffing.
pub struct Bits<'a> {
    buffer: &'a mut [u8],
    at: usize,
    /// Fewer than 8 between blocks.
    held: Held,
}

impl<'a> Bits<'a> {
    /// `buffer` grows to what `blocks` blocks may need.
    pub fn new(buffer: &'a mut Vec<u8>, blocks: usize) -> Self {
        buffer.resize(blocks * BLOCK_BYTES + size_of::<Room>(), 0);
        Self { buffer, at: 0, held: Held { bits: 0, count: 0 } }
    }

    fn room(&mut self) -> &mut Room {
        self.buffer[self.at..].first_chunk_mut().expect("there is room for each block, and for one more")
    }

    /// `before`: the DC value of the component's last block; `nonzero`: the block's mask.
    #[inline(always)]
    pub fn block(&mut self, block: &Block, nonzero: u64, before: i16, coder: &Coder) {
        let mut zigzag = 0;
        for (eighth, spread) in SPREAD.iter().enumerate() {
            zigzag |= spread[(nonzero >> (8 * eighth)) as usize & 255];
        }
        let (mut held, mut at) = (self.held, 0);
        let room = self.room();
        let size_of = |value: i32| 32 - value.unsigned_abs().leading_zeros();
        let difference = i32::from(block[0]) - i32::from(before);
        let size = size_of(difference);
        held.push_value(coder.dc[size as usize & 15], difference, size);
        let mut rest = zigzag & !1;
        let mut last = 0;
        // Every other value is written with the one before it: 7 + 2 x 26 bits at most.
        let mut full = true;
        while rest != 0 {
            let place = rest.trailing_zeros();
            rest &= rest - 1;
            let mut run = place - last - 1;
            last = place;
            while run > 15 {
                held.push_value(coder.ac[SIXTEEN_ZEROS], 0, 0);
                held.write(room, &mut at);
                run -= 16;
            }
            let value = i32::from(block[usize::from(ORDER[place as usize & 63] & 63)]);
            let size = size_of(value);
            held.push_value(coder.ac[(run << 4 | size) as usize & 255], value, size);
            if full {
                held.write(room, &mut at);
            }
            full = !full;
        }
        if last != 63 {
            held.push_value(coder.ac[END_OF_BLOCK], 0, 0);
        }
        held.write(room, &mut at);
        self.held = held;
        self.at += at;
    }

    /// Fills the last byte with ones and appends all to `out`, 00 behind each FF.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        if self.held.count > 0 {
            let (mut held, mut at) = (self.held, 0);
            let free = 8 - held.count;
            held.push((1 << free) - 1, free);
            held.write(self.room(), &mut at);
            self.at += at;
        }
        let bytes = &self.buffer[..self.at];
        out.reserve(bytes.len() + bytes.len() / 32);
        let (chunks, rest) = bytes.as_chunks::<16>();
        for chunk in chunks {
            // Whole words are looked at: an FF in coded data is rare.
            if has_ff(u128::from_ne_bytes(*chunk)) { stuff(chunk, out) } else { out.extend_from_slice(chunk) }
        }
        stuff(rest, out);
    }
}

/// Whether one of the bytes is FF.
#[inline(always)]
fn has_ff(word: u128) -> bool {
    const ONES: u128 = u128::MAX / 255;
    let inverted = !word;
    inverted.wrapping_sub(ONES) & word & (ONES << 7) != 0
}

fn stuff(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0xFF {
            out.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ff_is_seen_in_every_place_and_nothing_else_is_taken_for_one() {
        for place in 0..16 {
            for value in 0..=255u8 {
                let mut bytes = [value / 3; 16];
                bytes[place] = value;
                assert_eq!(has_ff(u128::from_ne_bytes(bytes)), bytes.contains(&0xFF), "{value} at {place}");
            }
        }
    }

    #[test]
    fn the_longest_block_fits_its_room() {
        let longest = Coder::new(0).ac.iter().map(|e| e & 63).max().unwrap_or(0);
        assert!(longest <= 26 && 64 * 26 / 8 <= BLOCK_BYTES);
    }
}

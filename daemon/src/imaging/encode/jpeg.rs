//! JPEG (ITU-T T.81, baseline, sequential), in strips of one row of MCUs over all cores.
//!
//! ```text
//! Rows --16 rows a strip--> planes --> DCT, quantised --> Huffman codes --> RSTn | strip | RSTn | strip ... --> writer
//!                          \---------- each strip on a core of its own ----------/
//! ```
//!
//! A restart marker stands between strips: each begins anew, so they are coded side by side and damage stays within one. Tables are
//! those of Annex K. Why it is ours: docs/decisions/0022-jpeg-encoder.md.

mod block;
mod entropy;
mod planes;
mod tables;

use std::io::{self, Write};

use self::{
    block::Block,
    entropy::{Bits, Coder},
    planes::{Layout, Planes},
};
use super::{
    super::{cores, raster::Rows},
    invalid, srgb_profile,
};
#[cfg(target_arch = "x86_64")]
use crate::imaging::wide;

pub use self::planes::Chroma;
pub(in crate::imaging) use self::tables::ZIGZAG;

/// Largest side that a JPEG can say, px.
pub const JPEG_MAX_SIDE: usize = u16::MAX as usize;

/// Pixels that are asked for at a time, where one strip a core is less: handing work to the cores costs some 10 µs.
const BATCH_BYTES: usize = 256 << 10;

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const RST0: u8 = 0xD0;

/// Writes a JPEG with an sRGB profile (ICC.1, APP2) where it has colours. `quality`: 1..=100, libjpeg's scale. Memory: a strip a core,
/// or a megabyte. Errors: the writer's, or `InvalidInput` for a side of 0 or above [`JPEG_MAX_SIDE`].
pub fn jpeg(rows: &mut dyn Rows, mut out: impl Write, quality: u8, chroma: Chroma) -> io::Result<()> {
    let (width, height, channels) = (rows.width(), rows.height(), rows.channels());
    let side = |px: usize| u16::try_from(px).ok().filter(|px| *px > 0);
    let (Some(w), Some(h)) = (side(width), side(height)) else {
        return Err(invalid(format!("a JPEG cannot be {width}x{height} px: a side has 1 to {JPEG_MAX_SIDE} px")));
    };
    let layout = if channels == 1 { Layout::Gray } else { Layout::Colour(chroma) };
    let coding = Coding::new(quality, width, layout);
    out.write_all(&coding.header(w, h))?;

    let strip_bytes = layout.mcu() * width * channels;
    let strips = height.div_ceil(layout.mcu());
    let at_once = rayon::current_num_threads().max(BATCH_BYTES / strip_bytes).min(strips);
    let mut benches: Vec<Bench> = (0..at_once).map(|_| Bench::default()).collect();
    let mut pixels = vec![0; at_once * strip_bytes];
    let mut left = height * width * channels;
    let mut written = 0;
    while left > 0 {
        let now = left.min(pixels.len());
        let pixels = &mut pixels[..now];
        rows.next_rows(pixels);
        left -= now;
        let benches = &mut benches[..now.div_ceil(strip_bytes)];
        let strip = |number: usize| &pixels[number * strip_bytes..now.min((number + 1) * strip_bytes)];
        cores::pieces(benches, 1, || (), |(), number, bench| bench[0].code(strip(number), &coding));
        for bench in benches {
            if written > 0 {
                out.write_all(&[0xFF, RST0 + ((written - 1) % 8) as u8])?;
            }
            out.write_all(&bench.coded)?;
            written += 1;
        }
    }
    out.write_all(&[0xFF, EOI])
}

/// What all strips of a picture have in common.
struct Coding {
    width: usize,
    layout: Layout,
    quantisers: [[u8; 64]; 2],
    reciprocals: [[f32; 64]; 2],
    coders: [Coder; 2],
}

impl Coding {
    fn new(quality: u8, width: usize, layout: Layout) -> Self {
        let quantisers = tables::quantisers(quality);
        let reciprocals = quantisers.each_ref().map(block::reciprocals);
        Self { width, layout, quantisers, reciprocals, coders: [Coder::new(0), Coder::new(1)] }
    }

    /// Everything up to the first strip.
    fn header(&self, width: u16, height: u16) -> Vec<u8> {
        let mut out = vec![0xFF, SOI];
        let mut segment = |marker: u8, parts: &[&[u8]]| {
            let length = 2 + parts.iter().map(|p| p.len()).sum::<usize>() as u16;
            out.extend([0xFF, marker]);
            out.extend(length.to_be_bytes());
            parts.iter().for_each(|part| out.extend(*part));
        };
        let colours = self.layout != Layout::Gray;
        let components = if colours { 2 } else { 1 };
        segment(0xE0, &[b"JFIF\0\x01\x02\0\0\x01\0\x01\0\0"]);
        if colours {
            segment(0xE2, &[b"ICC_PROFILE\0\x01\x01", srgb_profile()]);
        }
        for (i, quantiser) in self.quantisers.iter().enumerate().take(components) {
            segment(0xDB, &[&[i as u8], &tables::ZIGZAG.map(|place| quantiser[usize::from(place)])]);
        }
        let blocks = self.layout.luma_blocks() as u8;
        let luma = [1, blocks << 4 | blocks, 0];
        let frame = [&[8], height.to_be_bytes().as_slice(), &width.to_be_bytes()].concat();
        match colours {
            true => segment(0xC0, &[&frame, &[3], &luma, &[2, 0x11, 1], &[3, 0x11, 1]]),
            false => segment(0xC0, &[&frame, &[1], &luma]),
        }
        for (i, (dc, ac)) in (0u8..).zip(tables::DC.iter().zip(&tables::AC)).take(components) {
            segment(0xC4, &[&[i], &dc.lengths, dc.symbols]);
            segment(0xC4, &[&[0x10 | i], &ac.lengths, ac.symbols]);
        }
        let mcus = self.width.div_ceil(self.layout.mcu()) as u16;
        segment(0xDD, &[&mcus.to_be_bytes()]);
        match colours {
            true => segment(0xDA, &[&[3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0]]),
            false => segment(0xDA, &[&[1, 1, 0x00, 0, 63, 0]]),
        }
        out
    }
}

/// What the coding of a strip needs; kept from strip to strip.
#[derive(Default)]
struct Bench {
    planes: Planes,
    bits: Vec<u8>,
    coded: Vec<u8>,
}

impl Bench {
    fn code(&mut self, pixels: &[u8], coding: &Coding) {
        self.planes.fill(pixels, coding.width, coding.layout);
        self.coded.clear();
        #[cfg(target_arch = "x86_64")]
        if wide::avx2() {
            // SAFETY: the processor was asked on the line above.
            return unsafe { code_avx2(&self.planes, &mut self.bits, coding, &mut self.coded) };
        }
        code_strip(&self.planes, &mut self.bits, coding, &mut self.coded, |plane, stride, reciprocals, block| {
            block::portable(plane, stride, reciprocals, block);
            block::nonzero(block)
        });
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn code_avx2(planes: &Planes, bits: &mut Vec<u8>, coding: &Coding, out: &mut Vec<u8>) {
    code_strip(planes, bits, coding, out, |plane, stride, reciprocals, block| {
        block::avx2::block(plane, stride, reciprocals, block);
        block::avx2::nonzero(block)
    });
}

/// MCU by MCU: its luma blocks row by row, then Cb and Cr (T.81 A.2.3). `transform` makes a block and gives its mask.
#[inline(always)]
fn code_strip(
    planes: &Planes,
    bits: &mut Vec<u8>,
    coding: &Coding,
    out: &mut Vec<u8>,
    transform: impl Fn(&[u8], usize, &[f32; 64], &mut Block) -> u64,
) {
    let across = coding.layout.luma_blocks();
    let mcus = planes.luma.stride / coding.layout.mcu();
    let chroma: &[_] = if coding.layout == Layout::Gray { &[] } else { &planes.chroma };
    let mut bits = Bits::new(bits, mcus * (across * across + chroma.len()));
    let mut block: Block = [0; 64];
    let mut before = [0; 3];
    for mcu in 0..mcus {
        for i in 0..across * across {
            let at = i / across * 8 * planes.luma.stride + (mcu * across + i % across) * 8;
            let nonzero = transform(&planes.luma.samples[at..], planes.luma.stride, &coding.reciprocals[0], &mut block);
            bits.block(&block, nonzero, before[0], &coding.coders[0]);
            before[0] = block[0];
        }
        for (plane, before) in chroma.iter().zip(&mut before[1..]) {
            let nonzero = transform(&plane.samples[mcu * 8..], plane.stride, &coding.reciprocals[1], &mut block);
            bits.block(&block, nonzero, *before, &coding.coders[1]);
            *before = block[0];
        }
    }
    bits.finish(out);
}

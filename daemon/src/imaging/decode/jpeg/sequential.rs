//! The usual JPEG in one walk: sequential, Huffman, 8 bits, all components in one scan (ITU-T T.81 F.2). Its codes are read once, for
//! the pixels and to see that none is missing.
//!
//! ```text
//! codes --a row of MCUs--> blocks --> painter --> rows of pixels
//!   \----- the next rows on one core, while these are painted on another -----/
//! ```
//!
//! Anything else, and anything that is not as it should be, is left to the library and the check before it ([`super`]): they alone say
//! what is wrong with a file. What is accepted here they accept, too, with the same pixels (tests hold them together).
//!
//! Memory: blocks of 1 MB or of one row of MCUs, twice. Why: docs/decisions/0032-jpeg-in-one-walk.md.

mod codes;
mod paint;
mod transform;

use self::{
    codes::{Bits, Steps, Table},
    paint::{Blocks, Painter},
};
use super::{EOI, SOS, Segment, segments};
use crate::imaging::{cores, raster::Rgb, wide::wide};

/// Components, at most.
const MAX_PARTS: usize = 3;
/// Blocks that are handed over to another core at a time, bytes: it costs some 10 µs, and they should stay in the cache.
const HANDED_BYTES: usize = 1 << 20;

/// The pixels. None: it is for others to say.
pub(super) fn pixels(bytes: &[u8]) -> Option<Rgb> {
    let scan = Scan::read(bytes)?;
    let mut rgb = Rgb::new(scan.layout.width, scan.layout.height);
    scan.paint(&mut rgb.data)?;
    Some(rgb)
}

/// How a picture is cut into MCUs.
#[derive(Clone)]
struct Layout {
    /// Px.
    width: usize,
    height: usize,
    /// MCUs.
    across: usize,
    down: usize,
    /// 1 or 3: luma, Cb, Cr.
    parts: Vec<Part>,
}

/// A component. Blocks of an MCU along each side: 1, of luma up to 2.
#[derive(Clone)]
struct Part {
    id: u8,
    h: usize,
    v: usize,
    /// Which table of steps.
    steps: usize,
}

impl Layout {
    fn read(frame: &[u8]) -> Option<Self> {
        let [8, h1, h0, w1, w0, count, listed @ ..] = frame else { return None };
        let (width, height) = (usize::from(u16::from_be_bytes([*w1, *w0])), usize::from(u16::from_be_bytes([*h1, *h0])));
        let (listed, rest) = listed.as_chunks::<3>();
        let part = |[id, sides, steps]: &[u8; 3]| Part {
            id: *id,
            h: usize::from(sides >> 4),
            v: usize::from(sides & 15),
            steps: usize::from(*steps),
        };
        let parts: Vec<Part> = listed.iter().map(part).collect();
        let sides: Vec<_> = parts.iter().map(|part| (part.h, part.v)).collect();
        let usual = matches!(sides[..], [(1, 1)] | [(1 | 2, 1 | 2), (1, 1), (1, 1)]);
        let (h, v) = *sides.first()?;
        let whole = usual && rest.is_empty() && parts.len() == usize::from(*count) && width > 0 && height > 0;
        whole.then(|| Self { width, height, across: width.div_ceil(8 * h), down: height.div_ceil(8 * v), parts })
    }

    /// Blocks of a part in a row, with one more where that makes them even.
    fn blocks_across(&self, part: &Part) -> usize {
        (self.across * part.h).next_multiple_of(transform::PAIR)
    }

    /// DC and AC tables that a scan header names for each part, where it has all of them in order and all their values.
    fn chosen(&self, header: &[u8]) -> Option<Vec<(usize, usize)>> {
        let (count, rest) = header.split_first()?;
        let (named, band) = rest.split_at_checked(2 * self.parts.len())?;
        let named = named.as_chunks::<2>().0;
        let all = usize::from(*count) == self.parts.len() && named.iter().zip(&self.parts).all(|([id, _], part)| *id == part.id);
        let chosen = named.iter().map(|[_, tables]| (usize::from(tables >> 4), usize::from(tables & 15))).collect();
        (all && band == [0, 63, 0]).then_some(chosen)
    }

    fn blocks(&self) -> Blocks {
        let count = self.parts.iter().map(|part| part.v * self.blocks_across(part)).sum();
        Blocks { values: vec![[0; 64]; count], kinds: vec![codes::Kind::Flat; count] }
    }
}

/// A picture's only scan, with all that is needed to read it.
struct Scan<'a> {
    layout: Layout,
    tables: Tables,
    /// DC and AC tables of each part.
    chosen: Vec<(usize, usize)>,
    /// MCUs between restarts; 0: none.
    restart: usize,
    data: &'a [u8],
}

impl<'a> Scan<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut tables = Tables::default();
        let (mut layout, mut restart) = (None, 0);
        let mut walk = segments(bytes);
        while let Some(Ok(Segment { marker, whole, payload })) = walk.next() {
            let body = &bytes[payload.clone()];
            match marker {
                0xC0 | 0xC1 if layout.is_none() => layout = Some(Layout::read(body)?),
                0xC4 => tables.add_codes(body)?,
                0xDB => tables.add_steps(body)?,
                0xDD => restart = usize::from(u16::from_be_bytes(body.try_into().ok()?)),
                0xE0..=0xEF | 0xFE => {}
                SOS => {
                    let end = walk.next()?.ok()?;
                    let layout = layout.filter(|_| end.marker == EOI && end.whole.start == whole.end && !walk.junk)?;
                    let chosen = layout.chosen(body)?;
                    return Some(Self { layout, tables, chosen, restart, data: &bytes[payload.end..whole.end] });
                }
                _ => return None,
            }
        }
        None
    }

    fn paint(&self, pixels: &mut [u8]) -> Option<()> {
        let mut reader = Reader::new(self)?;
        let mut painter = Painter::new(&self.layout);
        let row_bytes = std::mem::size_of_val(&self.layout.blocks().values[..]);
        let at_once = if cores::alone() { 1 } else { (HANDED_BYTES / row_bytes).clamp(1, self.layout.down) };
        let batch = || -> Vec<Blocks> { (0..at_once).map(|_| self.layout.blocks()).collect() };
        let (mut these, mut those) = (batch(), batch());
        let (mut read, mut left, mut painted) = (0, self.layout.down, 0);
        while read + left > 0 {
            let next = left.min(at_once);
            let (all_there, ()) = cores::both(
                || those[..next].iter_mut().try_for_each(|blocks| row(&mut reader, blocks)),
                || these[..read].iter().for_each(|blocks| painted += painter.row(blocks, &mut pixels[painted..])),
            );
            all_there?;
            std::mem::swap(&mut these, &mut those);
            (read, left) = (next, left - next);
        }
        reader.bits.ended().then_some(())
    }
}

/// Tables by the places that a file gives them.
#[derive(Default)]
struct Tables {
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    steps: [Option<Steps>; 4],
}

impl Tables {
    fn add_codes(&mut self, mut body: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = body {
            let (counts, rest) = rest.split_at_checked(16)?;
            let (symbols, rest) = rest.split_at_checked(counts.iter().map(|n| usize::from(*n)).sum())?;
            let tables = [&mut self.dc, &mut self.ac].into_iter().nth(usize::from(kind >> 4))?;
            *tables.get_mut(usize::from(kind & 15))? = Some(Table::new(counts, symbols)?);
            body = rest;
        }
        Some(())
    }

    /// Steps of 8 bits; an upper half of `place` other than 0 says 16.
    fn add_steps(&mut self, mut body: &[u8]) -> Option<()> {
        while let [place, rest @ ..] = body {
            let (steps, rest) = rest.split_first_chunk()?;
            *self.steps.get_mut(usize::from(*place))? = Some(Steps::new(steps));
            body = rest;
        }
        Some(())
    }
}

/// One block of an MCU.
struct Slot<'a> {
    part: usize,
    /// Its place in the row's blocks: `first + step * MCU`.
    first: usize,
    step: usize,
    dc: &'a Table,
    ac: &'a Table,
    steps: &'a Steps,
}

/// Where the reading of a scan has come to.
struct Reader<'a> {
    slots: Vec<Slot<'a>>,
    /// MCUs a row.
    across: usize,
    bits: Bits<'a>,
    /// DC values of each part's last block.
    before: [i32; MAX_PARTS],
    /// MCUs between restarts, and until the next one; many where there is none.
    restart: usize,
    until_restart: usize,
    restarts: usize,
}

impl<'a> Reader<'a> {
    fn new(scan: &'a Scan<'_>) -> Option<Self> {
        let mut slots = Vec::new();
        let mut first = 0;
        for (number, (part, (dc, ac))) in scan.layout.parts.iter().zip(&scan.chosen).enumerate() {
            let (dc, ac) = (scan.tables.dc.get(*dc)?.as_ref()?, scan.tables.ac.get(*ac)?.as_ref()?);
            let steps = scan.tables.steps.get(part.steps)?.as_ref()?;
            for _ in 0..part.v {
                slots.extend((0..part.h).map(|h| Slot { part: number, first: first + h, step: part.h, dc, ac, steps }));
                first += scan.layout.blocks_across(part);
            }
        }
        let restart = if scan.restart == 0 { usize::MAX } else { scan.restart };
        let bits = Bits::new(scan.data);
        Some(Self { slots, across: scan.layout.across, bits, before: [0; MAX_PARTS], restart, until_restart: restart, restarts: 0 })
    }
}

wide! {
    /// The next row of MCUs. None: something is missing or damaged, or beyond what is usual.
    fn row(reader: &mut Reader<'_>, blocks: &mut Blocks) -> Option<()> {
        // In registers for the row: nothing here takes their address.
        let (mut bits, mut before, mut until_restart) = (reader.bits, reader.before, reader.until_restart);
        for mcu in 0..reader.across {
            if until_restart == 0 {
                bits = bits.restarted(reader.restarts)?;
                reader.restarts += 1;
                (before, until_restart) = ([0; MAX_PARTS], reader.restart);
            }
            until_restart -= 1;
            for slot in &reader.slots {
                let place = slot.first + slot.step * mcu;
                let block = &mut blocks.values[place];
                blocks.kinds[place] = bits.block(slot.dc, slot.ac, slot.steps, &mut before[slot.part], block)?;
            }
        }
        (reader.bits, reader.before, reader.until_restart) = (bits, before, until_restart);
        bits.whole().then_some(())
    }
}

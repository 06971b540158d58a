//! A picture in overlapping tiles, for a network that sees one window at a time, and the answers laid together again.
//!
//! ```text
//!   one window    |<- overlap ->|<----------------- kept ----------------->|<- overlap ->|
//!   the next one                           |<- overlap ->|<- FADE ->|<----- kept ...
//!                                                        neighbours share FADE px: one fades into the other
//! ```
//!
//! A network knows less of what lies near the rim of its window: that rim is the overlap, and is not kept. Where the overlap is as wide
//! as the network sees, neighbours agree to the last bit and the fade changes nothing; where it sees further than a tile can afford, the
//! fade turns a step into a slope that nobody sees. Beyond the picture's edges its edge pixels are repeated.
//!
//! Rows and columns of tiles are independent, so both are the same list of [`Span`]s. The whole picture is never held: [`Mosaic`] gives
//! its rows out strip by strip.

use super::raster::Rgb;

/// px of the source in which neighbours fade into each other.
pub const FADE: usize = 8;
/// Fitted windows are a multiple of this, px: networks that halve their input inside want it.
const MULTIPLE: usize = 8;

/// A row or column of tiles; px of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// What is kept of the answer: from..to.
    pub from: usize,
    pub to: usize,
    /// Where the window begins; may lie before the picture.
    pub window: isize,
}

impl Span {
    pub fn kept(&self) -> usize {
        self.to - self.from
    }

    /// Where the kept part begins within the window.
    pub fn inset(&self) -> usize {
        (self.from as isize - self.window) as usize
    }
}

/// How a picture is cut. Tiles are the crossings of rows and columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiles {
    pub columns: Vec<Span>,
    pub rows: Vec<Span>,
    /// Size of each window, px.
    pub width: usize,
    pub height: usize,
}

/// The smallest window that leaves room for two fades between its overlaps.
pub const fn smallest(overlap: usize) -> usize {
    2 * overlap + 2 * FADE
}

impl Tiles {
    /// Windows of one given size, for networks and providers that want no other. `overlap` in px.
    ///
    /// # Panics
    /// Where a side is below [`smallest`].
    pub fn fixed(picture: (usize, usize), (width, height): (usize, usize), overlap: usize) -> Self {
        Self { columns: spans(picture.0, width, overlap), rows: spans(picture.1, height, overlap), width, height }
    }

    /// As few windows as sides of at most `most` px allow, none larger than it need be: a small picture is not paid for as a large one.
    ///
    /// # Panics
    /// Where `most` is below [`smallest`].
    pub fn fitted(picture: (usize, usize), most: usize, overlap: usize) -> Self {
        let side = |length: usize| {
            let count = spans(length, most, overlap).len();
            let kept = (length + (count - 1) * FADE).div_ceil(count).max(2 * FADE);
            (kept + 2 * overlap).next_multiple_of(MULTIPLE).min(most)
        };
        Self::fixed(picture, (side(picture.0), side(picture.1)), overlap)
    }

    pub fn count(&self) -> usize {
        self.columns.len() * self.rows.len()
    }
}

fn spans(length: usize, window: usize, overlap: usize) -> Vec<Span> {
    assert!(window >= smallest(overlap), "a window of {window} px has no room between overlaps of {overlap} px");
    let kept = window - 2 * overlap;
    let step = kept - FADE;
    // The last one has more than FADE px of its own, or it would not be there.
    let count = length.saturating_sub(FADE).div_ceil(step).max(1);
    let span = |i: usize| Span { from: i * step, to: (i * step + kept).min(length), window: (i * step) as isize - overlap as isize };
    (0..count).map(span).collect()
}

/// The part of a picture at (x, y), width x height x 3; outside, the picture's edge pixels are repeated. The picture has a pixel.
pub fn cut(src: &Rgb, (x, y): (isize, isize), (width, height): (usize, usize)) -> Rgb {
    let mut out = Rgb::new(width, height);
    let inside = |at: isize, side: usize| at.clamp(0, side as isize - 1) as usize;
    // Columns before the picture, in it, and behind it.
    let left = x.min(0).unsigned_abs().min(width);
    let from = x.max(0) as usize;
    let within = src.width.saturating_sub(from).min(width - left);
    for (r, row) in out.data.chunks_exact_mut((width * 3).max(3)).enumerate() {
        let line = src.row(inside(y + r as isize, src.height));
        row[..left * 3].chunks_exact_mut(3).for_each(|px| px.copy_from_slice(&line[..3]));
        row[left * 3..(left + within) * 3].copy_from_slice(&line[from.min(src.width) * 3..][..within * 3]);
        row[(left + within) * 3..].chunks_exact_mut(3).for_each(|px| px.copy_from_slice(&line[line.len() - 3..]));
    }
    out
}

/// The answers of a picture's tiles, laid together row of tiles by row of tiles. Memory: one strip and its fade.
pub struct Mosaic {
    scale: usize,
    /// Bytes of a row of the result.
    row_bytes: usize,
    strip: Vec<u8>,
    /// The last rows of the strip above, which the next one fades in over.
    above: Vec<u8>,
}

impl Mosaic {
    /// `width`: px of the source; `scale`: result side / source side.
    pub fn new(width: usize, scale: usize) -> Self {
        Self { scale, row_bytes: width * scale * 3, strip: Vec::new(), above: Vec::new() }
    }

    /// Begins a row of tiles.
    pub fn begin(&mut self, row: &Span) {
        self.strip = vec![0; row.kept() * self.scale * self.row_bytes];
    }

    /// Lays the next tile of the row, from left to right. `piece`: what is kept of its answer, `scale` times the span.
    pub fn lay(&mut self, column: &Span, piece: &Rgb) {
        let fade = if column.from > 0 { FADE * self.scale } else { 0 };
        let at = column.from * self.scale * 3;
        for (y, line) in self.strip.chunks_exact_mut(self.row_bytes).enumerate() {
            let (into, new) = (&mut line[at..at + piece.width * 3], piece.row(y));
            let (mixed, rest) = into.split_at_mut(fade * 3);
            for (t, (old, new)) in mixed.chunks_exact_mut(3).zip(new.chunks_exact(3)).enumerate() {
                mix(old, new, t, fade);
            }
            rest.copy_from_slice(&new[fade * 3..]);
        }
    }

    /// Ends a row of tiles: the rows of the result that no further tile touches. `last`: there is no further row of tiles.
    pub fn end(&mut self, last: bool) -> Vec<u8> {
        let fade = FADE * self.scale;
        for (t, (old, new)) in self.above.chunks_exact(self.row_bytes).zip(self.strip.chunks_exact_mut(self.row_bytes)).enumerate() {
            let w = fade - 1 - t; // `mix` writes into the old; here the old one is the source
            mix(new, old, w, fade);
        }
        let mut strip = std::mem::take(&mut self.strip);
        self.above = if last { Vec::new() } else { strip.split_off(strip.len() - fade * self.row_bytes) };
        strip
    }
}

/// `into` a step nearer to `other`: (2 t + 1) / (2 n) of the way, rounded. Equal values stay what they are.
fn mix(into: &mut [u8], other: &[u8], t: usize, n: usize) {
    let (share, whole) = ((2 * t + 1) as u32, (2 * n) as u32);
    for (a, b) in into.iter_mut().zip(other) {
        *a = ((u32::from(*a) * (whole - share) + u32::from(*b) * share + whole / 2) / whole) as u8;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn picture(width: usize, height: usize) -> Rgb {
        Rgb { width, height, data: (0..width * height * 3).map(|i| (i * 31 % 251) as u8).collect() }
    }

    /// What a network that only enlarges would answer: each pixel repeated.
    fn enlarged(part: &Rgb, scale: usize) -> Rgb {
        let mut out = Rgb::new(part.width * scale, part.height * scale);
        for y in 0..out.height {
            for x in 0..out.width {
                out.set(x, y, part.px(x / scale, y / scale));
            }
        }
        out
    }

    fn assembled(tiles: &Tiles, (width, scale): (usize, usize), mut piece: impl FnMut(&Span, &Span) -> Rgb) -> Vec<u8> {
        let mut mosaic = Mosaic::new(width, scale);
        let mut all = Vec::new();
        for (i, row) in tiles.rows.iter().enumerate() {
            mosaic.begin(row);
            for column in &tiles.columns {
                mosaic.lay(column, &piece(column, row));
            }
            all.extend(mosaic.end(i + 1 == tiles.rows.len()));
        }
        all
    }

    proptest! {
        #[test]
        fn spans_cover_a_picture_in_order_sharing_a_fade_and_each_lies_in_its_window(
            length in 1usize..400, overlap in 0usize..12, room in 0usize..60, fitted in any::<bool>(),
        ) {
            let most = (smallest(overlap) + room).next_multiple_of(MULTIPLE);
            let tiles = if fitted { Tiles::fitted((length, 1), most, overlap) } else { Tiles::fixed((length, 1), (most, most), overlap) };
            prop_assert!(tiles.width <= most && tiles.width >= smallest(overlap));
            let spans = &tiles.columns;
            prop_assert_eq!((spans[0].from, spans[spans.len() - 1].to), (0, length));
            for s in spans {
                prop_assert!(s.kept() > 0 && s.inset() == overlap && s.inset() + s.kept() + overlap <= tiles.width);
            }
            for pair in spans.windows(2) {
                prop_assert_eq!(pair[1].from + FADE, pair[0].to, "neighbours share a fade");
            }
            for three in spans.windows(3) {
                prop_assert!(three[0].to <= three[2].from, "no pixel lies in three tiles of a row");
            }
            let plain = Tiles::fixed((length, 1), (most, most), overlap);
            prop_assert!(tiles.columns.len() <= plain.columns.len(), "fitting costs no tile");
        }

        #[test]
        fn tiles_cut_and_laid_together_are_the_picture(
            width in 1usize..90, height in 1usize..90, overlap in 0usize..6, room in 0usize..24, scale in 1usize..4,
        ) {
            let src = picture(width, height);
            let tiles = Tiles::fitted((width, height), (smallest(overlap) + room).next_multiple_of(MULTIPLE), overlap);
            let all = assembled(&tiles, (width, scale), |column, row| {
                let window = cut(&src, (column.window, row.window), (tiles.width, tiles.height));
                enlarged(&window.crop(column.inset(), row.inset(), column.kept(), row.kept()), scale)
            });
            prop_assert_eq!(all, enlarged(&src, scale).data);
        }

        #[test]
        fn a_cut_is_the_picture_with_its_edges_repeated(w in 1usize..12, h in 1usize..12, x in -9isize..20, y in -9isize..20, n in 1usize..16) {
            let src = picture(w, h);
            let part = cut(&src, (x, y), (n, n + 1));
            let at = |v: isize, side: usize| v.clamp(0, side as isize - 1) as usize;
            for r in 0..n + 1 {
                for c in 0..n {
                    prop_assert_eq!(part.px(c, r), src.px(at(x + c as isize, w), at(y + r as isize, h)));
                }
            }
        }
    }

    #[test]
    fn tiles_that_disagree_fade_into_each_other_without_a_step() {
        let tiles = Tiles::fixed((60, 60), (40, 40), 4);
        assert_eq!(tiles.count(), 9);
        let all = assembled(&tiles, (60, 2), |column, row| {
            // Each tile is brighter than the one before it by 50, to the right and downwards.
            let level = (50 * (column.from / 24 + row.from / 24)) as u8;
            Rgb { width: 2 * column.kept(), height: 2 * row.kept(), data: vec![level; 12 * column.kept() * row.kept()] }
        });
        let value = |x: usize, y: usize| i32::from(all[(y * 120 + x) * 3]);
        assert_eq!((value(0, 0), value(119, 0), value(119, 119)), (0, 100, 200));
        for y in 0..119 {
            for x in 0..119 {
                let step = (value(x + 1, y) - value(x, y)).max(value(x, y + 1) - value(x, y));
                assert!((0..=5).contains(&step), "a step of {step} at {x}, {y}");
            }
        }
    }
}

//! A picture in overlapping tiles of one size, for a network with a fixed input.
//!
//! ```text
//!  <------- size ------->         window: what the network sees, always size x size
//!  +--------------------+
//!  | overlap            |         core: what is kept of its answer; the cores tile the picture,
//!  |   +------------+   |               every pixel lies in exactly one
//!  |   |    core    |   |
//!  |   +------------+   |         beyond the picture's edges its edge pixels are repeated
//!  +--------------------+
//! ```
//!
//! Without overlap a network shows seams: it sees less around the pixels at the rim of its input.

use super::raster::Rgb;

/// One tile; all in px of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// The core.
    pub x: usize,
    pub y: usize,
    pub w: usize,
    pub h: usize,
    /// Corner of the window; may lie outside of the source.
    pub in_x: isize,
    pub in_y: isize,
    /// Side of the window.
    pub size: usize,
}

impl Tile {
    /// Where the core begins within the window, px: (x, y).
    pub fn core_in_window(&self) -> (usize, usize) {
        ((self.x as isize - self.in_x) as usize, (self.y as isize - self.in_y) as usize)
    }
}

/// Tiles in reading order. `tile`: side of a window; `overlap`: px of it on each side that are not kept, below `tile / 2`.
///
/// # Panics
/// Where no core is left between the overlaps: both numbers come from a checked manifest.
pub fn plan(width: usize, height: usize, tile: usize, overlap: usize) -> Vec<Tile> {
    assert!(tile > 2 * overlap, "a tile of {tile} px has no core between overlaps of {overlap} px");
    let step = tile - 2 * overlap;
    let row = |y: usize| {
        (0..width).step_by(step).map(move |x| Tile {
            x,
            y,
            w: step.min(width - x),
            h: step.min(height - y),
            in_x: x as isize - overlap as isize,
            in_y: y as isize - overlap as isize,
            size: tile,
        })
    };
    (0..height).step_by(step).flat_map(row).collect()
}

/// The window of a tile, size x size x 3, the source's edges repeated. The source has at least one pixel.
pub fn cut(src: &Rgb, t: &Tile) -> Rgb {
    let mut out = Rgb::new(t.size, t.size);
    let inside = |at: isize, side: usize| at.clamp(0, side as isize - 1) as usize;
    for (r, row) in out.data.chunks_exact_mut(t.size * 3).enumerate() {
        let line = src.row(inside(t.in_y + r as isize, src.height));
        for (c, px) in row.chunks_exact_mut(3).enumerate() {
            let x = inside(t.in_x + c as isize, src.width) * 3;
            px.copy_from_slice(&line[x..x + 3]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_pixel_lies_in_exactly_one_core_with_its_overlap_around_it(
            width in 1usize..90, height in 1usize..90, overlap in 0usize..12, core in 1usize..40,
        ) {
            let tile = core + 2 * overlap;
            let mut seen = vec![0u8; width * height];
            for t in plan(width, height, tile, overlap) {
                prop_assert!(t.size == tile && t.w > 0 && t.h > 0);
                prop_assert_eq!(t.core_in_window(), (overlap, overlap));
                prop_assert!(t.w + 2 * overlap <= tile && t.h + 2 * overlap <= tile);
                for y in t.y..t.y + t.h {
                    for x in t.x..t.x + t.w {
                        seen[y * width + x] += 1;
                    }
                }
            }
            prop_assert!(seen.iter().all(|n| *n == 1));
        }

        #[test]
        fn cores_cut_and_laid_together_are_the_picture(width in 1usize..40, height in 1usize..40, overlap in 0usize..6, core in 1usize..20) {
            let src = Rgb { width, height, data: (0..width * height * 3).map(|i| (i * 31 % 251) as u8).collect() };
            let mut back = Rgb::new(width, height);
            for t in plan(width, height, core + 2 * overlap, overlap) {
                let window = cut(&src, &t);
                prop_assert_eq!((window.width, window.height), (t.size, t.size));
                let (cx, cy) = t.core_in_window();
                for y in 0..t.h {
                    for x in 0..t.w {
                        back.set(t.x + x, t.y + y, window.px(cx + x, cy + y));
                    }
                }
            }
            prop_assert_eq!(back, src);
        }
    }

    #[test]
    fn beyond_the_edges_the_edge_pixels_are_repeated() {
        let src = Rgb { width: 2, height: 1, data: vec![1, 2, 3, 7, 8, 9] };
        let window = cut(&src, &plan(2, 1, 6, 2)[0]);
        assert_eq!((window.px(0, 0), window.px(5, 5)), ([1, 2, 3], [7, 8, 9]));
    }
}

//! A super-resolution network by overlapping tiles, as rows: one row of tiles is held, never the whole result.
//!
//! Each tile's answer goes through a gate before it is kept. In fp16, Real-ESRGAN can give black tiles or NaN; a picture with one such
//! tile must not be shown, so the first bad tile ends the network's try and Lanczos makes the whole picture.

use super::{Halt, Steps, save::Brake};
use crate::{
    imaging::{
        raster::{Rgb, Rows},
        tile::{self, Tile},
    },
    inference::{
        Engine,
        manifest::{ModelRow, Order},
    },
    ports::Tensor,
};

/// px of the photo on each side of a tile that are not kept: narrower, and seams show in flat skin.
const OVERLAP: usize = 16;
/// Smallest window, px.
const MIN_TILE: usize = 64;
/// Windows are a multiple of this, px: networks that halve their input inside want it.
const MULTIPLE: usize = 8;
/// How far the mean of a channel may move, 0..1. Sharpening leaves it; a broken tile does not.
const MAX_SHIFT: f64 = 0.06;
/// A tile with this much contrast (standard deviation, 0..1) must keep [`MIN_KEPT`] of it.
const CONTRAST: f64 = 0.03;
const MIN_KEPT: f64 = 0.3;
/// The network's share of the step (see `enhance`).
const SHARE: (f32, f32) = (0.05, 1.0);

/// The picture, `scale` times larger, as rows. After it was read, [`NetworkRows::failed`] says whether it is one.
pub struct NetworkRows<'a, 'b> {
    source: &'a Rgb,
    row: &'a ModelRow,
    engine: &'a Engine,
    steps: &'a Steps<'b>,
    brake: &'a Brake,
    tiles: Vec<Tile>,
    window: usize,
    /// Tiles that were run.
    done: usize,
    /// The last row of tiles: `width x strip_height x 3`, and the next row of it to hand out.
    strip: Vec<u8>,
    at: usize,
    failed: Option<String>,
}

impl<'a, 'b> NetworkRows<'a, 'b> {
    /// `tile`: the window's side, px of the photo, overlap included. `exact`: windows keep that size for a small picture too (a GPU
    /// provider may build an engine for each new shape, which takes minutes; a CPU would only do work for nothing).
    pub fn new(
        source: &'a Rgb,
        row: &'a ModelRow,
        engine: &'a Engine,
        (tile, exact): (usize, bool),
        steps: &'a Steps<'b>,
        brake: &'a Brake,
    ) -> Self {
        let needed = (source.width.max(source.height) + 2 * OVERLAP).next_multiple_of(MULTIPLE);
        let wanted = tile.max(MIN_TILE).next_multiple_of(MULTIPLE);
        let window = if exact { wanted } else { wanted.min(needed).max(MIN_TILE) };
        let tiles = tile::plan(source.width, source.height, window, OVERLAP);
        Self { source, row, engine, steps, brake, tiles, window, done: 0, strip: Vec::new(), at: 0, failed: None }
    }

    pub fn failed(&self) -> Option<String> {
        self.failed.clone()
    }

    /// Side of a window, px of the photo.
    pub fn tile(&self) -> usize {
        self.window
    }

    pub fn overlap(&self) -> usize {
        OVERLAP
    }

    pub fn tiles(&self) -> usize {
        self.tiles.len()
    }

    /// Runs the next row of tiles into the strip.
    fn next_strip(&mut self) -> Result<(), Halt> {
        let scale = self.row.scale;
        let Some(first) = self.tiles.get(self.done).copied() else { return Ok(()) };
        let wide = self.source.width * scale * 3;
        self.strip.clear();
        self.strip.resize(wide * first.h * scale, 0);
        self.at = 0;
        while let Some(tile) = self.tiles.get(self.done).copied().filter(|t| t.y == first.y) {
            let done = self.done as f32 / self.tiles.len() as f32;
            self.steps.at(SHARE.0 + (SHARE.1 - SHARE.0) * done)?;
            let window = tile::cut(self.source, &tile);
            let out = self.engine.run(&self.row.name, &tensor(&window, self.row)).map_err(|e| self.fail(e.detail))?;
            let out = out.first().filter(|t| t.shape == [1, 3, self.window * scale, self.window * scale]);
            let out = out.ok_or_else(|| self.fail("its output has another size than it should".into()))?;
            let values = |c: usize, y: usize, x: usize| value(out, self.row, c, y, x);
            gate(&window, &tile, scale, values).map_err(|why| self.fail(why))?;
            let (cx, cy) = tile.core_in_window();
            for y in 0..tile.h * scale {
                let line = &mut self.strip[y * wide + tile.x * scale * 3..][..tile.w * scale * 3];
                for (x, px) in line.chunks_exact_mut(3).enumerate() {
                    for (c, v) in px.iter_mut().enumerate() {
                        *v = (values(c, cy * scale + y, cx * scale + x).clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
                    }
                }
            }
            self.done += 1;
        }
        Ok(())
    }

    /// Keeps why, and gives something to stop the encoder with; the caller asks [`NetworkRows::failed`] first.
    fn fail(&mut self, why: String) -> Halt {
        self.failed = Some(why);
        Halt::Stop
    }
}

impl Rows for NetworkRows<'_, '_> {
    fn width(&self) -> usize {
        self.source.width * self.row.scale
    }
    fn height(&self) -> usize {
        self.source.height * self.row.scale
    }
    fn channels(&self) -> usize {
        3
    }
    fn next_row(&mut self, out: &mut [u8]) {
        if self.brake.pulled() {
            return;
        }
        if self.at * out.len() >= self.strip.len()
            && let Err(halt) = self.next_strip()
        {
            return self.brake.pull(halt);
        }
        out.copy_from_slice(&self.strip[self.at * out.len()..][..out.len()]);
        self.at += 1;
    }
}

/// H x W x 3 bytes to 1 x 3 x H x W in the manifest's range and order.
fn tensor(window: &Rgb, row: &ModelRow) -> Tensor {
    let [black, white] = row.input.range;
    let px = window.width * window.height;
    let mut data = vec![0.0; 3 * px];
    for (c, plane) in data.chunks_exact_mut(px).enumerate() {
        let from = if row.input.order == Order::Rgb { c } else { 2 - c };
        for (v, rgb) in plane.iter_mut().zip(window.data.chunks_exact(3)) {
            *v = black + (white - black) * f32::from(rgb[from]) / 255.0;
        }
    }
    Tensor { shape: vec![1, 3, window.height, window.width], data }
}

/// A channel of the answer at (y, x) of the enlarged window, 0..1 for black to white, not clamped.
fn value(out: &Tensor, row: &ModelRow, c: usize, y: usize, x: usize) -> f32 {
    let (h, w) = (out.shape[2], out.shape[3]);
    let c = if row.input.order == Order::Rgb { c } else { 2 - c };
    let [black, white] = row.input.range;
    (out.data[(c * h + y) * w + x] - black) / (white - black)
}

/// Whether the answer over a tile's core is still that picture: finite, of the same mean colour, not flat where the photo is not.
fn gate(window: &Rgb, tile: &Tile, scale: usize, value: impl Fn(usize, usize, usize) -> f32) -> Result<(), String> {
    let (cx, cy) = tile.core_in_window();
    for c in 0..3 {
        let before = spread((cy..cy + tile.h).flat_map(|y| (cx..cx + tile.w).map(move |x| f64::from(window.px(x, y)[c]) / 255.0)));
        let (rows, columns) = (cy * scale..(cy + tile.h) * scale, cx * scale..(cx + tile.w) * scale);
        let value = &value;
        let after = spread(rows.flat_map(|y| columns.clone().map(move |x| f64::from(value(c, y, x)))));
        let at = format!("the tile at {}, {}", tile.x, tile.y);
        if !(after.0.is_finite() && after.1.is_finite()) {
            return Err(format!("{at} is not finite"));
        }
        if (after.0 - before.0).abs() > MAX_SHIFT {
            return Err(format!("{at} changed its colour by {:.2}", after.0 - before.0));
        }
        if before.1 > CONTRAST && after.1 < MIN_KEPT * before.1 {
            return Err(format!("{at} lost its contrast"));
        }
    }
    Ok(())
}

/// Mean and standard deviation.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (n, sum, squares) = values.fold((0.0, 0.0, 0.0), |(n, s, q), v| (n + 1.0, s + v, q + v * v));
    let mean = sum / f64::max(n, 1.0);
    // No `max` on a NaN: it would hide it.
    let variance = squares / f64::max(n, 1.0) - mean * mean;
    (mean, if variance < 0.0 { 0.0 } else { variance.sqrt() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn black_flat_shifted_and_undefined_tiles_do_not_pass_the_gate_and_the_picture_itself_does() {
        let window = Rgb { width: 64, height: 64, data: (0..64 * 64 * 3).map(|i| (i * 37 % 200) as u8).collect() };
        let tile = tile::plan(32, 32, 64, 16)[0];
        let same = |c: usize, y: usize, x: usize| f32::from(window.px(x / 4, y / 4)[c]) / 255.0;
        assert_eq!(gate(&window, &tile, 4, same), Ok(()));
        let mean = |_: usize, _: usize, _: usize| 0.39;
        assert!(gate(&window, &tile, 4, mean).expect_err("flat").contains("contrast"));
        assert!(gate(&window, &tile, 4, |_, _, _| 0.0).expect_err("black").contains("colour"));
        assert!(gate(&window, &tile, 4, |c, y, x| same(c, y, x) + 0.1).expect_err("shifted").contains("colour"));
        let hole = |c: usize, y: usize, x: usize| if (y, x) == (100, 100) { f32::NAN } else { same(c, y, x) };
        assert!(gate(&window, &tile, 4, hole).expect_err("one NaN").contains("finite"));
    }
}

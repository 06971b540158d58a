//! A super-resolution network over a picture, tile by tile, as strips of rows: one row of tiles is held, never the whole result.
//!
//! ```text
//!   tiles of a row --cut--> windows --batch--> network --> pixels --gate--> mosaic --end of the row--> a strip of the result
//!                                        |                    | no picture
//!                                        |                    v
//!                                        +<--- second try: the tile again, in fp32 ---> no picture either: the network's try ends
//! ```
//!
//! In fp16, Real-ESRGAN can give black tiles or NaN. A tile that is no picture ([`gate`]) is run again in fp32: by a copy without
//! TensorRT, or once more where the network runs in fp32 on the CPU anyway. Where that is none either, Lanczos makes the whole picture.

use super::{Halt, Steps, Stop, gate, tensor};
use crate::{
    domain::fault::Fault,
    imaging::{
        raster::Rgb,
        tile::{self, Mosaic, Span, Tiles},
    },
    inference::{Engine, RunError, RunsOn, manifest::ModelRow, window},
    ports::{Model, RunStop, Tensor},
};

/// The network's share of the step (see `enhance`).
const SHARE: (f32, f32) = (0.05, 1.0);

/// Why there is no picture by the network.
pub enum Unmade {
    Halt(Halt),
    /// For the report; Lanczos takes over.
    NoPicture(String),
}

impl From<RunError> for Unmade {
    fn from(e: RunError) -> Self {
        match e {
            RunError::Unusable(e) => Unmade::NoPicture(e.detail),
            RunError::Stopped | RunError::Failed(_) => Unmade::Halt(e.into()),
        }
    }
}

impl From<Halt> for Unmade {
    fn from(halt: Halt) -> Self {
        Unmade::Halt(halt)
    }
}

impl From<Stop> for Unmade {
    fn from(stop: Stop) -> Self {
        Unmade::Halt(stop.into())
    }
}

impl From<Fault> for Unmade {
    fn from(fault: Fault) -> Self {
        Unmade::Halt(fault.into())
    }
}

/// What runs tiles: the device's engine, or a test's own.
pub trait Runs {
    fn run(&self, input: &Tensor) -> Result<Vec<Tensor>, RunError>;
    /// A copy in fp32 for the second try.
    fn plain(&self) -> Result<Box<dyn Model>, RunError>;
    /// Ends runs of that copy.
    fn stop(&self) -> RunStop {
        RunStop::default()
    }
}

/// A network of the engine.
pub struct Loaded<'a> {
    pub engine: &'a Engine,
    pub name: &'a str,
}

impl Runs for Loaded<'_> {
    fn run(&self, input: &Tensor) -> Result<Vec<Tensor>, RunError> {
        self.engine.run(self.name, input)
    }
    fn plain(&self) -> Result<Box<dyn Model>, RunError> {
        self.engine.load_plain(self.name)
    }
    fn stop(&self) -> RunStop {
        self.engine.stop().clone()
    }
}

/// One picture on its way through a network.
pub struct Network<'a, 'b> {
    source: &'a Rgb,
    row: &'a ModelRow,
    tries: Tries<'a>,
    steps: &'a Steps<'b>,
    tiles: Tiles,
    /// Tiles in one run.
    batch: usize,
    /// Runs have always `batch` tiles: a GPU may build an engine for each new shape, which takes minutes.
    full: bool,
}

impl<'a, 'b> Network<'a, 'b> {
    /// `tile`: the longest side of a window, px of the photo, overlap included. Err: the network's own input has no room for a tile.
    pub fn new(
        source: &'a Rgb,
        row: &'a ModelRow,
        runs: &'a dyn Runs,
        runs_on: &RunsOn,
        tile: usize,
        steps: &'a Steps<'b>,
    ) -> Result<Self, Unmade> {
        let gpu = runs_on.provider != "cpu";
        let tiles = cut_for((source.width, source.height), row, tile, gpu).map_err(Unmade::NoPicture)?;
        Ok(Self { source, row, tries: Tries::new(runs, runs_on), steps, tiles, batch: batch(row, runs_on), full: gpu })
    }

    /// px of the photo.
    pub fn longest_side(&self) -> usize {
        self.tiles.width.max(self.tiles.height)
    }

    pub fn tiles(&self) -> usize {
        self.tiles.count()
    }

    /// What the report says of tiles that needed their second try.
    pub fn tried_again(&self) -> Option<String> {
        let first = self.tries.first_failure()?;
        Some(format!("{} of {} tiles were run again in fp32: {first}", self.tries.count, self.tiles.count()))
    }

    /// Makes the picture, `scale` times larger, and hands it on in strips of whole rows, each W x 3 bytes, from top to bottom. `each` says
    /// whether it wants more. A checkpoint before each run.
    pub fn strips(&mut self, mut each: impl FnMut(Vec<u8>) -> bool) -> Result<(), Unmade> {
        let mut mosaic = Mosaic::new(self.source.width, self.row.scale);
        let (rows, columns) = (self.tiles.rows.clone(), self.tiles.columns.clone());
        for (r, row) in rows.iter().enumerate() {
            mosaic.begin(row);
            for (b, some) in columns.chunks(self.batch).enumerate() {
                let done = (r * columns.len() + b * self.batch) as f32 / self.tiles.count() as f32;
                self.steps.at(SHARE.0 + (SHARE.1 - SHARE.0) * done)?;
                for (column, piece) in some.iter().zip(self.run(row, some)?) {
                    mosaic.lay(column, &piece);
                }
            }
            if !each(mosaic.end(r + 1 == rows.len())) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What is kept of the answers for some tiles of a row.
    fn run(&mut self, row: &Span, columns: &[Span]) -> Result<Vec<Rgb>, Unmade> {
        let size = (self.tiles.width, self.tiles.height);
        let mut windows: Vec<Rgb> = columns.iter().map(|c| tile::cut(self.source, (c.window, row.window), size)).collect();
        while self.full && windows.len() < self.batch {
            windows.push(windows[0].clone());
        }
        let answer = one(self.tries.first(&tensor::of(&windows, self.row))?, &windows, self.row.scale)?;
        let mut pieces = Vec::with_capacity(columns.len());
        for (n, column) in columns.iter().enumerate() {
            let piece = match kept(&answer, n, &windows[n], (column, row), self.row) {
                Ok(piece) => piece,
                Err(why) => {
                    let window = &windows[n..=n];
                    let answer = one(self.tries.again(&tensor::of(window, self.row), why)?, window, self.row.scale)?;
                    kept(&answer, 0, &window[0], (column, row), self.row).map_err(|why| Unmade::NoPicture(format!("{why}, in fp32 too")))?
                }
            };
            pieces.push(piece);
        }
        Ok(pieces)
    }
}

/// Tiles in one run.
pub fn batch(row: &ModelRow, runs_on: &RunsOn) -> usize {
    if runs_on.provider == "cpu" { 1 } else { row.batch.max(1) }
}

/// How a picture is cut for a network. A fixed input is taken as it is; on the CPU windows are no larger than the picture needs, a GPU gets
/// one size for all pictures.
fn cut_for(picture: (usize, usize), row: &ModelRow, tile: usize, gpu: bool) -> Result<Tiles, String> {
    let [_, _, height, width] = row.input.shape;
    let least = tile::smallest(row.overlap);
    if width > 0 && height > 0 {
        if width.min(height) < least {
            return Err(format!("its input of {width} x {height} px has no room between overlaps of {} px", row.overlap));
        }
        return Ok(Tiles::fixed(picture, (width, height), row.overlap));
    }
    let most = window(row, tile);
    Ok(if gpu { Tiles::fixed(picture, (most, most), row.overlap) } else { Tiles::fitted(picture, most, row.overlap) })
}

/// The one output, of the size that belongs to the windows.
fn one(answer: Vec<Tensor>, windows: &[Rgb], scale: usize) -> Result<Tensor, Unmade> {
    let wanted = [windows.len(), 3, windows[0].height * scale, windows[0].width * scale];
    let found = answer.into_iter().next().filter(|t| t.shape == wanted);
    found.ok_or_else(|| Unmade::NoPicture("its output has another size than it should".into()))
}

/// The pixels of one tile that are kept, or why they are no picture.
fn kept(answer: &Tensor, n: usize, window: &Rgb, (column, row): (&Span, &Span), model: &ModelRow) -> Result<Rgb, String> {
    let scale = model.scale;
    let (x, y, w, h) = (column.inset(), row.inset(), column.kept(), row.kept());
    let piece = tensor::picture(answer, n, model, (x * scale, y * scale), (w * scale, h * scale));
    let piece = piece.ok_or_else(|| "is not finite".to_owned());
    let judged = piece.and_then(|piece| gate::check(&window.crop(x, y, w, h), &piece, scale).map(|()| piece));
    judged.map_err(|why| format!("the tile at {}, {} {why}", column.from, row.from))
}

/// Where a tile is run again.
enum Again {
    /// Where it ran: that is fp32 on the CPU, and nothing is more exact.
    Same,
    /// In a copy in fp32, loaded when it is needed and kept for the rest of the picture.
    Plain(Option<Box<dyn Model>>),
}

/// The runs of one picture: a first try for each input, and a second one for an answer that was no picture.
pub struct Tries<'a> {
    runs: &'a dyn Runs,
    again: Again,
    /// Second tries, and why the first of them was needed.
    count: usize,
    first: Option<String>,
}

impl<'a> Tries<'a> {
    pub fn new(runs: &'a dyn Runs, runs_on: &RunsOn) -> Self {
        let most_exact = runs_on.provider == "cpu" && runs_on.precision == "fp32";
        Self { runs, again: if most_exact { Again::Same } else { Again::Plain(None) }, count: 0, first: None }
    }

    pub fn first(&self, input: &Tensor) -> Result<Vec<Tensor>, Unmade> {
        Ok(self.runs.run(input)?)
    }

    /// `why`: what was wrong with the first answer.
    pub fn again(&mut self, input: &Tensor, why: String) -> Result<Vec<Tensor>, Unmade> {
        tracing::warn!(why, "a network is run again in fp32");
        self.count += 1;
        let stop = self.runs.stop();
        let answer = match &mut self.again {
            Again::Same => self.runs.run(input),
            Again::Plain(Some(model)) => model.run(input, &stop).map_err(RunError::Unusable),
            Again::Plain(none) => self.runs.plain().and_then(|model| Ok(none.insert(model).run(input, &stop)?)),
        };
        let answer = answer.map_err(|e| match e {
            RunError::Unusable(_) if stop.is_stopped() => Unmade::Halt(Halt::Stop),
            RunError::Unusable(e) => Unmade::NoPicture(format!("{why}; in fp32: {}", e.detail)),
            stopped_or_failed => stopped_or_failed.into(),
        });
        self.first.get_or_insert(why);
        answer
    }

    /// Why the first second try was needed; None: there was none.
    pub fn first_failure(&self) -> Option<&str> {
        self.first.as_deref()
    }
}

#[cfg(test)]
mod tests;

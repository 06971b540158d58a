//! Step 5, and the folder that enhance and save fill: a result is there whole, or not at all.
//!
//! Constraints: a folder `<out>` is complete and on the platter; a run that fails, is stopped or dies leaves no `<out>`.
//! Format: image.jpg, mask.png, synthetic.png, thumb.jpg, report.json; of a refused photo annotated.jpg alone.
//! Operation: everything goes into `<out>.tmp`, each file fsynced as it is closed; then the folder is fsynced, an older `<out>` removed,
//! the folder renamed, its parent fsynced. Dropped before that, the folder is removed. A `<out>.tmp` that a killed process left is
//! removed when the job runs again.

use std::{
    cell::RefCell,
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::mpsc::Receiver,
};

use sha2::{Digest, Sha256 as Hasher};

use super::{Halt, Steps};
use crate::{
    domain::{
        fault::{Code, Fault},
        ids::Sha256,
        report::{FileFacts, Rect, Report},
    },
    imaging::{
        encode,
        mask::Region,
        raster::{Gray, Rgb, Rows},
        resize::LinearMask,
    },
};

/// Quality of image.jpg, thumb.jpg and annotated.jpg, 1..=100.
pub const JPEG_QUALITY: u8 = 95;
/// Longest side of thumb.jpg and annotated.jpg, px.
pub const THUMB_PX: usize = 320;
/// Rows of the result between two checkpoints: about 10 ms of work at 4,000 px a row.
const CHECKPOINT_ROWS: usize = 64;
/// Between encoder and file, bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// A full disk is for people to solve; anything else on the way to the disk may be over in a moment.
pub fn fault(what: &Path, e: &io::Error) -> Fault {
    let code = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
        _ => Code::StorageBusy,
    };
    Fault::new(code, format!("{}: {e}", what.display()))
}

/// `<out>.tmp`, while it is filled.
pub struct Folder {
    out: PathBuf,
    tmp: PathBuf,
    finished: bool,
}

impl Folder {
    pub fn create(out: &Path) -> Result<Self, Halt> {
        let mut name = OsString::from(out);
        name.push(".tmp");
        let tmp = PathBuf::from(name);
        let made = (|| {
            remove(&tmp)?;
            fs::create_dir_all(&tmp)
        })();
        made.map_err(|e| fault(&tmp, &e))?;
        Ok(Self { out: out.to_owned(), tmp, finished: false })
    }

    /// Writes one file and fsyncs it. `fill` gets a buffered writer.
    pub fn write(&self, name: &str, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(Sha256, u64), Halt> {
        let path = self.tmp.join(name);
        let write = || -> io::Result<(Sha256, u64)> {
            let sink = Hashing { file: File::create(&path)?, hasher: Hasher::new(), bytes: 0 };
            let mut buffer = BufWriter::with_capacity(BUFFER_BYTES, sink);
            fill(&mut buffer)?;
            let sink = buffer.into_inner().map_err(io::IntoInnerError::into_error)?;
            sink.file.sync_all()?;
            Ok((Sha256(sink.hasher.finalize().into()), sink.bytes))
        };
        Ok(write().map_err(|e| fault(&path, &e))?)
    }

    /// Gives a file of another folder, which is never written to again, a name in this one, too.
    pub fn link(&self, from: &Path, name: &str) -> io::Result<PathBuf> {
        let to = self.tmp.join(name);
        fs::hard_link(from.join(name), &to)?;
        Ok(to)
    }

    /// Writes a picture row by row, with a checkpoint every few rows; `share`: which part of the step this file is, 0..1.
    pub fn picture(
        &self,
        name: &str,
        rows: &mut dyn Rows,
        brake: &Brake,
        steps: &Steps<'_>,
        share: (f32, f32),
        encode: impl FnOnce(&mut dyn Rows, &mut dyn Write) -> io::Result<()>,
    ) -> Result<FileFacts, Halt> {
        let (width, height) = (rows.width() as u32, rows.height() as u32);
        let mut watched = Watched { rows, at: 0, next_checkpoint: 0, steps, share, brake };
        let written = self.write(name, |out| encode(&mut watched, &mut Braked { out, brake }));
        // What was pulled is the cause; the error of the write is only how it came out of the encoder.
        if let Some(halt) = brake.0.take() {
            return Err(halt);
        }
        let (sha256, bytes) = written?;
        Ok(FileFacts { sha256, bytes, width, height })
    }

    /// Writes a picture that another thread makes: strips of whole rows, width x 3 bytes each, from top to bottom. Where they end before
    /// the picture does, the write ends with a halt; whoever made them knows why.
    pub fn strips(
        &self,
        name: &str,
        (width, height): (usize, usize),
        strips: Receiver<Vec<u8>>,
        encode: impl FnOnce(&mut dyn Rows, &mut dyn Write) -> io::Result<()>,
    ) -> Result<FileFacts, Halt> {
        let brake = Brake::default();
        let mut rows = Strips { width, height, strips, strip: Vec::new(), at: 0, brake: &brake };
        let written = self.write(name, |out| encode(&mut rows, &mut Braked { out, brake: &brake }));
        if let Some(halt) = brake.0.take() {
            return Err(halt);
        }
        let (sha256, bytes) = written?;
        Ok(FileFacts { sha256, bytes, width: width as u32, height: height as u32 })
    }

    /// Makes the folder's final name true.
    pub fn finish(mut self) -> Result<(), Halt> {
        let parent = self.out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let rename = || -> io::Result<()> {
            File::open(&self.tmp)?.sync_all()?;
            remove(&self.out)?;
            fs::rename(&self.tmp, &self.out)?;
            File::open(parent)?.sync_all()
        };
        rename().map_err(|e| fault(&self.out, &e))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.finished
            && let Err(e) = remove(&self.tmp)
        {
            tracing::warn!(error = %e, "an unfinished result could not be removed; the job's next run will");
        }
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

struct Hashing {
    file: File,
    hasher: Hasher,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.file.write(data)?;
        self.hasher.update(&data[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// [`Rows`] cannot fail, writers can: what stops the rows is kept here, and the next write fails.
#[derive(Default)]
pub struct Brake(RefCell<Option<Halt>>);

impl Brake {
    pub fn pull(&self, halt: Halt) {
        self.0.borrow_mut().get_or_insert(halt);
    }

    pub fn pulled(&self) -> bool {
        self.0.borrow().is_some()
    }
}

struct Braked<'a> {
    out: &'a mut dyn Write,
    brake: &'a Brake,
}

impl Write for Braked<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.brake.pulled() {
            return Err(io::Error::other("stopped"));
        }
        self.out.write(data)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct Watched<'a, 'b> {
    rows: &'a mut dyn Rows,
    at: usize,
    next_checkpoint: usize,
    steps: &'a Steps<'b>,
    share: (f32, f32),
    brake: &'a Brake,
}

impl Rows for Watched<'_, '_> {
    fn width(&self) -> usize {
        self.rows.width()
    }
    fn height(&self) -> usize {
        self.rows.height()
    }
    fn channels(&self) -> usize {
        self.rows.channels()
    }
    fn next_row(&mut self, out: &mut [u8]) {
        self.next_rows(out);
    }
    fn next_rows(&mut self, out: &mut [u8]) {
        if self.brake.pulled() {
            return; // nobody will see these rows
        }
        if self.at >= self.next_checkpoint {
            self.next_checkpoint = self.at + CHECKPOINT_ROWS;
            let done = self.at as f32 / self.rows.height().max(1) as f32;
            if self.steps.at(self.share.0 + (self.share.1 - self.share.0) * done).is_err() {
                return self.brake.pull(Halt::Stop);
            }
        }
        self.at += out.len() / (self.rows.width() * self.rows.channels()).max(1);
        self.rows.next_rows(out);
    }
}

/// Strips from a channel as rows.
struct Strips<'a> {
    width: usize,
    height: usize,
    strips: Receiver<Vec<u8>>,
    strip: Vec<u8>,
    /// Bytes of the strip that were handed out.
    at: usize,
    brake: &'a Brake,
}

impl Rows for Strips<'_> {
    fn width(&self) -> usize {
        self.width
    }
    fn height(&self) -> usize {
        self.height
    }
    fn channels(&self) -> usize {
        3
    }
    fn next_row(&mut self, out: &mut [u8]) {
        if self.at == self.strip.len() {
            match self.strips.recv() {
                Ok(strip) => (self.strip, self.at) = (strip, 0),
                Err(_) => return self.brake.pull(Halt::Stop), // nobody will see this row
            }
        }
        out.copy_from_slice(&self.strip[self.at..self.at + out.len()]);
        self.at += out.len();
    }
}

/// mask.png: the crop of the photo's mask, at the image's size, soft edge kept.
pub fn mask(folder: &Folder, mask: &Gray, crop: Rect, scale: u32, steps: &Steps<'_>) -> Result<FileFacts, Halt> {
    let part = mask.crop(crop.x as usize, crop.y as usize, crop.width as usize, crop.height as usize);
    folder.picture("mask.png", &mut LinearMask::new(&part, scale as usize), &Brake::default(), steps, (0.0, 0.5), |rows, out| {
        encode::png(rows, out)
    })
}

/// synthetic.png: 255 where the reflection step made a pixel up, at the image's size.
pub fn synthetic(folder: &Folder, made_up: &Region, crop: Rect, scale: u32, steps: &Steps<'_>) -> Result<FileFacts, Halt> {
    let mut rows = Map { region: made_up, crop, scale: scale as usize, at: 0 };
    folder.picture("synthetic.png", &mut rows, &Brake::default(), steps, (0.5, 0.8), |rows, out| encode::png(rows, out))
}

/// thumb.jpg; its bytes.
pub fn thumb(folder: &Folder, thumb: &Rgb) -> Result<u64, Halt> {
    folder.write("thumb.jpg", |out| out.write_all(&encode::jpeg_bytes(thumb, JPEG_QUALITY))).map(|(_, bytes)| bytes)
}

/// `<out>` with annotated.jpg alone. Gives its bytes.
pub fn refused(out: &Path, picture: &Rgb) -> Result<u64, Halt> {
    let folder = Folder::create(out)?;
    let (_, bytes) = folder.write("annotated.jpg", |out| out.write_all(&encode::jpeg_bytes(picture, JPEG_QUALITY)))?;
    folder.finish()?;
    Ok(bytes)
}

/// report.json, which names the hashes of the others and therefore comes last. Gives its own sha256 and bytes.
pub fn report(folder: &Folder, report: &Report) -> Result<(Sha256, u64), Halt> {
    folder.write("report.json", |out| {
        serde_json::to_writer_pretty(&mut *out, report)?;
        out.write_all(b"\n")
    })
}

/// A region of the photo as rows of the image: each pixel is yes or no, so it is repeated, not blended.
struct Map<'a> {
    region: &'a Region,
    crop: Rect,
    scale: usize,
    at: usize,
}

impl Rows for Map<'_> {
    fn width(&self) -> usize {
        self.crop.width as usize * self.scale
    }
    fn height(&self) -> usize {
        self.crop.height as usize * self.scale
    }
    fn channels(&self) -> usize {
        1
    }
    fn next_row(&mut self, out: &mut [u8]) {
        out.fill(0);
        let y = self.crop.y as usize + self.at / self.scale;
        self.at += 1;
        let map = &self.region.gray;
        let Some(row) = y.checked_sub(self.region.y).filter(|row| *row < map.height) else { return };
        for (i, _) in map.row(row).iter().enumerate().filter(|(_, v)| **v >= 128) {
            let Some(x) = (self.region.x + i).checked_sub(self.crop.x as usize).filter(|x| *x < self.crop.width as usize) else { continue };
            out[x * self.scale..(x + 1) * self.scale].fill(255);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_called_full_and_any_other_trouble_is_worth_a_second_try() {
        let mut full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let error = full.write_all(b"x").expect_err("it is always full");
        assert_eq!(fault(Path::new("image.jpg"), &error).code, Code::DiskFull);
        let error = File::open("/nonexistent").expect_err("it is not there");
        assert_eq!(fault(Path::new("image.jpg"), &error).code, Code::StorageBusy);
    }

    #[test]
    fn a_map_shows_only_what_of_its_region_lies_in_the_crop() {
        let region = Region { x: 1, y: 1, gray: Gray { width: 3, height: 2, data: vec![255, 0, 255, 0, 255, 0] } };
        let mut rows = Map { region: &region, crop: Rect { x: 2, y: 0, width: 3, height: 3 }, scale: 2, at: 0 };
        let picture: Vec<String> = (0..rows.height())
            .map(|_| {
                let mut row = vec![7; rows.width()];
                rows.next_row(&mut row);
                row.iter().map(|v| if *v == 255 { '#' } else { '.' }).collect()
            })
            .collect();
        assert_eq!(picture, ["......", "......", "..##..", "..##..", "##....", "##...."]);
    }
}

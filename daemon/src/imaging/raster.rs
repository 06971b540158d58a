//! Pictures in memory, row-major, no padding.

/// H x W x 3, sRGB, u8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u8>,
}

/// H x W, u8. As a mask: 255 = inside, soft edges between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gray {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u8>,
}

/// H x W, f32; the range is stated where one is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    pub width: usize,
    pub height: usize,
    pub data: Vec<f32>,
}

impl Rgb {
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, data: vec![0; width * height * 3] }
    }

    pub fn px(&self, x: usize, y: usize) -> [u8; 3] {
        let i = (y * self.width + x) * 3;
        [self.data[i], self.data[i + 1], self.data[i + 2]]
    }

    pub fn set(&mut self, x: usize, y: usize, px: [u8; 3]) {
        let i = (y * self.width + x) * 3;
        self.data[i..i + 3].copy_from_slice(&px);
    }

    pub fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.width * 3..(y + 1) * self.width * 3]
    }

    /// The part at (x, y), which must lie inside.
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Self {
        let mut data = Vec::with_capacity(width * height * 3);
        for r in y..y + height {
            data.extend_from_slice(&self.row(r)[x * 3..(x + width) * 3]);
        }
        Self { width, height, data }
    }

    /// [`Rgb::crop`] in the picture's own memory.
    pub fn into_part(mut self, x: usize, y: usize, width: usize, height: usize) -> Self {
        for row in 0..height {
            let from = ((y + row) * self.width + x) * 3;
            self.data.copy_within(from..from + width * 3, row * width * 3);
        }
        self.data.truncate(width * height * 3);
        Self { width, height, data: self.data }
    }
}

impl Gray {
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, data: vec![0; width * height] }
    }

    pub fn px(&self, x: usize, y: usize) -> u8 {
        self.data[y * self.width + x]
    }

    pub fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.width..(y + 1) * self.width]
    }

    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Self {
        let mut data = Vec::with_capacity(width * height);
        for r in y..y + height {
            data.extend_from_slice(&self.row(r)[x..x + width]);
        }
        Self { width, height, data }
    }

    /// Lays `part` over this one, its corner at (x, y); all of it lies inside.
    pub fn paste(&mut self, part: &Gray, x: usize, y: usize) {
        for row in 0..part.height {
            let at = (y + row) * self.width + x;
            self.data[at..at + part.width].copy_from_slice(part.row(row));
        }
    }

    /// (left, top, right, bottom) of the pixels of at least `level`, the last two one past the end; None: there are none.
    pub fn bounds(&self, level: u8) -> Option<(usize, usize, usize, usize)> {
        // Brightest of each row and of each column: loops without a branch, over what is mostly nothing.
        let brightest = |y: usize| self.row(y).iter().fold(0, |most: u8, v| most.max(*v)) >= level;
        let top = (0..self.height).find(|y| brightest(*y))?;
        let bottom = (top..self.height).rev().find(|y| brightest(*y))? + 1;
        let mut columns = vec![0u8; self.width];
        for y in top..bottom {
            columns.iter_mut().zip(self.row(y)).for_each(|(most, v)| *most = (*most).max(*v));
        }
        let left = columns.iter().position(|v| *v >= level)?;
        let right = columns.iter().rposition(|v| *v >= level)? + 1;
        Some((left, top, right, bottom))
    }

    /// Pixels of at least 128.
    pub fn count_inside(&self) -> usize {
        // In pieces whose count fits a byte: the processor adds many at once.
        self.data.chunks(255).map(|piece| usize::from(piece.iter().fold(0, |n: u8, v| n + (*v >> 7)))).sum()
    }
}

impl Plane {
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, data: vec![0.0; width * height] }
    }

    pub fn px(&self, x: usize, y: usize) -> f32 {
        self.data[y * self.width + x]
    }
}

/// A picture that is made row by row, in order, and never held whole: what encoders take.
pub trait Rows {
    fn width(&self) -> usize;
    fn height(&self) -> usize;
    /// Bytes a pixel: 3 (sRGB) or 1 (grey).
    fn channels(&self) -> usize;
    /// Writes the next row (`width * channels` bytes) into `out`.
    fn next_row(&mut self, out: &mut [u8]);
    /// Writes the next rows into `out`, whose length says how many; no more than are left. What makes rows together is faster so.
    fn next_rows(&mut self, out: &mut [u8]) {
        let row = self.width() * self.channels();
        out.chunks_exact_mut(row).for_each(|row| self.next_row(row));
    }
}

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

    /// Pixels of at least 128.
    pub fn count_inside(&self) -> usize {
        self.data.iter().filter(|v| **v >= 128).count()
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

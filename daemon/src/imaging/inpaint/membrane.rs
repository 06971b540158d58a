//! A membrane over the holes of a grid, from coarse to fine.
//!
//! The least-squares surface through what is known (an anisotropic Laplace equation with a fixed tensor along the ray from the pupil's
//! centre; Perona and Malik 1990 for the split over eight neighbours), which is the conditional mean of a Gaussian field of such a texture.
//! Successive over-relaxation on each level, started from the next coarser one: the work grows with the hole's area alone.

/// Stiffness along the ray / along the circle of what is left of an iris without its zones.
const ALONG_FIBRE: f32 = 2.0;
/// How much two px of different parts pull at each other.
const ACROSS: f32 = 0.01;
/// Sweeps of successive over-relaxation a level; a coarser level has done the rest.
const SWEEPS: usize = 24;
const RELAX: f32 = 1.5;
/// A level this small is not made coarser, px a side.
const COARSEST: usize = 8;

/// What a px belongs to; px of different parts hardly pull at each other.
pub const PUPIL: u8 = 0;
pub const IRIS: u8 = 1;
pub const OUTSIDE: u8 = 2;

/// A grid on which the membrane is relaxed.
pub struct Membrane {
    pub width: usize,
    pub height: usize,
    pub part: Vec<u8>,
    pub unknown: Vec<bool>,
    /// Three channels and a 0: a px is a register.
    pub value: Vec<[f32; 4]>,
    /// The pupil's centre, px of this grid.
    pub centre: (f64, f64),
}

/// The neighbours, and which of a px's four stiffnesses ties to them: along x, y, the falling and the rising diagonal.
const NEIGHBOURS: [(isize, isize, usize); 8] =
    [(1, 0, 0), (-1, 0, 0), (0, 1, 1), (0, -1, 1), (1, 1, 2), (-1, -1, 2), (1, -1, 3), (-1, 1, 3)];

impl Membrane {
    /// Gives every unknown px its value.
    pub fn solve(&mut self) {
        if self.width.min(self.height) > COARSEST {
            let mut coarse = self.halved();
            if coarse.unknown.iter().any(|u| *u) {
                coarse.solve();
            }
            for i in 0..self.value.len() {
                if self.unknown[i] {
                    self.value[i] = coarse.value[(i / self.width / 2) * coarse.width + i % self.width / 2];
                }
            }
        }
        let ties = self.ties();
        for sweep in 0..SWEEPS {
            // Forwards and backwards, so that nothing drifts.
            if sweep % 2 == 0 { ties.iter().for_each(|t| self.relax(t)) } else { ties.iter().rev().for_each(|t| self.relax(t)) }
        }
    }

    fn relax(&mut self, tie: &Tie) {
        let mut sum = [0.0f32; 4];
        for (w, step) in tie.weights.iter().zip(NEIGHBOURS) {
            if *w > 0.0 {
                let v = &self.value[tie.at.wrapping_add_signed(step.1 * self.width as isize + step.0)];
                for c in 0..4 {
                    sum[c] += w * v[c];
                }
            }
        }
        let value = &mut self.value[tie.at];
        for c in 0..4 {
            value[c] += RELAX * (sum[c] - value[c]);
        }
    }

    fn ties(&self) -> Vec<Tie> {
        (0..self.value.len()).filter(|i| self.unknown[*i]).map(|at| self.tie(at)).collect()
    }

    fn tie(&self, at: usize) -> Tie {
        let (x, y) = (at % self.width, at / self.width);
        let (dx, dy) = (x as f64 + 0.5 - self.centre.0, y as f64 + 0.5 - self.centre.1);
        let r = dx.hypot(dy).max(1e-6);
        let (ux, uy) = ((dx / r) as f32, (dy / r) as f32);
        let along = if self.part[at] == IRIS { ALONG_FIBRE } else { 1.0 };
        // The tensor along u, split over the eight neighbours so that no tie pushes.
        let (a, b, c) = (along * ux * ux + uy * uy, (along - 1.0) * ux * uy, along * uy * uy + ux * ux);
        let stiff = [(a - b.abs()).max(0.02), (c - b.abs()).max(0.02), b.max(0.0), (-b).max(0.0)];
        let mut weights = NEIGHBOURS.map(|(ox, oy, kind)| {
            let (nx, ny) = (x.wrapping_add_signed(ox), y.wrapping_add_signed(oy));
            if nx >= self.width || ny >= self.height {
                return 0.0;
            }
            let same = self.part[ny * self.width + nx] == self.part[at];
            stiff[kind] * if same { 1.0 } else { ACROSS }
        });
        let total: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= total.max(1e-9));
        Tie { at, weights }
    }

    /// Half the size: means of what is known; unknown where nothing of four is.
    fn halved(&self) -> Self {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let mut out = Self {
            width,
            height,
            part: vec![OUTSIDE; width * height],
            unknown: vec![true; width * height],
            value: vec![[0.0; 4]; width * height],
            centre: (self.centre.0 / 2.0, self.centre.1 / 2.0),
        };
        for i in 0..out.value.len() {
            let (x, y) = (i % width * 2, i / width * 2);
            let four = [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)];
            let inside = four.into_iter().filter(|(x, y)| *x < self.width && *y < self.height).map(|(x, y)| y * self.width + x);
            let (mut sum, mut known) = ([0.0; 4], 0.0f32);
            out.part[i] = self.part[y * self.width + x];
            for at in inside.filter(|at| !self.unknown[*at]) {
                sum.iter_mut().zip(self.value[at]).for_each(|(s, v)| *s += v);
                known += 1.0;
                out.part[i] = self.part[at];
            }
            if known > 0.0 {
                out.unknown[i] = false;
                out.value[i] = sum.map(|s| s / known);
            }
        }
        out
    }
}

/// An unknown px and its neighbours' shares of it.
struct Tie {
    at: usize,
    weights: [f32; 8],
}

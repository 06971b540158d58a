//! A membrane over the holes of a grid that resists bending, too, from coarse to fine.
//!
//! ```text
//!   L     neighbours' mean less the px: an anisotropic Laplacian with a fixed tensor along the ray from the pupil's centre
//!   surface through what is known:   L u + bend L (L u) = 0   at every unknown px
//! ```
//!
//! The least-squares surface, which is the conditional mean of a Gaussian field of such a texture: L alone (Perona and Malik 1990 for the
//! split over eight neighbours) for one whose neighbours differ by chance; the second term (thin plate, Duchon 1977) because a lens and a
//! JPEG leave less of that than the px are fine. It goes by px, so the coarser a level, the less of it; a large hole is the membrane's.
//! Successive over-relaxation on each level, started from the next coarser one: the work grows with the hole's area alone.

/// Stiffness along the ray / along the circle of what is left of an iris without its zones.
const ALONG_FIBRE: f32 = 2.0;
/// How much two px of different parts pull at each other.
const ACROSS: f32 = 0.01;
/// Sweeps of successive over-relaxation a level; a coarser level has done the rest.
const SWEEPS: usize = 12;
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
    /// Resistance to bending, px^2 of this grid; 0: a membrane and no more.
    pub bend: f32,
}

/// The neighbours, opposite ones side by side, and which of a px's four stiffnesses ties to them: along x, y, the falling and the rising diagonal.
const NEIGHBOURS: [(isize, isize, usize); 8] =
    [(1, 0, 0), (-1, 0, 0), (0, 1, 1), (0, -1, 1), (1, 1, 2), (-1, -1, 2), (1, -1, 3), (-1, 1, 3)];

/// The way back from a neighbour.
fn opposite(neighbour: usize) -> usize {
    neighbour ^ 1
}

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
        Surface::new(self).relax();
    }

    /// The neighbours' shares of a px; 0 where the grid ends.
    fn shares(&self, at: usize) -> [f32; 8] {
        let (x, y) = (at % self.width, at / self.width);
        let (dx, dy) = (x as f64 + 0.5 - self.centre.0, y as f64 + 0.5 - self.centre.1);
        let r = dx.hypot(dy).max(1e-6);
        let (ux, uy) = ((dx / r) as f32, (dy / r) as f32);
        let along = if self.part[at] == IRIS { ALONG_FIBRE } else { 1.0 };
        // The tensor along u, split over the eight neighbours so that no tie pushes.
        let (a, b, c) = (along * ux * ux + uy * uy, (along - 1.0) * ux * uy, along * uy * uy + ux * ux);
        let stiff = [(a - b.abs()).max(0.02), (c - b.abs()).max(0.02), b.max(0.0), (-b).max(0.0)];
        let mut shares = [0.0; 8];
        for (share, (n, (_, _, kind))) in shares.iter_mut().zip(self.around(at).into_iter().zip(NEIGHBOURS)) {
            if let Some(n) = n {
                *share = stiff[kind] * if self.part[n] == self.part[at] { 1.0 } else { ACROSS };
            }
        }
        let total: f32 = shares.iter().sum();
        shares.map(|share| share / total.max(1e-9))
    }

    /// The neighbours, in the order of [`NEIGHBOURS`].
    fn around(&self, at: usize) -> [Option<usize>; 8] {
        let (x, y) = (at % self.width, at / self.width);
        NEIGHBOURS.map(|(ox, oy, _)| {
            let (nx, ny) = (x.wrapping_add_signed(ox), y.wrapping_add_signed(oy));
            (nx < self.width && ny < self.height).then(|| ny * self.width + nx)
        })
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
            bend: self.bend / 4.0,
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

/// One level while it is relaxed: the unknown px and, since bending is felt beside them, what is next to them. The first of the latter is
/// nobody's: it stands for what lies beyond the grid.
struct Surface<'a> {
    value: &'a mut [[f32; 4]],
    bend: f32,
    /// L u, kept true with every step.
    slopes: Vec<[f32; 4]>,
    /// The neighbours' shares.
    shares: Vec<[f32; 8]>,
    steps: Vec<Step>,
}

/// How one unknown px is moved.
struct Step {
    at: u32,
    /// Among the slopes and shares: its own and its neighbours'.
    own: u32,
    around: [u32; 8],
    /// By how much for what is wrong here: what its equation wants, times [`RELAX`].
    far: f32,
}

impl<'a> Surface<'a> {
    fn new(grid: &'a mut Membrane) -> Self {
        let bend = grid.bend;
        let mut index = vec![0; grid.value.len()];
        let (mut slopes, mut shares) = (vec![[0.0; 4]], vec![[0.0; 8]]);
        let mut place = |at: usize| {
            if index[at] == 0 {
                index[at] = slopes.len() as u32;
                let own = grid.shares(at);
                let mut slope = grid.value[at];
                for (share, n) in own.iter().zip(grid.around(at)).filter_map(|(share, n)| Some((share, n?))) {
                    (0..4).for_each(|c| slope[c] -= share * grid.value[n][c]);
                }
                slopes.push(slope);
                shares.push(own);
            }
            index[at]
        };
        let step = |at: usize| Step { at: at as u32, own: place(at), around: grid.around(at).map(|n| n.map_or(0, &mut place)), far: 0.0 };
        let mut steps: Vec<Step> = (0..grid.value.len()).filter(|at| grid.unknown[*at]).map(step).collect();
        for step in &mut steps {
            // The diagonal of L + bend L L.
            let both = (0..8).map(|n| shares[step.own as usize][n] * shares[step.around[n] as usize][opposite(n)]);
            step.far = -RELAX / (1.0 + bend + bend * both.sum::<f32>());
        }
        Self { value: &mut grid.value, bend, slopes, shares, steps }
    }

    fn relax(&mut self) {
        for sweep in 0..SWEEPS {
            // Forwards and backwards, so that nothing drifts.
            for k in 0..self.steps.len() {
                self.take(if sweep % 2 == 0 { k } else { self.steps.len() - 1 - k });
            }
        }
    }

    fn take(&mut self, k: usize) {
        let Step { at, own, around, far } = &self.steps[k];
        let (own, around) = (*own as usize, around.map(|n| n as usize));
        let mut wrong = self.slopes[own].map(|s| (1.0 + self.bend) * s);
        for (n, share) in around.iter().zip(self.shares[own]) {
            (0..4).for_each(|c| wrong[c] -= self.bend * share * self.slopes[*n][c]);
        }
        let by = wrong.map(|w| far * w);
        (0..4).for_each(|c| self.value[*at as usize][c] += by[c]);
        (0..4).for_each(|c| self.slopes[own][c] += by[c]);
        for (n, other) in around.into_iter().enumerate() {
            let share = self.shares[other][opposite(n)];
            (0..4).for_each(|c| self.slopes[other][c] -= share * by[c]);
        }
    }
}

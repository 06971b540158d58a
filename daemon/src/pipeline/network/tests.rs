//! Tiles through networks that enlarge by repeating pixels, and spoil what a test wants spoilt. (Real ones: `tests/real.rs`.)

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::{
    domain::fault::Code,
    inference::manifest::Manifest,
    pipeline::fakes::{Seen, on, steps},
    ports::{ModelError, Share},
};

mod real;

/// What is done to the answer for the n-th tile that a network sees.
type Spoil = fn(usize, &mut [f32]);

#[derive(Clone)]
struct Fake {
    spoil: Spoil,
    /// What its fp32 copy does.
    plain: Spoil,
    tiles: Arc<AtomicUsize>,
    /// Shapes of all runs, and loads of the fp32 copy.
    shapes: Arc<Mutex<Vec<Vec<usize>>>>,
    loads: Arc<AtomicUsize>,
}

impl Fake {
    fn new(spoil: Spoil, plain: Spoil) -> Self {
        Self { spoil, plain, tiles: Arc::default(), shapes: Arc::default(), loads: Arc::default() }
    }

    fn answer(&self, input: &Tensor, spoil: Spoil) -> Vec<Tensor> {
        self.shapes.lock().expect("lock").push(input.shape.clone());
        let [n, c, h, w] = input.shape[..] else { panic!("{:?}", input.shape) };
        let mut data = Vec::with_capacity(n * c * 16 * h * w);
        for i in 0..n * c * 16 * h * w {
            let (plane, y, x) = (i / (16 * h * w), i / (4 * w) % (4 * h) / 4, i % (4 * w) / 4);
            data.push(input.data[(plane * h + y) * w + x]);
        }
        for tile in data.chunks_exact_mut(c * 16 * h * w) {
            spoil(self.tiles.fetch_add(1, Ordering::SeqCst), tile);
        }
        vec![Tensor { shape: vec![n, c, 4 * h, 4 * w], data }]
    }
}

impl Runs for Fake {
    fn run(&self, input: &Tensor) -> Result<Vec<Tensor>, RunError> {
        Ok(self.answer(input, self.spoil))
    }
    fn plain(&self) -> Result<Box<dyn Model>, RunError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Plain(self.clone())))
    }
}

struct Plain(Fake);

impl Model for Plain {
    fn run(&mut self, input: &Tensor, _: &RunStop) -> Result<Vec<Tensor>, ModelError> {
        Ok(self.0.answer(input, self.0.plain))
    }
    fn trial(&mut self, _: &Tensor, _: &RunStop) -> Result<(Vec<Tensor>, Vec<Share>), ModelError> {
        unreachable!("nobody tries a copy for a second try")
    }
}

fn row() -> ModelRow {
    let manifest = Manifest::load("/nonexistent".as_ref(), "/nonexistent".as_ref()).expect("the built-in one");
    manifest.get("realesr-animevideov3-x4").expect("row").clone()
}

fn photo(width: usize, height: usize) -> Rgb {
    Rgb { width, height, data: (0..width * height * 3).map(|i| (i * 7919 % 173) as u8 + 40).collect() }
}

/// The picture and what the report says of second tries; or how it ended.
fn run(source: &Rgb, row: &ModelRow, fake: &Fake, runs_on: &RunsOn, seen: &Seen) -> Result<(Vec<u8>, Option<String>), Unmade> {
    let steps = steps(seen);
    let mut network = Network::new(source, row, fake, runs_on, 96, &steps)?;
    let mut all = Vec::new();
    network.strips(|strip| {
        all.extend(strip);
        true
    })?;
    Ok((all, network.tried_again()))
}

fn made(result: Result<(Vec<u8>, Option<String>), Unmade>) -> (Vec<u8>, Option<String>) {
    match result {
        Ok(made) => made,
        Err(Unmade::NoPicture(why)) => panic!("no picture: {why}"),
        Err(Unmade::Halt(halt)) => panic!("{halt:?}"),
    }
}

fn refused(result: Result<(Vec<u8>, Option<String>), Unmade>) -> String {
    match result {
        Err(Unmade::NoPicture(why)) => why,
        Err(Unmade::Halt(halt)) => panic!("{halt:?}"),
        Ok((_, again)) => panic!("there is a picture; {again:?}"),
    }
}

fn enlarged(source: &Rgb) -> Vec<u8> {
    let px = |i: usize| source.px(i % (4 * source.width) / 4, i / (4 * source.width) / 4);
    (0..16 * source.width * source.height).flat_map(px).collect()
}

const GOOD: Spoil = |_, _| ();
/// In the middle of the tile: what lies in its overlap is not kept.
const NAN: Spoil = |_, tile| {
    let middle = tile.len() / 2;
    tile[middle..middle + 200].fill(f32::NAN);
};
/// As fp16 does: most tiles are fine.
const NAN_IN_TWO: Spoil = |n, tile| {
    if n == 1 || n == 3 {
        NAN(n, tile);
    }
};

#[test]
fn a_network_that_changes_nothing_gives_the_picture_whatever_runs_it() {
    let (source, row) = (photo(130, 77), ModelRow { batch: 3, ..row() });
    for runs_on in [on("cpu", "fp32"), on("cuda", "fp32"), on("tensorrt", "fp16")] {
        let fake = Fake::new(GOOD, NAN);
        assert_eq!(made(run(&source, &row, &fake, &runs_on, &Seen::default())), (enlarged(&source), None));
        assert_eq!(fake.loads.load(Ordering::SeqCst), 0, "nobody needs a second copy");
    }
}

#[test]
fn tiles_that_are_undefined_in_fp16_alone_are_run_again_in_fp32_by_one_copy_and_the_report_says_so() {
    let (source, fake) = (photo(130, 77), Fake::new(NAN_IN_TWO, GOOD));
    let (picture, again) = made(run(&source, &row(), &fake, &on("tensorrt", "fp16"), &Seen::default()));
    assert_eq!(picture, enlarged(&source));
    let again = again.expect("it is said");
    assert!(again.starts_with("2 of 6 tiles were run again in fp32: the tile at ") && again.ends_with("is not finite"), "{again}");
    assert_eq!(fake.loads.load(Ordering::SeqCst), 1);
}

#[test]
fn a_tile_that_is_no_picture_in_fp32_either_ends_the_networks_try() {
    let fake = Fake::new(NAN_IN_TWO, NAN);
    let why = refused(run(&photo(130, 77), &row(), &fake, &on("cuda", "fp32"), &Seen::default()));
    assert!(why.contains("is not finite, in fp32 too"), "{why}");
    assert_eq!(fake.tiles.load(Ordering::SeqCst), 3, "two tiles, and the second one again");
}

#[test]
fn on_the_cpu_in_fp32_the_same_copy_has_the_second_try() {
    let once: Spoil = |n, tile| {
        if n == 2 {
            tile.fill(0.0);
        }
    };
    let (source, fake) = (photo(130, 77), Fake::new(once, NAN));
    let (picture, again) = made(run(&source, &row(), &fake, &on("cpu", "fp32"), &Seen::default()));
    assert_eq!(picture, enlarged(&source));
    assert!(again.is_some_and(|a| a.contains("is black")));
    assert_eq!(fake.loads.load(Ordering::SeqCst), 0, "a second copy would need the memory again");
}

#[test]
fn a_gpu_gets_one_shape_and_full_batches_and_the_cpu_one_tile_at_a_time_no_larger_than_it_need_be() {
    let (source, row) = (photo(200, 40), ModelRow { batch: 2, ..row() });
    let shapes = |runs_on: &RunsOn| {
        let fake = Fake::new(GOOD, GOOD);
        made(run(&source, &row, &fake, runs_on, &Seen::default()));
        let shapes = fake.shapes.lock().expect("lock");
        shapes.clone()
    };
    let gpu = shapes(&on("cuda", "fp32"));
    assert!(gpu.len() == 2 && gpu.iter().all(|s| *s == [2, 3, 96, 96]), "{gpu:?}");
    let cpu = shapes(&on("cpu", "fp32"));
    assert!(cpu.len() == 4 && cpu.iter().all(|s| s[0] == 1 && s[2] == 80 && s[3] <= 96), "{cpu:?}");
}

#[test]
fn a_network_with_a_fixed_input_gets_windows_of_that_size_and_one_without_room_is_refused() {
    let mut fixed = row();
    fixed.input.shape = [1, 3, 72, 120];
    let (source, fake) = (photo(130, 77), Fake::new(GOOD, GOOD));
    assert_eq!(made(run(&source, &fixed, &fake, &on("cpu", "fp32"), &Seen::default())).0, enlarged(&source));
    assert!(fake.shapes.lock().expect("lock").iter().all(|s| *s == [1, 3, 72, 120]));
    fixed.input.shape = [1, 3, 48, 48];
    assert!(refused(run(&source, &fixed, &fake, &on("cpu", "fp32"), &Seen::default())).contains("48 x 48 px has no room"));
}

#[test]
fn every_run_has_a_checkpoint_before_it_and_progress_moves_with_the_tiles() {
    let source = photo(130, 77);
    let all = Seen::default();
    made(run(&source, &row(), &Fake::new(GOOD, GOOD), &on("cpu", "fp32"), &all));
    let done = all.done.lock().expect("lock").clone();
    assert!(done.len() == 6 && done.windows(2).all(|p| p[0] < p[1]) && done[0] < 0.1 && done[5] > 0.7, "{done:?}");
    for stop_at in 0..done.len() {
        let fake = Fake::new(GOOD, GOOD);
        let ended = run(&source, &row(), &fake, &on("cpu", "fp32"), &Seen { stop_at: Some(stop_at), ..Seen::default() });
        assert!(matches!(ended, Err(Unmade::Halt(Halt::Stop))), "checkpoint {stop_at}");
        assert_eq!(fake.tiles.load(Ordering::SeqCst), stop_at, "a tile ran after the stop");
    }
}

#[test]
fn a_network_that_fails_or_gives_another_size_is_no_picture_and_its_words_are_kept() {
    struct Failing(Option<Tensor>);
    impl Runs for Failing {
        fn run(&self, _: &Tensor) -> Result<Vec<Tensor>, RunError> {
            let failed = ModelError { code: Code::ModelFailed, detail: "out of memory".into() };
            self.0.clone().map(|t| vec![t]).ok_or(RunError::Unusable(failed))
        }
        fn plain(&self) -> Result<Box<dyn Model>, RunError> {
            panic!("there is no picture to try again")
        }
    }
    let (source, row, seen) = (photo(60, 60), row(), Seen::default());
    let steps = steps(&seen);
    let small = Tensor { shape: vec![1, 3, 8, 8], data: vec![0.0; 192] };
    for (failing, word) in [(Failing(None), "out of memory"), (Failing(Some(small)), "another size")] {
        let mut network = Network::new(&source, &row, &failing, &on("cuda", "fp32"), 96, &steps).unwrap_or_else(|_| panic!("it fits"));
        match network.strips(|_| true) {
            Err(Unmade::NoPicture(why)) => assert!(why.contains(word), "{why}"),
            _ => panic!("it cannot make a picture"),
        }
    }
}

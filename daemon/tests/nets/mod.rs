//! Small networks of the roles enhancement and reflections, written as ONNX by hand: some work, some give what no picture is.
//!
//! Field numbers: onnx.proto3 (IR version 8, operator set 13).
#![allow(dead_code)] // each test binary uses a part of it

use std::{fs, path::Path};

use sha2::{Digest, Sha256};

const FLOAT: u64 = 1;
const INT64: u64 = 7;
const BOOL: u64 = 9;

fn varint(mut v: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while v >= 0x80 {
        out.push((v as u8) | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
    out
}

fn number(field: u64, v: u64) -> Vec<u8> {
    [varint(field << 3), varint(v)].concat()
}

fn bytes(field: u64, v: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(v.len() as u64), v.to_vec()].concat()
}

fn text(field: u64, v: &str) -> Vec<u8> {
    bytes(field, v.as_bytes())
}

fn constant(name: &str, dims: &[u64], values: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let dims: Vec<u8> = dims.iter().flat_map(|d| number(1, *d)).collect();
    bytes(5, &[dims, number(2, FLOAT), text(8, name), bytes(9, &raw)].concat())
}

fn integers(name: &str, dims: &[u64], values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let dims: Vec<u8> = dims.iter().flat_map(|d| number(1, *d)).collect();
    bytes(5, &[dims, number(2, INT64), text(8, name), bytes(9, &raw)].concat())
}

/// A number, or a name of a side that is free.
enum Dim {
    Is(u64),
    Free(&'static str),
}

fn port(field: u64, name: &str, dims: &[Dim]) -> Vec<u8> {
    let dims: Vec<u8> = dims
        .iter()
        .flat_map(|d| match d {
            Dim::Is(n) => bytes(1, &number(1, *n)),
            Dim::Free(name) => bytes(1, &text(2, name)),
        })
        .collect();
    let tensor = [number(1, FLOAT), bytes(2, &dims)].concat();
    bytes(field, &[text(1, name), bytes(2, &bytes(1, &tensor))].concat())
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut out: Vec<u8> = inputs.iter().flat_map(|i| text(1, i)).collect();
    out.extend([text(2, output), text(4, op), attributes.concat()].concat());
    bytes(1, &out)
}

fn word(name: &str, word: &str) -> Vec<u8> {
    bytes(5, &[text(1, name), text(4, word), number(20, 3)].concat())
}

fn numbers(name: &str, all: &[u64]) -> Vec<u8> {
    let all: Vec<u8> = all.iter().flat_map(|v| number(8, *v)).collect();
    bytes(5, &[text(1, name), all, number(20, 7)].concat())
}

/// A value of a graph inside another: an input (11) or an output (12) of this type and these sides; none: a single value.
fn value(field: u64, name: &str, kind: u64, dims: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|d| bytes(1, &number(1, *d))).collect();
    let tensor = [number(1, kind), bytes(2, &dims)].concat();
    bytes(field, &[text(1, name), bytes(2, &bytes(1, &tensor))].concat())
}

fn inner_graph(name: &str, graph: &[Vec<u8>]) -> Vec<u8> {
    bytes(5, &[text(1, name), bytes(6, &[graph.concat(), text(2, "inner")].concat()), number(20, 5)].concat())
}

fn model(graph: &[Vec<u8>]) -> Vec<u8> {
    let graph = [graph.concat(), text(2, "test")].concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &[text(1, ""), number(2, 13)].concat())].concat()
}

/// What a network makes of a picture that is four times as large as its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The picture itself.
    Good,
    Black,
    /// One grey.
    Constant,
    /// Bluer by 51 of 255 levels.
    Shifted,
    /// NaN where the picture is darker than a tenth.
    Undefined,
    /// The picture where it has the trial's size; an error of the library else.
    Throws,
    /// The picture where it has the trial's size; never an answer else.
    Endless,
}

/// Of the trial's input: 1 x 3 x 32 x 32.
const TRIAL: [i64; 4] = [1, 3, 32, 32];

/// What an answer does beside making the picture: nodes that give `trouble`, one number.
fn trouble(answer: Answer) -> Vec<Vec<u8>> {
    match answer {
        Answer::Throws => vec![
            node("Reshape", &["input", "trial"], "reshaped", &[]),
            node("ReduceMean", &["reshaped"], "trouble", &[]),
            integers("trial", &[4], &TRIAL),
        ],
        Answer::Endless => {
            let body = [
                node("Identity", &["go_on"], "goes_on", &[]),
                node("Mul", &["now", "same"], "then", &[]),
                constant("same", &[], &[1.0]),
                value(11, "round", INT64, &[]),
                value(11, "go_on", BOOL, &[]),
                value(11, "now", FLOAT, &[1, 1, 1, 1]),
                value(12, "goes_on", BOOL, &[]),
                value(12, "then", FLOAT, &[1, 1, 1, 1]),
            ];
            vec![
                node("Size", &["input"], "size", &[]),
                node("Sub", &["size", "trial"], "beyond", &[]),
                node("Mul", &["beyond", "very_many"], "rounds", &[]),
                node("Loop", &["rounds", "", "start"], "trouble", &[inner_graph("body", &body)]),
                integers("trial", &[], &[TRIAL.iter().product()]),
                integers("very_many", &[], &[1_000_000_000_000]),
                constant("start", &[1, 1, 1, 1], &[1.0]),
            ]
        }
        _ => vec![constant("trouble", &[], &[0.0])],
    }
}

/// Input `input` N x 3 x H x W, output `output` N x 3 x 4H x 4W: pixels repeated, then `answer`.
pub fn upscaler(answer: Answer) -> Vec<u8> {
    let (gain, offset) = match answer {
        Answer::Good | Answer::Throws | Answer::Endless => (1.0, [0.0; 3]),
        Answer::Black => (0.0, [0.0; 3]),
        Answer::Constant => (0.0, [0.5; 3]),
        Answer::Shifted => (1.0, [0.0, 0.0, 0.2]),
        Answer::Undefined => (1.0, [-0.1; 3]),
    };
    let nearest = [word("mode", "nearest"), word("nearest_mode", "floor"), word("coordinate_transformation_mode", "asymmetric")];
    let sides = |h, w| [Dim::Free("n"), Dim::Is(3), Dim::Free(h), Dim::Free(w)];
    let last = if answer == Answer::Undefined { "Sqrt" } else { "Identity" };
    let trouble = trouble(answer).concat();
    model(&[
        node("Resize", &["input", "", "scales"], "large", &nearest),
        trouble,
        node("Mul", &["trouble", "nothing"], "none", &[]),
        node("Mul", &["large", "gain"], "scaled", &[]),
        node("Add", &["scaled", "none"], "same", &[]),
        node("Add", &["same", "offset"], "moved", &[]),
        node(last, &["moved"], "output", &[]),
        constant("nothing", &[], &[0.0]),
        constant("scales", &[4], &[1.0, 1.0, 4.0, 4.0]),
        constant("gain", &[], &[gain]),
        constant("offset", &[1, 3, 1, 1], &offset),
        port(11, "input", &sides("h", "w")),
        port(12, "output", &sides("oh", "ow")),
    ])
}

/// Inputs `image` 1 x 3 x N x N (0..1) and `mask` 1 x 1 x N x N (1: to be filled), output `output` 1 x 3 x N x N, 0..255 as LaMa's export
/// has it: the image, and under the mask the mean of what is known within 24 px, times `gain`.
pub fn filler(n: u64, gain: f32) -> Vec<u8> {
    let sides = |c| [Dim::Is(1), Dim::Is(c), Dim::Is(n), Dim::Is(n)];
    let pool = [numbers("kernel_shape", &[49, 49]), numbers("pads", &[24; 4])];
    model(&[
        node("Sub", &["one", "mask"], "known", &[]),
        node("Mul", &["image", "known"], "kept", &[]),
        node("AveragePool", &["kept"], "sum", &pool),
        node("AveragePool", &["known"], "share", &pool),
        node("Add", &["share", "little"], "some", &[]),
        node("Div", &["sum", "some"], "mean", &[]),
        node("Mul", &["mean", "gain"], "bright", &[]),
        node("Mul", &["mask", "bright"], "made", &[]),
        node("Add", &["kept", "made"], "whole", &[]),
        node("Mul", &["whole", "levels"], "output", &[]),
        constant("one", &[], &[1.0]),
        constant("little", &[], &[1e-3]),
        constant("gain", &[], &[gain]),
        constant("levels", &[], &[255.0]),
        port(11, "image", &sides(3)),
        port(11, "mask", &sides(1)),
        port(12, "output", &sides(3)),
    ])
}

const UPSCALER: &str = r#"role = "enhancement"
input = { name = "input", shape = [0, 3, 0, 0], range = [0.0, 1.0], order = "rgb", padding = 0 }
output = { name = "output", shape = [0, 3, 0, 0] }
scale = 4"#;

/// The manifest's row for an [`upscaler`].
pub fn upscaler_row(name: &str, network: &[u8]) -> String {
    row(name, network, UPSCALER)
}

/// The manifest's row for a [`filler`].
pub fn filler_row(name: &str, network: &[u8], n: u64) -> String {
    let ports = format!(
        r#"role = "reflections"
input = {{ name = "image", shape = [1, 3, {n}, {n}], range = [0.0, 1.0], order = "rgb", padding = 127 }}
mask = {{ name = "mask", range = [0.0, 1.0] }}
output = {{ name = "output", shape = [1, 3, {n}, {n}], range = [0.0, 255.0] }}
scale = 1"#
    );
    row(name, network, &ports)
}

fn row(name: &str, network: &[u8], ports: &str) -> String {
    let sha256 = hex::encode(Sha256::digest(network));
    format!(
        "[[model]]\nname = \"{name}\"\nfile = \"{name}.onnx\"\nsha256 = \"{sha256}\"\n{ports}\nmemory_mb = 20\nships = false\n\
         licence = \"Apache-2.0\"\nsource = \"made by a test\"\n\n"
    )
}

/// Writes a manifest into `<state>/weights`; the files are still to be brought.
pub fn state_manifest(state: &Path, rows: &[String]) {
    let folder = state.join("weights");
    fs::create_dir_all(&folder).expect("folder");
    fs::write(folder.join("manifest.toml"), rows.concat()).expect("manifest");
}

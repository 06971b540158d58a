//! What a row of a manifest must say, beyond having every field: a row that is refused here could only fail later, with a photo.

use std::path::Path;

use super::{Class, EXTENSION, ModelRow, Role};

/// Words that the configuration uses where a network's name may stand.
const RESERVED: [&str; 4] = ["auto", "classical", "lanczos", "off"];
/// Bytes of a name: it stands in reports and metrics.
const LONGEST_NAME: usize = 64;
/// The classes that the segment step reads, in any order.
const CLASSES: [Class; 4] = [Class::Iris, Class::Pupil, Class::Limbus, Class::Opening];

/// All rows of one manifest. Err: the first that is wrong, and how.
pub fn rows(rows: &[ModelRow]) -> Result<(), String> {
    for (i, row) in rows.iter().enumerate() {
        let said = |what: String| format!("model {:?}: {what}", row.name);
        if rows[..i].iter().any(|other| other.name == row.name) {
            return Err(said("the name stands twice".into()));
        }
        for rule in [names, values, shapes, figures] {
            rule(row).map_err(said)?;
        }
    }
    Ok(())
}

/// Two networks in one file: whichever came second would make the other one look tampered with.
pub fn files(rows: &[ModelRow]) -> Result<(), String> {
    for (i, row) in rows.iter().enumerate() {
        if let Some(other) = rows[..i].iter().find(|other| other.file == row.file) {
            return Err(format!("models {:?} and {:?} have one file, {:?}", other.name, row.name, row.file));
        }
    }
    Ok(())
}

fn need(holds: bool, or: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(or()) }
}

fn names(row: &ModelRow) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let written = (1..=LONGEST_NAME).contains(&row.name.len()) && row.name.chars().all(plain) && !row.name.starts_with('.');
    let fits = written && !RESERVED.contains(&row.name.as_str());
    need(fits, || format!("a name has 1 to {LONGEST_NAME} of a-z 0-9 . _ - and is none of {RESERVED:?}"))?;
    // A file name with a slash would let a manifest point out of the folders that are looked in.
    let plain = !row.file.is_empty() && !row.file.contains(['/', '\\']) && !row.file.starts_with('.');
    need(plain, || format!("{:?} is not a plain file name", row.file))?;
    need(Path::new(&row.file).extension().is_none_or(|e| e != EXTENSION), || format!("{:?} would be read as a manifest", row.file))?;
    need(!row.licence.trim().is_empty(), || "licence is empty: say under which terms the file may be used".into())?;
    need(!row.source.trim().is_empty(), || "source is empty: say where the file came from".into())
}

fn values(row: &ModelRow) -> Result<(), String> {
    let mask = row.mask.as_ref().map(|m| m.range);
    for [black, white] in [Some(row.input.range), row.output.range, mask].into_iter().flatten() {
        let apart = black.is_finite() && white.is_finite() && black != white;
        need(apart, || format!("the range [{black}, {white}] has no width"))?;
    }
    let (mean, deviation) = (row.input.mean, row.input.deviation);
    let usable = mean.iter().all(|v| v.is_finite()) && deviation.iter().all(|v| v.is_finite() && *v > 0.0);
    need(usable, || format!("mean {mean:?} and deviation {deviation:?}: numbers, the deviation above 0"))
}

/// Channels, sides and scale, as the step of the role takes them.
fn shapes(row: &ModelRow) -> Result<(), String> {
    let ([_, channels, height, width], [_, out_channels, out_height, out_width]) = (row.input.shape, row.output.shape);
    let said = || format!("input {:?}, output {:?}, scale {}", row.input.shape, row.output.shape, row.scale);
    need((height == 0) == (width == 0), || format!("{}: height and width are both stated or both free", said()))?;
    need((1..=8).contains(&row.scale), || format!("{}: a scale is 1 to 8", said()))?;
    let agree = |side: usize, out: usize| side == 0 || out == 0 || side * row.scale == out;
    need(agree(height, out_height) && agree(width, out_width), || format!("{}: the output's sides are scale x the input's", said()))?;
    need(row.role == Role::Reflections || row.mask.is_none(), || "mask is for the role reflections".into())?;
    let classes = &row.output.classes;
    need(row.role == Role::Segmentation || classes.is_empty(), || "classes are for the role segmentation".into())?;
    match row.role {
        Role::Segmentation => {
            let square = channels == 3 && height == width && height > 0 && row.scale == 1;
            need(square, || format!("{}: segmentation wants 1 x 3 x N x N and scale 1", said()))?;
            let all = CLASSES.iter().all(|class| classes.contains(class)) && classes.len() == CLASSES.len();
            need(all && out_channels == classes.len(), || {
                format!("{}, classes {classes:?}: one channel each of iris, pupil, limbus, opening is wanted", said())
            })
        }
        Role::Enhancement => {
            need(channels == 3 && out_channels == 3, || format!("{}: enhancement wants 3 channels in and out", said()))?;
            let room = width == 0 || width.min(height) > 2 * row.overlap;
            need(room, || format!("{}: no room between overlaps of {} px", said(), row.overlap))?;
            need(row.batch >= 1, || "batch is at least 1".into())
        }
        Role::Reflections => {
            let four = channels + usize::from(row.mask.is_some()) == 4 && out_channels == 3;
            let square = height == width && row.scale == 1;
            need(four && square, || format!("{}: reflections want a square of 3 channels and a mask in, 3 out, scale 1", said()))
        }
    }
}

fn figures(row: &ModelRow) -> Result<(), String> {
    let share = row.max_error > 0.0 && row.max_error <= 1.0;
    need(share, || format!("max_error {} is a share of the output's range: above 0, at most 1", row.max_error))?;
    need(row.memory_mb > 0, || "memory_mb is 0: what the process grows by, measured (docs/models.md)".into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{BUILT_IN, parse};

    /// What is said of the built-in manifest after a change.
    fn said(from: &str, to: &str) -> String {
        assert!(BUILT_IN.contains(from), "{from}");
        parse(Path::new("x"), &BUILT_IN.replacen(from, to, 1)).expect_err(to).to_string()
    }

    #[test]
    fn a_row_that_no_step_could_use_is_refused_with_its_name_and_the_reason() {
        for (from, to, word) in [
            ("\"iris.onnx\"", "\"../../etc/passwd\"", "not a plain file name"),
            ("\"iris.onnx\"", "\"manifest.toml\"", "read as a manifest"),
            ("name = \"iris\"", "name = \"auto\"", "none of"),
            ("name = \"iris\"", "name = \"Iris 2\"", "a-z"),
            ("\"realesrgan-x4plus\"", "\"iris\"", "stands twice"),
            ("[\"iris\", \"pupil\"", "[\"iris\", \"iris\"", "one channel each"),
            (", \"opening\"]", "]", "one channel each"),
            ("[1, 3, 128, 128]", "[1, 3, 0, 128]", "both"),
            ("[1, 3, 128, 128]", "[1, 1, 128, 128]", "1 x 3 x N x N"),
            ("[1, 4, 128, 128]", "[1, 4, 64, 64]", "scale x the input's"),
            ("range = [0.0, 1.0]", "range = [1.0, 1.0]", "no width"),
            ("padding = 127", "padding = 127, deviation = [0.2, 0.0, 0.2]", "above 0"),
            ("max_error = 0.02", "max_error = 2.0", "share of the output's range"),
            ("memory_mb = 30", "memory_mb = 0", "measured"),
            ("licence = \"Apache-2.0\"", "licence = \" \"", "terms"),
            ("[0, 3, 0, 0], range", "[0, 3, 36, 36], range", "no room between overlaps"),
            ("scale = 4", "scale = 0", "1 to 8"),
            ("scale = 4", "mask = { name = \"mask\", range = [0.0, 1.0] }\nscale = 4", "role reflections"),
        ] {
            let said = said(from, to);
            assert!(said.contains(word) && said.contains("model \""), "{to}: {said}");
        }
    }

    #[test]
    fn a_key_that_nobody_reads_is_an_error_not_a_silence() {
        assert!(said("padding = 127", "padding = 127, std = [0.2, 0.2, 0.2]").contains("std"));
    }
}

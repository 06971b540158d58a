//! One session: its ports held against the manifest, its runs, each of which another thread can end.

use std::{
    borrow::Cow,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use ort::{
    session::{RunOptions, Session, SessionInputValue},
    value::{TensorElementType, TensorRef, ValueType},
};

use super::{
    failed,
    profile::{self, Profile},
};
use crate::{
    domain::fault::Code,
    ports::{Model, ModelError, ModelSpec, RunStop, Share, Tensor},
};

pub struct OrtModel {
    session: Session,
    spec: ModelSpec,
    /// Until the first run was observed.
    profile: Option<Profile>,
    busy: Duration,
}

impl OrtModel {
    /// `profile`: what the session was made to write to. Errors: ModelMismatch.
    pub fn new(session: Session, spec: &ModelSpec, profile: Profile) -> Result<Self, ModelError> {
        check_ports(&session, spec)?;
        Ok(Self { session, spec: spec.clone(), profile: Some(profile), busy: Duration::ZERO })
    }
}

impl Model for OrtModel {
    fn run(&mut self, input: &Tensor, stop: &RunStop) -> Result<Vec<Tensor>, ModelError> {
        let fail = |e: ort::Error| failed(&self.spec.name, e);
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::new();
        for (name, shape, data) in dealt(&self.spec, input)? {
            let view = TensorRef::from_array_view((shape, data)).map_err(fail)?;
            inputs.push((name.into(), view.into()));
        }
        // Options of its own for each run: a word that comes late must not end the next one.
        let options = Arc::new(RunOptions::new().map_err(fail)?);
        let theirs = Arc::clone(&options);
        let _until_it_ends = stop.on_stop(move || {
            if let Err(e) = theirs.terminate() {
                tracing::warn!(error = %e, "a run could not be told to end");
            }
        });
        let begun = Instant::now();
        let outputs = self.session.run_with_options(inputs, &*options).map_err(fail)?;
        self.busy += begun.elapsed();
        let value = outputs.get(&self.spec.output).ok_or_else(|| failed(&self.spec.name, "the output did not come"))?;
        let (shape, data) = value.try_extract_tensor::<f32>().map_err(fail)?;
        Ok(vec![Tensor { shape: shape.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect(), data: data.to_vec() }])
    }

    fn trial(&mut self, input: &Tensor, stop: &RunStop) -> Result<(Vec<Tensor>, Vec<Share>), ModelError> {
        let out = self.run(input, stop)?;
        let _removed_at_the_end = self.profile.take();
        let file = self.session.end_profiling().map_err(|e| failed("profile", e))?;
        Ok((out, profile::shares(Path::new(&file)).map_err(|e| failed("profile", e))?))
    }

    fn busy(&self) -> Duration {
        self.busy
    }
}

/// What one input of a network is given: name, shape, values.
type Given<'a> = (&'a str, Vec<usize>, &'a [f32]);

/// The tensor as the network's inputs take it: all of it, or its last channel apart. In a batch the channels of one input would not
/// lie together, so a network with a mask runs one picture at a time.
fn dealt<'a>(spec: &'a ModelSpec, input: &'a Tensor) -> Result<Vec<Given<'a>>, ModelError> {
    let Some(mask) = &spec.mask else { return Ok(vec![(&spec.input, input.shape.clone(), &input.data)]) };
    match input.shape[..] {
        [1, channels, h, w] if channels > 1 && input.data.len() == channels * h * w => {
            let (picture, last) = input.data.split_at((channels - 1) * h * w);
            Ok(vec![(&spec.input, vec![1, channels - 1, h, w], picture), (mask, vec![1, 1, h, w], last)])
        }
        _ => Err(ModelError { code: Code::ModelMismatch, detail: format!("{}: no picture with a mask: {:?}", spec.name, input.shape) }),
    }
}

/// The file's input and output must have the manifest's names, be f32, and take the canary's shape.
fn check_ports(session: &Session, spec: &ModelSpec) -> Result<(), ModelError> {
    let describe = |outlets: &[ort::value::Outlet]| -> String {
        outlets.iter().map(|o| format!("{} {:?}", o.name(), o.dtype().tensor_shape())).collect::<Vec<_>>().join(", ")
    };
    let mismatch = |what: String| ModelError { code: Code::ModelMismatch, detail: format!("{}: {what}", spec.name) };
    let canary = Tensor { shape: spec.canary.clone(), data: vec![0.5; spec.canary.iter().product()] };
    let wanted = dealt(spec, &canary)?;
    let takes = |(name, wanted, _): &Given<'_>| {
        let input = session.inputs().iter().find(|i| i.name() == *name);
        input.is_some_and(|input| match input.dtype() {
            ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => {
                shape.len() == wanted.len() && shape.iter().zip(wanted).all(|(is, want)| *is < 0 || *is == *want as i64)
            }
            _ => false,
        })
    };
    if session.inputs().len() != wanted.len() || !wanted.iter().all(takes) {
        let wanted: Vec<String> = wanted.iter().map(|(name, shape, _)| format!("{name} f32 {shape:?}")).collect();
        return Err(mismatch(format!("input {} is wanted, the file has: {}", wanted.join(" and "), describe(session.inputs()))));
    }
    if !session.outputs().iter().any(|o| o.name() == spec.output) {
        return Err(mismatch(format!("the output {} is wanted, the file has: {}", spec.output, describe(session.outputs()))));
    }
    Ok(())
}

/// The inputs' shapes as TensorRT's profiles want them: `rgb:1x3x128x128,mask:1x1x128x128`.
pub fn shapes(spec: &ModelSpec) -> Result<String, ModelError> {
    let canary = Tensor { shape: spec.canary.clone(), data: vec![0.0; spec.canary.iter().product()] };
    let one = |(name, shape, _): Given<'_>| format!("{name}:{}", shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"));
    Ok(dealt(spec, &canary)?.into_iter().map(one).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_name_every_input_with_its_one_shape() {
        let mut spec = ModelSpec {
            name: "n".into(),
            file: "n.onnx".into(),
            input: "rgb".into(),
            mask: None,
            output: "out".into(),
            canary: vec![2, 3, 64, 32],
        };
        assert_eq!(shapes(&spec).expect("shapes"), "rgb:2x3x64x32");
        (spec.mask, spec.canary) = (Some("mask".into()), vec![1, 4, 8, 8]);
        assert_eq!(shapes(&spec).expect("shapes"), "rgb:1x3x8x8,mask:1x1x8x8");
    }
}

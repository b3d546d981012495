//! A checkpoint that is written while training goes on.

use std::thread::{self, JoinHandle};

use burn::tensor::Tensor;
use terrace_base::{Dtype, TensorEntry};
use terrace_checkpoint::{
    CheckpointWriter, LogPositions, Saved, exp_avg_name, exp_avg_sq_name, scales_name,
};
use terrace_kernels::host::is_host;
use terrace_kernels::{CODE_BLOCK, Moment};
use terrace_model::{CausalLm, ParameterSpec, segment_specs};
use tracing::trace_span;

use crate::logs::Unsynced;
use crate::restore::{bytes, stored};
use crate::{Error, Optimizer, RunState};

/// A training state as it was at one moment.
///
/// On the processor its tensors are those of the model and the optimizer, which copy what they change
/// as long as it is shared; from a device everything is brought to the host's memory, because the
/// device's may have no room for it twice.
pub(crate) struct Snapshot {
    state: RunState,
    logs: LogPositions,
    unsynced: Unsynced,
    segments: Vec<SegmentFile>,
}

/// A tensor of the state.
enum Held {
    Shared(Box<Tensor<2>>),
    Copied(Vec<u8>),
}

/// What goes into the file of a segment.
#[derive(Default)]
struct SegmentFile {
    entries: Vec<TensorEntry>,
    tensors: Vec<Held>,
}

impl Held {
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Shared(tensor) => bytes(*tensor),
            Self::Copied(bytes) => bytes,
        }
    }
}

impl SegmentFile {
    fn float(&mut self, spec: &ParameterSpec, name: String, tensor: Tensor<2>) {
        let dtype = stored(tensor.dtype());
        self.entries.push(TensorEntry { name, dtype, shape: spec.shape.clone() });
        self.tensors.push(match is_host(&tensor.device()) {
            true => Held::Shared(Box::new(tensor)),
            false => Held::Copied(bytes(tensor)),
        });
    }

    fn moment(&mut self, spec: &ParameterSpec, name: String, moment: &Moment) {
        match moment {
            Moment::Float(tensor) => self.float(spec, name, tensor.clone()),
            Moment::Blocks(blocks) => {
                // A quarter of what the weights take: copied, wherever they are.
                let (codes, scales) = blocks.to_host();
                let scales: Vec<u8> = scales.into_iter().flat_map(f32::to_le_bytes).collect();
                let count = blocks.blocks();
                let scales_name = scales_name(&name);
                self.copied(name, Dtype::U8, vec![count, CODE_BLOCK], codes);
                self.copied(scales_name, Dtype::F32, vec![count], scales);
            }
        }
    }

    fn copied(&mut self, name: String, dtype: Dtype, shape: Vec<usize>, bytes: Vec<u8>) {
        self.entries.push(TensorEntry { name, dtype, shape });
        self.tensors.push(Held::Copied(bytes));
    }
}

impl Snapshot {
    pub(crate) fn new(
        state: RunState,
        (logs, unsynced): (LogPositions, Unsynced),
        model: &CausalLm,
        optimizer: &Optimizer,
    ) -> Self {
        let segment = |(position, segment)| {
            let specs = segment_specs(&model.architecture, segment);
            let weights = model.segment_parameters(segment);
            let mut file = SegmentFile::default();
            for ((spec, weight), moments) in
                specs.iter().zip(weights).zip(optimizer.segment_moments(position))
            {
                file.float(spec, spec.name.clone(), weight);
                file.moment(spec, exp_avg_name(&spec.name), &moments.first);
                file.moment(spec, exp_avg_sq_name(&spec.name), &moments.second);
            }
            file
        };
        let segments = model.segments().enumerate().map(segment).collect();
        Self { state, logs, unsynced, segments }
    }

    /// Writes everything and gives the checkpoint its name.
    ///
    /// The logs are brought to disk before, so that no checkpoint counts lines that are not there.
    /// Each tensor is given up once it is written.
    pub(crate) fn write(self, mut writer: CheckpointWriter) -> Result<(RunState, Saved), Error> {
        let _write = trace_span!("write_checkpoint").entered();
        self.unsynced.sync()?;
        for (position, SegmentFile { entries, tensors }) in self.segments.into_iter().enumerate() {
            writer.segment(position, &entries, |sink| {
                tensors.into_iter().try_for_each(|tensor| sink.write_all(&tensor.into_bytes()))
            })?;
        }
        writer.state(&self.state)?;
        writer.logs(&self.logs)?;
        let saved = writer.finish()?;
        Ok((self.state, saved))
    }
}

/// A thread that writes a snapshot.
///
/// Dropped, it waits for its end: a run that stops with an error loses no checkpoint by that.
pub(crate) struct Writing {
    /// The state that is written.
    pub(crate) state: RunState,
    thread: Option<JoinHandle<Result<Saved, Error>>>,
}

impl Writing {
    pub(crate) fn begin(snapshot: Snapshot, writer: CheckpointWriter) -> Result<Self, Error> {
        let state = snapshot.state.clone();
        let write = move || snapshot.write(writer).map(|(_, saved)| saved);
        let thread = thread::Builder::new().name("checkpoint".to_owned()).spawn(write);
        let thread = thread.map_err(|source| Error::Thread { source })?;
        Ok(Self { state, thread: Some(thread) })
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Result<(RunState, Saved), Error> {
        let _wait = trace_span!("wait_for_checkpoint").entered();
        let thread = self.thread.take().expect("nobody has waited before");
        let written = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.map(|saved| (self.state.clone(), saved))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Its error is not the first, or the run would not be ending.
            let _ = thread.join();
        }
    }
}

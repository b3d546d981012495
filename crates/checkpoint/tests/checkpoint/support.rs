use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use terrace_base::{Dtype, TensorEntry, Tokens};
use terrace_checkpoint::{
    CheckpointWriter, Error, Facts, LogPositions, Saved, Store, exp_avg_name, exp_avg_sq_name,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) step: u64,
    pub(crate) counts: Vec<u64>,
    pub(crate) threshold: f64,
}

/// A whole training state, small enough to save hundreds of times.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) tokens_seen: Tokens,
    pub(crate) state: State,
    pub(crate) logs: LogPositions,
    pub(crate) segments: Vec<Vec<f32>>,
}

impl Sample {
    pub(crate) fn at(tokens_seen: u64) -> Self {
        let values = |salt: u64| (0..6).map(|i| (tokens_seen + salt + i) as f32 * 0.1).collect();
        Self {
            tokens_seen: Tokens(tokens_seen),
            state: State {
                step: tokens_seen / 1024,
                counts: vec![u64::MAX, tokens_seen],
                threshold: 0.1 + 0.2,
            },
            logs: LogPositions::new().with("metrics.jsonl", 10 * tokens_seen),
            segments: vec![values(1), values(2)],
        }
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            tokens_seen: self.tokens_seen,
            step: self.state.step,
            stage: "stage-1".to_owned(),
            held_out_loss: Some(2.5),
            for_evaluation: false,
        }
    }

    pub(crate) fn begin(&self, store: &Store) -> CheckpointWriter {
        store.begin(self.facts(), 0).unwrap()
    }

    pub(crate) fn save(&self, store: &Store) -> Saved {
        self.try_save(store).unwrap()
    }

    pub(crate) fn try_save(&self, store: &Store) -> Result<Saved, Error> {
        let mut writer = store.begin(self.facts(), 0)?;
        for (index, values) in self.segments.iter().enumerate() {
            writer.segment(index, &entries(values.len()), |sink| fill(sink, values))?;
        }
        writer.state(&self.state)?;
        writer.logs(&self.logs)?;
        writer.finish()
    }
}

pub(crate) const PARAMETER: &str = "model.norm.weight";

pub(crate) fn keys() -> [String; 3] {
    [PARAMETER.to_owned(), exp_avg_name(PARAMETER), exp_avg_sq_name(PARAMETER)]
}

/// A parameter and its moments: a third of the values each.
pub(crate) fn entries(values: usize) -> Vec<TensorEntry> {
    let entry = |name| TensorEntry { name, dtype: Dtype::F32, shape: vec![1, values / 3] };
    keys().map(entry).into()
}

pub(crate) fn fill(sink: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    values.iter().try_for_each(|value| sink.write_all(&value.to_le_bytes()))
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> =
        entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

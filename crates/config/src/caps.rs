//! Whether any source would be read more often than allowed, in exact integer arithmetic.

use std::collections::BTreeMap;

use crate::error::Diagnostic;
use crate::facts::Facts;
use crate::load::Loaded;
use crate::mixture::MixtureWeights;
use crate::node::KeyPath;
use crate::run::Stage;

/// Every source and stage at which a cap is exceeded first.
///
/// Windows are counted at their most: each stage's quota rounded up. A source whose edition is not
/// there sets no limit yet.
pub(crate) fn exceeded(loaded: &Loaded, facts: &Facts) -> Vec<Diagnostic> {
    let mut ledger = Ledger { loaded, drawn: BTreeMap::new(), limits: limits(loaded, facts) };
    let stages = loaded.config.stages.iter().enumerate();
    stages.flat_map(|(index, stage)| ledger.stage(index, stage)).collect()
}

struct Limit {
    windows: u64,
    cap: u32,
}

impl Limit {
    fn allowed(&self) -> u64 {
        self.windows.saturating_mul(u64::from(self.cap))
    }
}

struct Ledger<'a> {
    loaded: &'a Loaded,
    drawn: BTreeMap<String, u64>,
    limits: BTreeMap<String, Limit>,
}

impl Ledger<'_> {
    fn stage(&mut self, stage_index: usize, stage: &Stage) -> Vec<Diagnostic> {
        // A stage that changes its mixture has no budget that would be the largest by itself.
        let largest = stage.mixture_changes.is_empty().then(|| {
            let weights = MixtureWeights::of(stage).expect("weights were checked when loading");
            self.largest_sequences(&weights).unwrap_or(0)
        });
        let mut problems = Vec::new();
        for (source, needed) in windows_at_most(stage, self.sequence_length()) {
            let before = self.drawn.get(&source).copied().unwrap_or(0);
            self.drawn.insert(source.clone(), before + needed);
            let Some(limit) = self.limits.get(&source) else {
                continue;
            };
            let source = &source;
            if before <= limit.allowed() && before + needed > limit.allowed() {
                problems.push(self.problem(stage_index, stage, source, [before, needed], largest));
            }
        }
        problems
    }

    /// The most sequences that this stage could have; `None` if nothing limits it.
    fn largest_sequences(&self, weights: &MixtureWeights) -> Option<u64> {
        let limited = weights.sources.iter().enumerate().filter_map(|(index, source)| {
            let left = self.limits.get(source)?.allowed();
            let left = left.saturating_sub(self.drawn.get(source).copied().unwrap_or(0));
            weights.sequences_at_most(index, left)
        });
        limited.min()
    }

    fn problem(
        &self,
        stage_index: usize,
        stage: &Stage,
        source: &str,
        [before, needed]: [u64; 2],
        largest: Option<u64>,
    ) -> Diagnostic {
        let limit = &self.limits[source];
        let earlier = match before {
            0 => String::new(),
            _ => format!(", of which earlier stages take {before}"),
        };
        let message = format!(
            "stage {:?} needs {needed} windows of {source:?}, but max_epochs = {} allows {} \
             ({} windows {} times){earlier}",
            stage.name,
            limit.cap,
            limit.allowed(),
            limit.windows,
            limit.cap,
        );
        let length = self.sequence_length();
        let budget = match largest {
            None => "give it less weight in what is still to come of this stage".to_owned(),
            Some(0) => "no budget of this stage is feasible with this mixture".to_owned(),
            Some(sequences) => format!(
                "the largest feasible budget of this stage is {} tokens ({sequences} sequences)",
                sequences * length
            ),
        };
        let cap = self.whole_run(source).div_ceil(limit.windows.max(1));
        let help = format!("{budget}; this run would need sources.{source}.max_epochs = {cap}");
        let path = KeyPath::new("stages").child(stage_index).child("budget_tokens");
        self.loaded.diagnostic(&path, message, Some(help))
    }

    fn whole_run(&self, source: &str) -> u64 {
        let windows = |stage: &Stage| {
            windows_at_most(stage, self.sequence_length()).get(source).copied().unwrap_or(0)
        };
        self.loaded.config.stages.iter().map(windows).sum()
    }

    fn sequence_length(&self) -> u64 {
        self.loaded.config.training.sequence_length as u64
    }
}

/// The most windows of each source that a stage can draw.
fn windows_at_most(stage: &Stage, sequence_length: u64) -> BTreeMap<String, u64> {
    let segments = stage.segments(sequence_length).expect("weights were checked when loading");
    let mut windows = BTreeMap::new();
    for segment in segments {
        for (index, source) in segment.weights.sources.iter().enumerate() {
            *windows.entry(source.clone()).or_insert(0) += segment.windows_at_most(index);
        }
    }
    windows
}

fn limits(loaded: &Loaded, facts: &Facts) -> BTreeMap<String, Limit> {
    let limit = |(name, source): (&String, &crate::run::Source)| {
        let windows = facts.editions.get(name)?.windows;
        Some((name.clone(), Limit { windows, cap: source.max_epochs? }))
    };
    loaded.config.sources.iter().filter_map(limit).collect()
}

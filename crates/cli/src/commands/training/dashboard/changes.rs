//! What an event of the run changes on the dashboard; decides only, draws nothing.

use terrace_base::Tokens;
use terrace_config::RunPlan;
use terrace_train::{EvaluationRecord, Event, HeldOut, Occasion, StepRecord, TaskScore};

use crate::table::grouped;

/// The name under which the place in the run is shown; the only one without a plot.
pub(super) const STAGE: &str = "Stage";
const LOSS: &str = "Loss";
const SPEED: &str = "Tokens/s";
const BATCH: &str = "Batch";
const LEARNING_RATE: &str = "Learning rate";
const GRADIENT_NORM: &str = "Gradient norm";

/// What is shown of training from the beginning on, in this order: the top of the list is what a
/// small terminal has room for.
const TRAINED: [&str; 6] = [STAGE, LOSS, SPEED, BATCH, LEARNING_RATE, GRADIENT_NORM];

/// One change of the dashboard.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// A metric is there, and will have values.
    Metric(String),
    /// A metric of training or of held-out text has a new value; without a point only its text
    /// changes.
    Value { metric: String, held_out: bool, text: String, point: Option<f64> },
    /// The heading.
    Heading(String),
    /// The place in the run.
    Training { tokens_seen: u64, stage_permille: u64 },
    /// The place in a measurement of the held-out loss.
    Validating { permille: u64 },
    /// Something that is counted happened once more.
    Count(&'static str),
}

/// Turns events into changes.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    stages: Vec<Stage>,
    sources: Vec<String>,
    tasks: Vec<String>,
    total_tokens: u64,
    stage: usize,
    tokens_seen: u64,
    batch: Option<u64>,
    growths: u64,
}

#[derive(Clone, Debug)]
struct Stage {
    name: String,
    starts_at: u64,
    tokens: u64,
}

impl Changes {
    /// The changes of a run that follows `plan`.
    pub(super) fn new(plan: &RunPlan) -> Self {
        let stage = |stage: &terrace_config::StagePlan| Stage {
            name: stage.name.clone(),
            starts_at: stage.starts_at_tokens,
            tokens: stage.tokens,
        };
        let tasks = plan.evaluation.iter().flat_map(|evaluation| &evaluation.tasks);
        Self {
            stages: plan.stages.iter().map(stage).collect(),
            sources: plan.sources.iter().map(|source| source.source.clone()).collect(),
            tasks: tasks.filter_map(|task| task.name.clone()).collect(),
            total_tokens: plan.total_tokens,
            stage: 0,
            tokens_seen: 0,
            batch: None,
            growths: 0,
        }
    }

    /// The tokens of all stages.
    pub(super) fn total_tokens(&self) -> u64 {
        self.total_tokens
    }

    /// What is there before anything has happened.
    pub(super) fn opening(&self) -> Vec<Change> {
        let sources = self.sources.iter();
        let names = TRAINED
            .iter()
            .map(|name| (*name).to_owned())
            .chain(sources.clone().map(|source| loss_of(source)))
            .chain(sources.map(|source| bits_of(source)))
            .chain(self.tasks.iter().map(|task| score_of(task)));
        let metrics = names.map(Change::Metric);
        // The list has the order in which texts come, and the held-out loss is measured first.
        let texts = TRAINED.iter().map(|name| text(name, "..."));
        metrics.chain(texts).collect()
    }

    /// What an event changes.
    pub(super) fn of(&mut self, event: &Event<'_>) -> Vec<Change> {
        match event {
            Event::StageStarted { index, tokens_seen, .. } => self.stage(*index, *tokens_seen),
            Event::Step(record) => self.step(record),
            Event::BadStep(bad) => {
                self.tokens_seen = bad.tokens_seen.0;
                vec![Change::Count("refused steps")]
            }
            Event::Spike(spike) => {
                self.tokens_seen = spike.tokens_seen.0;
                vec![Change::Count("loss spikes")]
            }
            Event::Rewound(record) => {
                self.tokens_seen = record.to_tokens.0;
                vec![Change::Count("rewinds")]
            }
            Event::Decision { grew: true, .. } => {
                self.growths += 1;
                self.batch.map(|batch| text(BATCH, &self.batch_text(batch))).into_iter().collect()
            }
            Event::Validating { done, total } => {
                vec![Change::Validating { permille: permille(*done, *total) }]
            }
            Event::Validated(held_out) => validated(held_out),
            Event::Evaluated(record) => evaluated(record),
            Event::Saved { .. } => vec![Change::Count("checkpoints")],
            _ => Vec::new(),
        }
    }

    fn stage(&mut self, index: usize, tokens_seen: Tokens) -> Vec<Change> {
        self.stage = index;
        self.tokens_seen = tokens_seen.0;
        let Some(stage) = self.stages.get(index) else { return Vec::new() };
        vec![Change::Heading(stage.name.clone()), text(STAGE, &self.place(stage))]
    }

    fn step(&mut self, record: &StepRecord) -> Vec<Change> {
        self.tokens_seen = record.tokens_seen.0;
        let batch = record.batch_tokens.0;
        self.batch = Some(batch);
        let mut changes = vec![
            value(LOSS, loss_text(record), record.nats),
            value(SPEED, format!("{:.0}", record.tokens_per_second), record.tokens_per_second),
            value(BATCH, self.batch_text(batch), batch as f64),
            value(LEARNING_RATE, format!("{:.3e}", record.learning_rate), record.learning_rate),
            value(GRADIENT_NORM, format!("{:.3}", record.gradient_norm), record.gradient_norm),
        ];
        let sources = record.nats_per_source.iter();
        changes.extend(
            sources.map(|(source, nats)| value(&loss_of(source), format!("{nats:.4} nats"), *nats)),
        );
        if let Some(stage) = self.stages.get(self.stage) {
            changes.push(text(STAGE, &self.place(stage)));
            let tokens_seen = self.tokens_seen;
            let stage_permille =
                permille(tokens_seen.saturating_sub(stage.starts_at), stage.tokens);
            changes.push(Change::Training { tokens_seen, stage_permille });
        }
        changes
    }

    fn place(&self, stage: &Stage) -> String {
        let done = self.tokens_seen.saturating_sub(stage.starts_at);
        let (number, count) = (self.stage + 1, self.stages.len());
        let percent = permille(done, stage.tokens) / 10;
        format!("{} {number}/{count}, {percent}% of {}", stage.name, grouped(stage.tokens))
    }

    fn batch_text(&self, batch: u64) -> String {
        let batch = grouped(batch);
        match self.growths {
            0 => format!("{batch} tokens"),
            growths => format!("{batch} tokens, grown {growths}x"),
        }
    }
}

fn validated(held_out: &HeldOut) -> Vec<Change> {
    let change = |(source, bits): (String, f64)| Change::Value {
        metric: bits_of(&source),
        held_out: true,
        text: format!("{bits:.4}"),
        point: bits.is_finite().then_some(bits),
    };
    held_out.bits_per_byte().into_iter().map(change).collect()
}

fn evaluated(record: &EvaluationRecord) -> Vec<Change> {
    // The base is another model, and held-out text is shown where it is measured.
    let scores = record.tasks.iter().filter(|_| record.occasion != Occasion::Base);
    let change = |score: &TaskScore| Change::Value {
        metric: score_of(&score.task),
        held_out: true,
        text: format!("{} {:.4}", score.metric, score.value),
        point: score.value.is_finite().then_some(score.value),
    };
    scores.map(change).collect()
}

/// All sources in one text, since a small terminal has no room for a line for each.
fn loss_text(record: &StepRecord) -> String {
    let sources = record.nats_per_source.iter();
    let sources: Vec<String> =
        sources.map(|(source, nats)| format!("{source} {nats:.3}")).collect();
    format!("{:.4} nats; {}", record.nats, sources.join(", "))
}

fn loss_of(source: &str) -> String {
    format!("{LOSS} {source}")
}

fn bits_of(source: &str) -> String {
    format!("Bits/byte {source}")
}

fn score_of(task: &str) -> String {
    format!("Score {task}")
}

fn value(metric: &str, text: String, point: f64) -> Change {
    let point = point.is_finite().then_some(point);
    Change::Value { metric: metric.to_owned(), held_out: false, text, point }
}

fn text(metric: &str, text: &str) -> Change {
    Change::Value { metric: metric.to_owned(), held_out: false, text: text.to_owned(), point: None }
}

fn permille(done: u64, total: u64) -> u64 {
    (u128::from(done) * 1000).checked_div(u128::from(total)).map_or(0, |part| part.min(1000) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use terrace_base::Fingerprint;
    use terrace_train::SourceLoss;

    use super::*;

    fn changes() -> Changes {
        let stage =
            |name: &str, starts_at, tokens| Stage { name: name.to_owned(), starts_at, tokens };
        Changes {
            stages: vec![stage("one", 0, 1000), stage("two", 1000, 3000)],
            sources: vec!["apples".to_owned(), "pears".to_owned()],
            tasks: vec!["sums".to_owned()],
            total_tokens: 4000,
            stage: 0,
            tokens_seen: 0,
            batch: None,
            growths: 0,
        }
    }

    fn step(tokens_seen: u64, batch: u64) -> StepRecord {
        StepRecord {
            step: 3,
            stage: "two".to_owned(),
            tokens_seen: Tokens(tokens_seen),
            batch_tokens: Tokens(batch),
            target_tokens: batch,
            nats: 2.5,
            nats_per_source: BTreeMap::from([("apples".to_owned(), 2.25)]),
            target_tokens_per_source: BTreeMap::from([("apples".to_owned(), batch)]),
            learning_rate: 1e-3,
            gradient_norm: f64::INFINITY,
            noise_scale: None,
            noise_trace: None,
            noise_gradient_square: None,
            noise_sample: None,
            is_spike: false,
            token_digest: Fingerprint::of_bytes(b"tokens"),
            seconds: 1.0,
            tokens_per_second: batch as f64,
            mfu: None,
        }
    }

    fn shown<'a>(changes: &'a [Change], name: &str) -> Option<(&'a str, Option<f64>)> {
        changes.iter().find_map(|change| match change {
            Change::Value { metric, text, point, .. } if metric == name => Some((&**text, *point)),
            _ => None,
        })
    }

    #[test]
    fn a_step_shows_its_numbers_and_the_place_in_the_stage() {
        let mut changes = changes();
        let started = Event::StageStarted {
            index: 1,
            name: "two",
            budget_tokens: Tokens(3000),
            tokens_seen: Tokens(1000),
        };
        let begun = changes.of(&started);
        assert_eq!(begun[0], Change::Heading("two".to_owned()));
        assert_eq!(shown(&begun, STAGE), Some(("two 2/2, 0% of 3,000", None)));

        let stepped = changes.of(&Event::Step(&step(2500, 500)));
        assert_eq!(shown(&stepped, STAGE), Some(("two 2/2, 50% of 3,000", None)));
        assert_eq!(shown(&stepped, LOSS), Some(("2.5000 nats; apples 2.250", Some(2.5))));
        assert_eq!(shown(&stepped, "Loss apples"), Some(("2.2500 nats", Some(2.25))));
        assert_eq!(shown(&stepped, SPEED), Some(("500", Some(500.0))));
        // What is not finite is told but not drawn.
        assert_eq!(shown(&stepped, GRADIENT_NORM), Some(("inf", None)));
        let place = Change::Training { tokens_seen: 2500, stage_permille: 500 };
        assert_eq!(stepped.last(), Some(&place));
    }

    #[test]
    fn growths_are_told_with_the_batch_and_a_short_last_step_is_none() {
        let mut changes = changes();
        changes.of(&Event::Step(&step(500, 500)));
        let grown = changes.of(&Event::Decision { summary: "flat", grew: true });
        assert_eq!(shown(&grown, BATCH), Some(("500 tokens, grown 1x", None)));
        assert_eq!(changes.of(&Event::Decision { summary: "steep", grew: false }), []);
        let short = changes.of(&Event::Step(&step(1000, 100)));
        assert_eq!(shown(&short, BATCH), Some(("100 tokens, grown 1x", Some(100.0))));
    }

    #[test]
    fn the_held_out_text_is_shown_apart_and_events_are_counted() {
        let mut changes = changes();
        let loss = SourceLoss {
            sequences: 1,
            target_tokens: 8,
            target_bytes: 16,
            nats: 16.0 * std::f64::consts::LN_2,
        };
        let sources = BTreeMap::from([("pears".to_owned(), loss)]);
        let held_out = HeldOut { after: None, tokens_seen: Tokens(0), sources };
        assert_eq!(
            changes.of(&Event::Validated(&held_out)),
            [Change::Value {
                metric: "Bits/byte pears".to_owned(),
                held_out: true,
                text: "1.0000".to_owned(),
                point: Some(1.0),
            }]
        );
        let measuring = changes.of(&Event::Validating { done: 3, total: 4 });
        assert_eq!(measuring, [Change::Validating { permille: 750 }]);
        let saved = Event::Saved { path: Path::new("x"), bytes: 1 };
        assert_eq!(changes.of(&saved), [Change::Count("checkpoints")]);
    }

    #[test]
    fn every_metric_is_announced_in_the_order_of_its_worth() {
        let opening = changes().opening();
        let names: Vec<_> = opening
            .iter()
            .filter_map(|change| match change {
                Change::Metric(name) => Some(name.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(names[..TRAINED.len()], TRAINED);
        assert_eq!(
            names[TRAINED.len()..],
            ["Loss apples", "Loss pears", "Bits/byte apples", "Bits/byte pears", "Score sums"]
        );
        assert_eq!(permille(7, 0), 0);
        assert_eq!(permille(u64::MAX, 1), 1000);
    }
}

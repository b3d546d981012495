//! What a person sees of a run while it goes on.

use terrace_config::RunPlan;
use terrace_policy::spike::Signal;
use terrace_train::{
    BASE, BEFORE, EvaluationRecord, Event, HeldOut, Observer, SourceScore, SpikeStep, StepRecord,
    TaskScore, WindowName,
};

use super::dashboard::Dashboard;
use crate::context::Context;
use crate::progress::{Progress, Unit};

/// The weight of the newest step in the speed and loss that are shown.
const SMOOTHING: f64 = 0.1;

/// Shows the events of a run: on the dashboard if there is one, else with a bar, or line by line.
pub(crate) struct Watch<'a> {
    context: &'a Context,
    dashboard: Option<Dashboard>,
    stage: String,
    total_tokens: u64,
    training: Option<Progress<'a>>,
    validating: Option<Progress<'a>>,
    nats: Option<f64>,
    tokens_per_second: Option<f64>,
}

impl<'a> Watch<'a> {
    /// Watches a run that follows `plan`.
    pub(crate) fn new(context: &'a Context, plan: &RunPlan, dashboard: Option<Dashboard>) -> Self {
        Self {
            context,
            dashboard,
            stage: String::new(),
            total_tokens: plan.total_tokens,
            training: None,
            validating: None,
            nats: None,
            tokens_per_second: None,
        }
    }

    /// Takes the bars and the dashboard away.
    pub(crate) fn finish(&mut self) {
        self.training = None;
        self.validating = None;
        self.dashboard = None;
    }

    fn step(&mut self, record: &StepRecord) {
        let nats = *smooth(&mut self.nats, record.nats);
        let speed = *smooth(&mut self.tokens_per_second, record.tokens_per_second);
        let context = self.context;
        if context.speech().is_held() {
            return;
        }
        let progress = self.training.get_or_insert_with(|| {
            Progress::start(context, self.stage.clone(), Unit::Count, Some(self.total_tokens))
        });
        progress.update(record.tokens_seen.0, || {
            format!(
                "step {} loss {nats:.4} batch {} |g| {:.2} {speed:.0} tok/s",
                record.step, record.batch_tokens, record.gradient_norm
            )
        });
    }

    fn spike(&self, spike: &SpikeStep) {
        let evidence = &spike.evidence;
        let (what, before) = match evidence.signal {
            Signal::Loss => (format!("a loss of {:.4}", evidence.value), evidence.median),
            Signal::LogGradientNorm => {
                let norm = format!("a gradient norm of {:.3e}", evidence.value.exp());
                (norm, evidence.median.exp())
            }
        };
        let fate = if spike.applied { "applied all the same" } else { "not applied" };
        let worst = spike.windows.first().map_or_else(String::new, |window| {
            let WindowName { source, window: place, .. } = &window.name;
            format!("; worst window: {source}/{place} at {:.4}", window.nats)
        });
        self.context.say(&format!(
            "warning: at {} tokens {what} against a median of {before:.4}: the step was {fate}{worst}",
            spike.tokens_seen
        ));
    }

    fn validating(&mut self, done: u64, total: u64) {
        let context = self.context;
        let progress = self
            .validating
            .get_or_insert_with(|| Progress::start(context, "held-out", Unit::Count, Some(total)));
        progress.update(done, || "sequences".to_owned());
    }

    fn validated(&mut self, held_out: &HeldOut) {
        self.validating = None;
        let bits = held_out.bits_per_byte();
        let bits: Vec<String> =
            bits.iter().map(|(name, bits)| format!("{name} {bits:.4}")).collect();
        let when = match held_out.after.as_deref() {
            Some(BASE) => "of the base".to_owned(),
            Some(BEFORE) => "before training".to_owned(),
            Some(stage) => format!("after {stage}"),
            None => format!("at {} tokens", held_out.tokens_seen),
        };
        self.context.note(&format!("held-out bits per byte {when}: {}", bits.join(", ")));
    }
}

/// The scores of an evaluation, in a line.
fn scores(record: &EvaluationRecord) -> String {
    let task = |score: &TaskScore| {
        let error = score.standard_error;
        let error = error.map_or_else(String::new, |error| format!(" ±{error:.4}"));
        format!("{} {} {:.4}{error}", score.task, score.metric, score.value)
    };
    let source =
        |(name, score): (&String, &SourceScore)| format!("{name} {:.4}", score.bits_per_byte);
    let tasks: Vec<String> = record.tasks.iter().map(task).collect();
    let sources: Vec<String> = record.sources.iter().map(source).collect();
    match (tasks.is_empty(), sources.is_empty()) {
        (false, false) => format!("{}; bits per byte: {}", tasks.join(", "), sources.join(", ")),
        (true, false) => format!("bits per byte: {}", sources.join(", ")),
        _ => tasks.join(", "),
    }
}

impl Observer for Watch<'_> {
    fn event(&mut self, event: &Event<'_>) {
        if let Some(dashboard) = &mut self.dashboard {
            dashboard.event(event);
        }
        match event {
            Event::StageStarted { index, name, budget_tokens, .. } => {
                let line = format!("stage {} `{name}`: {budget_tokens} tokens", index + 1);
                self.context.note(&line);
                self.nats = None;
                self.stage = (*name).to_owned();
                self.training = None;
            }
            Event::Step(record) => self.step(record),
            Event::BadStep(bad) => {
                let windows: Vec<String> =
                    bad.windows.iter().map(|w| format!("{}/{}", w.source, w.window)).collect();
                self.context.say(&format!(
                    "warning: at {} tokens {}: the step was not applied ({} in a row); windows: {}",
                    bad.tokens_seen,
                    bad.reason,
                    bad.consecutive,
                    windows.join(", ")
                ));
            }
            Event::Spike(spike) => self.spike(spike),
            Event::Rewound(record) => {
                self.training = None;
                self.context.say(&format!(
                    "warning: the spike lasts: the run goes back from {} to {} tokens and will pass \
                     over the sequences {} to {} (rewind {})",
                    record.from_tokens,
                    record.to_tokens,
                    record.skip_start,
                    record.skip_end - 1,
                    record.rewinds
                ));
            }
            Event::Decision { summary, grew: true } => {
                self.context.note(&format!("the batch grows: {summary}"));
            }
            Event::Decision { summary, grew: false } => tracing::debug!("{summary}"),
            Event::Validating { done, total } => self.validating(*done, *total),
            Event::Validated(held_out) => self.validated(held_out),
            Event::Evaluated(record) => {
                self.validating = None;
                let (label, scores) = (record.label(), scores(record));
                self.context.note(&format!("evaluation, {label}: {scores}"));
            }
            Event::Saved { path, bytes } => {
                tracing::info!(path = %path.display(), bytes, "saved a checkpoint");
            }
            Event::Stopped { tokens_seen } => {
                let line = format!("stopped at {tokens_seen} tokens, as asked; the state is saved");
                self.context.say(&line);
            }
            _ => {}
        }
    }
}

fn smooth(average: &mut Option<f64>, value: f64) -> &f64 {
    let before = average.unwrap_or(value);
    average.insert(before + SMOOTHING * (value - before))
}

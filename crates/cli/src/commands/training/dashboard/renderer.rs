//! burn-train's renderer behind an interface that cannot panic.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use burn_train::Interrupter;
use burn_train::logger::TrainingProgressLogger;
use burn_train::metric::{
    MetricAttributes, MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use burn_train::renderer::tui::TuiMetricsRendererWrapper;
use burn_train::renderer::{MetricState, MetricsRenderer, MetricsRendererTraining};
use terrace_base::Tokens;

use super::changes::{Change, STAGE};

/// The parts that a stage, or a measurement, is shown in.
const PARTS: usize = 1000;

/// The user chose to kill the program: any call to burn-train's renderer panics from then on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Killed;

/// The renderer, which draws from a thread of its own.
pub(super) struct Renderer {
    inner: TuiMetricsRendererWrapper,
    interrupter: Interrupter,
    metrics: BTreeMap<String, MetricId>,
    total_tokens: usize,
    heading: String,
    /// The renderer tells nobody when its thread ends. But it keeps the names of all metrics, this
    /// one too: who is the last to hold it knows.
    sign_of_life: Arc<String>,
}

impl Renderer {
    /// Takes the terminal.
    pub(super) fn start(tokens_seen: Tokens, total_tokens: u64) -> Result<Self, Killed> {
        let interrupter = Interrupter::new();
        // burn-train counts epochs of equal length, and a run has stages of any length. So an
        // "epoch" is one token of the run and its "items" are the thousandths of the stage: the
        // lower bar is then exact for the run, its estimate of the time left as well, after a
        // resume too, and the upper bar is exact for the stage.
        let inner = TuiMetricsRendererWrapper::new(interrupter.clone(), Some(count(tokens_seen.0)));
        let mut renderer = Self {
            inner,
            interrupter,
            metrics: BTreeMap::new(),
            total_tokens: count(total_tokens),
            heading: String::new(),
            sign_of_life: Arc::new("sign of life".to_owned()),
        };
        let name = Arc::clone(&renderer.sign_of_life);
        renderer.guarded(|r| r.inner.register_metric(definition(name, MetricAttributes::None)))?;
        Ok(renderer)
    }

    /// Shows a change.
    pub(super) fn show(&mut self, change: Change) -> Result<(), Killed> {
        self.guarded(|renderer| renderer.apply(change))
    }

    /// Changes nothing, but finds out about a kill.
    pub(super) fn beat(&mut self) -> Result<(), Killed> {
        self.guarded(Self::show_heading)
    }

    /// Whether the user chose to quit.
    pub(super) fn wants_to_quit(&self) -> bool {
        self.interrupter.should_stop()
    }

    /// Whether the thread that draws has ended.
    pub(super) fn is_gone(&self) -> bool {
        Arc::strong_count(&self.sign_of_life) == 1
    }

    /// Gives the terminal back; does not return if the thread that draws hangs.
    pub(super) fn close(self) {
        // A kill at this very moment comes too late: there is nothing left to kill.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self)));
    }

    fn guarded(&mut self, call: impl FnOnce(&mut Self)) -> Result<(), Killed> {
        catch_unwind(AssertUnwindSafe(|| call(self))).map_err(|_| Killed)
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Metric(name) => {
                self.metric(&name);
            }
            Change::Value { metric, held_out, text, point } => {
                let entry = MetricEntry::new(self.metric(&metric), formatted(text));
                let state = match point {
                    Some(point) => MetricState::Numeric(entry, Some(NumericEntry::Value(point))),
                    None => MetricState::Generic(entry),
                };
                match held_out {
                    true => self.inner.update_valid(state),
                    false => self.inner.update_train(state),
                }
            }
            Change::Heading(heading) => {
                self.heading = heading;
                self.show_heading();
            }
            Change::Training { tokens_seen, stage_permille } => {
                self.inner.start_split("train", PARTS);
                // It adds one; and its arithmetic needs at least one.
                self.inner.update_epoch(count(tokens_seen).saturating_sub(1));
                self.inner.update_split(count(stage_permille));
            }
            Change::Validating { permille } => {
                self.inner.start_split("valid", PARTS);
                self.inner.update_split(count(permille));
            }
            Change::Count(name) => self.inner.log_event_training(name.to_owned()),
        }
    }

    fn show_heading(&mut self) {
        self.inner.start(self.total_tokens, 1, None, Some(&self.heading));
    }

    fn metric(&mut self, name: &str) -> MetricId {
        if let Some(id) = self.metrics.get(name) {
            return id.clone();
        }
        let attributes = match name {
            STAGE => MetricAttributes::None,
            _ => NumericAttributes { unit: None, higher_is_better: false }.into(),
        };
        let definition = definition(Arc::new(name.to_owned()), attributes);
        let id = definition.metric_id.clone();
        self.inner.register_metric(definition);
        self.metrics.insert(name.to_owned(), id.clone());
        id
    }
}

fn definition(name: Arc<String>, attributes: MetricAttributes) -> MetricDefinition {
    let metric_id = MetricId::new(Arc::clone(&name));
    MetricDefinition { metric_id, name, description: None, attributes }
}

fn formatted(text: String) -> SerializedEntry {
    SerializedEntry::new(text.clone(), text)
}

fn count(number: u64) -> usize {
    usize::try_from(number).expect("tokens are counted on 64-bit machines")
}

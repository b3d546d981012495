//! Going on from the state of a controller that was told something else.

use terrace_base::Tokens;

use super::{BatchController, Told};
use crate::batch::decision::{Decision, DecisionKind};
use crate::batch::loss_average::LossAverage;
use crate::batch::plateau::PlateauState;

impl BatchController {
    pub(super) fn told(&self) -> Told {
        Told {
            policy: self.policy.clone(),
            coupling: self.coupling,
            half_life: self.half_life,
            first_sequences: self.first_sequences,
        }
    }

    /// Makes a state its own that came from a controller which may have been told something else;
    /// gives a record if it was. `budget` is that of the stage in which it stands, none between stages.
    ///
    /// The threshold and the part of alpha that is spent are the stage's: other settings make neither
    /// a new stage. What was learnt of the losses is forgotten where the plateau test is told
    /// something else, and so is whether earlier growths helped. The batch stays, unless the run's
    /// first batch is another or there is a schedule; couplings go on from the run's own first batch.
    pub fn heed(&mut self, tokens_seen: Tokens, budget: Option<Tokens>) -> Option<Decision> {
        let now = self.told();
        let was = self.state.told.replace(now.clone())?;
        if let (Some(budget), Some(stage)) = (budget, &mut self.state.stage) {
            stage.budget_tokens = budget;
        }
        if was == now {
            return None;
        }
        let from = self.state.batch_sequences;
        if was.first_sequences != now.first_sequences {
            self.state.batch_sequences = now.first_sequences;
        }
        if was.policy != now.policy {
            let scheduled = self.scheduled(tokens_seen);
            self.state.batch_sequences = scheduled.unwrap_or(self.state.batch_sequences);
            self.state.loss = LossAverage::default();
            self.state.next_look = tokens_seen.0;
        }
        self.state.pending = None;
        self.state.tokens_seen = tokens_seen.0;
        if budget.is_some() {
            self.begin_test_anew();
        }
        let kept = match &self.state.plateau {
            Some(plateau) => {
                format!("; a descent below {:.3e} nats per step is a plateau", plateau.delta)
            }
            None => String::new(),
        };
        let reason = format!("other batch settings from here on{kept}");
        Some(self.record(DecisionKind::Stage, tokens_seen, from, reason))
    }

    fn begin_test_anew(&mut self) {
        let Some(stage) = &self.state.stage else { return };
        let first = self.state.stage_sequences.unwrap_or(self.state.batch_sequences);
        let growth = self.state.batch_sequences as f64 / first as f64;
        let before = self.state.plateau.take();
        let begun = self.policy.plateau().map(|settings| {
            PlateauState::new(settings, stage, first * self.sequence_length)
                .carried(before.as_ref(), growth)
        });
        self.state.plateau = begun;
    }
}

//! The modes that follow an advisor: the noise scale of the gradient, or a law of the loss.

use super::{BatchController, Observation};
use crate::batch::decision::{Advice, Decision, DecisionKind};
use crate::batch::modes::{Advisor, Following};

/// The advisor is asked so many times in a half-life of its means.
const LOOKS: u64 = 4;

/// What an advisor has to say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Counsel {
    /// This batch, in tokens.
    Batch(f64),
    /// A larger one than can be measured.
    Unbounded,
    /// Nothing, and why.
    Unknown(&'static str),
}

impl BatchController {
    /// Looks at the advice from time to time, and grows towards it.
    ///
    /// After a growth one half-life passes, so that the next one is decided on what was measured at
    /// the new batch: the noise scale depends on it.
    pub(super) fn follow(
        &mut self,
        following: Following,
        observation: &Observation<'_>,
    ) -> Option<Decision> {
        let tokens_seen = observation.tokens_seen;
        if tokens_seen.0 < self.state.next_look {
            return None;
        }
        let half_life = self.half_life().0;
        self.state.next_look = tokens_seen.0.saturating_add((half_life / LOOKS).max(1));
        let from = self.state.batch_sequences;
        let (counsel, advice) = self.counsel(following.advisor);
        let mut guard = None;
        let mut prediction = None;
        let (kind, reason) = match self.followed(&following, counsel, observation) {
            Err((reason, held)) => {
                guard = held;
                (DecisionKind::Hold, reason)
            }
            Ok(to) => {
                prediction =
                    Some(self.predicted(&self.growth(from, to, observation.learning_rate)));
                self.state.batch_sequences = to;
                self.state.last_growth = Some(tokens_seen.0);
                self.state.next_look = tokens_seen.0.saturating_add(half_life);
                (DecisionKind::Grow, "the advised batch is larger".to_owned())
            }
        };
        let mut decision = self.record(kind, tokens_seen, from, reason);
        decision.guard = guard;
        decision.prediction = prediction;
        decision.advice = Some(advice);
        Some(decision)
    }

    /// The batch to grow to, or why not.
    fn followed(
        &self,
        following: &Following,
        counsel: Counsel,
        observation: &Observation<'_>,
    ) -> Result<u64, (String, Option<crate::batch::Guard>)> {
        let tokens = match counsel {
            Counsel::Batch(tokens) => tokens,
            Counsel::Unknown(why) => return Err((why.to_owned(), None)),
            Counsel::Unbounded => {
                return Err(("the noise hides the gradient; the batch waits".to_owned(), None));
            }
        };
        let wanted = (tokens / self.sequence_length as f64) as u64;
        if wanted <= self.state.batch_sequences {
            return Err(("the advised batch is not larger".to_owned(), None));
        }
        let larger = self.circumstances(observation).larger_batch(&following.limits, wanted);
        larger.map_err(|guard| {
            (format!("the advised batch is larger, but {}", guard.reason()), Some(guard))
        })
    }

    /// What the advisor says, and its record.
    pub(super) fn counsel(&self, advisor: Advisor) -> (Counsel, Advice) {
        let (counsel, loss_nats) = match advisor {
            Advisor::NoiseScale(rule) => {
                let counsel = match self.noise() {
                    None => Counsel::Unknown(
                        "no noise scale; a step needs at least two micro-batches to measure it",
                    ),
                    Some(reading) if reading.is_stale => {
                        Counsel::Unknown("the noise scale is not yet that of this data")
                    }
                    Some(reading) => match reading.targets {
                        Some(targets) => Counsel::Batch(rule.batch_tokens(targets)),
                        None => Counsel::Unbounded,
                    },
                };
                (counsel, None)
            }
            Advisor::LossLaw(law) => {
                let stage = self.state.stage.as_ref().expect("a stage has begun");
                let mean = self.state.loss.mean(&stage.reference_weights, self.half_life());
                match mean {
                    Some(nats) => (Counsel::Batch(law.batch_tokens(nats)), Some(nats)),
                    None => (Counsel::Unknown("the mean loss is not yet known"), None),
                }
            }
        };
        let batch_tokens = match counsel {
            Counsel::Batch(tokens) => Some(tokens),
            Counsel::Unbounded | Counsel::Unknown(_) => None,
        };
        (counsel, Advice { batch_tokens, loss_nats })
    }
}

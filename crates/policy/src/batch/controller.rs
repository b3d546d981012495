//! The batch controller: what a run asks for its next batch.

use serde::{Deserialize, Serialize};
use terrace_base::Tokens;

use super::block::SourceLoss;
use super::decision::{Decision, DecisionKind, Evidence, Guard, Response, Verdict};
use super::guard::Circumstances;
use super::plateau::{Finding, PlateauState};
use super::settings::{BatchError, BatchPolicy, PlateauSettings};
use super::statistics::Line;

/// What is told about a stage when it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageInfo {
    /// The stage, counted from zero.
    pub index: usize,
    /// Tokens seen when it begins.
    pub start_tokens: Tokens,
    /// Tokens that it trains on.
    pub budget_tokens: Tokens,
    /// With which batch it begins.
    pub batch: StageBatch,
    /// Tokens at its beginning that no slope is learnt from.
    pub settle_tokens: Tokens,
    /// The share of each source in the mixture-adjusted loss, in the order of the observations:
    /// the stage's target shares, fixed even where its weights change.
    pub reference_weights: Vec<f64>,
}

/// With which batch a stage begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageBatch {
    /// The one that the stage before ended with.
    Carry,
    /// So many sequences.
    Sequences(u64),
}

/// What is told after an optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation<'a> {
    /// Optimizer steps taken, this one included.
    pub step: u64,
    /// Tokens seen, those of this step included.
    pub tokens_seen: Tokens,
    /// What each source contributed.
    pub sources: &'a [SourceLoss],
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// The step was not applied; nothing is learnt from it.
    pub is_bad: bool,
    /// The step is known to be an outlier; it counts, but no slope is learnt from it.
    pub is_spike: bool,
}

/// The controller's memory, as a checkpoint keeps it; floats come back bit for bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchControllerState {
    batch_sequences: u64,
    first_sequences: u64,
    step: u64,
    last_growth: Option<u64>,
    stage: Option<StageInfo>,
    plateau: Option<PlateauState>,
}

impl BatchControllerState {
    /// Sequences of the next step's batch.
    #[must_use]
    pub fn batch_sequences(&self) -> u64 {
        self.batch_sequences
    }
}

/// Decides the size of the batch.
///
/// # Determinism
///
/// Decisions are a function of the policy, the stages and the observations so far. Memory is that
/// of one window; a step costs a constant.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchController {
    policy: BatchPolicy,
    sequence_length: u64,
    state: BatchControllerState,
}

impl BatchController {
    /// A controller for a run that begins with `first_sequences` per batch.
    ///
    /// # Errors
    ///
    /// The policy makes no sense, or a batch would be empty.
    pub fn new(
        policy: BatchPolicy,
        sequence_length: u64,
        first_sequences: u64,
    ) -> Result<Self, BatchError> {
        if first_sequences == 0 || sequence_length == 0 {
            return Err(BatchError::Empty);
        }
        let state = BatchControllerState {
            batch_sequences: first_sequences,
            first_sequences,
            step: 0,
            last_growth: None,
            stage: None,
            plateau: None,
        };
        Self::restore(policy, sequence_length, state)
    }

    /// A controller that goes on from a saved state.
    ///
    /// # Errors
    ///
    /// The policy makes no sense.
    pub fn restore(
        policy: BatchPolicy,
        sequence_length: u64,
        state: BatchControllerState,
    ) -> Result<Self, BatchError> {
        policy.validate()?;
        Ok(Self { policy, sequence_length, state })
    }

    /// Who decides.
    #[must_use]
    pub fn policy(&self) -> &BatchPolicy {
        &self.policy
    }

    /// What a checkpoint has to keep.
    #[must_use]
    pub fn state(&self) -> &BatchControllerState {
        &self.state
    }

    /// Sequences of the next step's batch.
    #[must_use]
    pub fn batch_sequences(&self) -> u64 {
        self.state.batch_sequences
    }

    /// Begins a stage: sets its batch, forgets losses, fixes the threshold.
    pub fn on_stage_start(&mut self, stage: StageInfo) -> Decision {
        let weights = &stage.reference_weights;
        let valid = weights.iter().all(|w| *w >= 0.0) && weights.iter().sum::<f64>() > 0.0;
        assert!(valid, "reference weights of {weights:?}");
        let from = self.state.batch_sequences;
        if let StageBatch::Sequences(sequences) = stage.batch {
            assert!(sequences > 0, "a stage begins with a batch of nothing");
            self.state.batch_sequences = sequences;
        }
        if let Some(sequences) = self.scheduled(stage.start_tokens) {
            self.state.batch_sequences = sequences;
        }
        let first_tokens = self.state.batch_sequences * self.sequence_length;
        self.state.plateau = match &self.policy {
            BatchPolicy::Plateau(settings) => {
                Some(PlateauState::new(settings, &stage, first_tokens))
            }
            BatchPolicy::Fixed | BatchPolicy::Steps(_) => None,
        };
        let tokens_seen = stage.start_tokens;
        self.state.stage = Some(stage);
        let reason = match &self.state.plateau {
            Some(plateau) => format!(
                "the stage begins; a descent below {:.3e} nats per step is a plateau",
                plateau.delta
            ),
            None => "the stage begins".to_owned(),
        };
        self.record(DecisionKind::Stage, tokens_seen, from, reason)
    }

    /// The mix changed within the stage, with new weights for the mixture-adjusted loss.
    pub fn on_mix_change(&mut self, reference_weights: &[f64]) {
        if let Some(stage) = &mut self.state.stage {
            stage.reference_weights = reference_weights.to_vec();
        }
        if let Some(plateau) = &mut self.state.plateau {
            plateau.mix_changed(reference_weights);
        }
    }

    /// As [`on_mix_change`](Self::on_mix_change), with a record of it.
    pub fn mix_changed(&mut self, reference_weights: &[f64], tokens_seen: Tokens) -> Decision {
        self.on_mix_change(reference_weights);
        let reason = "the mixture changes; losses before and after are not compared".to_owned();
        self.record(DecisionKind::Mix, tokens_seen, self.state.batch_sequences, reason)
    }

    /// The reference weights of the mixture-adjusted loss; none before the first stage.
    #[must_use]
    pub fn reference_weights(&self) -> Option<&[f64]> {
        self.state.stage.as_ref().map(|stage| stage.reference_weights.as_slice())
    }

    /// Takes in an optimizer step; gives a record where something was concluded.
    pub fn observe(&mut self, observation: Observation<'_>) -> Option<Decision> {
        if observation.is_bad || observation.sources.iter().any(|loss| !loss.nats.is_finite()) {
            return None;
        }
        self.state.step = observation.step;
        match &self.policy {
            BatchPolicy::Fixed => None,
            BatchPolicy::Steps(_) => self.follow_schedule(observation.tokens_seen),
            BatchPolicy::Plateau(settings) => {
                let settings = settings.clone();
                self.observe_loss(&settings, &observation)
            }
        }
    }

    fn scheduled(&self, tokens_seen: Tokens) -> Option<u64> {
        let BatchPolicy::Steps(steps) = &self.policy else {
            return None;
        };
        let reached = steps.iter().rev().find(|(threshold, _)| *threshold <= tokens_seen);
        reached.map(|(_, sequences)| *sequences)
    }

    fn follow_schedule(&mut self, tokens_seen: Tokens) -> Option<Decision> {
        let from = self.state.batch_sequences;
        let to = self.scheduled(tokens_seen).filter(|to| *to != from)?;
        self.state.batch_sequences = to;
        Some(self.record(DecisionKind::Grow, tokens_seen, from, "by schedule".to_owned()))
    }

    fn observe_loss(
        &mut self,
        settings: &PlateauSettings,
        observation: &Observation<'_>,
    ) -> Option<Decision> {
        let stage = self.state.stage.as_ref().expect("a stage has begun");
        let weights = stage.reference_weights.len();
        assert_eq!(observation.sources.len(), weights, "one loss for each reference weight");
        let elapsed = observation.tokens_seen.0.saturating_sub(stage.start_tokens.0);
        let share = (elapsed as f64 / stage.budget_tokens.0 as f64).min(1.0);
        let plateau = self.state.plateau.as_mut().expect("a stage has begun");
        match plateau.observe(settings, observation, settings.alpha * share)? {
            Finding::Answer(response) => {
                Some(self.answered(settings, response, observation.tokens_seen))
            }
            Finding::Look { verdict, evidence, line } => {
                Some(self.looked(settings, verdict, evidence, line, observation))
            }
        }
    }

    fn answered(
        &self,
        settings: &PlateauSettings,
        response: Response,
        tokens_seen: Tokens,
    ) -> Decision {
        let growths = settings.unresponsive_growths;
        let exhausted = self.state.plateau.as_ref().is_some_and(|plateau| plateau.exhausted);
        let (kind, reason) = match (response.responded, exhausted) {
            (true, _) => (DecisionKind::Response, "the loss fell after the growth".to_owned()),
            (false, false) => {
                (DecisionKind::Response, "the loss did not answer to the growth".to_owned())
            }
            (false, true) => (
                DecisionKind::Exhausted,
                format!(
                    "{growths} growths in a row did not help: the batch stays; lower the learning \
                     rate or end the stage"
                ),
            ),
        };
        let mut decision = self.record(kind, tokens_seen, self.state.batch_sequences, reason);
        decision.response = Some(response);
        decision
    }

    fn looked(
        &mut self,
        settings: &PlateauSettings,
        verdict: Verdict,
        evidence: Evidence,
        line: Line,
        observation: &Observation<'_>,
    ) -> Decision {
        let from = self.state.batch_sequences;
        let tokens_seen = observation.tokens_seen;
        let plateau = self.state.plateau.as_ref().expect("a stage has begun");
        let wanted = verdict == Verdict::Plateau && plateau.is_confirmed(settings);
        let proposal = wanted.then(|| self.proposal(settings, observation));
        let mut cooldown_steps = None;
        let (kind, reason) = match proposal {
            None => (DecisionKind::Hold, reason_to_hold(verdict, &evidence)),
            Some(Err(guard)) => (DecisionKind::Hold, guard.reason().to_owned()),
            Some(Ok(to)) => {
                self.state.batch_sequences = to;
                self.state.last_growth = Some(tokens_seen.0);
                let plateau = self.state.plateau.as_mut().expect("a stage has begun");
                cooldown_steps = Some(plateau.grown(settings, line));
                (DecisionKind::Grow, "the loss no longer falls".to_owned())
            }
        };
        let mut decision = self.record(kind, tokens_seen, from, reason);
        decision.verdict = Some(verdict);
        decision.evidence = Some(evidence);
        decision.guard = proposal.and_then(Result::err);
        decision.cooldown_steps = cooldown_steps;
        decision
    }

    /// The batch that a growth would lead to, or what stands in its way.
    fn proposal(
        &self,
        settings: &PlateauSettings,
        observation: &Observation<'_>,
    ) -> Result<u64, Guard> {
        let state = &self.state;
        let plateau = state.plateau.as_ref().expect("a stage has begun");
        let stage = state.stage.as_ref().expect("a stage has begun");
        let circumstances = Circumstances {
            batch_sequences: state.batch_sequences,
            first_sequences: state.first_sequences,
            sequence_length: self.sequence_length,
            tokens_seen: observation.tokens_seen.0,
            stage_end: stage.start_tokens.0 + stage.budget_tokens.0,
            last_growth: state.last_growth,
            learning_rate: observation.learning_rate,
            is_exhausted: plateau.exhausted,
            awaits_response: plateau.awaits_response(),
        };
        circumstances.larger_batch(settings)
    }

    fn record(
        &self,
        kind: DecisionKind,
        tokens_seen: Tokens,
        from_sequences: u64,
        reason: String,
    ) -> Decision {
        let state = &self.state;
        Decision {
            step: state.step,
            tokens_seen,
            stage: state.stage.as_ref().map_or(0, |stage| stage.index),
            kind,
            reason,
            from_sequences,
            to_sequences: state.batch_sequences,
            delta_nats_per_step: state.plateau.as_ref().map(|plateau| plateau.delta),
            verdict: None,
            evidence: None,
            guard: None,
            cooldown_steps: None,
            response: None,
        }
    }
}

fn reason_to_hold(verdict: Verdict, evidence: &Evidence) -> String {
    match verdict {
        Verdict::Improving => "the loss falls".to_owned(),
        Verdict::Rising => "the loss rises; a larger batch would not mend that".to_owned(),
        Verdict::Plateau => format!("a plateau, seen {} time(s)", evidence.confirmations),
        Verdict::Undecided => "the window does not say; it widens".to_owned(),
    }
}

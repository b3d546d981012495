//! The batch controller: what a run asks for its next batch.

mod following;
mod growing;
mod revising;

use serde::{Deserialize, Serialize};
use terrace_base::Tokens;

use super::block::SourceLoss;
use super::coupling::{Coupling, Factors};
use super::decision::{Decision, DecisionKind};
use super::guard::Circumstances;
use super::loss_average::LossAverage;
use super::modes::Advisor;
use super::noise_scale::{NoiseReading, NoiseSample, NoiseScale};
use super::plateau::PlateauState;
use super::prediction::{Growth, Prediction, PredictionBasis, strength_of_noise};
use super::settings::{BatchError, BatchPolicy};

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
    /// The number of weights that are trained, where a prediction is to be made from it.
    #[serde(default)]
    pub trained_parameters: Option<u64>,
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
    /// The learning rate of the step, as it is before it follows the batch (see
    /// [`Coupling`](super::Coupling)): a change of it empties the window.
    pub learning_rate: f64,
    /// What the step's micro-batches say about the noise of the gradient, where that is measured.
    pub noise: Option<NoiseSample>,
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
    /// The tokens seen at the last observation.
    #[serde(default)]
    tokens_seen: u64,
    #[serde(default)]
    noise: NoiseScale,
    #[serde(default)]
    loss: LossAverage,
    /// The tokens at which an advisor is asked again.
    #[serde(default)]
    next_look: u64,
    /// The growth whose answer is awaited.
    #[serde(default)]
    pending: Option<PendingGrowth>,
    /// How strong the noise floor of the stage showed itself in the last answer.
    #[serde(default)]
    floor_strength: Option<f64>,
    /// The batch that the stage began with; none in what an older version saved.
    #[serde(default)]
    stage_sequences: Option<u64>,
    /// What the controller was told when it came to this state; none likewise.
    #[serde(default)]
    told: Option<Told>,
}

/// What a controller is told, and its state does not change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    policy: BatchPolicy,
    coupling: Coupling,
    half_life: Option<Tokens>,
    first_sequences: u64,
}

/// A growth, and what was predicted for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct PendingGrowth {
    growth: Growth,
    drop: Option<f64>,
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
    coupling: Coupling,
    half_life: Option<Tokens>,
    sequence_length: u64,
    first_sequences: u64,
    state: BatchControllerState,
}

/// By default the means of noise scale and loss forget half of themselves in this share of a stage.
const HALF_LIFE_SHARE: u64 = 50;

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
            tokens_seen: 0,
            noise: NoiseScale::default(),
            loss: LossAverage::default(),
            next_look: 0,
            pending: None,
            floor_strength: None,
            stage_sequences: None,
            told: None,
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
        let (coupling, half_life) = (Coupling::default(), None);
        let first_sequences = state.first_sequences;
        Ok(Self { policy, coupling, half_life, sequence_length, first_sequences, state })
    }

    /// The same, with an optimizer whose constants follow the batch.
    #[must_use]
    pub fn with_coupling(self, coupling: Coupling) -> Self {
        Self { coupling, ..self }
    }

    /// The same, with means of noise scale and loss that forget half of themselves in so many
    /// tokens; by default in 2 % of a stage.
    #[must_use]
    pub fn with_half_life(self, half_life: Option<Tokens>) -> Self {
        Self { half_life, ..self }
    }

    /// The same, in another state: how a resumed run goes on. Where the state came from another
    /// controller, [`heed`](Self::heed) says so.
    #[must_use]
    pub fn with_state(self, state: BatchControllerState) -> Self {
        Self { state, ..self }
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

    /// By what the optimizer's constants change at the batch of the next step.
    #[must_use]
    pub fn factors(&self) -> Factors {
        self.coupling.factors(self.state.batch_sequences, self.state.first_sequences)
    }

    /// The noise scale of the gradient, if any step has told of it.
    #[must_use]
    pub fn noise(&self) -> Option<NoiseReading> {
        self.state.noise.reading(self.half_life())
    }

    fn half_life(&self) -> Tokens {
        let stage = self.state.stage.as_ref();
        let share = || stage.map_or(1, |stage| stage.budget_tokens.0 / HALF_LIFE_SHARE);
        self.half_life.unwrap_or_else(|| Tokens(share().max(1)))
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
        self.state.stage_sequences = Some(self.state.batch_sequences);
        self.state.told = Some(self.told());
        let first_tokens = self.state.batch_sequences * self.sequence_length;
        let plateau = self.policy.plateau();
        self.state.plateau = plateau.map(|s| PlateauState::new(s, &stage, first_tokens));
        let tokens_seen = stage.start_tokens;
        self.state.tokens_seen = tokens_seen.0;
        self.data_changed(stage.settle_tokens);
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

    /// The mix changed within the stage, with new weights for the mixture-adjusted loss: what is
    /// known of the losses is forgotten, and nothing is learnt until they have settled.
    pub fn on_mix_change(&mut self, reference_weights: &[f64], tokens_seen: Tokens) -> Decision {
        let mut settle = Tokens(0);
        if let Some(stage) = &mut self.state.stage {
            stage.reference_weights = reference_weights.to_vec();
            settle = stage.settle_tokens;
        }
        self.state.tokens_seen = tokens_seen.0;
        if let Some(plateau) = &mut self.state.plateau {
            plateau.mix_changed(reference_weights, tokens_seen.0.saturating_add(settle.0));
        }
        self.data_changed(settle);
        let reason = format!(
            "the mixture changes; losses before and after are not compared, and settle for {settle} \
             tokens"
        );
        let batch = self.state.batch_sequences;
        self.record(DecisionKind::Mix, tokens_seen, batch, reason)
    }

    /// What was measured belongs to other data.
    fn data_changed(&mut self, settle: Tokens) {
        let state = &mut self.state;
        state.noise.mark_stale();
        state.loss = LossAverage::default();
        state.next_look = state.tokens_seen.saturating_add(settle.0);
        state.pending = None;
        state.floor_strength = None;
    }

    /// The losses to come are not comparable with those so far, for this reason: forgets them.
    pub fn rebaseline(&mut self, tokens_seen: Tokens, reason: String) -> Decision {
        self.state.tokens_seen = tokens_seen.0;
        if let (Some(plateau), Some(stage)) = (&mut self.state.plateau, &self.state.stage) {
            plateau.mix_changed(&stage.reference_weights, tokens_seen.0);
        }
        self.data_changed(Tokens(0));
        self.record(DecisionKind::Hold, tokens_seen, self.state.batch_sequences, reason)
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
        self.state.tokens_seen = observation.tokens_seen.0;
        if !observation.is_spike {
            self.measure(&observation);
        }
        match &self.policy {
            BatchPolicy::Fixed => None,
            BatchPolicy::Steps(_) | BatchPolicy::Ramp(_) => self.follow_schedule(&observation),
            // While the rate falls, noise and loss fall with it, whatever the batch is.
            BatchPolicy::Following(_) if observation.is_spike => None,
            BatchPolicy::Following(following) => self.follow(*following, &observation),
            BatchPolicy::Plateau(_) | BatchPolicy::Hybrid(_) => {
                let settings = self.policy.plateau().cloned().expect("these modes have a test");
                self.observe_loss(&settings, &observation)
            }
        }
    }

    fn measure(&mut self, observation: &Observation<'_>) {
        let (half_life, tokens_seen) = (self.half_life(), observation.tokens_seen);
        if let Some(sample) = observation.noise {
            self.state.noise.observe(sample, tokens_seen, half_life);
        }
        if let Some(Advisor::LossLaw(_)) = self.policy.advisor() {
            self.state.loss.observe(observation.sources, tokens_seen, half_life);
        }
    }

    fn scheduled(&self, tokens_seen: Tokens) -> Option<u64> {
        match &self.policy {
            BatchPolicy::Steps(steps) => {
                let reached = steps.iter().rev().find(|(threshold, _)| *threshold <= tokens_seen);
                reached.map(|(_, sequences)| *sequences)
            }
            BatchPolicy::Ramp(ramp) => Some(ramp.at(self.state.first_sequences, tokens_seen)),
            _ => None,
        }
    }

    fn follow_schedule(&mut self, observation: &Observation<'_>) -> Option<Decision> {
        let from = self.state.batch_sequences;
        let to = self.scheduled(observation.tokens_seen).filter(|to| *to != from)?;
        self.state.batch_sequences = to;
        let reason = "by schedule".to_owned();
        let mut decision = self.record(DecisionKind::Grow, observation.tokens_seen, from, reason);
        let growth = self.growth(from, to, observation.learning_rate);
        decision.prediction = Some(self.predicted(&growth)).filter(|p| p.drop.is_some());
        Some(decision)
    }

    /// What a growth is weighed against, in the modes without an answer to wait for.
    fn circumstances(&self, observation: &Observation<'_>) -> Circumstances {
        let state = &self.state;
        let stage = state.stage.as_ref().expect("a stage has begun");
        Circumstances {
            batch_sequences: state.batch_sequences,
            first_sequences: state.first_sequences,
            sequence_length: self.sequence_length,
            tokens_seen: observation.tokens_seen.0,
            stage_end: stage.start_tokens.0 + stage.budget_tokens.0,
            last_growth: state.last_growth,
            learning_rate: observation.learning_rate,
            rate_exponent: self.coupling.learning_rate.exponent(),
            is_exhausted: false,
            awaits_response: false,
        }
    }

    fn growth(&self, from: u64, to: u64, learning_rate: f64) -> Growth {
        Growth {
            from_tokens: from * self.sequence_length,
            to_tokens: to * self.sequence_length,
            first_tokens: self.state.first_sequences * self.sequence_length,
            learning_rate,
            rate: self.coupling.learning_rate,
        }
    }

    /// The drop that a growth should give: from the answer to an earlier one, or else from the noise
    /// of the gradient.
    fn predicted(&self, growth: &Growth) -> Prediction {
        let parameters = self.state.stage.as_ref().and_then(|stage| stage.trained_parameters);
        let measured = self.state.floor_strength.map(|s| (s, PredictionBasis::EarlierAnswer));
        let strength = measured.or_else(|| {
            let noise = self.noise().filter(|reading| !reading.is_stale)?;
            let strength = strength_of_noise(noise.noise_trace, parameters?);
            Some((strength, PredictionBasis::NoiseFloor))
        });
        Prediction {
            drop: strength.map(|(strength, _)| growth.drop_for(strength)),
            basis: strength.map(|(_, basis)| basis),
            unchanged_nats: None,
            detectable_drop: None,
        }
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
            window_steps_needed: None,
            prediction: None,
            response: None,
            noise: self.noise(),
            advice: None,
        }
    }
}

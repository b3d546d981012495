//! The modes that grow the batch when the loss stops falling.

use terrace_base::Tokens;

use super::following::Counsel;
use super::{BatchController, Observation, PendingGrowth};
use crate::batch::decision::{Decision, DecisionKind, Evidence, Guard, Response, Verdict};
use crate::batch::modes::AdvisorPower;
use crate::batch::plateau::Finding;
use crate::batch::settings::{BatchPolicy, PlateauSettings};
use crate::batch::statistics::{Line, window_steps_needed};

/// The chance with which a window of the length that is printed would see a loss at rest.
const POWER: f64 = 0.8;

impl BatchController {
    pub(super) fn observe_loss(
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
        &mut self,
        settings: &PlateauSettings,
        mut response: Response,
        tokens_seen: Tokens,
    ) -> Decision {
        if let Some(pending) = self.state.pending.take() {
            response.predicted_drop = pending.drop;
            // Later growths are predicted from what this one did.
            self.state.floor_strength = pending.growth.strength_of(response.drop);
        }
        let exhausted = self.state.plateau.as_ref().is_some_and(|plateau| plateau.exhausted);
        let (kind, verdict) = match (response.responded, exhausted) {
            (true, _) => (DecisionKind::Response, "the loss fell after the growth".to_owned()),
            (false, false) => {
                (DecisionKind::Response, "the loss did not answer to the growth".to_owned())
            }
            (false, true) => {
                let growths = settings.unresponsive_growths;
                let verdict = format!(
                    "{growths} growths in a row did not help: the batch stays; lower the learning \
                     rate or end the stage"
                );
                (DecisionKind::Exhausted, verdict)
            }
        };
        let reason = format!("{verdict} ({})", outcome(&response));
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
        let plateau = self.state.plateau.as_ref().expect("a stage has begun");
        let wanted = verdict == Verdict::Plateau && plateau.is_confirmed(settings);
        let proposal = wanted.then(|| self.proposal(settings, observation));
        let advice = self.policy.advisor().map(|advisor| self.counsel(advisor).1);
        let mut decision = match proposal {
            Some(Ok(to)) => self.grown(settings, to, &evidence, line, observation),
            Some(Err(guard)) => {
                let reason = format!("a plateau, but {}", guard.reason());
                self.record(DecisionKind::Hold, observation.tokens_seen, from, reason)
            }
            None => {
                let reason = reason_to_hold(verdict, &evidence);
                self.record(DecisionKind::Hold, observation.tokens_seen, from, reason)
            }
        };
        decision.verdict = Some(verdict);
        decision.evidence = Some(evidence);
        decision.guard = proposal.and_then(Result::err);
        decision.advice = advice;
        decision
    }

    fn grown(
        &mut self,
        settings: &PlateauSettings,
        to: u64,
        evidence: &Evidence,
        line: Line,
        observation: &Observation<'_>,
    ) -> Decision {
        let from = self.state.batch_sequences;
        let growth = self.growth(from, to, observation.learning_rate);
        let mut prediction = self.predicted(&growth);
        self.state.batch_sequences = to;
        self.state.last_growth = Some(observation.tokens_seen.0);
        self.state.pending = Some(PendingGrowth { growth, drop: prediction.drop });
        let plateau = self.state.plateau.as_mut().expect("a stage has begun");
        let cooldown = plateau.grown(settings, line, to as f64 / from as f64);
        let forecast = plateau.forecast(cooldown);
        prediction.unchanged_nats = forecast.map(|(expected, _)| expected);
        prediction.detectable_drop = forecast.map(|(_, least)| least);
        let delta = plateau.delta;
        let window = window_at(settings, evidence, delta, from as f64 / to as f64);
        let reason = format!(
            "the loss no longer falls; from here a descent below {delta:.3e} nats per step is a \
             plateau, which takes {window} steps to see at the least"
        );
        let mut decision = self.record(DecisionKind::Grow, observation.tokens_seen, from, reason);
        decision.cooldown_steps = Some(cooldown);
        decision.window_steps_needed = Some(window);
        decision.prediction = Some(prediction);
        decision
    }

    /// The batch that a growth would lead to, or what stands in its way.
    fn proposal(
        &self,
        settings: &PlateauSettings,
        observation: &Observation<'_>,
    ) -> Result<u64, Guard> {
        let plateau = self.state.plateau.as_ref().expect("a stage has begun");
        let mut circumstances = self.circumstances(observation);
        circumstances.is_exhausted = plateau.exhausted;
        circumstances.awaits_response = plateau.awaits_response();
        let to = circumstances.larger_batch(&settings.limits(), u64::MAX)?;
        let BatchPolicy::Hybrid(hybrid) = &self.policy else { return Ok(to) };
        let advised = match self.counsel(hybrid.advisor).0 {
            Counsel::Unknown(_) => return Err(Guard::AdviceUnknown),
            Counsel::Unbounded => return Ok(to),
            Counsel::Batch(tokens) => (tokens / self.sequence_length as f64) as u64,
        };
        match hybrid.power {
            _ if to <= advised => Ok(to),
            AdvisorPower::Cap if advised > self.state.batch_sequences => Ok(advised),
            AdvisorPower::Cap | AdvisorPower::Veto => Err(Guard::Advice),
        }
    }
}

/// The steps in which one look can see the threshold when the noise of a step has `share` of its
/// variance, at the least: what a plan shows.
fn window_at(settings: &PlateauSettings, evidence: &Evidence, delta: f64, share: f64) -> u64 {
    let rho = evidence.autocorrelation.clamp(0.0, 0.98);
    let long_run = evidence.noise_sd * ((1.0 + rho) / (1.0 - rho)).sqrt();
    window_steps_needed(delta, long_run * share.sqrt(), POWER, settings.alpha)
}

fn outcome(response: &Response) -> String {
    let measured = format!(
        "{:+.5} ± {:.5} nats against the line before it",
        -response.drop, response.standard_error
    );
    match response.predicted_drop {
        Some(drop) => format!("{measured}, predicted {:+.5}", -drop),
        None => measured,
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

//! What a plan points out though it is no error.

use terrace_base::{Tokens, format_bytes};
use terrace_policy::batch::AdvisorPower;
use terrace_policy::spike::SpikePolicy;

use crate::batch::{AdvisorChoice, BatchMode, DEFAULT_GROWTH_FACTOR, LossLawConfig, Plateau};
use crate::facts::Facts;
use crate::model::Architecture;
use crate::plan::{RunPlan, StagePlan};
use crate::run::RunConfig;

/// Above this many passes repeated text teaches visibly less than new text.
///
/// # Source
///
/// Muennighoff et al. 2023, arXiv 2305.16264.
const MANY_EPOCHS: f64 = 4.0;

/// Everything worth pointing out, in the order of the run file.
pub(crate) fn warnings(
    config: &RunConfig,
    facts: &Facts,
    architecture: Option<&Architecture>,
    plan: &RunPlan,
) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(positions(config, architecture));
    warnings.extend(memory(plan));
    warnings.extend(unused_batch_keys(config));
    warnings.extend(schedule_end(config, plan));
    warnings.extend(rewinds(config));
    warnings.extend(sources(config, facts, plan));
    for stage in &plan.stages {
        warnings.extend(stage_warnings(config, stage));
    }
    warnings
}

fn positions(config: &RunConfig, architecture: Option<&Architecture>) -> Option<String> {
    let (length, known) =
        (config.training.sequence_length as u64, architecture?.max_position_embeddings);
    (length > known).then(|| {
        format!("sequences of {length} are longer than the {known} that the model was made for")
    })
}

fn memory(plan: &RunPlan) -> Option<String> {
    let memory = plan.memory.as_ref()?;
    let (budget, least) = (memory.budget_bytes?, memory.peak.all);
    (budget < least).then(|| {
        format!(
            "memory_budget is {}, but even with every layer recomputed a step takes about {}",
            format_bytes(budget),
            format_bytes(least)
        )
    })
}

fn unused_batch_keys(config: &RunConfig) -> Vec<String> {
    let batch = &config.batch;
    let decides = batch.mode.measures();
    let ramp = batch.mode == BatchMode::Ramp;
    let is_hybrid = batch.mode == BatchMode::Hybrid;
    let asks =
        |advisor: AdvisorChoice, mode| batch.mode == mode || is_hybrid && batch.advisor == advisor;
    let by_noise = asks(AdvisorChoice::NoiseScale, BatchMode::GnsSqrt);
    let by_loss = asks(AdvisorChoice::LossLaw, BatchMode::LossLaw);
    let unused = [
        ("schedule", batch.schedule.is_some() && batch.mode != BatchMode::Steps),
        ("maximum_tokens", batch.maximum_tokens.is_some() && !decides && !ramp),
        ("growth_factor", batch.growth_factor != DEFAULT_GROWTH_FACTOR && !decides),
        ("ramp_tokens", batch.ramp_tokens.is_some() && !ramp),
        ("ramp_increment_tokens", batch.ramp_increment_tokens.is_some() && !ramp),
        ("step_cost_tokens", batch.step_cost_tokens.is_some() && !by_noise),
        ("loss_law", batch.loss_law != LossLawConfig::default() && !by_loss),
        ("advisor", batch.advisor != AdvisorChoice::default() && !is_hybrid),
        ("advisor_power", batch.advisor_power != AdvisorPower::default() && !is_hybrid),
        ("plateau", batch.plateau != Plateau::default() && !decides),
    ];
    let mode = batch.mode.name();
    let warning = |key| format!("batch.{key} has no effect in mode {mode}");
    unused.into_iter().filter(|(_, is_unused)| *is_unused).map(|(key, _)| warning(key)).collect()
}

fn schedule_end(config: &RunConfig, plan: &RunPlan) -> Option<String> {
    let last = config.batch.schedule.as_ref()?.0.last()?.tokens_seen;
    (config.batch.mode == BatchMode::Steps && last.0 >= plan.total_tokens)
        .then(|| format!("the batch schedule's entry at {last} is never reached"))
}

/// A run that may go back, but only as far as a stage's beginning.
fn rewinds(config: &RunConfig) -> Option<String> {
    let checkpoint = &config.checkpoint;
    let saves = checkpoint.every_tokens.is_some() || checkpoint.every_steps.is_some();
    (config.spikes.policy == SpikePolicy::Rewind && !saves).then(|| {
        "spikes.policy = \"rewind\" goes back to a saved state, but without checkpoint.every_tokens \
         the state is saved at the edges of stages only"
            .to_owned()
    })
}

fn sources(config: &RunConfig, facts: &Facts, plan: &RunPlan) -> Vec<String> {
    let mut warnings = Vec::new();
    for source in &plan.sources {
        let name = &source.source;
        let in_mixture = config.stages.iter().any(|stage| {
            stage.mixes().any(|(start, end)| {
                start.contains_key(name) || end.is_some_and(|end| end.contains_key(name))
            })
        });
        if !in_mixture {
            warnings.push(format!("no stage uses the source {name:?}"));
        }
        if facts.editions.get(name).is_some_and(|edition| edition.held_out.is_none()) {
            warnings.push(format!(
                "the source {name:?} has no held-out part, so its loss is not validated"
            ));
        }
        if let Some(epochs) = source.epochs.filter(|epochs| *epochs > MANY_EPOCHS) {
            warnings.push(format!(
                "the source {name:?} is read {epochs:.1} times; beyond {MANY_EPOCHS} repeated \
                 text teaches less"
            ));
        }
    }
    warnings
}

fn stage_warnings(config: &RunConfig, stage: &StagePlan) -> Vec<String> {
    let mut warnings = Vec::new();
    let name = &stage.name;
    if stage.tokens != stage.budget_tokens {
        warnings.push(format!(
            "stage {name:?}: {} tokens are not whole sequences, {} are trained on",
            stage.budget_tokens, stage.tokens
        ));
    }
    let micro = config.training.micro_batch_sequences as u64;
    for rung in stage.rungs.iter().filter(|rung| !rung.batch_sequences.is_multiple_of(micro)) {
        warnings.push(format!(
            "stage {name:?}: {} sequences are not whole micro-batches of {micro}, the last \
             micro-step of each step is short",
            rung.batch_sequences
        ));
    }
    warnings.extend(growth(config, stage));
    warnings.extend(growth_in_decay(stage));
    warnings
}

/// A batch that was to grow in a stage whose rate falls from the first step on.
fn growth_in_decay(stage: &StagePlan) -> Option<String> {
    let decay = stage.decay.as_ref()?;
    let whole = decay.starts_at_tokens == stage.starts_at_tokens;
    let grows = stage.rungs.iter().filter(|rung| rung.plateau.is_some()).count() > 1;
    (whole && grows).then(|| {
        format!(
            "stage {:?}: its learning rate decays throughout, so that no loss is taken for a \
             plateau and the batch stays",
            stage.name
        )
    })
}

/// Why the controller may have no chance to grow the batch in a stage.
fn growth(config: &RunConfig, stage: &StagePlan) -> Option<String> {
    let [rung, _, ..] = stage.rungs.as_slice() else {
        return None;
    };
    let window = rung.plateau.as_ref()?.window_steps;
    let batch = Tokens(rung.batch_tokens);
    let (steps, left) = (rung.steps_if_whole_stage, config.batch.plateau.minimum_steps_left);
    let next = stage.rungs[1].steps_if_whole_stage;
    if next <= left {
        return Some(format!(
            "stage {:?}: no growth can leave minimum_steps_left = {left} steps, at the next batch \
             the whole stage has {next}",
            stage.name
        ));
    }
    (window > steps).then(|| {
        format!(
            "stage {:?}: at a batch of {batch} a plateau shows after {window} steps at the \
             earliest if the noise is as assumed, but the stage has {steps}",
            stage.name
        )
    })
}

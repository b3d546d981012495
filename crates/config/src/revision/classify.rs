//! Which keys may change when, and what that means.

use terrace_base::format_grouped as grouped;

use super::{Effect, Standing, is_in};
use crate::mixture::MixtureWeights;
use crate::run::{RunConfig, Stage};

/// No number of a run depends on these.
const HARMLESS: [&str; 8] = [
    "name",
    "device",
    "checkpoint",
    "validation.every_tokens",
    "evaluation",
    "training.memory_budget",
    "training.recompute",
    "model.tokenizer",
];

/// These decide what has happened, whatever comes.
const FIXED: [(&str, &str); 5] = [
    ("seed", "all that was drawn depends on it"),
    ("model", "the weights are of this model; `terrace init` starts a new run from weights alone"),
    ("training.sequence_length", "windows were drawn in it"),
    ("training.precision", "the state is in it"),
    ("optimizer.moments", "the state is in it"),
];

/// What a change of a key means. `mixture` is why the mixture of the current stage cannot be as it
/// is written, if it cannot.
pub(super) fn effect_of(
    key: &str,
    (old, new): (&RunConfig, &RunConfig),
    standing: &Standing,
    mixture: Option<&str>,
) -> Effect {
    if HARMLESS.iter().any(|harmless| is_in(key, harmless)) || key.ends_with(".prepare") {
        return Effect::Harmless;
    }
    if key == "model.path" {
        // A checkpoint has the weights of the run; before there is one, the folder has.
        return match standing.tokens_seen.0 {
            0 => Effect::Ahead("the run begins with its weights".to_owned()),
            _ => Effect::Harmless,
        };
    }
    if let Some((_, why)) = FIXED.iter().find(|(section, _)| is_in(key, section)) {
        return Effect::Past((*why).to_owned());
    }
    match key.strip_prefix("stages.").and_then(|rest| rest.split_once('.')) {
        Some((index, rest)) => {
            let index: usize = index.parse().expect("stages are numbered");
            of_stage(index, rest, (old, new), standing, mixture)
        }
        None => Effect::Ahead("from the next step on".to_owned()),
    }
}

fn of_stage(
    index: usize,
    key: &str,
    (old, new): (&RunConfig, &RunConfig),
    standing: &Standing,
    mixture: Option<&str>,
) -> Effect {
    if index < standing.stage {
        return Effect::Past("this stage is done".to_owned());
    }
    if index > standing.stage || !standing.entered {
        return Effect::Ahead("when the stage begins".to_owned());
    }
    let section = key.split('.').next().unwrap_or(key);
    let (was, now) = (&old.stages[index], new.stages.get(index));
    match (section, now) {
        (_, None) => Effect::Past("this stage has begun".to_owned()),
        ("name" | "batch", _) => Effect::Past("the stage has begun with it".to_owned()),
        ("budget_tokens", Some(now)) => budget(was, now, old.training.sequence_length, standing),
        ("mixture" | "mixture_end" | "mixture_changes", _) => match mixture {
            Some(why) => Effect::Past(why.to_owned()),
            None => Effect::Ahead(format!(
                "from the next sequence on, {} tokens into the stage",
                grouped(standing.stage_tokens.0)
            )),
        },
        _ => Effect::Ahead("from the next step on".to_owned()),
    }
}

fn budget(was: &Stage, now: &Stage, sequence_length: usize, standing: &Standing) -> Effect {
    let drawn = standing.stage_tokens;
    if now.budget_tokens < drawn {
        let drawn = grouped(drawn.0);
        return Effect::Past(format!("{drawn} tokens of the stage are drawn already"));
    }
    // A ramp leads to the end of its stage, so its slope would have been another.
    let segments = was.segments(sequence_length as u64).unwrap_or_default();
    let begun = |begins_at: u64| begins_at * (sequence_length as u64) < drawn.0;
    let is_ramp = |weights: &MixtureWeights| !weights.is_constant();
    if segments.iter().any(|segment| begun(segment.begins_at) && is_ramp(&segment.weights)) {
        return Effect::Past(
            "the stage's weights change along its budget, and were drawn by it; put what is to \
             come into a further stage"
                .to_owned(),
        );
    }
    Effect::Ahead("the stage ends there".to_owned())
}

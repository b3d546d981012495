//! Changing the mixture of a run that has begun: what was drawn stays, what follows is another.

use terrace_base::{Tokens, format_grouped as grouped};

use super::Standing;
use crate::mixture::{Mixture, MixtureWeights};
use crate::mixture_file::MixtureFile;
use crate::run::{RunConfig, Stage};
use crate::segments::MixtureChange;

/// From where on a run draws by another mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MixFrom {
    /// From the next sequence on, to the end of the stage that it is in.
    NextStep,
    /// In all of a stage, counted from zero, that has not begun.
    Stage(usize),
}

/// The configuration of a run with another mixture for what is still to come of one stage.
///
/// The mixture holds to the end of that stage and replaces changes that were planned within it;
/// other stages keep their own.
///
/// # Errors
///
/// There is nothing left to draw, or what was asked for would change what was drawn.
pub fn remix(
    config: &RunConfig,
    standing: &Standing,
    from: MixFrom,
    mixture: &MixtureFile,
) -> Result<RunConfig, String> {
    let stages = config.stages.len();
    let place = match from {
        MixFrom::NextStep => standing.stage,
        MixFrom::Stage(stage) => stage,
    };
    let Some(stage) = config.stages.get(place) else {
        return Err(match from {
            MixFrom::NextStep => format!(
                "all {stages} stages are done; a run file with a further stage, given to `terrace \
                 resume --config`, goes on with it"
            ),
            MixFrom::Stage(_) => {
                format!("there is no stage {place}; the run's stages are 0 to {}", stages - 1)
            }
        });
    };
    let is_current = place == standing.stage && standing.entered && standing.stage_tokens.0 > 0;
    let mut remixed = stage.clone();
    match from {
        MixFrom::Stage(_) if place < standing.stage => {
            return Err(format!("stage {place} `{}` is done; the past stays as it is", stage.name));
        }
        MixFrom::Stage(_) if is_current => {
            return Err(format!(
                "stage {place} `{}` has begun, {} of its {} tokens are drawn; the past stays as it \
                 is. `--from-next-step` changes the rest of it",
                stage.name,
                grouped(standing.stage_tokens.0),
                grouped(stage.budget_tokens.0)
            ));
        }
        _ if is_current => {
            let wanted = (&mixture.mixture, mixture.mixture_end.as_ref());
            let length = config.training.sequence_length;
            remixed.mixture_changes = with_change(stage, wanted, standing.stage_tokens, length)?;
        }
        _ => {
            (remixed.mixture, remixed.mixture_end) =
                (mixture.mixture.clone(), mixture.mixture_end.clone());
            remixed.mixture_changes.clear();
        }
    }
    let mut config = config.clone();
    config.stages[place] = remixed;
    Ok(config)
}

/// The changes of a stage that has drawn `drawn` tokens, if it is now written as `now`.
///
/// # Errors
///
/// Something that was drawn by is written differently, in a way that cannot be read as the wish to
/// go on with another mixture.
pub(super) fn carried(
    was: &Stage,
    now: &Stage,
    drawn: Tokens,
    sequence_length: usize,
) -> Result<Vec<MixtureChange>, String> {
    let is_past = |change: &&MixtureChange| change.after_tokens < drawn;
    let past = |stage: &Stage| -> Vec<MixtureChange> {
        stage.mixture_changes.iter().filter(is_past).cloned().collect()
    };
    let (were, are) = (past(was), past(now));
    let begins_alike = is_same(start(was), start(now));
    if begins_alike && are == were {
        // What is to come may be written as one likes.
        return Ok(now.mixture_changes.clone());
    }
    // A file that knows of no change so far says what is to be drawn from now on. One that does
    // may say so in the last of them, if it has the others as they were.
    let kept = are.len().saturating_sub(1);
    let has_others = begins_alike && are.len() == were.len() && are[..kept] == were[..kept];
    if !are.is_empty() && !has_others {
        return Err(format!(
            "mixtures that took effect before token {} of the stage are written differently; \
             restore them, and put what is to come into a further entry of mixture_changes",
            grouped(drawn.0)
        ));
    }
    let wanted =
        are.last().map_or(start(now), |change| (&change.mixture, change.mixture_end.as_ref()));
    let mut changes = with_change(was, wanted, drawn, sequence_length)?;
    changes
        .extend(now.mixture_changes.iter().filter(|change| change.after_tokens > drawn).cloned());
    Ok(changes)
}

type Mix<'a> = (&'a Mixture, Option<&'a Mixture>);

fn start(stage: &Stage) -> Mix<'_> {
    (&stage.mixture, stage.mixture_end.as_ref())
}

/// The changes before `drawn`, and one to `wanted` there, unless that is what is drawn already.
fn with_change(
    stage: &Stage,
    wanted: Mix<'_>,
    drawn: Tokens,
    sequence_length: usize,
) -> Result<Vec<MixtureChange>, String> {
    // A change at this very place has had no sequence yet, so it is not the past.
    let before = stage.mixture_changes.iter().filter(|change| change.after_tokens < drawn);
    let mut changes: Vec<MixtureChange> = before.cloned().collect();
    let current = changes
        .last()
        .map_or(start(stage), |change| (&change.mixture, change.mixture_end.as_ref()));
    if is_same(current, wanted) {
        return Ok(changes);
    }
    if drawn.0 / sequence_length as u64 >= stage.sequences(sequence_length as u64) {
        return Err("the stage has nothing left to draw".to_owned());
    }
    changes.push(MixtureChange {
        after_tokens: drawn,
        mixture: wanted.0.clone(),
        mixture_end: wanted.1.cloned(),
    });
    Ok(changes)
}

/// Whether two mixtures draw alike, however they are written.
fn is_same(one: Mix<'_>, other: Mix<'_>) -> bool {
    let shares = |(start, end): Mix<'_>| {
        let weights = MixtureWeights::between(start, end).ok()?;
        let drawn = (0..weights.sources.len()).filter(|i| weights.start[*i] + weights.end[*i] > 0);
        let shares: Vec<_> =
            drawn.map(|i| (weights.sources[i].clone(), weights.start[i], weights.end[i])).collect();
        Some((weights.total, shares))
    };
    shares(one) == shares(other)
}

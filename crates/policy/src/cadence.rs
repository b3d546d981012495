//! When to save, validate and log, and which checkpoints to keep.

use serde::{Deserialize, Serialize};
use terrace_base::Tokens;

/// Something that is done every so many tokens.
///
/// # Determinism
///
/// Due at multiples of a number of tokens, not at a count since the last time: a resumed run is
/// due where one that never stopped is, and steps of growing size miss none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cadence {
    /// The tokens between; zero is never.
    pub every: Tokens,
}

impl Cadence {
    /// Whether a step that went from `before` to `after` tokens reached a multiple.
    #[must_use]
    pub fn due(self, before: Tokens, after: Tokens) -> bool {
        let multiples = |tokens: Tokens| tokens.0.checked_div(self.every.0).unwrap_or(0);
        multiples(after) > multiples(before)
    }
}

/// When a model is evaluated: where each stage ends, and where this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationCadence {
    /// Whether before the first step.
    pub at_start: bool,
    /// The tokens between two evaluations within a stage; zero is none within a stage.
    pub every: Tokens,
}

/// Where a run is, as far as an evaluation depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationPlace {
    /// Tokens seen.
    pub tokens_seen: Tokens,
    /// Tokens that had been seen when the run began: those of its parent, if it is a branch.
    pub began_at: Tokens,
    /// Whether a stage ends here.
    pub ends_stage: bool,
}

impl EvaluationCadence {
    /// Whether an evaluation is due, if the last one was at `last`.
    ///
    /// # Determinism
    ///
    /// What was due and not done stays due, and what was done is not: a run that was killed on the way
    /// is evaluated where one that never stopped is.
    #[must_use]
    pub fn due(self, place: EvaluationPlace, last: Option<Tokens>) -> bool {
        let EvaluationPlace { tokens_seen, began_at, ends_stage } = place;
        if last == Some(tokens_seen) {
            return false;
        }
        if tokens_seen == began_at {
            return self.at_start;
        }
        let cadence = Cadence { every: self.every };
        ends_stage || cadence.due(last.unwrap_or(began_at).max(began_at), tokens_seen)
    }
}

/// What is known about a checkpoint when it is decided which to keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointFacts {
    /// Tokens seen when it was saved.
    pub tokens_seen: Tokens,
    /// Whether all its files are there and have their hashes.
    pub is_valid: bool,
    /// The loss on held-out text, in nats, if it was measured there.
    pub held_out_nats: Option<f64>,
    /// Whether it was saved only because an evaluation begins there.
    #[serde(default)]
    pub for_evaluation: bool,
}

/// Which checkpoints a run keeps.
///
/// One that was saved only for an evaluation counts neither among the newest nor for a multiple: it
/// stays while it is the newest of all, which a kill within the evaluation needs, or if it is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionPolicy {
    /// The newest so many; at least one is kept whatever this says.
    pub keep_last: usize,
    /// The first at or behind every multiple of this.
    pub keep_every_tokens: Option<Tokens>,
    /// The one with the least held-out loss.
    pub keep_best: bool,
}

/// What is to become of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// It stays.
    Keep(KeepReason),
    /// No rule asks for it.
    Remove,
}

/// Why a checkpoint stays; the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepReason {
    /// It is damaged: it counts for no rule, and what is to become of it is for a person to say.
    Damaged,
    /// It is one of the newest.
    Recent,
    /// It is the first behind a multiple of tokens.
    Milestone,
    /// It has the least held-out loss.
    Best,
}

/// Says of each checkpoint whether it stays, in the order given.
///
/// The newest valid one always stays. Applying the answer and asking again removes nothing more.
#[must_use]
pub fn retain(checkpoints: &[CheckpointFacts], policy: &RetentionPolicy) -> Vec<Retention> {
    let mut newest: Vec<usize> =
        (0..checkpoints.len()).filter(|i| checkpoints[*i].is_valid).collect();
    // Of two at the same tokens, the later in the list is the newer.
    newest.sort_by_key(|i| std::cmp::Reverse((checkpoints[*i].tokens_seen, *i)));
    let ordinary = newest.iter().filter(|i| !checkpoints[**i].for_evaluation);
    let recent: Vec<usize> =
        ordinary.take(policy.keep_last.max(1)).chain(newest.first()).copied().collect();
    let best = policy.keep_best.then(|| best(checkpoints, &newest)).flatten();
    let decide = |i: usize| {
        if !checkpoints[i].is_valid {
            Retention::Keep(KeepReason::Damaged)
        } else if recent.contains(&i) {
            Retention::Keep(KeepReason::Recent)
        } else if policy.keep_every_tokens.is_some_and(|n| is_milestone(checkpoints, i, n)) {
            Retention::Keep(KeepReason::Milestone)
        } else if best == Some(i) {
            Retention::Keep(KeepReason::Best)
        } else {
            Retention::Remove
        }
    };
    (0..checkpoints.len()).map(decide).collect()
}

/// The valid checkpoint with the least held-out loss, the newest of equals.
fn best(checkpoints: &[CheckpointFacts], newest: &[usize]) -> Option<usize> {
    let measured = newest.iter().filter_map(|i| {
        let nats = checkpoints[*i].held_out_nats.filter(|nats| !nats.is_nan())?;
        Some((*i, nats))
    });
    measured.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(i, _)| i)
}

/// Whether a checkpoint is the first valid one in its interval between two multiples.
///
/// The first of an interval stays, so removing others never makes a second one first.
fn is_milestone(checkpoints: &[CheckpointFacts], i: usize, every: Tokens) -> bool {
    let interval = |facts: &CheckpointFacts| facts.tokens_seen.0.checked_div(every.0).unwrap_or(0);
    let own = interval(&checkpoints[i]);
    let place = |j: usize| (checkpoints[j].tokens_seen, j);
    let earlier = |j: usize| {
        let is_ordinary = checkpoints[j].is_valid && !checkpoints[j].for_evaluation;
        is_ordinary && interval(&checkpoints[j]) == own && place(j) < place(i)
    };
    own > 0 && !checkpoints[i].for_evaluation && !(0..checkpoints.len()).any(earlier)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(tokens: u64, is_valid: bool, held_out_nats: Option<f64>) -> CheckpointFacts {
        CheckpointFacts {
            tokens_seen: Tokens(tokens),
            is_valid,
            held_out_nats,
            for_evaluation: false,
        }
    }

    #[test]
    fn evaluations_push_no_checkpoint_out() {
        let forced = |facts| CheckpointFacts { for_evaluation: true, ..facts };
        let mut checkpoints = vec![
            facts(100, true, None),
            forced(facts(110, true, None)),
            facts(200, true, None),
            forced(facts(205, true, Some(1.0))),
            facts(210, true, Some(1.5)),
            forced(facts(300, true, None)),
            forced(facts(310, true, None)),
        ];
        let policy =
            RetentionPolicy { keep_last: 2, keep_every_tokens: Some(Tokens(100)), keep_best: true };
        let left = |checkpoints: &[CheckpointFacts]| {
            kept(checkpoints, &policy).iter().map(|c| c.tokens_seen.0).collect::<Vec<_>>()
        };
        // The last is what a kill within its evaluation resumes from; 205 is the best.
        assert_eq!(left(&checkpoints), [100, 200, 205, 210, 310]);
        // Behind a multiple, the first that is there for its own sake is the one that stays.
        checkpoints.push(facts(320, true, None));
        checkpoints.push(facts(330, true, None));
        checkpoints.push(facts(340, true, None));
        assert_eq!(left(&checkpoints), [100, 200, 205, 320, 330, 340]);
    }

    #[test]
    fn each_rule_keeps_its_own() {
        let checkpoints = [
            facts(50, true, Some(2.0)),
            facts(95, true, Some(1.5)),
            facts(105, true, Some(1.8)),
            facts(150, true, None),
            facts(210, false, Some(0.1)),
            facts(220, true, Some(f64::NAN)),
            facts(240, true, Some(1.9)),
        ];
        let policy =
            RetentionPolicy { keep_last: 1, keep_every_tokens: Some(Tokens(100)), keep_best: true };
        use KeepReason::{Best, Damaged, Milestone, Recent};
        let expected = [
            Retention::Remove,
            Retention::Keep(Best),
            Retention::Keep(Milestone),
            Retention::Remove,
            Retention::Keep(Damaged),
            Retention::Keep(Milestone),
            Retention::Keep(Recent),
        ];
        assert_eq!(retain(&checkpoints, &policy), expected);
    }

    #[test]
    fn zero_is_never_due() {
        assert!(!Cadence { every: Tokens(0) }.due(Tokens(0), Tokens(1 << 40)));
    }

    /// The places that are evaluated of a run whose steps end at `places`, two stages of half of it each;
    /// killed at each place of `deaths`, right after the state was saved there.
    fn evaluated(cadence: EvaluationCadence, places: &[u64], deaths: &[u64]) -> Vec<u64> {
        let (end, mut done) = (*places.last().unwrap(), Vec::new());
        for tokens in places {
            let place = EvaluationPlace {
                tokens_seen: Tokens(*tokens),
                began_at: Tokens(0),
                ends_stage: *tokens == end / 2 || *tokens == end,
            };
            for _ in 0..=deaths.iter().filter(|death| *death == tokens).count() {
                if cadence.due(place, done.last().copied().map(Tokens)) {
                    done.push(*tokens);
                }
            }
        }
        done
    }

    #[test]
    fn a_model_is_evaluated_at_the_edges_and_at_the_first_step_behind_each_multiple() {
        let places: Vec<u64> = (0..=20).map(|step| step * 8).collect();
        let cadence = |at_start, every| EvaluationCadence { at_start, every: Tokens(every) };
        assert_eq!(evaluated(cadence(false, 0), &places, &[]), [80, 160]);
        assert_eq!(evaluated(cadence(true, 0), &places, &[]), [0, 80, 160]);
        assert_eq!(evaluated(cadence(false, 50), &places, &[]), [56, 80, 104, 152, 160]);
        // Multiples that coincide with an edge are one evaluation.
        assert_eq!(evaluated(cadence(true, 40), &places, &[]), [0, 40, 80, 120, 160]);
        assert_eq!(evaluated(cadence(true, 4), &places, &[]), places);
    }

    #[test]
    fn a_branch_begins_where_its_parent_was() {
        let place = |tokens, ends_stage| EvaluationPlace {
            tokens_seen: Tokens(tokens),
            began_at: Tokens(96),
            ends_stage,
        };
        let cadence = EvaluationCadence { at_start: false, every: Tokens(50) };
        // The parent has been evaluated there, if it was to be.
        assert!(!cadence.due(place(96, true), None));
        assert!(EvaluationCadence { at_start: true, ..cadence }.due(place(96, false), None));
        assert!(!cadence.due(place(99, false), None) && cadence.due(place(100, false), None));
        assert!(!cadence.due(place(100, false), Some(Tokens(100))));
        assert!(!cadence.due(place(149, false), Some(Tokens(100))));
    }

    fn many() -> impl Strategy<Value = Vec<CheckpointFacts>> {
        let one = (0u64..1000, any::<bool>(), prop::option::of(0.0f64..3.0), any::<bool>());
        let one = one.prop_map(|(t, valid, nats, for_evaluation)| CheckpointFacts {
            for_evaluation,
            ..facts(t, valid, nats)
        });
        prop::collection::vec(one, 0..20)
    }

    fn policies() -> impl Strategy<Value = RetentionPolicy> {
        (0usize..4, prop::option::of(0u64..300), any::<bool>()).prop_map(|(last, every, best)| {
            RetentionPolicy {
                keep_last: last,
                keep_every_tokens: every.map(Tokens),
                keep_best: best,
            }
        })
    }

    fn kept(checkpoints: &[CheckpointFacts], policy: &RetentionPolicy) -> Vec<CheckpointFacts> {
        let answers = retain(checkpoints, policy);
        let all = checkpoints.iter().zip(answers);
        all.filter(|(_, answer)| *answer != Retention::Remove).map(|(facts, _)| *facts).collect()
    }

    proptest! {
        #[test]
        fn the_newest_valid_one_stays_and_nothing_more_goes(checkpoints in many(), policy in policies()) {
            let kept_once = kept(&checkpoints, &policy);
            let newest = |all: &[CheckpointFacts]| {
                all.iter().filter(|c| c.is_valid).map(|c| c.tokens_seen).max()
            };
            prop_assert_eq!(newest(&kept_once), newest(&checkpoints));
            prop_assert_eq!(kept(&kept_once, &policy), kept_once);
            let least = |all: &[CheckpointFacts]| {
                let losses = all.iter().filter(|c| c.is_valid).filter_map(|c| c.held_out_nats);
                losses.min_by(f64::total_cmp)
            };
            prop_assert!(!policy.keep_best || least(&kept(&checkpoints, &policy)) == least(&checkpoints));
        }

        #[test]
        fn kills_neither_add_nor_lose_an_evaluation(
            at_start: bool,
            every in 0u64..60,
            deaths in prop::collection::vec(0u64..=20, 0..8),
        ) {
            let places: Vec<u64> = (0..=20).map(|step| step * 8).collect();
            let deaths: Vec<u64> = deaths.into_iter().map(|step| step * 8).collect();
            let cadence = EvaluationCadence { at_start, every: Tokens(every) };
            let straight = evaluated(cadence, &places, &[]);
            prop_assert_eq!(evaluated(cadence, &places, &deaths), straight);
        }

        #[test]
        fn every_multiple_is_met_once(every in 1u64..50, batches in prop::collection::vec(1u64..80, 1..60)) {
            let cadence = Cadence { every: Tokens(every) };
            let mut seen = 0;
            for batch in batches {
                let reached = (seen + 1..=seen + batch).any(|tokens| tokens % every == 0);
                prop_assert_eq!(cadence.due(Tokens(seen), Tokens(seen + batch)), reached);
                seen += batch;
            }
        }
    }
}

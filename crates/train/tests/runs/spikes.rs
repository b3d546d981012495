//! Documents that make the loss spike: they are named, left out or gone back for, and the run ends
//! well.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use serde_json::Value;
use terrace_checkpoint::{Checkpoint, RunLayout};
use terrace_config::{MixFrom, MixtureFile};
use terrace_model::CausalLm;
use terrace_train::{Error, Event, StepRecord, StoppedRun, TrainReport};

use crate::bad_steps::{poisoned, state, tensors};
use crate::world::{
    AT_ONCE, LENGTH, VOCABULARY, World, copy_tree, documents, edition, lines, newest_checkpoint,
    timeless,
};

/// A token that no document has until it is put there.
const POISON: usize = VOCABULARY - 1;
/// The windows of the source `code` that consist of it.
const POISONED: [usize; 2] = [3, 8];
/// A loss that no other window has.
const HIGH: f64 = 6.0;

/// A detector for a run of a few dozen steps, that goes back at once.
const SPIKES: [(&str, &str); 4] = [
    ("spikes.window_steps", "8"),
    ("spikes.minimum_nats", "1.0"),
    ("spikes.rewind_after_steps", "1"),
    ("spikes.max_rewinds", "20"),
];

/// A model that is sure that one token never comes: all embeddings share a direction, against which
/// the output row of that token points.
fn sure(model: &mut CausalLm) {
    let put = |matrix: &Tensor<2>, rows: std::ops::Range<usize>, value: f32| {
        let column = Tensor::full([rows.len(), 1], value, &Device::flex());
        matrix.clone().slice_assign([rows, 0..1], column)
    };
    model.embed_tokens = put(&model.embed_tokens, 0..VOCABULARY, 1.0);
    let head = model.lm_head.as_ref().expect("the head is its own");
    model.lm_head = Some(put(head, POISON..POISON + 1, -10.0));
}

/// A world whose source `code` has two windows of nothing but that token.
fn world(policy: &str) -> World {
    let world = World::based_on(sure);
    let mut documents = documents("code", 12, 1);
    for window in POISONED {
        let tokens = documents.iter_mut().flatten().skip(window * LENGTH + 1).take(LENGTH - 1);
        tokens.filter(|token| **token != 0).for_each(|token| *token = POISON as u32);
    }
    // An edition is never overwritten.
    fs::remove_dir_all(world.path("code")).unwrap();
    edition(&world.path("code"), "code", &documents);
    world.set(&SPIKES).set(&[("spikes.policy", &format!("{policy:?}"))])
}

fn journal(directory: &Path, event: &str) -> Vec<Value> {
    let journal = lines(directory, "journal.jsonl").into_iter();
    journal.filter(|line| line["event"] == event).map(|line| line["details"].clone()).collect()
}

/// The ranges that a run has passed over, from its newest state.
fn passed_over(directory: &Path) -> Vec<[u64; 2]> {
    let spikes = &state(&newest_checkpoint(directory))["spikes"];
    serde_json::from_value(spikes["passed_over"].clone()).unwrap()
}

/// The windows at the head of the spikes of a run.
fn worst_windows(spikes: &[Value]) -> BTreeSet<usize> {
    let worst = spikes.iter().map(|spike| {
        let window = &spike["windows"][0];
        assert_eq!(window["source"], "code", "{spike}");
        assert!(window["nats"].as_f64().unwrap() > HIGH, "{spike}");
        assert!(!window["documents"].as_array().unwrap().is_empty(), "{spike}");
        window["window"].as_u64().unwrap() as usize
    });
    worst.collect()
}

#[test]
fn a_run_goes_back_passes_over_the_poison_and_ends_well() {
    let world = world("rewind");
    let straight = world.path("straight");
    let report = world.train(&straight, |_| {});
    assert!(report.complete);
    assert_eq!(report.tokens_seen.0, 1440, "what is passed over counts as seen");

    let (spikes, rewinds) = (journal(&straight, "spike"), journal(&straight, "rewind"));
    assert!(rewinds.len() >= 2, "{rewinds:?}");
    assert_eq!(spikes.len(), rewinds.len(), "at the first spiking step");
    assert!(worst_windows(&spikes).is_subset(&BTreeSet::from(POISONED)));
    assert!(spikes.iter().all(|spike| spike["applied"] == false));

    let ranges = passed_over(&straight);
    let recorded =
        rewinds.iter().map(|r| ["skip_start", "skip_end"].map(|k| r[k].as_u64().unwrap()));
    assert_eq!(recorded.collect::<Vec<_>>(), ranges);
    for (spike, range) in spikes.iter().zip(&ranges) {
        let sequence = spike["windows"][0]["sequence"].as_u64().unwrap();
        assert!((range[0]..range[1]).contains(&sequence), "{sequence} {range:?}");
    }
    // The metrics are those of one run: they never go back, and lack what was passed over.
    let records = timeless(&straight);
    assert!(records.windows(2).all(|pair| pair[0].tokens_seen < pair[1].tokens_seen));
    let covered = |index: &u64| ranges.iter().any(|[start, end]| (*start..*end).contains(index));
    let skipped = (0..90).filter(covered).count() as u64;
    let trained: u64 = records.iter().map(|record| record.batch_tokens.0).sum();
    assert_eq!(trained + skipped * LENGTH as u64, 1440);
    let stages: u64 = report.stages.iter().map(|stage| stage.steps).sum();
    assert_eq!(records.len(), stages as usize);
    let decisions = lines(&straight, "decisions.jsonl");
    let baselines = decisions.iter().filter(|d| d["reason"].to_string().contains("passed over"));
    assert!(baselines.count() >= 1, "{decisions:?}");
}

/// A world whose gradients are given up, or only clipped as such are.
fn clipped_by_layer(release: &str) -> World {
    let release =
        [("training.gradient_release", release), ("training.gradient_clipping", "\"per-layer\"")];
    world("rewind").set(&release)
}

#[test]
fn a_spike_that_released_gradients_were_applied_of_is_gone_back_for() {
    let world = clipped_by_layer("true");
    let straight = world.path("straight");
    let (report, deaths) = world.train_and_die(&straight);
    assert!(report.complete);
    let (spikes, rewinds) = (journal(&straight, "spike"), journal(&straight, "rewind"));
    assert!(rewinds.len() >= 2 && spikes.len() == rewinds.len(), "{spikes:?} {rewinds:?}");
    assert!(worst_windows(&spikes).is_subset(&BTreeSet::from(POISONED)));
    // The update was made before the loss of the step was known, and is gone with the state.
    assert!(spikes.iter().all(|spike| spike["applied"] == true));
    let records = timeless(&straight);
    let seen = |record: &StepRecord, spike: &Value| spike["tokens_seen"] == record.tokens_seen.0;
    let left = records.iter().filter(|record| spikes.iter().any(|spike| seen(record, spike)));
    assert_eq!(left.count(), 0, "no such step is on record");
    // As if no update had been made of it.
    let kept = clipped_by_layer("false");
    let withheld = kept.train(&kept.path("run"), |_| {});
    assert_eq!(report.state_digest, withheld.state_digest);
    assert_eq!(records, timeless(&kept.path("run")));
    for death in deaths.iter().step_by(5) {
        let again = world.train(death, |_| {});
        assert_eq!(again.state_digest, report.state_digest, "{}", death.display());
        assert_eq!(timeless(death), records, "{}", death.display());
    }
}

#[test]
fn a_state_that_a_spike_was_applied_to_is_never_saved() {
    let world = clipped_by_layer("true");
    let straight = world.train(&world.path("straight"), |_| {});
    let world = world.set(&[("spikes.max_rewinds", "1")]);
    let run = world.path("run");
    let error = *world.attempt(&run, |_| {}).map(drop).unwrap_err();
    let Error::Lost { tokens_seen, .. } = &error else { panic!("{error}") };
    assert!(error.to_string().contains("the newest state from before it is"), "{error}");
    let spikes = journal(&run, "spike");
    assert_eq!(spikes.len(), 2);
    assert_eq!(spikes[1]["tokens_seen"].as_u64(), Some(*tokens_seen));
    let newest = state(&newest_checkpoint(&run))["progress"]["tokens_seen"].as_u64().unwrap();
    assert!(newest < *tokens_seen, "{newest}");
    // What is left is good: a run that may go back again is the one that always might.
    let world = world.set(&[("spikes.max_rewinds", "20")]);
    let report = world.train(&run, |_| {});
    assert_eq!(report.state_digest, straight.state_digest);
}

#[test]
fn what_was_evaluated_of_a_branch_that_is_given_up_is_forgotten() {
    let plain = world("rewind");
    let expected = plain.train(&plain.path("run"), |_| {});
    let world = world("rewind").set(&[("evaluation.every_tokens", "48")]);
    let run = world.path("run");
    let report = world.evaluate(&run);
    assert_eq!(report.state_digest, expected.state_digest);
    assert!(!journal(&run, "rewind").is_empty());
    let places: Vec<u64> = report.evaluations.iter().map(|of| of.tokens_seen.0).collect();
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
    assert_eq!(lines(&run, "evaluations.jsonl").len(), places.len());
    // Each is of a state that the run has kept: behind a step on record, or at the edge of a stage.
    let mut kept: Vec<u64> = timeless(&run).iter().map(|record| record.tokens_seen.0).collect();
    kept.extend([0, 800, 1440]);
    assert!(places.iter().all(|place| kept.contains(place)), "{places:?} of {kept:?}");
}

#[test]
fn killed_inside_a_rewind_is_never_killed() {
    // A folder can only be copied while nobody writes into it.
    let world = world("rewind").set(&[AT_ONCE]);
    let straight = world.path("straight");
    // A death at each save, when a spike is seen, and between going back and saving.
    let mut deaths = Vec::<PathBuf>::new();
    let on_event = |event: &Event<'_>| {
        if matches!(event, Event::Saved { .. } | Event::Spike(_) | Event::Rewound(_)) {
            let copy = straight.with_extension(format!("death-{}", deaths.len()));
            copy_tree(&straight, &copy);
            deaths.push(copy);
        }
    };
    let (report, _) = world.attempt(&straight, on_event).unwrap();
    assert!(journal(&straight, "rewind").len() >= 2);
    for death in &deaths {
        let again = world.train(death, |_| {});
        assert_eq!(timeless(death), timeless(&straight), "{}", death.display());
        assert_eq!(passed_over(death), passed_over(&straight), "{}", death.display());
        assert_eq!(again.state_digest, report.state_digest, "{}", death.display());
        assert_eq!(again.stages, report.stages);
    }
}

#[test]
fn a_run_that_may_not_go_back_again_stops_with_a_state_that_resumes() {
    let world = world("rewind").set(&[("spikes.max_rewinds", "1")]);
    let run = world.path("run");
    let error = *world.attempt(&run, |_| {}).map(drop).unwrap_err();
    let Error::Spikes { tokens_seen, checkpoint, .. } = &error else { panic!("{error}") };
    assert!(error.to_string().contains("spikes.max_rewinds = 1 lets"), "{error}");
    Checkpoint::open(checkpoint).unwrap().verify().unwrap();
    assert_eq!(journal(&run, "rewind").len(), 1);
    assert_eq!(journal(&run, "spike").len(), 2);
    assert_eq!(state(checkpoint)["progress"]["tokens_seen"].as_u64(), Some(*tokens_seen));
    // It goes on behind the spike, and may go back again if the run file says so.
    let world = world.set(&[("spikes.max_rewinds", "20")]);
    let (report, resumed) = world.attempt(&run, |_| {}).unwrap();
    assert!(report.complete && resumed.unwrap().tokens_seen.0 == *tokens_seen);
}

#[test]
fn a_spike_that_does_not_last_is_only_left_out() {
    let run = |policy: &str, set: &[(&str, &str)]| -> (World, TrainReport) {
        // What is told between two checkpoints is then what happened between their states.
        let world = world(policy).set(set).set(&[AT_ONCE]);
        let mut saved = Vec::<PathBuf>::new();
        let mut spiked = false;
        let mut withheld = 0;
        let directory = world.path("run");
        let on_event = |event: &Event<'_>| match event {
            Event::Spike(_) => spiked = true,
            Event::Step(_) => spiked = false,
            Event::Saved { path, .. } => {
                if let Some(before) = saved.last().filter(|_| spiked) {
                    assert_eq!(tensors(before), tensors(path), "{}", path.display());
                    withheld += 1;
                }
                saved.push((*path).to_owned());
            }
            _ => {}
        };
        let (report, _) = world.attempt(&directory, on_event).unwrap();
        // Within a spike a run that could go back for it saves nothing but at a stage's end.
        assert!(withheld > 0 || policy == "rewind");
        (world, report)
    };
    let (skips, report) = run("skip", &[("spikes.lead_steps", "0")]);
    let spikes = journal(&skips.path("run"), "spike");
    assert!(report.complete && spikes.len() >= 2);
    assert!(worst_windows(&spikes).is_subset(&BTreeSet::from(POISONED)));
    let (waits, report) = run("rewind", &[("spikes.rewind_after_steps", "4")]);
    assert!(report.complete && journal(&waits.path("run"), "rewind").is_empty());
    assert_eq!(journal(&waits.path("run"), "spike").len(), spikes.len());
    assert_eq!(timeless(&waits.path("run")), timeless(&skips.path("run")));
}

#[test]
fn writing_spikes_down_changes_no_update() {
    let run = |policy: &str| {
        let world = world(policy);
        let run = world.path("run");
        let report = world.train(&run, |_| {});
        assert!(report.complete);
        let spikes = journal(&run, "spike");
        let last = newest_checkpoint(&run);
        (spikes, timeless(&run), tensors(&last))
    };
    let (none, records, weights) = run("off");
    let (spikes, same_records, same_weights) = run("record");
    assert!(none.is_empty() && !spikes.is_empty());
    assert!(spikes.iter().all(|spike| spike["applied"] == true));
    let updates = |records: &[StepRecord]| -> Vec<_> {
        records
            .iter()
            .map(|r| (r.token_digest, r.nats.to_bits(), r.gradient_norm.to_bits()))
            .collect()
    };
    assert!(updates(&records) == updates(&same_records) && weights == same_weights);
    // The noise scale, though, learns nothing from a step that spikes.
    assert!(same_records.iter().any(|record| record.is_spike));
    assert!(records.iter().all(|record| !record.is_spike));
    assert!(records.iter().any(|record| record.nats > HIGH), "the poison was trained on");
}

#[test]
fn no_other_mixture_before_what_is_to_be_passed_over() {
    let world = world("rewind");
    let (_, deaths) = world.train_and_die(&world.path("straight"));
    let mixture = serde_json::json!({"mixture": {"code": 0.1, "prose": 0.9}});
    let mixture: MixtureFile = serde_json::from_value(mixture).unwrap();
    let open = |death: &PathBuf| StoppedRun::open(&RunLayout::new(death), None).unwrap();
    let has_skip_ahead = |run: &StoppedRun| {
        let state = run.state.as_ref().unwrap();
        let here = state.cursor.index().0;
        run.standing.entered && state.journal.skips().iter().any(|skip| skip.end > here)
    };
    let (ahead, free): (Vec<_>, Vec<_>) = deaths.iter().map(open).partition(has_skip_ahead);
    let mut waiting = ahead.into_iter().next().expect("it saves where it has gone back to");
    let refused = waiting.mix(MixFrom::NextStep, &mixture).unwrap_err().to_string();
    assert!(
        refused.contains("is to pass over") && refused.contains("resume it until"),
        "{refused}"
    );
    let mut free = free.into_iter().find(|run| run.standing.entered).unwrap();
    assert!(free.mix(MixFrom::NextStep, &mixture).unwrap().decision.is_some());
}

#[test]
fn a_loss_that_is_not_finite_is_gone_back_for_too() {
    let world = poisoned().set(&SPIKES).set(&[("spikes.policy", "\"rewind\"")]);
    let straight = world.path("straight");
    let (report, deaths) = world.train_and_die(&straight);
    assert!(report.complete);
    let rewinds = journal(&straight, "rewind").len();
    assert!(rewinds >= 2 && journal(&straight, "bad_step").len() == rewinds);
    for death in deaths.iter().step_by(5) {
        let again = world.train(death, |_| {});
        assert_eq!(again.state_digest, report.state_digest, "{}", death.display());
        assert_eq!(timeless(death), timeless(&straight), "{}", death.display());
    }
}

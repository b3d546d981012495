//! A run that is evaluated on the way is the run that is not, and an evaluation is done once.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use terrace_checkpoint::{RunLayout, Store};
use terrace_train::{
    Asked, EvaluationRecord, Evaluator, Event, Occasion, Scores, StopFlag, TaskScore, TrainReport,
    read_evaluations, resume, start,
};

use crate::world::{World, copy_tree, is_run, lines, timeless};

/// Scores by the first weight of the model; stops where it is told to.
#[derive(Default)]
struct Fake {
    asked: Vec<u64>,
    /// At this call it is told to stop.
    stops_at: Option<usize>,
    stop: StopFlag,
}

impl Evaluator for Fake {
    fn evaluate(
        &mut self,
        asked: &Asked<'_>,
    ) -> Result<Option<Scores>, Box<dyn Error + Send + Sync>> {
        let tokens = asked.items.file_stem().unwrap().to_str().unwrap().parse()?;
        self.asked.push(tokens);
        assert!(asked.items.parent().unwrap().is_dir());
        if self.stops_at == Some(self.asked.len()) {
            self.stop.request();
            return Ok(None);
        }
        let weights: Vec<f32> = asked.model.norm.clone().into_data().try_to_vec()?;
        let score = TaskScore {
            task: "weight".to_owned(),
            metric: "acc".to_owned(),
            items: 1,
            value: f64::from(weights[0]),
            standard_error: None,
            metrics: [("acc".to_owned(), f64::from(weights[0]))].into(),
        };
        Ok(Some(Scores { asked_as: asked.digest.to_string(), tasks: vec![score] }))
    }
}

const TASK: &str = r#"
name = "weight"
form = "perplexity"
metric = "bits_per_byte"
prompt = "x"
data = { items = ["x"] }
"#;

/// A world whose runs are evaluated at 320 tokens and its multiples.
fn world() -> World {
    let world = World::new();
    fs::write(world.path("task.toml"), TASK).unwrap();
    fs::write(world.path("tokenizer.json"), "{}").unwrap();
    let tokenizer = format!("{:?}", world.path("tokenizer.json").display());
    let tasks = format!("[{:?}]", world.path("task.toml").display());
    world.set(&[
        ("model.tokenizer", &tokenizer),
        ("evaluation.tasks", &tasks),
        ("evaluation.every_tokens", "320"),
    ])
}

fn train(
    world: &World,
    directory: &Path,
    fake: &mut Fake,
    on_event: impl FnMut(&Event<'_>),
) -> TrainReport {
    fake.stop = StopFlag::default();
    let stop = fake.stop.clone();
    world.job_with(directory, Some(fake), stop, on_event, |job| {
        let trainer = if is_run(directory) { resume(job).unwrap().0 } else { start(job).unwrap() };
        trainer.run().unwrap()
    })
}

fn records(directory: &Path) -> Vec<EvaluationRecord> {
    read_evaluations(&RunLayout::new(directory)).unwrap()
}

/// Where the run is evaluated: at the start, behind each multiple, at the edges of its stages.
const PLACES: [u64; 7] = [0, 336, 672, 800, 992, 1280, 1440];

#[test]
fn an_evaluation_changes_no_bit_of_the_run() {
    let world = world();
    let plain = world.train(&world.path("plain"), |_| {});
    let mut fake = Fake::default();
    let directory = world.path("evaluated");
    let report = train(&world, &directory, &mut fake, |_| {});
    assert_eq!(report.state_digest, plain.state_digest);
    assert_eq!(timeless(&directory), timeless(&world.path("plain")));
    assert_eq!(fake.asked, PLACES);
    let records = records(&directory);
    let places: Vec<u64> = records.iter().map(|record| record.tokens_seen.0).collect();
    assert_eq!(places, PLACES);
    let [start, within, .., last] = &records[..] else { panic!() };
    assert_eq!((start.occasion, start.stage.as_str()), (Occasion::Start, "one"));
    assert_eq!((within.occasion, within.stage.as_str()), (Occasion::Tokens, "one"));
    assert_eq!((last.occasion, last.stage.as_str()), (Occasion::StageEnd, "two"));
    assert_eq!(last.model, report.state_digest);
    // Held-out text stands in the same record, and is what [validation] has measured.
    for (name, bits) in &report.stages[1].bits_per_byte {
        assert!((last.sources[name].bits_per_byte - bits).abs() < 1e-12);
        assert_eq!(last.sources[name].nats.len(), 3);
    }
    assert_eq!(report.evaluations.len(), PLACES.len());
    assert!(plain.evaluations.is_empty() && !world.path("plain/evaluations.jsonl").exists());
}

#[test]
fn killed_anywhere_it_is_evaluated_where_one_that_was_never_killed_is() {
    let world = world();
    let straight = world.path("straight");
    let mut deaths: Vec<PathBuf> = Vec::new();
    let at_event = |event: &Event<'_>| {
        if matches!(event, Event::Saved { .. } | Event::Evaluated(_)) {
            let copy = straight.with_extension(format!("death-{}", deaths.len()));
            copy_tree(&straight, &copy);
            deaths.push(copy);
        }
    };
    let report = train(&world, &straight, &mut Fake::default(), at_event);
    let expected = records(&straight);
    assert!(deaths.len() > 2 * PLACES.len());
    for death in &deaths {
        let saved = fs::read_dir(death.join("checkpoints")).unwrap();
        let saved = saved.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let saved: u64 = saved.max().unwrap().parse().unwrap();
        let before = records(death);
        let mut fake = Fake::default();
        let again = train(&world, death, &mut fake, |_| {});
        assert_eq!(again.state_digest, report.state_digest, "{}", death.display());
        assert_eq!(records(death), expected, "{}", death.display());
        assert_eq!(lines(death, "evaluations.jsonl"), lines(&straight, "evaluations.jsonl"));
        // What was done of the state that is gone on from is not done again, what was missed is.
        let done = |tokens: u64| before.iter().any(|record| record.tokens_seen.0 == tokens);
        let left: Vec<u64> = PLACES
            .into_iter()
            .filter(|place| *place > saved || (*place == saved && !done(*place)))
            .collect();
        assert_eq!(fake.asked, left, "{}", death.display());
    }
}

#[test]
fn told_to_stop_within_an_evaluation_it_goes_on_with_it() {
    let world = world();
    let straight = world.path("straight");
    let report = train(&world, &straight, &mut Fake::default(), |_| {});
    let directory = world.path("stopped");
    for call in 1..=PLACES.len() {
        // The first call of each process but the first is the one that was stopped.
        let mut fake = Fake { stops_at: Some(if call == 1 { 1 } else { 2 }), ..Fake::default() };
        let stopped = train(&world, &directory, &mut fake, |_| {});
        assert!(!stopped.complete);
        assert_eq!(stopped.tokens_seen.0, PLACES[call - 1]);
        assert_eq!(records(&directory).len(), call - 1);
    }
    let mut fake = Fake::default();
    let last = train(&world, &directory, &mut fake, |_| {});
    assert!(last.complete);
    assert_eq!(fake.asked, [1440]);
    assert_eq!(last.state_digest, report.state_digest);
    assert_eq!(records(&directory), records(&straight));
    // Of what is complete nothing is asked again, unless something else is asked.
    let mut fake = Fake::default();
    let _ = train(&world, &directory, &mut fake, |_| {});
    assert_eq!(fake.asked, [0; 0]);
    let world = world.set(&[("evaluation.limit", "3")]);
    let again = train(&world, &directory, &mut fake, |_| {});
    assert_eq!(fake.asked, [1440]);
    assert_eq!((again.state_digest, records(&directory).len()), (report.state_digest, 7));
}

#[test]
fn an_evaluation_that_fails_ends_the_run_with_its_state_saved() {
    struct Broken;
    impl Evaluator for Broken {
        fn evaluate(
            &mut self,
            _: &Asked<'_>,
        ) -> Result<Option<Scores>, Box<dyn Error + Send + Sync>> {
            Err("no sandbox".into())
        }
    }
    let world = world().set(&[("evaluation.at_start", "false")]);
    let directory = world.path("broken");
    let stop = StopFlag::default();
    let failed = world.job_with(
        &directory,
        Some(&mut Broken),
        stop,
        |_| {},
        |job| start(job).unwrap().run().unwrap_err(),
    );
    let source = Error::source(&failed).unwrap().to_string();
    assert!(failed.to_string().contains("at 336 tokens") && source == "no sandbox", "{failed}");
    let mut fake = Fake::default();
    assert!(train(&world, &directory, &mut fake, |_| {}).complete);
    assert_eq!(fake.asked, PLACES[1..]);
}

#[test]
fn evaluations_push_no_checkpoint_of_the_cadence_out() {
    let world = world().set(&[
        ("checkpoint.every_steps", "4"),
        ("checkpoint.keep_last", "2"),
        ("checkpoint.keep_best", "false"),
    ]);
    let tokens = |directory: &Path| -> Vec<u64> {
        let saved = Store::open(RunLayout::new(directory).checkpoints()).list().unwrap();
        saved.checkpoints.iter().map(|checkpoint| checkpoint.tokens_seen().0).collect()
    };
    let (plain, evaluated) = (world.path("plain"), world.path("evaluated"));
    world.train(&plain, |_| {});
    // What is there when an evaluation ends, the state that it is of among them.
    let mut within = Vec::new();
    let on_event = |event: &Event<'_>| {
        if let Event::Evaluated(record) = event {
            within.push((record.tokens_seen.0, tokens(&evaluated)));
        }
    };
    train(&world, &evaluated, &mut Fake::default(), on_event);
    assert_eq!(tokens(&evaluated), tokens(&plain));
    assert_eq!(tokens(&evaluated).len(), 2);
    assert!(within.iter().all(|(at, saved)| saved.last() == Some(at) && saved.len() <= 3));
    let forced = within.iter().filter(|(_, saved)| saved.len() == 3).count();
    assert!(forced > 0, "some of them made a checkpoint of their own: {within:?}");
}

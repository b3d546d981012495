//! `terrace simulate`: batch schedules on a noisy quadratic, where the best one is known.

mod picture;
mod story;

use serde::Serialize;
use terrace_config::{SimulateConfig, SimulatedOptimizer, load_simulate};
use terrace_policy::batch::PlateauSettings;
use terrace_simulate::closed_form::{Cost, best_fixed, oracle};
use terrace_simulate::{
    Controlled, Declared, Fixed, GnsSqrt, PlateauRun, Position, Quadratic, RelativeDrop, Rule,
    StepRule, Walk, controlled, walk,
};

use self::story::StoryAnswer;
use crate::args::SimulateArgs;
use crate::context::Context;
use crate::drawing;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::{Table, grouped};

/// Steps after which a rule that has not reached a target is given up.
const LONGEST: u64 = 100_000;

#[derive(Serialize)]
struct Answer {
    results: Vec<Outcome>,
    /// The run of several stages, if the file has stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    story: Option<StoryAnswer>,
}

/// What a schedule needed to reach a target; null where it does not get there.
#[derive(Serialize)]
struct Outcome {
    schedule: &'static str,
    target: f64,
    steps: Option<f64>,
    examples: Option<f64>,
    /// The share of seeds that got there, where there are seeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    reached: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps_p5: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps_p95: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    examples_p5: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    examples_p95: Option<f64>,
}

/// Runs every schedule to every target, and the stages if there are any.
pub(crate) fn run(args: &SimulateArgs, context: &Context) -> Result<ExitCode, CliError> {
    let config = load_simulate(&args.file, &args.overrides.pairs())?.config;
    drawing::check(args.picture.as_deref())?;
    let (results, walks) = results(&config)?;
    let story = if config.stages.is_empty() { None } else { Some(story::tell(&config)?) };
    let answer = Answer { results, story };
    let figure = || picture::figure(&answer, &walks);
    let code = drawing::write(args.picture.as_deref(), context, figure);
    context.answer(&answer, || text(&answer));
    Ok(code)
}

fn model(config: &SimulateConfig) -> (Quadratic, Position) {
    let q = &config.quadratic;
    let rule = match q.optimizer {
        SimulatedOptimizer::Sgd => StepRule::Sgd,
        SimulatedOptimizer::NormalizedSgd => StepRule::NormalizedSgd,
    };
    let power_law =
        Quadratic::power_law(q.dimension, q.curvature_power, q.noise_power, q.learning_rate);
    (Quadratic { rule, ..power_law }, Position::start(q.dimension, q.initial_square))
}

fn settings(config: &SimulateConfig) -> PlateauSettings {
    let plateau = &config.plateau;
    PlateauSettings {
        growth_factor: plateau.growth_factor,
        maximum_sequences: plateau.maximum_batch,
        beta2: plateau.beta2,
        minimum_steps_left: Some(1),
        ..PlateauSettings::new(plateau.nats_per_percent, plateau.alpha)
    }
}

/// What each schedule did, with its name; of the controller, with the first seed.
type Walks = Vec<(&'static str, Walk)>;

fn results(config: &SimulateConfig) -> Result<(Vec<Outcome>, Walks), CliError> {
    let targets = &config.quadratic.targets;
    let Some(least) = targets.iter().copied().reduce(f64::min) else { return Ok(<_>::default()) };
    let (model, start) = model(config);
    let plateau = &config.plateau;
    let first = plateau.first_batch as f64;
    let run = PlateauRun {
        settings: settings(config),
        first: plateau.first_batch,
        budget: plateau.budget_examples,
        loss_noise: plateau.loss_noise,
    };
    let shipped = controlled(&model, &start, &run, config.seed, plateau.seeds, least)
        .map_err(CliError::input)?;
    let drop = &config.relative_drop;
    let mut rules: Vec<(&'static str, Box<dyn Rule>)> = vec![
        ("no-growth", Box::new(Fixed(first))),
        (
            "relative-drop",
            Box::new(RelativeDrop::new(
                drop.first_batch as f64,
                drop.factor,
                drop.window,
                drop.threshold,
            )),
        ),
        ("gns-sqrt", Box::new(GnsSqrt { factor: config.gns_sqrt.factor, first })),
    ];
    if let Some(schedule) = &config.declared.schedule {
        let entries = schedule.0.iter().map(|e| (e.tokens_seen.0 as f64, e.batch.0 as f64));
        rules.push(("declared", Box::new(Declared(entries.collect()))));
    }
    let mut walks: Walks = rules
        .into_iter()
        .map(|(name, mut rule)| (name, walk(&model, &start, rule.as_mut(), least, LONGEST)))
        .collect();
    let mut results = Vec::new();
    for target in targets.iter().copied() {
        // The closed forms are those of plain steps.
        if model.rule == StepRule::Sgd {
            results.push(Outcome::of("oracle", target, oracle(&model, &start, target)));
            results.push(Outcome::of("best-fixed", target, best_fixed(&model, &start, target)));
        }
        results.push(Outcome::over_seeds("plateau", target, &shipped));
        results
            .extend(walks.iter().map(|(name, walk)| Outcome::of(name, target, walk.cost(target))));
    }
    walks.extend(shipped.walks.into_iter().next().map(|walk| ("plateau", walk)));
    Ok((results, walks))
}

impl Outcome {
    fn of(schedule: &'static str, target: f64, cost: Option<Cost>) -> Self {
        Self {
            schedule,
            target,
            steps: cost.map(|cost| cost.steps as f64),
            examples: cost.map(|cost| cost.examples),
            reached: None,
            steps_p5: None,
            steps_p95: None,
            examples_p5: None,
            examples_p95: None,
        }
    }

    fn over_seeds(schedule: &'static str, target: f64, walks: &Controlled) -> Self {
        let found = walks.cost(target);
        Self {
            schedule,
            target,
            steps: found.map(|d| d.steps),
            examples: found.map(|d| d.examples),
            reached: Some(found.map_or(0.0, |d| d.reached)),
            steps_p5: found.map(|d| d.steps_p5),
            steps_p95: found.map(|d| d.steps_p95),
            examples_p5: found.map(|d| d.examples_p5),
            examples_p95: found.map(|d| d.examples_p95),
        }
    }
}

fn text(answer: &Answer) -> String {
    let mut text = String::new();
    let mut table = Table::new(["schedule", "target", "steps", "examples", "seeds that got there"]);
    let range = |value: Option<f64>, low: Option<f64>, high: Option<f64>| {
        let whole = |value: f64| grouped(value.round() as u64);
        match (value, low, high) {
            (Some(value), Some(low), Some(high)) => {
                format!("{} ({} to {})", whole(value), whole(low), whole(high))
            }
            (Some(value), ..) => whole(value),
            (None, ..) => "never".to_owned(),
        }
    };
    for row in &answer.results {
        table.row([
            row.schedule.to_owned(),
            row.target.to_string(),
            range(row.steps, row.steps_p5, row.steps_p95),
            range(row.examples, row.examples_p5, row.examples_p95),
            row.reached.map_or_else(|| "-".to_owned(), |share| format!("{:.1}%", 100.0 * share)),
        ]);
    }
    if !table.is_empty() {
        text.push_str(&table.render());
    }
    if let Some(story) = &answer.story {
        text.push_str(&story.text());
    }
    text
}

//! Relations between the values of a simulation.

use super::Check;
use crate::error::Diagnostic;
use crate::node::{Document, KeyPath};
use crate::simulate::{SimulateConfig, SimulatedStage};

/// Examples of a run or a stage.
const MOST_EXAMPLES: u64 = 1_000_000_000_000;
/// Steps of a run beyond which its walk would not fit into memory beside the others.
const MOST_STEPS: u64 = 2_000_000;
/// Directions beyond which one step takes too long.
const MOST_DIRECTIONS: u64 = 100_000;

/// Everything that is wrong with a file of `terrace simulate`.
pub(crate) fn simulate(config: &SimulateConfig, document: &Document) -> Vec<Diagnostic> {
    let mut check = Check { document, problems: Vec::new() };
    check.quadratic(config);
    check.schedules(config);
    for (name, source) in &config.sources {
        let path = KeyPath::new("sources").child(name).child("distance");
        check.number(&path, source.distance, "a distance, 0 or more", source.distance >= 0.0);
    }
    for (index, stage) in config.stages.iter().enumerate() {
        check.simulated_stage(config, index, stage);
    }
    if config.quadratic.targets.is_empty() && config.stages.is_empty() {
        let message = "there is nothing to simulate: neither `quadratic.targets` nor `stages`";
        let help = "write targets = [0.1, 0.03] in [quadratic], for example".to_owned();
        check.refuse_with_help(&KeyPath::new("quadratic"), message, help);
    }
    check.problems
}

impl Check<'_> {
    fn quadratic(&mut self, config: &SimulateConfig) {
        let quadratic = &config.quadratic;
        let path = |key: &str| KeyPath::new("quadratic").child(key);
        self.within("quadratic.dimension", quadratic.dimension as u64, MOST_DIRECTIONS);
        for (key, value) in
            [("curvature_power", quadratic.curvature_power), ("noise_power", quadratic.noise_power)]
        {
            self.number(&path(key), value, "0 or more", value >= 0.0);
        }
        self.above_zero(&path("initial_square"), quadratic.initial_square);
        let rate = quadratic.learning_rate;
        // The first direction has a curvature of one: beyond two, every step leads further away.
        self.number(&path("learning_rate"), rate, "above 0 and below 2", rate > 0.0 && rate < 2.0);
        for (index, target) in quadratic.targets.iter().enumerate() {
            self.above_zero(&path("targets").child(index), *target);
        }
    }

    fn schedules(&mut self, config: &SimulateConfig) {
        let plateau = &config.plateau;
        let path = |key: &str| KeyPath::new("plateau").child(key);
        self.above_zero(&path("nats_per_percent"), plateau.nats_per_percent);
        let alpha = plateau.alpha;
        let holds = alpha > 0.0 && alpha < 0.5;
        self.number(&path("alpha"), alpha, "a chance above 0 and below 0.5", holds);
        let beta2 = plateau.beta2;
        self.number(&path("beta2"), beta2, "in [0, 1)", (0.0..1.0).contains(&beta2));
        let noise = plateau.loss_noise;
        self.number(&path("loss_noise"), noise, "0 or more", noise >= 0.0);
        if plateau.growth_factor < 2 {
            let found = plateau.growth_factor;
            let message = format!("`plateau.growth_factor`: found {found}, expected 2 or more");
            self.refuse(&path("growth_factor"), message);
        }
        self.at_least_one("plateau.first_batch", plateau.first_batch);
        self.within("plateau.budget_examples", plateau.budget_examples, MOST_EXAMPLES);
        self.steps(config);
        self.within("plateau.seeds", plateau.seeds, 100_000);
        if plateau.maximum_batch.is_some_and(|maximum| maximum < plateau.first_batch) {
            let message = "`plateau.maximum_batch` is below `plateau.first_batch`";
            self.refuse(&path("maximum_batch"), message);
        }
        let drop = &config.relative_drop;
        self.at_least_one("relative_drop.first_batch", drop.first_batch);
        self.at_least_one("relative_drop.window", drop.window as u64);
        let path = |key: &str| KeyPath::new("relative_drop").child(key);
        self.number(&path("factor"), drop.factor, "above 1", drop.factor > 1.0);
        self.above_zero(&path("threshold"), drop.threshold);
        self.above_zero(&KeyPath::new("gns_sqrt.factor"), config.gns_sqrt.factor);
        self.declared(config);
    }

    /// A batch that never grows takes the most steps.
    fn steps(&mut self, config: &SimulateConfig) {
        let plateau = &config.plateau;
        let budgets = config.stages.iter().map(|stage| stage.budget_examples);
        let staged = budgets.fold(0, u64::saturating_add);
        let steps = staged.max(plateau.budget_examples) / plateau.first_batch.max(1);
        if steps > MOST_STEPS {
            let message = format!("a run would take {steps} steps, expected at most {MOST_STEPS}");
            let help = "give it fewer examples, or a larger `plateau.first_batch`".to_owned();
            self.refuse_with_help(&KeyPath::new("plateau"), message, help);
        }
    }

    fn declared(&mut self, config: &SimulateConfig) {
        let Some(schedule) = &config.declared.schedule else { return };
        let path = KeyPath::new("declared.schedule");
        if schedule.0.first().is_none_or(|entry| entry.tokens_seen.0 != 0) {
            self.refuse(&path, "`declared.schedule`: expected a first entry at 0, as in \"0:4\"");
        }
        if !schedule.0.is_sorted_by(|left, right| left.tokens_seen < right.tokens_seen) {
            self.refuse(&path, "`declared.schedule`: expected entries in ascending order");
        }
        if schedule.0.iter().any(|entry| entry.batch.0 == 0) {
            self.refuse(&path, "`declared.schedule`: a batch of 0 examples");
        }
    }

    fn simulated_stage(&mut self, config: &SimulateConfig, index: usize, stage: &SimulatedStage) {
        let path = KeyPath::new("stages").child(index);
        self.within(&format!("{path}.budget_examples"), stage.budget_examples, MOST_EXAMPLES);
        for (name, weight) in &stage.mixture {
            let path = path.child("mixture").child(name);
            self.number(&path, *weight, "a weight, 0 or more", *weight >= 0.0);
        }
        if stage.mixture.values().all(|weight| *weight == 0.0) {
            let message = format!("`{path}.mixture`: no source has a weight");
            self.refuse(&path.child("mixture"), message);
        }
        let known = |name: &String| config.sources.contains_key(name);
        if let Some(name) = stage.mixture.keys().find(|name| !known(name)) {
            let message = format!("`{path}.mixture`: there is no source `{name}`");
            let help = format!("write [sources.{name}] with its distance");
            self.refuse_with_help(&path.child("mixture"), message, help);
        }
    }

    fn within(&mut self, key: &str, value: u64, most: u64) {
        if !(1..=most).contains(&value) {
            let message = format!("`{key}`: found {value}, expected 1 to {most}");
            self.refuse(&KeyPath::new(key), message);
        }
    }
}

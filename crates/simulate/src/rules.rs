//! Rules for the batch that see the expected loss, or the exact noise scale: what a controller that
//! sees noisy losses is held against.

use serde::Serialize;

use crate::closed_form::Cost;
use crate::quadratic::{Position, Quadratic};

/// What a rule is shown before a step.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The expected loss before each step so far, the coming one included.
    pub losses: &'a [f64],
    /// The exact noise scale now, in examples.
    pub noise_scale: f64,
    /// Examples so far.
    pub examples: f64,
    /// The batch of the step before.
    pub batch: f64,
}

/// A rule for the batch.
pub trait Rule {
    /// The batch of the first step.
    fn first(&self) -> f64;
    /// The batch of the next step.
    fn next(&mut self, seen: Seen<'_>) -> f64;
}

/// The same batch for ever.
#[derive(Clone, Copy, Debug)]
pub struct Fixed(pub f64);

impl Rule for Fixed {
    fn first(&self) -> f64 {
        self.0
    }

    fn next(&mut self, _: Seen<'_>) -> f64 {
        self.0
    }
}

/// Batches by examples seen, as `(threshold, batch)` in ascending order.
#[derive(Clone, Debug)]
pub struct Declared(pub Vec<(f64, f64)>);

impl Rule for Declared {
    fn first(&self) -> f64 {
        self.0.first().map_or(1.0, |entry| entry.1)
    }

    fn next(&mut self, seen: Seen<'_>) -> f64 {
        let reached = self.0.iter().rev().find(|entry| entry.0 <= seen.examples);
        reached.map_or_else(|| self.first(), |entry| entry.1)
    }
}

/// Grows by a factor when the expected loss fell by less than a share of itself over a window, and no
/// growth lies within the window.
#[derive(Clone, Copy, Debug)]
pub struct RelativeDrop {
    first: f64,
    factor: f64,
    window: usize,
    threshold: f64,
    /// The place in the losses at which the batch last grew.
    grown_at: usize,
}

impl RelativeDrop {
    /// A rule that begins with the batch `first`.
    #[must_use]
    pub fn new(first: f64, factor: f64, window: usize, threshold: f64) -> Self {
        Self { first, factor, window, threshold, grown_at: 0 }
    }
}

impl Rule for RelativeDrop {
    fn first(&self) -> f64 {
        self.first
    }

    fn next(&mut self, seen: Seen<'_>) -> f64 {
        let now = seen.losses.len() - 1;
        if now <= self.grown_at + self.window {
            return seen.batch;
        }
        let (before, loss) = (seen.losses[now - self.window], seen.losses[now]);
        if before - loss >= self.threshold * loss {
            return seen.batch;
        }
        self.grown_at = now;
        seen.batch * self.factor
    }
}

/// `B = r · sqrt(B_simple)`, with the exact noise scale and batches that need not be whole.
///
/// # Source
///
/// McCandlish et al. 2018 (arXiv 1812.06162), appendix D: minimising steps plus examples over `r²`.
#[derive(Clone, Copy, Debug)]
pub struct GnsSqrt {
    /// The factor `r`.
    pub factor: f64,
    /// The batch of the first step, before a noise scale is known.
    pub first: f64,
}

impl Rule for GnsSqrt {
    fn first(&self) -> f64 {
        self.first
    }

    fn next(&mut self, seen: Seen<'_>) -> f64 {
        self.factor * seen.noise_scale.sqrt()
    }
}

/// `B = κ · B_simple`, never smaller than before: at a fixed learning rate it either never acts or
/// runs away, since the noise scale at rest is in proportion to the batch.
#[derive(Clone, Copy, Debug)]
pub struct GnsLinear {
    /// The factor `κ`.
    pub factor: f64,
    /// The batch of the first step.
    pub first: f64,
}

impl Rule for GnsLinear {
    fn first(&self) -> f64 {
        self.first
    }

    fn next(&mut self, seen: Seen<'_>) -> f64 {
        seen.batch.max(self.factor * seen.noise_scale)
    }
}

/// How training went.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Walk {
    /// The expected loss before each step, and after the last one.
    pub losses: Vec<f64>,
    /// The batch of each step.
    pub batches: Vec<f64>,
}

impl Walk {
    /// What it took to reach a target; none if the walk did not.
    #[must_use]
    pub fn cost(&self, target: f64) -> Option<Cost> {
        let steps = self.losses.iter().position(|loss| *loss <= target)?;
        let examples = self.batches[..steps].iter().sum();
        Some(Cost { steps: steps as u64, examples })
    }
}

/// Trains by `rule` until `target` is reached, or for `longest` steps.
pub fn walk(
    model: &Quadratic,
    start: &Position,
    rule: &mut dyn Rule,
    target: f64,
    longest: u64,
) -> Walk {
    let mut at = start.clone();
    let mut walk = Walk { losses: vec![model.loss(&at)], batches: Vec::new() };
    let (mut batch, mut examples) = (rule.first(), 0.0);
    while walk.losses.last().is_some_and(|loss| *loss > target)
        && (walk.batches.len() as u64) < longest
    {
        let noise_scale = model.noise_scale(&at);
        batch = rule.next(Seen { losses: &walk.losses, noise_scale, examples, batch });
        model.step(&mut at, batch);
        examples += batch;
        walk.batches.push(batch);
        walk.losses.push(model.loss(&at));
    }
    walk
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(rule: &mut dyn Rule, target: f64) -> Option<(u64, f64)> {
        let model = Quadratic::power_law(50, 1.0, 1.0, 0.5);
        let found = walk(&model, &Position::start(50, 1.0), rule, target, 20_000).cost(target);
        found.map(|cost| (cost.steps, cost.examples.round()))
    }

    #[test]
    fn growth_on_the_expected_loss_is_that_of_the_method() {
        for (factor, window, target, expected) in [
            (2.0, 10, 0.01, (422, 7491.0)),
            (2.0, 20, 0.01, (571, 10_043.0)),
            (2.0, 80, 0.01, (1026, 14_283.0)),
            (4.0, 10, 0.01, (342, 7863.0)),
            (2.0, 10, 0.03, (309, 1923.0)),
            (2.0, 10, 0.10, (204, 531.0)),
        ] {
            let mut rule = RelativeDrop::new(1.0, factor, window, 0.02);
            assert_eq!(cost(&mut rule, target), Some(expected), "{factor} {window} {target}");
        }
    }

    #[test]
    fn the_root_of_the_noise_scale_is_that_of_the_method() {
        let rule = GnsSqrt { factor: 3.0, first: 1.0 };
        for (target, expected) in
            [(0.01, (199, 11_830.0)), (0.03, (107, 4872.0)), (0.10, (58, 1884.0))]
        {
            assert_eq!(cost(&mut rule.clone(), target), Some(expected), "{target}");
        }
    }

    /// The root rule comes to rest at `r² · ρ`.
    #[test]
    fn the_root_rule_has_a_fixed_point() {
        let model = Quadratic::power_law(50, 1.0, 1.0, 0.5);
        let mut rule = GnsSqrt { factor: 1.0, first: 1.0 };
        let found = walk(&model, &Position::start(50, 1.0), &mut rule, 0.0, 5000);
        assert!((found.batches.last().unwrap() - 8.9326).abs() < 1e-3);
    }

    /// On either side of `κ ρ = 1` the linear rule never acts or never stops.
    #[test]
    fn the_linear_rule_is_bistable() {
        let model = Quadratic::power_law(50, 1.0, 1.0, 0.5);
        let start = Position::start(50, 1.0);
        let mut stuck = GnsLinear { factor: 0.10, first: 1.0 };
        let found = walk(&model, &start, &mut stuck, 0.01, 20_000);
        assert_eq!(found.cost(0.01), None);
        assert_eq!(*found.batches.last().unwrap(), 1.0);
        let mut runaway = GnsLinear { factor: 0.3, first: 1.0 };
        let found = walk(&model, &start, &mut runaway, 0.01, 20_000);
        assert_eq!(found.batches.last().unwrap().round(), 1612.0);
        let examples = found.cost(0.01).unwrap().examples;
        assert!((examples / 15_445.0 - 3.5).abs() < 0.05, "{examples}");
        // Without a target it never stops.
        let further = walk(&model, &start, &mut runaway, 0.0, 1000);
        assert!(*further.batches.last().unwrap() > 1e6);
    }

    #[test]
    fn declared_batches_begin_at_their_thresholds() {
        let model = Quadratic::power_law(3, 1.0, 1.0, 0.1);
        let mut rule = Declared(vec![(0.0, 2.0), (5.0, 4.0)]);
        let found = walk(&model, &Position::start(3, 1.0), &mut rule, 0.0, 5);
        assert_eq!(found.batches, [2.0, 2.0, 2.0, 4.0, 4.0]);
    }
}

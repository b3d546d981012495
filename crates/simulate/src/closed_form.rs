//! The best a batch can do, in closed form, for plain SGD at a fixed learning rate.
//!
//! The loss after `T` steps is linear in the inverse batches,
//! `bias(T) + Σ_t w_{T-1-t} / B_t` with `w_k = ½ η² Σ h_i c_i (1 - η h_i)^{2k}`, so that the least
//! examples for a target follow from a Lagrange multiplier: `B_t` is in proportion to
//! `sqrt(w_{T-1-t})`, and grows towards the end.

use serde::Serialize;

use crate::quadratic::{Position, Quadratic};

/// Steps beyond which no optimum is looked for: many memories of the slowest direction.
const MEMORIES: f64 = 20.0;

/// What reaching a target costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Steps.
    pub steps: u64,
    /// Examples over all of them.
    pub examples: f64,
}

/// The fixed batch that reaches `target` with the fewest examples; none if no batch does.
#[must_use]
pub fn best_fixed(model: &Quadratic, start: &Position, target: f64) -> Option<Cost> {
    let (mut sum, mut count) = (0.0, 0.0);
    best(model, start, target, |weight, room| {
        sum += weight;
        count += 1.0;
        count * sum / room
    })
}

/// The schedule that reaches `target` with the fewest examples; none if none does.
#[must_use]
pub fn oracle(model: &Quadratic, start: &Position, target: f64) -> Option<Cost> {
    let mut sum = 0.0;
    best(model, start, target, |weight, room| {
        sum += weight.sqrt();
        sum * sum / room
    })
}

/// The batches of the oracle that takes `steps` steps, in order.
#[must_use]
pub fn oracle_batches(
    model: &Quadratic,
    start: &Position,
    target: f64,
    steps: u64,
) -> Option<Vec<f64>> {
    let weights = Weights::new(model).take(steps as usize);
    let roots: Vec<f64> = weights.map(f64::sqrt).collect();
    let room = target - bias(model, start, steps);
    let sum: f64 = roots.iter().sum();
    (room > 0.0).then(|| roots.iter().rev().map(|root| root * sum / room).collect())
}

/// The least of `examples(w_{T-1}, target - bias(T))` over `T`, told in ascending order.
fn best(
    model: &Quadratic,
    start: &Position,
    target: f64,
    mut examples: impl FnMut(f64, f64) -> f64,
) -> Option<Cost> {
    let slowest = model.curvature.iter().copied().fold(f64::INFINITY, f64::min);
    let horizon = (MEMORIES / (model.learning_rate * slowest)).ceil() as u64;
    let mut found: Option<Cost> = None;
    for (steps, weight) in (1..=horizon).zip(Weights::new(model)) {
        let room = target - bias(model, start, steps);
        let examples = examples(weight, room);
        if room > 0.0 && found.is_none_or(|best| examples < best.examples) {
            found = Some(Cost { steps, examples });
        }
    }
    found
}

/// The loss after `steps` steps without noise.
fn bias(model: &Quadratic, start: &Position, steps: u64) -> f64 {
    let kept = |h: &f64| (1.0 - model.learning_rate * h).powi(2).powf(steps as f64);
    let parts = model.curvature.iter().zip(&start.square);
    0.5 * parts.map(|(h, e)| h * e * kept(h)).sum::<f64>()
}

/// `w_0, w_1, …`
struct Weights {
    parts: Vec<f64>,
    kept: Vec<f64>,
}

impl Weights {
    fn new(model: &Quadratic) -> Self {
        let eta = model.learning_rate;
        let directions = model.curvature.iter().zip(&model.noise);
        Self {
            parts: directions.map(|(h, c)| 0.5 * eta * eta * h * c).collect(),
            kept: model.curvature.iter().map(|h| (1.0 - eta * h).powi(2)).collect(),
        }
    }
}

impl Iterator for Weights {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        let sum = self.parts.iter().sum();
        self.parts.iter_mut().zip(&self.kept).for_each(|(part, kept)| *part *= kept);
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> (Quadratic, Position) {
        (Quadratic::power_law(50, 1.0, 1.0, 0.5), Position::start(50, 1.0))
    }

    #[test]
    fn the_table_of_the_method_is_reproduced() {
        let (model, start) = model();
        for (target, fixed, best) in [
            (0.10, (95, 819.0), (131, 323.0)),
            (0.03, (152, 3997.0), (225, 1169.0)),
            (0.01, (205, 15_445.0), (318, 3595.0)),
        ] {
            let cost = best_fixed(&model, &start, target).unwrap();
            assert_eq!((cost.steps, cost.examples.round()), fixed, "{target}");
            let cost = oracle(&model, &start, target).unwrap();
            assert_eq!((cost.steps, cost.examples.round()), best, "{target}");
        }
        assert!(oracle(&model, &start, 0.0).is_none());
    }

    #[test]
    fn the_oracles_batches_reach_the_target_and_always_grow() {
        let (model, start) = model();
        let batches = oracle_batches(&model, &start, 0.03, 225).unwrap();
        let mut at = start;
        batches.iter().for_each(|batch| model.step(&mut at, *batch));
        assert!((model.loss(&at) - 0.03).abs() < 1e-9);
        assert!((batches.iter().sum::<f64>() - 1169.44).abs() < 0.01);
        assert!(batches.windows(2).all(|pair| pair[0] < pair[1]));
    }
}

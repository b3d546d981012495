//! Losses of steps, gathered into block means of the mixture-adjusted loss.

use serde::{Deserialize, Serialize};

use super::statistics::Moments;

/// A block goes on for this many times its length to wait for a source that it has not seen.
const PATIENCE: u64 = 4;

/// What one source contributed to one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceLoss {
    /// Sum of the losses of its targets, in nats.
    pub nats: f64,
    /// Number of its targets.
    pub targets: u64,
}

/// A run of consecutive steps, reduced to a mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Block {
    /// The mixture-adjusted loss over the block.
    pub(super) mean: f64,
    /// Step numbers and losses of its single steps.
    pub(super) steps: Moments,
    /// Squared differences of neighbouring steps.
    pub(super) differences: f64,
    /// Number of those.
    pub(super) pairs: f64,
}

impl Block {
    /// Two neighbouring blocks as one.
    pub(super) fn merged(self, other: Self) -> Self {
        let steps = self.steps.merged(other.steps);
        let weighted = self.mean * self.steps.weight + other.mean * other.steps.weight;
        Self {
            mean: weighted / steps.weight,
            steps,
            differences: self.differences + other.differences,
            pairs: self.pairs + other.pairs,
        }
    }
}

/// The block that is being gathered.
///
/// The mixture-adjusted loss is `Σ π_k · nats_k / targets_k` over the whole block, with the fixed
/// weights `π` of the stage: which source happened to be drawn more often does not show in it. A
/// mean of ratios per step would be undefined for a source that a step lacks, and would weigh a
/// step with three of its targets like one with three thousand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct OpenBlock {
    sources: Vec<SourceLoss>,
    /// The last block's mean of each source.
    carried: Vec<Option<f64>>,
    steps: Moments,
    differences: f64,
    pairs: f64,
    previous: Option<(u64, f64)>,
}

impl OpenBlock {
    pub(super) fn new(sources: usize) -> Self {
        let (sources, carried) = (vec![SourceLoss::default(); sources], vec![None; sources]);
        Self { sources, carried, ..Self::default() }
    }

    /// The mixture-adjusted loss of one step; a source that it lacks counts with the mean that it
    /// had last, and not at all if it never had one. None if no source with a weight is left.
    ///
    /// Good enough to see spikes and to measure noise; slopes are fitted to block means only.
    pub(super) fn step_loss(&self, weights: &[f64], losses: &[SourceLoss]) -> Option<f64> {
        let (mut sum, mut total) = (0.0, 0.0);
        for (source, weight) in weights.iter().enumerate() {
            let known = mean(losses[source]);
            let known = known.or(self.carried[source]).or_else(|| mean(self.sources[source]));
            if let Some(loss) = known {
                sum += weight * loss;
                total += weight;
            }
        }
        (total > 0.0).then(|| sum / total)
    }

    /// Takes in the step numbered `step`.
    pub(super) fn push(&mut self, step: u64, loss: f64, losses: &[SourceLoss]) {
        for (sum, own) in self.sources.iter_mut().zip(losses) {
            sum.nats += own.nats;
            sum.targets += own.targets;
        }
        if let Some((before, previous)) = self.previous
            && before + 1 == step
        {
            self.differences += (loss - previous).powi(2);
            self.pairs += 1.0;
        }
        self.previous = Some((step, loss));
        self.steps = self.steps.merged(Moments::of(step as f64, loss, 1.0));
    }

    /// Closes the block if it has `length` steps and has seen every source that has a weight.
    ///
    /// After four times the length, a source that is still missing stands in with the mean that it
    /// had last: so rare a source moves the weighted mean by little, and waiting for it would blind
    /// the controller.
    pub(super) fn close(&mut self, weights: &[f64], length: u64) -> Option<Block> {
        let gathered = self.steps.weight as u64;
        if gathered < length {
            return None;
        }
        let may_carry = gathered >= PATIENCE * length;
        let mut sum = 0.0;
        for (source, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            let stand_in = self.carried[source].filter(|_| may_carry);
            sum += weight * mean(self.sources[source]).or(stand_in)?;
        }
        for (carried, own) in self.carried.iter_mut().zip(&mut self.sources) {
            *carried = mean(std::mem::take(own)).or(*carried);
        }
        let (steps, differences, pairs) = (self.steps, self.differences, self.pairs);
        (self.steps, self.differences, self.pairs) = (Moments::default(), 0.0, 0.0);
        Some(Block { mean: sum / weights.iter().sum::<f64>(), steps, differences, pairs })
    }
}

fn mean(loss: SourceLoss) -> Option<f64> {
    (loss.targets > 0).then(|| loss.nats / loss.targets as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(mean: f64, targets: u64) -> SourceLoss {
        SourceLoss { nats: mean * targets as f64, targets }
    }

    #[test]
    fn the_mix_of_a_block_does_not_move_its_mean() {
        let weights = [0.7, 0.3];
        let mean_of = |rows: &[[u64; 2]]| {
            let mut open = OpenBlock::new(2);
            for (step, [a, b]) in (0..).zip(rows) {
                open.push(step, 2.0, &[loss(2.0, *a), loss(4.0, *b)]);
            }
            open.close(&weights, rows.len() as u64).unwrap().mean
        };
        let expected = 0.7 * 2.0 + 0.3 * 4.0;
        for rows in [[[7, 3], [7, 3]], [[1, 9], [0, 2]], [[10, 0], [0, 10]]] {
            assert!((mean_of(&rows) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn a_block_waits_for_a_missing_source_but_not_for_ever() {
        let weights = [0.9, 0.1];
        let mut open = OpenBlock::new(2);
        for step in 0..20 {
            open.push(step, 2.0, &[loss(2.0, 5), loss(0.0, 0)]);
            assert!(open.close(&weights, 2).is_none(), "the second source was never seen");
        }
        open.push(20, 2.0, &[loss(2.0, 5), loss(3.0, 5)]);
        let first = open.close(&weights, 2).unwrap();
        assert_eq!(first.steps.weight, 21.0);
        assert!((first.mean - 2.1).abs() < 1e-12);
        let lengths = (21..29).map(|step| {
            open.push(step, 2.0, &[loss(2.0, 5), loss(0.0, 0)]);
            open.close(&weights, 2)
        });
        let closed: Vec<bool> = lengths.map(|block| block.is_some()).collect();
        assert_eq!(closed, [false, false, false, false, false, false, false, true]);
    }

    #[test]
    fn merging_keeps_means_and_counts() {
        let block = |first: u64, level: f64| {
            let mut open = OpenBlock::new(1);
            (first..first + 3).for_each(|t| open.push(t, level + t as f64, &[loss(level, 1)]));
            open.close(&[1.0], 3).unwrap()
        };
        let merged = block(0, 1.0).merged(block(3, 3.0));
        assert_eq!((merged.mean, merged.steps.weight, merged.steps.mean_t), (2.0, 6.0, 2.5));
        assert_eq!((merged.differences, merged.pairs), (4.0, 4.0));
    }
}

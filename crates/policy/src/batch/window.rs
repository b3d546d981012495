//! The blocks that a slope is fitted to.

use serde::{Deserialize, Serialize};

use super::block::{Block, OpenBlock, SourceLoss};
use super::spike::SpikeFilter;
use super::statistics::{LEAST_VARIANCE, Line, Moments};

/// Blocks that a fit needs. Few and long blocks are robust: where the window is long against the
/// memory of the noise, a twelfth of it is too, and the `t` quantiles pay for the few degrees of
/// freedom (a third more window than with a known variance).
const LEAST_BLOCKS: usize = 12;
/// Twice as many become pairs.
const MOST_BLOCKS: usize = 24;
/// Blocks that share a line where the noise of single steps is measured.
const GROUP: usize = 4;
/// A new look needs a quarter of the window to be new.
const NEW_SHARE: f64 = 0.25;

/// A sliding, widening window of block means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Window {
    blocks: Vec<Block>,
    open: OpenBlock,
    spikes: SpikeFilter,
    block_steps: u64,
    maximum_steps: u64,
    /// Steps that have to come before the next look.
    wait: f64,
}

impl Window {
    /// An empty window whose blocks begin with `block_steps` steps and which holds at most
    /// `maximum_steps`.
    pub(super) fn new(sources: usize, block_steps: u64, maximum_steps: u64) -> Self {
        Self {
            blocks: Vec::new(),
            open: OpenBlock::new(sources),
            spikes: SpikeFilter::default(),
            block_steps,
            maximum_steps,
            wait: 0.0,
        }
    }

    /// Takes in a step; gives the block that it completes.
    pub(super) fn push(
        &mut self,
        step: u64,
        losses: &[SourceLoss],
        weights: &[f64],
        flagged: bool,
    ) -> Option<Block> {
        // A step of sources without weight, or of sources never seen before, has no loss to speak of.
        let loss = self.open.step_loss(weights, losses).filter(|loss| loss.is_finite())?;
        let spike = self.spikes.is_spike(loss);
        if spike || flagged {
            return None;
        }
        self.open.push(step, loss, losses);
        let block = self.open.close(weights, self.block_steps)?;
        self.wait -= block.steps.weight;
        self.blocks.push(block);
        let keeps = self.maximum_steps as f64;
        while self.steps() - self.blocks[0].steps.weight >= keeps {
            self.blocks.remove(0);
        }
        if self.blocks.len() >= MOST_BLOCKS {
            self.pair_up();
        }
        Some(block)
    }

    /// The line through the blocks, if there are enough, and enough new ones.
    ///
    /// Blocks that turn out shorter than two autocorrelation times are paired up instead.
    pub(super) fn look(&mut self) -> Option<Line> {
        if self.wait > 0.0 || self.blocks.len() < LEAST_BLOCKS {
            return None;
        }
        if (self.block_steps as f64) < 2.0 * self.autocorrelation_time() {
            self.pair_up();
            if self.blocks.len() < LEAST_BLOCKS {
                return None;
            }
        }
        self.wait = NEW_SHARE * self.steps();
        let points = self.blocks.iter().map(|b| (b.steps.mean_t, b.mean, b.steps.weight));
        Some(Line::fit(&points.collect::<Vec<_>>()))
    }

    /// Drops the oldest of `parts` parts; the next look comes when the window is as long as it was.
    pub(super) fn drop_oldest(&mut self, parts: usize) {
        let before = self.steps();
        self.blocks.drain(..self.blocks.len() / parts);
        self.wait = before - self.steps();
    }

    /// Steps in the closed blocks.
    pub(super) fn steps(&self) -> f64 {
        self.blocks.iter().map(|block| block.steps.weight).sum()
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn block_steps(&self) -> u64 {
        self.block_steps
    }

    /// The standard deviation of the loss of one step around the trend.
    pub(super) fn noise_sd(&self) -> f64 {
        self.step_variance().sqrt()
    }

    /// The lag-1 autocorrelation of the losses of single steps.
    ///
    /// # Source
    ///
    /// Von Neumann's ratio: differences of neighbours have the variance `2 σ² (1 − ρ)`, and no
    /// trend worth the name.
    pub(super) fn autocorrelation(&self) -> f64 {
        let differences: f64 = self.blocks.iter().map(|block| block.differences).sum();
        let pairs: f64 = self.blocks.iter().map(|block| block.pairs).sum();
        1.0 - differences / pairs.max(1.0) / (2.0 * self.step_variance())
    }

    /// The integrated autocorrelation time in steps, were the noise autoregressive of order one.
    fn autocorrelation_time(&self) -> f64 {
        let rho = self.autocorrelation().clamp(0.0, 0.98);
        (1.0 + rho) / (1.0 - rho)
    }

    /// The variance of the loss of one step around a line of its own for every few blocks.
    ///
    /// One line for the whole window would count the bend of a fast descent as slow noise, and
    /// stretch the blocks for good.
    fn step_variance(&self) -> f64 {
        let group = |blocks: &[Block]| {
            blocks.iter().fold(Moments::default(), |sum, block| sum.merged(block.steps))
        };
        let groups: Vec<Moments> = self.blocks.chunks(GROUP).map(group).collect();
        let squares: f64 = groups.iter().map(Moments::residual).sum();
        let freedom: f64 = groups.iter().map(|steps| steps.weight - 2.0).sum();
        (squares / freedom.max(1.0)).max(LEAST_VARIANCE)
    }

    /// Makes one block of two, and doubles the length of those to come.
    fn pair_up(&mut self) {
        self.block_steps *= 2;
        let merge = |pair: &[Block]| pair.iter().copied().reduce(Block::merged);
        self.blocks = self.blocks.chunks(2).filter_map(merge).collect();
    }
}

//! Comparing rows of logits, in the host's memory.

use burn::tensor::Tensor;
use rayon::prelude::*;

/// The loss and the divergence of one token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct TokenFigures {
    /// The loss in nats.
    pub(super) nats: f32,
    /// KL(base ‖ this) in nats.
    pub(super) kl: f32,
}

/// Log-probabilities of rows, `[rows, v]`.
pub(super) struct LogProbabilities {
    values: Vec<f32>,
    width: usize,
}

impl LogProbabilities {
    /// Of rows of logits.
    pub(super) fn of(logits: Tensor<2>) -> Self {
        let [_, width] = logits.dims();
        let mut values = to_host(logits);
        values.par_chunks_mut(width).for_each(|row| {
            let scale = log_sum_exp(row);
            row.iter_mut().for_each(|value| *value -= scale);
        });
        Self { values, width }
    }

    /// The loss of each row; rows without a target give 0.
    pub(super) fn nats(&self, targets: &[Option<u32>]) -> Vec<f32> {
        let rows = self.values.par_chunks(self.width).zip(targets);
        rows.map(|(row, target)| target.map_or(0.0, |t| -row[t as usize])).collect()
    }

    /// Loss and divergence of another model's logits for the same rows; rows without a target are
    /// passed over.
    ///
    /// # Source
    ///
    /// `KL(p ‖ q) = Σ p (log p - log q)`, summed in double precision: the terms nearly cancel where
    /// the models agree.
    pub(super) fn compare(&self, logits: Tensor<2>, targets: &[Option<u32>]) -> Vec<TokenFigures> {
        let others = to_host(logits);
        let rows = self.values.par_chunks(self.width).zip(others.par_chunks(self.width));
        rows.zip(targets)
            .map(|((base, other), target)| {
                let Some(target) = target else { return TokenFigures::default() };
                let scale = log_sum_exp(other);
                let terms = base.iter().zip(other);
                let kl: f64 =
                    terms.map(|(p, z)| f64::from(p.exp()) * f64::from(p - (z - scale))).sum();
                TokenFigures { nats: scale - other[*target as usize], kl: kl as f32 }
            })
            .collect()
    }
}

fn log_sum_exp(row: &[f32]) -> f32 {
    let maximum = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|value| f64::from((value - maximum).exp())).sum();
    maximum + sum.ln() as f32
}

/// The values of a tensor in row-major order.
pub(super) fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    // SYNC: an analysis reads what it makes.
    tensor.into_data().try_to_vec().expect("activations are f32")
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn figures_are_those_of_the_definition() {
        let device = Device::flex();
        let tensor = |rows: [[f32; 3]; 2]| Tensor::<2>::from_floats(rows, &device);
        let base = LogProbabilities::of(tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]));
        let targets = [Some(2), None];
        let same = base.compare(tensor([[11.0, 12.0, 13.0], [5.0, 0.0, 0.0]]), &targets);
        assert!(same[0].kl.abs() < 1e-6 && (same[0].nats - 0.407_606).abs() < 1e-5, "{same:?}");
        assert_eq!(same[1], TokenFigures::default());
        assert!((base.nats(&targets)[0] - 0.407_606).abs() < 1e-5);

        // p = (1/3, 1/3, 1/3) against q = (1/2, 1/4, 1/4).
        let uniform = LogProbabilities::of(tensor([[0.0; 3]; 2]));
        let logits = [[2f32.ln(), 0.0, 0.0]; 2];
        let found = uniform.compare(tensor(logits), &[Some(0), Some(1)]);
        let third = 1.0 / 3.0f64;
        let expected = third * (third / 0.5).ln() + 2.0 * third * (third / 0.25).ln();
        assert!((f64::from(found[0].kl) - expected).abs() < 1e-6);
        assert!((found[0].nats - 0.5f32.ln().abs()).abs() < 1e-6);
        assert!((found[1].nats - 4f32.ln()).abs() < 1e-6);
    }
}

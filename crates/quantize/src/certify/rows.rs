//! Comparing rows of logits.

use rayon::prelude::*;
use terrace_data::NO_TARGET;

/// Sums over tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) tokens: u64,
    pub(super) nats: f64,
    pub(super) quantized_nats: f64,
    /// KL(before ‖ after) in nats.
    pub(super) kl: f64,
    pub(super) agreements: u64,
}

impl Figures {
    pub(super) fn add(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.nats += other.nats;
        self.quantized_nats += other.quantized_nats;
        self.kl += other.kl;
        self.agreements += other.agreements;
    }
}

/// Compares two models' logits, `[rows, width]`; rows without a target are passed over.
///
/// Everything is in double precision: where the models agree, the terms of the divergence nearly
/// cancel.
///
/// # Determinism
///
/// Rows are added in their order, whatever the number of threads.
pub(super) fn compare(before: &[f32], after: &[f32], width: usize, targets: &[i32]) -> Figures {
    let rows = before.par_chunks(width).zip(after.par_chunks(width)).zip(targets);
    let rows: Vec<Figures> = rows
        .filter(|(_, target)| **target != NO_TARGET)
        .map(|((before, after), target)| row(before, after, *target as usize))
        .collect();
    let mut sum = Figures::default();
    rows.iter().for_each(|row| sum.add(row));
    sum
}

fn row(before: &[f32], after: &[f32], target: usize) -> Figures {
    let (p, q) = (Row::of(before), Row::of(after));
    let logs = |(a, b): (&f32, &f32)| (f64::from(*a) - p.log_sum, f64::from(*b) - q.log_sum);
    let terms = before.iter().zip(after).map(logs).map(|(p, q)| p.exp() * (p - q));
    Figures {
        tokens: 1,
        nats: p.log_sum - f64::from(before[target]),
        quantized_nats: q.log_sum - f64::from(after[target]),
        kl: terms.sum(),
        agreements: u64::from(p.likeliest == q.likeliest),
    }
}

struct Row {
    log_sum: f64,
    /// Of equals the first.
    likeliest: usize,
}

impl Row {
    fn of(logits: &[f32]) -> Self {
        let mut likeliest = 0;
        for (index, logit) in logits.iter().enumerate() {
            if *logit > logits[likeliest] {
                likeliest = index;
            }
        }
        let top = f64::from(logits[likeliest]);
        let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - top).exp()).sum();
        Self { log_sum: top + sum.ln(), likeliest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_definitions() {
        // p = (1/2, 1/4, 1/4) and q = (1/4, 1/2, 1/4), shifted by constants.
        let ln = |x: f32| x.ln() + 3.0;
        let before = [ln(0.5), ln(0.25), ln(0.25), 9.0, 9.0, 9.0];
        let after = [ln(0.25) - 5.0, ln(0.5) - 5.0, ln(0.25) - 5.0, 1.0, 2.0, 3.0];
        let found = compare(&before, &after, 3, &[1, NO_TARGET]);
        assert_eq!((found.tokens, found.agreements), (1, 0));
        assert!((found.nats - 4f64.ln()).abs() < 1e-6);
        assert!((found.quantized_nats - 2f64.ln()).abs() < 1e-6);
        // 1/2 ln 2 - 1/4 ln 2
        assert!((found.kl - 0.25 * 2f64.ln()).abs() < 1e-6);
        let same = compare(&before, &before, 3, &[1, 2]);
        assert_eq!((same.tokens, same.agreements, same.kl), (2, 2, 0.0));
        assert_eq!(same.nats, same.quantized_nats);
    }
}

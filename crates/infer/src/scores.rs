//! From logits to scores.

use std::cmp::Ordering;

use terrace_completion::TokenScore;

/// The log-probabilities of one position, over the whole vocabulary.
pub(crate) struct LogRow(Vec<f32>);

/// Likelier first; of equally likely ones the lower id.
fn likelier(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

impl LogRow {
    /// Takes the logarithm of the softmax, in f32 with the sum in f64; none if a logit is no number.
    pub(crate) fn of(logits: &[f32]) -> Option<Self> {
        let maximum = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from((logit - maximum).exp())).sum();
        let log_sum = sum.ln() as f32;
        log_sum
            .is_finite()
            .then(|| Self(logits.iter().map(|logit| logit - maximum - log_sum).collect()))
    }

    /// The score of a token, with the likeliest ones.
    pub(crate) fn score(&self, token: u32, top: usize) -> TokenScore {
        TokenScore { token, log_probability: self.0[token as usize], top: self.top(top) }
    }

    /// The likeliest token.
    pub(crate) fn likeliest(&self) -> u32 {
        let best = self.pairs().min_by(likelier);
        best.expect("a vocabulary has a token").0
    }

    /// The likeliest tokens in falling order.
    pub(crate) fn top(&self, count: usize) -> Vec<(u32, f32)> {
        match count {
            0 => return Vec::new(),
            1 => return self.pairs().min_by(likelier).into_iter().collect(),
            _ => {}
        }
        let mut pairs: Vec<(u32, f32)> = self.pairs().collect();
        if count < pairs.len() {
            pairs.select_nth_unstable_by(count - 1, likelier);
            pairs.truncate(count);
        }
        pairs.sort_unstable_by(likelier);
        pairs
    }

    /// All tokens, the likeliest first.
    pub(crate) fn ranked(&self) -> Vec<(u32, f32)> {
        self.top(self.0.len())
    }

    fn pairs(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        (0..).zip(self.0.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_of_a_distribution_and_ties_go_to_the_lower_id() {
        let row = LogRow::of(&[1.0, 3.0, -40.0, 3.0]).unwrap();
        let sum: f32 = row.0.iter().map(|log| log.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        assert_eq!(row.likeliest(), 1);
        let order = |top| row.top(top).iter().map(|pair| pair.0).collect::<Vec<u32>>();
        assert_eq!(order(1), [1]);
        assert_eq!(order(3), [1, 3, 0]);
        assert_eq!(order(9), [1, 3, 0, 2]);
        let score = row.score(3, 2);
        assert_eq!(score.top[1], (3, score.log_probability));
        assert_eq!(score.is_greedy(), Some(true));
    }

    #[test]
    fn large_logits_are_no_trouble_and_nan_is() {
        let row = LogRow::of(&[1e4, 1e4 - 1.0]).unwrap();
        assert!((row.0[1] - (row.0[0] - 1.0)).abs() < 1e-6);
        assert!(LogRow::of(&[0.0, f32::NAN]).is_none());
        assert!(LogRow::of(&[0.0, f32::INFINITY]).is_none());
    }
}

//! Multiple choice.

use std::collections::BTreeMap;

/// The place of the largest; the first of equal ones, as numpy's `argmax`.
pub(crate) fn argmax(values: &[f64]) -> usize {
    let mut best = 0;
    for (place, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = place;
        }
    }
    best
}

/// `acc`, and the same where the log-probability is divided by the option's characters (`acc_norm`) or
/// bytes (`acc_bytes`); an option without a character counts as one of length 1.
///
/// # Source
///
/// `ConfigurableTask.process_results` of lm-evaluation-harness.
pub(crate) fn metrics(
    log_probabilities: &[f64],
    options: &[String],
    answer: usize,
    has_lengths: bool,
) -> BTreeMap<String, f64> {
    let by = |length: &dyn Fn(&String) -> usize| {
        let scores = log_probabilities.iter().zip(options);
        let scores: Vec<f64> =
            scores.map(|(score, option)| score / length(option).max(1) as f64).collect();
        f64::from(u8::from(argmax(&scores) == answer))
    };
    let mut metrics = BTreeMap::from([("acc".to_owned(), by(&|_| 1))]);
    if has_lengths {
        metrics.insert("acc_norm".to_owned(), by(&|option| option.chars().count()));
        metrics.insert("acc_bytes".to_owned(), by(&|option| option.len()));
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_best_wins() {
        assert_eq!(argmax(&[-2.0, -1.0, -1.0]), 1);
        assert_eq!(argmax(&[f64::NEG_INFINITY, f64::NEG_INFINITY]), 0);
    }

    #[test]
    fn each_norm_may_choose_another_option() {
        // Per option -4, -6 and -9; per character -2, -3 and -1.5; per byte -2, -1 and -1.5.
        let options = ["ab", "数学", "abcdef"].map(str::to_owned);
        let scores = [-4.0, -6.0, -9.0];
        let right = |answer| metrics(&scores, &options, answer, true);
        let hits = |name: &str| -> Vec<f64> { (0..3).map(|answer| right(answer)[name]).collect() };
        assert_eq!(hits("acc"), [1.0, 0.0, 0.0]);
        assert_eq!(hits("acc_norm"), [0.0, 0.0, 1.0]);
        assert_eq!(hits("acc_bytes"), [0.0, 1.0, 0.0]);
        assert_eq!(metrics(&scores, &options, 0, false).len(), 1);
    }
}

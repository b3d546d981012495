//! The next token.

use terrace_base::Seed;
use terrace_completion::Sampling;

use crate::scores::LogRow;

/// Chooses the token at a place of the sequence.
///
/// # Determinism
///
/// A function of the scores, the seed and the place.
pub(crate) fn choose(row: &LogRow, place: usize, sampling: Sampling) -> u32 {
    let Sampling::Nucleus { temperature, top_p, seed } = sampling else {
        return row.likeliest();
    };
    let ranked = row.ranked();
    let highest = ranked[0].1;
    // Relative to the likeliest, so that a low temperature leaves something above zero.
    let weight = |log: f32| (f64::from(log - highest) / f64::from(temperature)).exp();
    let total: f64 = ranked.iter().map(|(_, log)| weight(*log)).sum();
    let mut nucleus = 0.0;
    let cut = ranked.iter().position(|(_, log)| {
        nucleus += weight(*log);
        nucleus >= f64::from(top_p) * total
    });
    let kept = &ranked[..=cut.unwrap_or(ranked.len() - 1)];
    let mut left = Seed(seed).stream("token").unit(place as u64) * nucleus;
    for (token, log) in kept {
        left -= weight(*log);
        if left < 0.0 {
            return *token;
        }
    }
    kept[kept.len() - 1].0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_as_frequent_as_they_are_likely() {
        let probabilities = [0.5f32, 0.3, 0.15, 0.05];
        let row = LogRow::of(&probabilities.map(f32::ln)).unwrap();
        let mut counts = [0usize; 4];
        let sampling = |top_p| Sampling::Nucleus { temperature: 1.0, top_p, seed: 3 };
        for place in 0..20_000 {
            counts[choose(&row, place, sampling(1.0)) as usize] += 1;
        }
        for (count, probability) in counts.iter().zip(probabilities) {
            assert!((*count as f32 / 20_000.0 - probability).abs() < 0.015, "{counts:?}");
        }
        assert!((0..1000).all(|place| choose(&row, place, sampling(0.7)) < 2));
        assert!((0..1000).all(|place| choose(&row, place, sampling(0.1)) == 0));
        let cold = Sampling::Nucleus { temperature: 1e-3, top_p: 1.0, seed: 3 };
        assert!((0..1000).all(|place| choose(&row, place, cold) == 0));
    }
}

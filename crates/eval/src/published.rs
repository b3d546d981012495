//! The means that Yi-9B was published with, and the published rows.

use serde::Serialize;

/// A model's published scores, in percent; greedy decoding, the shots of the shipped tasks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PublishedRow {
    /// The model.
    pub model: &'static str,
    /// HumanEval, MBPP, GSM8K, MATH, ARC-c, HellaSwag, WinoGrande, MMLU, CMMLU.
    pub scores: [f64; 9],
    /// The published means.
    pub means: Means,
}

/// The tasks of the table by their names, in its order.
pub(crate) const COLUMNS: [(&str, &str); 9] = [
    ("humaneval", "HumanEval"),
    ("mbpp", "MBPP"),
    ("gsm8k", "GSM8K"),
    ("math", "MATH"),
    ("arc-challenge", "ARC-c"),
    ("hellaswag", "HellaSwag"),
    ("winogrande", "WinoGrande"),
    ("mmlu", "MMLU"),
    ("cmmlu", "CMMLU"),
];

/// Means over tasks, each there if all of its tasks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Means {
    /// HumanEval and MBPP.
    pub code: Option<f64>,
    /// GSM8K and MATH.
    pub math: Option<f64>,
    /// ARC-c, HellaSwag, WinoGrande and MMLU.
    pub text: Option<f64>,
    /// These eight; CMMLU is not among them.
    pub all: Option<f64>,
}

impl Means {
    /// The means of the table's scores, in its order and unit.
    ///
    /// # Source
    ///
    /// 01.AI, "Dive Deeper into Yi-9B" (2024): Mean-All is the mean of eight tasks without CMMLU.
    #[must_use]
    pub fn of(scores: &[Option<f64>; 9]) -> Self {
        let mean = |scores: &[Option<f64>]| {
            let sum: Option<f64> = scores.iter().copied().sum();
            sum.map(|sum| sum / scores.len() as f64)
        };
        Self {
            code: mean(&scores[..2]),
            math: mean(&scores[2..4]),
            text: mean(&scores[4..8]),
            all: mean(&scores[..8]),
        }
    }
}

const fn row(model: &'static str, scores: [f64; 9], means: [f64; 4]) -> PublishedRow {
    let [all, code, math, text] = means;
    let means = Means { code: Some(code), math: Some(math), text: Some(text), all: Some(all) };
    PublishedRow { model, scores, means }
}

/// The published rows.
///
/// # Source
///
/// `Yi-9B_benchmark_details.png` in the repository 01-ai/Yi.
pub const PUBLISHED: [PublishedRow; 7] = [
    row("Yi-6B", [15.9, 26.3, 32.5, 4.7, 50.3, 74.4, 71.3, 63.2, 75.5], [42.3, 21.1, 18.6, 64.8]),
    row("Yi-9B", [39.0, 54.4, 52.3, 15.9, 55.6, 76.4, 73.0, 68.4, 73.2], [54.4, 46.7, 34.1, 68.3]),
    row(
        "Mistral-7B",
        [26.2, 39.6, 35.6, 9.5, 57.2, 81.4, 74.0, 62.5, 44.5],
        [48.2, 32.9, 22.5, 68.8],
    ),
    row(
        "SOLAR-10.7B",
        [29.3, 38.9, 56.8, 6.9, 57.9, 82.1, 74.6, 64.2, 47.8],
        [51.3, 34.1, 31.8, 69.7],
    ),
    row(
        "Gemma-7B",
        [32.9, 44.4, 48.1, 16.9, 58.2, 79.7, 73.6, 63.0, 48.6],
        [52.1, 38.7, 32.5, 68.6],
    ),
    row(
        "DeepSeek-Coder-7B-Base-v1.5",
        [42.1, 60.7, 41.0, 13.9, 45.0, 67.9, 64.0, 49.2, 47.7],
        [48.0, 51.4, 27.4, 56.5],
    ),
    row(
        "DeepSeek-Math-7B-Base",
        [31.1, 55.2, 60.9, 26.0, 48.6, 67.5, 63.8, 53.2, 51.7],
        [50.8, 43.1, 43.4, 58.3],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_means_are_the_published_ones() {
        for row in PUBLISHED {
            let ours = Means::of(&row.scores.map(Some));
            let pairs = [
                (ours.code, row.means.code),
                (ours.math, row.means.math),
                (ours.text, row.means.text),
                (ours.all, row.means.all),
            ];
            for (ours, published) in pairs {
                let (ours, published) = (ours.unwrap(), published.unwrap());
                // They were rounded after the mean was taken of scores that were not.
                assert!((ours - published).abs() < 0.11, "{}: {ours} {published}", row.model);
            }
        }
    }

    #[test]
    fn a_mean_needs_all_of_its_tasks_and_not_cmmlu() {
        let mut scores = PUBLISHED[0].scores.map(Some);
        scores[8] = None;
        assert_eq!(Means::of(&scores), Means::of(&PUBLISHED[0].scores.map(Some)));
        scores[3] = None;
        let means = Means::of(&scores);
        assert!(means.code.is_some() && means.text.is_some());
        assert!(means.math.is_none() && means.all.is_none());
    }
}

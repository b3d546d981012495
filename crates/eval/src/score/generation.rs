//! Answers that are compared with a target.

use std::collections::BTreeMap;

use regex::Regex;
use terrace_config::{Comparison, MatchChoice, Normalize, TaskConfig, TaskFilter};

use crate::score::math;

/// What a filter gives that matched nothing.
const INVALID: &str = "[invalid]";

/// The regular expressions of a task, read once.
pub(crate) struct Judge {
    filters: Vec<(String, Regex, MatchChoice)>,
    ignore: Vec<Regex>,
    comparison: Comparison,
}

impl Judge {
    /// The error says which expression cannot be read.
    pub(crate) fn new(task: &TaskConfig) -> Result<Self, regex::Error> {
        let filter = |filter: &TaskFilter| -> Result<_, regex::Error> {
            Ok((filter.name.clone(), Regex::new(&filter.regex)?, filter.take))
        };
        Ok(Self {
            filters: task.filters.iter().map(filter).collect::<Result<_, _>>()?,
            ignore: task
                .comparison
                .ignore
                .iter()
                .map(|text| Regex::new(text))
                .collect::<Result<_, _>>()?,
            comparison: task.comparison.clone(),
        })
    }

    /// The scores of some answers to one question: the mean over them, by metric; and what was taken
    /// out of the first, by filter.
    pub(crate) fn judge(
        &self,
        texts: &[String],
        target: &str,
    ) -> (BTreeMap<String, f64>, BTreeMap<String, String>) {
        let target = self.form(target);
        let share = |taken: &dyn Fn(&String) -> String| {
            let right = texts.iter().filter(|text| self.form(&taken(text)) == target).count();
            right as f64 / texts.len() as f64
        };
        if self.filters.is_empty() {
            let metrics = BTreeMap::from([("exact_match".to_owned(), share(&String::clone))]);
            return (metrics, BTreeMap::new());
        }
        let mut metrics = BTreeMap::new();
        let mut taken = BTreeMap::new();
        for (name, regex, choice) in &self.filters {
            let take = |text: &String| take(regex, *choice, text);
            metrics.insert(format!("exact_match,{name}"), share(&take));
            taken.extend(texts.first().map(|text| (name.clone(), take(text))));
        }
        (metrics, taken)
    }

    /// What is left of an answer where nothing that does not count is left.
    fn form(&self, text: &str) -> String {
        let mut text = match self.comparison.normalize {
            Normalize::None => text.to_owned(),
            Normalize::Math => math::normalize(text),
        };
        for pattern in &self.ignore {
            text = pattern.replace_all(&text, "").into_owned();
        }
        if self.comparison.ignore_case {
            text = text.to_lowercase();
        }
        if self.comparison.ignore_punctuation {
            text.retain(|character| !character.is_ascii_punctuation());
        }
        text
    }
}

/// # Source
///
/// `RegexFilter` of lm-evaluation-harness.
fn take(regex: &Regex, choice: MatchChoice, text: &str) -> String {
    let mut matches = regex.captures_iter(text);
    let found = match choice {
        MatchChoice::First => matches.next(),
        MatchChoice::Last => matches.last(),
    };
    let Some(found) = found else { return INVALID.to_owned() };
    let mut groups = found.iter().skip(1).flatten().map(|group| group.as_str());
    let taken = if found.len() == 1 {
        found.get(0).map(|whole| whole.as_str())
    } else if found.len() == 2 {
        // One group is taken even if it is empty.
        Some(groups.next().unwrap_or_default())
    } else {
        groups.find(|group| !group.is_empty())
    };
    taken.map_or_else(|| INVALID.to_owned(), |taken| taken.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gsm8ks_filters_take_what_the_harness_takes() {
        let strict = Regex::new(r"#### (\-?[0-9\.\,]+)").unwrap();
        let flexible = Regex::new(r"(-?[$0-9.,]{2,})|(-?[0-9]+)").unwrap();
        let text = "He has 3 apples and 1,200 pears.\n#### 1,203\n\nAnd 7";
        assert_eq!(take(&strict, MatchChoice::First, text), "1,203");
        assert_eq!(take(&flexible, MatchChoice::Last, text), "7");
        assert_eq!(take(&flexible, MatchChoice::First, "only 5"), "5");
        assert_eq!(take(&strict, MatchChoice::First, "no number"), "[invalid]");
    }

    fn judge(normalize: Normalize) -> Judge {
        let ignore = [",", r"\$", r"(?s).*#### ", r"\.$"];
        Judge {
            filters: Vec::new(),
            ignore: ignore.iter().map(|text| Regex::new(text).unwrap()).collect(),
            comparison: Comparison { ignore_case: true, normalize, ..Comparison::default() },
        }
    }

    #[test]
    fn what_does_not_count_is_taken_out_of_both() {
        let judge = judge(Normalize::None);
        let score =
            |answer: &str, target: &str| judge.judge(&[answer.to_owned()], target).0["exact_match"];
        assert_eq!(score("$1,203.", "She counts.\n1203 of them\n#### 1203"), 1.0);
        assert_eq!(score("1204", "#### 1203"), 0.0);
        assert_eq!(score("YES", "yes"), 1.0);
        let two = judge.judge(&["yes".to_owned(), "no".to_owned()], "yes");
        assert_eq!(two.0["exact_match"], 0.5);
    }
}

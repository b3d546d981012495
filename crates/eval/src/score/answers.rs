//! From a model's answers to an item's scores.

use std::collections::BTreeMap;

use terrace_completion::Completion;
use terrace_config::TaskConfig;

use super::choice;
use super::generation::Judge;
use super::perplexity::Cost;
use crate::prompt::Ask;
use crate::record::Detail;

/// The scores of an item by metric, and what they come from.
pub(crate) fn score(
    task: &TaskConfig,
    judge: &Judge,
    ask: &Ask,
    answers: &[Completion],
) -> (BTreeMap<String, f64>, Detail) {
    let texts = || answers.iter().map(|answer| answer.text.clone()).collect::<Vec<_>>();
    match ask {
        Ask::MultipleChoice { options, answer, .. } => {
            let log_probabilities: Vec<f64> = answers.iter().map(sum).collect();
            let metrics =
                choice::metrics(&log_probabilities, options, *answer, task.prompts.is_empty());
            let greedy = |answer: &Completion| {
                answer.prompt_scores.iter().all(|score| score.is_greedy() == Some(true))
            };
            let detail = Detail::MultipleChoice {
                is_greedy: answers.iter().map(greedy).collect(),
                chosen: choice::argmax(&log_probabilities),
                log_probabilities,
                answer: *answer,
            };
            (metrics, detail)
        }
        Ask::Generation { target, .. } => {
            let texts = texts();
            let (metrics, taken) = judge.judge(&texts, target);
            (metrics, Detail::Generation { texts, taken, target: target.clone() })
        }
        // A program is scored by what became of it.
        Ask::Code { .. } => {
            (BTreeMap::new(), Detail::Code { texts: texts(), outcomes: Vec::new() })
        }
        Ask::Perplexity { text } => {
            let cost = Cost::of(0.0 - answers.iter().map(sum).sum::<f64>(), text);
            let tokens = answers.iter().map(|answer| answer.prompt_scores.len()).sum();
            let Cost { nats, bytes, words } = cost;
            (cost.metrics(), Detail::Perplexity { nats, tokens, bytes, words })
        }
    }
}

/// The natural logarithm of the probability of all that was scored.
fn sum(answer: &Completion) -> f64 {
    answer.prompt_scores.iter().map(|score| f64::from(score.log_probability)).sum()
}

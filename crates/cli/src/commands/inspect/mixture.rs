//! What a run has drawn from its sources, against what was asked.

use std::collections::BTreeMap;

use serde::Serialize;
use terrace_base::Tokens;
use terrace_config::{RunConfig, RunPlan};
use terrace_policy::mixture::SegmentReport;
use terrace_train::RunState;

use crate::commands::training::train_error;
use crate::error::CliError;
use crate::table::{Table, grouped};

/// One stage that the run has entered, or a part of it that had its own mixture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct StageMixture {
    /// The stage's name.
    name: String,
    /// The tokens of the stage that came before; absent where that is its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    after_tokens: Option<Tokens>,
    /// Sequences drawn in it.
    sequences: u64,
    /// Each source that has a weight in it.
    mixture: BTreeMap<String, SourceShare>,
}

/// What was drawn from one source in one stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct SourceShare {
    tokens: Tokens,
    trained_tokens: Tokens,
    share: f64,
    target_share: f64,
    deviation_sequences: f64,
}

/// What each stage that the run has entered has drawn, from the run's state and its editions.
///
/// # Errors
///
/// An edition is not there any more, or not the one that the run was started with.
pub(super) fn run_mixture(
    config: &RunConfig,
    plan: &RunPlan,
    state: &RunState,
) -> Result<Vec<StageMixture>, CliError> {
    let schedule = terrace_train::mixture_schedule(config, plan).map_err(train_error)?;
    schedule.validate(&state.cursor).map_err(CliError::input)?;
    let sequence_length = config.training.sequence_length as u64;
    let reports = schedule.report(&state.cursor, &state.journal);
    let segments: Vec<(&str, u64)> = config
        .stages
        .iter()
        .flat_map(|stage| {
            let segments = stage.segments(sequence_length).unwrap_or_default();
            segments.into_iter().map(|segment| (stage.name.as_str(), segment.begins_at))
        })
        .collect();
    let named = reports.iter().map(|report| {
        // A run that is done stands behind its last stage's last sequence, still in that stage.
        StageMixture::new(segments[report.segment], report, sequence_length)
    });
    Ok(named.collect())
}

impl StageMixture {
    fn new((name, begins_at): (&str, u64), report: &SegmentReport, sequence_length: u64) -> Self {
        let share = |source: &terrace_policy::mixture::SourceReport| SourceShare {
            tokens: Tokens(source.sequences * sequence_length),
            trained_tokens: Tokens(source.trained_sequences * sequence_length),
            share: source.share,
            target_share: source.target_share,
            deviation_sequences: source.deviation_sequences,
        };
        let mixture = report.sources.iter().map(|source| (source.source.clone(), share(source)));
        Self {
            name: name.to_owned(),
            after_tokens: (begins_at > 0).then_some(Tokens(begins_at * sequence_length)),
            sequences: report.sequences,
            mixture: mixture.collect(),
        }
    }

    /// The stages below each other.
    pub(super) fn table(stages: &[Self]) -> Table {
        let heading = ["stage", "source", "tokens", "share", "asked", "off by (sequences)"];
        let mut table = Table::new(heading);
        for stage in stages {
            let name = match stage.after_tokens {
                Some(tokens) => format!("{} from {}", stage.name, grouped(tokens.0)),
                None => stage.name.clone(),
            };
            for (source, share) in &stage.mixture {
                table.row([
                    name.clone(),
                    source.clone(),
                    grouped(share.tokens.0),
                    format!("{:.4}%", share.share * 100.0),
                    format!("{:.4}%", share.target_share * 100.0),
                    format!("{:+.3}", share.deviation_sequences),
                ]);
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use terrace_policy::mixture::SourceReport;

    use super::*;

    #[test]
    fn sequences_become_tokens() {
        let report = SegmentReport {
            segment: 0,
            sequences: 10,
            sources: vec![SourceReport {
                source: "code".to_owned(),
                sequences: 7,
                trained_sequences: 6,
                share: 0.7,
                trained_share: 2.0 / 3.0,
                target_share: 0.65,
                deviation_sequences: 0.5,
            }],
        };
        let stage = StageMixture::new(("one", 2), &report, 256);
        let json = serde_json::to_value(&stage).unwrap();
        assert_eq!((&json["name"], &json["after_tokens"]), (&"one".into(), &512.into()));
        let code = &json["mixture"]["code"];
        assert_eq!(code["tokens"], 1792);
        assert_eq!(code["trained_tokens"], 1536);
        assert_eq!(code["deviation_sequences"], 0.5);
        let text = StageMixture::table(&[stage]).render();
        assert!(
            text.contains("one from 512") && text.contains("70.0000%") && text.contains("+0.500"),
            "{text}"
        );
    }
}

//! `terrace compare`: runs side by side at equal tokens, and logs of scored items side by side.

mod items;
mod picture;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use crate::args::CompareArgs;
use crate::context::Context;
use crate::drawing;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::{Table, grouped};

use self::record::Record;

/// Runs side by side; lists by run have the order of `runs`.
#[derive(Serialize)]
struct Answer {
    runs: Vec<RunLine>,
    /// Mean losses over equal stretches of tokens.
    training: Vec<Stretch>,
    /// Held-out losses where all runs have measured them.
    held_out: Vec<HeldOutLine>,
}

/// One run.
#[derive(Serialize)]
struct RunLine {
    path: PathBuf,
    name: String,
    /// The run or folder that it came from.
    parent: Option<PathBuf>,
    /// The tokens seen before its first step on record.
    from_tokens: u64,
    tokens_seen: u64,
    steps: usize,
}

/// What every run lost in the same stretch of tokens.
#[derive(Serialize)]
struct Stretch {
    from_tokens: u64,
    to_tokens: u64,
    runs: Vec<StretchLoss>,
}

/// What one run lost in a stretch, in nats per target; null where it drew nothing.
#[derive(Clone, Default, Serialize)]
struct StretchLoss {
    nats: Option<f64>,
    sources: BTreeMap<String, f64>,
    steps: usize,
    batch_tokens: Option<u64>,
}

/// The held-out loss of every run at the same tokens.
#[derive(Serialize)]
struct HeldOutLine {
    tokens_seen: u64,
    /// By run: bits per byte of each source.
    runs: Vec<BTreeMap<String, f64>>,
}

/// Reads the records of the runs, or the logs, and lays them beside each other.
pub(crate) fn run(args: &CompareArgs, context: &Context) -> Result<ExitCode, CliError> {
    if args.runs.iter().all(|path| path.is_file()) {
        return items::run(args, context);
    }
    drawing::check(args.picture.as_deref())?;
    let records = args.runs.iter().map(|path| Record::read(path));
    let records = records.collect::<Result<Vec<Record>, CliError>>()?;
    let answer = compare(&records, args.points)?;
    let figure = || picture::figure(&answer, &labels(&answer.runs));
    let code = drawing::write(args.picture.as_deref(), context, figure);
    context.answer(&answer, || text(&answer));
    Ok(code)
}

fn compare(records: &[Record], points: u64) -> Result<Answer, CliError> {
    let from = records.iter().map(Record::start_tokens).max().unwrap_or(0);
    let to = records.iter().map(Record::tokens_seen).min().unwrap_or(0);
    if to <= from {
        let spans: Vec<String> = records
            .iter()
            .map(|r| format!("{} {} to {}", r.path.display(), r.start_tokens(), r.tokens_seen()))
            .collect();
        let message = format!("the runs have no tokens in common: {}", spans.join(", "));
        return Err(CliError::input(message));
    }
    let edge = |point: u64| {
        from + ((u128::from(to - from) * u128::from(point)) / u128::from(points)) as u64
    };
    let stretch = |point| Stretch {
        from_tokens: edge(point),
        to_tokens: edge(point + 1),
        runs: records.iter().map(|r| r.losses(edge(point), edge(point + 1))).collect(),
    };
    let measured = |tokens: &u64| records.iter().all(|r| r.held_out.contains_key(tokens));
    let held_out = records[0].held_out.keys().filter(|tokens| measured(tokens));
    Ok(Answer {
        runs: records.iter().map(Record::line).collect(),
        training: (0..points)
            .map(stretch)
            .filter(|stretch: &Stretch| stretch.runs.iter().any(|run| run.steps > 0))
            .collect(),
        held_out: held_out
            .map(|tokens| HeldOutLine {
                tokens_seen: *tokens,
                runs: records.iter().map(|r| r.held_out[tokens].clone()).collect(),
            })
            .collect(),
    })
}

fn text(answer: &Answer) -> String {
    let labels = labels(&answer.runs);
    let heading = || ["tokens", "source"].map(str::to_owned).into_iter().chain(labels.clone());
    let mut training = Table::new(heading());
    for stretch in &answer.training {
        let tokens = format!("{}..{}", grouped(stretch.from_tokens), grouped(stretch.to_tokens));
        let overall = stretch.runs.iter().map(|run| cell(run.nats));
        training.row([tokens.clone(), "(all)".to_owned()].into_iter().chain(overall));
        let sources: BTreeSet<&String> =
            stretch.runs.iter().flat_map(|run| run.sources.keys()).collect();
        for source in sources {
            let own = stretch.runs.iter().map(|run| cell(run.sources.get(source).copied()));
            training.row([tokens.clone(), source.clone()].into_iter().chain(own));
        }
    }
    let mut held_out = Table::new(heading());
    for line in &answer.held_out {
        let sources: BTreeSet<&String> = line.runs.iter().flat_map(|run| run.keys()).collect();
        for source in sources {
            let own = line.runs.iter().map(|run| cell(run.get(source).copied()));
            held_out.row([grouped(line.tokens_seen), source.clone()].into_iter().chain(own));
        }
    }
    let mut text = format!("training loss, nats per target\n{}", training.render());
    if held_out.is_empty() {
        text.push_str("\nno held-out loss was measured at the same tokens\n");
    } else {
        text.push_str(&format!("\nheld-out bits per byte\n{}", held_out.render()));
    }
    text
}

fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

/// The names of the runs, or their folders where two have the same name.
fn labels(runs: &[RunLine]) -> Vec<String> {
    let names: BTreeSet<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let are_unique = names.len() == runs.len();
    let label = |run: &RunLine| {
        if are_unique { run.name.clone() } else { run.path.display().to_string() }
    };
    runs.iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(name: &str, first: u64, batch: u64, steps: u64, nats: f64) -> Record {
        let step = |n: u64| {
            serde_json::from_value(json!({
                "step": n, "stage": "one", "tokens_seen": first + n * batch, "batch_tokens": batch,
                "target_tokens": batch, "nats": nats, "nats_per_source": {name: nats},
                "target_tokens_per_source": {name: batch},
                "learning_rate": 1e-3, "gradient_norm": 1.0, "token_digest": "0".repeat(64),
                "seconds": 1.0, "tokens_per_second": 1.0, "mfu": null,
            }))
            .unwrap()
        };
        let bits = BTreeMap::from([(name.to_owned(), 2.0)]);
        Record {
            path: name.into(),
            name: name.to_owned(),
            parent: None,
            steps: (1..=steps).map(step).collect(),
            held_out: [(first, bits.clone()), (64, bits)].into(),
        }
    }

    #[test]
    fn runs_stand_beside_each_other_where_both_are() {
        let answer =
            compare(&[record("a", 0, 8, 12, 3.0), record("b", 32, 16, 3, 2.0)], 3).unwrap();
        let spans: Vec<_> = answer.training.iter().map(|s| (s.from_tokens, s.to_tokens)).collect();
        assert_eq!(spans, [(32, 48), (48, 64), (64, 80)]);
        for stretch in &answer.training {
            let [a, b] = &stretch.runs[..] else { panic!("two runs") };
            assert_eq!((a.nats, a.steps, a.batch_tokens), (Some(3.0), 2, Some(8)));
            assert_eq!((b.nats, b.steps, b.batch_tokens), (Some(2.0), 1, Some(16)));
            assert_eq!(b.sources, BTreeMap::from([("b".to_owned(), 2.0)]));
        }
        let held_out: Vec<u64> = answer.held_out.iter().map(|line| line.tokens_seen).collect();
        assert_eq!(held_out, [64]);
        let text = text(&answer);
        assert!(text.contains("32..48") && text.contains("held-out bits per byte"), "{text}");
        let figure = picture::figure(&answer, &["one".to_owned(), "two".to_owned()]);
        let titles: Vec<&str> = figure.panels.iter().map(|panel| panel.title.as_str()).collect();
        assert_eq!(titles, ["all sources", "a", "b"]);
        assert!(figure.panels.iter().all(|panel| panel.series.len() == 2));
        let all = [(40.0, 3.0), (56.0, 3.0), (72.0, 3.0)];
        assert_eq!(figure.panels[0].series[0].points, all);
        assert_eq!(figure.panels[2].series[0].points, [], "the first run draws nothing from b");
    }

    #[test]
    fn runs_without_common_tokens_are_refused() {
        let error = compare(&[record("a", 0, 8, 4, 3.0), record("b", 32, 8, 4, 2.0)], 3);
        assert!(error.err().unwrap().to_string().contains("b 32 to 64"));
    }
}

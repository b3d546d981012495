//! Trying every range of layers, and showing what each does.

use std::path::PathBuf;

use terrace_model::hf;
use terrace_upscale::analysis::{Analysis, Calibration, Criterion, analyze};

use crate::args::UpscaleArgs;
use crate::context::Context;
use crate::device;
use crate::drawing;
use crate::error::CliError;
use crate::progress::{Progress, Unit};
use crate::table::Table;

/// Sequences that run at a time.
const MICRO_BATCH: usize = 4;

/// Runs the base and every candidate on the texts, and draws what was found if that was asked for.
pub(super) fn run(args: &UpscaleArgs, context: &Context) -> Result<Analysis, CliError> {
    let Some(length) = args.length else {
        let error = CliError::input("`auto` needs to know how many layers to repeat");
        return Err(error.with_help("--length 16, for example"));
    };
    if args.text.is_empty() {
        let error = CliError::input("there is no text to measure on");
        return Err(error.with_help("--text EDITION, a folder made by `terrace prepare`"));
    }
    drawing::check(args.picture.as_deref())?;
    let device = device::open(args.device, context)?;
    let model = hf::load(&args.source, &device)?;
    let editions: Vec<(String, PathBuf)> =
        args.text.iter().map(|text| (text.name.clone(), text.path.clone())).collect();
    let vocabulary = model.architecture.vocab_size;
    let calibration = Calibration::open(&editions, args.sequences, MICRO_BATCH, vocabulary)?;
    let progress = Progress::start(context, "trying ranges", Unit::Count, None);
    let found = analyze(
        &model,
        &device,
        &calibration,
        length,
        Criterion::from(args.criterion),
        |done, total| {
            progress.set_total(total as u64);
            progress.update(done as u64, || "sequences".to_owned());
        },
    )?;
    progress.finish();
    Ok(found)
}

/// The report for people.
pub(super) fn text(found: &Analysis) -> String {
    let mut text = String::from("cosine of the residual stream across each layer of the base\n");
    let sources: Vec<&String> = found.texts.keys().collect();
    let mut heading = vec!["layer".to_owned(), "mean".to_owned()];
    for source in &sources {
        heading.extend([(*source).clone(), "p5".to_owned(), "p50".to_owned()]);
    }
    let mut layers = Table::new(heading);
    for layer in &found.layers {
        let mut row = vec![layer.layer.to_string(), four(layer.cosine)];
        for source in &sources {
            let spread = &layer.sources[*source];
            row.extend([spread.mean, spread.p5, spread.p50].map(four));
        }
        layers.row(row);
    }
    text.push_str(&layers.render());
    text.push_str(&format!(
        "\nrepeating {} of {} layers, on texts that decided nothing (base: {:.4} nats per token)\n",
        found.length, found.source_layers, found.base_nats
    ));
    text.push_str(&candidates(found).render());
    let correlation =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |r| format!("{r:.2}"));
    let ranks = found.rank_correlation;
    text.push_str(&format!(
        "\nrank correlation with KL over the candidates: base cosine {}, cosine in place {}, \
         change of loss {}\nchosen by {}: {}..{}\n",
        correlation(ranks.cosine_base_with_kl),
        correlation(ranks.cosine_in_place_with_kl),
        correlation(ranks.delta_nats_with_kl),
        match found.criterion {
            Criterion::Kl => "KL",
            Criterion::Loss => "loss",
            Criterion::Cosine => "cosine in place",
        },
        found.chosen.start,
        found.chosen.end,
    ));
    text
}

fn candidates(found: &Analysis) -> Table {
    let mut table =
        Table::new(["layers", "KL", "loss change", "cosine in place", "base cosine", ""]);
    for candidate in &found.candidates {
        let chosen = (candidate.start, candidate.end) == (found.chosen.start, found.chosen.end);
        table.row([
            format!("{}..{}", candidate.start, candidate.end),
            four(candidate.kl_nats),
            format!("{:+.4}", candidate.delta_nats),
            four(candidate.cosine_in_place),
            four(candidate.cosine_base),
            if chosen { "chosen".to_owned() } else { String::new() },
        ]);
    }
    table
}

fn four(value: f64) -> String {
    format!("{value:.4}")
}

//! The model and its rounded form, side by side on held-out text.

use std::path::Path;

use serde::Serialize;
use terrace_config::{Architecture, DeviceChoice};
use terrace_quantize::certify::{AGREEMENT_GATE, PERPLEXITY_GATE, Pair, SourceReport, Text};

use crate::args::QuantizeArgs;
use crate::context::Context;
use crate::device;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::progress::{Progress, Unit};
use crate::table::{Table, grouped};

#[derive(Serialize)]
struct Answer<'a> {
    model: &'a Path,
    quantized: &'a Path,
    sources: Vec<SourceReport>,
    perplexity_ratio_gate: f64,
    top_1_agreement_gate: f64,
    passed: bool,
}

/// Runs both over every text; a gate that fails for one source fails for all.
pub(super) fn run(
    args: &QuantizeArgs,
    quantized: &Path,
    context: &Context,
) -> Result<ExitCode, CliError> {
    let device = device::open(DeviceChoice::Cpu, context)?;
    let pair = Pair::load(&args.model, quantized, &device)?;
    let texts = open_texts(args, pair.architecture())?;
    let total: usize = texts.iter().map(Text::sequences).sum();
    let progress = Progress::start(context, "comparing", Unit::Count, Some(total as u64));
    let mut before = 0;
    let mut sources = Vec::new();
    for text in &texts {
        sources.push(pair.certify(text, |done| {
            progress.update((before + done) as u64, || text.name().to_owned());
        })?);
        before += text.sequences();
    }
    progress.finish();
    let passed = sources.iter().all(|source| source.passed);
    let answer = Answer {
        model: &args.model,
        quantized,
        sources,
        perplexity_ratio_gate: PERPLEXITY_GATE,
        top_1_agreement_gate: AGREEMENT_GATE,
        passed,
    };
    context.answer(&answer, || text(&answer));
    Ok(if passed { ExitCode::Done } else { ExitCode::GateFailed })
}

fn open_texts(args: &QuantizeArgs, architecture: &Architecture) -> Result<Vec<Text>, CliError> {
    let tokenizer = args.model.join("tokenizer.json");
    let positions = architecture.max_position_embeddings as usize;
    let open = |text: &crate::args::NamedText| {
        if text.path.is_file() && !tokenizer.is_file() {
            let message = format!("{} is not there", tokenizer.display());
            return Err(CliError::input(message)
                .with_help("a text file is encoded with it; name a prepared edition instead"));
        }
        Ok(Text::open(&text.name, &text.path, &tokenizer, args.sequences, positions)?)
    };
    args.text.iter().map(open).collect()
}

fn text(answer: &Answer<'_>) -> String {
    let heading = [
        "source",
        "tokens",
        "nats",
        "rounded",
        "KL",
        "perplexity ratio",
        "top-1 agreement",
        "gates",
    ];
    let mut table = Table::new(heading);
    for source in &answer.sources {
        table.row([
            source.source.clone(),
            grouped(source.tokens),
            format!("{:.5}", source.nats_per_token),
            format!("{:.5}", source.quantized_nats_per_token),
            format!("{:.6}", source.kl_nats_per_token),
            format!("{:.5}", source.perplexity_ratio),
            format!("{:.2}%", 100.0 * source.top_1_agreement),
            if source.passed { "passed" } else { "FAILED" }.to_owned(),
        ]);
    }
    let verdict = if answer.passed { "certified" } else { "NOT certified" };
    format!(
        "{}{verdict}: a perplexity ratio below {PERPLEXITY_GATE} and an agreement above {}% are \
         asked of every source",
        table.render(),
        100.0 * AGREEMENT_GATE,
    )
}

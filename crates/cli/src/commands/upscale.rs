//! `terrace upscale`: a deeper model from a shallower one, and the grounds for the choice.

mod analysis;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use terrace_base::{format_bytes, format_count, fs};
use terrace_checkpoint::RunLayout;
use terrace_config::{RunConfig, RunPlan};
use terrace_policy::layer_map::Selection;
use terrace_upscale::analysis::Analysis;
use terrace_upscale::write::{LINEAGE, Lineage, Overrides, Request, Upscaling};

use crate::args::{Layers, UpscaleArgs};
use crate::context::Context;
use crate::drawing;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::progress::{Progress, Unit};
use crate::table::grouped;

/// The size of the files of a run's own up-scaled model.
const RUN_SHARD_BYTES: u64 = 5_000_000_000;

/// What was written.
#[derive(Serialize)]
struct Answer {
    source_layers: usize,
    layers: usize,
    /// The layers that are copies.
    copies: Vec<usize>,
    parameters: u64,
    bytes: u64,
    seconds: f64,
    output: PathBuf,
    lineage: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    analysis: Option<Analysis>,
}

/// Measures, chooses and writes what was asked for.
pub(crate) fn run(args: &UpscaleArgs, context: &Context) -> Result<ExitCode, CliError> {
    let given = match &args.layers {
        Some(Layers::Given(selection)) => Some(selection.clone()),
        _ => None,
    };
    // A request that cannot be met is refused before anything is measured.
    if let (Some(output), Some(selection)) = (&args.output, &given) {
        Upscaling::plan(request(args, output, selection.clone()))?;
    }
    let analysis =
        if args.analyze || given.is_none() { Some(analysis::run(args, context)?) } else { None };
    let code = analysis.as_ref().map_or(ExitCode::Done, |analysis| {
        drawing::write(args.picture.as_deref(), context, || analysis.figure())
    });
    let Some(output) = &args.output else {
        let analysis = analysis.expect("without an output there is an analysis");
        context.answer(&analysis, || analysis::text(&analysis));
        return Ok(code);
    };
    let selection = given.unwrap_or_else(|| {
        let chosen = analysis.as_ref().expect("`auto` has been measured").chosen;
        Selection::Range(chosen.start..chosen.end)
    });
    let answer = write(args, output, selection, analysis, context)?;
    context.answer(&answer, || text(&answer));
    Ok(code)
}

fn request(args: &UpscaleArgs, output: &Path, selection: Selection) -> Request {
    Request {
        source: args.source.clone(),
        output: output.to_owned(),
        selection,
        initialization: args.initialization,
        overrides: Overrides {
            rope_theta: args.rope_theta,
            rms_norm_eps: args.rms_norm_eps,
            max_position_embeddings: args.max_position_embeddings,
        },
        maximum_shard_bytes: args.shard_size.0,
    }
}

fn write(
    args: &UpscaleArgs,
    output: &Path,
    selection: Selection,
    analysis: Option<Analysis>,
    context: &Context,
) -> Result<Answer, CliError> {
    let started = Instant::now();
    let planned = Upscaling::plan(request(args, output, selection))?;
    context.note(&format!(
        "{} layers of {} become {}: {} parameters, {}",
        planned.map().source_layers(),
        args.source.display(),
        planned.map().layers().len(),
        grouped(planned.architecture().parameter_count()),
        format_bytes(planned.bytes()),
    ));
    let copies = planned.map().copies().collect();
    let progress = Progress::start(context, "up-scaling", Unit::Bytes, Some(planned.bytes()));
    let lineage = planned.write(|done| progress.update(done, String::new))?;
    progress.finish();
    warn_of_changes(&lineage, context);
    Ok(Answer {
        source_layers: lineage.source_layers,
        layers: lineage.layers.len(),
        copies,
        parameters: lineage.parameters,
        bytes: lineage.bytes,
        seconds: started.elapsed().as_secs_f64(),
        output: output.to_owned(),
        lineage: output.join(LINEAGE),
        analysis,
    })
}

/// Makes the deeper model that a new run begins with, in the run's directory.
///
/// One that a start that was killed has left is made again; that of a run is left as it is.
pub(crate) fn for_run(
    config: &RunConfig,
    plan: &RunPlan,
    context: &Context,
) -> Result<(), CliError> {
    let (Some(upscale), Some(source)) = (&config.model.upscale, &config.model.path) else {
        return Ok(());
    };
    let layout = RunLayout::new(&plan.run_directory);
    if layout.is_run() || !plan.missing.is_empty() {
        // The start of the run says what is wrong.
        return Ok(());
    }
    fs::remove_dir_all(&layout.upscaled()).map_err(CliError::environment)?;
    let planned = Upscaling::plan(Request {
        source: source.clone(),
        output: layout.upscaled(),
        selection: upscale.layers.clone(),
        initialization: upscale.initialization,
        overrides: Overrides::default(),
        maximum_shard_bytes: RUN_SHARD_BYTES,
    })?;
    let progress = Progress::start(context, "up-scaling", Unit::Bytes, Some(planned.bytes()));
    planned.write(|done| progress.update(done, String::new))?;
    Ok(())
}

/// A changed setting changes a trained function, unlike the copies it shows in no tensor.
fn warn_of_changes(lineage: &Lineage, context: &Context) {
    let changed = lineage.overridden;
    let warn = |setting: &str, from: String, to: String| {
        context.say(&format!(
            "warning: {setting} was {from} and is {to}: the trained weights compute something else \
             now; compare held-out losses before training"
        ));
    };
    if let Some(theta) = changed.rope_theta {
        warn("rope_theta", theta.from.to_string(), theta.to.to_string());
    }
    if let Some(epsilon) = changed.rms_norm_eps {
        warn("rms_norm_eps", epsilon.from.to_string(), epsilon.to.to_string());
    }
    if let Some(context_length) = changed.max_position_embeddings {
        let (from, to) = (context_length.from, context_length.to);
        warn("max_position_embeddings", from.to_string(), to.to_string());
    }
}

fn text(answer: &Answer) -> String {
    let rate = answer.bytes as f64 / answer.seconds.max(1e-9);
    let mut text = answer.analysis.as_ref().map_or_else(String::new, analysis::text);
    text.push_str(&format!(
        "{}: {} layers, {} parameters, {} in {:.1} s ({}/s)\nevery tensor's source: {}",
        answer.output.display(),
        answer.layers,
        format_count(answer.parameters),
        format_bytes(answer.bytes),
        answer.seconds,
        format_bytes(rate as u64),
        answer.lineage.display(),
    ));
    text
}

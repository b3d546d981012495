//! From a run file and what is known of the world to a plan; nothing is touched.

use crate::agree;
use crate::caps;
use crate::error::Error;
use crate::facts::Facts;
use crate::load::Loaded;
use crate::memory::MemoryModel;
use crate::model::{Architecture, UpscaleTraining};
use crate::plan::{
    ActivationPlan, AutoPlan, EvaluatedTask, EvaluationPlan, MemoryPlan, Missing, MissingKind,
    ModelPlan, PeakPlan, RunPlan, SourcePlan, StagePlan, TimePlan, UpscalePlan,
};
use crate::run::RunConfig;
use crate::stages;
use crate::warnings::warnings;

/// What a person tells a plan beyond the run file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PlanOptions {
    /// The speed to reckon times with.
    pub tokens_per_second: Option<f64>,
}

/// Derives every number of a run.
///
/// # Errors
///
/// The run file, the model folder and the editions contradict each other, or a source would be
/// read more often than its `max_epochs`. What is merely not there yet is no error: it is listed in
/// the plan, and the numbers that need it are null.
///
/// # Determinism
///
/// A pure function of its arguments.
pub fn resolve(loaded: &Loaded, facts: &Facts, options: &PlanOptions) -> Result<RunPlan, Error> {
    let mut problems = agree::contradictions(loaded, facts);
    problems.extend(caps::exceeded(loaded, facts));
    if !problems.is_empty() {
        return Err(Error::Invalid(problems));
    }
    let config = &loaded.config;
    let architecture = agree::architecture(facts, loaded);
    let stages = stages::plan(config, facts);
    let upscale = agree::base(facts, loaded).and_then(|base| upscale_plan(config, base));
    let model = architecture.as_ref().map(|architecture| model_plan(config, architecture, upscale));
    let memory_model = architecture.as_ref().map(|a| MemoryModel::of_run(a, config, &stages));
    let mut plan = RunPlan {
        name: config.name.clone(),
        run_directory: config.run_directory.clone(),
        device: config.device.to_string(),
        seed: config.seed.0,
        sequence_length: config.training.sequence_length as u64,
        micro_batch_sequences: config.training.micro_batch_sequences as u64,
        total_tokens: stages.iter().map(|stage| stage.tokens).sum(),
        total_sequences: stages.iter().map(|stage| stage.sequences).sum(),
        batch_mode: config.batch.mode.name().to_owned(),
        sources: source_plans(config, facts, &stages),
        memory: memory_model.as_ref().map(|memory| {
            let layers = architecture.as_ref().map_or(0, |a| a.num_hidden_layers);
            memory_plan(memory, layers, config.training.memory_budget.map(|bytes| bytes.0))
        }),
        checkpoint_bytes: memory_model.as_ref().map(MemoryModel::checkpoint_bytes),
        time: options.tokens_per_second.map(|speed| time_plan(speed, &stages, model.as_ref())),
        evaluation: evaluation_plan(config, facts, &stages),
        missing: missing(config, facts),
        warnings: Vec::new(),
        model,
        stages,
    };
    plan.warnings = warnings(config, facts, architecture.as_ref(), &plan);
    Ok(plan)
}

fn upscale_plan(config: &RunConfig, base: &Architecture) -> Option<UpscalePlan> {
    let upscale = config.model.upscale.as_ref()?;
    let copies: Vec<u64> = upscale.map(base).ok()?.copies().map(|layer| layer as u64).collect();
    let train = match upscale.train {
        UpscaleTraining::All => "all",
        UpscaleTraining::NewOnly => "new-only",
        UpscaleTraining::Staged => "staged",
    };
    Some(UpscalePlan {
        selection: upscale.layers.to_string(),
        initialization: upscale.initialization.to_string(),
        train: train.to_owned(),
        source_layers: base.num_hidden_layers,
        source_parameters: base.parameter_count(),
        new_parameters: copies.len() as u64 * base.layer_parameters(),
        copies,
    })
}

fn model_plan(
    config: &RunConfig,
    architecture: &Architecture,
    upscale: Option<UpscalePlan>,
) -> ModelPlan {
    let weights_from = match (&config.model.path, &upscale) {
        (Some(_), Some(_)) => "upscaled",
        (Some(_), None) => "folder",
        (None, _) => "random",
    };
    ModelPlan {
        parameters: architecture.parameter_count(),
        parameters_embedding: architecture.embedding_parameters(),
        parameters_matrix: architecture.matrix_parameters(),
        layers: architecture.num_hidden_layers,
        hidden_size: architecture.hidden_size,
        intermediate_size: architecture.intermediate_size,
        num_attention_heads: architecture.num_attention_heads,
        num_key_value_heads: architecture.num_key_value_heads,
        head_dim: architecture.head_dim,
        vocab_size: architecture.vocab_size,
        tie_word_embeddings: architecture.tie_word_embeddings,
        flops_per_token: architecture.flops_per_token(config.training.sequence_length),
        weights_from: weights_from.to_owned(),
        upscale,
    }
}

fn memory_plan(memory: &MemoryModel, layers: u64, budget_bytes: Option<u64>) -> MemoryPlan {
    let kept = budget_bytes.map(|budget| memory.kept_layers(budget));
    let auto = |kept_layers| AutoPlan { kept_layers, bytes: memory.activations_bytes(kept_layers) };
    MemoryPlan {
        weights_bytes: memory.weights_bytes(),
        gradients_bytes: memory.gradients_bytes(),
        moments_bytes: memory.moments_bytes(),
        gradient_in_flight_bytes: memory.gradient_in_flight_bytes(),
        activations: ActivationPlan {
            none: memory.activations_bytes(layers),
            all: memory.activations_bytes(0),
            auto: kept.map(auto),
        },
        logits_chunk_bytes: memory.logits_chunk_bytes(),
        snapshot_bytes: memory.snapshot_bytes(),
        peak: PeakPlan {
            none: memory.peak_bytes(layers),
            all: memory.peak_bytes(0),
            auto: kept.map(|kept| memory.peak_bytes(kept)),
        },
        budget_bytes,
        update_bytes: memory.update_traffic_bytes(),
        recomputed_flops_per_token: memory.recomputed_flops_per_token(),
        alternatives: memory.alternatives(),
    }
}

fn source_plans(config: &RunConfig, facts: &Facts, stages: &[StagePlan]) -> Vec<SourcePlan> {
    let plan = |(name, source): (&String, &crate::run::Source)| {
        let shares = stages.iter().flat_map(|stage| &stage.mixture);
        let windows: u64 = shares.filter(|s| s.source == *name).map(|s| s.windows).sum();
        let edition = facts.editions.get(name);
        let available = edition.map(|edition| edition.windows);
        let held_out = edition.and_then(|e| e.held_out.as_ref()).map(|part| part.windows);
        SourcePlan {
            source: name.clone(),
            edition: source.edition.clone(),
            fingerprint: edition.map(|edition| edition.fingerprint.clone()),
            tokens: windows * config.training.sequence_length as u64,
            windows,
            windows_available: available,
            epochs: available.map(|available| windows as f64 / available.max(1) as f64),
            cap: source.max_epochs,
            held_out_windows: held_out,
            validation_windows: held_out.map(|n| n.min(config.validation.sequences_per_source)),
        }
    };
    config.sources.iter().map(plan).collect()
}

fn time_plan(tokens_per_second: f64, stages: &[StagePlan], model: Option<&ModelPlan>) -> TimePlan {
    let seconds = |tokens: u64| tokens as f64 / tokens_per_second;
    TimePlan {
        tokens_per_second,
        seconds: seconds(stages.iter().map(|stage| stage.tokens).sum()),
        seconds_per_stage: stages.iter().map(|stage| seconds(stage.tokens)).collect(),
        seconds_per_step: stages.iter().map(|stage| seconds(stage.first_batch_tokens)).collect(),
        model_flops_per_second: model.map(|m| m.flops_per_token as f64 * tokens_per_second),
    }
}

fn evaluation_plan(
    config: &RunConfig,
    facts: &Facts,
    stages: &[StagePlan],
) -> Option<EvaluationPlan> {
    let evaluation = config.evaluation.as_ref()?;
    let every = evaluation.every_tokens.0;
    // A multiple at the edge of a stage is the evaluation of that edge.
    let multiples = |tokens: u64| tokens.checked_div(every).unwrap_or(0);
    let within = |stage: &StagePlan| {
        let last = (stage.starts_at_tokens + stage.tokens).saturating_sub(1);
        multiples(last) - multiples(stage.starts_at_tokens)
    };
    let at_start = match (evaluation.at_start, &config.model.upscale) {
        (false, _) => 0,
        (true, None) => 1,
        (true, Some(_)) => 2,
    };
    let task = |file: &std::path::PathBuf| {
        let known = facts.tasks.get(file);
        EvaluatedTask {
            file: file.clone(),
            name: known.map(|task| task.name.clone()),
            metric: known.map(|task| task.metric.clone()),
            items: None,
        }
    };
    Some(EvaluationPlan {
        evaluations: at_start + stages.iter().map(|stage| 1 + within(stage)).sum::<u64>(),
        at_start: evaluation.at_start,
        every_tokens: every,
        limit: evaluation.limit.map(|limit| limit as u64),
        tasks: evaluation.tasks.iter().map(task).collect(),
        cache_bytes: None,
    })
}

fn missing(config: &RunConfig, facts: &Facts) -> Vec<Missing> {
    let mut missing = Vec::new();
    let model_missing = config.model.path.as_ref().filter(|_| facts.architecture.is_none());
    if let Some(path) = model_missing {
        missing.push(Missing {
            kind: MissingKind::Model,
            name: "model".to_owned(),
            path: path.clone(),
            remedy: "put a Hugging Face folder there: config.json, *.safetensors, tokenizer.json"
                .to_owned(),
        });
    }
    // A tokenizer inside a folder that is missing comes with the folder.
    let comes_with_folder = config.model.tokenizer.is_none() && model_missing.is_some();
    if let Some(path) = config.model.tokenizer_path().filter(|_| !facts.tokenizer_found)
        && !comes_with_folder
    {
        missing.push(Missing {
            kind: MissingKind::Tokenizer,
            name: "model.tokenizer".to_owned(),
            path,
            remedy: "put the tokenizer.json of the model there".to_owned(),
        });
    }
    for (name, source) in &config.sources {
        if facts.editions.contains_key(name) {
            continue;
        }
        let edition = source.edition.display();
        let remedy = match &source.prepare {
            Some(file) => format!("terrace prepare {} --output {edition}", file.display()),
            None => format!("terrace prepare FILE.toml --output {edition}"),
        };
        let path = source.edition.clone();
        missing.push(Missing { kind: MissingKind::Edition, name: name.clone(), path, remedy });
    }
    for path in config.evaluation.iter().flat_map(|evaluation| &evaluation.tasks) {
        if !facts.tasks.contains_key(path) {
            missing.push(Missing {
                kind: MissingKind::Task,
                name: "evaluation.tasks".to_owned(),
                path: path.clone(),
                remedy: "name a task file, such as those in configs/tasks".to_owned(),
            });
        }
    }
    missing
}

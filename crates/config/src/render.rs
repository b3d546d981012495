//! A plan as text for people.

mod memory;

use std::fmt::Write;

use terrace_base::{format_bytes, format_count, format_grouped as grouped};

use crate::plan::{
    EvaluationPlan, ModelPlan, RunPlan, SharePlan, StagePlan, TimePlan, UpscalePlan,
};

/// Lays a plan out in aligned tables, with units, ending with what is missing and what is odd.
#[must_use]
pub fn render(plan: &RunPlan) -> String {
    let mut text = String::new();
    line(&mut text, &format!("run {} on {}", plan.name, plan.device));
    line(&mut text, &format!("  writes to {}", plan.run_directory.display()));
    match &plan.model {
        Some(model) => render_model(&mut text, model),
        None => line(&mut text, "\nmodel: not known, its folder is missing"),
    }
    line(
        &mut text,
        &format!(
            "\ntraining: {} tokens in {} sequences of {}, {} stage{}",
            format_count(plan.total_tokens),
            grouped(plan.total_sequences),
            plan.sequence_length,
            plan.stages.len(),
            if plan.stages.len() == 1 { "" } else { "s" },
        ),
    );
    plan.stages.iter().for_each(|stage| render_stage(&mut text, stage));
    if let Some(evaluation) = &plan.evaluation {
        render_evaluation(&mut text, evaluation);
    }
    if let Some(memory) = &plan.memory {
        memory::render(&mut text, memory, plan);
    }
    if let Some(time) = &plan.time {
        render_time(&mut text, time, &plan.stages);
    }
    render_list(
        &mut text,
        "missing",
        plan.missing.iter().map(|missing| {
            format!("{} ({})\n    {}", missing.name, missing.path.display(), missing.remedy)
        }),
    );
    render_list(&mut text, "warnings", plan.warnings.iter().cloned());
    text
}

fn render_model(text: &mut String, model: &ModelPlan) {
    line(text, "\nmodel");
    let shape = format!(
        "{} layers, hidden {}, MLP {}, heads {}/{} of {}, vocabulary {}{}",
        model.layers,
        model.hidden_size,
        model.intermediate_size,
        model.num_attention_heads,
        model.num_key_value_heads,
        model.head_dim,
        model.vocab_size,
        if model.tie_word_embeddings { ", tied" } else { "" },
    );
    table(
        text,
        &[
            vec!["parameters".into(), grouped(model.parameters), String::new()],
            vec!["in matrices".into(), grouped(model.parameters_matrix), String::new()],
            vec!["FLOPs per token".into(), grouped(model.flops_per_token), String::new()],
        ],
    );
    line(text, &format!("  {shape}"));
    let weights = match (&model.upscale, model.weights_from.as_str()) {
        (Some(upscale), _) => upscale_words(upscale),
        (None, "folder") => "from its folder".to_owned(),
        _ => "random".to_owned(),
    };
    line(text, &format!("  weights: {weights}"));
}

fn upscale_words(upscale: &UpscalePlan) -> String {
    let trained = match upscale.train.as_str() {
        "new-only" => "; only the copies are trained",
        "staged" => "; in the first stage only the copies are trained",
        _ => "",
    };
    format!(
        "up-scaled from {} layers and {} parameters by {} ({}): {} new layers, {} parameters{trained}",
        upscale.source_layers,
        grouped(upscale.source_parameters),
        upscale.selection,
        upscale.initialization,
        upscale.copies.len(),
        grouped(upscale.new_parameters),
    )
}

fn render_stage(text: &mut String, stage: &StagePlan) {
    line(text, "");
    line(
        text,
        &format!(
            "stage {}: {} tokens from {} on, learning rate {:e}",
            stage.name,
            format_count(stage.tokens),
            format_count(stage.starts_at_tokens),
            stage.learning_rate,
        ),
    );
    if let Some(decay) = &stage.decay {
        let words = format!(
            "  falls from {} on to {:e}, {}, over {} tokens",
            format_count(decay.starts_at_tokens),
            decay.final_learning_rate,
            decay.shape,
            format_count(decay.tokens),
        );
        line(text, &words);
    }
    let mut rows =
        vec![row(["source", "weight", "tokens", "windows", "available", "epochs so far", "cap"])];
    rows.extend(stage.mixture.iter().map(share_row));
    table(text, &rows);
    for change in &stage.mixture_changes {
        let share = |(source, weight): (&String, &f64)| match &change.weights_end {
            Some(end) => format!("{source} {:.2}% to {:.2}%", 100.0 * weight, 100.0 * end[source]),
            None => format!("{source} {:.2}%", 100.0 * weight),
        };
        let shares: Vec<String> = change.weights.iter().map(share).collect();
        let after = format_count(change.after_tokens);
        line(text, &format!("  after {after} tokens of it: {}", shares.join(", ")));
    }
    let with_plateau = stage.rungs.iter().any(|rung| rung.plateau.is_some());
    let mut rows = vec![row(["batch", "sequences", "micro-steps", "steps"])];
    if with_plateau {
        rows[0].extend(row(["nats/step", "noise", "window steps", "cooldown"]));
    }
    for rung in &stage.rungs {
        let mut cells = vec![
            grouped(rung.batch_tokens),
            grouped(rung.batch_sequences),
            grouped(rung.accumulation_steps),
            grouped(rung.steps_if_whole_stage),
        ];
        if let Some(plateau) = &rung.plateau {
            cells.push(format!("{:.2e}", plateau.nats_per_step));
            cells.push(format!("{:.4}", plateau.noise_sd_nats));
            cells.push(grouped(plateau.window_steps));
            cells.push(grouped(plateau.cooldown_steps));
        }
        rows.push(cells);
    }
    line(text, "");
    table(text, &rows);
    if let Some(steps) = stage.steps {
        line(text, &format!("  {} steps", grouped(steps)));
    }
}

fn share_row(share: &SharePlan) -> Vec<String> {
    let percent = |weight: f64| format!("{:.2}%", 100.0 * weight);
    let weight = match share.weight_end {
        Some(end) => format!("{} to {}", percent(share.weight), percent(end)),
        None => percent(share.weight),
    };
    vec![
        share.source.clone(),
        weight,
        format_count(share.tokens),
        grouped(share.windows),
        share.windows_available.map_or("missing".to_owned(), grouped),
        share.epochs_cumulative.map_or("-".to_owned(), |epochs| format!("{epochs:.2}")),
        share.cap.map_or("none".to_owned(), |cap| cap.to_string()),
    ]
}

fn render_evaluation(text: &mut String, evaluation: &EvaluationPlan) {
    let mut when = vec!["after each stage".to_owned()];
    if evaluation.at_start {
        when.insert(0, "before the first step".to_owned());
    }
    if evaluation.every_tokens > 0 {
        when.push(format!("every {} tokens", format_count(evaluation.every_tokens)));
    }
    let count = grouped(evaluation.evaluations);
    line(text, &format!("\nevaluation: {count} times, {}", when.join(", ")));
    if evaluation.tasks.is_empty() {
        line(text, "  on held-out text only");
        return;
    }
    let mut rows = vec![row(["task", "metric", "items"])];
    for task in &evaluation.tasks {
        let name = task.name.clone().unwrap_or_else(|| task.file.display().to_string());
        let metric = task.metric.clone().unwrap_or_else(|| "-".to_owned());
        rows.push(vec![name, metric, task.items.map_or("-".to_owned(), grouped)]);
    }
    table(text, &rows);
    if let Some(limit) = evaluation.limit {
        line(
            text,
            &format!("  the first {} of each task, or of each of its subsets", grouped(limit)),
        );
    }
    if let Some(bytes) = evaluation.cache_bytes {
        line(text, &format!("  keys and values take {} beside the state", format_bytes(bytes)));
    }
}

fn render_time(text: &mut String, time: &TimePlan, stages: &[StagePlan]) {
    line(text, &format!("\ntime at {} tokens/s", format_count(time.tokens_per_second as u64)));
    let mut rows = vec![row(["stage", "time", "per step"])];
    for (index, stage) in stages.iter().enumerate() {
        rows.push(vec![
            stage.name.clone(),
            duration(time.seconds_per_stage[index]),
            duration(time.seconds_per_step[index]),
        ]);
    }
    rows.push(vec!["all".into(), duration(time.seconds), String::new()]);
    table(text, &rows);
    if let Some(flops) = time.model_flops_per_second {
        line(text, &format!("  {:.3e} model FLOP/s", flops));
    }
}

fn render_list(text: &mut String, title: &str, items: impl Iterator<Item = String>) {
    for (index, item) in items.enumerate() {
        if index == 0 {
            line(text, &format!("\n{title}"));
        }
        line(text, &format!("  {item}"));
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Writes rows as columns: the first to the left, the others to the right.
fn table(text: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut written = String::from(" ");
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let result = match column {
                0 => write!(written, " {cell:<width$}"),
                _ => write!(written, "  {cell:>width$}"),
            };
            result.expect("a string takes any text");
        }
        line(text, written.trim_end());
    }
}

fn line(text: &mut String, content: &str) {
    text.push_str(content);
    text.push('\n');
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.1} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut text = String::new();
        table(&mut text, &[row(["a", "bb"]), row(["ccc", "d"])]);
        assert_eq!(text, "  a    bb\n  ccc   d\n");
    }
}

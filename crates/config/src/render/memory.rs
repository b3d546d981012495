//! Memory in words.

use terrace_base::{format_bytes, format_count};

use super::{line, row, table};
use crate::plan::{MemoryPlan, RunPlan, StateAlternative};

pub(super) fn render(text: &mut String, memory: &MemoryPlan, plan: &RunPlan) {
    line(text, "\nmemory, estimated");
    let mut rows = vec![
        vec!["weights".into(), format_bytes(memory.weights_bytes)],
        vec!["gradients".into(), format_bytes(memory.gradients_bytes)],
        vec!["moments".into(), format_bytes(memory.moments_bytes)],
        vec!["gradient in flight".into(), format_bytes(memory.gradient_in_flight_bytes)],
        vec!["logits chunk".into(), format_bytes(memory.logits_chunk_bytes)],
    ];
    if memory.snapshot_bytes > 0 {
        let name = "held on the host while a checkpoint is written";
        rows.push(vec![name.into(), format_bytes(memory.snapshot_bytes)]);
    }
    let checkpoint = plan.checkpoint_bytes.map(format_bytes);
    rows.extend(checkpoint.map(|bytes| vec!["checkpoint, on disk".into(), bytes]));
    table(text, &rows);
    let mut rows = vec![row(["recompute", "activations", "peak"])];
    let (activations, peak) = (&memory.activations, &memory.peak);
    rows.push(vec!["none".into(), format_bytes(activations.none), format_bytes(peak.none)]);
    rows.push(vec!["all".into(), format_bytes(activations.all), format_bytes(peak.all)]);
    if let (Some(auto), Some(peak)) = (&activations.auto, peak.auto) {
        let name = format!("auto, {} layers kept", auto.kept_layers);
        rows.push(vec![name, format_bytes(auto.bytes), format_bytes(peak)]);
    }
    line(text, "");
    table(text, &rows);
    if !memory.alternatives.is_empty() {
        render_alternatives(text, memory);
        render_costs(text, memory, plan);
    }
}

/// The card that such runs are made on: bytes a second of its memory, and operations a second of dense
/// products in bf16, by its maker's data sheet.
const CARD: (&str, f64, f64) = ("an H100", 3.35e12, 989e12);

fn render_alternatives(text: &mut String, memory: &MemoryPlan) {
    line(text, "\nwith the state in other formats, every layer recomputed");
    let heads =
        ["precision", "moments", "release", "weights, moments", "gradients", "peak", "one card of"];
    let mut rows = vec![row(heads)];
    rows[0].push("update".to_owned());
    for state in &memory.alternatives {
        rows.push(vec![
            state.precision.clone(),
            state.moments.clone(),
            (if state.gradient_release { "yes" } else { "no" }).to_owned(),
            format_bytes(state.state_bytes),
            match state.gradients_bytes {
                0 => "none".to_owned(),
                bytes => format_bytes(bytes),
            },
            format_bytes(state.peak_bytes),
            state.card_gigabytes.map_or("none".to_owned(), |card| format!("{card} GB")),
            format!("{:.0} ms", 1e3 * state.update_bytes as f64 / CARD.1),
        ]);
    }
    table(text, &rows);
}

/// What makes the run fit a card, and what that should cost in speed.
fn render_costs(text: &mut String, memory: &MemoryPlan, plan: &RunPlan) {
    let (name, bandwidth, peak) = CARD;
    let speed = format!("{:.2} TB/s", bandwidth / 1e12);
    line(text, &format!("  update: reading and writing the state at {name}'s {speed}"));
    let (Some(model), Some(stage)) = (&plan.model, plan.stages.first()) else { return };
    let least = memory.alternatives.iter().filter(|state| state.card_gigabytes.is_some());
    // The first, which is the most exact, of those that need the smallest card.
    if let Some(state) = least.min_by_key(|state| state.card_gigabytes) {
        let each = |bytes: u64| bytes as f64 / model.parameters as f64;
        let StateAlternative { precision, moments, gradient_release, .. } = state;
        let release = if *gradient_release { ", gradient_release" } else { "" };
        line(
            text,
            &format!(
                "  one card of {} GB: precision {precision}, moments {moments}{release} take {:.1} bytes \
                 a parameter for weights and moments (f32: 12) and {:.1} for gradients",
                state.card_gigabytes.unwrap_or_default(),
                each(state.state_bytes),
                each(state.gradients_bytes),
            ),
        );
    }
    let whole = 1.0 + memory.recomputed_flops_per_token as f64 / model.flops_per_token as f64;
    let step = model.flops_per_token as f64 * whole * stage.first_batch_tokens as f64 / peak;
    line(
        text,
        &format!(
            "  recomputing every layer: {:.0}% more operations, {:.2} of the speed; a step of {} tokens \
             is then {step:.1} s of products in bf16 at {:.0} TFLOP/s, and the update {:.3} s",
            100.0 * (whole - 1.0),
            1.0 / whole,
            format_count(stage.first_batch_tokens),
            peak / 1e12,
            memory.update_bytes as f64 / bandwidth,
        ),
    );
}

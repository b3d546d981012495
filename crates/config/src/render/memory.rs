//! Memory in words.

use terrace_base::format_bytes;

use super::{line, row, table};
use crate::plan::MemoryPlan;

pub(super) fn render(text: &mut String, memory: &MemoryPlan, checkpoint_bytes: Option<u64>) {
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
    rows.extend(
        checkpoint_bytes.map(|bytes| vec!["checkpoint, on disk".into(), format_bytes(bytes)]),
    );
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
    render_alternatives(text, memory);
}

/// A bandwidth to give times with: that of the cards that such runs are made on.
const CARD: (&str, f64) = ("an H100's 3.35 TB/s", 3.35e12);

fn render_alternatives(text: &mut String, memory: &MemoryPlan) {
    if memory.alternatives.is_empty() {
        return;
    }
    let heading = "\nwith the state in other formats, every layer recomputed";
    line(text, heading);
    let heads =
        ["precision", "moments", "release", "weights, moments", "gradients", "peak", "update"];
    let mut rows = vec![row(heads)];
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
            format!("{:.0} ms", 1e3 * state.update_bytes as f64 / CARD.1),
        ]);
    }
    table(text, &rows);
    line(
        text,
        &format!("  an update's time is that of reading and writing the state at {}", CARD.0),
    );
}

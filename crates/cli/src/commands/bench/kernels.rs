//! `terrace bench kernels`: the operations of a layer one by one, each beside its bound.

mod composed;
mod fused;

use std::time::Instant;

use serde::Serialize;
use terrace_base::Seed;
use terrace_config::{Architecture, DeviceChoice};

use self::composed::Composition;
use super::peaks::Peaks;
use super::{median, require_memory, resident_bytes, shape};
use crate::args::BenchKernelsArgs;
use crate::context::Context;
use crate::device;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::Table;

#[derive(Serialize)]
struct Answer {
    shape: String,
    batch_sequences: usize,
    sequence_length: usize,
    threads: usize,
    peaks: Peaks,
    results: Vec<Measurement>,
    /// Forward and backward passes by the tensor library's own operations; only where asked for.
    composed: Vec<Composition>,
    peak_memory_bytes: Option<u64>,
}

/// One operation.
#[derive(Debug, Serialize)]
struct Measurement {
    name: &'static str,
    /// The median.
    seconds: f64,
    /// What the definition asks for; a causal half is a half.
    flops: u64,
    /// Each operand read once, each result written once.
    bytes: u64,
    flops_per_second: f64,
    bytes_per_second: f64,
    /// The least time by the peaks of this machine.
    bound_seconds: f64,
    /// The bound, divided by the time.
    of_bound: f64,
}

/// Something to be timed.
struct Case<'a> {
    name: &'static str,
    flops: u64,
    bytes: u64,
    work: Box<dyn FnMut() + 'a>,
}

/// Extents of the operations.
#[derive(Clone, Debug)]
struct Extents {
    architecture: Architecture,
    b: usize,
    t: usize,
    rows: usize,
    d: usize,
    f: usize,
    v: usize,
    /// The widths of all query heads and of all key/value heads.
    wide: usize,
    narrow: usize,
}

impl Extents {
    fn new(architecture: Architecture, b: usize, t: usize) -> Self {
        let head = architecture.head_dim;
        Self {
            b,
            t,
            rows: b * t,
            d: architecture.hidden_size as usize,
            f: architecture.intermediate_size as usize,
            v: architecture.vocab_size as usize,
            wide: (architecture.num_attention_heads * head) as usize,
            narrow: (architecture.num_key_value_heads * head) as usize,
            architecture,
        }
    }
}

/// Measures every operation.
pub(crate) fn run(args: &BenchKernelsArgs, context: &Context) -> Result<ExitCode, CliError> {
    let device = device::open(DeviceChoice::Cpu, context)?;
    let (b, t) = (args.batch.sequences, args.batch.sequence_length);
    let extents = Extents::new(shape::architecture(&args.shape)?, b, t);
    // The two sides of the gate, what they give, and the gradient of that.
    let widest = extents.f.max(extents.wide).max(extents.d) as u128;
    require_memory(4 * widest * b as u128 * t as u128 * size_of::<f32>() as u128)?;
    let repeats = usize::from(args.repeats);
    context.note("the peaks of this machine");
    let peaks = Peaks::measure();
    let mut results = Vec::new();
    fused::each(&extents, &device, |case| {
        context.note(case.name);
        results.push(measure(case, repeats, &peaks));
    });
    let mut composed = Vec::new();
    if args.composed {
        composed::each(&extents, &device, |name, ours, work| {
            context.note(&format!("{name}, composed"));
            let seconds: f64 =
                results.iter().filter(|m| ours.contains(&m.name)).map(|m| m.seconds).sum();
            composed.push(Composition::new(name, timed(repeats, work), seconds));
        });
    }
    let answer = Answer {
        shape: args.shape.clone(),
        batch_sequences: b,
        sequence_length: t,
        threads: rayon::current_num_threads(),
        peaks,
        results,
        composed,
        peak_memory_bytes: resident_bytes("VmHWM:"),
    };
    context.answer(&answer, || text(&answer));
    Ok(ExitCode::Done)
}

fn measure(case: Case<'_>, repeats: usize, peaks: &Peaks) -> Measurement {
    let Case { name, flops, bytes, work } = case;
    let seconds = timed(repeats, work);
    let bound_seconds = peaks.bound_seconds(flops, bytes);
    Measurement {
        name,
        seconds,
        flops,
        bytes,
        flops_per_second: flops as f64 / seconds,
        bytes_per_second: bytes as f64 / seconds,
        bound_seconds,
        of_bound: bound_seconds / seconds,
    }
}

/// The median time of a piece of work, after one that is not counted.
fn timed(repeats: usize, mut work: impl FnMut()) -> f64 {
    work();
    let times = (0..repeats).map(|_| {
        let begin = Instant::now();
        work();
        begin.elapsed().as_secs_f64()
    });
    median(times.collect())
}

/// Numbers in −0.5..0.5 that depend on a name.
fn noise(count: usize, name: &str) -> Vec<f32> {
    let stream = Seed(0).stream(name);
    (0..count as u64).map(|i| (stream.at(i) >> 40) as f32 / (1 << 24) as f32 - 0.5).collect()
}

fn text(answer: &Answer) -> String {
    let mut table = Table::new(["operation", "ms", "GFLOP/s", "GB/s", "bound ms", "of bound"]);
    for m in &answer.results {
        table.row([
            m.name.to_owned(),
            format!("{:.3}", m.seconds * 1e3),
            format!("{:.1}", m.flops_per_second / 1e9),
            format!("{:.1}", m.bytes_per_second / 1e9),
            format!("{:.3}", m.bound_seconds * 1e3),
            format!("{:.2}", m.of_bound),
        ]);
    }
    let mut composed = String::new();
    if !answer.composed.is_empty() {
        let mut table = Table::new(["forward and backward", "composed ms", "fused ms", "ratio"]);
        for c in &answer.composed {
            table.row(c.row());
        }
        composed = format!("\n{}", table.render());
    }
    format!(
        "{} at {}x{}, {} threads; at best {:.1} GFLOP/s and {:.1} GB/s\n{}{composed}",
        answer.shape,
        answer.batch_sequences,
        answer.sequence_length,
        answer.threads,
        answer.peaks.flops_per_second / 1e9,
        answer.peaks.bytes_per_second / 1e9,
        table.render(),
    )
}

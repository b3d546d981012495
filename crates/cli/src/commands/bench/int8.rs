//! Products with eight-bit weights beside those with f32 weights.

use std::hint::black_box;

use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;
use terrace_base::Seed;
use terrace_config::DeviceChoice;
use terrace_kernels::host::{Matrix, MatrixMut, Threads, multiply, product_by_rows};
use terrace_kernels::{Int8Matrix, linear};

use super::peaks::shortest;
use crate::args::BenchInt8Args;
use crate::context::Context;
use crate::device;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::Table;

#[derive(Serialize)]
struct Answer {
    threads: usize,
    results: Vec<Measurement>,
}

/// One shape; the shortest times, which other work on the machine lengthens least.
#[derive(Serialize)]
struct Measurement {
    inputs: usize,
    outputs: usize,
    rows: usize,
    /// The tensor library's product of f32.
    f32_seconds: f64,
    /// The `gemm` crate's product of f32 on the same memory.
    gemm_seconds: f64,
    /// The product of f32 that reads the matrix once, for few rows.
    few_rows_seconds: f64,
    int8_seconds: f64,
    /// The fastest of the products of f32, divided by that of integers.
    speedup: f64,
    int8_bytes_per_second: f64,
}

/// Measures every size with every number of rows.
pub(crate) fn run(args: &BenchInt8Args, context: &Context) -> Result<ExitCode, CliError> {
    let device = device::open(DeviceChoice::Cpu, context)?;
    let mut results = Vec::new();
    for [inputs, outputs] in &args.size {
        let weights = noise(inputs * outputs, "weights");
        let matrix = Int8Matrix::quantize(&weights, [*outputs, *inputs]).expect("all are small");
        for rows in &args.rows {
            let repeats = usize::from(args.repeats);
            results.push(measure(&weights, &matrix, usize::from(*rows), repeats, &device));
        }
    }
    let answer = Answer { threads: rayon::current_num_threads(), results };
    context.answer(&answer, || text(&answer));
    Ok(ExitCode::Done)
}

fn noise(count: usize, name: &str) -> Vec<f32> {
    let stream = Seed(0).stream(name);
    (0..count as u64).map(|i| (stream.at(i) >> 40) as f32 / (1 << 24) as f32 - 0.5).collect()
}

fn measure(
    weights: &[f32],
    matrix: &Int8Matrix,
    rows: usize,
    repeats: usize,
    device: &Device,
) -> Measurement {
    let [outputs, inputs] = matrix.shape();
    let values = noise(rows * inputs, "input");
    let tensor = |values: &[f32], shape: [usize; 2]| -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
    };
    let (x, weight) = (tensor(&values, [rows, inputs]), tensor(weights, [outputs, inputs]));
    let f32_seconds = shortest(repeats, || {
        black_box(linear(x.clone(), weight.clone()));
    });
    let mut out = vec![0.0; rows * outputs];
    let gemm_seconds = shortest(repeats, || {
        let w = Matrix::new(weights, outputs, inputs).transposed();
        let out = MatrixMut::new(&mut out, rows, outputs);
        multiply(out, false, Matrix::new(&values, rows, inputs), w, 1.0, Threads::All);
    });
    black_box(&out);
    let few_rows_seconds = shortest(repeats, || {
        black_box(product_by_rows(&values, weights, inputs));
    });
    let int8_seconds = shortest(repeats, || {
        black_box(matrix.linear(x.clone()));
    });
    Measurement {
        inputs,
        outputs,
        rows,
        f32_seconds,
        gemm_seconds,
        few_rows_seconds,
        int8_seconds,
        speedup: f32_seconds.min(gemm_seconds).min(few_rows_seconds) / int8_seconds,
        int8_bytes_per_second: matrix.bytes() as f64 / int8_seconds,
    }
}

fn text(answer: &Answer) -> String {
    let mut table = Table::new([
        "in x out",
        "rows",
        "f32 ms",
        "gemm ms",
        "few rows ms",
        "int8 ms",
        "speed-up",
        "int8 GB/s",
    ]);
    for result in &answer.results {
        let milliseconds = |seconds: f64| format!("{:.3}", 1e3 * seconds);
        table.row([
            format!("{}x{}", result.inputs, result.outputs),
            result.rows.to_string(),
            milliseconds(result.f32_seconds),
            milliseconds(result.gemm_seconds),
            milliseconds(result.few_rows_seconds),
            milliseconds(result.int8_seconds),
            format!("{:.2}", result.speedup),
            format!("{:.1}", result.int8_bytes_per_second / 1e9),
        ]);
    }
    format!("{} threads\n{}", answer.threads, table.render())
}

//! What the processor delivers at best: the bounds that measured speeds are held against.

use std::hint::black_box;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use terrace_kernels::host::{Matrix, MatrixMut, Threads, add_assign, multiply};

/// The edges of the square products that the peak is looked for among.
const EDGES: [usize; 3] = [512, 1024, 2048];

/// The elements of the vectors whose sum is timed: far more than any cache holds.
const STREAMED: usize = 1 << 25;

/// How often each is tried; the fastest counts.
const TRIES: usize = 4;

/// The best speeds that were seen, with all threads.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Peaks {
    /// Of products of square matrices of f32.
    pub(super) flops_per_second: f64,
    /// Of adding one long vector to another: two reads and a write for each element.
    pub(super) bytes_per_second: f64,
}

impl Peaks {
    /// Measures both.
    pub(super) fn measure() -> Self {
        Self { flops_per_second: products(), bytes_per_second: stream() }
    }

    /// The least time that work of so many operations on so many bytes can take.
    ///
    /// # Source
    ///
    /// Williams, Waterman and Patterson 2009 (Roofline, doi 10.1145/1498765.1498785).
    pub(super) fn bound_seconds(&self, operations: u64, bytes: u64) -> f64 {
        (operations as f64 / self.flops_per_second).max(bytes as f64 / self.bytes_per_second)
    }
}

/// The speed of the fastest square product.
pub(super) fn products() -> f64 {
    let speed = |edge: usize| {
        let a: Vec<f32> = (0..edge * edge).map(|i| (i % 17) as f32 - 8.0).collect();
        let mut out = vec![0.0; edge * edge];
        let seconds = shortest(TRIES, || {
            let (a, out) = (Matrix::new(&a, edge, edge), MatrixMut::new(&mut out, edge, edge));
            multiply(out, false, a, a.transposed(), 1.0, Threads::All);
        });
        black_box(&out);
        2.0 * (edge as f64).powi(3) / seconds
    };
    EDGES.map(speed).into_iter().fold(0.0, f64::max)
}

fn stream() -> f64 {
    let (mut a, b) = (vec![1.0; STREAMED], vec![0.5; STREAMED]);
    let seconds = shortest(TRIES, || add_assign(&mut a, &b));
    black_box(&a);
    (3 * STREAMED * size_of::<f32>()) as f64 / seconds
}

/// The shortest time of a piece of work, after one that is not counted.
pub(super) fn shortest(repeats: usize, mut work: impl FnMut()) -> f64 {
    work();
    let times = (0..repeats).map(|_| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcer_of_both_bounds_the_time() {
        let peaks = Peaks { flops_per_second: 100.0, bytes_per_second: 10.0 };
        assert_eq!(peaks.bound_seconds(200, 10), 2.0);
        assert_eq!(peaks.bound_seconds(200, 50), 5.0);
    }
}

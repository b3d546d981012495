//! Matrix products by the `gemm` crate.

use tracing::trace_span;

use super::TILES;

/// A view of a matrix within a slice.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// A view of a row-major matrix within a slice that a product is written to.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    values: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

/// How many threads a product may use; it makes no difference to the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The calling one: the caller's own loop is parallel.
    One,
    /// Those of the current rayon pool.
    All,
}

impl<'a> Matrix<'a> {
    /// A whole row-major matrix.
    #[must_use]
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a whole matrix");
        Self::within(values, rows, columns, columns)
    }

    /// A row-major matrix at the start of `values`, with `row_stride` elements from row to row.
    #[must_use]
    pub fn within(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert_within(values.len(), rows, columns, row_stride);
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// Rows for columns: a matter of strides, nothing is moved.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

impl<'a> MatrixMut<'a> {
    /// A whole row-major matrix.
    #[must_use]
    pub fn new(values: &'a mut [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a whole matrix");
        Self::within(values, rows, columns, columns)
    }

    /// A row-major matrix at the start of `values`, with `row_stride` elements from row to row.
    #[must_use]
    pub fn within(values: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert_within(values.len(), rows, columns, row_stride);
        Self { values, rows, columns, row_stride }
    }
}

fn assert_within(length: usize, rows: usize, columns: usize, row_stride: usize) {
    assert!(columns <= row_stride || rows <= 1, "rows do not overlap");
    let end = if rows == 0 { 0 } else { (rows - 1) * row_stride + columns };
    assert!(end <= length, "{rows} rows of {columns} at {row_stride} end beyond {length}");
}

/// Writes `scale · a · b` to `out`, or adds it where `accumulate` says so.
///
/// # Panics
///
/// The shapes do not fit.
pub fn multiply(
    out: MatrixMut<'_>,
    accumulate: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    threads: Threads,
) {
    assert_eq!(a.columns, b.rows, "inner extents");
    assert_eq!([a.rows, b.columns], [out.rows, out.columns], "outer extents");
    let operations = 2 * (a.rows * a.columns * b.columns) as u64;
    let (parallelism, _product) = match threads {
        Threads::One => {
            let span = trace_span!(target: TILES, "product", operations);
            (gemm::Parallelism::None, span.entered())
        }
        Threads::All => (gemm::Parallelism::Rayon(0), trace_span!("product", operations).entered()),
    };
    #[expect(unsafe_code, reason = "the product takes pointers and strides")]
    // SAFETY: the constructors have checked that every element of the three views is within its
    // slice; `out` is borrowed alone, so it overlaps neither operand, and its rows do not overlap.
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            a.columns,
            out.values.as_mut_ptr(),
            1,
            out.row_stride as isize,
            accumulate,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

//! Fused operations with hand-written derivatives, for devices whose memory is the host's.
//!
//! They work on plain slices, row-major, and know no graph: a forward pass gives what its backward
//! pass needs, and the caller keeps it. Every loop over elements is compiled for several instruction
//! sets and chosen when the program runs; products are the `gemm` crate's, which does the same.
//!
//! # Determinism
//!
//! Work is cut by the shapes alone and partial sums are added in their order, so that a result does
//! not depend on the number of threads. It may depend on the processor: `gemm`'s products round
//! differently with other vector widths.
//!
//! # Spans
//!
//! Each operation is a span of `tracing` of its own name, so that whoever listens can say where the time
//! goes; a span of a product has its number of floating-point `operations`.

mod allocator;
mod attention;
mod attention_backward;
mod buffer;
mod cached_attention;
mod codes;
mod cross_entropy;
mod elementwise;
mod exponential;
mod few_rows;
mod gate;
mod int8;
mod norm;
mod product;
mod rotation;
mod rounding;
mod simd;
mod stored;
mod tensor;
mod update;

pub use allocator::return_large_buffers;
pub use attention::{AttentionShape, Documents, attention_forward};
pub use attention_backward::{AttentionGradients, attention_backward};
pub use buffer::Buffer;
pub use cached_attention::{CachedSpan, cached_attention};
pub use codes::{CODE_BLOCK, CodeTable};
pub use elementwise::add_assign;
pub use few_rows::{linear_forward, product_by_rows};
pub use gate::{gate_backward, gate_forward};
pub use int8::{
    INT8_BLOCK, Int8View, dequantize, int8_product_by_rows, int8_product_by_tiles, quantize,
};
pub use norm::{norm_backward, norm_forward, norm_scale};
pub use product::{Matrix, MatrixMut, Threads, multiply};
pub use rotation::{Rotations, rotate};
pub use rounding::RoundingKey;
pub use tensor::{HostTensor, holds_f32, is_host};

pub(crate) use cross_entropy::cross_entropy_rows;
pub(crate) use stored::Stored;
pub(crate) use tensor::Opened;
pub(crate) use update::{adamw, adamw_rounded, square_sum};

/// The target of spans of single tiles: there are many, on the threads of the pool.
pub const TILES: &str = "tiles";

/// The rows of one parallel piece of work: a constant, so that sums over pieces are always the same.
const PIECE_ROWS: usize = 32;

/// The elements of one parallel piece of work on a whole tensor.
const PIECE_ELEMENTS: usize = 1 << 15;

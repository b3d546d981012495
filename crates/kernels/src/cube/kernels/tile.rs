//! What attention's kernels do with their tiles.
//!
//! The 64 units of a cube are a square: unit `(x, y)` has the scores of the tile's queries
//! `y + 8·i` and keys `x + 8·j`, and of each sum over a head's elements the vectors `x + 8·c`.

use cubecl::prelude::*;

/// The units of a cube along either axis.
pub(crate) const SIDE: usize = 8;

/// How a cube cuts attention up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tile {
    /// The queries of a unit; a tile has eight times as many.
    pub(crate) queries: usize,
    /// The keys of a unit.
    pub(crate) keys: usize,
    /// The vectors of four of a head.
    pub(crate) vectors: usize,
}

impl Tile {
    /// The vectors of a row in shared memory: one more than it has, so that rows that eight units read
    /// at once lie in different banks.
    pub(super) fn pitch(self) -> usize {
        self.vectors + 1
    }

    /// The same for a row of a score for each key.
    pub(super) fn score_pitch(self) -> usize {
        SIDE * self.keys + 1
    }

    /// The vectors of a head that a unit sums up.
    pub(super) fn chunks(self) -> usize {
        self.vectors.div_ceil(SIDE)
    }

    /// The bytes of shared memory of a pass over keys, with `heads` rows of a head for each query and
    /// each key, and `scores` matrices of a number for each pair.
    pub(crate) fn shared_bytes(self, query_rows: usize, key_rows: usize, scores: usize) -> usize {
        let [queries, keys] = [self.queries, self.keys].map(|count| SIDE * count);
        let rows = (query_rows * queries + key_rows * keys) * self.pitch() * 16;
        rows + (scores * queries * self.score_pitch() + queries * SIDE) * 4
    }
}

/// Brings rows of a head to shared memory as f32; rows beyond `rows` are zero.
///
/// `first` is where row 0 begins in `from`, `stride` how far rows are apart, in vectors.
#[cube]
pub(super) fn load_rows<X: Float>(
    from: &Tensor<Vector<X, Const<4>>>,
    to: &mut [Vector<f32, Const<4>>],
    first: usize,
    stride: usize,
    rows: usize,
    #[comptime] count: usize,
    #[comptime] vectors: usize,
) {
    let mut place = UNIT_POS as usize;
    while place < comptime!(count * vectors) {
        let row = place / vectors;
        let vector = place % vectors;
        let mut value = Vector::<f32, Const<4>>::new(0.0f32);
        if row < rows {
            value = Vector::cast_from(from[first + row * stride + vector]);
        }
        to[row * comptime!(vectors + 1) + vector] = value;
        place += comptime!(SIDE * SIDE);
    }
}

/// The products of a unit's queries with its keys: `sums[i, j] = queries[y + 8i] · keys[x + 8j]`.
#[cube]
pub(super) fn products(
    queries: &[Vector<f32, Const<4>>],
    keys: &[Vector<f32, Const<4>>],
    sums: &mut Array<f32>,
    #[comptime] tile: Tile,
) {
    let x = UNIT_POS_X as usize;
    let y = UNIT_POS_Y as usize;
    let pitch = comptime!(tile.pitch());
    #[unroll]
    for i in 0..comptime!(tile.queries * tile.keys) {
        sums[i] = 0.0f32;
    }
    for vector in 0..comptime!(tile.vectors) {
        let mut own = Array::<Vector<f32, Const<4>>>::new(comptime!(tile.keys));
        #[unroll]
        for j in 0..comptime!(tile.keys) {
            own[j] = keys[(x + comptime!(SIDE * j)) * pitch + vector];
        }
        #[unroll]
        for i in 0..comptime!(tile.queries) {
            let query = queries[(y + comptime!(SIDE * i)) * pitch + vector];
            #[unroll]
            for j in 0..comptime!(tile.keys) {
                let key = own[j];
                #[unroll]
                for lane in 0..4usize {
                    sums[comptime!(i * tile.keys + j)] += query.extract(lane) * key.extract(lane);
                }
            }
        }
    }
}

/// Adds weighted rows to a unit's sums:
/// `sums[i, c] += Σ_r weights[(y + 8i)·across + r·along] · rows[r][x + 8c]`.
#[cube]
pub(super) fn mix(
    weights: &[f32],
    rows: &[Vector<f32, Const<4>>],
    sums: &mut Array<Vector<f32, Const<4>>>,
    #[comptime] count: usize,
    #[comptime] outputs: usize,
    #[comptime] strides: [usize; 2],
    #[comptime] tile: Tile,
) {
    let x = UNIT_POS_X as usize;
    let y = UNIT_POS_Y as usize;
    let pitch = comptime!(tile.pitch());
    let chunks = comptime!(tile.chunks());
    let across = comptime!(strides[0]);
    let along = comptime!(strides[1]);
    for row in 0..count {
        let mut values = Array::<Vector<f32, Const<4>>>::new(chunks);
        #[unroll]
        for c in 0..chunks {
            // Beyond the last vector the last one is summed again, and not written.
            let vector = min(x + comptime!(SIDE * c), comptime!(tile.vectors - 1).runtime());
            values[c] = rows[row * pitch + vector];
        }
        #[unroll]
        for i in 0..outputs {
            let weight = weights[(y + comptime!(SIDE * i)) * across + row * along];
            #[unroll]
            for c in 0..chunks {
                sums[comptime!(i * chunks + c)] += values[c] * Vector::new(weight);
            }
        }
    }
}

/// Sets a unit's sums to zero.
#[cube]
pub(super) fn clear(sums: &mut Array<Vector<f32, Const<4>>>, #[comptime] count: usize) {
    #[unroll]
    for i in 0..count {
        sums[i] = Vector::new(0.0f32);
    }
}

/// Writes a unit's sums to rows of a head: `to[y + 8i][x + 8c]`, for rows below `rows`.
#[cube]
pub(super) fn store_rows<X: Float>(
    sums: &Array<Vector<f32, Const<4>>>,
    to: &mut Tensor<Vector<X, Const<4>>>,
    first: usize,
    stride: usize,
    rows: usize,
    #[comptime] outputs: usize,
    #[comptime] tile: Tile,
) {
    let x = UNIT_POS_X as usize;
    let y = UNIT_POS_Y as usize;
    #[unroll]
    for i in 0..outputs {
        let row = y + comptime!(SIDE * i);
        #[unroll]
        for c in 0..comptime!(tile.chunks()) {
            let vector = x + comptime!(SIDE * c);
            if row < rows && vector < comptime!(tile.vectors) {
                to[first + row * stride + vector] =
                    Vector::cast_from(sums[comptime!(i * tile.chunks() + c)]);
            }
        }
    }
}

//! Causal attention within documents, forward.

use cubecl::prelude::*;

use super::tile::{SIDE, Tile, clear, load_rows, mix, products, store_rows};

/// Below any score: where no key has been seen yet.
const NOTHING: f32 = -3.0e38;

/// A cube takes one tile of queries of one head of one sequence: `[tiles, n, b]` cubes of 8 by 8 units.
///
/// # Source
///
/// Dao 2023 (FlashAttention-2, arXiv 2307.08691), algorithm 1: a running maximum and sum per query,
/// the output rescaled when the maximum rises and divided once at the end.
///
// NUMERICS: all sums in f32. A unit sums the weights of its own keys; the eight of a query are added at
// the end, always in the same order.
#[cube(launch_unchecked)]
pub(crate) fn attention_forward_kernel<X: Float>(
    q: &Tensor<Vector<X, Const<4>>>,
    k: &Tensor<Vector<X, Const<4>>>,
    v: &Tensor<Vector<X, Const<4>>>,
    starts: &Tensor<i32>,
    mixed: &mut Tensor<Vector<X, Const<4>>>,
    log_sums: &mut Tensor<f32>,
    positions: usize,
    group: usize,
    scale: f32,
    #[comptime] tile: Tile,
    #[define(X)] _element: ElemType,
) {
    let x = UNIT_POS_X as usize;
    let y = UNIT_POS_Y as usize;
    let queries = comptime!(SIDE * tile.queries);
    let keys = comptime!(SIDE * tile.keys);
    let vectors = comptime!(tile.vectors);
    let chunks = comptime!(tile.chunks());
    let score_pitch = comptime!(tile.score_pitch());

    let heads = CUBE_COUNT_Y as usize;
    let head = CUBE_POS_Y as usize;
    let kv_heads = heads / group;
    let kv_head = head / group;
    // The first token of the sequence. The last tiles see the most keys, so they come first.
    let sequence = CUBE_POS_Z as usize * positions;
    let first = ((positions - 1) / queries - CUBE_POS_X as usize) * queries;
    let rows = min(positions - first, queries.runtime());

    let mut q_tile =
        Shared::<[Vector<f32, Const<4>>]>::new_slice(comptime!(queries * tile.pitch()));
    let mut kv_tile = Shared::<[Vector<f32, Const<4>>]>::new_slice(comptime!(keys * tile.pitch()));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(queries * score_pitch));
    let mut parts = Shared::<[f32]>::new_slice(comptime!(queries * SIDE));

    let mut begins = Array::<usize>::new(comptime!(tile.queries));
    let mut tops = Array::<f32>::new(comptime!(tile.queries));
    let mut sums = Array::<f32>::new(comptime!(tile.queries));
    #[unroll]
    for i in 0..comptime!(tile.queries) {
        let query = min(first + y + comptime!(SIDE * i), positions - 1);
        begins[i] = usize::cast_from(starts[sequence + query]);
        tops[i] = NOTHING;
        sums[i] = 0.0f32;
    }
    let mut scores = Array::<f32>::new(comptime!(tile.queries * tile.keys));
    let mut outputs = Array::<Vector<f32, Const<4>>>::new(comptime!(tile.queries * chunks));
    clear(&mut outputs, comptime!(tile.queries * chunks));

    let q_first = ((sequence + first) * heads + head) * vectors;
    load_rows(q, &mut q_tile, q_first, heads * vectors, rows, queries, vectors);

    let end = first + rows;
    // Documents begin in order: no query of the tile sees a key before this one.
    let mut key_first = usize::cast_from(starts[sequence + first]);
    while key_first < end {
        let kv_rows = min(end - key_first, keys.runtime());
        let kv_first = ((sequence + key_first) * kv_heads + kv_head) * vectors;
        load_rows(k, &mut kv_tile, kv_first, kv_heads * vectors, kv_rows, keys, vectors);
        sync_cube();
        products(&q_tile, &kv_tile, &mut scores, tile);
        #[unroll]
        for i in 0..comptime!(tile.queries) {
            let query = first + y + comptime!(SIDE * i);
            let mut top = NOTHING.runtime();
            #[unroll]
            for j in 0..comptime!(tile.keys) {
                let key = key_first + x + comptime!(SIDE * j);
                let score = scores[comptime!(i * tile.keys + j)] * scale;
                scores[comptime!(i * tile.keys + j)] = score;
                if key >= begins[i] && key <= query {
                    top = max(top, score);
                }
            }
            parts[(y + comptime!(SIDE * i)) * SIDE + x] = top;
        }
        sync_cube();
        load_rows(v, &mut kv_tile, kv_first, kv_heads * vectors, kv_rows, keys, vectors);
        #[unroll]
        for i in 0..comptime!(tile.queries) {
            let place = y + comptime!(SIDE * i);
            let query = first + place;
            let mut top = tops[i];
            #[unroll]
            for part in 0..SIDE {
                top = max(top, parts[place * SIDE + part]);
            }
            let correction = (tops[i] - top).exp();
            tops[i] = top;
            let mut sum = sums[i] * correction;
            #[unroll]
            for j in 0..comptime!(tile.keys) {
                let key = key_first + x + comptime!(SIDE * j);
                let mut weight = 0.0f32.runtime();
                if key >= begins[i] && key <= query {
                    weight = (scores[comptime!(i * tile.keys + j)] - top).exp();
                }
                sum += weight;
                weights[place * score_pitch + x + comptime!(SIDE * j)] = weight;
            }
            sums[i] = sum;
            #[unroll]
            for c in 0..chunks {
                outputs[comptime!(i * chunks + c)] =
                    outputs[comptime!(i * chunks + c)] * Vector::new(correction);
            }
        }
        sync_cube();
        mix(
            &weights,
            &kv_tile,
            &mut outputs,
            keys,
            comptime!(tile.queries),
            comptime!([score_pitch, 1]),
            tile,
        );
        sync_cube();
        key_first += keys;
    }

    #[unroll]
    for i in 0..comptime!(tile.queries) {
        parts[(y + comptime!(SIDE * i)) * SIDE + x] = sums[i];
    }
    sync_cube();
    #[unroll]
    for i in 0..comptime!(tile.queries) {
        let place = y + comptime!(SIDE * i);
        let mut sum = 0.0f32.runtime();
        #[unroll]
        for part in 0..SIDE {
            sum += parts[place * SIDE + part];
        }
        if place < rows && x == 0 {
            log_sums[(sequence + first + place) * heads + head] = tops[i] + sum.ln();
        }
        #[unroll]
        for c in 0..chunks {
            outputs[comptime!(i * chunks + c)] =
                outputs[comptime!(i * chunks + c)] / Vector::new(sum);
        }
    }
    store_rows(&outputs, mixed, q_first, heads * vectors, rows, comptime!(tile.queries), tile);
}

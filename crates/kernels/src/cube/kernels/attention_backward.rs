//! Causal attention within documents, backward.
//!
//! With `p = exp(scale · q·k - log_sum)` and `delta = Σ upstream · mixed`, the slope of a score is
//! `s = p · (upstream·v - delta) · scale`; then `dq = Σ s·k`, `dk = Σ s·q` and `dv = Σ p·upstream`. A
//! pass over tiles of queries gives `dq`, one over tiles of keys the others: each sum belongs to one
//! cube, which takes its terms in one order.

use cubecl::prelude::*;

use super::tile::{SIDE, Tile, clear, load_rows, mix, products, store_rows};

/// `delta` of each query: a unit for each token and head.
#[cube(launch_unchecked)]
pub(crate) fn attention_deltas_kernel<X: Float>(
    mixed: &Tensor<Vector<X, Const<4>>>,
    upstream: &Tensor<Vector<X, Const<4>>>,
    deltas: &mut Tensor<f32>,
    total: usize,
    #[comptime] vectors: usize,
    #[define(X)] _element: ElemType,
) {
    if ABSOLUTE_POS < total {
        let mut sum = 0.0f32.runtime();
        for vector in 0..vectors {
            let place = ABSOLUTE_POS * vectors + vector;
            let product = Vector::<f32, Const<4>>::cast_from(mixed[place])
                * Vector::<f32, Const<4>>::cast_from(upstream[place]);
            #[unroll]
            for lane in 0..4usize {
                sum += product.extract(lane);
            }
        }
        deltas[ABSOLUTE_POS] = sum;
    }
}

/// `dq`: a cube takes a tile of queries of one head of one sequence, `[tiles, n, b]` cubes of 8 by 8.
///
/// # Source
///
/// Dao 2023 (FlashAttention-2, arXiv 2307.08691), algorithm 2, the sums of queries apart.
#[cube(launch_unchecked)]
pub(crate) fn attention_queries_kernel<X: Float>(
    q: &Tensor<Vector<X, Const<4>>>,
    k: &Tensor<Vector<X, Const<4>>>,
    v: &Tensor<Vector<X, Const<4>>>,
    upstream: &Tensor<Vector<X, Const<4>>>,
    log_sums: &Tensor<f32>,
    deltas: &Tensor<f32>,
    starts: &Tensor<i32>,
    dq: &mut Tensor<Vector<X, Const<4>>>,
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
    let score_pitch = comptime!(tile.score_pitch());

    let heads = CUBE_COUNT_Y as usize;
    let head = CUBE_POS_Y as usize;
    let kv_heads = heads / group;
    let kv_head = head / group;
    let sequence = CUBE_POS_Z as usize * positions;
    let first = ((positions - 1) / queries - CUBE_POS_X as usize) * queries;
    let rows = min(positions - first, queries.runtime());

    let mut q_tile =
        Shared::<[Vector<f32, Const<4>>]>::new_slice(comptime!(queries * tile.pitch()));
    let mut u_tile =
        Shared::<[Vector<f32, Const<4>>]>::new_slice(comptime!(queries * tile.pitch()));
    let mut kv_tile = Shared::<[Vector<f32, Const<4>>]>::new_slice(comptime!(keys * tile.pitch()));
    let mut slopes = Shared::<[f32]>::new_slice(comptime!(queries * score_pitch));

    let mut begins = Array::<usize>::new(comptime!(tile.queries));
    let mut logs = Array::<f32>::new(comptime!(tile.queries));
    let mut own_deltas = Array::<f32>::new(comptime!(tile.queries));
    #[unroll]
    for i in 0..comptime!(tile.queries) {
        let query = min(first + y + comptime!(SIDE * i), positions - 1);
        begins[i] = usize::cast_from(starts[sequence + query]);
        logs[i] = log_sums[(sequence + query) * heads + head];
        own_deltas[i] = deltas[(sequence + query) * heads + head];
    }
    let mut scores = Array::<f32>::new(comptime!(tile.queries * tile.keys));
    let mut values = Array::<f32>::new(comptime!(tile.queries * tile.keys));
    let mut sums = Array::<Vector<f32, Const<4>>>::new(comptime!(tile.queries * tile.chunks()));
    clear(&mut sums, comptime!(tile.queries * tile.chunks()));

    let q_first = ((sequence + first) * heads + head) * vectors;
    load_rows(q, &mut q_tile, q_first, heads * vectors, rows, queries, vectors);
    load_rows(upstream, &mut u_tile, q_first, heads * vectors, rows, queries, vectors);

    let end = first + rows;
    let mut key_first = usize::cast_from(starts[sequence + first]);
    while key_first < end {
        let kv_rows = min(end - key_first, keys.runtime());
        let kv_first = ((sequence + key_first) * kv_heads + kv_head) * vectors;
        load_rows(v, &mut kv_tile, kv_first, kv_heads * vectors, kv_rows, keys, vectors);
        sync_cube();
        products(&u_tile, &kv_tile, &mut values, tile);
        sync_cube();
        load_rows(k, &mut kv_tile, kv_first, kv_heads * vectors, kv_rows, keys, vectors);
        sync_cube();
        products(&q_tile, &kv_tile, &mut scores, tile);
        #[unroll]
        for i in 0..comptime!(tile.queries) {
            let place = y + comptime!(SIDE * i);
            let query = first + place;
            #[unroll]
            for j in 0..comptime!(tile.keys) {
                let key = key_first + x + comptime!(SIDE * j);
                let mut slope = 0.0f32.runtime();
                if key >= begins[i] && key <= query {
                    let weight = (scores[comptime!(i * tile.keys + j)] * scale - logs[i]).exp();
                    let value = values[comptime!(i * tile.keys + j)];
                    slope = weight * (value - own_deltas[i]) * scale;
                }
                slopes[place * score_pitch + x + comptime!(SIDE * j)] = slope;
            }
        }
        sync_cube();
        mix(
            &slopes,
            &kv_tile,
            &mut sums,
            keys,
            comptime!(tile.queries),
            comptime!([score_pitch, 1]),
            tile,
        );
        sync_cube();
        key_first += keys;
    }
    store_rows(&sums, dq, q_first, heads * vectors, rows, comptime!(tile.queries), tile);
}

/// `dk` and `dv`: a cube takes a tile of keys of one key/value head of one sequence,
/// `[tiles, k, b]` cubes of 8 by 8 units, and all queries of the group that see them.
///
/// # Source
///
/// As [`attention_queries_kernel`].
#[cube(launch_unchecked)]
pub(crate) fn attention_keys_kernel<X: Float>(
    q: &Tensor<Vector<X, Const<4>>>,
    k: &Tensor<Vector<X, Const<4>>>,
    v: &Tensor<Vector<X, Const<4>>>,
    upstream: &Tensor<Vector<X, Const<4>>>,
    log_sums: &Tensor<f32>,
    deltas: &Tensor<f32>,
    ends: &Tensor<i32>,
    dk: &mut Tensor<Vector<X, Const<4>>>,
    dv: &mut Tensor<Vector<X, Const<4>>>,
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
    let score_pitch = comptime!(tile.score_pitch());

    let kv_heads = CUBE_COUNT_Y as usize;
    let kv_head = CUBE_POS_Y as usize;
    let heads = kv_heads * group;
    let sequence = CUBE_POS_Z as usize * positions;
    let first = CUBE_POS_X as usize * keys;
    let rows = min(positions - first, keys.runtime());

    let mut k_tile = Shared::<[Vector<f32, Const<4>>]>::new_slice(comptime!(keys * tile.pitch()));
    let mut v_tile = Shared::<[Vector<f32, Const<4>>]>::new_slice(comptime!(keys * tile.pitch()));
    let mut q_tile =
        Shared::<[Vector<f32, Const<4>>]>::new_slice(comptime!(queries * tile.pitch()));
    let mut u_tile =
        Shared::<[Vector<f32, Const<4>>]>::new_slice(comptime!(queries * tile.pitch()));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(queries * score_pitch));
    let mut slopes = Shared::<[f32]>::new_slice(comptime!(queries * score_pitch));

    // The position behind the last query that sees each of the unit's keys.
    let mut lasts = Array::<usize>::new(comptime!(tile.keys));
    #[unroll]
    for j in 0..comptime!(tile.keys) {
        let key = min(first + x + comptime!(SIDE * j), positions - 1);
        lasts[j] = usize::cast_from(ends[sequence + key]);
    }
    let mut scores = Array::<f32>::new(comptime!(tile.queries * tile.keys));
    let mut values = Array::<f32>::new(comptime!(tile.queries * tile.keys));
    let mut dk_sums = Array::<Vector<f32, Const<4>>>::new(comptime!(tile.keys * tile.chunks()));
    let mut dv_sums = Array::<Vector<f32, Const<4>>>::new(comptime!(tile.keys * tile.chunks()));
    clear(&mut dk_sums, comptime!(tile.keys * tile.chunks()));
    clear(&mut dv_sums, comptime!(tile.keys * tile.chunks()));

    let kv_first = ((sequence + first) * kv_heads + kv_head) * vectors;
    load_rows(k, &mut k_tile, kv_first, kv_heads * vectors, rows, keys, vectors);
    load_rows(v, &mut v_tile, kv_first, kv_heads * vectors, rows, keys, vectors);

    // Documents end in order: no query from here on sees a key of the tile.
    let end = usize::cast_from(ends[sequence + first + rows - 1]);
    let mut member = 0usize.runtime();
    while member < group {
        let head = kv_head * group + member;
        let mut query_first = first;
        while query_first < end {
            let q_rows = min(end - query_first, queries.runtime());
            let q_first = ((sequence + query_first) * heads + head) * vectors;
            load_rows(q, &mut q_tile, q_first, heads * vectors, q_rows, queries, vectors);
            load_rows(upstream, &mut u_tile, q_first, heads * vectors, q_rows, queries, vectors);
            sync_cube();
            products(&q_tile, &k_tile, &mut scores, tile);
            products(&u_tile, &v_tile, &mut values, tile);
            #[unroll]
            for i in 0..comptime!(tile.queries) {
                let place = y + comptime!(SIDE * i);
                let query = query_first + place;
                let statistic = (sequence + min(query, positions - 1)) * heads + head;
                let log_sum = log_sums[statistic];
                let delta = deltas[statistic];
                #[unroll]
                for j in 0..comptime!(tile.keys) {
                    let key = first + x + comptime!(SIDE * j);
                    let mut weight = 0.0f32.runtime();
                    let mut slope = 0.0f32.runtime();
                    if key <= query && query < lasts[j] {
                        weight = (scores[comptime!(i * tile.keys + j)] * scale - log_sum).exp();
                        slope = weight * (values[comptime!(i * tile.keys + j)] - delta) * scale;
                    }
                    weights[place * score_pitch + x + comptime!(SIDE * j)] = weight;
                    slopes[place * score_pitch + x + comptime!(SIDE * j)] = slope;
                }
            }
            sync_cube();
            mix(
                &weights,
                &u_tile,
                &mut dv_sums,
                queries,
                comptime!(tile.keys),
                comptime!([1, score_pitch]),
                tile,
            );
            mix(
                &slopes,
                &q_tile,
                &mut dk_sums,
                queries,
                comptime!(tile.keys),
                comptime!([1, score_pitch]),
                tile,
            );
            sync_cube();
            query_first += queries;
        }
        member += 1;
    }
    store_rows(&dk_sums, dk, kv_first, kv_heads * vectors, rows, comptime!(tile.keys), tile);
    store_rows(&dv_sums, dv, kv_first, kv_heads * vectors, rows, comptime!(tile.keys), tile);
}

//! Causal attention within documents, with grouped queries.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

/// Which keys a query may not see.
#[derive(Clone, Debug)]
pub struct AttentionMask {
    /// `[b, 1, group·t, t]`, true where attention is forbidden.
    hidden: Tensor<4, Bool>,
}

impl AttentionMask {
    /// A query sees the keys at or before its own position that belong to its own document.
    ///
    /// # Shapes
    ///
    /// `segments` holds the document number of each position, `[b, t]` row-major; `group` is the
    /// number of query heads that share a key/value head.
    #[must_use]
    pub fn within_documents(
        segments: &[i32],
        [b, t]: [usize; 2],
        group: usize,
        device: &Device,
    ) -> Self {
        assert_eq!(segments.len(), b * t, "one document number for each position");
        let ids: Tensor<2, Int> =
            Tensor::from_data(TensorData::new(segments.to_vec(), [b, t]), device);
        let queries = ids.clone().reshape([b, 1, t, 1]).expand([b, 1, t, t]);
        let keys = ids.reshape([b, 1, 1, t]).expand([b, 1, t, t]);
        let future = Tensor::<2, Bool>::tril_mask([t, t], 0, device)
            .reshape([1, 1, t, t])
            .expand([b, 1, t, t]);
        let hidden = queries.not_equal(keys).bool_or(future);
        Self { hidden: hidden.repeat_dim(2, group) }
    }
}

/// Scaled dot-product attention, without repeating keys and values for the heads of a group.
///
/// # Shapes
///
/// `q` `[b, t, n, h]`, `k` and `v` `[b, t, k, h]` with `n` a multiple of `k`; gives `[b·t, n·h]`.
/// Query head `i` uses key/value head `i / (n/k)`, as Hugging Face's `repeat_kv` has it.
#[must_use]
pub fn causal_attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    mask: &AttentionMask,
) -> Tensor<2> {
    let [b, t, heads, h] = q.dims();
    let kv_heads = k.dims()[2];
    let group = heads / kv_heads;
    // The queries of a group are stacked along the position axis: one product serves them all.
    let q = (q * (h as f64).powf(-0.5)).swap_dims(1, 2).reshape([b, kv_heads, group * t, h]);
    let scores = q.matmul(k.permute([0, 2, 3, 1]));
    let hidden = mask.hidden.clone().expand([b, kv_heads, group * t, t]);
    // NUMERICS: a large negative number, not -inf: its gradient is 0 and never NaN.
    let weights = softmax(scores.mask_fill(hidden, -1e30));
    let mixed = weights.matmul(v.swap_dims(1, 2));
    mixed.reshape([b, heads, t, h]).swap_dims(1, 2).reshape([b * t, heads * h])
}

/// The softmax over the keys, written out.
///
// NUMERICS: a backend's own softmax may round differently with and without autodiff, and a layer
// that is recomputed must give the bits that it gave.
fn softmax(scores: Tensor<4>) -> Tensor<4> {
    let maximum = scores.clone().detach().max_dim(3);
    let exponentials = (scores - maximum).exp();
    exponentials.clone() / exponentials.sum_dim(3)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    fn naive(q: &[f32], k: &[f32], v: &[f32], segments: &[i32], dims: [usize; 4]) -> Vec<f64> {
        let [t, heads, kv_heads, h] = dims;
        let mut out = vec![0.0; t * heads * h];
        for head in 0..heads {
            let kv = head / (heads / kv_heads);
            for i in 0..t {
                let keys: Vec<usize> = (0..=i).filter(|&j| segments[j] == segments[i]).collect();
                let score = |j: usize| {
                    (0..h)
                        .map(|c| {
                            f64::from(q[(i * heads + head) * h + c])
                                * f64::from(k[(j * kv_heads + kv) * h + c])
                        })
                        .sum::<f64>()
                        / (h as f64).sqrt()
                };
                let weights: Vec<f64> = keys.iter().map(|&j| score(j).exp()).collect();
                let total: f64 = weights.iter().sum();
                for (&j, weight) in keys.iter().zip(&weights) {
                    for c in 0..h {
                        out[(i * heads + head) * h + c] +=
                            weight / total * f64::from(v[(j * kv_heads + kv) * h + c]);
                    }
                }
            }
        }
        out
    }

    #[test]
    fn agrees_with_the_definition() {
        let device = Device::flex();
        for (dims, segments) in [
            ([5, 4, 2, 8], vec![0, 0, 0, 0, 0]),
            ([6, 3, 1, 2], vec![0, 1, 1, 2, 2, 2]),
            ([1, 1, 1, 4], vec![0]),
        ] {
            let [t, heads, kv_heads, h] = dims;
            let random =
                |n| Tensor::<4>::random([1, t, n, h], Distribution::Normal(0.0, 1.0), &device);
            let (q, k, v) = (random(heads), random(kv_heads), random(kv_heads));
            let mask =
                AttentionMask::within_documents(&segments, [1, t], heads / kv_heads, &device);
            let found: Vec<f32> = causal_attention(q.clone(), k.clone(), v.clone(), &mask)
                .into_data()
                .try_to_vec()
                .unwrap();
            let host = |x: Tensor<4>| x.into_data().try_to_vec::<f32>().unwrap();
            let expected = naive(&host(q), &host(k), &host(v), &segments, dims);
            for (found, expected) in found.iter().zip(&expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }
}

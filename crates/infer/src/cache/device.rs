//! The cache in a device's memory, by the tensor library's own operations.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, DType, Device, FloatDType, IndexingUpdateOp, Int, Tensor, TensorData};
use terrace_model::Precision;

use super::{CacheShape, Span};

/// The keys that are attended to are a multiple of this, those beyond the last hidden: shapes change
/// seldom, and with them what a device tunes or compiles for a shape.
const KEYS_MULTIPLE: usize = 64;

/// A large negative number, not minus infinity: a row of which all is hidden stays a number.
const HIDDEN: f64 = -1e30;

/// Keys and values, each `[slots·k·length, h]` for every layer: one tensor, so that the new positions of
/// all sequences are written by one operation, in place.
pub(crate) struct DeviceCache {
    shape: CacheShape,
    device: Device,
    /// By layer; none only while they are being changed.
    layers: Vec<Option<[Tensor<2>; 2]>>,
}

/// Where the rows of a pass go and what they see: the same for all layers.
pub(crate) struct DevicePlan {
    /// The places of new keys and values, `[rows·k, 1]`.
    places: Tensor<2, Int>,
    /// The sequences that have one new position.
    single: Option<Single>,
    /// The others.
    several: Vec<Several>,
    /// The place of each row among those of all groups, `[rows]`.
    order: Tensor<1, Int>,
}

/// Sequences with one new position each, which attend together: all slots from the first of them to
/// the last, as they lie in the cache, so that no key is copied. What the slots between them would
/// attend to is computed for nothing.
struct Single {
    first_slot: usize,
    slots: usize,
    /// The row of each slot, or any, `[slots]`.
    rows: Tensor<1, Int>,
    /// True where attention is forbidden, `[slots, 1, 1, keys]`.
    hidden: Tensor<4, Bool>,
}

/// A sequence with several new positions.
struct Several {
    slot: usize,
    first_row: usize,
    count: usize,
    /// True where attention is forbidden, `[1, 1, group·count, keys]`.
    hidden: Tensor<4, Bool>,
}

impl DeviceCache {
    pub(super) fn new(shape: CacheShape, device: &Device, precision: Precision) -> Self {
        let CacheShape { layers, slots, length, kv_heads, head_dim, .. } = shape;
        let dtype = DType::from(FloatDType::from(precision));
        let zeros = || Tensor::zeros([slots * kv_heads * length, head_dim], (device, dtype));
        let layers = (0..layers).map(|_| Some([zeros(), zeros()])).collect();
        Self { shape, device: device.clone(), layers }
    }

    /// Prepares a pass over new positions of sequences of different slots.
    pub(super) fn plan(&self, spans: &[Span]) -> DevicePlan {
        let rows: usize = spans.iter().map(|span| span.count).sum();
        let places: Vec<i32> =
            spans.iter().flat_map(|span| self.places(span.slot, span.start, span.count)).collect();
        let single = self.single(spans);
        let mut order = vec![0; rows];
        let mut next = single.as_ref().map_or(0, |single| single.slots);
        let mut several = Vec::new();
        let mut row = 0;
        for span in spans {
            match &single {
                Some(single) if span.count == 1 => {
                    order[row] = (span.slot - single.first_slot) as i32;
                }
                _ => {
                    (0..span.count).for_each(|i| order[row + i] = (next + i) as i32);
                    next += span.count;
                    several.push(self.several(span, row));
                }
            }
            row += span.count;
        }
        DevicePlan {
            places: self.integers(places).reshape([rows * self.shape.kv_heads, 1]),
            single,
            several,
            order: self.integers(order),
        }
    }

    pub(super) fn attend(
        &mut self,
        layer: usize,
        plan: &DevicePlan,
        q: &Tensor<2>,
        k: Tensor<2>,
        v: Tensor<2>,
    ) -> Tensor<2> {
        let CacheShape { kv_heads, head_dim, .. } = self.shape;
        let rows = k.dims()[0] * kv_heads;
        let heads = |x: Tensor<2>| x.reshape([rows, head_dim]);
        self.change(layer, |keys, values| {
            [
                write(keys, plan.places.clone(), heads(k)),
                write(values, plan.places.clone(), heads(v)),
            ]
        });
        let mut mixed = Vec::new();
        if let Some(single) = &plan.single {
            let q = q.clone().select(0, single.rows.clone());
            mixed.push(self.mix(layer, single.first_slot, [single.slots, 1], q, &single.hidden));
        }
        for several in &plan.several {
            let Several { slot, first_row, count, .. } = *several;
            let q = q.clone().narrow(0, first_row, count);
            mixed.push(self.mix(layer, slot, [1, count], q, &several.hidden));
        }
        Tensor::cat(mixed, 0).select(0, plan.order.clone())
    }

    pub(super) fn copy(&mut self, from: usize, to: usize, count: usize) {
        let source = self.integers(self.places(from, 0, count).collect());
        let places = self.integers(self.places(to, 0, count).collect());
        let places = places.reshape([count * self.shape.kv_heads, 1]);
        for layer in 0..self.shape.layers {
            self.change(layer, |keys, values| {
                [keys, values].map(|x| {
                    // Taken out first: while anybody looks at the tensor it cannot be changed in place.
                    let rows = x.clone().select(0, source.clone());
                    write(x, places.clone(), rows)
                })
            });
        }
    }

    /// The places of positions `start..start + count` of a slot, position by position, head by head.
    fn places(&self, slot: usize, start: usize, count: usize) -> impl Iterator<Item = i32> + use<> {
        let CacheShape { kv_heads, length, .. } = self.shape;
        let head = move |position| {
            (0..kv_heads).map(move |head| ((slot * kv_heads + head) * length + position) as i32)
        };
        (start..start + count).flat_map(head)
    }

    fn single(&self, spans: &[Span]) -> Option<Single> {
        let alone = || spans.iter().filter(|span| span.count == 1);
        let first_slot = alone().map(|span| span.slot).min()?;
        let last_slot = alone().map(|span| span.slot).max()?;
        let slots = last_slot - first_slot + 1;
        let keys = self.keys(alone().map(|span| span.start + 1).max()?);
        let (mut rows, mut seen) = (vec![0; slots], vec![1; slots]);
        let mut row = 0;
        for span in spans {
            if span.count == 1 {
                rows[span.slot - first_slot] = row as i32;
                seen[span.slot - first_slot] = (span.start + 1) as i32;
            }
            row += span.count;
        }
        let seen = self.integers(seen).reshape([slots, 1, 1, 1]).expand([slots, 1, 1, keys]);
        let positions = self.integers((0..keys as i32).collect());
        let positions = positions.reshape([1, 1, 1, keys]).expand([slots, 1, 1, keys]);
        let hidden = positions.greater_equal(seen);
        Some(Single { first_slot, slots, rows: self.integers(rows), hidden })
    }

    fn several(&self, span: &Span, first_row: usize) -> Several {
        let Span { slot, start, count } = *span;
        let keys = self.keys(start + count);
        let group = self.shape.heads / self.shape.kv_heads;
        let future = Tensor::<2, Bool>::tril_mask([count, keys], start as i64, &self.device);
        let hidden = future.reshape([1, 1, count, keys]).repeat_dim(2, group);
        Several { slot, first_row, count, hidden }
    }

    /// The keys to look at where `count` are needed.
    fn keys(&self, count: usize) -> usize {
        count.next_multiple_of(KEYS_MULTIPLE).min(self.shape.length)
    }

    /// Attends from `count` queries to each of some slots; rows are slot by slot.
    ///
    /// The queries of a group are stacked along the position axis: one product serves them all.
    ///
    // NUMERICS: products in the cache's precision, softmax in f32.
    fn mix(
        &self,
        layer: usize,
        first_slot: usize,
        [slots, count]: [usize; 2],
        q: Tensor<2>,
        hidden: &Tensor<4, Bool>,
    ) -> Tensor<2> {
        let CacheShape { heads, kv_heads, length, head_dim: h, .. } = self.shape;
        let (stacked, keys) = (heads / kv_heads * count, hidden.dims()[3]);
        let dtype = q.dtype();
        let view = |x: &Tensor<2>| {
            let all = x.clone().reshape([self.shape.slots, kv_heads, length, h]);
            all.narrow(0, first_slot, slots).narrow(2, 0, keys)
        };
        let [k, v] = self.layers[layer].as_ref().expect("nobody is changing it");
        let q = q.reshape([slots, count, heads, h]).swap_dims(1, 2);
        let q = q.reshape([slots, kv_heads, stacked, h]);
        let scores = q.matmul(view(k).swap_dims(2, 3)).cast(FloatDType::F32);
        let scores = scores * (h as f64).powf(-0.5);
        let hidden = hidden.clone().expand([slots, kv_heads, stacked, keys]);
        let weights = softmax(scores.mask_fill(hidden, HIDDEN), 3).cast(dtype);
        let mixed = weights.matmul(view(v)).reshape([slots, heads, count, h]);
        mixed.swap_dims(1, 2).reshape([slots * count, heads * h])
    }

    /// Changes a layer's tensors without anybody else holding them, so that it can be done in place.
    fn change(&mut self, layer: usize, f: impl FnOnce(Tensor<2>, Tensor<2>) -> [Tensor<2>; 2]) {
        let [keys, values] = self.layers[layer].take().expect("nobody else is changing it");
        self.layers[layer] = Some(f(keys, values));
    }

    fn integers(&self, values: Vec<i32>) -> Tensor<1, Int> {
        let count = values.len();
        Tensor::from_data(TensorData::new(values, [count]), (&self.device, DType::I32))
    }
}

fn write(cache: Tensor<2>, places: Tensor<2, Int>, rows: Tensor<2>) -> Tensor<2> {
    cache.scatter_nd(places, rows, IndexingUpdateOp::Assign)
}

//! Keys and values of the positions that were computed, allocated once.

mod device;
mod host;

use burn::tensor::{Device, Tensor};
use terrace_config::Architecture;
use terrace_kernels::host::is_host;

use self::device::DeviceCache;
use self::host::HostCache;

/// New positions of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The sequence's place in the cache.
    pub(crate) slot: usize,
    /// The positions that are there already.
    pub(crate) start: usize,
    /// The number of new ones.
    pub(crate) count: usize,
}

/// The extents of a cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheShape {
    pub(crate) layers: usize,
    pub(crate) slots: usize,
    /// Positions of a slot.
    pub(crate) length: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

/// Keys and values of `slots` sequences; a key/value head is stored once, whatever the heads of its group.
pub(crate) enum Cache {
    Host(HostCache),
    Device(DeviceCache),
}

impl Cache {
    pub(crate) fn new(
        architecture: &Architecture,
        slots: usize,
        length: usize,
        device: &Device,
        composed: bool,
    ) -> Self {
        let shape = CacheShape {
            layers: architecture.num_hidden_layers as usize,
            slots,
            length,
            heads: architecture.num_attention_heads as usize,
            kv_heads: architecture.num_key_value_heads as usize,
            head_dim: architecture.head_dim as usize,
        };
        if is_host(device) && !composed {
            Self::Host(HostCache::new(shape))
        } else {
            Self::Device(DeviceCache::new(shape, device))
        }
    }

    /// Keeps the keys and values of the spans' positions, then attends.
    ///
    /// # Shapes
    ///
    /// `q` `[rows, n·h]`, `k` and `v` `[rows, k·h]`, the spans' rows one after the other; gives `[rows, n·h]`.
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        spans: &[Span],
        q: Tensor<2>,
        k: Tensor<2>,
        v: Tensor<2>,
    ) -> Tensor<2> {
        match self {
            Self::Host(cache) => cache.attend(layer, spans, q, k, v),
            Self::Device(cache) => cache.attend(layer, spans, &q, &k, &v),
        }
    }

    /// Copies the first `count` positions of one slot to another.
    pub(crate) fn copy(&mut self, from: usize, to: usize, count: usize) {
        match self {
            Self::Host(cache) => cache.copy(from, to, count),
            Self::Device(cache) => cache.copy(from, to, count),
        }
    }
}

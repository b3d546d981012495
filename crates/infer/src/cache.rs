//! Keys and values of the positions that were computed, allocated once.

mod device;
mod host;

use burn::tensor::{Device, Tensor};
use terrace_config::Architecture;
use terrace_kernels::host::is_host;
use terrace_model::Precision;

use self::device::{DeviceCache, DevicePlan};
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

/// Where the rows of a pass go and what they see.
pub(crate) enum Plan {
    Host(Vec<Span>),
    Device(Box<DevicePlan>),
}

impl Cache {
    pub(crate) fn new(
        architecture: &Architecture,
        slots: usize,
        length: usize,
        device: &Device,
        precision: Precision,
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
        if is_host(device) && precision == Precision::F32 && !composed {
            Self::Host(HostCache::new(shape))
        } else {
            Self::Device(DeviceCache::new(shape, device, precision))
        }
    }

    /// Prepares a pass over new positions: what is the same for all layers.
    pub(crate) fn plan(&self, spans: Vec<Span>) -> Plan {
        match self {
            Self::Host(_) => Plan::Host(spans),
            Self::Device(cache) => Plan::Device(Box::new(cache.plan(&spans))),
        }
    }

    /// Keeps the keys and values of the planned positions, then attends.
    ///
    /// # Shapes
    ///
    /// `q` `[rows, n·h]`, `k` and `v` `[rows, k·h]`, the spans' rows one after the other; gives `[rows, n·h]`.
    ///
    /// # Panics
    ///
    /// The plan is another cache's.
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        plan: &Plan,
        q: Tensor<2>,
        k: Tensor<2>,
        v: Tensor<2>,
    ) -> Tensor<2> {
        match (self, plan) {
            (Self::Host(cache), Plan::Host(spans)) => cache.attend(layer, spans, q, k, v),
            (Self::Device(cache), Plan::Device(plan)) => cache.attend(layer, plan, &q, k, v),
            _ => unreachable!("a cache is asked with its own plans"),
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

//! What fits beside what: the bytes of weights and cache.

use terrace_base::Dtype;
use terrace_config::Architecture;
use terrace_model::Precision;
use terrace_model::hf::Quantization;

/// What a device's driver, its kernels and the tensors of a pass take beside weights and cache.
///
/// # Units
///
/// Bytes.
pub const RESERVED_BYTES: u64 = 3 << 29;

/// How the weights are stored. What is in fewer than four bytes has norms and embedding in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightFormat {
    /// Four bytes each.
    F32,
    /// Two bytes each.
    Bf16,
    /// One byte each in every linear map, with a scale of 16 bits for every 32; the embedding in
    /// BF16, and the projection to the vocabulary with it where it is tied.
    Int8,
}

/// The bytes of a model's weights.
///
/// # Units
///
/// Bytes.
#[must_use]
pub fn weights_bytes(architecture: &Architecture, format: WeightFormat) -> u64 {
    match format {
        WeightFormat::F32 => 4 * architecture.parameter_count(),
        WeightFormat::Bf16 => 2 * architecture.parameter_count(),
        WeightFormat::Int8 => {
            let lm_head = !architecture.tie_word_embeddings;
            Quantization { lm_head }.weight_bytes(architecture, Dtype::Bf16)
        }
    }
}

/// The bytes of the weights of a folder, loaded in a precision: integers are integers in each.
///
/// # Units
///
/// Bytes.
#[must_use]
pub fn loaded_bytes(
    architecture: &Architecture,
    quantization: Option<Quantization>,
    precision: Precision,
) -> u64 {
    match quantization {
        Some(scheme) => scheme.weight_bytes(architecture, precision.dtype()),
        None => precision.bytes() * architecture.parameter_count(),
    }
}

/// The bytes of keys and values of `sequences` sequences of `length` positions.
///
/// # Units
///
/// Bytes, `element_bytes` for each number.
#[must_use]
pub fn cache_bytes(
    architecture: &Architecture,
    element_bytes: u64,
    sequences: u64,
    length: u64,
) -> u64 {
    let a = architecture;
    2 * a.num_hidden_layers
        * a.num_key_value_heads
        * a.head_dim
        * element_bytes
        * sequences
        * length
}

/// The bytes of the scores of `rows` new positions of one sequence of `length`, where attention holds
/// them: everywhere but on the processor in f32. They are there as products, twice in f32 while the
/// softmax is taken, and with a byte for what is hidden.
///
/// # Units
///
/// Bytes.
#[must_use]
pub fn scores_bytes(
    architecture: &Architecture,
    precision: Precision,
    rows: u64,
    length: u64,
) -> u64 {
    let each = precision.bytes() + 2 * size_of::<f32>() as u64 + 1;
    architecture.num_attention_heads * rows.min(length) * length * each
}

/// The sequences of `length` positions whose cache fits beside the weights in `bytes`.
#[must_use]
pub fn sequences_that_fit(
    architecture: &Architecture,
    format: WeightFormat,
    element_bytes: u64,
    length: u64,
    bytes: u64,
) -> u64 {
    let one = cache_bytes(architecture, element_bytes, 1, length);
    bytes.saturating_sub(weights_bytes(architecture, format)) / one.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn yi_9b() -> Architecture {
        Architecture::named("yi-9b").unwrap()
    }

    #[test]
    fn yi_9b_fits_a_card_of_24_gib() {
        let yi = yi_9b();
        let room = 24 * GIB - 3 * GIB / 2;
        assert_eq!(weights_bytes(&yi, WeightFormat::Bf16), 2 * 8_829_407_232);
        // 96 KiB a token.
        assert_eq!(cache_bytes(&yi, 2, 1, 4096), 4096 * 96 * 1024);
        let beside = |format| sequences_that_fit(&yi, format, 2, 4096, room);
        assert!(beside(WeightFormat::Bf16) >= 12, "{}", beside(WeightFormat::Bf16));
        assert!(beside(WeightFormat::Int8) >= 32, "{}", beside(WeightFormat::Int8));
        assert_eq!([beside(WeightFormat::Bf16), beside(WeightFormat::Int8)], [16, 36]);
        assert_eq!(beside(WeightFormat::F32), 0);
    }

    #[test]
    fn what_is_loaded_is_what_the_formats_say() {
        let yi = yi_9b();
        let integers = Some(Quantization { lm_head: true });
        for (quantization, precision, format) in [
            (None, Precision::F32, WeightFormat::F32),
            (None, Precision::Bf16, WeightFormat::Bf16),
            (integers, Precision::Bf16, WeightFormat::Int8),
        ] {
            let loaded = loaded_bytes(&yi, quantization, precision);
            assert_eq!(loaded, weights_bytes(&yi, format));
        }
        let wide = loaded_bytes(&yi, integers, Precision::F32);
        assert!(wide - weights_bytes(&yi, WeightFormat::Int8) == 2 * (64000 + 97) * 4096);
    }

    #[test]
    fn a_tied_projection_is_stored_once() {
        let tied = Architecture { tie_word_embeddings: true, ..yi_9b() };
        for format in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Int8] {
            assert!(weights_bytes(&tied, format) < weights_bytes(&yi_9b(), format));
        }
    }
}

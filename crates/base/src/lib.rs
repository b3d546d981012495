//! Units, seed streams, fingerprints and atomic file writes: what every other crate stands on.

mod fingerprint;
pub mod fs;
mod seed;
mod tensor_file;
mod units;

pub use fingerprint::{Fingerprint, FingerprintHasher, ParseFingerprintError, StreamHasher};
pub use seed::{Seed, SeedStream};
pub use tensor_file::{Dtype, TensorEntry, TensorFileWriter};
pub use units::{
    AmountFault, ParseTokensError, SequenceIndex, Tokens, format_bytes, format_count,
    format_grouped, parse_amount,
};

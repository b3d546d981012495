//! From tokens to text as they come, and where the text ends.

mod detokenizer;
mod stops;

pub use detokenizer::Detokenizer;
pub use stops::StopScanner;

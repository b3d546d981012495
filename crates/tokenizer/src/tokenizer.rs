use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use terrace_base::Fingerprint;
use tokenizers::pipeline::{EncodeOptions, Override, PipelineToken, PipelineTokenizer};

use crate::bytes::Vocabulary;
use crate::{Error, Result};

/// A tokenizer in Hugging Face format, read-only and shared freely between threads.
///
/// Encoding runs on the calling thread alone: who wants all cores calls it from all cores.
pub struct Tokenizer {
    pipeline: PipelineTokenizer,
    ids: HashMap<String, u32>,
    byte_lengths: Vec<u32>,
    special: Vec<bool>,
    fingerprint: Fingerprint,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, also one written by an older version of the library.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no JSON, or holds a component that is not supported (a model
    /// other than BPE and Unigram, `ByteLevel` with a prefix space).
    pub fn load(path: &Path) -> Result<Self> {
        let text =
            std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let original: Value = serde_json::from_slice(&text)
            .map_err(|source| Error::Json { path: path.to_owned(), source })?;
        Self::from_value(original)
            .map_err(|reason| Error::Unsupported { path: path.to_owned(), reason })
    }

    fn from_value(mut original: Value) -> Result<Self, String> {
        let mut canonical = original.clone();
        tk_convert::canonicalize_value(&mut canonical).map_err(|error| error.to_string())?;
        let vocabulary = Vocabulary::read(&canonical)?;
        let pipeline = tokenizers::from_json(&canonical.to_string()).map_err(|e| e.to_string())?;
        // Sorted keys: saving a file again with other whitespace or key order is no change.
        original.sort_all_objects();
        Ok(Self {
            pipeline,
            ids: vocabulary.ids,
            byte_lengths: vocabulary.byte_lengths,
            special: vocabulary.special,
            fingerprint: Fingerprint::of_bytes(original.to_string().as_bytes()),
        })
    }

    /// The ids of a text; no special token is added, the file's truncation and padding are off.
    ///
    /// The text of a special token (`<|endoftext|>` in a web page) is encoded like any other text
    /// and never becomes the special id, so a document cannot end itself. Added tokens that are
    /// not special (runs of spaces, say) are matched as the file says.
    ///
    /// # Errors
    ///
    /// The text is longer than 4 GiB once normalised.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, true)
    }

    /// The ids of a text in which special tokens, as they are written, become their ids: for texts
    /// whose writer may end a document, such as a prompt or a filled-in chat template.
    ///
    /// # Errors
    ///
    /// The text is longer than 4 GiB once normalised.
    pub fn encode_with_specials(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, false)
    }

    fn encode_as(&self, text: &str, specials_as_text: bool) -> Result<Vec<u32>> {
        let options = EncodeOptions {
            add_special_tokens: false,
            encode_special_tokens: specials_as_text,
            padding: Override::Off,
            truncation: Override::Off,
        };
        let mut tokens = Vec::with_capacity(text.len() / 3);
        self.pipeline
            .encode_into(text, &options, &mut tokens)
            .map_err(|error| Error::Encode { bytes: text.len(), reason: error.to_string() })?;
        Ok(PipelineToken::cast_slice(&tokens).to_vec())
    }

    /// The text of some ids; special tokens appear as they are written, and bytes that are not
    /// UTF-8 (a character cut at the end) as the replacement character.
    ///
    /// # Errors
    ///
    /// An id is outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        if let Some(&id) = ids.iter().find(|id| **id as usize >= self.vocab_size()) {
            return Err(Error::UnknownId { id, vocab_size: self.vocab_size() });
        }
        self.pipeline
            .decode(ids, false)
            .map_err(|error| Error::Decode { tokens: ids.len(), reason: error.to_string() })
    }

    /// How many bytes of text each id stands for, indexed by id; special tokens and unused ids
    /// have 0.
    ///
    /// For a byte-level vocabulary the lengths of an encoding add up to the length of the text.
    /// With byte fallback and `▁` for a space they do so too, but for the space that such
    /// tokenizers put before a text and after each added token in it, which counts as one byte.
    ///
    /// # Units
    ///
    /// Bytes of UTF-8.
    #[must_use]
    pub fn byte_lengths(&self) -> &[u32] {
        &self.byte_lengths
    }

    /// One more than the largest id, added tokens included: the least number of embedding rows.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.byte_lengths.len()
    }

    /// The id of a token as it is written in the file.
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// Whether an id is a special token.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }

    /// The hash of the file's content, whatever its whitespace and order of keys.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

//! Why a model does not answer.

/// Why a request was not taken, or a model stopped answering.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The prompt and what is to be generated do not fit the model's context.
    #[error(
        "the prompt has {prompt} tokens and {new} more are asked for, but the context of the model is \
         {context} tokens"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens to be generated at most.
        new: usize,
        /// Tokens that the model can attend to.
        context: usize,
    },
    /// A prompt without a token: there is nothing to continue.
    #[error("the prompt has no token: there is nothing to continue; give it at least one")]
    Empty,
    /// A token outside the vocabulary.
    #[error(
        "token {token} is outside the vocabulary of {vocab_size} tokens; use the tokenizer of this model"
    )]
    UnknownToken {
        /// The token.
        token: u32,
        /// The tokens that there are.
        vocab_size: usize,
    },
    /// A setting that makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The device or the memory gave out; the model answers nothing more.
    #[error("inference failed: {0}")]
    Device(String),
}

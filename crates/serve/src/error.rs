use std::net::SocketAddr;

/// Why the server does not start, or stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; choose another port, or end what listens there")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A setting has a value that cannot be worked with.
    #[error("{name} is {found}, expected {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The tokenizer's configuration is no JSON object.
    #[error("the tokenizer's configuration is not a JSON object: {0}")]
    Texts(String),
    /// The chat template cannot be read.
    #[error("the chat template cannot be used: {0}; repair it, or serve the model without it")]
    Template(String),
    /// The operating system gives no thread.
    #[error("no thread for the server")]
    Thread(#[source] std::io::Error),
}

/// A result whose error is the server's.
pub type Result<T, E = Error> = std::result::Result<T, E>;

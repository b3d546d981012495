//! The server through real sockets, against a model whose every probability is known.

mod bigram;
mod chat;
mod client;
mod completions;
mod crowd;
mod failures;
mod fuzz;
mod host;
mod limits;
mod routes;
mod streams;

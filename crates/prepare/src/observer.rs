/// What the preparation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading, filtering and tokenising documents; bytes are those of the input files.
    Reading,
    /// Sorting, deduplicating, packing and writing; bytes are those of the tokens set aside.
    Writing,
}

/// How far the preparation is.
///
/// # Units
///
/// Bytes as the phase says; documents and tokens since the phase began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Whether it is done to the held-out part, which comes first.
    pub held_out: bool,
    /// Bytes behind us.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes_total: u64,
    /// Documents that went through.
    pub documents: u64,
    /// Tokens of those documents.
    pub tokens: u64,
}

/// Who is told how far the preparation is, from any thread, after every few megabytes.
pub trait ProgressObserver: Sync {
    /// Takes note.
    fn progress(&self, progress: &Progress);
}

/// Takes no note.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl ProgressObserver for Silent {
    fn progress(&self, _: &Progress) {}
}

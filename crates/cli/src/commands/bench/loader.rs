//! `terrace bench loader`: how fast draws become batches, with a model that only reads them.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use terrace_base::{Fingerprint, Seed};
use terrace_data::{EditionHeader, Manifest, MicroBatch, Packing, write_documents};
use terrace_policy::mixture::{Journal, MixtureSchedule, Segment, SourceEdition};
use terrace_train::Loader;

use super::{median, require_memory, resident_bytes};
use crate::args::BenchLoaderArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::{Table, grouped};

/// Ids below this are drawn; an id takes two bytes, as with every vocabulary up to 65,536.
const VOCABULARY: usize = 8192;
/// Documents have from 16 tokens to 16 · 2⁷, each length as likely as its double.
const SHORTEST: f64 = 16.0;
const DOUBLINGS: f64 = 7.0;

#[derive(Serialize)]
struct Answer {
    batch_sequences: usize,
    sequence_length: usize,
    tokens_on_disk: u64,
    repeats: u16,
    results: Vec<Measurement>,
    /// Of the whole process, the pages of the mapped shards among them.
    peak_memory_bytes: Option<u64>,
}

/// One number of sources, read by some threads, each with a place of its own in the order.
#[derive(Serialize)]
struct Measurement {
    sources: usize,
    threads: usize,
    /// The median, of the slowest thread.
    seconds: f64,
    tokens_per_second: f64,
    tokens_per_second_per_thread: f64,
    /// Of one draw alone, on one thread.
    draw_nanoseconds: f64,
}

/// Measures each number of sources.
pub(crate) fn run(args: &BenchLoaderArgs, context: &Context) -> Result<ExitCode, CliError> {
    // Token, target, position and document of each place.
    let tokens = args.batch.sequences as u128 * args.batch.sequence_length as u128;
    require_memory(16 * tokens)?;
    let mut results = Vec::new();
    let mut tokens_on_disk = 0;
    for sources in args.sources.iter().copied().map(usize::from) {
        context.note(&format!("{sources} sources"));
        let folder = tempfile::tempdir().map_err(CliError::environment)?;
        let (loader, tokens) = open(args, sources, folder.path())?;
        tokens_on_disk = tokens_on_disk.max(tokens);
        let draw_nanoseconds = draw_nanoseconds(args, loader.schedule());
        let mut counts = vec![1, rayon::current_num_threads()];
        counts.dedup();
        for threads in counts {
            results.push(measure(args, &loader, threads, draw_nanoseconds));
        }
    }
    let answer = Answer {
        batch_sequences: args.batch.sequences,
        sequence_length: args.batch.sequence_length,
        tokens_on_disk,
        repeats: args.repeats,
        results,
        peak_memory_bytes: resident_bytes("VmHWM:"),
    };
    context.answer(&answer, || text(&answer));
    Ok(ExitCode::Done)
}

/// Writes the editions and opens them; also says how many tokens they have.
fn open(args: &BenchLoaderArgs, sources: usize, folder: &Path) -> Result<(Loader, u64), CliError> {
    let t = args.batch.sequence_length;
    let mut editions: Vec<(String, PathBuf)> = Vec::new();
    let mut planned = Vec::new();
    let mut tokens = 0;
    for source in 0..sources {
        let name = format!("source-{source}");
        let place = folder.join(&name);
        let manifest = write(&name, &place, args.tokens as usize / sources, t)?;
        tokens += manifest.tokens;
        planned.push(SourceEdition {
            name: name.clone(),
            fingerprint: manifest.fingerprint,
            windows: manifest.windows,
            max_windows: None,
        });
        editions.push((name, place));
    }
    // Unequal weights, as mixtures have them.
    let weights = (1..=sources as u64).collect();
    let segment = Segment::constant(sequences(args), weights);
    let schedule =
        MixtureSchedule::new(Seed(1), planned, vec![segment]).map_err(CliError::input)?;
    let loader = Loader::open(schedule, &editions, t, args.batch.sequences)
        .map_err(CliError::environment)?;
    Ok((loader, tokens))
}

/// Writes an edition of documents of mixed lengths.
fn write(name: &str, place: &Path, tokens: usize, t: usize) -> Result<Manifest, CliError> {
    let stream = Seed(1).stream(name);
    let lengths = Seed(1).stream(&format!("{name}, lengths"));
    let mut documents: Vec<Vec<u32>> = Vec::new();
    let mut left = tokens.max(t + 1);
    while left > 0 {
        let doublings = lengths.unit(documents.len() as u64) * DOUBLINGS;
        let length = ((SHORTEST * doublings.exp2()) as usize).min(left);
        let first = left as u64;
        let id = |i: u64| (stream.at((first << 12) | i) % VOCABULARY as u64) as u32;
        documents.push((0..length as u64).map(id).collect());
        left -= length;
    }
    let header = EditionHeader {
        source: name.to_owned(),
        sequence_length: t,
        packing: Packing::ConcatAndChunk,
        eos_token_id: None,
        tokenizer: Fingerprint::of_bytes(b"random tokens"),
        byte_lengths: Arc::from(vec![1; VOCABULARY]),
    };
    write_documents(place, header, &documents).map_err(CliError::environment)
}

/// Sequences that a thread takes for one measurement; whole steps.
fn sequences(args: &BenchLoaderArgs) -> u64 {
    let step = args.batch.sequences as u64;
    let wanted = u64::from(args.read).div_ceil(args.batch.sequence_length as u64);
    wanted.div_ceil(step) * step
}

fn measure(
    args: &BenchLoaderArgs,
    loader: &Loader,
    threads: usize,
    draw_nanoseconds: f64,
) -> Measurement {
    let times = (0..=args.repeats).map(|_| {
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| read(args, loader));
            }
        });
        begin.elapsed().as_secs_f64()
    });
    // The first reads the files from the disk.
    let seconds = median(times.skip(1).collect());
    let tokens = sequences(args) * args.batch.sequence_length as u64 * threads as u64;
    let tokens_per_second = tokens as f64 / seconds;
    Measurement {
        sources: loader.names().len(),
        threads,
        seconds,
        tokens_per_second,
        tokens_per_second_per_thread: tokens_per_second / threads as f64,
        draw_nanoseconds,
    }
}

/// Takes all steps of the schedule, and reads them as a model would.
fn read(args: &BenchLoaderArgs, loader: &Loader) {
    let mut cursor = loader.schedule().cursor_at_start();
    let journal = Journal::default();
    let step = args.batch.sequences as u64;
    for _ in 0..sequences(args) / step {
        let batch = loader.take(&mut cursor, &journal, step);
        assert_eq!(batch.draws.len() as u64, step, "the schedule has all steps");
        black_box(batch.micro_batches.iter().map(touch).fold(0, i32::wrapping_add));
    }
}

fn touch(batch: &MicroBatch) -> i32 {
    let columns = [&batch.tokens, &batch.targets, &batch.positions, &batch.segments];
    let sum = |column: &Vec<i32>| column.iter().copied().fold(0, i32::wrapping_add);
    columns.into_iter().map(sum).fold(0, i32::wrapping_add)
}

/// The median time of a draw, over all draws of the schedule.
fn draw_nanoseconds(args: &BenchLoaderArgs, schedule: &MixtureSchedule) -> f64 {
    let journal = Journal::default();
    let times = (0..=args.repeats).map(|_| {
        let mut cursor = schedule.cursor_at_start();
        let begin = Instant::now();
        while let Some(draw) = schedule.next_trained(&mut cursor, &journal) {
            black_box(draw);
        }
        begin.elapsed().as_secs_f64() * 1e9 / schedule.sequences() as f64
    });
    median(times.skip(1).collect())
}

fn text(answer: &Answer) -> String {
    let mut table = Table::new(["sources", "threads", "tokens/s", "per thread", "ns per draw"]);
    for m in &answer.results {
        table.row([
            m.sources.to_string(),
            m.threads.to_string(),
            grouped(m.tokens_per_second as u64),
            grouped(m.tokens_per_second_per_thread as u64),
            format!("{:.0}", m.draw_nanoseconds),
        ]);
    }
    format!("{}x{}\n{}", answer.batch_sequences, answer.sequence_length, table.render())
}

//! The engine against full forward passes, and against itself in other batches.

use burn::tensor::{Device, Int, Tensor, TensorData};
use std::path::Path;
use std::sync::Arc;

use terrace_base::Seed;
use terrace_completion::{
    Completion, Error, Event, FinishReason, LanguageModel, Request, Sampling, ScorePrompt,
    complete_all,
};
use terrace_infer::{Engine, EngineOptions};
use terrace_kernels::{Int8Matrix, Int8Tensor, RopeTable};
use terrace_model::{
    Architecture, CausalLm, FrozenLm, Linear, Precision, SequenceContext, initialize,
};
use terrace_tokenizer::Tokenizer;

fn architecture() -> Architecture {
    Architecture {
        hidden_size: 48,
        intermediate_size: 112,
        num_hidden_layers: 3,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_dim: 8,
        vocab_size: 641,
        max_position_embeddings: 256,
        rms_norm_eps: 1e-6,
        rope_theta: 10000.0,
        tie_word_embeddings: false,
        // Large, so that the distributions are far from flat.
        initializer_range: 0.15,
    }
}

fn model() -> CausalLm {
    initialize(&architecture(), Seed(11), &Device::flex())
}

fn options() -> EngineOptions {
    EngineOptions { context_length: 200, prefill_tokens: 48, logit_rows: 7, ..Default::default() }
}

fn engine(options: EngineOptions) -> Engine {
    Engine::new(model(), None, options)
}

fn tokenizer() -> Arc<Tokenizer> {
    let fixture = "../tokenizer/tests/fixtures/byte_level.json";
    Arc::new(Tokenizer::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture)).unwrap())
}

/// Some tokens that depend on a key.
fn tokens(key: u64, count: usize) -> Vec<u32> {
    let stream = Seed(key).stream("tokens");
    (0..count as u64).map(|i| (stream.at(i) % 641) as u32).collect()
}

/// The log-probabilities behind each token, by the model's own whole forward pass.
fn full(model: &CausalLm, tokens: &[u32]) -> Vec<Vec<f64>> {
    let (t, device) = (tokens.len(), Device::flex());
    let table = RopeTable::new(256, 8, 10000.0, &device);
    let positions: Vec<i32> = (0..t as i32).collect();
    let context =
        SequenceContext::new(&model.architecture, &table, &positions, &vec![0; t], [1, t], &device);
    let ids: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
    let ids: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [t]), &device);
    let logits: Vec<f32> = model.logits(ids, &context).into_data().try_to_vec().unwrap();
    let log = |row: &[f32]| -> Vec<f64> {
        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        row.iter().map(|x| f64::from(*x) - sum.ln()).collect()
    };
    logits.chunks_exact(641).map(log).collect()
}

fn ask(engine: &mut Engine, requests: Vec<Request>) -> Vec<Completion> {
    complete_all(engine, requests, |_, _| {}).unwrap()
}

fn one(engine: &mut Engine, request: Request) -> Completion {
    ask(engine, vec![request]).remove(0)
}

/// Requests of different lengths and kinds.
fn mixed() -> Vec<Request> {
    (0..8)
        .map(|i| {
            let mut request = Request::greedy(tokens(i, 3 + 19 * i as usize), 5 + i as usize);
            request.top = 2;
            if i % 2 == 1 {
                request.score_prompt = ScorePrompt::From(i as usize);
            }
            if i % 3 == 2 {
                request.sampling = Sampling::Nucleus { temperature: 0.9, top_p: 0.8, seed: i };
            }
            request
        })
        .collect()
}

fn assert_like_a_full_pass(options: EngineOptions) {
    let model = model();
    for (request, answer) in mixed().iter().zip(ask(&mut engine(options), mixed())) {
        let generated = answer.tokens.iter().map(|score| score.token);
        let whole: Vec<u32> = request.prompt.iter().copied().chain(generated).collect();
        let expected = full(&model, &whole);
        let from = match request.score_prompt {
            ScorePrompt::From(from) => from,
            ScorePrompt::No => request.prompt.len(),
        };
        let scores = answer.prompt_scores.iter().chain(&answer.tokens);
        assert_eq!(scores.clone().count(), whole.len() - from);
        for (place, score) in (from..).zip(scores) {
            assert_eq!(score.token, whole[place]);
            let row = &expected[place - 1];
            let difference = f64::from(score.log_probability) - row[score.token as usize];
            assert!(difference.abs() < 2e-4, "{place}: {difference}");
            let best = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert!((f64::from(score.top[0].1) - best).abs() < 2e-4);
            let same = score.top.iter().filter(|(token, _)| *token == score.token);
            assert!(same.into_iter().all(|(_, log)| *log == score.log_probability));
        }
    }
}

#[test]
fn scores_and_tokens_are_those_of_a_full_pass() {
    assert_like_a_full_pass(options());
}

#[test]
fn the_composed_cache_gives_the_same() {
    assert_like_a_full_pass(EngineOptions { composed: true, ..options() });
}

#[test]
fn invariant_answers_are_equal_to_the_bit_whatever_the_batch() {
    let invariant = EngineOptions { batch_invariant: true, ..options() };
    let together = ask(&mut engine(invariant.clone()), mixed());
    let mut alone = engine(EngineOptions { slots: 1, prefill_tokens: 5, ..invariant.clone() });
    for (request, expected) in mixed().into_iter().zip(&together) {
        assert_eq!(&one(&mut alone, request), expected);
    }
    // With the cache, token by token, and as one prompt.
    for (request, cached) in mixed().into_iter().zip(&together) {
        let generated: Vec<u32> = cached.tokens.iter().map(|score| score.token).collect();
        let score = Request { top: 2, ..Request::score(&request.prompt, &generated) };
        let whole = one(&mut engine(invariant.clone()), score);
        assert_eq!(whole.prompt_scores, cached.tokens);
    }
}

#[test]
fn batched_tokens_agree_where_the_margin_is_above_a_bound() {
    const BOUND: f32 = 1e-3;
    let requests: Vec<Request> = (0..8)
        .map(|i| Request { top: 2, ..Request::greedy(tokens(i, 4 + 9 * i as usize), 24) })
        .collect();
    let together = ask(&mut engine(options()), requests.clone());
    let (mut compared, mut exceptions) = (0, 0);
    for (request, together) in requests.into_iter().zip(together) {
        let alone = one(&mut engine(EngineOptions { slots: 1, ..options() }), request);
        for (a, b) in alone.tokens.iter().zip(&together.tokens) {
            if a.token != b.token {
                let margin = a.top[0].1 - a.top[1].1;
                assert!(margin < BOUND, "tokens differ by {margin}");
                exceptions += 1;
                break;
            }
            compared += 1;
        }
    }
    assert!(compared > 100 && exceptions <= 1, "{compared} alike, {exceptions} not");
}

#[test]
fn a_common_beginning_is_computed_once() {
    let header = tokens(1, 90);
    let options_of = |i: u64| Request::score(&header, &tokens(10 + i, 4));
    let requests: Vec<Request> = (0..5).map(options_of).collect();
    let mut sharing = engine(options());
    let answers = ask(&mut sharing, requests.clone());
    // 89 tokens of the header once: the last one has to be computed by each, as its scores are asked
    // for; with it each computes its own four tokens but the last.
    assert_eq!(sharing.counts().prefilled, 89 + 5 * 4);
    assert_eq!(sharing.counts().shared, 4 * 89);
    for (request, shared) in requests.iter().zip(&answers) {
        let fresh = one(&mut engine(options()), request.clone());
        for (a, b) in fresh.prompt_scores.iter().zip(&shared.prompt_scores) {
            assert!((a.log_probability - b.log_probability).abs() < 1e-4);
        }
    }
    // The beginning stays when all is answered.
    one(&mut sharing, options_of(9));
    assert_eq!(sharing.counts().prefilled, 89 + 6 * 4);

    let exact = EngineOptions { batch_invariant: true, ..options() };
    let shared = ask(&mut engine(exact.clone()), requests.clone());
    for (request, shared) in requests.into_iter().zip(shared) {
        assert_eq!(one(&mut engine(exact.clone()), request), shared);
    }
}

#[test]
fn the_composed_cache_shares_beginnings_too() {
    let header = tokens(1, 90);
    let request = |i: u64| Request::score(&header, &tokens(20 + i, 4));
    let composed = EngineOptions { composed: true, ..options() };
    let mut sharing = engine(composed);
    let answers = ask(&mut sharing, (0..3).map(request).collect());
    assert_eq!(sharing.counts().shared, 2 * 89);
    for (i, shared) in (0..).zip(answers) {
        let fresh = one(&mut engine(options()), request(i));
        for (a, b) in fresh.prompt_scores.iter().zip(&shared.prompt_scores) {
            assert!((a.log_probability - b.log_probability).abs() < 2e-4);
        }
    }
}

#[test]
fn requests_wait_for_a_slot_and_can_be_cancelled() {
    let mut engine = engine(EngineOptions { slots: 2, ..options() });
    let ids: Vec<_> =
        (0..5).map(|i| engine.submit(Request::greedy(tokens(i, 6), 10)).unwrap()).collect();
    assert_eq!(engine.pending(), 5);
    let first = engine.step().unwrap();
    assert!(first.iter().all(|(id, _)| *id == ids[0] || *id == ids[1]), "two at once");
    engine.cancel(ids[0]);
    engine.cancel(ids[3]);
    engine.cancel(ids[3]);
    assert_eq!(engine.pending(), 3);
    let mut finished = Vec::new();
    while engine.pending() > 0 {
        for (id, event) in engine.step().unwrap() {
            assert!(id != ids[0] && id != ids[3], "nothing is said of what was cancelled");
            if matches!(event, Event::Finished { .. }) {
                finished.push(id);
            }
        }
    }
    finished.sort();
    assert_eq!(finished, [ids[1], ids[2], ids[4]]);
    assert!(engine.step().unwrap().is_empty());
}

#[test]
fn a_draw_is_the_same_in_any_company() {
    let request = |seed| Request {
        sampling: Sampling::Nucleus { temperature: 1.0, top_p: 0.95, seed },
        ..Request::greedy(tokens(3, 12), 20)
    };
    let exact = EngineOptions { batch_invariant: true, ..options() };
    let alone = one(&mut engine(exact.clone()), request(1));
    let company = ask(&mut engine(exact), vec![request(2), request(1), request(3)]);
    assert_eq!(company[1], alone);
    assert_ne!(company[0].tokens, alone.tokens);
}

#[test]
fn text_is_that_of_the_tokens_and_ends_before_a_stop() {
    let tokenizer = tokenizer();
    let mut engine = Engine::new(model(), Some(tokenizer.clone()), options());
    let prompt = tokenizer.encode("def f(x):").unwrap();
    let mut request = Request::greedy(prompt.clone(), 40);
    let whole = one(&mut engine, request.clone());
    let generated = whole.tokens.iter().map(|score| score.token);
    let all: Vec<u32> = prompt.iter().copied().chain(generated).collect();
    let before = tokenizer.decode(&prompt).unwrap();
    assert_eq!(whole.text, tokenizer.decode(&all).unwrap()[before.len()..]);
    assert_eq!(whole.finish_reason, FinishReason::Length);

    let characters: Vec<char> = whole.text.chars().collect();
    for at in [0, characters.len() / 2] {
        let stop: String = characters[at..at + 3].iter().collect();
        request.stop = vec!["never".to_owned(), stop.clone()];
        let cut = one(&mut engine, request.clone());
        assert_eq!(cut.text, whole.text[..whole.text.find(&stop).unwrap()]);
        assert_eq!(cut.finish_reason, FinishReason::Stop);
        assert!(cut.tokens.len() <= whole.tokens.len());
    }
}

#[test]
fn the_end_of_text_ends_it_unless_told_otherwise() {
    let request = Request::greedy(tokens(5, 9), 30);
    let free = one(&mut engine(options()), request.clone());
    let end = free.tokens[4].token;
    let at = free.tokens.iter().position(|score| score.token == end).unwrap();
    let mut ending = engine(EngineOptions { end_of_text: vec![end], ..options() });
    let ended = one(&mut ending, request.clone());
    assert_eq!(ended.tokens.len(), at + 1);
    assert_eq!(ended.finish_reason, FinishReason::Stop);
    let on = one(&mut ending, Request { ignore_end_of_text: true, ..request });
    assert_eq!(on.tokens.len(), 30);
}

#[test]
fn what_asks_for_nothing_is_answered_and_what_cannot_be_is_refused() {
    let mut engine = engine(options());
    let nothing = one(&mut engine, Request::greedy(vec![1], 0));
    assert_eq!(nothing, Completion::default());
    let beyond = Request { score_prompt: ScorePrompt::From(9), ..Request::greedy(vec![1, 2], 0) };
    assert!(one(&mut engine, beyond).prompt_scores.is_empty());
    assert_eq!(engine.counts().passes, 0);
    let from_zero =
        Request { score_prompt: ScorePrompt::From(0), ..Request::greedy(vec![1, 2], 0) };
    assert_eq!(one(&mut engine, from_zero).prompt_scores.len(), 1);
    let refused = engine.submit(Request::greedy(tokens(1, 199), 2));
    assert!(matches!(refused, Err(Error::TooLong { .. })));
    let stops = Request { stop: vec!["x".into()], ..Request::greedy(vec![1], 1) };
    assert!(engine.submit(stops).unwrap_err().to_string().contains("tokenizer"));
    // To the last place of the context.
    assert_eq!(one(&mut engine, Request::greedy(tokens(1, 150), 50)).tokens.len(), 50);
}

#[test]
fn numbers_that_are_none_end_the_engine_for_good() {
    let mut model = model();
    let head = model.lm_head.take().expect("the head is its own");
    model.lm_head = Some(head.mul_scalar(f32::NAN));
    let mut engine = Engine::new(model, None, options());
    for key in 0..3 {
        engine.submit(Request::greedy(tokens(key, 5), 4)).unwrap();
    }
    for _ in 0..2 {
        let error = engine.step().unwrap_err();
        assert!(matches!(&error, Error::Device(_)) && error.to_string().contains("no numbers"));
        assert_eq!(engine.pending(), 0, "nothing is waited for any more");
    }
    let refused = engine.submit(Request::greedy(tokens(9, 5), 4)).unwrap_err();
    assert!(refused.to_string().contains("stopped earlier"), "{refused}");
}

/// The model with every linear map in eight bits, and the same numbers as floats.
fn rounded() -> (FrozenLm, FrozenLm) {
    let mut integers = FrozenLm::from(model());
    let mut floats = integers.clone();
    for (integer, float) in linears(&mut integers).into_iter().zip(linears(&mut floats)) {
        let Linear::Float(weight) = &*integer else { panic!("they were floats") };
        let values = weight.clone().into_data().try_to_vec::<f32>().unwrap();
        let matrix = Int8Matrix::quantize(&values, weight.dims()).unwrap();
        let data = TensorData::new(matrix.dequantize(), matrix.shape());
        *float = Linear::Float(Tensor::from_data(data, &Device::flex()));
        *integer = Linear::Int8(matrix);
    }
    (integers, floats)
}

fn linears(model: &mut FrozenLm) -> Vec<&mut Linear> {
    let mut all = vec![&mut model.lm_head];
    for layer in &mut model.layers {
        all.extend([&mut layer.q_proj, &mut layer.k_proj, &mut layer.v_proj, &mut layer.o_proj]);
        all.extend([&mut layer.gate_proj, &mut layer.up_proj, &mut layer.down_proj]);
    }
    all
}

#[test]
fn eight_bit_weights_answer_as_their_values_do_and_are_as_invariant() {
    let (integers, floats) = rounded();
    let invariant = EngineOptions { batch_invariant: true, ..options() };
    let together = ask(&mut Engine::new(integers.clone(), None, invariant.clone()), mixed());
    let alone = EngineOptions { slots: 1, prefill_tokens: 5, ..invariant };
    let mut alone = Engine::new(integers.clone(), None, alone);
    for (request, expected) in mixed().into_iter().zip(&together) {
        assert_eq!(&one(&mut alone, request), expected);
    }
    let scores = [integers, floats].map(|model| scores(model, options()));
    assert!(largest_difference(&scores[0], &scores[1]) < 2e-4);
}

/// The scores of some continuations, request by request.
fn scores(model: impl Into<FrozenLm>, options: EngineOptions) -> Vec<f32> {
    let requests = (0..6).map(|i| Request::score(&tokens(i, 40), &tokens(10 + i, 9))).collect();
    let answers = ask(&mut Engine::new(model, None, options), requests);
    let scores = answers.into_iter().flat_map(|answer| answer.prompt_scores);
    scores.map(|score| score.log_probability).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The numbers of the weights rounded to bf16, in f32: what a model in bf16 differs from by its
/// activations alone.
fn with_rounded_weights(model: FrozenLm) -> FrozenLm {
    let device = Device::flex();
    model.placed(&device, Precision::Bf16).placed(&device, Precision::F32)
}

#[test]
fn bf16_answers_nearly_as_f32_does() {
    let frozen = FrozenLm::from(model());
    let narrow = frozen.clone().placed(&Device::flex(), Precision::Bf16);
    assert_eq!(narrow.precision(), Precision::Bf16);
    let wide = scores(with_rounded_weights(frozen), options());
    let narrow = scores(narrow, options());
    // Log-probabilities between about -2 and -15; a bf16 number has eight bits.
    let difference = largest_difference(&wide, &narrow);
    assert!(difference < 0.25, "{difference}");
    let mean = wide.iter().zip(&narrow).map(|(a, b)| (a - b).abs()).sum::<f32>() / 54.0;
    assert!(mean < 0.05, "{mean}");
    assert_ne!(wide, narrow, "the activations were rounded");
}

#[test]
fn bf16_generates_the_same_whatever_the_batch_where_it_is_certain() {
    let narrow = || FrozenLm::from(model()).placed(&Device::flex(), Precision::Bf16);
    let requests: Vec<Request> = (0..5)
        .map(|i| Request { top: 2, ..Request::greedy(tokens(i, 3 + 17 * i as usize), 12) })
        .collect();
    let together = ask(&mut Engine::new(narrow(), None, options()), requests.clone());
    for (request, together) in requests.into_iter().zip(together) {
        let slots = EngineOptions { slots: 1, ..options() };
        let alone = one(&mut Engine::new(narrow(), None, slots), request);
        for (a, b) in alone.tokens.iter().zip(&together.tokens) {
            if a.token != b.token {
                assert!(a.top[0].1 - a.top[1].1 < 0.25, "{a:?} {b:?}");
                break;
            }
            assert!((a.log_probability - b.log_probability).abs() < 0.25);
        }
    }
}

#[test]
fn eight_bit_weights_on_a_device_answer_as_their_values_do() {
    let (integers, floats) = rounded();
    let device = Device::flex();
    let mut resident = integers;
    for linear in linears(&mut resident) {
        let Linear::Int8(matrix) = &*linear else { panic!("they were rounded") };
        *linear = Linear::Int8OnDevice(Box::new(Int8Tensor::new(matrix, &device)));
    }
    let composed = EngineOptions { composed: true, ..options() };
    let exact = scores(floats.clone(), options());
    assert!(largest_difference(&exact, &scores(resident, composed)) < 2e-4);

    // In bf16 the integers are brought to the device, and become bf16 for the product.
    let (integers, _) = rounded();
    let mut narrow = integers.placed(&device, Precision::Bf16);
    assert!(linears(&mut narrow).iter().all(|linear| matches!(linear, Linear::Int8OnDevice(_))));
    let difference = largest_difference(&exact, &scores(narrow, options()));
    assert!(difference > 0.0 && difference < 0.3, "{difference}");
}

#[test]
fn slots_that_rest_between_busy_ones_do_no_harm() {
    // Short answers leave slots free between long ones, in every order.
    let composed = EngineOptions { composed: true, slots: 5, ..options() };
    let lengths = [12, 2, 20, 1, 30, 3, 25, 4];
    let requests: Vec<Request> =
        (0..).zip(lengths).map(|(i, new)| Request::greedy(tokens(i, 9), new)).collect();
    let together = ask(&mut engine(composed.clone()), requests.clone());
    for (request, together) in requests.into_iter().zip(together) {
        let alone = one(&mut engine(EngineOptions { slots: 1, ..composed.clone() }), request);
        for (a, b) in alone.tokens.iter().zip(&together.tokens) {
            assert!((a.log_probability - b.log_probability).abs() < 2e-3, "{a:?} {b:?}");
            if a.token != b.token {
                break;
            }
        }
    }
}

use proptest::prelude::*;
use terrace_base::{Seed, SeedStream};

use super::*;

/// Gradients of single targets, `[target][parameter]`.
type Gradients = Vec<Vec<f64>>;

fn sum(gradients: &[Vec<f64>]) -> Vec<f64> {
    let mut total = vec![0.0; gradients.first().map_or(0, Vec::len)];
    for gradient in gradients {
        total.iter_mut().zip(gradient).for_each(|(total, own)| *total += own);
    }
    total
}

fn square(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum()
}

/// The sample of a step that is cut into micro-batches of these many targets.
fn sample(gradients: &[Vec<f64>], sizes: &[usize]) -> Option<NoiseSample> {
    let mut rest = gradients;
    let mut parts = Vec::new();
    for size in sizes {
        let (own, others) = rest.split_at(*size);
        parts.push(MicroBatchGradient { square: square(&sum(own)), targets: *size as u64 });
        rest = others;
    }
    assert!(rest.is_empty());
    NoiseSample::estimate(&parts, square(&sum(gradients)))
}

/// Normal gradients around a mean, with a standard deviation for each parameter.
fn normal(stream: SeedStream, step: u64, mean: &[f64], sd: &[f64], targets: usize) -> Gradients {
    let width = mean.len() as u64;
    let draw = |target: u64, i: usize| {
        let place = (step * 1_000 + target) * width + i as u64;
        mean[i] + sd[i] * stream.normal(place)
    };
    (0..targets as u64).map(|target| (0..mean.len()).map(|i| draw(target, i)).collect()).collect()
}

const MEAN: [f64; 4] = [0.5, -0.25, 0.0, 0.125];
const SD: [f64; 4] = [1.0, 0.5, 2.0, 0.25];

#[test]
fn estimates_have_no_bias_however_a_step_is_cut() {
    let truth = (square(&MEAN), square(&SD));
    for (number, sizes) in
        [&[4, 4][..], &[1; 8], &[1, 7], &[5, 2, 1], &[2, 2, 2, 2]].iter().enumerate()
    {
        let stream = Seed(number as u64).stream("gradients");
        let steps = 20_000;
        let (mut gradient, mut noise) = ([0.0; 2], [0.0; 2]);
        for step in 0..steps {
            let found = sample(&normal(stream, step, &MEAN, &SD, 8), sizes).unwrap();
            for (sums, value) in
                [(&mut gradient, found.gradient_square), (&mut noise, found.noise_trace)]
            {
                sums[0] += value;
                sums[1] += value * value;
            }
        }
        for (sums, truth) in [(gradient, truth.0), (noise, truth.1)] {
            let mean = sums[0] / steps as f64;
            let error = ((sums[1] / steps as f64 - mean * mean) / steps as f64).sqrt();
            assert!((mean - truth).abs() < 4.0 * error, "{sizes:?}: {mean} ± {error}, {truth}");
            // The test has to be sharp enough to see a wrong formula.
            assert!(error < 0.05 * truth, "{sizes:?}: {error}");
        }
    }
}

#[test]
fn equal_micro_batches_give_the_estimators_of_the_paper() {
    let gradients = normal(Seed(3).stream("gradients"), 0, &MEAN, &SD, 12);
    let found = sample(&gradients, &[3; 4]).unwrap();
    let (small, big) = (3.0, 12.0);
    let parts: f64 = gradients.chunks(3).map(|own| square(&sum(own)) / (small * small)).sum();
    let (small_square, big_square) = (parts / 4.0, square(&sum(&gradients)) / (big * big));
    let gradient = (big * big_square - small * small_square) / (big - small);
    let trace = (small_square - big_square) / (1.0 / small - 1.0 / big);
    assert!((found.gradient_square - gradient).abs() < 1e-12);
    assert!((found.noise_trace - trace).abs() < 1e-12);
    assert_eq!(found.targets, 12);
}

#[test]
fn one_micro_batch_says_nothing() {
    let part = |targets| MicroBatchGradient { square: 2.0, targets };
    assert_eq!(NoiseSample::estimate(&[], 0.0), None);
    assert_eq!(NoiseSample::estimate(&[part(8)], 2.0), None);
    assert_eq!(NoiseSample::estimate(&[part(8), part(0)], 2.0), None);
    assert_eq!(NoiseSample::estimate(&[part(8), part(8)], f64::NAN), None);
    assert!(NoiseSample::estimate(&[part(8), part(8)], 5.0).is_some());
}

/// All orders of `0..count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let place = |order: &Vec<usize>, at: usize| {
        let mut longer = order.clone();
        longer.insert(at, count - 1);
        longer
    };
    orders(count - 1)
        .iter()
        .flat_map(|o| (0..count).map(|at| place(o, at)).collect::<Vec<_>>())
        .collect()
}

proptest! {
    // Averaged over all orders of its targets, a step says the same however it is cut.
    #[test]
    fn the_cut_makes_no_difference_on_average(
        values in prop::collection::vec(-2.0f64..2.0, 10),
        sizes in prop::sample::select(vec![
            vec![1, 4], vec![2, 3], vec![1, 1, 3], vec![1, 2, 2], vec![1, 1, 1, 1, 1],
        ]),
    ) {
        let gradients: Gradients = values.chunks(2).map(<[f64]>::to_vec).collect();
        let mean = |sizes: &[usize]| {
            let orders = orders(5);
            let found = orders.iter().map(|order| {
                let shuffled: Gradients = order.iter().map(|i| gradients[*i].clone()).collect();
                sample(&shuffled, sizes).unwrap()
            });
            let sums = found.fold([0.0; 2], |sum, one| {
                [sum[0] + one.gradient_square, sum[1] + one.noise_trace]
            });
            sums.map(|sum| sum / orders.len() as f64)
        };
        let (one, other) = (mean(&sizes), mean(&[3, 2]));
        prop_assert!((one[0] - other[0]).abs() < 1e-9, "{one:?} {other:?}");
        prop_assert!((one[1] - other[1]).abs() < 1e-9, "{one:?} {other:?}");
    }

    #[test]
    fn the_memory_is_counted_in_tokens(
        values in prop::collection::vec((0.1f64..2.0, 0.1f64..2.0), 1..12),
        batch in 1u64..50,
    ) {
        // Every sample once with a batch of `2 · batch`, and twice with one of `batch`.
        let half_life = Tokens(200);
        let (mut large, mut small) = (NoiseScale::default(), NoiseScale::default());
        let sample = |(gradient_square, noise_trace), targets| {
            NoiseSample { gradient_square, noise_trace, targets }
        };
        let mut tokens = 0;
        for value in values {
            small.observe(sample(value, batch), Tokens(tokens + batch), half_life);
            tokens += 2 * batch;
            small.observe(sample(value, batch), Tokens(tokens), half_life);
            large.observe(sample(value, 2 * batch), Tokens(tokens), half_life);
        }
        let [one, other] = [&large, &small].map(|scale| scale.reading(half_life).unwrap());
        prop_assert!((one.gradient_square - other.gradient_square).abs() < 1e-9);
        prop_assert!((one.noise_trace - other.noise_trace).abs() < 1e-9);
        prop_assert_eq!(one.is_stale, other.is_stale);
    }

    #[test]
    fn a_saved_scale_goes_on_bit_for_bit(
        values in prop::collection::vec((-1.0f64..2.0, -1.0f64..2.0, 1u64..99), 1..20),
        cut in 0usize..20,
    ) {
        let half_life = Tokens(70);
        let (mut straight, mut saved, mut tokens) = (NoiseScale::default(), NoiseScale::default(), 0);
        for (place, (gradient_square, noise_trace, targets)) in values.into_iter().enumerate() {
            if place == cut {
                let text = serde_json::to_string(&saved).unwrap();
                saved = serde_json::from_str(&text).unwrap();
            }
            tokens += targets;
            let sample = NoiseSample { gradient_square, noise_trace, targets };
            straight.observe(sample, Tokens(tokens), half_life);
            saved.observe(sample, Tokens(tokens), half_life);
        }
        prop_assert_eq!(straight, saved);
    }
}

fn steady(gradient_square: f64, noise_trace: f64) -> NoiseSample {
    NoiseSample { gradient_square, noise_trace, targets: 10 }
}

#[test]
fn the_mean_has_no_bias_towards_zero_and_forgets_by_half() {
    let half_life = Tokens(100);
    let mut scale = NoiseScale::default();
    assert_eq!(scale.reading(half_life), None);
    scale.observe(steady(2.0, 600.0), Tokens(10), half_life);
    let first = scale.reading(half_life).unwrap();
    assert!((first.targets.unwrap() - 300.0).abs() < 1e-9);
    for step in 2..=1000 {
        scale.observe(steady(2.0, 600.0), Tokens(10 * step), half_life);
    }
    for step in 1001..=1010 {
        scale.observe(steady(2.0, 200.0), Tokens(10 * step), half_life);
    }
    // One half-life after the step, half of the way.
    assert!((scale.reading(half_life).unwrap().noise_trace - 400.0).abs() < 1e-6);
}

#[test]
fn a_gradient_that_the_noise_hides_has_no_scale() {
    let mut scale = NoiseScale::default();
    scale.observe(steady(-0.1, 600.0), Tokens(10), Tokens(100));
    let reading = scale.reading(Tokens(100)).unwrap();
    assert_eq!(reading.targets, None);
    assert!(reading.gradient_square < 0.0 && reading.noise_trace > 0.0);
    // A negative variance is none.
    scale.observe(steady(5.0, -600.0), Tokens(1000), Tokens(10));
    assert_eq!(scale.reading(Tokens(10)).unwrap().targets, Some(0.0));
}

#[test]
fn new_data_makes_it_stale_for_a_half_life() {
    let half_life = Tokens(30);
    let mut scale = NoiseScale::default();
    let stale = |scale: &NoiseScale| scale.reading(half_life).unwrap().is_stale;
    for step in 1..=3 {
        scale.observe(steady(1.0, 10.0), Tokens(10 * step), half_life);
        assert_eq!(stale(&scale), step < 3);
    }
    let before = scale.reading(half_life).unwrap();
    scale.mark_stale();
    let after = scale.reading(half_life).unwrap();
    assert_eq!(after, NoiseReading { is_stale: true, ..before });
    for step in 4..=6 {
        scale.observe(steady(1.0, 10.0), Tokens(10 * step), half_life);
        assert_eq!(stale(&scale), step < 6);
    }
}

//! AdamW on one parameter tensor.

use burn::tensor::{DType, Tensor};

use crate::host::{self, HostTensor, Opened, RoundingKey, Stored, is_host};
use crate::{Moment, MomentBlocks, Moments};

/// The constants of one AdamW update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// The decay of the first moment.
    pub beta1: f64,
    /// The decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay; 0 for tensors that do not decay.
    pub weight_decay: f64,
    /// The number of this update, counted from 1.
    pub step: u64,
    /// The product of all decays of the second moment so far, this one included: what is left of its
    /// beginning at zero. It is `beta2^step` where the decay never changes.
    pub beta2_product: f64,
    /// The random bits of this update, for what is kept in bf16.
    pub rounding: RoundingKey,
}

/// Applies one update; gives the new parameter and the new moments.
///
/// `gradient_scale` multiplies the gradient first (loss normalisation and clipping in one factor). The
/// parameter is f32 or bf16, the gradient f32; what is computed is f32. A parameter or a moment in bf16
/// is rounded stochastically, one in codes to the nearest.
///
/// # Source
///
/// Loshchilov and Hutter 2019 (arXiv 1711.05101), in the order of operations of
/// `torch.optim.AdamW`: decay first, `epsilon` added after the bias correction of the root.
///
/// # Panics
///
/// Something is not in f32 on a device that has no kernel for it.
#[must_use]
pub fn adamw_step(
    parameter: Tensor<2>,
    gradient: Tensor<2>,
    gradient_scale: f64,
    moments: Moments,
    constants: AdamW,
) -> (Tensor<2>, Moments) {
    if is_host(&parameter.device()) {
        return on_host(parameter, gradient, gradient_scale, moments, constants);
    }
    #[cfg(feature = "cube")]
    if crate::cube::runs(&parameter.device()) {
        return crate::cube::adamw(parameter, gradient, gradient_scale, moments, constants);
    }
    by_tensors(parameter, gradient, gradient_scale, moments, constants)
}

fn by_tensors(
    parameter: Tensor<2>,
    gradient: Tensor<2>,
    gradient_scale: f64,
    moments: Moments,
    constants: AdamW,
) -> (Tensor<2>, Moments) {
    let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step, beta2_product, .. } =
        constants;
    // The tensor library has no way to a number's bits, which rounding needs.
    let [first, second] = [moments.first, moments.second].map(|moment| match moment {
        Moment::Float(tensor) if tensor.dtype() == DType::F32 => tensor,
        _ => panic!("this device keeps moments in f32 only"),
    });
    assert_eq!(parameter.dtype(), DType::F32, "this device keeps weights in f32 only");
    let gradient = gradient * gradient_scale;
    let first = first * beta1 + gradient.clone() * (1.0 - beta1);
    let second = second * beta2 + gradient.square() * (1.0 - beta2);
    let correction1 = 1.0 - beta1.powf(step as f64);
    let correction2 = 1.0 - beta2_product;
    let root = second.clone().sqrt() * (1.0 / correction2.sqrt()) + epsilon;
    let decayed = parameter * (1.0 - learning_rate * weight_decay);
    let updated = decayed - first.clone() * (learning_rate / correction1) / root;
    (updated, Moments { first: Moment::Float(first), second: Moment::Float(second) })
}

/// A moment in the host's memory that is being changed.
enum OpenedMoment {
    Float(Opened),
    Blocks { words: Opened, scales: Opened, table: host::CodeTable },
}

impl OpenedMoment {
    fn new(moment: Moment) -> Self {
        match moment {
            Moment::Float(tensor) => Self::Float(Opened::new(tensor)),
            Moment::Blocks(MomentBlocks { words, scales, table }) => {
                Self::Blocks { words: Opened::integers(words), scales: Opened::new(scales), table }
            }
        }
    }

    fn stored(&mut self) -> Stored<'_> {
        match self {
            Self::Float(opened) => stored(opened),
            Self::Blocks { words, scales, table } => Stored::Blocks {
                // The first code of a word is in its lowest byte, and so in memory.
                codes: bytemuck::cast_slice_mut(words.elements::<i32>()),
                scales: scales.elements(),
                table: *table,
            },
        }
    }

    fn close(self) -> Moment {
        match self {
            Self::Float(opened) => Moment::Float(opened.close()),
            Self::Blocks { words, scales, table } => Moment::Blocks(MomentBlocks {
                words: words.close_integers(),
                scales: scales.close(),
                table,
            }),
        }
    }
}

fn stored(opened: &mut Opened) -> Stored<'_> {
    match opened.dtype() {
        DType::F32 => Stored::F32(opened.elements()),
        DType::BF16 => Stored::Bf16(opened.elements()),
        other => panic!("a state in {other:?}"),
    }
}

/// The same in one pass, in the place of the parameter and its moments unless others share them.
fn on_host(
    parameter: Tensor<2>,
    gradient: Tensor<2>,
    gradient_scale: f64,
    moments: Moments,
    constants: AdamW,
) -> (Tensor<2>, Moments) {
    const { assert!(cfg!(target_endian = "little"), "codes are read as the bytes of words") };
    let gradient = HostTensor::new(gradient);
    let mut parameter = Opened::new(parameter);
    let mut first = OpenedMoment::new(moments.first);
    let mut second = OpenedMoment::new(moments.second);
    match (stored(&mut parameter), first.stored(), second.stored()) {
        (Stored::F32(parameter), Stored::F32(first), Stored::F32(second)) => {
            host::adamw(parameter, &gradient, gradient_scale, [first, second], constants);
        }
        (parameter, first, second) => {
            let moments = [first, second];
            host::adamw_rounded(parameter, &gradient, gradient_scale, moments, constants);
        }
    }
    gradient.recycle();
    (parameter.close(), Moments { first: first.close(), second: second.close() })
}

/// The sum of the squares of each tensor's elements, in f64.
///
// NUMERICS: on the host a tensor is summed by pieces in f32, the pieces in f64; elsewhere a tensor is
// summed in f32 on its device.
#[must_use]
pub fn square_sums(tensors: Vec<Tensor<2>>) -> Vec<f64> {
    if tensors.first().is_none_or(|tensor| is_host(&tensor.device())) {
        return tensors.into_iter().map(|t| host::square_sum(&HostTensor::new(t))).collect();
    }
    let parts: Vec<Tensor<1>> = tensors.into_iter().map(|g| g.square().sum()).collect();
    let parts: Vec<f32> =
        Tensor::cat(parts, 0).into_data().try_to_vec().expect("gradients are f32");
    parts.into_iter().map(f64::from).collect()
}

/// Adds `b` to `a`, which changes in place where nobody shares it.
#[must_use]
pub fn accumulate(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    if !is_host(&a.device()) {
        return a + b;
    }
    let b = HostTensor::new(b);
    let sum = HostTensor::change(a, |a| host::add_assign(a, &b));
    b.recycle();
    sum
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;
    use crate::MomentFormat;

    const CONSTANTS: AdamW = AdamW {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 3,
        beta2_product: 0.95 * 0.95 * 0.95,
        rounding: RoundingKey(0x0123_4567_89ab_cdef),
    };

    fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.cast(DType::F32).into_data().try_to_vec().unwrap()
    }

    /// A parameter, its gradient and its moments, random.
    fn state(shape: [usize; 2]) -> (Tensor<2>, Tensor<2>, Moments) {
        let random = |low| Tensor::random(shape, Distribution::Uniform(low, 1.0), &Device::flex());
        let [first, second] = [random(-1.0), random(0.0)].map(Moment::Float);
        (random(-1.0), random(-1.0), Moments { first, second })
    }

    #[test]
    fn one_pass_does_what_the_composed_update_does() {
        for shape in [[1, 1], [7, 13], [300, 257]] {
            let (p, g, moments) = state(shape);
            let before = host(p.clone());
            let one = on_host(p.clone(), g.clone(), 0.5, moments.clone(), CONSTANTS);
            let other = by_tensors(p.clone(), g, 0.5, moments, CONSTANTS);
            // What others hold does not change.
            assert_eq!(before, host(p));
            let ([m, v], [m_, v_]) = (one.1.to_f32(shape), other.1.to_f32(shape));
            for (a, b) in [(one.0, other.0), (m, m_), (v, v_)] {
                let difference: f32 = (a - b).abs().max().into_scalar();
                assert!(difference < 1e-6, "{shape:?}: {difference}");
            }
        }
    }

    /// The state brought to a format, and the same as f32: the oracle begins where it begins.
    fn rounded(shape: [usize; 2], format: MomentFormat) -> (Tensor<2>, Moments, Moments) {
        let (p, g, _) = state(shape);
        let zeros = Moments::zeros(shape, format, &p.device());
        let still = AdamW { beta1: 0.0, beta2: 0.0, ..CONSTANTS };
        // A first update that forgets all fills moments of any format from a gradient.
        let (_, moments) = on_host(p.clone(), g, 1.0, zeros, still);
        let [first, second] = moments.to_f32(shape).map(Moment::Float);
        (p, moments, Moments { first, second })
    }

    #[test]
    fn what_is_rounded_is_the_exact_update_or_next_to_it() {
        for shape in [[2, 2048], [67, 71], [300, 257]] {
            for format in [MomentFormat::Bf16, MomentFormat::Int8] {
                let (p, moments, exact) = rounded(shape, format);
                let (p, g) = (p.cast(DType::BF16), state(shape).1);
                let found = on_host(p.clone(), g.clone(), 0.5, moments.clone(), CONSTANTS);
                let expected =
                    by_tensors(p.clone().cast(DType::F32), g.clone(), 0.5, exact, CONSTANTS);
                assert_eq!(found.0.dtype(), DType::BF16);
                // A step of bf16 is 2^-8 to 2^-7 of the number.
                for (a, b) in host(found.0.clone()).into_iter().zip(host(expected.0)) {
                    assert!((a - b).abs() <= b.abs() / 128.0 + 1e-30, "{shape:?}: {a} {b}");
                }
                let ([m, v], [m_, v_]) = (found.1.to_f32(shape), expected.1.to_f32(shape));
                let most = |x: &Tensor<2>| x.clone().abs().max().into_scalar::<f32>();
                let steps = match format {
                    MomentFormat::Bf16 => [1.0 / 128.0; 2],
                    // Half a cell of the top decade.
                    _ => [0.0071, 0.0036],
                };
                for ((a, b), step) in [(m, m_), (v, v_)].into_iter().zip(steps) {
                    let limit = step * most(&b) * 1.01;
                    let difference: f32 = (a - b).abs().max().into_scalar();
                    assert!(difference <= limit, "{shape:?} {format:?}: {difference} {limit}");
                }
                // The same bits give the same numbers, others give others.
                let again = on_host(p.clone(), g.clone(), 0.5, moments.clone(), CONSTANTS);
                assert_eq!(host(again.0), host(found.0.clone()));
                let rounding = RoundingKey(7);
                let other = on_host(p, g, 0.5, moments, AdamW { rounding, ..CONSTANTS });
                assert_ne!(host(other.0), host(found.0));
            }
        }
    }

    #[test]
    fn an_update_below_half_a_step_is_not_lost() {
        // 1e-4 of a weight of 1, whose step is 2^-7: to nearest nothing would ever move.
        let (device, shape) = (Device::flex(), [64, 128]);
        let mut p = Tensor::<2>::ones(shape, &device).cast(DType::BF16);
        let mut moments = Moments::zeros(shape, MomentFormat::F32, &device);
        for step in 1..=50u64 {
            let constants = AdamW {
                learning_rate: 1e-4,
                weight_decay: 0.0,
                step,
                beta2_product: 0.95f64.powi(step as i32),
                rounding: RoundingKey(step.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                ..CONSTANTS
            };
            (p, moments) = adamw_step(p, Tensor::ones(shape, &device), 1.0, moments, constants);
        }
        let mean = host(p).iter().sum::<f32>() / 8192.0;
        // Fifty steps of 1e-4; a weight's rounding adds at most a step's variance over 8192 of them.
        assert!((mean - 0.995).abs() < 3e-4, "{mean}");
    }

    #[test]
    fn small_tensors_and_norms_keep_exact_moments() {
        let device = Device::flex();
        for (shape, is_exact) in [([1, 9000], true), ([63, 65], true), ([64, 64], false)] {
            let moments = Moments::zeros(shape, MomentFormat::Int8, &device);
            assert_eq!(matches!(moments.first, Moment::Float(_)), is_exact, "{shape:?}");
        }
    }

    #[test]
    fn squares_and_sums_agree_with_the_definition() {
        let device = Device::flex();
        let tensor =
            |n| Tensor::<1>::from_data(vec![2.0f32; n].as_slice(), &device).reshape([1, n]);
        assert_eq!(square_sums(vec![tensor(5), tensor(70_000)]), [20.0, 280_000.0]);
        let sum = accumulate(tensor(70_000), tensor(70_000));
        assert_eq!(square_sums(vec![sum]), [16.0 * 70_000.0]);
    }
}

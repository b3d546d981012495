//! The output projection and its cross entropy, without the logits ever existing whole.

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

use crate::accumulate;
use crate::device::cross_entropy_rows;
use crate::host::{Buffer, HostTensor, Matrix, MatrixMut, Threads, holds_f32, multiply};

/// What [`linear_cross_entropy`] gives.
#[derive(Clone, Debug)]
pub struct LinearCrossEntropy {
    /// The loss of each row in nats; 0 where the target is masked. `[rows]`.
    pub nats: Tensor<1>,
    /// The gradients of the summed nats, where they were asked for.
    pub gradients: Option<LinearCrossEntropyGradients>,
}

/// The gradients of the summed nats.
#[derive(Clone, Debug)]
pub struct LinearCrossEntropyGradients {
    /// With respect to the hidden states, `[rows, d]`.
    pub hidden: Tensor<2>,
    /// With respect to the projection, `[v, d]`.
    pub weight: Tensor<2>,
}

/// Projects hidden states to logits, `chunk_rows` at a time, and takes the cross entropy.
///
/// A chunk's logits live only until its gradient has been taken: peak memory is that of
/// `chunk_rows × v` a few times over, whatever the number of rows.
///
/// # Shapes
///
/// `hidden` `[rows, d]`, `weight` `[v, d]`, `targets` `[rows]` (any valid id where masked), `mask`
/// `[rows]` with 1 for rows that count and 0 for the others. `hidden` and `weight` are both f32 or both
/// bf16; loss and gradients are f32.
///
/// # Source
///
/// With `p = softmax(z)`, the gradient of `-log p[y]` is `p - onehot(y)`; both products follow.
/// Tensors must carry no autodiff context: the gradients are written out here.
#[must_use]
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    mask: Tensor<1>,
    chunk_rows: usize,
    with_gradients: bool,
) -> LinearCrossEntropy {
    if holds_f32(&hidden) {
        return on_host(hidden, weight, targets, mask, chunk_rows, with_gradients);
    }
    by_tensors(hidden, weight, targets, mask, chunk_rows, with_gradients)
}

fn by_tensors(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    mask: Tensor<1>,
    chunk_rows: usize,
    with_gradients: bool,
) -> LinearCrossEntropy {
    let [rows, _] = hidden.dims();
    let mut nats = Vec::new();
    let mut hidden_gradients = Vec::new();
    let mut weight_gradient: Option<Tensor<2>> = None;
    for start in (0..rows).step_by(chunk_rows.max(1)) {
        let count = chunk_rows.min(rows - start);
        let x = hidden.clone().narrow(0, start, count);
        let y = targets.clone().narrow(0, start, count);
        let keep = mask.clone().narrow(0, start, count);

        let logits = x.clone().matmul(weight.clone().transpose());
        let (loss, slope) = cross_entropy_rows(logits, y, keep, with_gradients);
        nats.push(loss);
        if let Some(slope) = slope {
            hidden_gradients.push(slope.clone().matmul(weight.clone()).cast(FloatDType::F32));
            // NUMERICS: a product of bf16 is one chunk's; their sum is f32.
            let part = slope.transpose().matmul(x).cast(FloatDType::F32);
            weight_gradient = Some(match weight_gradient {
                Some(sum) => accumulate(sum, part),
                None => part,
            });
        }
    }
    LinearCrossEntropy {
        nats: Tensor::cat(nats, 0),
        gradients: weight_gradient.map(|weight| LinearCrossEntropyGradients {
            hidden: Tensor::cat(hidden_gradients, 0),
            weight,
        }),
    }
}

/// The same where the memory is the host's: one pass over each row of logits, both products straight
/// into their gradients.
fn on_host(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    mask: Tensor<1>,
    chunk_rows: usize,
    with_gradients: bool,
) -> LinearCrossEntropy {
    let ([rows, d], [v, _], device) = (hidden.dims(), weight.dims(), hidden.device());
    let (hidden, weight) = (HostTensor::new(hidden), HostTensor::new(weight));
    let targets: Vec<i64> = targets.into_data().iter().collect();
    let mask = HostTensor::new(mask);
    let projection = Matrix::new(&weight, v, d);
    let chunk = chunk_rows.clamp(1, rows.max(1));
    let count_gradients = |count| if with_gradients { count } else { 0 };
    let mut nats = vec![0.0; rows];
    // The largest of all, and given back at once: the layers' backward pass comes after it.
    let mut logits = vec![0.0; chunk * v];
    let mut dx = Buffer::any(count_gradients(rows * d));
    let mut dw = Buffer::any(count_gradients(v * d));
    for start in (0..rows).step_by(chunk) {
        let count = chunk.min(rows - start);
        let (part, place) = (start..start + count, start * d..(start + count) * d);
        let logits = &mut logits[..count * v];
        let x = Matrix::new(&hidden[place.clone()], count, d);
        let out = MatrixMut::new(logits, count, v);
        multiply(out, false, x, projection.transposed(), 1.0, Threads::All);
        crate::host::cross_entropy_rows(
            logits,
            &targets[part.clone()],
            &mask[part.clone()],
            &mut nats[part],
        );
        if with_gradients {
            let slope = Matrix::new(logits, count, v);
            let out = MatrixMut::new(&mut dx[place], count, d);
            multiply(out, false, slope, projection, 1.0, Threads::All);
            let out = MatrixMut::new(&mut dw, v, d);
            multiply(out, start > 0, slope.transposed(), x, 1.0, Threads::All);
        }
    }
    LinearCrossEntropy {
        nats: vector(nats, &device),
        gradients: with_gradients.then(|| LinearCrossEntropyGradients {
            hidden: dx.into_tensor([rows, d], &device),
            weight: dw.into_tensor([v, d], &device),
        }),
    }
}

fn vector(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

#[cfg(test)]
mod tests {
    use burn::tensor::activation::log_softmax;
    use burn::tensor::{Device, Distribution};

    use super::*;

    fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn gradients_are_those_of_automatic_differentiation() {
        let device = Device::flex();
        let autodiff = device.clone().autodiff();
        let (rows, d, v) = (7, 5, 11);
        let x = Tensor::<2>::random([rows, d], Distribution::Normal(0.0, 1.0), &device);
        let w = Tensor::<2>::random([v, d], Distribution::Normal(0.0, 1.0), &device);
        let targets: [i32; 7] = [3, 0, 10, 3, 7, 1, 2];
        let mask = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0];
        let (y, y_ad) = (
            Tensor::<1, Int>::from_data(targets, &device),
            Tensor::<1, Int>::from_data(targets, &autodiff),
        );
        let m = Tensor::<1>::from_floats(mask, &device);

        let x_leaf = Tensor::<2>::from_inner(x.clone()).require_grad();
        let w_leaf = Tensor::<2>::from_inner(w.clone()).require_grad();
        let log_p = log_softmax(x_leaf.clone().matmul(w_leaf.clone().transpose()), 1);
        let nats = log_p.gather(1, y_ad.reshape([rows, 1])).neg().reshape([rows])
            * Tensor::from_inner(m.clone());
        let gradients = nats.clone().sum().backward();
        let (dx, dw) = (x_leaf.grad(&gradients).unwrap(), w_leaf.grad(&gradients).unwrap());

        for (chunk, form) in [(1, on_host as fn(_, _, _, _, _, _) -> _), (3, by_tensors)]
            .into_iter()
            .chain([(7, on_host as _), (100, on_host as _), (7, by_tensors as _)])
        {
            let found: LinearCrossEntropy =
                form(x.clone(), w.clone(), y.clone(), m.clone(), chunk, true);
            close(&host(found.nats), &host(nats.clone().inner()));
            let gradients = found.gradients.unwrap();
            close(&host(gradients.hidden), &host(dx.clone()));
            close(&host(gradients.weight), &host(dw.clone()));
        }
    }
}

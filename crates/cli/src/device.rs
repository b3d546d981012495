//! From the device that a run asks for to one that computes.

mod cuda;
mod limits;
mod vulkan;

#[cfg(test)]
pub(crate) use self::cuda::Card;
pub(crate) use self::cuda::Cuda;
pub(crate) use self::limits::Limits;
pub(crate) use self::vulkan::Vulkan;

use std::panic::{self, AssertUnwindSafe};

use burn::tensor::{DType, Device, Tensor};
use terrace_config::DeviceChoice;
use terrace_model::Precision;

use crate::context::Context;
use crate::environment::Environment;
use crate::error::CliError;
use crate::machine;

/// A kind of device, and whether this binary was built with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Backend {
    /// Its name, which is also that of the cargo feature.
    pub(crate) name: &'static str,
    /// Whether it is compiled in.
    pub(crate) compiled_in: bool,
}

/// The kinds of devices that Terrace knows.
pub(crate) const BACKENDS: [Backend; 3] = [
    Backend { name: "cpu", compiled_in: cfg!(feature = "cpu") },
    Backend { name: "cuda", compiled_in: cfg!(feature = "cuda") },
    Backend { name: "wgpu", compiled_in: cfg!(feature = "wgpu") },
];

/// Opens a device and computes a little on it, so that a missing driver is found here and not in
/// the middle of a run.
///
/// # Errors
///
/// The binary was built without it, the driver or the card is not there, or it does not compute.
pub(crate) fn open(choice: DeviceChoice, context: &Context) -> Result<Device, CliError> {
    check_compiled_in(choice)?;
    let device = construct(choice).expect("it is compiled in");
    probe(&device).map_err(|reason| explain(choice, &reason, &context.environment))?;
    Ok(device)
}

/// The memory of a device; none where the driver does not tell.
///
/// For the processor it is what this process can use, control groups counted.
///
/// # Units
///
/// Bytes.
pub(crate) fn memory(choice: DeviceChoice, environment: &Environment) -> Option<u64> {
    match choice {
        DeviceChoice::Cpu => Some(machine::memory().total_bytes),
        DeviceChoice::Cuda(index) => {
            Cuda::look(environment).cards.get(index).map(|card| card.memory_total_bytes)
        }
        DeviceChoice::Wgpu(_) => None,
    }
}

/// The name of a card, where the driver tells it.
pub(crate) fn card(choice: DeviceChoice, environment: &Environment) -> Option<String> {
    let DeviceChoice::Cuda(index) = choice else { return None };
    Some(Cuda::look(environment).cards.get(index)?.name.clone())
}

/// The most operations a second of dense bf16 products; none where the device's peak is not known.
pub(crate) fn peak_flops(choice: DeviceChoice, environment: &Environment) -> Option<f64> {
    let limits = card(choice, environment).as_deref().and_then(Limits::of)?;
    Some(limits.bf16_flops)
}

/// The memory that is not taken; none where the driver does not tell.
///
/// # Units
///
/// Bytes.
pub(crate) fn free_memory(choice: DeviceChoice, environment: &Environment) -> Option<u64> {
    let free = match choice {
        DeviceChoice::Cpu => Some(machine::memory().available_bytes),
        DeviceChoice::Cuda(index) => {
            Cuda::look(environment).cards.get(index).map(|card| card.memory_free_bytes)
        }
        DeviceChoice::Wgpu(_) => None,
    };
    free.filter(|bytes| *bytes > 0)
}

/// The precision of inference: what was asked for, or what the device is made for.
///
/// # Errors
///
/// The device does not compute in it.
pub(crate) fn precision(
    asked: Option<Precision>,
    choice: DeviceChoice,
    device: &Device,
) -> Result<Precision, CliError> {
    let precision = asked.unwrap_or(match choice {
        DeviceChoice::Cuda(_) => Precision::Bf16,
        DeviceChoice::Cpu | DeviceChoice::Wgpu(_) => Precision::F32,
    });
    if precision == Precision::Bf16 && !device.supports_dtype(DType::BF16) {
        let message = format!("device {choice} does not compute in {precision}");
        return Err(CliError::device(message).with_help("ask for --precision f32"));
    }
    Ok(precision)
}

/// The processor, to put together in its memory what goes to another device; none if this build is
/// without it.
pub(crate) fn host() -> Option<Device> {
    construct(DeviceChoice::Cpu)
}

/// What to type to get a binary with a backend.
pub(crate) fn how_to_build(backend: &str) -> String {
    format!("build with `cargo build --release -p terrace-cli --features {backend}`")
}

fn backend_of(choice: DeviceChoice) -> Backend {
    match choice {
        DeviceChoice::Cpu => BACKENDS[0],
        DeviceChoice::Cuda(_) => BACKENDS[1],
        DeviceChoice::Wgpu(_) => BACKENDS[2],
    }
}

fn check_compiled_in(choice: DeviceChoice) -> Result<(), CliError> {
    let backend = backend_of(choice);
    if backend.compiled_in {
        return Ok(());
    }
    let there: Vec<&str> =
        BACKENDS.iter().filter(|backend| backend.compiled_in).map(|backend| backend.name).collect();
    let message = format!(
        "device {choice} needs the backend `{}`, which is not in this build (it has: {})",
        backend.name,
        there.join(", ")
    );
    Err(CliError::device(message).with_help(how_to_build(backend.name)))
}

/// Says why a device does not compute; a driver that is not there is only suspected when it is
/// certain that something is wrong, since it may lie where nobody looks.
fn explain(choice: DeviceChoice, reason: &str, environment: &Environment) -> CliError {
    let driver = match choice {
        DeviceChoice::Cpu => Ok(()),
        DeviceChoice::Cuda(index) => Cuda::look(environment).check(index),
        DeviceChoice::Wgpu(_) => Vulkan::look(environment).check(),
    };
    match driver {
        Err(problem) => CliError::device(format!("device {choice}: {}", problem.message))
            .with_help(problem.remedy),
        Ok(()) => CliError::device(format!("device {choice} does not compute: {reason}"))
            .with_help("`terrace doctor` shows what this machine offers"),
    }
}

/// Why a driver cannot be used, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DriverProblem {
    /// What was found, and what is expected.
    pub(crate) message: String,
    /// What to do.
    pub(crate) remedy: String,
}

fn construct(choice: DeviceChoice) -> Option<Device> {
    match choice {
        #[cfg(feature = "cpu")]
        DeviceChoice::Cpu => Some(Device::flex()),
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda(index) => Some(Device::cuda(index)),
        #[cfg(feature = "wgpu")]
        DeviceChoice::Wgpu(index) => Some(Device::wgpu(wgpu_kind(index))),
        #[cfg(not(all(feature = "cpu", feature = "cuda", feature = "wgpu")))]
        _ => None,
    }
}

/// Index 0 is the adapter that the graphics API prefers, which may be a software one; the others
/// are discrete cards.
#[cfg(feature = "wgpu")]
fn wgpu_kind(index: usize) -> burn::tensor::DeviceKind {
    match index {
        0 => burn::tensor::DeviceKind::DefaultDevice,
        index => burn::tensor::DeviceKind::DiscreteGpu(index),
    }
}

/// Adds two numbers; backends report a device that is not there by a panic, which is caught.
fn probe(device: &Device) -> Result<(), String> {
    let silent = SilentPanics::start();
    let computed = panic::catch_unwind(AssertUnwindSafe(|| {
        let sum = Tensor::<1>::ones([2], device) + 1.0;
        sum.try_into_data().map_err(|error| error.to_string())
    }));
    drop(silent);
    match computed {
        Ok(Ok(data)) if data.iter::<f32>().eq([2.0, 2.0]) => Ok(()),
        Ok(Ok(data)) => Err(format!("1 + 1 gives {:?}", data.iter::<f32>().collect::<Vec<_>>())),
        Ok(Err(reason)) => Err(reason),
        Err(payload) => Err(panic_message(payload.as_ref())),
    }
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("the backend panicked").to_owned()
}

type Hook = Box<dyn Fn(&panic::PanicHookInfo<'_>) + Sync + Send + 'static>;

/// Keeps a panic that is going to be reported as an error from being printed as well.
struct SilentPanics(Option<Hook>);

impl SilentPanics {
    fn start() -> Self {
        let before = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        Self(Some(before))
    }
}

impl Drop for SilentPanics {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            panic::set_hook(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitCode;

    #[test]
    fn a_backend_that_is_not_compiled_in_says_how_to_get_it() {
        for choice in [DeviceChoice::Cpu, DeviceChoice::Cuda(1), DeviceChoice::Wgpu(0)] {
            let result = check_compiled_in(choice);
            assert_eq!(result.is_ok(), construct(choice).is_some(), "{choice}");
            if let Err(error) = result {
                assert_eq!(error.exit(), ExitCode::Device);
                assert!(error.help().unwrap().contains("--features"), "{error}");
            }
        }
    }

    #[cfg(feature = "cpu")]
    #[test]
    fn the_processor_computes() {
        assert_eq!(probe(&construct(DeviceChoice::Cpu).unwrap()), Ok(()));
        assert!(memory(DeviceChoice::Cpu, &Environment::default()).unwrap() > 0);
    }

    #[test]
    fn panics_become_messages() {
        assert_eq!(panic_message(&"no driver"), "no driver");
        assert_eq!(panic_message(&"no card 3".to_owned()), "no card 3");
        assert_eq!(panic_message(&3), "the backend panicked");
    }
}

//! The number format of a model that is only read.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{DType, FloatDType};

/// The format of weights, activations and cache of a model for inference.
///
/// Norms, rotations, the gate, softmax and log-softmax are computed in f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE 754 single precision.
    #[default]
    F32,
    /// The upper half of single precision.
    Bf16,
}

impl Precision {
    /// The size of one number in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// The same for storage.
    #[must_use]
    pub fn dtype(self) -> terrace_base::Dtype {
        match self {
            Self::F32 => terrace_base::Dtype::F32,
            Self::Bf16 => terrace_base::Dtype::Bf16,
        }
    }

    pub(crate) fn float(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
        }
    }

    pub(crate) fn of(dtype: DType) -> Self {
        if dtype == DType::BF16 { Self::Bf16 } else { Self::F32 }
    }
}

impl From<Precision> for FloatDType {
    fn from(precision: Precision) -> Self {
        precision.float()
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("`{text}` is not a precision, expected \"f32\" or \"bf16\"")),
        }
    }
}

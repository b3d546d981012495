//! How a folder says that its weights are integers.
//!
//! A weight `NAME.weight`, `[out, in]`, is then two tensors: `NAME.weight` of type `I8` with the
//! same shape, and `NAME.weight_scale` of type `F16`, `[out, ceil(in / 32)]`. The weight in row `r`
//! and column `c` is `weight[r, c] · weight_scale[r, c / 32]`. Which weights are so follows from
//! `quantization_config` in `config.json`:
//!
//! ```json
//! "quantization_config": {
//!   "quant_method": "terrace_int8",
//!   "bits": 8,
//!   "symmetric": true,
//!   "block_size": 32,
//!   "scale_dtype": "float16",
//!   "modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
//! }
//! ```
//!
//! `modules` also has `lm_head` where the output projection was rounded too. Another program that
//! does not know the method refuses the folder by that name instead of misreading it.

use std::path::Path;

use serde_json::{Value, json};
use terrace_base::Dtype;
use terrace_config::Architecture;
use terrace_kernels::{host::INT8_BLOCK, int8_blocks};

use super::CONFIG;
use crate::{Error, ParameterSpec, parameter_specs};

const FIELD: &str = "quantization_config";
const MODULES: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
const HEAD: &str = "lm_head";

/// Which weights of a folder are eight-bit integers: those of all linear products in the layers, and
/// the output projection where it was asked for; never embeddings and norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Quantization {
    /// Whether the output projection is, too.
    pub lm_head: bool,
}

impl Quantization {
    /// Whether this parameter is stored as integers and scales.
    #[must_use]
    pub fn covers(&self, spec: &ParameterSpec) -> bool {
        let module = spec.name.strip_suffix(".weight").and_then(|name| name.rsplit('.').next());
        module.is_some_and(|name| MODULES.contains(&name) || (self.lm_head && name == HEAD))
    }

    /// The bytes of a model's weights: integers and their scales, and everything else as `float`.
    #[must_use]
    pub fn weight_bytes(&self, architecture: &Architecture, float: Dtype) -> u64 {
        let bytes = |spec: &ParameterSpec| {
            if !self.covers(spec) {
                return spec.elements() * float.bytes();
            }
            let scales: usize = scale_shape(spec).iter().product();
            spec.elements() * Dtype::I8.bytes() + scales * Dtype::F16.bytes()
        };
        parameter_specs(architecture).iter().map(|spec| bytes(spec) as u64).sum()
    }

    /// Adds what says so to the content of a `config.json`.
    ///
    /// # Panics
    ///
    /// It is no JSON object.
    pub fn describe(&self, config: &mut Value) {
        let modules: Vec<&str> = MODULES.into_iter().chain(self.lm_head.then_some(HEAD)).collect();
        let mut description = fixed();
        description["modules"] = json!(modules);
        config[FIELD] = description;
    }

    /// What the `config.json` of a folder says; none where the weights are floats.
    ///
    /// # Errors
    ///
    /// It cannot be read, or names another method than ours.
    pub fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(CONFIG);
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let config: Value = serde_json::from_str(&text)
            .map_err(|error| Error::Config { path: path.clone(), reason: error.to_string() })?;
        match config.get(FIELD) {
            None | Some(Value::Null) => Ok(None),
            Some(description) => match Self::parse(description) {
                Ok(found) => Ok(Some(found)),
                Err(reason) => Err(Error::Quantization { path, reason }),
            },
        }
    }

    /// Refuses a folder whose weights are integers.
    pub(super) fn refuse(folder: &Path) -> Result<(), Error> {
        match Self::read(folder)? {
            Some(_) => Err(Error::Quantized { path: folder.to_owned() }),
            None => Ok(()),
        }
    }

    fn parse(description: &Value) -> Result<Self, String> {
        let fixed = fixed();
        for (field, expected) in fixed.as_object().expect("it is an object") {
            let found = &description[field];
            if found != expected {
                return Err(format!("{field} is {found}, expected {expected}"));
            }
        }
        for lm_head in [false, true] {
            let mut config = json!({});
            Self { lm_head }.describe(&mut config);
            if config[FIELD]["modules"] == description["modules"] {
                return Ok(Self { lm_head });
            }
        }
        Err(format!(
            "modules is {}, expected all of {}, with or without {HEAD}",
            description["modules"],
            MODULES.join(", ")
        ))
    }
}

/// What is the same in every folder.
fn fixed() -> Value {
    json!({
        "quant_method": "terrace_int8",
        "bits": 8,
        "symmetric": true,
        "block_size": INT8_BLOCK,
        "scale_dtype": "float16",
    })
}

/// The key of the scales of a weight.
#[must_use]
pub fn scale_name(weight: &str) -> String {
    format!("{weight}_scale")
}

/// The extents of the scales of a weight.
///
/// # Panics
///
/// It is no matrix.
#[must_use]
pub fn scale_shape(spec: &ParameterSpec) -> Vec<usize> {
    let [rows, inputs] = spec.matrix_shape();
    vec![rows, int8_blocks(inputs)]
}

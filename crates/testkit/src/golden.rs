//! Reading the fixtures of `tests/golden`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

/// The folder that holds the workspace.
#[must_use]
pub fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// One case: its model folder and the values that `transformers` and `torch` gave.
pub struct Golden {
    folder: PathBuf,
    floats: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    integers: BTreeMap<String, Vec<i64>>,
}

/// How far a value may be from the reference: `absolute + relative · |reference|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// The part that does not depend on the value.
    pub absolute: f32,
    /// The part in proportion to the value.
    pub relative: f32,
}

impl Golden {
    /// Reads a case by its folder's name.
    ///
    /// # Panics
    ///
    /// The fixture is not there or not readable: fixtures are checked in.
    #[must_use]
    pub fn open(case: &str) -> Self {
        let folder = repository_root().join("tests/golden").join(case);
        let bytes = std::fs::read(folder.join("expected.safetensors")).expect("fixture");
        let file = SafeTensors::deserialize(&bytes).expect("fixture is safetensors");
        let (mut floats, mut integers) = (BTreeMap::new(), BTreeMap::new());
        for (name, view) in file.iter() {
            let name = name.to_owned();
            match view.dtype() {
                Dtype::F32 => {
                    let values = view.data().chunks_exact(4);
                    let values = values.map(|w| f32::from_le_bytes(w.try_into().expect("4 bytes")));
                    floats.insert(name, (view.shape().to_vec(), values.collect()));
                }
                Dtype::I64 => {
                    let values = view.data().chunks_exact(8);
                    let values = values.map(|w| i64::from_le_bytes(w.try_into().expect("8 bytes")));
                    integers.insert(name, values.collect());
                }
                other => panic!("fixture tensor {name} has type {other:?}"),
            }
        }
        Self { folder, floats, integers }
    }

    /// The Hugging Face folder of the case.
    #[must_use]
    pub fn model(&self) -> PathBuf {
        self.folder.join("model")
    }

    /// A float tensor's values.
    ///
    /// # Panics
    ///
    /// The case has no such tensor.
    #[must_use]
    pub fn floats(&self, name: &str) -> &[f32] {
        &self.floats.get(name).unwrap_or_else(|| panic!("no tensor {name}")).1
    }

    /// A one-element float tensor's value.
    #[must_use]
    pub fn scalar(&self, name: &str) -> f32 {
        self.floats(name)[0]
    }

    /// An integer tensor's values.
    ///
    /// # Panics
    ///
    /// The case has no such tensor.
    #[must_use]
    pub fn integers(&self, name: &str) -> Vec<i32> {
        let values = self.integers.get(name).unwrap_or_else(|| panic!("no tensor {name}"));
        values.iter().map(|v| i32::try_from(*v).expect("fixture ids are small")).collect()
    }

    /// The names of the float tensors that begin with `prefix`, without it.
    pub fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.floats.keys().filter_map(move |name| name.strip_prefix(prefix))
    }

    /// Compares values with a float tensor.
    ///
    /// # Panics
    ///
    /// A value is farther off than `tolerance` allows; the message names the worst.
    pub fn assert_close(&self, name: &str, found: &[f32], tolerance: Tolerance) {
        let expected = self.floats(name);
        assert_eq!(found.len(), expected.len(), "{name}: number of elements");
        let excess = |(f, e): (&f32, &f32)| {
            let error = (f - e).abs() - tolerance.relative * e.abs();
            if error.is_nan() { f32::INFINITY } else { error }
        };
        let worst = found.iter().zip(expected).map(excess).fold(0.0, f32::max);
        assert!(worst <= tolerance.absolute, "{name}: off by {worst} beyond {tolerance:?}");
    }

    /// Compares values with a float tensor by the tensor's largest element.
    ///
    /// # Panics
    ///
    /// A value is off by more than `relative` times the largest reference.
    pub fn assert_close_to_maximum(&self, name: &str, found: &[f32], relative: f32) {
        let largest = self.floats(name).iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let tolerance = Tolerance { absolute: relative * largest, relative: 0.0 };
        self.assert_close(name, found, tolerance);
    }
}

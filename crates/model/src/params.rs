//! One network's tensors on their way to the device: a name prefix, the shapes that are expected, and the device.
//! A tensor of another shape, of an unknown dtype or with a value that is not finite is refused by name.

use burn::tensor::{Device, Tensor, TensorData};
use pixart_kernels::Precision;
use pixart_weights::Tensors;

use crate::Error;

/// The parameters below one name prefix.
#[derive(Clone)]
pub(crate) struct Params<'a> {
    tensors: &'a Tensors<'a>,
    device: &'a Device,
    prefix: String,
    precision: Precision,
}

impl<'a> Params<'a> {
    pub(crate) fn new(tensors: &'a Tensors<'a>, device: &'a Device) -> Self {
        Self { tensors, device, prefix: String::new(), precision: Precision::F32 }
    }

    /// The same, with matrices of affine maps kept in `precision` where their shape allows.
    pub(crate) fn kept_as(&self, precision: Precision) -> Self {
        Self { precision, ..self.clone() }
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// The parameters below `name`.
    pub(crate) fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: self.name(name), ..self.clone() }
    }

    fn name(&self, name: impl std::fmt::Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    pub(crate) fn device(&self) -> &'a Device {
        self.device
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains(&self.name(name))
    }

    pub(crate) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        Ok(self.tensors.f32(&self.name(name), shape)?)
    }

    pub(crate) fn tensor<const RANK: usize>(&self, name: &str, shape: [usize; RANK]) -> Result<Tensor<RANK>, Error> {
        Ok(self.upload(self.floats(name, &shape)?, shape))
    }

    pub(crate) fn upload<const RANK: usize>(&self, values: Vec<f32>, shape: [usize; RANK]) -> Tensor<RANK> {
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }
}

/// A recorded tensor of RANK axes on the device; `file` is named in an error.
pub(crate) fn recorded<const RANK: usize>(
    from: &Tensors<'_>,
    file: &str,
    name: &str,
    device: &Device,
) -> Result<Tensor<RANK>, Error> {
    let (shape, values) = from.any_f32(name)?;
    let shape: [usize; RANK] = shape.try_into().map_err(|shape| Error::Config {
        file: file.into(),
        key: name.into(),
        why: format!("its shape is {shape:?}, not one of {RANK} axes"),
    })?;
    Ok(Tensor::from_data(TensorData::new(values, shape), device))
}

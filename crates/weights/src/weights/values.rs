//! The values of weights as their files hold them: floats, 8-bit floats with a scale, and blocks of ggml.

use std::collections::BTreeMap;

use super::{CHUNK_BYTES, Weights, not_finite};
use crate::stored_rows::StoredRows;
use crate::tensor_location::TensorLocation;
use crate::{Error, Folder, StoredDtype};

impl Weights<'_> {
    /// Returns a row-major weight with the scale that a file may hold for it.
    pub(super) async fn stored_rows<'a>(
        &self,
        name: &'a str,
        tensor: &'a TensorLocation,
    ) -> Result<StoredRows<'a>, Error> {
        let dtype = tensor.layout.dtype;
        if !dtype.is_weight() {
            return Err(Error::weight_dtype(&tensor.file, name, dtype));
        }
        Ok(StoredRows { name, tensor, scale: self.scale(name, dtype).await? })
    }

    /// Reads the values of a row-major weight.
    pub(super) async fn read_values(&self, name: &str, tensor: &TensorLocation) -> Result<Vec<f32>, Error> {
        let rows = self.stored_rows(name, tensor).await?;
        let mut values = Vec::with_capacity(tensor.shape.iter().product());
        for range in rows.chunks(CHUNK_BYTES, false) {
            let bytes = self.folder.read(&tensor.file, range).await?;
            values.extend(rows.values(&bytes, values.len())?);
        }
        Ok(values)
    }

    /// Returns the factor of a weight in 8-bit floats: ComfyUI's `scale_weight` beside it, else 1.
    async fn scale(&self, name: &str, dtype: StoredDtype) -> Result<f32, Error> {
        let tensor = scale_tensor(&self.tensors, name, dtype);
        match tensor {
            Some(tensor) => read_scale(self.folder, name, tensor).await,
            None => Ok(1.0),
        }
    }
}

/// Returns the place of ComfyUI's `scale_weight` of a weight in 8-bit floats, if the file has one.
pub(crate) fn scale_tensor<'a>(
    tensors: &'a BTreeMap<String, TensorLocation>,
    name: &str,
    dtype: StoredDtype,
) -> Option<&'a TensorLocation> {
    let is_f8 = matches!(dtype, StoredDtype::F8E4M3 | StoredDtype::F8E5M2);
    let module = name.strip_suffix("weight").filter(|_| is_f8)?;
    tensors.get(&format!("{module}scale_weight"))
}

/// Reads the scale of the weight `name`.
pub(crate) async fn read_scale(folder: &Folder, name: &str, tensor: &TensorLocation) -> Result<f32, Error> {
    let TensorLocation { file, layout, range, shape } = tensor;
    let bytes = folder.read(file, range.clone()).await?;
    match layout.dtype.decode(&bytes).as_deref() {
        Some([scale]) if scale.is_finite() => Ok(*scale),
        Some([value, ..]) if value.is_finite() => {
            let (file, why) = (file.clone(), format!("`{name}` has a scale of shape {shape:?}, not one number"));
            Err(Error::Corrupt { file, why })
        }
        Some([value, ..]) => Err(not_finite(&format!("scale of {name}"), tensor, 0, *value)),
        _ => Err(Error::weight_dtype(file, name, layout.dtype)),
    }
}

//! Readback of tensors to the host.

use burn::tensor::Tensor;

use crate::Error;

/// Reads a tensor back. `what` names it in an error.
///
/// # Errors
/// [`Error::Read`] where the device failed.
pub async fn values_read(what: &str, tensor: Tensor<1>) -> Result<Vec<f32>, Error> {
    let lost = |why: String| Error::Read { what: what.into(), why };
    let data = tensor.into_data_async().await.map_err(|error| lost(error.to_string()))?;
    data.try_into_vec::<f32>().map_err(|error| lost(error.to_string()))
}

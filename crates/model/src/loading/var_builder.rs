//! Loading of one network's tensors onto the device, in the style of candle's `VarBuilder`: a name prefix and, for each
//! tensor, its expected shape. A missing tensor, another shape, an unknown dtype or a value that is not finite is an error
//! that names the tensor.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use burn::tensor::{Device, Tensor, TensorData};
use pixart_kernels::{Matrix, WeightFormat};
use pixart_weights::{ColumnOrder, QuantizedMatrix, Tensors, Weights};

use crate::Error;

/// Bytes of uploads between two fences.
const FENCE_BYTES: usize = 8 << 20;

/// Access to the tensors below one name prefix.
#[derive(Clone)]
pub(crate) struct VarBuilder<'a> {
    weights: &'a Weights<'a>,
    device: &'a Device,
    prefix: String,
    format: WeightFormat,
    uploads: Rc<Uploads>,
}

/// Upload back-pressure: the queue copies all it is given, so uploads are fenced every [`FENCE_BYTES`].
#[derive(Default)]
struct Uploads {
    /// Bytes since the last fence.
    pending: Cell<usize>,
    /// Resolves when the device has received every upload before it.
    last: Cell<Option<Fence>>,
}

type Fence = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

impl<'a> VarBuilder<'a> {
    pub(crate) fn new(weights: &'a Weights<'a>, device: &'a Device) -> Self {
        Self { weights, device, prefix: String::new(), format: WeightFormat::F32, uploads: Rc::default() }
    }

    /// Returns a builder that loads the matrices of linear layers in `format`, where their shape allows it.
    pub(crate) fn with_weight_format(&self, format: WeightFormat) -> Self {
        Self { format, ..self.clone() }
    }

    /// Returns the builder of the tensors below `name` ("push prefix").
    pub(crate) fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: self.name(name), ..self.clone() }
    }

    fn name(&self, name: impl std::fmt::Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    pub(crate) fn device(&self) -> &'a Device {
        self.device
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.weights.contains(&self.name(name))
    }

    pub(crate) async fn get_f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        self.fence().await?;
        Ok(self.weights.f32(&self.name(name), shape).await?)
    }

    pub(crate) async fn get<const RANK: usize>(&self, name: &str, shape: [usize; RANK]) -> Result<Tensor<RANK>, Error> {
        Ok(self.upload(self.get_f32(name, &shape).await?, shape))
    }

    /// Loads the matrices `weight` `[outputs, inputs]` of one or more layers with the same inputs as one matrix, in the
    /// requested format or in the smaller one they are stored in. A matrix that is mapped in the right layout is not copied.
    pub(crate) async fn fused_matrix(layers: &[Self], shape: [usize; 2], order: ColumnOrder) -> Result<Matrix, Error> {
        let names: Vec<String> = layers.iter().map(|layer| layer.name("weight")).collect();
        let Self { weights, device, format, .. } = layers[0];
        if let Some(rows) = weights.mapped_matrix(&names, shape, format, order)?
            && let Some(matrix) = Matrix::mapped(rows, device)
        {
            return Ok(matrix);
        }
        let mut loaded = Vec::with_capacity(layers.len());
        for name in &names {
            layers[0].fence().await?;
            loaded.push(weights.matrix(name, shape, format).await?);
        }
        Ok(layers[0].matrix(match (order, <&[QuantizedMatrix; 2]>::try_from(&loaded[..])) {
            (ColumnOrder::Interleaved, Ok(both)) => QuantizedMatrix::interleave_columns(both),
            _ if loaded.len() == 1 => loaded.remove(0),
            _ => QuantizedMatrix::concat_columns(&loaded),
        }))
    }

    pub(crate) fn upload<const RANK: usize>(&self, values: Vec<f32>, shape: [usize; RANK]) -> Tensor<RANK> {
        self.count(values.len() * size_of::<f32>());
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }

    pub(crate) fn matrix(&self, packed: QuantizedMatrix) -> Matrix {
        self.count(packed.words.len() * size_of::<u32>());
        Matrix::of(packed, self.device)
    }

    fn count(&self, bytes: usize) {
        self.uploads.pending.set(self.uploads.pending.get() + bytes);
    }

    /// Starts a fence after every [`FENCE_BYTES`] of uploads and waits for the one before it. Waiting for the previous
    /// fence bounds the queue without draining it.
    async fn fence(&self) -> Result<(), Error> {
        if self.uploads.pending.get() < FENCE_BYTES {
            return Ok(());
        }
        self.uploads.pending.set(0);
        let marker = Tensor::<1>::zeros([1], self.device);
        let mut next: Fence = Box::pin(async move {
            let data = marker.into_data_async().await;
            data.map(drop).map_err(|error| Error::Read { what: "the uploaded weights".into(), why: error.to_string() })
        });
        // Polling once starts the read.
        let first_poll = poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
        let waiting = if first_poll.is_pending() { Some(next) } else { None };
        match self.uploads.last.replace(waiting) {
            Some(last) => last.await,
            None => Ok(()),
        }
    }
}

impl VarBuilder<'_> {
    /// Waits for the last fence. Every loader must call it at its end: a read that is dropped while pending corrupts the
    /// next one, which may get the same staging buffer.
    pub(crate) async fn flush_uploads(&self) -> Result<(), Error> {
        match self.uploads.last.take() {
            Some(last) => last.await,
            None => Ok(()),
        }
    }
}

/// Loads tensor `name` of RANK axes from an open file. Errors name `file`.
///
/// # Errors
/// A tensor that is missing, or of another rank.
pub fn tensor_from_file<const RANK: usize>(
    from: &Tensors<'_>,
    file: &str,
    name: &str,
    device: &Device,
) -> Result<Tensor<RANK>, Error> {
    let (shape, values) = from.any_f32(name)?;
    let shape: [usize; RANK] = shape.try_into().map_err(|shape| Error::Config {
        file: file.into(),
        key: name.into(),
        why: format!("its shape is {shape:?}, expected {RANK} axes"),
    })?;
    Ok(Tensor::from_data(TensorData::new(values, shape), device))
}

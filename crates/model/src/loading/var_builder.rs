//! Loading of one network's tensors onto the device, in the style of candle's `VarBuilder`: a name prefix and, for each
//! tensor, its expected shape. A missing tensor, another shape, an unknown dtype or a value that is not finite is an error
//! that names the tensor.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use burn::tensor::{Device, Tensor, TensorData};
use pixart_kernels::{Matrix, WeightFormat};
use pixart_weights::{ColumnOrder, MergedMatrix, QuantizedMatrix, Tensors, Weights};

use crate::Error;

/// Bytes of uploads between two fences.
pub(crate) const UPLOAD_FENCE_BYTES: usize = 8 << 20;

/// Access to the tensors below one name prefix.
#[derive(Clone)]
pub(crate) struct VarBuilder<'a> {
    source: Source<'a>,
    device: &'a Device,
    prefix: String,
    format: WeightFormat,
    fence_bytes: usize,
    maps_files: bool,
    uploads: Rc<Uploads>,
}

/// Upload back-pressure: the queue copies all it is given, so uploads are fenced every [`UPLOAD_FENCE_BYTES`].
#[derive(Default)]
struct Uploads {
    /// Bytes since the last fence.
    pending: Cell<usize>,
    /// Resolves when the device has received every upload before it.
    last: Cell<Option<Fence>>,
}

/// Backend of a builder.
#[derive(Clone)]
enum Source<'a> {
    /// The weights of a checkpoint.
    Weights(&'a Weights<'a>),
    /// No weights: every requested tensor is recorded, and a placeholder of one number is returned. Loading a network from this
    /// source declares its tensors without memory for them.
    Shapes(&'a RefCell<Vec<DeclaredTensor>>),
}

/// Name and shape of a tensor.
pub(crate) type NamedShape = (String, Vec<usize>);

/// A tensor that a network loads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeclaredTensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// Format on the device: f32 for all but the matrices of linear layers.
    pub(crate) format: WeightFormat,
}

impl DeclaredTensor {
    fn f32(name: String, shape: &[usize]) -> Self {
        Self { name, shape: shape.to_vec(), format: WeightFormat::F32 }
    }

    /// Returns its bytes on the device.
    pub(crate) fn bytes(&self) -> u64 {
        match *self.shape {
            [outputs, inputs] => self.format.bytes(inputs, outputs) as u64,
            _ => self.shape.iter().map(|side| *side as u64).product::<u64>() * size_of::<f32>() as u64,
        }
    }
}

type Fence = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

impl<'a> VarBuilder<'a> {
    pub(crate) fn new(weights: &'a Weights<'a>, device: &'a Device) -> Self {
        Self::with_source(Source::Weights(weights), device)
    }

    /// Returns a builder without weights, which records every tensor in `shapes`.
    pub(crate) fn shape_only(shapes: &'a RefCell<Vec<DeclaredTensor>>, device: &'a Device) -> Self {
        Self::with_source(Source::Shapes(shapes), device)
    }

    fn with_source(source: Source<'a>, device: &'a Device) -> Self {
        Self {
            source,
            device,
            prefix: String::new(),
            format: WeightFormat::F32,
            fence_bytes: UPLOAD_FENCE_BYTES,
            maps_files: true,
            uploads: Rc::default(),
        }
    }

    /// Returns a builder that loads the matrices of linear layers in `format`, where their shape allows it.
    pub(crate) fn with_weight_format(&self, format: WeightFormat) -> Self {
        Self { format, ..self.clone() }
    }

    /// Returns a builder that fences its uploads every `fence_bytes`.
    pub(crate) fn with_fence_bytes(&self, fence_bytes: usize) -> Self {
        Self { fence_bytes, ..self.clone() }
    }

    /// Returns a builder that copies matrices out of files, so that their memory is free when they are dropped.
    pub(crate) fn copying(&self) -> Self {
        Self { maps_files: false, ..self.clone() }
    }

    /// Returns the format of linear layers' matrices.
    pub(crate) fn weight_format(&self) -> WeightFormat {
        self.format
    }

    /// Returns the builder of the tensors below `name` ("push prefix").
    pub(crate) fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: self.name(name), ..self.clone() }
    }

    pub(crate) fn device(&self) -> &'a Device {
        self.device
    }

    fn name(&self, name: impl std::fmt::Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    /// Returns the first of the alternative `names` that the checkpoint has, else the first of all.
    pub(crate) fn first_of(&self, names: &[&'static str]) -> &'static str {
        let exists = |name: &&&str| match &self.source {
            Source::Weights(weights) => weights.contains(&self.name(name)),
            Source::Shapes(_) => true,
        };
        names.iter().find(exists).unwrap_or(&names[0])
    }

    /// Returns whether tensors are checked or recorded, and placeholders are returned.
    fn has_no_weights(&self) -> bool {
        match self.source {
            Source::Weights(weights) => weights.is_headers_only(),
            Source::Shapes(_) => true,
        }
    }

    /// Checks or records a tensor that is not loaded with its network.
    pub(crate) fn declare(&self, name: &str, shape: &[usize]) -> Result<(), Error> {
        match self.source {
            Source::Weights(weights) => weights.check(&self.name(name), shape)?,
            Source::Shapes(shapes) => shapes.borrow_mut().push(DeclaredTensor::f32(self.name(name), shape)),
        }
        Ok(())
    }

    pub(crate) async fn get_f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        match self.source {
            Source::Weights(weights) if weights.is_headers_only() => {
                weights.check(&self.name(name), shape)?;
                Ok(Vec::new())
            }
            Source::Weights(weights) => {
                self.fence().await?;
                Ok(weights.f32(&self.name(name), shape).await?)
            }
            Source::Shapes(shapes) => {
                shapes.borrow_mut().push(DeclaredTensor::f32(self.name(name), shape));
                Ok(Vec::new())
            }
        }
    }

    pub(crate) async fn get<const RANK: usize>(&self, name: &str, shape: [usize; RANK]) -> Result<Tensor<RANK>, Error> {
        Ok(self.upload(self.get_f32(name, &shape).await?, shape))
    }

    /// Loads the matrices `weight` `[outputs, inputs]` of one or more layers with the same inputs as one matrix, in the
    /// requested format or in the smaller one they are stored in. On the CPU a matrix of a file with the same numbers is not copied.
    pub(crate) async fn fused_matrix(layers: &[Self], shape: [usize; 2], order: ColumnOrder) -> Result<Matrix, Error> {
        let names: Vec<String> = layers.iter().map(|layer| layer.name("weight")).collect();
        let Self { device, format, maps_files, .. } = layers[0];
        let weights = match layers[0].source {
            Source::Weights(weights) if weights.is_headers_only() => {
                names.iter().try_for_each(|name| weights.check(name, &shape))?;
                return Ok(placeholder_matrix(device));
            }
            Source::Weights(weights) => weights,
            Source::Shapes(shapes) => {
                let [outputs, inputs] = shape;
                let format = if format.fits(inputs, outputs) { format } else { WeightFormat::F32 };
                let declared = |name| DeclaredTensor { format, ..DeclaredTensor::f32(name, &shape) };
                shapes.borrow_mut().extend(names.into_iter().map(declared));
                return Ok(placeholder_matrix(device));
            }
        };
        if maps_files
            && *device == Device::flex()
            && let Some(mapped) = weights.mapped_matrix(&names, shape, format, order)?
            && let Some(matrix) = Matrix::mapped(mapped, device)
        {
            return Ok(matrix);
        }
        if names.len() > 1
            && let Some(merged) = weights.merged_matrix(&names, shape, format, order).await?
        {
            return Ok(layers[0].matrix(merged));
        }
        // A file may hold the layers in several formats: the most precise holds them all.
        let formats = names.iter().map(|name| weights.matrix_format(name, shape, format));
        let formats = formats.collect::<Result<Vec<_>, _>>()?;
        let common = formats.into_iter().min().unwrap_or(format);
        let [outputs, inputs] = shape;
        let mut merged = (names.len() > 1).then(|| MergedMatrix::new([inputs, outputs], common, names.len(), order));
        for name in &names {
            layers[0].fence().await?;
            let matrix = weights.matrix(name, shape, format).await?.requantized(common);
            match &mut merged {
                Some(merged) => merged.push(matrix),
                None => return Ok(layers[0].matrix(matrix)),
            }
        }
        Ok(layers[0].matrix(merged.expect("several matrices").finish()))
    }

    /// Uploads `values` as a tensor of `shape`.
    pub(crate) fn upload<const RANK: usize>(&self, values: Vec<f32>, shape: [usize; RANK]) -> Tensor<RANK> {
        if self.has_no_weights() {
            return Tensor::zeros([1; RANK], self.device);
        }
        self.count(values.len() * size_of::<f32>());
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }

    /// Loads `name` of `shape` as an f32 matrix of `dims`, whose values `arrange` puts in order.
    pub(crate) async fn get_matrix(
        &self,
        name: &str,
        shape: &[usize],
        dims: [usize; 2],
        arrange: impl FnOnce(&[f32]) -> Vec<f32>,
    ) -> Result<Matrix, Error> {
        let values = self.get_f32(name, shape).await?;
        if self.has_no_weights() {
            return Ok(placeholder_matrix(self.device));
        }
        let values = arrange(&values);
        self.count(values.len() * size_of::<f32>());
        Ok(Matrix::new(values, dims, WeightFormat::F32, self.device))
    }

    fn matrix(&self, packed: QuantizedMatrix) -> Matrix {
        self.count(packed.words.len() * size_of::<u32>());
        Matrix::of(packed, self.device)
    }

    fn count(&self, bytes: usize) {
        self.uploads.pending.set(self.uploads.pending.get() + bytes);
    }

    /// Starts a fence after every [`UPLOAD_FENCE_BYTES`] of uploads and waits for the one before it. Waiting for the previous
    /// fence bounds the queue without draining it.
    async fn fence(&self) -> Result<(), Error> {
        if self.uploads.pending.get() < self.fence_bytes {
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

fn placeholder_matrix(device: &Device) -> Matrix {
    Matrix::new(vec![0.0], [1, 1], WeightFormat::F32, device)
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

//! One network's tensors on their way to the device: a name prefix, the shapes that are expected, and the device.
//! A tensor of another shape, of an unknown dtype or with a value that is not finite is refused by name.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use burn::tensor::{Device, Tensor, TensorData};
use pixart_kernels::{Matrix, WeightFormat};
use pixart_weights::{ColumnOrder, QuantizedMatrix, Tensors, Weights};

use crate::Error;

/// Bytes of uploads between two moments that are waited for.
const PENDING_MAX: usize = 8 << 20;

/// The parameters below one name prefix.
#[derive(Clone)]
pub(crate) struct Params<'a> {
    weights: &'a Weights<'a>,
    device: &'a Device,
    prefix: String,
    precision: WeightFormat,
    uploads: Rc<Uploads>,
}

/// What the device has been given.
#[derive(Default)]
struct Uploads {
    /// Bytes since the last mark.
    pending: Cell<usize>,
    /// Done once the device has taken all before it.
    last: Cell<Option<Mark>>,
}

type Mark = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

impl<'a> Params<'a> {
    pub(crate) fn new(weights: &'a Weights<'a>, device: &'a Device) -> Self {
        Self { weights, device, prefix: String::new(), precision: WeightFormat::F32, uploads: Rc::default() }
    }

    /// The same, with matrices of affine maps kept in `precision` where their shape allows.
    pub(crate) fn kept_as(&self, precision: WeightFormat) -> Self {
        Self { precision, ..self.clone() }
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
        self.weights.contains(&self.name(name))
    }

    pub(crate) async fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        self.settle().await?;
        Ok(self.weights.f32(&self.name(name), shape).await?)
    }

    pub(crate) async fn tensor<const RANK: usize>(
        &self,
        name: &str,
        shape: [usize; RANK],
    ) -> Result<Tensor<RANK>, Error> {
        Ok(self.upload(self.floats(name, &shape).await?, shape))
    }

    /// The matrices `weight` `[outputs, inputs]` of one or more maps of the same inputs, as one: in the precision that is asked
    /// for, or the smaller one they are stored in. Where they are in memory as they should be they stay there.
    pub(crate) async fn merged(maps: &[Self], shape: [usize; 2], order: ColumnOrder) -> Result<Matrix, Error> {
        let names: Vec<String> = maps.iter().map(|map| map.name("weight")).collect();
        let Self { weights, device, precision, .. } = maps[0];
        if let Some(rows) = weights.mapped_matrix(&names, shape, precision, order)?
            && let Some(matrix) = Matrix::mapped(rows, device)
        {
            return Ok(matrix);
        }
        let mut packed = Vec::with_capacity(maps.len());
        for name in &names {
            maps[0].settle().await?;
            packed.push(weights.matrix(name, shape, precision).await?);
        }
        Ok(maps[0].matrix(match (order, <&[QuantizedMatrix; 2]>::try_from(&packed[..])) {
            (ColumnOrder::Interleaved, Ok(both)) => QuantizedMatrix::interleave_columns(both),
            _ if packed.len() == 1 => packed.remove(0),
            _ => QuantizedMatrix::concat_columns(&packed),
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

    /// Waits now and then until the device has taken what was uploaded before the last such moment: a queue keeps a copy of all
    /// it is given, and stands still where it is always waited for.
    async fn settle(&self) -> Result<(), Error> {
        if self.uploads.pending.get() < PENDING_MAX {
            return Ok(());
        }
        self.uploads.pending.set(0);
        let mark = Tensor::<1>::zeros([1], self.device);
        let mut next: Mark = Box::pin(async move {
            let lost = |error| Error::Read { what: "the uploaded weights".into(), why: format!("{error:?}") };
            mark.into_data_async().await.map(drop).map_err(lost)
        });
        // A future that was never polled has not begun.
        let begun = poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
        let waiting = if begun.is_pending() { Some(next) } else { None };
        match self.uploads.last.replace(waiting) {
            Some(last) => last.await,
            None => Ok(()),
        }
    }
}

impl Params<'_> {
    /// Waits for the last mark. Whoever has read a network does: a read that is dropped under way spoils the next one, which
    /// may be given the same buffer.
    pub(crate) async fn settled(&self) -> Result<(), Error> {
        match self.uploads.last.take() {
            Some(last) => last.await,
            None => Ok(()),
        }
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

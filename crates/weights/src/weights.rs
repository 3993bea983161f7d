//! The weights of one network by name, read one at a time: from `<stem>.safetensors` or a variant of it, from the shards that
//! `<stem>.safetensors.index.json` lists, or from a packed checkpoint.
//!
//! Contract: a weight that is returned has the requested shape and holds finite values only. A damaged file is therefore
//! found while a network is loaded, not in its images.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::header::{read_header, read_network};
use crate::lora::rows_and_width;
use crate::tensor_location::TensorLocation;
use crate::{
    ColumnOrder, Error, Folder, LoraAdapter, MappedLayout, MappedMatrix, QuantizedMatrix, StoredDtype, WeightFormat,
    transposed,
};

mod adapted;
mod merged;
mod rows;
mod values;

pub(crate) use values::{read_scale, scale_tensor};

/// Bytes that are read and converted at a time, so that only one copy of a large tensor is ever whole.
const CHUNK_BYTES: u64 = 4 << 20;

/// The weights of one network, by name.
pub struct Weights<'folder> {
    folder: &'folder Folder,
    /// The file, or the index, that errors about missing tensors name.
    source: String,
    tensors: BTreeMap<String, TensorLocation>,
    adapters: Vec<Arc<LoraAdapter>>,
}

impl<'folder> Weights<'folder> {
    /// Opens the weights of the network in `dir`: those of a packed checkpoint, else of `<dir>/<stem>.safetensors`, else of
    /// the shards that `<dir>/<stem>.safetensors.index.json` lists, else of a variant, as `<stem>.fp16.safetensors`
    /// ([`Folder::set_variant`]). LoRA adapters of the folder are merged on reading.
    ///
    /// # Errors
    /// A file that is missing or damaged, or a LoRA adapter for a tensor of another name or shape.
    pub async fn open(folder: &'folder Folder, dir: &str, stem: &str) -> Result<Self, Error> {
        let mut weights = if folder.sections(dir).next().is_some() {
            Self::packed(folder, dir)
        } else {
            let missing = || Error::MissingFile { file: format!("{dir}/{stem}.safetensors") };
            let (source, tensors) = read_network(folder, dir, stem).await?.ok_or_else(missing)?;
            Self { folder, source, tensors, adapters: Vec::new() }
        };
        weights.adapters = folder.lora_adapters(dir);
        for (name, shape) in weights.adapters.iter().flat_map(|adapter| adapter.weights()) {
            let found = weights.tensors.get(name).map(|tensor| &tensor.shape[..]);
            if found.map(rows_and_width) != Some(shape) {
                let found = found.map_or("no such tensor".to_owned(), |shape| format!("shape {shape:?}"));
                return Err(Error::LoraDoesNotFit { tensor: name.to_owned(), shape: shape.to_vec(), found });
            }
        }
        Ok(weights)
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub async fn file(folder: &'folder Folder, path: &str) -> Result<Self, Error> {
        let tensors = read_header(folder, path).await?;
        Ok(Self { folder, source: path.to_owned(), tensors, adapters: Vec::new() })
    }

    fn packed(folder: &'folder Folder, dir: &str) -> Self {
        let (mut tensors, mut source) = (BTreeMap::new(), String::new());
        for section in folder.sections(dir) {
            source = section.path();
            for tensor in &section.tensors {
                let range = tensor.offset..tensor.offset + tensor.bytes;
                let (layout, shape) = (tensor.layout, tensor.shape.clone());
                tensors.insert(tensor.name.clone(), TensorLocation { file: section.path(), layout, shape, range });
            }
        }
        Self { folder, source, tensors, adapters: Vec::new() }
    }

    /// Returns the names of all weights, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns whether the network has a weight of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns the format in which to request matrices that are stored as the matrix `name`, so that each keeps its numbers where a
    /// format holds them: q8 where it is quantized, since [`Weights::matrix`] returns smaller formats as they are stored. Other
    /// quantized types of ggml are rounded to q8. An f16 matrix of a diffusers folder is widened to f32.
    ///
    /// # Errors
    /// A weight that is missing.
    pub fn lossless_format(&self, name: &str) -> Result<WeightFormat, Error> {
        let layout = self.location(name)?.layout;
        Ok(match layout.weight_format() {
            Some(format) => format.min(WeightFormat::Q8),
            None if matches!(layout.dtype, StoredDtype::Ggml(_)) => WeightFormat::Q8,
            None if layout.dtype == StoredDtype::Bf16 => WeightFormat::Bf16,
            None => WeightFormat::F32,
        })
    }

    /// Returns the shape of a weight.
    ///
    /// # Errors
    /// A weight that is missing.
    pub fn shape(&self, name: &str) -> Result<&[usize], Error> {
        Ok(&self.location(name)?.shape)
    }

    /// Returns whether the folder is for a check, see [`Folder::headers_only`].
    #[must_use]
    pub fn is_headers_only(&self) -> bool {
        self.folder.is_headers_only()
    }

    /// Checks that the weight `name` is there, with this shape and the dtype of a weight, without reading it.
    ///
    /// # Errors
    /// A weight that is missing, of another shape, or of a dtype other than F32, F16 and BF16.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<(), Error> {
        let TensorLocation { file, layout, .. } = self.location_of_shape(name, shape)?;
        match layout.weight_format() {
            None if !layout.dtype.is_weight() => Err(Error::weight_dtype(file, name, layout.dtype)),
            _ => Ok(()),
        }
    }

    /// Reads the weight `name` as f32, row-major, with LoRA adapters merged.
    ///
    /// # Errors
    /// A weight that is missing, of another shape, of a dtype other than F32, F16 and BF16, or not finite.
    pub async fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let tensor = self.location_of_shape(name, shape)?;
        let mut values = match tensor.layout.weight_format() {
            Some(format) => {
                let matrix = self.read_words(name, tensor, format).await?;
                let [inputs, outputs] = matrix.shape;
                transposed(&matrix.values(), inputs, outputs)
            }
            None => self.read_values(name, tensor).await?,
        };
        let [_, width] = rows_and_width(shape);
        self.merges(name).iter().for_each(|merge| merge.merge(0, &mut values, width));
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(not_finite(name, tensor, index, values[index]));
        }
        Ok(values)
    }

    /// Returns the format in which [`Weights::matrix`] returns the matrix `name` of shape `[outputs, inputs]`.
    ///
    /// # Errors
    /// A weight that is missing.
    pub fn matrix_format(
        &self,
        name: &str,
        [outputs, inputs]: [usize; 2],
        format: WeightFormat,
    ) -> Result<WeightFormat, Error> {
        let layout = self.location(name)?.layout;
        let stored = match layout.dtype {
            StoredDtype::Ggml(ggml_type) => ggml_type.same_numbers().filter(|stored| stored.fits(inputs, outputs)),
            _ => layout.weight_format(),
        };
        Ok(match stored {
            Some(stored) if stored >= format || !format.fits(inputs, outputs) => stored,
            _ if format.fits(inputs, outputs) => format,
            _ => WeightFormat::F32,
        })
    }

    /// Reads the matrix `name` of shape `[outputs, inputs]` in `format`, with LoRA adapters merged; in the format it is stored in
    /// where that is a smaller one; in f32 where its shape does not permit `format`.
    ///
    /// # Errors
    /// As [`Weights::f32`]; a number that is too large for an f16 of `format`.
    pub async fn matrix(&self, name: &str, shape: [usize; 2], format: WeightFormat) -> Result<QuantizedMatrix, Error> {
        let [outputs, inputs] = shape;
        let tensor = self.location_of_shape(name, &shape)?;
        let format = self.matrix_format(name, shape, format)?;
        if self.has_lora(name) {
            return self.adapted_matrix(name, tensor, format).await;
        }
        if tensor.layout.weight_format() == Some(format) {
            return self.read_words(name, tensor, format).await;
        }
        if let Some(stored) = tensor.layout.weight_format() {
            return Ok(self.read_words(name, tensor, stored).await?.requantized(format));
        }
        let rows = self.stored_rows(name, tensor).await?;
        let mut words = Vec::new();
        for range in rows.chunks(CHUNK_BYTES, true) {
            let bytes = self.folder.read(&tensor.file, range.clone()).await?;
            rows.quantize(&bytes, range.start, format, &mut words)?;
        }
        Ok(QuantizedMatrix { words, shape: [inputs, outputs], format })
    }

    /// Maps matrices of shape `[outputs, inputs]` as one matrix that stays in its file, with the numbers that
    /// [`Weights::matrix`] reads. Returns `None` where one of them is not in a mapped file, has a LoRA adapter, is stored otherwise
    /// than the others, or has to be rounded.
    ///
    /// # Errors
    /// A weight that is missing, of another shape, or not finite.
    pub fn mapped_matrix(
        &self,
        names: &[String],
        [outputs, inputs]: [usize; 2],
        format: WeightFormat,
        order: ColumnOrder,
    ) -> Result<Option<MappedMatrix>, Error> {
        let (mut parts, mut layout) = (Vec::with_capacity(names.len()), None);
        for name in names {
            let tensor = self.location_of_shape(name, &[outputs, inputs])?;
            let format = self.matrix_format(name, [outputs, inputs], format)?;
            let Some(found) = MappedLayout::of(tensor.layout, format).filter(|_| !self.has_lora(name)) else {
                return Ok(None);
            };
            let Some(mapped) = self.folder.mapped(&tensor.file, tensor.range.clone()) else { return Ok(None) };
            if *layout.get_or_insert(found) != found {
                return Ok(None);
            }
            parts.push(mapped);
        }
        let Some(layout) = layout else { return Ok(None) };
        let Some(matrix) = MappedMatrix::new(parts, order, [inputs, outputs], layout) else { return Ok(None) };
        match matrix.find_non_finite() {
            Some((part, index, value)) => Err(not_finite(&names[part], self.location(&names[part])?, index, value)),
            None => Ok(Some(matrix)),
        }
    }

    fn has_lora(&self, name: &str) -> bool {
        self.adapters.iter().any(|adapter| adapter.adapts(name))
    }

    /// Reads a matrix that is stored as words.
    async fn read_words(
        &self,
        name: &str,
        tensor: &TensorLocation,
        format: WeightFormat,
    ) -> Result<QuantizedMatrix, Error> {
        let [outputs, inputs] = tensor.shape[..].try_into().expect("a transposed tensor has two axes");
        let words = self.read_elements(tensor, u32::from_le_bytes).await?;
        finite(name, tensor, QuantizedMatrix { words, shape: [inputs, outputs], format })
    }

    async fn read_elements<const BYTES: usize, T>(
        &self,
        tensor: &TensorLocation,
        element: impl Fn([u8; BYTES]) -> T,
    ) -> Result<Vec<T>, Error> {
        let Range { start, end } = tensor.range;
        let mut elements = Vec::with_capacity((end - start) as usize / BYTES);
        for from in (start..end).step_by(CHUNK_BYTES as usize) {
            let bytes = self.folder.read(&tensor.file, from..end.min(from + CHUNK_BYTES)).await?;
            let (chunks, rest) = bytes.as_chunks::<BYTES>();
            assert!(rest.is_empty(), "header checks leave whole elements, not {} bytes over", rest.len());
            elements.extend(chunks.iter().map(|bytes| element(*bytes)));
        }
        Ok(elements)
    }

    fn location_of_shape(&self, name: &str, shape: &[usize]) -> Result<&TensorLocation, Error> {
        let tensor = self.location(name)?;
        if tensor.shape == shape {
            return Ok(tensor);
        }
        let file = tensor.file.clone();
        Err(Error::WrongShape { file, tensor: name.to_owned(), expected: shape.to_vec(), got: tensor.shape.clone() })
    }

    fn location(&self, name: &str) -> Result<&TensorLocation, Error> {
        let missing = || Error::MissingTensor { file: self.source.clone(), tensor: name.to_owned() };
        self.tensors.get(name).ok_or_else(missing)
    }
}

fn finite(name: &str, tensor: &TensorLocation, matrix: QuantizedMatrix) -> Result<QuantizedMatrix, Error> {
    match matrix.find_non_finite() {
        Some((index, value)) => Err(not_finite(name, tensor, index, value)),
        None => Ok(matrix),
    }
}

fn not_finite(name: &str, tensor: &TensorLocation, index: usize, value: f32) -> Error {
    Error::NotFinite { file: tensor.file.clone(), tensor: name.to_owned(), index, value }
}

#[cfg(test)]
mod tests;

//! The weights of one network, one by one, wherever they are: in `<stem>.safetensors`, in the shards that
//! `<stem>.safetensors.index.json` lists, or in a packed checkpoint. Only the tensor that is asked for is read.
//!
//! What is handed out has the shape that was asked for and is finite, so a damaged file is found while loading and not in the
//! picture.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use safetensors::Dtype;

use crate::manifest::Kept;
use crate::{Adapter, Error, Folder, Order, Packed, Precision, Rows, header};

const WEIGHT_DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];
/// Bytes that are read and converted at a time, so that only one copy of a large tensor is ever whole.
const PIECE: u64 = 4 << 20;

/// The weights of one network, by name.
pub struct Weights<'folder> {
    folder: &'folder Folder,
    /// The file, or the index, that a missing tensor is reported against.
    source: String,
    stored: BTreeMap<String, Stored>,
    adapters: Vec<Arc<Adapter>>,
}

struct Stored {
    file: String,
    layout: Layout,
    shape: Vec<usize>,
    range: Range<u64>,
}

#[derive(Clone, Copy)]
enum Layout {
    RowMajor(Dtype),
    Transposed(Precision),
}

impl<'folder> Weights<'folder> {
    /// The weights below `dir`: those of a packed checkpoint, or of `<dir>/<stem>.safetensors`, or of the shards of
    /// `<dir>/<stem>.safetensors.index.json` where there is no such file.
    ///
    /// # Errors
    /// Files that are missing or damaged, or an adapter for other weights.
    pub async fn open(folder: &'folder Folder, dir: &str, stem: &str) -> Result<Self, Error> {
        let mut weights = if folder.sections(dir).next().is_some() {
            Self::packed(folder, dir)
        } else {
            let missing = || Error::MissingFile { file: format!("{dir}/{stem}.safetensors") };
            Self::of(folder, header::of_network(folder, dir, stem).await?.ok_or_else(missing)?)
        };
        weights.adapters = folder.adapters(dir);
        for (name, shape) in weights.adapters.iter().flat_map(|adapter| adapter.weights()) {
            let has = weights.stored.get(name).map(|stored| &stored.shape[..]);
            if has != Some(shape) {
                let has = has.map_or("none".to_owned(), |has| format!("{has:?}"));
                return Err(Error::AdapterDoesNotFit { tensor: name.to_owned(), got: shape.to_vec(), has });
            }
        }
        Ok(weights)
    }

    /// Those of one safetensors file.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub async fn file(folder: &'folder Folder, path: &str) -> Result<Self, Error> {
        Ok(Self::of(folder, (path.to_owned(), header::read(folder, path).await?)))
    }

    fn of(folder: &'folder Folder, (source, entries): (String, BTreeMap<String, header::Entry>)) -> Self {
        let stored = |(name, header::Entry { file, dtype, shape, range })| {
            (name, Stored { file, layout: Layout::RowMajor(dtype), shape, range })
        };
        Self { folder, source, stored: entries.into_iter().map(stored).collect(), adapters: Vec::new() }
    }

    fn packed(folder: &'folder Folder, dir: &str) -> Self {
        let (mut stored, mut source) = (BTreeMap::new(), String::new());
        for section in folder.sections(dir) {
            source = section.path();
            for packing in &section.tensors {
                let layout = match (packing.form.dtype, packing.form.transposed) {
                    (kept, true) => match kept.precision() {
                        Some(precision) => Layout::Transposed(precision),
                        None => Layout::RowMajor(Dtype::U8),
                    },
                    (Kept::F16, false) => Layout::RowMajor(Dtype::F16),
                    (Kept::Bf16, false) => Layout::RowMajor(Dtype::BF16),
                    (Kept::F32, false) => Layout::RowMajor(Dtype::F32),
                    (_, false) => Layout::RowMajor(Dtype::U8),
                };
                let range = packing.offset..packing.offset + packing.bytes;
                let one = Stored { file: section.path(), layout, shape: packing.shape.clone(), range };
                stored.insert(packing.name.clone(), one);
            }
        }
        Self { folder, source, stored, adapters: Vec::new() }
    }

    /// Every weight's name, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.stored.keys().map(String::as_str)
    }

    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.stored.contains_key(name)
    }

    /// The best precision that loses nothing of the matrix `name` as it is stored; f16 is widened.
    ///
    /// # Errors
    /// One that is missing.
    pub fn precision(&self, name: &str) -> Result<Precision, Error> {
        Ok(match self.named(name)?.layout {
            Layout::Transposed(precision) => precision,
            Layout::RowMajor(Dtype::BF16) => Precision::Bf16,
            Layout::RowMajor(_) => Precision::F32,
        })
    }

    /// # Errors
    /// One that is missing.
    pub fn shape(&self, name: &str) -> Result<&[usize], Error> {
        Ok(&self.named(name)?.shape)
    }

    /// The weight `name`, row major.
    ///
    /// # Errors
    /// One that is missing, of another shape, of a dtype that is not F32, F16 or BF16, or not finite.
    pub async fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let stored = self.stored(name, shape)?;
        let mut values = match stored.layout {
            Layout::RowMajor(Dtype::F32) => self.numbers(stored, f32::from_le_bytes).await?,
            Layout::RowMajor(Dtype::F16) => self.numbers(stored, |bytes| f16::from_le_bytes(bytes).to_f32()).await?,
            Layout::RowMajor(Dtype::BF16) => self.numbers(stored, |bytes| bf16::from_le_bytes(bytes).to_f32()).await?,
            Layout::RowMajor(got) => {
                let (file, tensor) = (stored.file.clone(), name.to_owned());
                return Err(Error::WrongDtype { file, tensor, got, accepted: WEIGHT_DTYPES.to_vec() });
            }
            Layout::Transposed(precision) => {
                let packed = self.kept(name, stored, precision).await?;
                let [inputs, outputs] = packed.shape;
                transposed(&packed.values(), inputs, outputs)
            }
        };
        self.adapters.iter().for_each(|adapter| adapter.add_to(name, &mut values));
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(not_finite(name, stored, index, values[index]));
        }
        Ok(values)
    }

    /// The matrix `name`, `[outputs, inputs]`, in `precision`, or in a smaller one that it is stored in, or in full where
    /// its shape does not fit `precision`.
    ///
    /// # Errors
    /// As [`Weights::f32`].
    pub async fn matrix(&self, name: &str, shape: [usize; 2], precision: Precision) -> Result<Packed, Error> {
        let [outputs, inputs] = shape;
        let stored = self.stored(name, &shape)?;
        let is_adapted = self.is_adapted(name);
        if let (Layout::Transposed(kept), false) = (stored.layout, is_adapted)
            && (kept >= precision || !precision.fits(inputs, outputs))
        {
            return self.kept(name, stored, kept).await;
        }
        let precision = if precision.fits(inputs, outputs) { precision } else { Precision::F32 };
        if let (Layout::RowMajor(Dtype::BF16), false, Precision::Bf16) = (stored.layout, is_adapted, precision) {
            let halves = transposed(&self.numbers(stored, u16::from_le_bytes).await?, outputs, inputs);
            return checked(name, stored, Packed::of_halves(&halves, [inputs, outputs], precision));
        }
        let values = transposed(&self.f32(name, &shape).await?, outputs, inputs);
        Ok(Packed::new(&values, [inputs, outputs], precision))
    }

    /// Matrices `[outputs, inputs]` as one, in the file they are in. None where one is not in a file in memory, is added to, or
    /// is not stored in `precision`.
    ///
    /// # Errors
    /// One that is missing, of another shape, or not finite.
    pub fn rows(
        &self,
        names: &[String],
        [outputs, inputs]: [usize; 2],
        precision: Precision,
        order: Order,
    ) -> Result<Option<Rows>, Error> {
        let mut maps = Vec::with_capacity(names.len());
        for name in names {
            let stored = self.stored(name, &[outputs, inputs])?;
            let kept = match stored.layout {
                Layout::RowMajor(Dtype::F32) => Precision::F32,
                Layout::RowMajor(Dtype::BF16) => Precision::Bf16,
                _ => return Ok(None),
            };
            match self.folder.mapped(&stored.file, stored.range.clone()) {
                Some(mapped) if kept == precision && !self.is_adapted(name) => maps.push(mapped),
                _ => return Ok(None),
            }
        }
        let rows = Rows::new(maps, order, [inputs, outputs], precision);
        match rows.not_finite() {
            Some((map, index, value)) => Err(not_finite(&names[map], self.named(&names[map])?, index, value)),
            None => Ok(Some(rows)),
        }
    }

    fn is_adapted(&self, name: &str) -> bool {
        self.adapters.iter().flat_map(|adapter| adapter.weights()).any(|(adapted, _)| adapted == name)
    }

    async fn kept(&self, name: &str, stored: &Stored, precision: Precision) -> Result<Packed, Error> {
        let [outputs, inputs] = stored.shape[..].try_into().expect("a transposed tensor has two axes");
        let words = self.numbers(stored, u32::from_le_bytes).await?;
        checked(name, stored, Packed { words, shape: [inputs, outputs], precision })
    }

    async fn numbers<const BYTES: usize, T>(
        &self,
        stored: &Stored,
        read: impl Fn([u8; BYTES]) -> T,
    ) -> Result<Vec<T>, Error> {
        let Range { start, end } = stored.range;
        let mut all = Vec::with_capacity((end - start) as usize / BYTES);
        for from in (start..end).step_by(PIECE as usize) {
            let bytes = self.folder.read(&stored.file, from..end.min(from + PIECE)).await?;
            let (numbers, rest) = bytes.as_chunks::<BYTES>();
            assert!(rest.is_empty(), "checks leave whole numbers, not {} bytes over", rest.len());
            all.extend(numbers.iter().map(|bytes| read(*bytes)));
        }
        Ok(all)
    }

    fn stored(&self, name: &str, shape: &[usize]) -> Result<&Stored, Error> {
        let stored = self.named(name)?;
        if stored.shape == shape {
            return Ok(stored);
        }
        let (file, tensor) = (stored.file.clone(), name.to_owned());
        Err(Error::WrongShape { file, tensor, expected: shape.to_vec(), got: stored.shape.clone() })
    }
}

impl Weights<'_> {
    fn named(&self, name: &str) -> Result<&Stored, Error> {
        self.stored.get(name).ok_or_else(|| Error::MissingTensor { file: self.source.clone(), tensor: name.to_owned() })
    }
}

fn checked(name: &str, stored: &Stored, packed: Packed) -> Result<Packed, Error> {
    match packed.not_finite() {
        Some((index, value)) => Err(not_finite(name, stored, index, value)),
        None => Ok(packed),
    }
}

fn not_finite(name: &str, stored: &Stored, index: usize, value: f32) -> Error {
    Error::NotFinite { file: stored.file.clone(), tensor: name.to_owned(), index, value }
}

/// Row-major `[rows, columns]` → `[columns, rows]`.
///
/// # Panics
/// Where the values do not fill the shape.
#[must_use]
pub fn transposed<T: Copy + Default>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    // Small squares of both matrices are in the cache at once.
    const SIDE: usize = 32;
    assert_eq!(values.len(), rows * columns);
    let mut out = vec![T::default(); values.len()];
    for first_row in (0..rows).step_by(SIDE) {
        for first_column in (0..columns).step_by(SIDE) {
            for column in first_column..columns.min(first_column + SIDE) {
                let out = &mut out[column * rows..][first_row..rows.min(first_row + SIDE)];
                for (out, row) in out.iter_mut().zip(first_row..) {
                    *out = values[row * columns + column];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;

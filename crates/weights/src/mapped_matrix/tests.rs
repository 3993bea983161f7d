//! A mapped matrix has the numbers of the matrix that is read.

use super::*;

const ORDERS: [ColumnOrder; 2] = [ColumnOrder::Concatenated, ColumnOrder::Interleaved];
const BLOCKS: [GgmlType; 4] = [GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q4_K];
const SHAPE: [usize; 2] = [256, 16];

/// Bytes of a file in which a part begins at `start`.
fn mapped(bytes: Vec<u8>, start: usize) -> MappedBytes {
    // The allocation of a vector of words is aligned as a mapping is.
    let mut words = vec![0_u32; (start + bytes.len()).div_ceil(4)];
    bytemuck::cast_slice_mut::<u32, u8>(&mut words)[start..start + bytes.len()].copy_from_slice(&bytes);
    MappedBytes { file: Arc::new(Words(words)), range: start..start + bytes.len() }
}

struct Words(Vec<u32>);

impl AsRef<[u8]> for Words {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Values of each sign, `[inputs, outputs]`.
fn values(seed: usize) -> Vec<f32> {
    (0..SHAPE[0] * SHAPE[1]).map(|i| ((i * 37 + seed * 11) % 64) as f32 / 4.0 - 8.0).collect()
}

/// Rows `[outputs, inputs]` of a float format.
fn floats(values: &[f32], format: WeightFormat) -> Vec<u8> {
    let rows = crate::transposed(values, SHAPE[0], SHAPE[1]);
    match format {
        WeightFormat::F32 => rows.iter().flat_map(|value| value.to_le_bytes()).collect(),
        WeightFormat::F16 => rows.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
        _ => rows.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
    }
}

/// Blocks of any integers and of small scales.
fn blocks(ggml_type: GgmlType, seed: usize) -> Vec<u8> {
    let bytes = SHAPE[1] * ggml_type.bytes(SHAPE[0]);
    let mut blocks: Vec<u8> = (0..bytes).map(|at| (at * 101 + at / 7 * 13 + seed * 59) as u8).collect();
    for (at, block) in blocks.chunks_exact_mut(ggml_type.block_bytes()).enumerate() {
        for number in 0..2 {
            let scale = f16::from_f32((at % 5) as f32 / 16.0 - 0.125 + number as f32);
            block[2 * number..2 * number + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    blocks
}

#[track_caller]
fn same(stored: [MappedBytes; 2], layout: MappedLayout, read: [QuantizedMatrix; 2]) {
    for order in ORDERS {
        let matrix = MappedMatrix::new(stored.to_vec(), order, SHAPE, layout).expect("it is aligned");
        let want = QuantizedMatrix::merged(read.to_vec(), order);
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(matrix.shape(), want.shape);
        assert!(bits(matrix.values()) == bits(want.values()), "{layout:?} {order:?}");
        assert_eq!(matrix.find_non_finite(), None);
    }
}

#[test]
fn mapped_parts_have_the_values_of_the_merged_matrices() {
    let maps = [values(1), values(2)];
    for format in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::F16] {
        let stored = maps.each_ref().map(|map| mapped(floats(map, format), 3));
        let read = maps.each_ref().map(|map| QuantizedMatrix::new(map, SHAPE, format));
        same(stored, MappedLayout::Floats(format), read);
    }
    for format in WeightFormat::ALL {
        let read = maps.each_ref().map(|map| QuantizedMatrix::new(map, SHAPE, format));
        let stored = read.each_ref().map(|matrix| mapped(bytemuck::cast_slice(&matrix.words).to_vec(), 8));
        same(stored, MappedLayout::Words(format), read);
    }
    for ggml_type in BLOCKS {
        let read = [1, 2].map(|seed| QuantizedMatrix::from_integer_blocks(&blocks(ggml_type, seed), SHAPE, ggml_type));
        let stored = [1, 2].map(|seed| mapped(blocks(ggml_type, seed), 3));
        same(stored, MappedLayout::Blocks(ggml_type), read);
    }
}

#[test]
fn a_part_of_a_column_is_read() {
    let matrix = |bytes, layout| MappedMatrix::new(vec![mapped(bytes, 1)], ORDERS[0], SHAPE, layout).expect("aligned");
    let floats = matrix(floats(&values(1), WeightFormat::F16), MappedLayout::Floats(WeightFormat::F16));
    let blocks = matrix(blocks(GgmlType::Q8_0, 1), MappedLayout::Blocks(GgmlType::Q8_0));
    assert_eq!((floats.block_inputs(), blocks.block_inputs()), (1, 32));
    for (matrix, first) in [(floats, 7), (blocks, 96)] {
        let (mut whole, mut part) = ([0.0; SHAPE[0]], [0.0; 64]);
        matrix.column(5, 0, &mut whole);
        matrix.column(5, first, &mut part);
        assert_eq!(part, whole[first..first + 64]);
    }
}

#[test]
fn a_value_that_is_not_finite_is_found() {
    for (format, infinity) in
        [(WeightFormat::F32, f32::NEG_INFINITY), (WeightFormat::Bf16, f32::NAN), (WeightFormat::F16, f32::INFINITY)]
    {
        let mut damaged = values(1);
        // In rows of the file: output 3, input 200.
        damaged[200 * SHAPE[1] + 3] = infinity;
        let parts = [values(2), damaged].map(|values| mapped(floats(&values, format), 0));
        let matrix =
            MappedMatrix::new(parts.to_vec(), ORDERS[0], SHAPE, MappedLayout::Floats(format)).expect("aligned");
        let (part, index, value) = matrix.find_non_finite().expect("there is one");
        assert_eq!((part, index), (1, 3 * SHAPE[0] + 200), "{format}");
        assert!(value.is_nan() == infinity.is_nan() && (value == infinity || value.is_nan()), "{format}: {value}");
    }
    for ggml_type in BLOCKS {
        let mut damaged = blocks(ggml_type, 1);
        let last = damaged.len() - ggml_type.block_bytes();
        damaged[last..last + 2].copy_from_slice(&f16::INFINITY.to_le_bytes());
        let matrix = MappedMatrix::new(vec![mapped(damaged, 0)], ORDERS[0], SHAPE, MappedLayout::Blocks(ggml_type));
        let index = SHAPE[0] * SHAPE[1] - ggml_type.block_values();
        assert_eq!(matrix.expect("aligned").find_non_finite(), Some((0, index, f32::INFINITY)), "{ggml_type}");
    }
    let mut matrix = QuantizedMatrix::new(&values(1), SHAPE, WeightFormat::Q8);
    *matrix.words.last_mut().expect("it has scales") = 0x7c00_0000;
    let stored = vec![mapped(bytemuck::cast_slice(&matrix.words).to_vec(), 0)];
    let mapped = MappedMatrix::new(stored, ORDERS[0], SHAPE, MappedLayout::Words(WeightFormat::Q8)).expect("aligned");
    assert_eq!(mapped.find_non_finite().map(|(part, _, value)| (part, value)), Some((0, f32::INFINITY)));
}

#[test]
fn words_between_two_multiples_of_four_are_not_mapped() {
    let words = QuantizedMatrix::new(&values(1), SHAPE, WeightFormat::Q8).words;
    let stored = mapped(bytemuck::cast_slice(&words).to_vec(), 2);
    assert!(MappedMatrix::new(vec![stored], ORDERS[0], SHAPE, MappedLayout::Words(WeightFormat::Q8)).is_none());
}

#[test]
fn only_tensors_with_the_same_numbers_are_mapped() {
    let floats = |dtype, format| MappedLayout::of(TensorLayout::row_major(dtype), format);
    assert_eq!(floats(StoredDtype::F16, WeightFormat::F32), Some(MappedLayout::Floats(WeightFormat::F16)));
    assert_eq!(floats(StoredDtype::F16, WeightFormat::Bf16), None);
    assert_eq!(floats(StoredDtype::F32, WeightFormat::F16), None);
    assert_eq!(floats(StoredDtype::Bf16, WeightFormat::Q8), None);
    assert_eq!(floats(StoredDtype::F8E5M2, WeightFormat::F32), None);
    let ggml = |ggml_type, format| floats(StoredDtype::Ggml(ggml_type), format);
    assert_eq!(ggml(GgmlType::Q8_0, WeightFormat::Q8), Some(MappedLayout::Blocks(GgmlType::Q8_0)));
    assert_eq!(ggml(GgmlType::Q6_K, WeightFormat::Q8), None);
}

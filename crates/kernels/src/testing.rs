//! What the kernels' tests share: inputs, the comparison, and the GPU.

use burn::tensor::{DType, Device, DeviceKind, Tensor};

use crate::{Family, counted};

/// Repeatable numbers in -1..1 with an outlier of 30 here and there: with even inputs a wrong row can look right.
pub(crate) fn values(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let number = |bits: u32| (bits >> 8) as f32 / (1 << 23) as f32 - 1.0;
    (0..count).map(|_| if next() % 97 == 0 { 30.0 } else { number(next()) }).collect()
}

/// |got - want| ≤ tolerance · max|want| for every element; NaN and infinity never agree.
pub(crate) fn assert_close(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let bound = tolerance * want.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let near = (got - want).abs() <= bound;
        assert!(near && want.is_finite(), "{what}: element {index} is {got}, want {want} within {bound}");
    }
}

/// Runs `test` on the processor, by our operations and by burn's, and in both families of shaders on the GPU that wgpu
/// finds, which may be a software one. `NO_GPU=1` leaves the GPU out, and says so.
pub(crate) fn on_every_device(test: impl Fn(&Device)) {
    for family in [Family::default(), Family::Stock] {
        family.choose();
        test(&Device::flex());
    }
    if std::env::var_os("NO_GPU").is_some_and(|value| value == "1") {
        println!("NOT RUN in WGSL, because NO_GPU=1");
        return;
    }
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    for family in [Family::Gpu, Family::Software] {
        family.choose();
        let ((), counts) = counted(|| test(&device));
        assert!(counts.dispatches > 0, "the {family:?} family launched nothing");
    }
}

/// The tensor's numbers, as f32.
pub(crate) fn read<const RANK: usize>(tensor: Tensor<RANK>) -> Vec<f32> {
    tensor.cast(DType::F32).into_data().try_into_vec().expect("f32 comes back")
}

#[test]
fn equal_numbers_are_close() {
    assert_close(&[1.0, 2.0], &[1.0, 2.0], 0.0, "same");
}

#[test]
#[should_panic(expected = "element 1 is 2.1")]
fn a_wrong_number_is_not_close() {
    assert_close(&[1.0, 2.1], &[1.0, 2.0], 1e-3, "wrong");
}

#[test]
#[should_panic(expected = "element 0 is NaN")]
fn nan_is_not_close() {
    assert_close(&[f32::NAN], &[f32::NAN], 1.0, "nan");
}

//! Inputs, comparison and devices of the operations' tests. A test of an operation is an asynchronous function of a device, since a
//! browser cannot block on a readback. `cargo test` runs each on every native device; with the feature `checks` they are listed in
//! [`CHECKS`], for a browser to run.

use std::pin::Pin;

use burn::tensor::{DType, Device, Tensor};

use crate::options::MOMENT_VALUES;

/// A test of an operation.
pub struct Check {
    pub name: &'static str,
    /// True if the test needs the optional WebGPU feature `shader-f16`.
    pub shader_f16: bool,
    /// Runs the test, which panics if a result is wrong.
    pub run: for<'device> fn(&'device Device) -> Pin<Box<dyn Future<Output = ()> + 'device>>,
}

/// Every test of every operation, by the operation's name.
pub const CHECKS: [(&str, &[Check]); 6] = crate::ops::tests::CHECKS;

/// Lists the tests of a file, each an `async fn(&Device)`, and makes native tests of them.
macro_rules! checks {
    ([$($name:ident),* $(,)?], shader_f16: [$($half:ident),*]) => {
        pub(crate) const CHECKS: &[crate::testing::Check] = &[
            $(crate::testing::check!($name, false),)*
            $(crate::testing::check!($half, true),)*
        ];

        #[cfg(test)]
        mod on_every_device {
            crate::testing::native!($($name)* $($half)*);
        }
    };
}
macro_rules! check {
    ($name:ident, $shader_f16:literal) => {
        crate::testing::Check {
            name: stringify!($name),
            shader_f16: $shader_f16,
            run: |device| Box::pin($name(device)),
        }
    };
}
#[cfg(test)]
macro_rules! native {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                crate::testing::on_every_device(super::$name);
            }
        )*
    };
}
#[cfg(test)]
pub(crate) use native;
pub(crate) use {check, checks};

/// Returns reproducible numbers in -1..1 with outliers of 30: with uniform inputs a wrong row can look right.
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

/// Asserts |got - want| ≤ tolerance · max|want| for every element; NaN and infinity never pass.
pub(crate) fn assert_close(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let bound = tolerance * want.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let near = (got - want).abs() <= bound;
        assert!(near && want.is_finite(), "{what}: element {index} is {got}, want {want} within {bound}");
    }
}

/// Returns the moments of each group of each image of y `[B, PIXELS, C]`, computed in f64.
pub(crate) fn moments(y: &[f32], [b, c, groups]: [usize; 3]) -> Vec<f32> {
    let (pixels, own) = (y.len() / b / c, c / groups);
    let of = |set: usize| {
        let first = set / groups * pixels * c + set % groups * own;
        let group: Vec<f64> = (0..pixels * own).map(|at| f64::from(y[first + at / own * c + at % own])).collect();
        let count = group.len() as f64;
        let mean = group.iter().sum::<f64>() / count;
        [count, mean, group.iter().map(|value| (value - mean).powi(2)).sum(), 0.0].map(|number| number as f32)
    };
    (0..b * groups).flat_map(of).collect()
}

/// Applies [`assert_close`] to counts, means and squared distances separately, since their magnitudes differ.
pub(crate) fn assert_moments_close(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    for (at, number) in ["counts", "means", "squares"].into_iter().enumerate() {
        let own = |all: &[f32]| all.iter().skip(at).step_by(MOMENT_VALUES).copied().collect::<Vec<_>>();
        assert_close(&own(got), &own(want), tolerance, &format!("{what}: {number}"));
    }
}

/// Runs `test` on the CPU, by the CPU backend and by burn's operations, and in both variants of the shaders on the GPU that wgpu
/// finds, which may be a software driver. `NO_GPU=1` skips the GPU, and says so.
#[cfg(test)]
pub(crate) fn on_every_device(test: impl AsyncFn(&Device)) {
    use crate::{KernelVariant, count_launches};

    let test = |device: &Device| futures_lite::future::block_on(test(device));
    for variant in [KernelVariant::default(), KernelVariant::BurnReference] {
        variant.make_current();
        test(&Device::flex());
    }
    if std::env::var_os("NO_GPU").is_some_and(|value| value == "1") {
        println!("NOT RUN in WGSL, because NO_GPU=1");
        return;
    }
    let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
    for variant in [KernelVariant::WorkgroupTiled, KernelVariant::RegisterTiled] {
        variant.make_current();
        let ((), counts) = count_launches(|| test(&device));
        assert!(counts.dispatches > 0, "{variant:?} launched nothing");
    }
}

/// Reads the tensor back, as f32.
pub(crate) async fn read<const RANK: usize>(tensor: Tensor<RANK>) -> Vec<f32> {
    let data = tensor.cast(DType::F32).into_data_async().await;
    data.expect("the device answers").try_into_vec().expect("f32 comes back")
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
#[should_panic(expected = "means: element 0 is 0.2")]
fn a_wrong_mean_beside_a_large_count_is_not_close() {
    assert_moments_close(&[1000.0, 0.2, 1.0, 0.0], &[1000.0, 0.1, 1.0, 0.0], 1e-3, "wrong");
}

#[test]
#[should_panic(expected = "element 0 is NaN")]
fn nan_is_not_close() {
    assert_close(&[f32::NAN], &[f32::NAN], 1.0, "nan");
}

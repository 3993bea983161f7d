//! Batched matrix product with bias: y[g, m, n] = Σ_k a[g, m, k]·b[g, k, n] + bias[n].
//!
//! a `[G, M, K]`, b `[G, K, N]`, bias `[N]` → `[G, M, N]`; f32 in, f32 sums, f32 out. The WGSL body wants K and N to be
//! multiples of 4; other shapes take the portable body. Shader: shaders/gemm.wgsl.

use burn::backend::{Dispatch, tensor::FloatTensor};
use burn::tensor::Tensor;
use burn_wgpu::{CubeBackend, CubeTensor, KernelSource, SourceKernel, SourceTemplate, into_contiguous};
use cubecl::{CubeCount, CubeDim, prelude::KernelId, server::KernelArguments};

use crate::{Ops, wgsl};

const SHADER: &str = include_str!("../../../shaders/gemm.wgsl");
/// Invocations of a workgroup along each side.
const WORKGROUP: u32 = 8;
/// Rows and columns of y that one workgroup computes: 8 of each per invocation.
const TILE: usize = 64;

/// a·b + bias for each of G pairs of matrices.
///
/// # Panics
/// Where the shapes do not fit.
#[must_use]
pub fn gemm(a: Tensor<3>, b: Tensor<3>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let ([g, _, k], [b_g, b_k, n]) = (a.dims(), b.dims());
    assert_eq!((g, k), (b_g, b_k), "gemm of {:?} by {:?}", a.dims(), b.dims());
    if let Some(bias) = &bias {
        assert_eq!(bias.dims(), [n], "gemm bias");
    }
    let (a, b) = (a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => <Dispatch as Ops>::gemm_biased(a, b, bias.into_dispatch()),
        None => <Dispatch as Ops>::gemm(a, b),
    })
}

/// Everything that changes the shader's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Spec {
    m: usize,
    k: usize,
    n: usize,
    biased: bool,
}

impl KernelSource for Spec {
    fn source(&self) -> SourceTemplate {
        let [m, k4, n4] = [self.m, self.k / 4, self.n / 4].map(|count| count as u32);
        wgsl::template(SHADER, &[("M", m), ("K4", k4), ("N4", n4), ("BIASED", u32::from(self.biased))])
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(self.clone())
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

impl Ops for CubeBackend {
    fn gemm(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        if fits(&b) { launch(a, b, None) } else { reference::gemm::<Self>(a, b) }
    }

    fn gemm_biased(a: FloatTensor<Self>, b: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        if fits(&b) { launch(a, b, Some(bias)) } else { reference::gemm_biased::<Self>(a, b, bias) }
    }
}

#[cfg(not(target_family = "wasm"))]
impl Ops for burn::backend::Flex {
    fn gemm(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::gemm::<Self>(a, b)
    }

    fn gemm_biased(a: FloatTensor<Self>, b: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::gemm_biased::<Self>(a, b, bias)
    }
}

/// Whether the WGSL body can multiply by `b`.
fn fits(b: &CubeTensor) -> bool {
    let [_, k, n] = [0, 1, 2].map(|axis| b.meta.shape()[axis]);
    wgsl::is_spoken_by(b) && k.is_multiple_of(4) && n.is_multiple_of(4)
}

fn launch(a: CubeTensor, b: CubeTensor, bias: Option<CubeTensor>) -> CubeTensor {
    let (a, b, bias) = (into_contiguous(a), into_contiguous(b), bias.map(into_contiguous));
    let [g, m, k, n] = [a.meta.shape()[0], a.meta.shape()[1], a.meta.shape()[2], b.meta.shape()[2]];
    let mut shape = a.meta.shape().clone();
    shape[2] = n;
    let buffer = a.client.empty(g * m * n * size_of::<f32>());
    let y = CubeTensor::new_contiguous(a.client.clone(), a.device.clone(), shape, buffer, a.dtype);
    let spec = Spec { m, k, n, biased: bias.is_some() };
    let bias = bias.map_or_else(|| b.handle.clone(), |bias| bias.handle);
    y.client.launch(
        Box::new(SourceKernel::new(spec, CubeDim::new_2d(WORKGROUP, WORKGROUP))),
        CubeCount::Static(n.div_ceil(TILE) as u32, m.div_ceil(TILE) as u32, g as u32),
        KernelArguments::new().with_buffers(vec![
            a.handle.binding(),
            b.handle.binding(),
            bias.binding(),
            y.handle.clone().binding(),
        ]),
    );
    y
}

/// The portable bodies.
mod reference {
    use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};

    pub(super) fn gemm<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
        B::float_matmul(a, b)
    }

    pub(super) fn gemm_biased<B: Backend>(
        a: FloatTensor<B>,
        b: FloatTensor<B>,
        bias: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let n = bias.shape()[0];
        B::float_add(B::float_matmul(a, b), B::float_reshape(bias, [1, 1, n].into()))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::testing::{assert_close, gpu, values};

    /// The shader's sum, in f64.
    fn twin(a: &[f32], b: &[f32], bias: Option<&[f32]>, [g, m, k, n]: [usize; 4]) -> Vec<f32> {
        let mut y = Vec::with_capacity(g * m * n);
        for group in 0..g {
            for row in 0..m {
                for column in 0..n {
                    let a_row = &a[(group * m + row) * k..][..k];
                    let products = a_row.iter().enumerate().map(|(i, a)| {
                        let b = b[(group * k + i) * n + column];
                        f64::from(*a) * f64::from(b)
                    });
                    let sum: f64 = products.sum();
                    y.push((sum + bias.map_or(0.0, |bias| f64::from(bias[column]))) as f32);
                }
            }
        }
        y
    }

    fn ours(a: &[f32], b: &[f32], bias: Option<&[f32]>, [g, m, k, n]: [usize; 4], device: &Device) -> Vec<f32> {
        let a = Tensor::from_data(TensorData::new(a.to_vec(), [g, m, k]), device);
        let b = Tensor::from_data(TensorData::new(b.to_vec(), [g, k, n]), device);
        let bias = bias.map(|bias| Tensor::from_data(TensorData::new(bias.to_vec(), [n]), device));
        gemm(a, b, bias).into_data().try_into_vec().expect("f32 comes back")
    }

    /// G, M, K, N: one of each, primes, one past the tile, and shapes that only the portable body takes.
    const SHAPES: [[usize; 4]; 7] = [
        [1, 1, 4, 4],
        [1, 7, 12, 20],
        [2, 64, 64, 64],
        [3, 65, 36, 68],
        [1, 128, 192, 192],
        [2, 13, 7, 11],
        [1, 1, 1, 1],
    ];

    fn check(device: &Device) {
        for shape in SHAPES {
            let [g, m, k, n] = shape;
            let (a, b, bias) = (values(1, g * m * k), values(2, g * k * n), values(3, n));
            for bias in [None, Some(&bias[..])] {
                let want = twin(&a, &b, bias, shape);
                assert!(want.iter().any(|value| value.abs() > 0.1), "{shape:?} asks for nothing");
                assert_close(&ours(&a, &b, bias, shape, device), &want, 2e-6, &format!("{shape:?}"));
            }
        }
    }

    #[test]
    fn the_portable_body_agrees_with_the_twin() {
        check(&Device::flex());
    }

    #[test]
    fn the_shader_agrees_with_the_twin() {
        if let Some(device) = gpu() {
            check(&device);
        }
    }

    #[test]
    fn a_transposed_operand_is_read_as_it_is_seen() {
        let Some(device) = gpu() else { return };
        let (a, b) = (values(1, 8 * 16), values(2, 12 * 16));
        let left = Tensor::<3>::from_data(TensorData::new(a.clone(), [1, 8, 16]), &device);
        let right = Tensor::<3>::from_data(TensorData::new(b.clone(), [1, 12, 16]), &device).swap_dims(1, 2);
        let got: Vec<f32> = gemm(left, right, None).into_data().try_into_vec().expect("f32 comes back");
        let transposed: Vec<f32> = (0..16 * 12).map(|i| b[i % 12 * 16 + i / 12]).collect();
        assert_close(&got, &twin(&a, &transposed, None, [1, 8, 16, 12]), 2e-6, "transposed");
    }

    #[test]
    fn every_specialisation_is_valid_wgsl() {
        for [_, m, k, n] in SHAPES.into_iter().filter(|[_, _, k, n]| k.is_multiple_of(4) && n.is_multiple_of(4)) {
            let values = [("M", m as u32), ("K4", k as u32 / 4), ("N4", n as u32 / 4), ("BIASED", 1)];
            wgsl::assert_valid(&wgsl::specialise(SHADER, &values));
        }
    }
}

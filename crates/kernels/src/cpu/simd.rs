//! The vectors of each instruction set, and run-time dispatch to the best set of the machine.
//!
//! A [`SimdTask`] is generic over [`Lanes`] and compiled for each instruction set. `run` must be `#[inline(always)]`, so that it is
//! compiled with the target features of its caller. Plain loops in it are vectorised too.

/// A vector of f32.
pub(super) trait Lanes: Copy {
    const COUNT: usize;
    /// Rows of a tile whose sums, `ROWS` × 2 vectors, fit the registers along with a row of weights.
    const ROWS: usize;

    fn splat(value: f32) -> Self;
    /// Loads the first `COUNT` of `values`.
    fn load(values: &[f32]) -> Self;
    /// Stores into the first `COUNT` of `values`.
    fn store(self, values: &mut [f32]);
    /// Returns self · factor + sum, rounded once or twice.
    fn mul_add(self, factor: Self, sum: Self) -> Self;
}

/// Code that is compiled for each instruction set.
pub(super) trait SimdTask {
    fn run<L: Lanes>(self);
}

/// Runs `task` with the best instruction set of the machine.
pub(super) fn dispatch(task: impl SimdTask) {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            // SAFETY: the machine has it.
            return unsafe { x86::avx512(task) };
        }
        if x86::has_avx2() {
            // SAFETY: the machine has it.
            return unsafe { x86::avx2(task) };
        }
    }
    #[cfg(target_arch = "wasm32")]
    return wasm::run(task);
    #[cfg(not(target_arch = "wasm32"))]
    task.run::<Portable>();
}

/// Four numbers, as the compiler vectorises them: SSE2, NEON, or scalar.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 4]);

#[cfg(not(target_arch = "wasm32"))]
impl Lanes for Portable {
    const COUNT: usize = 4;
    const ROWS: usize = 4;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    fn load(values: &[f32]) -> Self {
        Self(*values.first_chunk().expect("four values"))
    }

    #[inline(always)]
    fn store(self, values: &mut [f32]) {
        *values.first_chunk_mut().expect("room for four") = self.0;
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        // Where the multiply-add is no instruction, `mul_add` is a call.
        let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        let one = |a: f32, b: f32, c: f32| if fused { a.mul_add(b, c) } else { a * b + c };
        Self(std::array::from_fn(|i| one(self.0[i], factor.0[i], sum.0[i])))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::{__m256, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps};
    use std::arch::x86_64::{__m512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps};

    use super::{Lanes, SimdTask};

    /// AVX2 with FMA. Used in [`avx2`] alone, whose caller has checked that the machine has both.
    #[derive(Clone, Copy)]
    struct Avx2(__m256);

    /// AVX-512F. Used in [`avx512`] alone, as above.
    #[derive(Clone, Copy)]
    struct Avx512(__m512);

    pub(in crate::cpu) fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    pub(in crate::cpu) fn has_avx512() -> bool {
        has_avx2() && is_x86_feature_detected!("avx512f")
    }

    #[target_feature(enable = "avx2,fma")]
    pub(in crate::cpu) fn avx2(task: impl SimdTask) {
        task.run::<Avx2>();
    }

    #[target_feature(enable = "avx512f,avx2,fma")]
    pub(in crate::cpu) fn avx512(task: impl SimdTask) {
        task.run::<Avx512>();
    }

    impl Lanes for Avx512 {
        const COUNT: usize = 16;
        const ROWS: usize = 8;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: see `Avx512`, here and below.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        fn load(values: &[f32]) -> Self {
            let values: &[f32; 16] = values.first_chunk().expect("sixteen values");
            // SAFETY: sixteen values can be read.
            Self(unsafe { _mm512_loadu_ps(values.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, values: &mut [f32]) {
            let values: &mut [f32; 16] = values.first_chunk_mut().expect("room for sixteen");
            // SAFETY: sixteen values can be written.
            unsafe { _mm512_storeu_ps(values.as_mut_ptr(), self.0) };
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, sum: Self) -> Self {
            // SAFETY: see `Avx512`.
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
        }
    }

    impl Lanes for Avx2 {
        const COUNT: usize = 8;
        const ROWS: usize = 6;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: see `Avx2`, here and below.
            Self(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        fn load(values: &[f32]) -> Self {
            let values: &[f32; 8] = values.first_chunk().expect("eight values");
            // SAFETY: eight values can be read.
            Self(unsafe { _mm256_loadu_ps(values.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, values: &mut [f32]) {
            let values: &mut [f32; 8] = values.first_chunk_mut().expect("room for eight");
            // SAFETY: eight values can be written.
            unsafe { _mm256_storeu_ps(values.as_mut_ptr(), self.0) };
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, sum: Self) -> Self {
            // SAFETY: see `Avx2`.
            Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, sum.0) })
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod wasm {
    use std::arch::wasm32::{f32x4_add, f32x4_mul, f32x4_splat, v128, v128_load, v128_store};

    use super::{Lanes, SimdTask};

    /// SIMD128, which every browser with WebGPU supports. The browser validates the whole module before it runs, so that there is
    /// no run-time check.
    #[derive(Clone, Copy)]
    struct Simd128(v128);

    #[target_feature(enable = "simd128")]
    pub(super) fn run(task: impl SimdTask) {
        task.run::<Simd128>();
    }

    impl Lanes for Simd128 {
        const COUNT: usize = 4;
        const ROWS: usize = 4;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            Self(f32x4_splat(value))
        }

        #[inline(always)]
        fn load(values: &[f32]) -> Self {
            let values: &[f32; 4] = values.first_chunk().expect("four values");
            // SAFETY: four values can be read, and no alignment is asked for.
            Self(unsafe { v128_load(values.as_ptr().cast()) })
        }

        #[inline(always)]
        fn store(self, values: &mut [f32]) {
            let values: &mut [f32; 4] = values.first_chunk_mut().expect("room for four");
            // SAFETY: four values can be written, and no alignment is asked for.
            unsafe { v128_store(values.as_mut_ptr().cast(), self.0) };
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, sum: Self) -> Self {
            Self(f32x4_add(f32x4_mul(self.0, factor.0), sum.0))
        }
    }
}

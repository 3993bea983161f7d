//! Every test of every operation in a real browser: both variants of the shaders on its WebGPU adapter, and the CPU's
//! SIMD128. A shader that does not compile is only logged there, and leaves the numbers of its result unset.

#![cfg(target_family = "wasm")]

use burn::tensor::Device;
use pixart_kernels::{KernelVariant, testing::CHECKS};
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

async fn check(device: &Device, variant: KernelVariant, has_shader_f16: bool) {
    variant.make_current();
    for (operation, check) in CHECKS.iter().flat_map(|(operation, checks)| checks.iter().map(move |it| (operation, it)))
    {
        if check.shader_f16 && !has_shader_f16 {
            console_log!("NOT RUN without shader-f16: {variant:?} {operation}: {}", check.name);
            continue;
        }
        // A check that fails panics; the last line tells which it was.
        console_log!("{variant:?} {operation}: {}", check.name);
        (check.run)(device).await;
    }
}

#[wasm_bindgen_test]
async fn every_operation_on_the_cpu() {
    pixart_browser::construct();
    check(&Device::flex(), KernelVariant::default(), true).await;
}

#[wasm_bindgen_test]
async fn every_operation_in_every_shader() {
    pixart_browser::construct();
    let opened = Device::wgpu_options().init_with_setup_async().await;
    let (device, setup) = opened.expect("WebGPU is here");
    for variant in [KernelVariant::WorkgroupTiled, KernelVariant::RegisterTiled] {
        check(&device, variant, setup.device.features().contains(wgpu::Features::SHADER_F16)).await;
    }
}

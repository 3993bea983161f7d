// y[m, n] = epilogue(Σ_k a[m, k] · w[k, n]), for adapters that are software
//
// a [M, K] and y [M, N] stored as f32 or f16, w [K, N] as its precision packs it; bias [N] and modulation f32; sums f32.
// K and N are multiples of 4. One invocation per 8 or 16 rows and 16 columns of y. The sums live in registers and nothing is
// shared, so there is no barrier. Rust: crates/kernels/src/gpu/gemm.rs, crates/kernels/src/gpu/tiling.rs

alias Stored4 = vec4<f32>; // spec

//#import gemm_params
//#import weights
//#import activation
//#import gemm_epilogue
//#import tile_registers

fn load_row(at: u32) -> vec4<f32> {
    return vec4<f32>(a[at]);
}

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
//#import tile_place
    // Past the edge the last row is computed again and not stored.
    let last = params.m - 1u;
//#each i < ROWS
    let a$i = min(row + $iu, last) * params.k4;
//#end
    for (var k = 0u; k < params.k4; k++) {
        let k4 = k;
//#import tile_weights
//#import tile_step
    }
//#import tile_store
}

// y[m, n] = epilogue(Σ_k a[m, k] · w[k, n]), for adapters that are software
//
// a [M, K] and y [M, N] stored as f32 or f16, w [K, N] as its precision packs it; bias [N] and modulation f32; sums f32.
// K and N are multiples of 4. One invocation per 8 rows and 8 columns of y, one workgroup per 64 × 64. The sums live in
// registers and nothing is shared, so there is no barrier. Rust: crates/kernels/src/gemm.rs

alias Stored4 = vec4<f32>; // spec

struct Params {
    m: u32,
    k4: u32,
    n4: u32,
    biased: u32,
    activation: u32,
    gated: u32,
    gate_start4: u32,
    gate_stride4: u32,
    gate_rows: u32,
    residual_rows: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Stored4>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<Stored4>;
@group(0) @binding(4) var<storage, read> modulation: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<Stored4>;
@group(0) @binding(6) var<storage, read> params: Params;

// Inputs that share a scale, in fours.
const BLOCK4: u32 = 8u;

//#import weights
//#import activation
//#import epilogue

fn load_a(at: u32) -> vec4<f32> {
    return vec4<f32>(a[at]);
}

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.y * 8u;
    let column4 = id.x * 2u;
    if (row >= params.m || column4 >= params.n4) {
        return;
    }
    // Past the edge the last row is computed again and not stored.
    let last = params.m - 1u;
    let a0 = row * params.k4;
    let a1 = min(row + 1u, last) * params.k4;
    let a2 = min(row + 2u, last) * params.k4;
    let a3 = min(row + 3u, last) * params.k4;
    let a4 = min(row + 4u, last) * params.k4;
    let a5 = min(row + 5u, last) * params.k4;
    let a6 = min(row + 6u, last) * params.k4;
    let a7 = min(row + 7u, last) * params.k4;
//#import tile_sums
    for (var begin = 0u; begin < params.k4; begin += BLOCK4) {
        let scales = scales_at(begin / BLOCK4, column4);
        let end = min(begin + BLOCK4, params.k4);
        for (var k = begin; k < end; k++) {
            let w0 = weights_at(4u * k, column4, scales);
            let w1 = weights_at(4u * k + 1u, column4, scales);
            let w2 = weights_at(4u * k + 2u, column4, scales);
            let w3 = weights_at(4u * k + 3u, column4, scales);
//#import tile_step
        }
    }
//#import tile_store
}

// y[b, oh, ow, co] = epilogue(Σ x[b, ih, iw, ci] · w[(ky, kx, ci), co]), 3 × 3, for GPUs
//
// x [B, H, W, CI] and y [B, OH, OW, CO] stored as f32 or f16, w [9·CI, CO] as its precision packs it; bias [CO] f32; sums
// f32. CI and CO are multiples of 4. A matrix product whose rows are y's pixels, m of them: one workgroup per 64 pixels and
// 64 channels of y, one invocation per 8 × 8 of those. 16 channels of one tap at a time, the pixels and the columns of w are
// unpacked once into workgroup memory, 8 KiB, and read from there eight times. Rust: crates/kernels/src/conv.rs

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
    c4: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    stride: u32,
    padding: u32,
    doubled: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<Stored4>;
@group(0) @binding(4) var<storage, read> modulation: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<Stored4>;
@group(0) @binding(6) var<storage, read> params: Params;

// Channels of one stage, in fours, and those that share a scale. Where there are scales, they divide CI.
const STAGE4: u32 = 4u;
const BLOCK4: u32 = 8u;
const TILE: u32 = 64u;
const TILE4: u32 = 16u;
const INVOCATIONS: u32 = 64u;

// Where the tile's pixels begin, for the tap at hand.
var<workgroup> pixels: array<u32, 64>; // [TILE]
var<workgroup> rows: array<vec4<f32>, 256>; // [TILE, STAGE4]
var<workgroup> columns: array<vec4<f32>, 256>; // [4·STAGE4, TILE4]

//#import weights
//#import activation
//#import epilogue
//#import window

fn load_a(at: u32) -> vec4<f32> {
    return rows[at];
}

fn load_w(k: u32, column4: u32) -> Pair {
    let at = k * TILE4 + column4;
    return Pair(columns[at], columns[at + 1u]);
}

// Copies the tap's channels from 4·begin on; beyond the picture and the matrix there are zeros, which add nothing.
fn stage(tap: u32, begin: u32, first_column4: u32, index: u32) {
    for (var at = index; at < TILE * STAGE4; at += INVOCATIONS) {
        let pixel = pixels[at / STAGE4];
        let c = begin + at % STAGE4;
        var staged = vec4<f32>();
        if (pixel != OUTSIDE && c < params.c4) {
            staged = vec4<f32>(x[pixel + c]);
        }
        rows[at] = staged;
    }
    for (var pair = index; pair < 2u * STAGE4 * TILE4; pair += INVOCATIONS) {
        let c = 4u * begin + pair / (TILE4 / 2u);
        let column4 = first_column4 + 2u * (pair % (TILE4 / 2u));
        var staged = Pair();
        if (c < 4u * params.c4 && column4 < params.n4) {
            let right = min(1u, params.n4 - 1u - column4);
            let scales = scales_at((tap * params.c4 + begin) / BLOCK4, column4, right);
            staged = weights_at((4u * tap * params.c4 + c) * params.n4 + column4, right, scales);
        }
        columns[2u * pair] = staged.left;
        columns[2u * pair + 1u] = staged.right;
    }
}

@compute @workgroup_size(8, 8, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let first_row = group.y * TILE;
    let first_column4 = group.x * TILE4;
    let a0 = local.y * 8u * STAGE4;
    let a1 = a0 + STAGE4;
    let a2 = a1 + STAGE4;
    let a3 = a2 + STAGE4;
    let a4 = a3 + STAGE4;
    let a5 = a4 + STAGE4;
    let a6 = a5 + STAGE4;
    let a7 = a6 + STAGE4;
//#import tile_sums
    for (var tap = 0u; tap < TAPS; tap++) {
        pixels[index] = tap_at(first_row + index, tap);
        workgroupBarrier();
        for (var begin = 0u; begin < params.c4; begin += STAGE4) {
            stage(tap, begin, first_column4, index);
            workgroupBarrier();
            for (var k = 0u; k < STAGE4; k++) {
                let w0 = load_w(4u * k, 2u * local.x);
                let w1 = load_w(4u * k + 1u, 2u * local.x);
                let w2 = load_w(4u * k + 2u, 2u * local.x);
                let w3 = load_w(4u * k + 3u, 2u * local.x);
//#import tile_step
            }
            workgroupBarrier();
        }
    }
    let row = first_row + local.y * 8u;
    let column4 = first_column4 + local.x * 2u;
    if (column4 >= params.n4) {
        return;
    }
//#import tile_store
}

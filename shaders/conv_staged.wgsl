// y[b, oh, ow, co] = epilogue(Σ x[b, ih, iw, ci] · w[(ky, kx, ci), co]), 3 × 3, for GPUs
//
// x [B, H, W, CI] and y [B, OH, OW, CO] stored as f32 or f16, w [9·CI, CO] as its precision packs it; bias [CO] f32; sums
// f32. CI and CO are multiples of 4. A matrix product whose rows are y's pixels, m of them: one workgroup per 64 pixels and
// 64 channels of y, one invocation per 8 × 8 of those. 16 channels of one tap at a time, the pixels and the columns of w are
// unpacked once into workgroup memory, 8 KiB, and read from there eight times. Rust: crates/kernels/src/conv.rs

alias Stored4 = vec4<f32>; // spec

// Scales, where there are some, divide CI. Where the tile's pixels begin, for the tap at hand.
var<workgroup> pixels: array<u32, 64>; // [TILE]

//#import window
//#import weights
//#import activation
//#import epilogue
//#import tile_staged

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
    stage_columns(tap * params.c4 + begin, (tap + 1u) * params.c4, first_column4, index);
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

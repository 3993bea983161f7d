// y[b, oh, ow, co] = epilogue(Σ x[b, ih, iw, ci] · w[(ky, kx, ci), co]), 3 × 3, for adapters that are software
//
// x [B, H, W, CI] and y [B, OH, OW, CO] stored as f32 or f16, w [9·CI, CO] as its precision packs it; bias [CO] f32; sums
// f32. CI and CO are multiples of 4. A matrix product whose rows are y's pixels, m of them: one invocation per 8 pixels and 8
// channels of y, one workgroup per 64 × 64. The sums live in registers and nothing is shared, so there is no barrier.
// Rust: crates/kernels/src/conv.rs

alias Stored4 = vec4<f32>; // spec

// Inputs that share a scale, in fours. Where there are scales, they divide CI.
const BLOCK4: u32 = 8u;
// Rows of y that an invocation computes.
const ROWS: u32 = 8u;

//#import window
//#import weights
//#import activation
//#import epilogue

fn load_a(at: u32) -> vec4<f32> {
    return select(vec4<f32>(x[at & ~OUTSIDE]), vec4<f32>(), at >= OUTSIDE);
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    // Where y has fewer channels than a workgroup is wide, the workgroup takes more pixels.
    let wide = min((params.n4 + 1u) / 2u, 8u);
    let high = 64u / wide;
    let row = (group.y * high + index / wide) * ROWS;
    let column4 = (group.x * wide + index % wide) * 2u;
    if (index >= wide * high || row >= params.m || column4 >= params.n4) {
        return;
    }
    // Past the edge the last four columns are computed again and not stored.
    let right = min(1u, params.n4 - 1u - column4);
    let c4 = params.c4;
    let n4 = params.n4;
    var at = column4;
//#import tile_sums
    for (var tap = 0u; tap < TAPS; tap++) {
        // In a loop, so that it is compiled once.
        var places: array<u32, ROWS>;
        for (var i = 0u; i < ROWS; i++) {
            places[i] = tap_at(row + i, tap);
        }
//#each i < ROWS
        let a$i = places[$i];
//#end
        // One loop: to go over the blocks in a loop of their own takes longer than to read scales again.
        for (var k = 0u; k < c4; k++) {
            let scales = scales_at((tap * c4 + k) / BLOCK4, column4, right);
            let w0 = weights_at(at, right, scales);
            let w1 = weights_at(at + n4, right, scales);
            let w2 = weights_at(at + 2u * n4, right, scales);
            let w3 = weights_at(at + 3u * n4, right, scales);
            at += 4u * n4;
//#import tile_step
        }
    }
//#import tile_store
}

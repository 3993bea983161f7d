// Offsets of the taps of a 3 × 3 window over images [B, H, W, CI], with optional nearest-neighbour upsampling (`upsample`: the
// binary logarithm of its factor) or a stride.
//#needs alias Stored4 = vec4<f32>;
//#needs @group(0) @binding(6) var<storage, read> params: Params;

struct Params {
    m: u32,
    k4: u32,
    n4: u32,
    has_residual: u32,
    c4: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    stride: u32,
    padding: u32,
    upsample: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;

const TAPS: u32 = 9u;
// A bit that is set in an offset where there is no pixel. Without it, the offset can be read.
const OUTSIDE: u32 = 0x80000000u;

// The offset, in vec4s, of the pixel under `tap` of the window of output pixel `row`.
fn tap_offset(row: u32, tap: u32) -> u32 {
    let line = row / params.out_width;
    let image = line / params.out_height;
    // Above and left of the image this wraps around, which is beyond the other edge as well.
    let h = line % params.out_height * params.stride + tap / 3u - params.padding;
    let w = row % params.out_width * params.stride + tap % 3u - params.padding;
    if (row >= params.m || h >= params.height << params.upsample || w >= params.width << params.upsample) {
        return OUTSIDE;
    }
    let y = image * params.height + (h >> params.upsample);
    return (y * params.width + (w >> params.upsample)) * params.c4;
}

// y = (x - mean) / √(variance + ε) · (1 + scale) + shift, or y = x / √(mean(x²) + ε) · weight, over the channels of a row
//
// x and y [M, C] stored as f32 or f16, modulation f32; accumulators f32; C a multiple of 4. For fallback adapters: one invocation
// per row, no barrier. The variance is that of centred values, in a second pass.
// Rust: crates/kernels/src/gpu/norm.rs

alias Stored4 = vec4<f32>; // spec

#import modulation

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x;
    if (row >= params.m) {
        return;
    }
    let begin = row * params.c4;
    let count = 4.0 * f32(params.c4);
    var mean = 0.0;
    if (params.subtract_mean == 1u) {
        var sum = vec4<f32>();
        for (var k = 0u; k < params.c4; k++) {
            sum += vec4<f32>(x[begin + k]);
        }
        mean = (sum.x + sum.y + sum.z + sum.w) / count;
    }
    var squares = vec4<f32>();
    for (var k = 0u; k < params.c4; k++) {
        let centred = vec4<f32>(x[begin + k]) - mean;
        squares += centred * centred;
    }
    let variance = (squares.x + squares.y + squares.z + squares.w) / count;
    let scale = 1.0 / sqrt(variance + params.eps);
    for (var k = 0u; k < params.c4; k++) {
        y[begin + k] = Stored4(modulate(row, k, (vec4<f32>(x[begin + k]) - mean) * scale));
    }
}

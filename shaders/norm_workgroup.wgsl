// y = (x - mean) / √(variance + ε) · (1 + scale) + shift, or y = x / √(mean(x²) + ε) · weight, over the channels of a row
//
// x and y [M, C] stored as f32 or f16, modulation f32; accumulators f32; C a multiple of 4. For GPUs: one workgroup per row, whose
// invocations add up every 64th channel each, and then their sums in workgroup memory. The variance is that of centred values, in
// a second pass. Rust: crates/kernels/src/gpu/norm.rs

alias Stored4 = vec4<f32>; // spec

#import modulation

const INVOCATIONS: u32 = 64u;

var<workgroup> sums: array<f32, INVOCATIONS>;

// The sum over the workgroup, for every invocation of it.
fn workgroup_sum(value: f32, index: u32) -> f32 {
    sums[index] = value;
    for (var half = INVOCATIONS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (index < half) {
            sums[index] += sums[index + half];
        }
    }
    workgroupBarrier();
    let sum = sums[0];
    workgroupBarrier();
    return sum;
}

@compute @workgroup_size(64, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = group.y * groups.x + group.x;
    if (row >= params.m) {
        return;
    }
    let begin = row * params.c4;
    let count = 4.0 * f32(params.c4);
    var mean = 0.0;
    if (params.subtract_mean == 1u) {
        var sum = vec4<f32>();
        for (var k = index; k < params.c4; k += INVOCATIONS) {
            sum += vec4<f32>(x[begin + k]);
        }
        mean = workgroup_sum(sum.x + sum.y + sum.z + sum.w, index) / count;
    }
    var squares = vec4<f32>();
    for (var k = index; k < params.c4; k += INVOCATIONS) {
        let centred = vec4<f32>(x[begin + k]) - mean;
        squares += centred * centred;
    }
    let variance = workgroup_sum(squares.x + squares.y + squares.z + squares.w, index) / count;
    let scale = 1.0 / sqrt(variance + params.eps);
    for (var k = index; k < params.c4; k += INVOCATIONS) {
        y[begin + k] = Stored4(modulate(row, k, (vec4<f32>(x[begin + k]) - mean) * scale));
    }
}

// y = weight · (x - mean) / √(variance + ε) + bias, optionally followed by SiLU
//
// x and y [B, P, C] stored as f32 or f16, partials [B, CHUNKS, GROUPS] as group_norm_moments.wgsl and
// group_norm_combine.wgsl store them, weight and bias [C] f32. For every adapter: one invocation per 4 channels and a run of pixels.
// Each first combines the chunks of their groups, which is little beside the run.
// Rust: crates/kernels/src/gpu/group_norm.rs

alias Stored4 = vec4<f32>; // spec

struct Params {
    pixels: u32,
    c4: u32,
    groups: u32,
    chunks: u32,
    run_pixels: u32,
    eps: f32,
    silu: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read> partials: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<Stored4>;
@group(0) @binding(5) var<storage, read> params: Params;

#import activation
#import moments

// Combines the chunks of a group.
fn group_moments(image: u32, group: u32) -> Moments {
    var total = Moments();
    for (var chunk = 0u; chunk < params.chunks; chunk++) {
        total = combine_moments(total, unpack_moments(partials[(image * params.chunks + chunk) * params.groups + group]));
    }
    return total;
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel4 = id.x % params.c4;
    let begin = id.x / params.c4 * params.run_pixels;
    if (begin >= params.pixels) {
        return;
    }
    let channels = 4u * params.c4 / params.groups;
    let first = 4u * channel4;
    let a = group_moments(id.y, first / channels);
    var mean = vec4<f32>(a.mean);
    var variance = vec4<f32>(a.squares / a.count);
    if (channels % 4u != 0u) {
        let b = group_moments(id.y, (first + 1u) / channels);
        let c = group_moments(id.y, (first + 2u) / channels);
        let d = group_moments(id.y, (first + 3u) / channels);
        mean = vec4<f32>(a.mean, b.mean, c.mean, d.mean);
        variance = vec4<f32>(a.squares / a.count, b.squares / b.count, c.squares / c.count, d.squares / d.count);
    }
    let scale = weight[channel4] * inverseSqrt(variance + params.eps);
    let shift = bias[channel4];

    let end = min(begin + params.run_pixels, params.pixels);
    for (var pixel = begin; pixel < end; pixel++) {
        let at = (id.y * params.pixels + pixel) * params.c4 + channel4;
        let value = (vec4<f32>(x[at]) - mean) * scale + shift;
        if (params.silu == 1u) {
            y[at] = Stored4(silu(value));
        } else {
            y[at] = Stored4(value);
        }
    }
}

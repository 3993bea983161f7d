// partials[b, chunk, group] = count, mean and Σ (x - mean)² of a group's channels over a chunk of an image's pixels
//
// x [B, P, C] stored as f32 or f16 → partials [B, CHUNKS, GROUPS] of vec4<f32>, the last value unused. For every adapter: one
// invocation per group and chunk, neighbours on neighbouring groups. A group of a multiple of 4 channels takes 8 pixels at a time,
// so that 8 loads are in flight; any other takes one channel at a time. Rust: crates/kernels/src/gpu/group_norm.rs

alias Stored4 = vec4<f32>; // spec

struct Params {
    pixels: u32,
    c4: u32,
    groups: u32,
    chunk_pixels: u32,
    chunks: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> params: Params;

const TOGETHER: u32 = 8u;

#import moments

fn load(at: u32) -> vec4<f32> {
    return vec4<f32>(x[at]);
}

fn lane(values: vec4<f32>, index: u32) -> f32 {
    let low = select(values.x, values.y, index == 1u);
    let high = select(values.z, values.w, index == 3u);
    return select(low, high, index >= 2u);
}

fn sum_of_squares(difference: vec4<f32>) -> f32 {
    return dot(difference, difference);
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= params.chunks * params.groups) {
        return;
    }
    let group = id.x % params.groups;
    let chunk = id.x / params.groups;
    let c4 = params.c4;
    let channels = 4u * c4 / params.groups;
    let group4 = channels / 4u;
    let start = id.y * params.pixels * c4 + group * group4;
    let end = min((chunk + 1u) * params.chunk_pixels, params.pixels);

    var total = Moments();
    var pixel = chunk * params.chunk_pixels;
    if (channels % 4u != 0u) {
        for (; pixel < end; pixel++) {
            for (var channel = group * channels; channel < (group + 1u) * channels; channel++) {
                let value = lane(load((id.y * params.pixels + pixel) * c4 + channel / 4u), channel % 4u);
                total = combine_moments(total, Moments(1.0, value, 0.0));
            }
        }
    }
    for (; pixel + TOGETHER <= end; pixel += TOGETHER) {
        for (var channel4 = 0u; channel4 < group4; channel4++) {
            let at = start + pixel * c4 + channel4;
            let v0 = load(at);
            let v1 = load(at + c4);
            let v2 = load(at + 2u * c4);
            let v3 = load(at + 3u * c4);
            let v4 = load(at + 4u * c4);
            let v5 = load(at + 5u * c4);
            let v6 = load(at + 6u * c4);
            let v7 = load(at + 7u * c4);
            let sum = ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7));
            let mean = dot(sum, vec4<f32>(1.0)) / 32.0;
            let distances = sum_of_squares(v0 - mean) + sum_of_squares(v1 - mean) + sum_of_squares(v2 - mean) + sum_of_squares(v3 - mean)
                + sum_of_squares(v4 - mean) + sum_of_squares(v5 - mean) + sum_of_squares(v6 - mean) + sum_of_squares(v7 - mean);
            total = combine_moments(total, Moments(32.0, mean, distances));
        }
    }
    for (; pixel < end; pixel++) {
        for (var channel4 = 0u; channel4 < group4; channel4++) {
            total = combine_moments(total, moments_of_vec4(load(start + pixel * c4 + channel4)));
        }
    }
    partials[id.y * params.chunks * params.groups + id.x] = pack_moments(total);
}

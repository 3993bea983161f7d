// Bindings of the norms, and the modulation of a normalised value.
//#needs alias Stored4 = vec4<f32>;

struct Params {
    m: u32,
    c4: u32,
    subtract_mean: u32,
    eps: f32,
    has_modulation: u32,
    shift_start4: u32,
    scale_start4: u32,
    stride4: u32,
    rows: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
// Rows of shifts and scales, or the weights of a root-mean-square norm.
@group(0) @binding(1) var<storage, read> modulation: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored4>;
@group(0) @binding(3) var<storage, read> params: Params;

// Applies the row of the image to a normalised value.
fn modulate(row: u32, k: u32, value: vec4<f32>) -> vec4<f32> {
    if (params.has_modulation == 0u) {
        return value;
    }
    let image = row / params.rows * params.stride4;
    let scale = modulation[params.scale_start4 + image + k];
    if (params.subtract_mean == 0u) {
        return value * scale;
    }
    return value * (1.0 + scale) + modulation[params.shift_start4 + image + k];
}

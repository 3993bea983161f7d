// What both texts of the norm are given, and what a normalised number becomes.

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
// Rows of shifts and scales; for the second form the weights.
@group(0) @binding(1) var<storage, read> modulation: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored4>;
@group(0) @binding(3) var<storage, read> params: Params;

// What a normalised number becomes, by the row of its picture.
fn modulate(row: u32, k: u32, value: vec4<f32>) -> vec4<f32> {
    if (params.has_modulation == 0u) {
        return value;
    }
    let picture = row / params.rows * params.stride4;
    let scale = modulation[params.scale_start4 + picture + k];
    if (params.subtract_mean == 0u) {
        return value * scale;
    }
    return value * (1.0 + scale) + modulation[params.shift_start4 + picture + k];
}

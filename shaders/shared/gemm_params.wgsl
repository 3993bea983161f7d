// Parameters and the left matrix of the affine map.
//#needs alias Stored4 = vec4<f32>;

struct Params {
    m: u32,
    k4: u32,
    n4: u32,
    has_bias: u32,
    activation: u32,
    has_gate: u32,
    gate_start4: u32,
    gate_stride4: u32,
    gate_rows: u32,
    residual_rows: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Stored4>;

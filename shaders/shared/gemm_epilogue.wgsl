// The epilogue of the affine map: bias, nonlinearity, gate, residual, in this order, each optional.
//#needs alias Stored4 = vec4<f32>;
//#needs struct Params {
//#needs     m: u32, n4: u32, has_bias: u32, activation: u32, has_gate: u32,
//#needs     gate_start4: u32, gate_stride4: u32, gate_rows: u32, residual_rows: u32,
//#needs }

#import activation

@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<Stored4>;
@group(0) @binding(4) var<storage, read> modulation: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<Stored4>;
@group(0) @binding(6) var<storage, read> params: Params;

const GELU: u32 = 1u;
const SILU: u32 = 2u;
// gelu(left) · right: the columns of two maps are interleaved in fours, and y is half as wide.
const GATED_GELU: u32 = 3u;

fn apply_epilogue(row: u32, column4: u32, accumulator: vec4<f32>) -> vec4<f32> {
    var y = accumulator;
    if (params.has_bias == 1u) {
        y += bias[column4];
    }
    if (params.activation == GELU) {
        y = gelu(y);
    } else if (params.activation == SILU) {
        y = silu(y);
    }
    if (params.has_gate == 1u) {
        y *= modulation[params.gate_start4 + row / params.gate_rows * params.gate_stride4 + column4];
    }
    if (params.residual_rows > 0u) {
        y += vec4<f32>(residual[row % params.residual_rows * params.n4 + column4]);
    }
    return y;
}

// Stores a pair of vec4s of one row, of the tile that begins at `first_column4`.
fn store(row: u32, first_column4: u32, pair: u32, left: vec4<f32>, right: vec4<f32>) {
    let column4 = first_column4 + 2u * pair;
    if (row >= params.m || column4 >= params.n4) {
        return;
    }
    if (params.activation == GATED_GELU) {
        y[(row * params.n4 + column4) / 2u] = Stored4(gelu(left) * right);
        return;
    }
    y[row * params.n4 + column4] = Stored4(apply_epilogue(row, column4, left));
    if (column4 + 1u < params.n4) {
        y[row * params.n4 + column4 + 1u] = Stored4(apply_epilogue(row, column4 + 1u, right));
    }
}

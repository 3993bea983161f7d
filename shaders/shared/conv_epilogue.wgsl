// The epilogue of a convolution: bias, and an optional residual. It also accumulates the moments of each four channels before
// rounding to the dtype of y, so that a group norm that follows need not read y for them.
//#needs alias Stored4 = vec4<f32>;
//#needs const PAIRS: u32 = 2u;
//#needs struct Params { m: u32, n4: u32, has_residual: u32 }

@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<Stored4>;
@group(0) @binding(4) var<storage, read_write> y: array<Stored4>;
@group(0) @binding(5) var<storage, read_write> moments: array<vec4<f32>>; // [m / rows of a tile, n4]
@group(0) @binding(6) var<storage, read> params: Params;

#import moments

// The moments of this invocation's results, for each vec4 of its columns.
var<private> tile_moments: array<Moments, 2u * PAIRS>;

fn store_vec4(row: u32, first_column4: u32, column: u32, accumulator: vec4<f32>) {
    let column4 = first_column4 + column;
    if (row >= params.m || column4 >= params.n4) {
        return;
    }
    let at = row * params.n4 + column4;
    var value = accumulator + bias[column4];
    if (params.has_residual == 1u) {
        value += vec4<f32>(residual[at]);
    }
    y[at] = Stored4(value);
    tile_moments[column] = combine_moments(tile_moments[column], moments_of_vec4(value));
}

// Stores a pair of vec4s of one row, of the tile that begins at `first_column4`.
fn store(row: u32, first_column4: u32, pair: u32, left: vec4<f32>, right: vec4<f32>) {
    store_vec4(row, first_column4, 2u * pair, left);
    store_vec4(row, first_column4, 2u * pair + 1u, right);
}

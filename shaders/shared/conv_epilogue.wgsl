// What becomes of a convolution's sum before it is rounded to what y is stored as: bias, and the residual where there is one. And
// the moments of that, for each four of channels: a group norm that follows need not read y for them.

@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<Stored4>;
@group(0) @binding(4) var<storage, read_write> y: array<Stored4>;
@group(0) @binding(5) var<storage, read_write> moments: array<vec4<f32>>; // [m / rows of a tile, n4]
@group(0) @binding(6) var<storage, read> params: Params;

//#import moments

// Of what this invocation computes, for each four of its columns.
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

// Of the tile that begins at `first_column4`, a pair of fours of one row.
fn store(row: u32, first_column4: u32, pair: u32, left: vec4<f32>, right: vec4<f32>) {
    store_vec4(row, first_column4, 2u * pair, left);
    store_vec4(row, first_column4, 2u * pair + 1u, right);
}

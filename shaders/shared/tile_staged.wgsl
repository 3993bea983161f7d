// Tiles in workgroup memory: 64 rows and 64 columns of 16 inputs, 8 KiB.

// Inputs of one stage, in fours, and those that share a scale.
const STAGE4: u32 = 4u;
const BLOCK4: u32 = 8u;
const TILE: u32 = 64u;
const TILE4: u32 = 16u;
const INVOCATIONS: u32 = 64u;

var<workgroup> rows: array<vec4<f32>, 256>; // [TILE, STAGE4]
var<workgroup> columns: array<vec4<f32>, 256>; // [4·STAGE4, TILE4]

fn load_a(at: u32) -> vec4<f32> {
    return rows[at];
}

fn load_w(k: u32, column4: u32) -> Pair {
    let at = k * TILE4 + column4;
    return Pair(columns[at], columns[at + 1u]);
}

// Copies the weights of inputs 4·first4 on; from 4·end4 on, and beyond the last column, there are zeros, which add nothing.
fn stage_columns(first4: u32, end4: u32, first_column4: u32, index: u32) {
    for (var pair = index; pair < 2u * STAGE4 * TILE4; pair += INVOCATIONS) {
        let k = 4u * first4 + pair / (TILE4 / 2u);
        let column4 = first_column4 + 2u * (pair % (TILE4 / 2u));
        var staged = Pair();
        if (k < 4u * end4 && column4 < params.n4) {
            let right = min(1u, params.n4 - 1u - column4);
            staged = weights_at(k * params.n4 + column4, right, scales_at(first4 / BLOCK4, column4, right));
        }
        columns[2u * pair] = staged.left;
        columns[2u * pair + 1u] = staged.right;
    }
}

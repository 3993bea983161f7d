// latent[b, c, 2·h + i, 2·w + j] = tokens[b, h·W' + w, (2·i + j)·C + c], W' = W/2
//
// tokens [B, H/2·W/2, 4·C] and latent [B, C, H, W] stored as f32 or f16. One invocation per element of the latent.
// Rust: crates/kernels/src/gpu/patch.rs

alias Stored = f32; // spec

struct Params {
    channels: u32,
    rows: u32,
    columns: u32,
    invocations: u32,
}

@group(0) @binding(0) var<storage, read> tokens: array<Stored>;
@group(0) @binding(1) var<storage, read_write> latent: array<Stored>;
@group(0) @binding(2) var<storage, read> params: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= params.invocations) {
        return;
    }
    let x = id.x % (2u * params.columns);
    let y = id.x / (2u * params.columns) % (2u * params.rows);
    let plane = id.x / (4u * params.columns * params.rows);
    let channel = plane % params.channels;
    let token = (plane / params.channels * params.rows + y / 2u) * params.columns + x / 2u;
    latent[id.x] = tokens[(token * 4u + 2u * (y % 2u) + x % 2u) * params.channels + channel];
}

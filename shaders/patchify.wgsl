// tokens[b, h·W' + w, c·4 + 2·i + j] = latent[b mod P, c, 2·h + i, 2·w + j], W' = W/2
//
// latent [P, C, H, W] and tokens [B, H/2·W/2, 4·C] stored as f32 or f16; the images repeat to fill the batch. One
// invocation per token and channel. Rust: crates/kernels/src/gpu/patch.rs

alias Stored = f32; // spec
alias Stored4 = vec4<f32>; // spec

struct Params {
    images: u32,
    channels: u32,
    rows: u32,
    columns: u32,
    invocations: u32,
}

@group(0) @binding(0) var<storage, read> latent: array<Stored>;
@group(0) @binding(1) var<storage, read_write> tokens: array<Stored4>;
@group(0) @binding(2) var<storage, read> params: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= params.invocations) {
        return;
    }
    let channel = id.x % params.channels;
    let token = id.x / params.channels;
    let w = token % params.columns;
    let h = token / params.columns % params.rows;
    let image = token / (params.columns * params.rows) % params.images;
    let width = 2u * params.columns;
    let at = ((image * params.channels + channel) * 2u * params.rows + 2u * h) * width + 2u * w;
    tokens[id.x] = Stored4(latent[at], latent[at + 1u], latent[at + width], latent[at + width + 1u]);
}

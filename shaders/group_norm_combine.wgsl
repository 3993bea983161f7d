// moments[b, group] = the moments of all chunks and of the sets of channels that make up the group (Chan et al. 1983)
//
// partials [B, CHUNKS, SETS] → moments [B, 1, GROUPS], each a vec4<f32>, see shared/moments.wgsl; SETS is a multiple of
// GROUPS. For every adapter: one workgroup per group of an image, a tree reduction in workgroup memory. Rust: crates/kernels/src/gpu/group_norm.rs

struct Params {
    chunks: u32,
    sets: u32,
    groups: u32,
}

@group(0) @binding(0) var<storage, read> partials: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> moments: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> params: Params;

#import moments

const INVOCATIONS: u32 = 256u; // many: an image of 1024 px has 16,384 chunks

var<workgroup> parts: array<Moments, INVOCATIONS>;

@compute @workgroup_size(INVOCATIONS, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let sets_per_group = params.sets / params.groups;
    var subtotal = Moments();
    for (var i = index; i < params.chunks * sets_per_group; i += INVOCATIONS) {
        let chunk = group.y * params.chunks + i / sets_per_group;
        subtotal = combine_moments(subtotal, unpack_moments(partials[chunk * params.sets + group.x * sets_per_group + i % sets_per_group]));
    }
    parts[index] = subtotal;
    for (var others = INVOCATIONS / 2u; others > 0u; others /= 2u) {
        workgroupBarrier();
        if (index < others) {
            parts[index] = combine_moments(parts[index], parts[index + others]);
        }
    }
    if (index == 0u) {
        moments[group.y * params.groups + group.x] = pack_moments(parts[0]);
    }
}

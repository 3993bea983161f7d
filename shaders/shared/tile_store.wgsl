    // In a loop, so that what follows a sum is compiled once.
    var lefts = array<vec4<f32>, 8>(l0, l1, l2, l3, l4, l5, l6, l7);
    var rights = array<vec4<f32>, 8>(r0, r1, r2, r3, r4, r5, r6, r7);
    for (var i = 0u; i < 8u; i++) {
        store(row + i, column4, lefts[i], rights[i]);
    }

    // In a loop, so that what follows a sum is compiled once.
    var lefts: array<vec4<f32>, ROWS>;
    var rights: array<vec4<f32>, ROWS>;
//#each i < ROWS
    lefts[$i] = l$i;
    rights[$i] = r$i;
//#end
    for (var i = 0u; i < ROWS; i++) {
        store(row + i, column4, lefts[i], rights[i]);
    }

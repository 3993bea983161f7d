    // In a loop, so that what follows a sum is compiled once.
    var lefts: array<vec4<f32>, ROWS * PAIRS>;
    var rights: array<vec4<f32>, ROWS * PAIRS>;
//#each i < ROWS
//#each j < PAIRS
    lefts[$iu * PAIRS + $j] = l$i_$j;
    rights[$iu * PAIRS + $j] = r$i_$j;
//#end
//#end
    for (var i = 0u; i < row_count * PAIRS; i++) {
        store(row + i / PAIRS, column4, i % PAIRS, lefts[i], rights[i]);
    }

    // Which tile. Past the edge the last four columns are computed again and not stored.
    let n4 = params.n4;
    let across = (n4 + 2u * PAIRS - 1u) / (2u * PAIRS);
    let row = id.x / across * ROWS;
    let column4 = id.x % across * 2u * PAIRS;
    if (row >= params.m) {
        return;
    }
    // Loops to a number that is not known are not unrolled, and what is in them is compiled once.
    let row_count = min(ROWS, params.m - row);
//#each j < PAIRS
    let left$j = min(column4 + 2u * $ju, n4 - 1u);
    let right$j = min(1u, n4 - 1u - left$j);
//#end
//#import tile_accumulators

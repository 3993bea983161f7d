    // Which tile, which invocation of which slice, and where its rows lie in the tile.
    let first_row = group.y * TILE_ROWS;
    let first_column4 = group.x * TILE4;
    let slice = index / LANES;
    let lane = index % LANES;
//#each i < ROWS
    let a$i = (lane / ACROSS * ROWS + $iu) * STAGE4;
//#end
//#import tile_accumulators

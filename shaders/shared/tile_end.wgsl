    // The slices' sums, added up by the first of them.
    for (var other = 1u; other < SLICES; other++) {
        workgroupBarrier();
        if (slice == other) {
//#each i < ROWS
            columns[$iu * LANES + lane] = l$i_0;
//#end
        }
        workgroupBarrier();
        if (slice == 0u) {
//#each i < ROWS
            l$i_0 += columns[$iu * LANES + lane];
//#end
        }
        workgroupBarrier();
        if (slice == other) {
//#each i < ROWS
            columns[$iu * LANES + lane] = r$i_0;
//#end
        }
        workgroupBarrier();
        if (slice == 0u) {
//#each i < ROWS
            r$i_0 += columns[$iu * LANES + lane];
//#end
        }
    }
    let row = first_row + lane / ACROSS * ROWS;
    let column4 = first_column4 + 2u * (lane % ACROSS);
    if (slice == 0u) {
        let row_count = ROWS;
//#import tile_store
    }

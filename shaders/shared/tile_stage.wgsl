        // Copies inputs from 4·begin to 4·end4, which are the weights' inputs from 4·first4 on: all loads first, so that they are
        // under way at once, also while others still multiply. start0, start1, … are where the rows begin.
//#each i < ROW_COPIES
        let input$i = load_input_or_zero(start$i, begin + (index + $iu * INVOCATIONS) % STAGE4, end4);
//#end
//#each i < PAIR_COPIES
        let pair$i = load_weights_or_zero(
            4u * (first4 + begin) + (index + $iu * INVOCATIONS) / ACROSS,
            4u * (first4 + end4),
            first_column4 + 2u * (index % ACROSS),
        );
//#end
        workgroupBarrier();
//#each i < ROW_COPIES
        rows[index + $iu * INVOCATIONS] = input$i;
//#end
//#each i < PAIR_COPIES
        let place$i = (index + $iu * INVOCATIONS) / ACROSS * TILE4 + index % ACROSS;
        columns[place$i] = pair$i.left;
        columns[place$i + ACROSS] = pair$i.right;
//#end
        workgroupBarrier();
        for (var k = slice * (STAGE4 / SLICES); k < (slice + 1u) * (STAGE4 / SLICES); k++) {
            let w0_0 = load_tile_weights(4u * k, lane % ACROSS);
            let w1_0 = load_tile_weights(4u * k + 1u, lane % ACROSS);
            let w2_0 = load_tile_weights(4u * k + 2u, lane % ACROSS);
            let w3_0 = load_tile_weights(4u * k + 3u, lane % ACROSS);
//#import tile_step
        }

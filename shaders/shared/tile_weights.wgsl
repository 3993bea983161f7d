        // The weights of inputs 4 · four to 4 · four + 3, for all columns of the tile.
        let at = 4u * four * n4;
//#each j < PAIRS
        let scales$j = scales_at(four / BLOCK4, left$j, right$j);
        let w0_$j = weights_at(at + left$j, right$j, scales$j);
        let w1_$j = weights_at(at + n4 + left$j, right$j, scales$j);
        let w2_$j = weights_at(at + 2u * n4 + left$j, right$j, scales$j);
        let w3_$j = weights_at(at + 3u * n4 + left$j, right$j, scales$j);
//#end

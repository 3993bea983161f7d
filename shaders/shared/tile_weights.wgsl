        // The weights of inputs 4 · four to 4 · four + 3, for all columns of the tile.
        let at = 4u * k4 * n4;
//#each j < PAIRS
        let scales$j = load_scales(k4 / BLOCK4, left$j, right$j);
        let w0_$j = load_weights(at + left$j, right$j, scales$j);
        let w1_$j = load_weights(at + n4 + left$j, right$j, scales$j);
        let w2_$j = load_weights(at + 2u * n4 + left$j, right$j, scales$j);
        let w3_$j = load_weights(at + 3u * n4 + left$j, right$j, scales$j);
//#end

        // Four terms of all sums: a0, a1, … are where the rows begin, w0..w3 the weights of the four terms.
//#each i < ROWS
        let v$i = load_row(a$i + k);
//#each j < PAIRS
        l$i_$j += v$i.x * w0_$j.left + v$i.y * w1_$j.left + v$i.z * w2_$j.left + v$i.w * w3_$j.left;
        r$i_$j += v$i.x * w0_$j.right + v$i.y * w1_$j.right + v$i.z * w2_$j.right + v$i.w * w3_$j.right;
//#end
//#end

        // Four terms of all sums: a0, a1, … are where the rows begin, w0..w3 the weights of the four terms.
//#each i < ROWS
        let v$i = load_a(a$i + k);
        l$i += v$i.x * w0.left + v$i.y * w1.left + v$i.z * w2.left + v$i.w * w3.left;
        r$i += v$i.x * w0.right + v$i.y * w1.right + v$i.z * w2.right + v$i.w * w3.right;
//#end

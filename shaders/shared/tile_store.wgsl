    store(row + 0u, column4, l0, r0);
    store(row + 1u, column4, l1, r1);
    store(row + 2u, column4, l2, r2);
    store(row + 3u, column4, l3, r3);
    store(row + 4u, column4, l4, r4);
    store(row + 5u, column4, l5, r5);
    store(row + 6u, column4, l6, r6);
    store(row + 7u, column4, l7, r7);

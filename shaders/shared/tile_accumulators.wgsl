    // The sums of ROWS rows and PAIRS · 8 columns: of each pair of fours l the left one, r the right one.
//#each i < ROWS
//#each j < PAIRS
    var l$i_$j = vec4<f32>();
    var r$i_$j = vec4<f32>();
//#end
//#end

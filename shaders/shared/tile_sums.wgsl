    // The sums of ROWS rows and 8 columns: l the left four columns, r the right four.
//#each i < ROWS
    var l$i = vec4<f32>();
    var r$i = vec4<f32>();
//#end

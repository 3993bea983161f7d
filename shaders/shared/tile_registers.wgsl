// Tiles in registers: an invocation has all sums of ROWS rows and PAIRS · 8 columns. Neighbours have the same rows.
//
// On an adapter that is software each number that is loaded costs as much as ten products, whose sums are in memory that is
// near in any case: the larger a tile, the better, until its text takes longer to compile than it saves.

const ROWS: u32 = 16u; // spec
const PAIRS: u32 = 2u; // spec
const INVOCATIONS: u32 = 32u;
// Inputs that share a scale, in fours.
const BLOCK4: u32 = 8u;

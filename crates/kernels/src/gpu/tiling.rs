//! The tilings of a matrix product, and the choice among them: shaders/shared/tile_workgroup.wgsl,
//! shaders/shared/tile_registers.wgsl.

use super::wgsl::Shader;
use crate::KernelVariant;

/// The division of a product's y into tiles, and of a tile among invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MatmulTiling {
    /// Tiles of 64 columns in workgroup memory.
    Workgroup(WorkgroupTile),
    /// Tiles of this many rows and 16 columns, one per invocation.
    Registers(usize),
}

/// A tile in workgroup memory, and its invocations (CUTLASS: a threadblock tile with sliced K).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkgroupTile {
    /// Rows of an invocation, which computes 8 columns of each.
    rows: usize,
    /// Invocations along the rows of a tile.
    down: usize,
    /// Slices of K: groups of invocations, each of which accumulates a part of the inputs of a stage.
    slices: usize,
    /// Inputs of a stage (rows of w that are in workgroup memory at a time), in vec4s.
    stage4: usize,
}

/// Columns of a tile in workgroup memory, and invocations along them.
const COLUMNS: usize = 64;
const ACROSS: usize = 8;
/// Columns of a tile in registers, and tiles per workgroup.
const REGISTER_COLUMNS: usize = 16;
const WORKGROUP: usize = 32;

/// The tile of products that have few: smaller and more workgroups. Of fourteen tilings timed on an H100 with fourteen products,
/// the one of these two that a product gets is at most a tenth slower than its best, except for one product, a fifth.
const SMALL: WorkgroupTile = WorkgroupTile { rows: 8, down: 4, slices: 4, stage4: 8 };
/// The tile of products with enough of them to occupy a GPU: fewer loads.
const LARGE: WorkgroupTile = WorkgroupTile { rows: 4, down: 16, slices: 1, stage4: 4 };
/// The number of large tiles from which on they are used.
const MANY: usize = 256;
const MANY_ROWS: usize = MANY * LARGE.height();
/// Rows of a tile in registers: for products with no more rows, and for all others.
pub(crate) type RegisterRows = [usize; 2];
/// A number of rows that is greater than the smaller of any [`RegisterRows`].
const TOO_MANY: usize = 32;

/// Returns numbers of rows with which a product of any width launches, on this thread, each specialisation that it has.
#[must_use]
pub fn rows_of_each_tiling() -> &'static [usize] {
    match KernelVariant::current() {
        KernelVariant::WorkgroupTiled => &[1, MANY_ROWS],
        KernelVariant::RegisterTiled => &[1, TOO_MANY],
        KernelVariant::BurnReference => &[1],
    }
}

impl MatmulTiling {
    /// Returns the tiling for y `[m, n]` and the current variant.
    pub(crate) fn select(m: usize, n: usize, [few, many]: RegisterRows) -> Self {
        if KernelVariant::current() == KernelVariant::WorkgroupTiled {
            Self::Workgroup(WorkgroupTile::of(m, n))
        } else {
            Self::Registers(if m <= few { few } else { many })
        }
    }

    /// Returns every tiling.
    pub(super) fn all([few, many]: RegisterRows) -> [Self; 4] {
        [Self::Registers(few), Self::Registers(many), Self::Workgroup(SMALL), Self::Workgroup(LARGE)]
    }

    /// Returns the shader of this tiling.
    pub(crate) fn shader(self, registers: Shader, workgroup: Shader) -> Shader {
        match self {
            Self::Workgroup(_) => workgroup,
            Self::Registers(_) => registers,
        }
    }

    /// Returns the rows of a tile.
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Workgroup(tile) => tile.height(),
            Self::Registers(rows) => rows,
        }
    }

    /// Returns the values of the shader's `// spec` constants.
    pub(crate) fn constants(self) -> Vec<(&'static str, u32)> {
        match self {
            Self::Workgroup(tile) => tile.constants(),
            Self::Registers(rows) => vec![("ROWS", rows as u32), ("PAIRS", REGISTER_COLUMNS as u32 / 8)],
        }
    }

    /// Returns the workgroup's size.
    pub(crate) fn workgroup(self) -> [u32; 3] {
        let invocations = match self {
            Self::Workgroup(tile) => tile.invocations(),
            Self::Registers(_) => WORKGROUP,
        };
        [invocations as u32, 1, 1]
    }

    /// Returns the number of workgroups for y `[m, n]`.
    pub(crate) fn count(self, m: usize, n: usize) -> [usize; 3] {
        let down = m.div_ceil(self.rows());
        match self {
            Self::Workgroup(_) => [n.div_ceil(COLUMNS), down, 1],
            Self::Registers(_) => [(down * n.div_ceil(REGISTER_COLUMNS)).div_ceil(WORKGROUP), 1, 1],
        }
    }
}

impl WorkgroupTile {
    fn of(m: usize, n: usize) -> Self {
        let large = m.div_ceil(LARGE.height()) * n.div_ceil(COLUMNS);
        if large < MANY { SMALL } else { LARGE }
    }

    /// Returns the rows of a tile.
    const fn height(self) -> usize {
        self.rows * self.down
    }

    fn invocations(self) -> usize {
        ACROSS * self.down * self.slices
    }

    fn constants(self) -> Vec<(&'static str, u32)> {
        let copies = |vectors: usize| {
            assert!(
                vectors.is_multiple_of(self.invocations()),
                "{vectors} copies by {} invocations",
                self.invocations()
            );
            (vectors / self.invocations()) as u32
        };
        vec![
            ("ROWS", self.rows as u32),
            ("DOWN", self.down as u32),
            ("SLICES", self.slices as u32),
            ("STAGE4", self.stage4 as u32),
            ("ROW_COPIES", copies(self.height() * self.stage4)),
            ("PAIR_COPIES", copies(4 * self.stage4 * ACROSS)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_of_many_tiles_has_large_ones_whatever_its_width() {
        assert_eq!([WorkgroupTile::of(512, 1152), WorkgroupTile::of(MANY_ROWS - LARGE.height(), 4)], [SMALL; 2]);
        assert_eq!([WorkgroupTile::of(512, 3456), WorkgroupTile::of(MANY_ROWS, 4)], [LARGE; 2]);
        let rows = rows_of_each_tiling().iter().map(|rows| MatmulTiling::select(*rows, 4, [8, 16]));
        assert_eq!(rows.collect::<Vec<_>>(), [SMALL, LARGE].map(MatmulTiling::Workgroup));
    }

    #[test]
    fn in_registers_the_rows_of_each_tiling_get_one_each() {
        KernelVariant::RegisterTiled.make_current();
        for own in [crate::gpu::gemm::REGISTER_ROWS, crate::gpu::conv::REGISTER_ROWS] {
            let tiles = rows_of_each_tiling().iter().map(|rows| MatmulTiling::select(*rows, 4, own));
            assert_eq!(tiles.collect::<Vec<_>>(), own.map(MatmulTiling::Registers));
        }
    }

    #[test]
    fn the_last_workgroups_reach_past_the_edge() {
        assert_eq!(MatmulTiling::Workgroup(SMALL).count(33, 65), [2, 2, 1]);
        assert_eq!(MatmulTiling::Workgroup(LARGE).count(64, 64), [1, 1, 1]);
        assert_eq!(MatmulTiling::Registers(8).count(8 * WORKGROUP, 16), [1, 1, 1]);
        assert_eq!(MatmulTiling::Registers(8).count(8 * WORKGROUP + 1, 17), [3, 1, 1]);
    }
}

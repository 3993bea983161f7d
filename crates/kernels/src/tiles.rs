//! How products of matrices are cut into tiles, and which cut a product gets: shaders/shared/tile_staged.wgsl,
//! shaders/shared/tile_registers.wgsl.

use crate::KernelVariant;
use crate::wgsl::Shader;

/// The cut of a product's y into tiles, and of a tile into invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tiling {
    /// Of 64 columns, through workgroup memory.
    Workgroup(WorkgroupTile),
    /// Of so many rows and 16 columns, by one invocation.
    Registers(usize),
}

/// A tile in workgroup memory, and its invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkgroupTile {
    /// Rows that an invocation computes, of 8 columns each.
    rows: usize,
    /// Invocations along the rows of a tile.
    down: usize,
    /// Groups of invocations that share the inputs of a stage.
    slices: usize,
    /// Inputs of a stage, in fours.
    stage4: usize,
}

/// Columns of a tile in workgroup memory, and invocations that share them.
const COLUMNS: usize = 64;
const ACROSS: usize = 8;
/// Columns of a tile in registers, and tiles of a workgroup.
const REGISTER_COLUMNS: usize = 16;
const WORKGROUP: usize = 32;

/// For products of few tiles: more and smaller workgroups. Of fourteen cuts that were timed on an H100 with fourteen products, the one
/// of these two that a product gets is at most a tenth slower than its best, but for one product a fifth.
const SMALL: WorkgroupTile = WorkgroupTile { rows: 8, down: 4, slices: 4, stage4: 8 };
/// For products whose tiles occupy a GPU: fewer reads.
const LARGE: WorkgroupTile = WorkgroupTile { rows: 4, down: 16, slices: 1, stage4: 4 };
/// From so many large tiles on they are used.
const MANY: usize = 256;
const MANY_ROWS: usize = MANY * LARGE.height();
/// Rows of a tile in registers, for products that have no more and for all others.
pub(crate) type RegisterRows = [usize; 2];
/// More rows than the smaller of any two has.
const TOO_MANY: usize = 32;

/// Numbers of rows with which a product of any width launches, on this thread, every text that it may.
#[must_use]
pub fn rows_of_each_tiling() -> &'static [usize] {
    match KernelVariant::current() {
        KernelVariant::WorkgroupTiled => &[1, MANY_ROWS],
        KernelVariant::RegisterTiled => &[1, TOO_MANY],
        KernelVariant::BurnReference => &[1],
    }
}

impl Tiling {
    /// Those for y `[m, n]` on this thread.
    pub(crate) fn select(m: usize, n: usize, [few, many]: RegisterRows) -> Self {
        if KernelVariant::current() == KernelVariant::WorkgroupTiled {
            Self::Workgroup(WorkgroupTile::of(m, n))
        } else {
            Self::Registers(if m <= few { few } else { many })
        }
    }

    /// The shader of the two that has such tiles.
    pub(crate) fn shader(self, registers: Shader, workgroup: Shader) -> Shader {
        match self {
            Self::Workgroup(_) => workgroup,
            Self::Registers(_) => registers,
        }
    }

    /// Rows of a tile.
    pub(crate) fn rows(self) -> usize {
        match self {
            Self::Workgroup(tile) => tile.height(),
            Self::Registers(rows) => rows,
        }
    }

    /// What the shader is given.
    pub(crate) fn constants(self) -> Vec<(&'static str, u32)> {
        match self {
            Self::Workgroup(tile) => tile.constants(),
            Self::Registers(rows) => vec![("ROWS", rows as u32), ("PAIRS", REGISTER_COLUMNS as u32 / 8)],
        }
    }

    pub(crate) fn workgroup(self) -> [u32; 3] {
        let invocations = match self {
            Self::Workgroup(tile) => tile.invocations(),
            Self::Registers(_) => WORKGROUP,
        };
        [invocations as u32, 1, 1]
    }

    /// Workgroups for y `[m, n]`.
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

    /// Rows of a tile.
    const fn height(self) -> usize {
        self.rows * self.down
    }

    fn invocations(self) -> usize {
        ACROSS * self.down * self.slices
    }

    fn constants(self) -> Vec<(&'static str, u32)> {
        let copies = |fours: usize| {
            assert!(fours.is_multiple_of(self.invocations()), "{fours} copies by {} invocations", self.invocations());
            (fours / self.invocations()) as u32
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
        let rows = rows_of_each_tiling().iter().map(|rows| Tiling::select(*rows, 4, [8, 16]));
        assert_eq!(rows.collect::<Vec<_>>(), [SMALL, LARGE].map(Tiling::Workgroup));
    }

    #[test]
    fn in_registers_the_rows_of_each_tiling_get_one_each() {
        KernelVariant::RegisterTiled.make_current();
        for own in [crate::gemm::REGISTER_ROWS, crate::conv::REGISTER_ROWS] {
            let tiles = rows_of_each_tiling().iter().map(|rows| Tiling::select(*rows, 4, own));
            assert_eq!(tiles.collect::<Vec<_>>(), own.map(Tiling::Registers));
        }
    }

    #[test]
    fn the_last_workgroups_reach_past_the_edge() {
        assert_eq!(Tiling::Workgroup(SMALL).count(33, 65), [2, 2, 1]);
        assert_eq!(Tiling::Workgroup(LARGE).count(64, 64), [1, 1, 1]);
        assert_eq!(Tiling::Registers(8).count(8 * WORKGROUP, 16), [1, 1, 1]);
        assert_eq!(Tiling::Registers(8).count(8 * WORKGROUP + 1, 17), [3, 1, 1]);
    }
}

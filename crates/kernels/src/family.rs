//! Which text of an operation a device gets. A GPU shares tiles through workgroup memory; an adapter that is software pays
//! for every barrier and is faster with sums in registers alone. All compute the same numbers.

use std::cell::Cell;

/// How the shaders of this thread are shaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// Tiles in workgroup memory.
    #[default]
    Gpu,
    /// Tiles in registers, no barrier.
    Software,
    /// Nothing of ours, on the processor too: burn's own operations, to compare with.
    Stock,
}

/// What burn's own operations make of it, where no kernel of ours does. A tab's module goes without them, unless it is built to
/// be compared with them: they are a third of it, and every network of a checkpoint has kernels.
pub(crate) fn stock<T>(compute: impl FnOnce() -> T) -> T {
    if cfg!(any(not(target_family = "wasm"), feature = "stock")) {
        compute()
    } else {
        panic!("no kernel computes this, and burn's own operations are not built into this module")
    }
}

thread_local! {
    static FAMILY: Cell<Family> = const { Cell::new(Family::Gpu) };
}

impl Family {
    /// Makes this the family of every launch of this thread from now on.
    pub fn choose(self) {
        FAMILY.set(self);
    }

    /// The family for an adapter, by whether it is software.
    #[must_use]
    pub fn of(software: bool) -> Self {
        if software { Self::Software } else { Self::Gpu }
    }

    /// The family that launches of this thread use.
    #[must_use]
    pub fn chosen() -> Self {
        FAMILY.get()
    }
}

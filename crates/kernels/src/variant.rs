//! The variants of an operation. A GPU shares tiles through workgroup memory; on a fallback adapter, which runs on the CPU, every
//! barrier is expensive, and accumulators in registers are faster. All variants give the same numbers within f32 rounding.

use std::cell::Cell;

/// The kernels that the current thread launches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KernelVariant {
    /// Tiles in workgroup memory, for GPUs.
    #[default]
    WorkgroupTiled,
    /// Tiles in registers and no barrier, for fallback adapters.
    RegisterTiled,
    /// Burn's built-in operations on every device, the CPU included, as a reference to compare with.
    BurnReference,
}

/// Falls back to burn's built-in operations. A tab's module does not contain them unless it is built with the feature
/// `burn-reference`: they would be a third of it, and every network of a checkpoint has kernels.
///
/// # Panics
/// If called in a tab's module without that feature.
pub(crate) fn burn_reference<T>(compute: impl FnOnce() -> T) -> T {
    if cfg!(any(not(target_family = "wasm"), feature = "burn-reference")) {
        compute()
    } else {
        panic!("no kernel supports this shape, and burn's built-in operations are not part of this module")
    }
}

thread_local! {
    static CURRENT: Cell<KernelVariant> = const { Cell::new(KernelVariant::WorkgroupTiled) };
}

impl KernelVariant {
    /// Selects this variant for every later launch of the current thread.
    pub fn make_current(self) {
        CURRENT.set(self);
    }

    /// Returns the variant that suits an adapter.
    #[must_use]
    pub fn for_adapter(is_fallback: bool) -> Self {
        if is_fallback { Self::RegisterTiled } else { Self::WorkgroupTiled }
    }

    /// Returns the variant that the current thread launches.
    #[must_use]
    pub fn current() -> Self {
        CURRENT.get()
    }
}

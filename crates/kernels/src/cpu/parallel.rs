//! Tasks on every core natively, one after another in a tab; and a matrix that tasks write in disjoint blocks.

use std::marker::PhantomData;
use std::ops::Range;

/// Calls `task` with each item, and with something that a core keeps from task to task: memory that is asked for once is
/// found once. A core takes the next item when it has done its last, so that a slow core delays no other.
#[cfg(not(target_family = "wasm"))]
pub(super) fn parallel_for<S: Default, T>(items: impl Iterator<Item = T> + Send, task: impl Fn(&mut S, T) + Sync) {
    let helpers = threads().min(items.size_hint().0).saturating_sub(1);
    let items = std::sync::Mutex::new(items);
    let next = || items.lock().expect("an iterator does not panic").next();
    let work = || {
        let mut scratch = S::default();
        std::iter::from_fn(next).for_each(|item| task(&mut scratch, item));
    };
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(work);
        }
        work();
    });
}

/// The same on the one thread that there is.
#[cfg(target_family = "wasm")]
pub(super) fn parallel_for<S: Default, T>(items: impl Iterator<Item = T>, task: impl Fn(&mut S, T)) {
    let mut scratch = S::default();
    items.for_each(|item| task(&mut scratch, item));
}

/// Cores that this process may use.
pub(super) fn threads() -> usize {
    static THREADS: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *THREADS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// A row-major matrix that several tasks write at once.
pub(super) struct OutputMatrix<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    lent: PhantomData<&'a mut [f32]>,
}

// SAFETY: elements are reached through `row` alone, whose callers see that no two tasks ask for the same ones.
unsafe impl Sync for OutputMatrix<'_> {}

impl<'a> OutputMatrix<'a> {
    pub(super) fn new(values: &'a mut [f32], columns: usize) -> Self {
        assert!(values.len().is_multiple_of(columns), "{} values in rows of {columns}", values.len());
        Self { start: values.as_mut_ptr(), rows: values.len() / columns, columns, lent: PhantomData }
    }

    /// Part of a row.
    ///
    /// # Safety
    /// While the slice lives no other slice may hold one of its elements.
    #[expect(clippy::mut_from_ref, reason = "blocks are disjoint, which the caller sees to")]
    pub(super) unsafe fn row(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        assert!(row < self.rows && columns.start <= columns.end && columns.end <= self.columns, "{row}, {columns:?}");
        // SAFETY: the range lies in the matrix, and the caller holds it alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.columns + columns.start), columns.len()) }
    }
}

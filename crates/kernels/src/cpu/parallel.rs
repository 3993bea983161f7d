//! A parallel loop, on every core natively and on one thread in a tab, and a matrix that its tasks write in disjoint blocks.

use std::marker::PhantomData;
use std::ops::Range;

/// Calls `task` with each item and with the thread's scratch memory, which is allocated once. A thread takes the next item when it
/// has finished one, so that a slow core delays no other.
#[cfg(not(target_family = "wasm"))]
pub(super) fn parallel_for<S: Default, T>(items: impl Iterator<Item = T> + Send, task: impl Fn(&mut S, T) + Sync) {
    let extra_threads = threads().min(items.size_hint().0).saturating_sub(1);
    let items = std::sync::Mutex::new(items);
    let next = || items.lock().expect("an iterator does not panic").next();
    let work = || {
        let mut scratch = S::default();
        std::iter::from_fn(next).for_each(|item| task(&mut scratch, item));
    };
    std::thread::scope(|scope| {
        for _ in 0..extra_threads {
            scope.spawn(work);
        }
        work();
    });
}

/// Does the same on the module's one thread.
#[cfg(target_family = "wasm")]
pub(super) fn parallel_for<S: Default, T>(items: impl Iterator<Item = T>, task: impl Fn(&mut S, T)) {
    let mut scratch = S::default();
    items.for_each(|item| task(&mut scratch, item));
}

/// Returns the number of cores that this process may use.
pub(super) fn threads() -> usize {
    static THREADS: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *THREADS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// A row-major matrix that several tasks write concurrently.
pub(super) struct OutputMatrix<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: elements are reached through `row` alone, whose callers guarantee that no two tasks borrow the same ones.
unsafe impl Sync for OutputMatrix<'_> {}

impl<'a> OutputMatrix<'a> {
    pub(super) fn new(values: &'a mut [f32], columns: usize) -> Self {
        assert!(values.len().is_multiple_of(columns), "{} values in rows of {columns}", values.len());
        Self { start: values.as_mut_ptr(), rows: values.len() / columns, columns, borrow: PhantomData }
    }

    /// Returns the columns of a row.
    ///
    /// # Safety
    /// While the slice lives no other slice may hold one of its elements.
    #[expect(clippy::mut_from_ref, reason = "the caller guarantees that blocks are disjoint")]
    pub(super) unsafe fn row(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        assert!(row < self.rows && columns.start <= columns.end && columns.end <= self.columns, "{row}, {columns:?}");
        // SAFETY: the range lies in the matrix, and no one else borrows it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.columns + columns.start), columns.len()) }
    }
}

//! Memory for weights in large pages. A system that gives them to those who ask (`madvise`, the usual setting of Linux)
//! takes a gigabyte of them several times faster than 262 144 small ones. And memory for activations that stays: a forward pass
//! of PixArt-XL/2 takes and frees a gigabyte of it, page by page.

use std::alloc::{GlobalAlloc, Layout, System};

/// Allocations from here on ask for large pages.
const LARGE: usize = 4 << 20;

/// Allocations of fewer bytes come from memory that was freed before, and go back there.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 512 << 20;

pub(crate) struct LargePages;

/// Keeps what is freed for the next allocation of any thread, where the system's allocator can be told to; elsewhere nothing
/// changes. With an arena for each thread a server's memory goes on growing for minutes.
pub(crate) fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: they are numbers that the allocator looks at when it is next asked for memory; a refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

// SAFETY: all memory is the system allocator's; advice changes neither its place nor its contents.
unsafe impl GlobalAlloc for LargePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the system allocator's.
        advised(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        advised(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as above.
        advised(unsafe { System.realloc(memory, layout, bytes) }, bytes)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn advised(memory: *mut u8, bytes: usize) -> *mut u8 {
    if cfg!(target_os = "linux") && bytes >= LARGE && !memory.is_null() {
        // Advice is for whole pages; those of 4 KiB are the smallest that there are.
        let inner = memory.map_addr(|at| at.next_multiple_of(4096));
        let bytes = bytes - (inner.addr() - memory.addr());
        // SAFETY: the range lies in what was just allocated. Advice that is not taken costs nothing.
        #[cfg(target_os = "linux")]
        unsafe {
            libc::madvise(inner.cast(), bytes, libc::MADV_HUGEPAGE);
        }
    }
    memory
}

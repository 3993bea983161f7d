//! Global allocator of the binary. Weights get huge pages where Linux grants them on request (`madvise`, its usual setting):
//! mapping a gigabyte is then several times faster than with 262 144 small pages. Freed memory is reused, because a forward pass
//! of PixArt-XL/2 allocates and frees a gigabyte of activations.

use std::alloc::{GlobalAlloc, Layout, System};

/// Least size of an allocation that requests huge pages, in bytes.
const HUGE_PAGE_BYTES_MIN: usize = 4 << 20;

/// Allocations of fewer bytes are made from freed memory and return to it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const REUSED_BYTES_MAX: i32 = 512 << 20;

/// The system's allocator, with huge pages for large allocations.
pub(crate) struct HugePageAllocator;

/// Configures glibc to reuse freed memory in one arena for all threads. With an arena per thread a server's memory grows for
/// minutes. Has no effect with other allocators.
pub(crate) fn reuse_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: these calls set numbers that the allocator reads at its next allocation; a failure changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, REUSED_BYTES_MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, REUSED_BYTES_MAX);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

// SAFETY: all memory is the system allocator's; `madvise` changes neither its address nor its contents.
unsafe impl GlobalAlloc for HugePageAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the system allocator's contract.
        request_huge_pages(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        request_huge_pages(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as above.
        request_huge_pages(unsafe { System.realloc(memory, layout, bytes) }, bytes)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Requests huge pages for a large allocation.
fn request_huge_pages(memory: *mut u8, bytes: usize) -> *mut u8 {
    if cfg!(target_os = "linux") && bytes >= HUGE_PAGE_BYTES_MIN && !memory.is_null() {
        // `madvise` takes whole pages, of 4 KiB at least.
        let inner = memory.map_addr(|at| at.next_multiple_of(4096));
        let bytes = bytes - (inner.addr() - memory.addr());
        // SAFETY: the range lies in the new allocation. A failure has no effect.
        #[cfg(target_os = "linux")]
        unsafe {
            libc::madvise(inner.cast(), bytes, libc::MADV_HUGEPAGE);
        }
    }
    memory
}

//! The allocator: mimalloc for everything small, the kernel itself for what is large.
//!
//! The large ones are bodies, which grow as their bytes come. mimalloc copies a buffer to let it grow, so that both
//! copies are held for a moment, and keeps what is freed for a while. A mapping grows where it lies, or moves without a
//! copy (mremap(2)), pages that no byte has reached cost nothing, and a freed one is the kernel's again at once: a
//! body costs what it has bytes.
#![allow(unsafe_code)] // what an allocator is made of

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::{self, NonNull};

use mimalloc::MiMalloc;
use rustix::mm::{MapFlags, MremapFlags, ProtFlags, mmap_anonymous, mremap, munmap};

/// The allocator of the program.
pub struct Allocator;

/// From here on a block is a mapping of its own. Above every buffer that is kept and used again, since a fresh page
/// costs a fault; below it a copy is cheap (by taste).
const LARGE_BYTES: usize = 256 * 1024;
/// Alignment that every mapping has: the smallest page of any architecture.
const PAGE_BYTES: usize = 4096;

fn is_large(layout: &Layout) -> bool {
    layout.size() >= LARGE_BYTES && layout.align() <= PAGE_BYTES
}

/// Pages of its own, all zero; null if the kernel has none.
fn map(bytes: usize) -> *mut u8 {
    // SAFETY: a new private mapping at an address of the kernel's choice touches nothing that is there.
    let mapped = unsafe {
        mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    };
    mapped.map_or(ptr::null_mut(), |start| start.cast())
}

// SAFETY: whether a block is mimalloc's or a mapping depends on its layout alone, which the caller gives the same each
// time; both keep the contract of `GlobalAlloc`, and so does a block that changes sides, being a new one with the old
// bytes.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(&layout) {
            return map(layout.size());
        }
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(&layout) {
            return map(layout.size());
        }
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_large(&layout) {
            // SAFETY: `block` is a whole mapping of this size, of which the caller knows no user.
            let _ = unsafe { munmap(block.cast(), layout.size()) }; // it cannot fail for a whole mapping
            return;
        }
        // SAFETY: the caller's promise, and a small block is mimalloc's.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises a size that is no overflow with this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (is_large(&layout), is_large(&wanted)) {
            // SAFETY: the caller's promise, and a small block is mimalloc's.
            (false, false) => unsafe { MiMalloc.realloc(block, layout, size) },
            // SAFETY: `block` is a whole mapping of the old size; it may move, as a block that grows may.
            (true, true) => unsafe { mremap(block.cast(), layout.size(), size, MremapFlags::MAYMOVE) }
                .map_or(ptr::null_mut(), |start| start.cast()),
            // SAFETY: both blocks are whole, apart from each other, and at least `least` bytes long.
            (true, false) | (false, true) => unsafe {
                let least = layout.size().min(size);
                let Some(new) = NonNull::new(self.alloc(wanted)) else { return ptr::null_mut() };
                ptr::copy_nonoverlapping(block, new.as_ptr(), least);
                self.dealloc(block, layout);
                new.as_ptr()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of `bytes`, taken to every size of a list and checked at each.
    fn walk(sizes: &[usize]) {
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        let mut size = sizes[0];
        // SAFETY: every block is used within its size and freed with the layout it has.
        unsafe {
            let mut block = Allocator.alloc(layout(size));
            assert!(!block.is_null());
            (0..size).for_each(|at| block.add(at).write(at as u8));
            for &next in &sizes[1..] {
                block = Allocator.realloc(block, layout(size), next);
                let kept = size.min(next);
                assert!((0..kept).all(|at| block.add(at).read() == at as u8), "{size} to {next}");
                (kept..next).for_each(|at| block.add(at).write(at as u8));
                size = next;
            }
            Allocator.dealloc(block, layout(size));
        }
    }

    #[test]
    fn a_block_keeps_its_bytes_across_the_border_and_beyond() {
        let border = LARGE_BYTES;
        walk(&[10, 100, border - 1, border, border + 1, 3 * border + 17, 8 * border, 2 * border, border, 5]);
        walk(&[border, border - 1, border + 4096, 1]);
    }

    #[test]
    fn large_zeroes_are_zero_also_after_others_used_the_pages() {
        let layout = Layout::from_size_align(3 * LARGE_BYTES + 5, 64).unwrap();
        for _ in 0..3 {
            // SAFETY: used within its size, freed with its layout.
            unsafe {
                let block = Allocator.alloc_zeroed(layout);
                assert!((0..layout.size()).all(|at| block.add(at).read() == 0));
                ptr::write_bytes(block, 0xff, layout.size());
                Allocator.dealloc(block, layout);
            }
        }
    }

    #[test]
    fn a_coarser_alignment_than_a_page_is_kept() {
        let layout = Layout::from_size_align(2 * LARGE_BYTES, 1 << 16).unwrap();
        // SAFETY: freed with its layout.
        unsafe {
            let block = Allocator.alloc(layout);
            assert_eq!(block.addr() % (1 << 16), 0);
            Allocator.dealloc(block, layout);
        }
    }
}

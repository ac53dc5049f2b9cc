//! Buffers of bytes for reads and writes, kept per shard.
//!
//! A buffer is a plain `Vec<u8>`: a read appends to it, a write takes a range of it, and while the kernel works on it
//! the operation owns it. Two sizes: small for heads and paced streams, large for first reads of a response and
//! bulk. After warm-up a request takes and returns buffers and allocates nothing.

use std::cell::{Cell, RefCell};

/// Bytes owned by one phase of one exchange at a time.
pub type Buffer = Vec<u8>;

/// Bytes at the end of every buffer that no read fills, so that what was read can be framed in place.
pub const TAIL_BYTES: usize = 32;

/// How many bytes the next read may append to `buffer`.
pub fn room(buffer: &Buffer) -> usize {
    buffer.capacity().saturating_sub(buffer.len() + TAIL_BYTES)
}

/// Makes room for a read of at least `wanted` bytes.
pub fn grow(buffer: &mut Buffer, wanted: usize) {
    if room(buffer) < wanted {
        buffer.reserve_exact(wanted + TAIL_BYTES);
    }
}

/// The free buffers of one shard.
pub struct BufferPool {
    small: RefCell<Vec<Buffer>>,
    large: RefCell<Vec<Buffer>>,
    /// Capacities, tail included.
    small_bytes: usize,
    large_bytes: usize,
    kept: usize,
    allocated: Cell<u64>,
}

impl BufferPool {
    /// Sizes are capacities, tail included: a power of two is what the allocator has without waste. Keeps at most
    /// `kept` free buffers of each size; what comes back beyond that is freed.
    pub fn new(small_bytes: usize, large_bytes: usize, kept: usize) -> Self {
        Self {
            small: RefCell::new(Vec::with_capacity(kept)),
            large: RefCell::new(Vec::with_capacity(kept)),
            small_bytes,
            large_bytes,
            kept,
            allocated: Cell::new(0),
        }
    }

    /// Takes up what the first connections need, down to the last page of it, so that it lies together.
    pub fn stock(&self) {
        let count = |stock: usize, bytes: usize| (stock / bytes.max(1)).min(self.kept);
        let small = (0..count(SMALL_STOCK, self.small_bytes)).map(|_| self.small());
        let large = (0..count(LARGE_STOCK, self.large_bytes)).map(|_| self.large());
        for mut buffer in small.chain(large).collect::<Vec<Buffer>>() {
            buffer.resize(buffer.capacity(), 0);
            self.put(buffer);
        }
    }

    /// An empty buffer of at least the small size.
    pub fn small(&self) -> Buffer {
        self.take(&self.small, self.small_bytes)
    }

    /// An empty buffer of at least the large size.
    pub fn large(&self) -> Buffer {
        self.take(&self.large, self.large_bytes)
    }

    /// An empty buffer of `bytes` or more: a kept one if that is large enough, else one of its own.
    pub fn with_room(&self, bytes: usize) -> Buffer {
        if bytes <= self.small_bytes {
            self.small()
        } else if bytes <= self.large_bytes {
            self.large()
        } else {
            self.allocated.set(self.allocated.get() + 1);
            Vec::with_capacity(bytes)
        }
    }

    /// Gives a buffer back. Its capacity decides where it belongs; one that grew is freed.
    pub fn put(&self, mut buffer: Buffer) {
        let shelf = if buffer.capacity() == self.small_bytes {
            &self.small
        } else if buffer.capacity() == self.large_bytes {
            &self.large
        } else {
            return;
        };
        let mut shelf = shelf.borrow_mut();
        if shelf.len() < self.kept {
            buffer.clear();
            shelf.push(buffer);
        }
    }

    /// Whether `buffer` is larger than a small one.
    pub fn is_large(&self, buffer: &Buffer) -> bool {
        buffer.capacity() > self.small_bytes
    }

    /// Buffers taken from the allocator since this was last asked.
    pub fn take_allocated(&self) -> u64 {
        self.allocated.take()
    }

    fn take(&self, shelf: &RefCell<Vec<Buffer>>, bytes: usize) -> Buffer {
        shelf.borrow_mut().pop().unwrap_or_else(|| {
            self.allocated.set(self.allocated.get() + 1);
            Vec::with_capacity(bytes)
        })
    }
}

/// Bytes of small buffers that a shard begins with: enough for 64 connections or so, if they have the usual size.
const SMALL_STOCK: usize = 1 << 20;
/// Bytes of large ones, which fewer need at a time.
const LARGE_STOCK: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_taken_again_and_empty() {
        let buffers = BufferPool::new(64, 256, 4);
        let mut buffer = buffers.small();
        buffer.extend_from_slice(b"old");
        buffers.put(buffer);
        assert_eq!(buffers.small().len(), 0);
        assert_eq!(buffers.take_allocated(), 1);
    }

    #[test]
    fn a_buffer_that_grew_is_not_kept() {
        let buffers = BufferPool::new(64, 256, 4);
        let mut buffer = buffers.small();
        buffer.reserve_exact(1000);
        buffers.put(buffer);
        assert!(buffers.small.borrow().is_empty() && buffers.large.borrow().is_empty());
    }

    #[test]
    fn what_is_in_stock_need_not_be_allocated() {
        let buffers = BufferPool::new(4096, SMALL_STOCK, 100);
        buffers.stock();
        assert_eq!(buffers.take_allocated(), 100, "as many as are kept, and none that is too large");
        assert!((0..100).map(|_| buffers.small()).all(|buffer| buffer.is_empty()));
        assert_eq!(buffers.take_allocated(), 0);
    }

    #[test]
    fn no_more_than_the_bound_are_kept() {
        let buffers = BufferPool::new(64, 256, 1);
        let (one, two) = (buffers.large(), buffers.large());
        buffers.put(one);
        buffers.put(two);
        assert_eq!(buffers.large.borrow().len(), 1);
    }
}

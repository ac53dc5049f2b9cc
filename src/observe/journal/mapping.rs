//! One segment's memory: a file mapped shared, so that what is stored in it survives the process without a system call.
//!
//! Unsafe code: a mapping of a file has no safe library interface. Nothing of it is lent out: bytes go in by copy.
//! What it costs beside a write(2) per record is measured in docs/ledger.md and bench/ledger.rs.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A writable shared mapping of the first bytes of a file.
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the value alone, and no method needs the thread that made it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `bytes` bytes of `file`, all of which have to be allocated on the disk: a store to a hole of a full disk
    /// would end the process (SIGBUS).
    ///
    /// # Errors
    /// The kernel refuses the mapping.
    pub(super) fn new(file: &File, bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that is there.
        let start = unsafe {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            mmap(ptr::null_mut(), bytes, access, MapFlags::SHARED, file, 0)?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    /// Stores `bytes` from `at` on, then publishes `word` at `at - 4`: whoever reads the word finds the bytes behind it.
    ///
    /// # Panics
    /// If that is not within the mapping, or the word not aligned.
    pub(super) fn store(&mut self, at: usize, bytes: &[u8], word: u32) {
        let end = at.checked_add(bytes.len()).expect("no frame is that long");
        assert!(at >= 4 && at.is_multiple_of(4) && end <= self.bytes, "a frame lies within its segment");
        // SAFETY: the range was just checked to lie within the mapping, which nobody else in this process knows; `bytes`
        // cannot overlap it, since no reference into it is ever given out. The word's address is aligned (a mapping
        // starts at a page) and only this method writes it.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(at), bytes.len());
            AtomicU32::from_ptr(self.start.as_ptr().add(at - 4).cast()).store(word, Ordering::Release);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is a whole mapping that nobody else knows.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) }; // it cannot fail for a whole mapping
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_was_stored_is_in_the_file_and_stays_there() {
        let path = std::env::temp_dir().join(format!("ringway-mapping-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(8192).unwrap();
        let mut mapping = Mapping::new(&file, 8192).unwrap();
        mapping.store(4100, b"record", 6);
        drop(mapping);
        let mut bytes = Vec::new();
        File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(&bytes[4096..4106], b"\x06\0\0\0record");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    #[should_panic(expected = "within its segment")]
    fn nothing_is_stored_beyond_the_end() {
        let path = std::env::temp_dir().join(format!("ringway-mapping-end-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(4096).unwrap();
        std::fs::remove_file(&path).unwrap();
        Mapping::new(&file, 4096).unwrap().store(4092, b"record", 6);
    }
}

//! Arrays that the programs read while the loader writes them: memory of a map that is mapped into this process.
//!
//! An element is a number of 64-bit words, each written by one store: a packet sees the old word or the new one, and whatever was
//! stored before it.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// An array of elements of so many words.
pub struct Shared {
    words: Words,
    per_element: usize,
}

enum Words {
    Mapped(Mapping),
    #[cfg(test)]
    Owned(Box<[AtomicU64]>),
}

struct Mapping {
    start: NonNull<AtomicU64>,
    words: usize,
    bytes: NonZeroUsize,
}

// SAFETY: the mapping belongs to this value alone and is only accessed by atomic operations.
unsafe impl Send for Mapping {}

impl Shared {
    /// The memory of an array map with `BPF_F_MMAPABLE`, which has `elements` of `value_size` bytes.
    pub fn map(map: impl AsFd, elements: u32, value_size: usize) -> io::Result<Self> {
        Self::open(map, elements, value_size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
    }

    /// As [`map`](Self::map), to be read only: a store is then a fault.
    pub fn map_read_only(map: impl AsFd, elements: u32, value_size: usize) -> io::Result<Self> {
        Self::open(map, elements, value_size, ProtFlags::PROT_READ)
    }

    fn open(map: impl AsFd, elements: u32, value_size: usize, protection: ProtFlags) -> io::Result<Self> {
        // The kernel rounds elements up to words.
        let per_element = value_size.div_ceil(size_of::<u64>());
        let words = usize::try_from(elements).map_err(io::Error::other)? * per_element;
        let bytes = NonZeroUsize::new(words * size_of::<u64>()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, map, 0) }?;
        let mapping = Mapping { start: start.cast(), words, bytes };
        Ok(Self { words: Words::Mapped(mapping), per_element })
    }

    /// Memory of no map.
    #[cfg(test)]
    pub(crate) fn in_memory(elements: u32, value_size: usize) -> Self {
        let per_element = value_size.div_ceil(size_of::<u64>());
        let words =
            (0..usize::try_from(elements).unwrap() * per_element).map(|_| AtomicU64::new(0)).collect();
        Self { words: Words::Owned(words), per_element }
    }

    fn words(&self) -> &[AtomicU64] {
        match &self.words {
            // SAFETY: mapped for as long as the value is there, page-aligned, and any bits are a word.
            Words::Mapped(mapping) => unsafe { slice::from_raw_parts(mapping.start.as_ptr(), mapping.words) },
            #[cfg(test)]
            Words::Owned(words) => words,
        }
    }

    fn place(&self, element: u32, word: usize) -> Option<&AtomicU64> {
        let element = usize::try_from(element).ok()?;
        self.words().get(element.checked_mul(self.per_element)?.checked_add(word)?)
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::try_from(self.words().len() / self.per_element).unwrap_or(u32::MAX)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A word of an element; zero beyond the end.
    #[must_use]
    pub fn load(&self, element: u32, word: usize) -> u64 {
        self.place(element, word).map_or(0, |place| place.load(Ordering::Acquire))
    }

    /// Writes a word of an element, if it is another; nothing beyond the end.
    pub fn store(&self, element: u32, word: usize, value: u64) {
        if let Some(place) = self.place(element, word)
            && place.load(Ordering::Relaxed) != value
        {
            place.store(value, Ordering::Release);
        }
    }

    /// Writes what `from` has, as far as there are elements for it.
    pub fn copy(&self, from: &Self) {
        for (to, from) in self.words().iter().zip(from.words()) {
            to.store(from.load(Ordering::Acquire), Ordering::Release);
        }
    }

    /// Adds one to the first word of every element.
    pub fn advance(&self) {
        for element in 0..self.len() {
            if let Some(place) = self.place(element, 0) {
                place.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// Sets bits of a word.
    pub fn set(&self, element: u32, bits: u64) {
        if let Some(place) = self.place(element, 0) {
            place.fetch_or(bits, Ordering::AcqRel);
        }
    }

    /// Clears bits of a word.
    pub fn clear(&self, element: u32, bits: u64) {
        if let Some(place) = self.place(element, 0) {
            place.fetch_and(!bits, Ordering::AcqRel);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by this value, which nobody can use any more.
        let outcome = unsafe { munmap(self.start.cast(), self.bytes.get()) };
        if let Err(errno) = outcome {
            log::debug!("munmap: {errno}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt as _};

    use super::*;

    #[test]
    fn words_are_those_of_the_file() {
        let file: File = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let shared = Shared::map(&file, 3, 32).unwrap();
        assert_eq!(shared.len(), 3);
        shared.store(2, 1, 0x0102_0304);
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, 2 * 32 + 8).unwrap();
        assert_eq!(u64::from_ne_bytes(bytes), 0x0102_0304);
        assert_eq!(Shared::map_read_only(&file, 3, 32).unwrap().load(2, 1), 0x0102_0304);
    }

    #[test]
    fn nothing_lies_beyond_the_end() {
        let shared = Shared::in_memory(2, 4);
        shared.store(2, 0, 7);
        shared.set(9, 1);
        assert_eq!((shared.load(2, 0), shared.load(1, 0), shared.len()), (0, 0, 2));
        shared.set(1, 6);
        shared.clear(1, 2);
        assert_eq!(shared.load(1, 0), 4);
    }
}

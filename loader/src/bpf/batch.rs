//! `BPF_MAP_LOOKUP_BATCH`: thousands of entries with one system call, where one by one takes two each.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use aya::Pod;

const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
/// Entries per call. A bucket of a hash map is never cut in two, so there has to be room for the longest.
const BATCH: usize = 4096;

/// The kernel's `union bpf_attr` for this call.
#[repr(C)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Calls `each` with every entry of a hash map. One that is added or removed meanwhile may be missed; none is seen twice unless
/// it was removed and added again.
pub fn for_each<K: Pod, V: Pod>(map: BorrowedFd<'_>, mut each: impl FnMut(K, V)) -> io::Result<()> {
    let mut room = BATCH;
    let (mut keys, mut values): (Vec<K>, Vec<V>) = (Vec::with_capacity(room), Vec::with_capacity(room));
    let (mut cursor, mut next) = (0_u64, 0_u64);
    let mut first = true;
    loop {
        keys.clear();
        values.clear();
        let mut attributes = Attributes {
            in_batch: if first { 0 } else { (&raw const cursor) as u64 },
            out_batch: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(room).map_err(io::Error::other)?,
            map_fd: u32::try_from(map.as_raw_fd()).map_err(io::Error::other)?,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the kernel writes at most `count` keys and values, for which there is room, and a cursor of four bytes.
        let outcome = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, &raw mut attributes, size_of::<Attributes>())
        };
        let error = (outcome < 0).then(io::Error::last_os_error);
        let errno = error.as_ref().and_then(io::Error::raw_os_error);
        if errno == Some(libc::ENOSPC) {
            // One bucket has more entries than that.
            room *= 2;
            keys.reserve(room);
            values.reserve(room);
            continue;
        }
        // The end is an error, with the last entries.
        if let Some(error) = error
            && errno != Some(libc::ENOENT)
        {
            return Err(error);
        }
        let count = usize::try_from(attributes.count).map_err(io::Error::other)?.min(room);
        // SAFETY: the kernel has written so many, and both are plain data.
        unsafe {
            keys.set_len(count);
            values.set_len(count);
        }
        keys.iter().zip(&values).for_each(|(key, value)| each(*key, *value));
        if errno == Some(libc::ENOENT) {
            return Ok(());
        }
        cursor = next;
        first = false;
    }
}

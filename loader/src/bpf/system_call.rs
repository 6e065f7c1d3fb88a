//! The `bpf` system call, for what aya has no way to do.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_LINK_DETACH: libc::c_int = 34;

/// Opens a pin.
pub(super) fn open(pin: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        path: u64,
        descriptor: u32,
        flags: u32,
    }
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let descriptor = bpf(BPF_OBJ_GET, &Attributes { path: path.as_ptr() as u64, descriptor: 0, flags: 0 })?;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Takes a link's program off its device; one whose device is gone is as good.
pub(super) fn detach(link: &OwnedFd) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &descriptor(link)?).map(drop)
}

/// Calls with a structure that has what the kernel's `union bpf_attr` has for that command, as far as it goes.
pub(super) fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: the pointer and the size describe `attributes`, and what it points to lives as long.
    let outcome =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    let outcome = libc::c_int::try_from(outcome).map_err(io::Error::other)?;
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}

/// Pins a link, or a map.
pub(super) fn pin(object: &OwnedFd, pin: &Path) -> io::Result<()> {
    #[repr(C)]
    struct Pin {
        path: u64,
        object: u32,
        flags: u32,
    }
    let path = CString::new(pin.as_os_str().as_bytes())?;
    bpf(BPF_OBJ_PIN, &Pin { path: path.as_ptr() as u64, object: descriptor(object)?, flags: 0 }).map(drop)
}

/// A descriptor as the kernel's structures have it.
pub(super) fn descriptor(of: impl AsFd) -> io::Result<u32> {
    u32::try_from(of.as_fd().as_raw_fd()).map_err(io::Error::other)
}

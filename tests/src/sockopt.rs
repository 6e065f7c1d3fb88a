//! Socket options that neither std nor nix has a name for.

use std::{
    io,
    mem::{MaybeUninit, size_of_val},
    os::fd::{AsFd, AsRawFd as _},
};

use anyhow::{Context as _, Result};

/// Sets an option.
pub fn set(socket: impl AsFd, level: i32, name: i32, value: i32) -> Result<()> {
    set_any(socket, level, name, &value).with_context(|| format!("to {value}"))
}

/// Sets an option whose value is a structure.
pub fn set_any<T: Copy>(socket: impl AsFd, level: i32, name: i32, value: &T) -> Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).context("the size of an option")?;
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error()).with_context(|| format!("setsockopt level {level} option {name}"))
}

/// Reads an option.
pub fn get(socket: impl AsFd, level: i32, name: i32) -> Result<i32> {
    let mut value = 0_i32;
    let mut length = libc::socklen_t::try_from(size_of_val(&value)).context("the size of an int")?;
    // SAFETY: the pointers describe `value` and `length`, which outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(&mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        return Ok(value);
    }
    Err(io::Error::last_os_error()).with_context(|| format!("getsockopt level {level} option {name}"))
}

/// What the kernel knows of a TCP connection: zero in fields that it does not have yet.
pub fn tcp_info(socket: impl AsFd) -> Result<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).context("the size of an option")?;
    // SAFETY: the pointers describe `info` and `length`, which outlive the call; the structure is integers, of which zero is one.
    let (result, info) = unsafe {
        let place = info.as_mut_ptr().cast();
        let socket = socket.as_fd().as_raw_fd();
        let result = libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, place, &raw mut length);
        (result, info.assume_init())
    };
    if result == 0 {
        return Ok(info);
    }
    Err(io::Error::last_os_error()).context("getsockopt TCP_INFO")
}

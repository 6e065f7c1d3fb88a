//! Many datagrams or frames with one system call (`sendmmsg`, `recvmmsg`).

use std::{io, mem::zeroed, os::fd::AsRawFd};

/// Bytes of a small datagram's payload.
pub(super) const PAYLOAD: usize = 64;
/// The most for one system call.
pub(super) const DATAGRAMS: usize = 64;

/// Payloads and the headers that point to them; on the heap, so that they stay where they are when this value moves.
pub(super) struct Batch {
    headers: Vec<libc::mmsghdr>,
    _slices: Vec<libc::iovec>,
    payloads: Vec<Vec<u8>>,
}

// SAFETY: the pointers in it are to its own heap memory.
unsafe impl Send for Batch {}

impl Batch {
    /// As many payloads of zeros.
    pub(super) fn new(count: usize, size: usize) -> Self {
        Self::of(vec![vec![0; size]; count])
    }

    /// These payloads.
    pub(super) fn of(mut payloads: Vec<Vec<u8>>) -> Self {
        let mut slices: Vec<libc::iovec> = payloads
            .iter_mut()
            .map(|payload| libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() })
            .collect();
        let headers = slices.iter_mut().map(|slice| {
            // SAFETY: plain old data, for which zero is a value.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
            header
        });
        Self { headers: headers.collect(), _slices: slices, payloads }
    }

    /// The payloads, to be changed before they are sent; their lengths stay.
    pub(super) fn payloads(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.payloads.iter_mut().map(Vec::as_mut_slice)
    }

    /// Sends the first so many over a socket that knows where to; how many get there is for the receiver to say.
    pub(super) fn send(&mut self, socket: &impl AsRawFd, count: usize) -> io::Result<()> {
        let count = libc::c_uint::try_from(count.min(self.headers.len())).unwrap_or(0);
        // SAFETY: the headers and all that they point to belong to this value; there are at least as many as is said.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count, 0) };
        if sent < 0 {
            let error = io::Error::last_os_error();
            // A queue on the way is full: as good as a datagram lost there.
            if error.raw_os_error() != Some(libc::ENOBUFS) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits for one datagram and takes all that are there; returns how many.
    pub(super) fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<u64> {
        let count = libc::c_uint::try_from(self.headers.len()).unwrap_or(0);
        // SAFETY: as above; no time limit is given, the socket has its own.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        u64::try_from(received).map_err(|_negative| io::Error::last_os_error())
    }

    /// Bytes in the first so many that were received last.
    pub(super) fn bytes(&self, count: u64) -> u64 {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.headers.iter().take(count).map(|header| u64::from(header.msg_len)).sum()
    }
}

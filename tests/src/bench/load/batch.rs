//! Many datagrams with one system call (`sendmmsg`, `recvmmsg`).

use std::{io, mem::zeroed, net::UdpSocket, os::fd::AsRawFd as _};

/// Bytes of a datagram's payload.
pub(super) const PAYLOAD: usize = 64;
const DATAGRAMS: u16 = 64;

/// Datagrams and the headers that point to them; on the heap, so that they stay where they are when this value moves.
pub(super) struct Batch {
    headers: Vec<libc::mmsghdr>,
    _slices: Vec<libc::iovec>,
    _payloads: Vec<[u8; PAYLOAD]>,
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut payloads = vec![[0; PAYLOAD]; DATAGRAMS.into()];
        let mut slices: Vec<libc::iovec> = payloads
            .iter_mut()
            .map(|payload| libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: PAYLOAD })
            .collect();
        let headers = slices.iter_mut().map(|slice| {
            // SAFETY: plain old data, for which zero is a value.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
            header
        });
        Self { headers: headers.collect(), _slices: slices, _payloads: payloads }
    }

    /// Sends all of them over a connected socket; how many that were is for the receiver to say.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> io::Result<()> {
        // SAFETY: the headers and all that they point to belong to this value; there are as many as is said.
        let sent =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), DATAGRAMS.into(), 0) };
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
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<u64> {
        // SAFETY: as above; no time limit is given, the socket has its own.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                DATAGRAMS.into(),
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        u64::try_from(received).map_err(|_negative| io::Error::last_os_error())
    }
}

//! The programs for sockets, in the order in which they are attached.

use crate::desired::SocketMode;

/// A program for sockets.
#[derive(Clone, Copy, Debug)]
pub(super) struct SockProgram {
    /// Its name.
    pub(super) name: &'static str,
    /// The kernel's `enum bpf_attach_type`.
    pub(super) attach_type: u32,
    /// Whether TCP sockets need it.
    pub(super) tcp: bool,
}

/// All of them.
pub(super) const ALL: [SockProgram; 8] = [
    // Those that tell first: what is resolved is told right from the start.
    SockProgram { name: "sock_getpeername4", attach_type: 29, tcp: true },
    SockProgram { name: "sock_getpeername6", attach_type: 30, tcp: true },
    SockProgram { name: "sock_recvmsg4", attach_type: 19, tcp: true },
    SockProgram { name: "sock_recvmsg6", attach_type: 20, tcp: true },
    SockProgram { name: "sock_connect4", attach_type: 10, tcp: true },
    SockProgram { name: "sock_connect6", attach_type: 11, tcp: true },
    SockProgram { name: "sock_sendmsg4", attach_type: 14, tcp: false },
    SockProgram { name: "sock_sendmsg6", attach_type: 15, tcp: false },
];

/// The programs that a mode needs.
pub(super) fn needed(mode: SocketMode) -> impl Iterator<Item = SockProgram> {
    ALL.into_iter().filter(move |program| match mode {
        SocketMode::Off => false,
        SocketMode::Tcp => program.tcp,
        SocketMode::On => true,
    })
}

//! Sockets for which a service was resolved: once each, instead of once per packet.

use bytemuck::{Pod, Zeroable};

use super::FrontendKey;

/// Key of `sockets` and `socket_choices`: a socket, and somebody with whom it talks.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct SocketKey {
    /// The socket's cookie: the kernel gives none twice.
    pub cookie: u64,
    /// In `sockets` the backend, in `socket_choices` the frontend.
    pub peer: FrontendKey,
}

/// Value of `sockets`: what the socket has called, and whom it was given.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Resolved {
    /// The frontend, as the socket's owner knows it.
    pub called: FrontendKey,
    /// Cookie of the network namespace that the socket is in.
    pub namespace: u64,
    /// Whom it was given.
    pub choice: Choice,
}

/// Value of `socket_choices`: a backend as it was.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Choice {
    /// Index into `backends`.
    pub backend: u32,
    /// [`Backend::generation`](super::Backend::generation) then.
    pub generation: u32,
}

/// Values of `namespaces`: who calls from there.
pub mod namespace_kind {
    /// A pod.
    pub const POD: u32 = 1;
    /// The node itself.
    pub const NODE: u32 = 2;
}

#[cfg(feature = "user")]
mod user {
    use super::{Choice, Resolved, SocketKey};

    // SAFETY: each is `repr(C)` without padding and valid for any bits, which `bytemuck::Pod` has checked.
    unsafe impl aya::Pod for Choice {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Resolved {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SocketKey {}
}

const _: () = {
    assert!(size_of::<SocketKey>() == 32);
    assert!(size_of::<Resolved>() == 40);
};

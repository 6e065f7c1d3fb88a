//! The context of a cgroup's socket program: a socket, and an address that its owner gives or is given.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    programs::SockAddrContext,
};
use common::{
    counters::Hook,
    maps::{Backend, FrontendKey},
    sock::{self, Call, Caller, MAPPED},
    wire::load16,
};

use crate::on_hook::{Context, OnHook};

/// The call is to go on; what the address is by then is what it goes on with.
const GO_ON: i32 = 1;

/// A socket program of a cgroup.
pub struct Cgroup;

/// The socket of such a program.
pub type Sock = OnHook<Cgroup>;

impl Context for Cgroup {
    type Raw = bpf_sock_addr;
}

impl Sock {
    /// The socket of that context.
    #[inline(always)]
    pub fn of(SockAddrContext { sock_addr: raw }: SockAddrContext) -> Self {
        Self::new(raw, Hook::Sock)
    }

    /// Resolves an IPv4 address.
    #[inline(always)]
    pub fn resolve4(mut self, call: Call) -> i32 {
        let called = self.place4();
        if let Some(backend) = self.resolve(&called, call) {
            self.set4(&backend.address);
            self.set_port(backend.port);
        }
        GO_ON
    }

    /// Resolves an IPv6 address.
    #[inline(always)]
    pub fn resolve6(mut self, call: Call) -> i32 {
        let called = self.place6();
        if let Some(backend) = self.resolve(&called, call) {
            self.set6(&backend.address, called.family);
            self.set_port(backend.port);
        }
        GO_ON
    }

    /// Tells whom the socket has called in the place of an IPv4 backend.
    #[inline(always)]
    pub fn tell4(mut self) -> i32 {
        let peer = self.place4();
        if let Some(called) = self.called(&peer) {
            self.set4(&called.address);
            self.set_port(called.port);
        }
        GO_ON
    }

    /// Tells whom the socket has called in the place of a backend.
    #[inline(always)]
    pub fn tell6(mut self) -> i32 {
        let peer = self.place6();
        if let Some(called) = self.called(&peer) {
            self.set6(&called.address, peer.family);
            self.set_port(called.port);
        }
        GO_ON
    }

    #[inline(always)]
    fn resolve(&mut self, called: &FrontendKey, call: Call) -> Option<Backend> {
        // SAFETY: a helper on the program's own context.
        let namespace = unsafe { bpf_get_netns_cookie(self.raw().cast()) };
        let socket = Caller { cookie: self.cookie(), namespace, bound: self.is_bound() };
        sock::resolve(self, &socket, called, call)
    }

    #[inline(always)]
    fn called(&mut self, peer: &FrontendKey) -> Option<FrontendKey> {
        let cookie = self.cookie();
        sock::called(self, cookie, peer)
    }

    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: a helper on the program's own context.
        unsafe { bpf_get_socket_cookie(self.raw().cast()) }
    }

    /// The address of the context, if it is an IPv4 one.
    #[inline(always)]
    fn place4(&self) -> FrontendKey {
        // SAFETY: a field of the program's own context, loaded as wide as it is.
        let address = unsafe { (&raw const (*self.raw()).user_ip4).read_volatile() };
        sock::place([address, 0, 0, 0], false, self.port(), self.protocol())
    }

    /// The address of the context, if it is an IPv6 one.
    #[inline(always)]
    fn place6(&self) -> FrontendKey {
        let words = self.words6();
        // SAFETY: as above, four of them.
        let address = unsafe {
            [
                words.read_volatile(),
                words.add(1).read_volatile(),
                words.add(2).read_volatile(),
                words.add(3).read_volatile(),
            ]
        };
        sock::place(address, true, self.port(), self.protocol())
    }

    #[inline(always)]
    fn words6(&self) -> *mut u32 {
        // SAFETY: within the program's own context; nothing is loaded.
        unsafe { (&raw mut (*self.raw()).user_ip6).cast() }
    }

    /// Port of the context, network byte order.
    #[inline(always)]
    fn port(&self) -> [u8; 2] {
        // SAFETY: a field of the program's own context, loaded as wide as it is.
        let port = unsafe { (&raw const (*self.raw()).user_port).read_volatile() };
        (port as u16).to_ne_bytes()
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        // SAFETY: as above.
        let protocol = unsafe { (&raw const (*self.raw()).protocol).read_volatile() };
        // One that needs more bits (MPTCP) is none that is known here.
        if protocol > 0xff { 0 } else { protocol as u8 }
    }

    /// Whether the socket has an address of its own.
    #[inline(always)]
    fn is_bound(&self) -> bool {
        // SAFETY: the kernel gives a socket, or none; its fields are loaded as wide as they are.
        unsafe {
            let socket = (&raw const (*self.raw()).__bindgen_anon_1.sk).read_volatile();
            if socket.is_null() {
                return false;
            }
            let words = (&raw const (*socket).src_ip6).cast::<u32>();
            let family = (&raw const (*socket).family).read_volatile();
            if family == AF_INET {
                return (&raw const (*socket).src_ip4).read_volatile() != 0;
            }
            let mut word = 0;
            while word < 4 {
                if words.add(word).read_volatile() != 0 {
                    return true;
                }
                word += 1;
            }
        }
        false
    }

    #[inline(always)]
    fn set4(&mut self, address: &[u8; 16]) {
        let [word, ..] = words(address);
        // SAFETY: a field of the program's own context, stored as wide as it is.
        unsafe { (&raw mut (*self.raw()).user_ip4).write_volatile(word) };
    }

    /// Sets an address of that family, mapped if it is IPv4.
    #[inline(always)]
    fn set6(&mut self, address: &[u8; 16], family: u8) {
        let address = words(address);
        let address = if family == 4 { [0, 0, MAPPED, address[0]] } else { address };
        let words = self.words6();
        // SAFETY: as above, four of them.
        unsafe {
            words.write_volatile(address[0]);
            words.add(1).write_volatile(address[1]);
            words.add(2).write_volatile(address[2]);
            words.add(3).write_volatile(address[3]);
        }
    }

    #[inline(always)]
    fn set_port(&mut self, port: [u8; 2]) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.raw()).user_port).write_volatile(u32::from(u16::from_ne_bytes(port))) };
    }
}

/// `AF_INET` of linux/socket.h.
const AF_INET: u32 = 2;

/// An address as words of memory.
#[inline(always)]
fn words(address: &[u8; 16]) -> [u32; 4] {
    bytemuck::cast(load16(address))
}

//! What the decisions look up: in the kernel BPF maps and helpers, in tests ordinary collections.

mod connections;
mod services;
mod sockets;

pub use self::{
    connections::{Connections, Entry, NotMade, Origin},
    services::Services,
    sockets::Sockets,
};
use crate::{
    counters::Reason,
    family::{Family, V4, V6},
    maps::{Allowed, Budget, Endpoint, Hop, Route, Vtep},
    node::Node,
    packet::{Failed, Packet},
    stage::Stage,
    verdict::Action,
    wire::Mac,
};

/// Look-ups by an address of one family.
pub trait Tables<F: Family> {
    /// The local pod with that address.
    fn pod(&self, address: &F::Addr) -> Option<Endpoint>;

    /// The route of the longest prefix that holds that destination.
    ///
    /// Not a copy: a route is replaced, never written to, and what a program has looked up stays until it ends.
    fn route(&self, destination: &F::Addr) -> Option<&'static Route>;

    /// The peer with that underlay address.
    fn vtep(&self, address: &F::Addr) -> Option<Vtep>;

    /// Whether the pod behind that device may send from that address, besides its own.
    fn allowed(&self, ifindex: u32, source: &F::Addr) -> Option<Allowed>;

    /// Where the node's own routing sends a packet over the underlay.
    fn next_hop(&self, query: &Underlay<F>) -> Result<NextHop, Failed>;
}

/// What the node's routing is asked.
#[derive(Clone, Copy)]
pub struct Underlay<F: Family> {
    /// Who sends: policy routing may go by it.
    pub source: F::Addr,
    /// The other end.
    pub destination: F::Addr,
    /// UDP source port, network byte order: equal-cost paths are chosen by it. Zero where there is no UDP.
    pub source_port: [u8; 2],
    /// UDP destination port, network byte order; zero where there is no UDP.
    pub destination_port: [u8; 2],
    /// Type of service, or traffic class.
    pub tos: u8,
}

/// The way out of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Device to leave by.
    pub ifindex: u32,
    /// Who is next.
    pub neighbour: Neighbour,
}

/// The next node on the link.
///
/// No enum: of a variant's fields LLVM keeps those, too, that another one lacks, over all that follows, and the verifier
/// refuses a program that stores what was never written. These words are always all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    state: State,
    /// The MACs of the neighbour and of the device, or the neighbour's address.
    words: [u32; 4],
}

/// What is known of a neighbour.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Known,
    Unknown4,
    Unknown6,
}

impl Neighbour {
    /// One with that MAC, behind the device with the other.
    #[inline(always)]
    #[must_use]
    pub const fn known(dst: Mac, src: Mac) -> Self {
        let ([a, b], [c, d]) = (dst.words(), src.words());
        Self { state: State::Known, words: [a, b, c, d] }
    }

    /// One whose MAC the kernel has to ask for first: its address as it lies in a packet, IPv4 in the first word.
    #[inline(always)]
    #[must_use]
    pub const fn unknown(address: [u32; 4], v6: bool) -> Self {
        Self { state: if v6 { State::Unknown6 } else { State::Unknown4 }, words: address }
    }

    /// Its MAC and the device's, if its is known.
    #[inline(always)]
    #[must_use]
    pub fn macs(&self) -> Option<(Mac, Mac)> {
        let [a, b, c, d] = self.words;
        (self.state == State::Known).then(|| (Mac::of_words([a, b]), Mac::of_words([c, d])))
    }

    /// Its address, of a neighbour that is not known, and whether that is an IPv6 address.
    #[inline(always)]
    #[must_use]
    pub fn address(&self) -> ([u32; 4], bool) {
        (self.words, self.state == State::Unknown6)
    }
}

/// Whose counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// Sent by the pod in that slot.
    PodTx(u32),
    /// Delivered to the pod in that slot.
    PodRx(u32),
    /// Sent to the peer in that slot.
    PeerTx(u32),
    /// Received from the peer in that slot.
    PeerRx(u32),
}

/// Everything that a decision needs: the packet at hand, the tables of both families, the node, the counters.
pub trait Dataplane:
    Packet + Tables<V4> + Tables<V6> + Connections<V4> + Connections<V6> + Services + Stage<V4> + Stage<V6>
{
    /// What a hook answers the kernel.
    type Done: Copy;

    /// Length of the packet as it came to the hook, in bytes.
    fn received(&self) -> usize;

    /// Carries out an action. The packet is not to be touched after it.
    fn act(&mut self, action: Action) -> Self::Done;

    /// What a hook before this one has decided and left to this one to carry out. What the device has said of checksums
    /// is about the packet as it was, and forgotten.
    fn handed(&mut self) -> Result<Option<Action>, Failed>;

    /// The facts of this node.
    fn node(&self) -> &'static Node;

    /// Counts a packet of `bytes` bytes at this hook.
    fn count(&mut self, reason: Reason, bytes: usize);

    /// Counts a packet of `bytes` bytes for a pod or a peer.
    fn account(&mut self, account: Account, bytes: usize);

    /// Counts a helper's refusal.
    fn failed(&mut self, failure: Failed);

    /// The way that this CPU remembers at that index, if it is within the table.
    fn hop(&self, index: u32) -> Option<&'static Hop>;

    /// The same, to be changed: nothing is read of what [`hop`](Self::hop) gave before any more.
    fn hop_mut(&mut self, index: u32) -> Option<&mut Hop>;

    /// What `epochs` says of a flow with that hash.
    fn epoch(&self, hash: u32) -> u64;

    /// Makes it say something else.
    fn advance(&mut self, hash: u32);

    /// Does something at most so many times, until it says that it is done. Not a loop of the program's own: the verifier would
    /// walk through each turn.
    fn repeat<F: FnMut(&mut Self, u32) -> bool>(&mut self, times: u32, turn: F);

    /// The time, in jiffies.
    fn now(&self) -> u64;

    /// The time, in [ticks](crate::maps::connection::TICK_NS).
    fn ticks(&self) -> u32;

    /// This CPU's allowance of ICMP errors, if it can be had, and the time in nanoseconds.
    fn budget(&mut self) -> Option<(&mut Budget, u64)>;
}

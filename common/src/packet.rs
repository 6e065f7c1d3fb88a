//! A packet, as the decisions see it: in the kernel a TC or XDP context, in tests a byte buffer.

use crate::wire::Wire;

/// A packet that starts with its Ethernet header.
///
/// Offsets are in bytes from there. References are to the packet itself; whatever changes its size or layout takes
/// `&mut self`, so none outlives such a change: what the verifier asks of packet pointers, the borrow checker asks here.
pub trait Packet {
    /// Length in bytes; of a GSO packet, all of it.
    fn len(&self) -> usize;

    /// Whether there is nothing at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header at `offset`, if it lies wholly in the packet.
    fn at<T: Wire>(&self, offset: usize) -> Option<&T>;

    /// The header at `offset`, to be changed.
    fn at_mut<T: Wire>(&mut self, offset: usize) -> Option<&mut T>;

    /// Interface index of the device on whose hook the packet is.
    fn ifindex(&self) -> u32;

    /// Whether it carries a VLAN tag, in its bytes or beside them.
    fn has_vlan(&self) -> bool;

    /// Payload bytes per segment of a GSO packet; zero for any other.
    fn gso_size(&self) -> u32;

    /// Tells that a 16-bit word of an IPv6 header, which has no checksum of its own, went from `old` to `new`, so that a checksum that the device took over the whole packet can follow. IPv4 needs none: its
    /// header checksum makes up for any change.
    fn word_changed(&mut self, old: [u8; 2], new: [u8; 2]);

    /// Tells that addresses of its header have changed by `addresses`, and bytes behind it by `ports` (see
    /// [`checksum::difference`](crate::checksum::difference)), where the upper protocol has its checksum at `at`. With `optional`, zero there says
    /// that there is none, as in UDP.
    fn upper_changed(&mut self, at: usize, addresses: u32, ports: u32, optional: bool);

    /// Tells that the addresses of an IPv6 header have changed by `difference`, as [`word_changed`](Self::word_changed) does of a word. IPv4 needs none.
    fn addresses_changed(&mut self, difference: u32);

    /// Makes room for tunnel headers: `room` bytes behind the Ethernet header, the last 14 of them an inner one.
    /// Afterwards the packet is known to be UDP-encapsulated in IPv4 or, if `v6`, IPv6.
    fn encapsulate(&mut self, room: usize, v6: bool) -> Result<(), Failed>;

    /// Takes away `room` bytes behind the Ethernet header: tunnel headers that leave an IPv4 or, if `v6`, IPv6 packet.
    fn decapsulate(&mut self, room: usize, v6: bool) -> Result<(), Failed>;

    /// Takes the packet up: from here on it is changed, and what is decided will be carried out. False at a hook that could not
    /// see to that, where it has to be left as it is.
    fn claim(&mut self) -> bool;

    /// As [`checksum::sum_tail`](crate::checksum::sum_tail), which is long and rarely run: a program has it once, and the verifier walks
    /// through it once.
    fn sum_tail(&self, offset: usize) -> u32;

    /// As [`walk_extensions`](crate::family::walk_extensions), which is long and rarely run, too.
    fn walk_extensions(&self, payload: usize, protocol: u8) -> u64;

    /// Cuts the packet to `keep` bytes, then makes `room` bytes behind the Ethernet header.
    fn quote(&mut self, keep: usize, room: usize) -> Result<(), Failed>;
}

/// The kernel helpers that can refuse a packet.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Helper {
    /// `bpf_skb_adjust_room`, or `bpf_skb_change_proto` in its stead.
    AdjustRoom = 1,
    /// `bpf_skb_change_tail`.
    ChangeTail = 2,
    /// `bpf_skb_pull_data`.
    PullData = 3,
    /// `bpf_fib_lookup`.
    FibLookup = 4,
    /// `bpf_xdp_adjust_head`.
    AdjustHead = 5,
    /// `bpf_xdp_adjust_tail`.
    AdjustTail = 6,
    /// `bpf_skb_change_head`.
    ChangeHead = 7,
    /// `bpf_tail_call`.
    TailCall = 8,
    /// `bpf_skb_store_bytes`.
    StoreBytes = 9,
}

impl Helper {
    /// Name of the helper with the given number, as in `bpf-helpers(7)`.
    #[must_use]
    pub const fn name(number: u8) -> &'static str {
        match number {
            1 => "bpf_skb_adjust_room",
            2 => "bpf_skb_change_tail",
            3 => "bpf_skb_pull_data",
            4 => "bpf_fib_lookup",
            5 => "bpf_xdp_adjust_head",
            6 => "bpf_xdp_adjust_tail",
            7 => "bpf_skb_change_head",
            8 => "bpf_tail_call",
            9 => "bpf_skb_store_bytes",
            _ => "unknown",
        }
    }
}

/// A helper refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Which.
    pub helper: Helper,
    /// What it answered: a negative errno, or for `bpf_fib_lookup` a positive `BPF_FIB_LKUP_RET_*`.
    pub code: i32,
}

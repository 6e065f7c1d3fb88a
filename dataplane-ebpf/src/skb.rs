//! A TC context as the packet that the decisions work on.

use core::mem::{MaybeUninit, offset_of};

#[cfg(feature = "trace")]
use aya_ebpf::EbpfContext;
use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_CSUM_LEVEL_DEC, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
        BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET,
        BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
        bpf_hdr_start_off::BPF_HDR_START_MAC,
    },
    bpf_f_adj_room_encap_l2,
    helpers::{
        bpf_csum_level, bpf_csum_update, bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_head,
        bpf_skb_change_proto, bpf_skb_change_tail, bpf_skb_load_bytes_relative, bpf_skb_pull_data,
        bpf_skb_store_bytes,
    },
    programs::{TcContext, sk_buff::SkBuff},
};
use common::{
    checksum,
    counters::{Hook, Reason},
    handover::Handover,
    linear,
    node::feature,
    packet::{Failed, Helper, Packet},
    stage::Side,
    tables::Dataplane as _,
    verdict::Action,
    wire::{ETH_LEN, Wire, ether_type},
};

use crate::{
    action,
    maps::TAIL_CALLS,
    on_hook::{Context, Kind, OnHook},
    pointer::{check, field},
    stack::zero,
    stage,
};

/// What `bpf_skb_adjust_room` answers for a packet that is to go into a tunnel twice: `EALREADY` of asm-generic/errno.h.
const IN_A_TUNNEL: i64 = -114;
/// What it answers to a flag that is newer than the kernel: `EINVAL`.
const UNKNOWN_FLAG: i64 = -22;

/// A TC program.
pub struct Tc;

/// The packet of a TC program.
pub type Skb = OnHook<Tc>;

impl Context for Tc {
    type Raw = __sk_buff;
}

impl Kind for Tc {
    type Done = i32;

    #[inline(always)]
    fn data(raw: *mut __sk_buff) -> usize {
        field::<{ offset_of!(__sk_buff, data) }, _>(raw)
    }

    #[inline(always)]
    fn data_end(raw: *mut __sk_buff) -> usize {
        field::<{ offset_of!(__sk_buff, data_end) }, _>(raw)
    }

    #[inline(always)]
    fn length(_: *mut __sk_buff) -> u32 {
        0
    }

    #[inline(always)]
    fn hook(side: Side) -> Hook {
        match side {
            Side::Pod => Hook::FromPod,
            Side::Host => Hook::FromHost,
            _ => Hook::FromUplink,
        }
    }

    #[inline(always)]
    fn act(packet: &mut Skb, action: Action) -> i32 {
        action::act(packet, action)
    }

    #[inline(always)]
    fn handed(packet: &mut Skb) -> Result<Option<Action>, Failed> {
        // Without it, what generic XDP has written would be taken for fourteen bytes further on.
        packet.restore_ethernet()?;
        let meta = field::<{ offset_of!(__sk_buff, data_meta) }, _>(packet.raw());
        let Some(handover) = packet.before::<Handover>(meta) else { return Ok(None) };
        // SAFETY: `locate` has checked the bounds, and the type is valid for any bytes.
        let Some(action) = unsafe { handover.as_ref() }.action() else { return Ok(None) };
        // SAFETY: a helper on the program's own context. Refused where the device verified none.
        unsafe { bpf_csum_level(packet.raw(), u64::from(BPF_CSUM_LEVEL_DEC)) };
        Ok(Some(action))
    }

    #[cfg(feature = "trace")]
    #[inline(always)]
    fn logged(raw: *mut __sk_buff) -> impl EbpfContext {
        TcContext::new(raw)
    }
}

impl Skb {
    /// The packet of that context, at that hook. `None`, counted as a drop, if its headers can't be had in one piece.
    #[inline(always)]
    pub fn of(raw: SkBuff, hook: Hook) -> Option<Self> {
        let mut skb = Self::unprepared(raw, hook);
        match skb.prepare() {
            Ok(()) => Some(skb),
            Err(failure) => {
                skb.failed(failure);
                skb.count(Reason::HelperFailed, skb.received());
                None
            }
        }
    }

    /// The packet of that context, at that hook, whatever it is like.
    #[inline(always)]
    pub fn unprepared(SkBuff { skb: raw }: SkBuff, hook: Hook) -> Self {
        let mut skb = Self::new(raw, hook);
        skb.received = skb.context().len;
        skb
    }

    /// Sees to it that the packet is as the decisions take it.
    #[inline(always)]
    fn prepare(&mut self) -> Result<(), Failed> {
        let arrives = self.hook() == Hook::FromUplink;
        // `from_xdp` has done so. Without this, Linux 6.1's verifier walks three times as many instructions of `from_uplink`, 324,000, and
        // finds 512 bytes of stack in use instead of 480.
        if arrives && self.node().has(feature::XDP) {
            self.restore_ethernet()?;
        }
        self.linearize(linear::needed(self, arrives))
    }

    /// Gives a packet its Ethernet header back that generic XDP has taken: the kernel copies a packet for it and forgets how long that
    /// header is (`skb->mac_len`; seen on Linux 6.18), so TC is shown the packet from its IP header on.
    #[inline(always)]
    fn restore_ethernet(&mut self) -> Result<(), Failed> {
        let mut header = MaybeUninit::<[u64; 2]>::uninit();
        // SAFETY: integers; helpers on the program's own context, with a buffer longer than what is asked for. It is refused for a packet without
        // such a header, which is none of ours.
        let header = unsafe {
            let header = zero(&mut header);
            let place = header.as_mut_ptr().cast();
            if bpf_skb_load_bytes_relative(self.raw().cast(), 0, place, ETH_LEN as u32, BPF_HDR_START_MAC)
                != 0
            {
                return Ok(());
            }
            *header
        };
        if self.starts_with(header) {
            return Ok(());
        }
        // SAFETY: a helper on the program's own context; packet pointers are taken anew after it.
        check(Helper::ChangeHead, unsafe { bpf_skb_change_head(self.raw(), ETH_LEN as u32, 0) })?;
        // Not by a pointer: `from_xdp` has to be a program that writes no packet by itself.
        // SAFETY: a helper on the program's own context; packet pointers are taken anew after it. The buffer is longer than what is taken.
        let stored =
            unsafe { bpf_skb_store_bytes(self.raw(), 0, (&raw const header).cast(), ETH_LEN as u32, 0) };
        check(Helper::StoreBytes, stored)?;
        self.received = self.context().len;
        Ok(())
    }

    /// Leaves the packet to the program behind this one.
    #[inline(always)]
    pub fn go_on(&mut self) -> i32 {
        // SAFETY: nothing is left to be done here.
        unsafe { TAIL_CALLS.tail_call(&TcContext::new(self.raw()), 0) };
        // The loader has put nothing there: not a state that it leaves behind.
        self.failed(Failed { helper: Helper::TailCall, code: 0 });
        self.count(Reason::HelperFailed, self.received());
        TC_ACT_SHOT
    }

    /// Whether the packet starts with this Ethernet header; behind it are two zeroes.
    #[inline(always)]
    fn starts_with(&self, header: [u64; 2]) -> bool {
        // By one test of the bounds: of several, LLVM reads what it has tested on one way only.
        let Some(found) = self.at::<[u8; ETH_LEN]>(0) else { return false };
        let half = |at: usize| u16::from_le_bytes([found[at], found[at + 1]]);
        let word = |at: usize| u64::from(half(at)) | u64::from(half(at + 2)) << 16;
        [word(0) | word(4) << 32, word(8) | u64::from(half(12)) << 32] == header.map(u64::to_le)
    }

    /// Encapsulates what the kernel takes for a tunnel's packet still: `decapsulate` can't make it forget one on this very kernel (an
    /// underlay of veths), or one that a device has looked into. It needs the room, and `skb->protocol`, which is the Ethernet type that a
    /// neighbour gets that has to be asked after once more (`neigh_resolve_output` in net/core/neighbour.c). Growing sets that for
    /// new tunnels only, shrinking always does.
    #[inline(never)]
    fn encapsulate_again(&mut self, room: usize, v6: bool) -> i64 {
        /// More room than is needed, to shrink by.
        const SPARE: usize = 4;
        if self.is_of(v6) {
            return self.adjust_room(room as i32, 0);
        }
        let made = self.adjust_room((room + SPARE) as i32, 0);
        if made != 0 {
            return made;
        }
        match self.adjust_room(-(SPARE as i32), decap_flag(v6)) {
            // The other way would have a GSO packet's segments be of another family than its pods.
            UNKNOWN_FLAG if self.gso_size() == 0 => self.resize(-(SPARE as i32), v6),
            UNKNOWN_FLAG => self.adjust_room(-(SPARE as i32), 0),
            made => made,
        }
    }

    /// Whether that is the family which `skb->protocol` says.
    #[inline(always)]
    fn is_of(&self, v6: bool) -> bool {
        let family = if v6 { ether_type::IPV6 } else { ether_type::IPV4 };
        self.context().protocol == u32::from(u16::from_ne_bytes(family))
    }

    /// Moves what follows the Ethernet header: back by `difference` bytes, or on if it is negative. Returns what the kernel answers, as a
    /// number: of results that come together here LLVM keeps the error of none, which is nothing that the verifier takes.
    #[inline(always)]
    fn adjust_room(&mut self, difference: i32, flags: u64) -> i64 {
        // FIXED_GSO: segments keep their size. NO_CSUM_RESET: nothing that a checksum covers changes.
        let flags = flags | u64::from(BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET);
        // SAFETY: a helper on the program's own context; packet pointers are taken anew after it.
        unsafe { bpf_skb_adjust_room(self.raw(), difference, BPF_ADJ_ROOM_MAC, flags) }
    }

    /// As `adjust_room`, of a packet that becomes one of the other family, by a kernel older than 6.3: `bpf_skb_change_proto` sets
    /// `skb->protocol`, and has the packet grow or shrink by what one family's header is longer than the other's.
    #[inline(always)]
    fn resize(&mut self, difference: i32, v6: bool) -> i64 {
        /// Length of an IPv6 header less that of an IPv4 header.
        const LONGER: i32 = 20;
        // The longer one first, so that no byte is lost that is to stay.
        let made = if v6 { self.change_family(v6) } else { self.adjust_room(difference + LONGER, 0) };
        match (made, v6) {
            (0, true) => self.adjust_room(difference - LONGER, 0),
            (0, false) => self.change_family(v6),
            (made, _) => made,
        }
    }

    #[inline(always)]
    fn change_family(&mut self, v6: bool) -> i64 {
        let family = if v6 { ether_type::IPV6 } else { ether_type::IPV4 };
        // SAFETY: a helper on the program's own context; packet pointers are taken anew after it.
        unsafe { bpf_skb_change_proto(self.raw(), u16::from_ne_bytes(family), 0) }
    }

    /// Sees to it that the headers lie in one piece. They nearly always do; a packet from a raw socket or from a driver
    /// that splits headers may not.
    #[inline(always)]
    fn linearize(&self, wanted: usize) -> Result<(), Failed> {
        if self.has(wanted) {
            return Ok(());
        }
        // SAFETY: a helper on the program's own context; packet pointers are taken anew after it.
        check(Helper::PullData, unsafe { bpf_skb_pull_data(self.raw(), wanted as u32) })
    }
}

/// What `bpf_skb_adjust_room` is told to set `skb->protocol` to that family: one more than 6.2 knows.
#[inline(always)]
const fn decap_flag(v6: bool) -> u64 {
    (if v6 { BPF_F_ADJ_ROOM_DECAP_L3_IPV6 } else { BPF_F_ADJ_ROOM_DECAP_L3_IPV4 }) as u64
}

impl Packet for Skb {
    #[inline(always)]
    fn len(&self) -> usize {
        self.context().len as usize
    }

    #[inline(always)]
    fn at<T: Wire>(&self, offset: usize) -> Option<&T> {
        // SAFETY: `locate` has checked the bounds; `Wire` types have alignment 1 and are valid for any bytes. Whatever
        // moves the packet takes `&mut self`.
        self.locate::<T>(offset).map(|start| unsafe { start.as_ref() })
    }

    #[inline(always)]
    fn at_mut<T: Wire>(&mut self, offset: usize) -> Option<&mut T> {
        // SAFETY: as above, and the borrow is exclusive.
        self.locate::<T>(offset).map(|mut start| unsafe { start.as_mut() })
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.context().ifindex
    }

    #[inline(always)]
    fn has_vlan(&self) -> bool {
        /// The number of the VLAN in a tag (IEEE 802.1Q). Zero is none: such a tag says nothing but a priority.
        const NUMBER: u32 = 0xfff;
        // The kernel has moved the tag beside the packet before TC sees it (`skb_vlan_untag` in net/core/dev.c), and takes it off what is
        // received with no number in it (`__netif_receive_skb_core` there).
        let context = self.context();
        context.vlan_present != 0 && context.vlan_tci & NUMBER != 0
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        self.context().gso_size
    }

    #[inline(always)]
    fn word_changed(&mut self, old: [u8; 2], new: [u8; 2]) {
        let difference = (checksum::word(old) ^ 0xffff) + checksum::word(new);
        // SAFETY: a helper on the program's own context. It refuses where the device has summed nothing up
        // (not CHECKSUM_COMPLETE), which is no failure.
        unsafe { bpf_csum_update(self.raw(), difference) };
    }

    #[inline(always)]
    fn upper_changed(&mut self, at: usize, addresses: u32, ports: u32, optional: bool) {
        let flags = if optional { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        // Apart, as only the kernel knows what the field holds: of a packet whose checksum is still to be computed (CHECKSUM_PARTIAL)
        // it is the sum of the addresses, and knows no ports.
        // SAFETY: helpers on the program's own context; packet pointers are taken anew after them. They refuse where there is
        // no such field, which the caller has seen.
        unsafe {
            if addresses != 0 {
                bpf_l4_csum_replace(
                    self.raw(),
                    at as u32,
                    0,
                    u64::from(addresses),
                    flags | u64::from(BPF_F_PSEUDO_HDR),
                );
            }
            if ports != 0 {
                bpf_l4_csum_replace(self.raw(), at as u32, 0, u64::from(ports), flags);
            }
        }
    }

    #[inline(always)]
    fn addresses_changed(&mut self, difference: u32) {
        // SAFETY: a helper on the program's own context. It refuses where the device has summed nothing up.
        unsafe { bpf_csum_update(self.raw(), difference) };
    }

    #[inline(always)]
    fn encapsulate(&mut self, room: usize, v6: bool) -> Result<(), Failed> {
        let l3 = if v6 { BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 } else { BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 };
        let ethernet = bpf_f_adj_room_encap_l2(ETH_LEN as u64);
        let flags = l3 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
        let made = self.adjust_room(room as i32, u64::from(flags) | ethernet);
        if made != IN_A_TUNNEL {
            return check(Helper::AdjustRoom, made);
        }
        check(Helper::AdjustRoom, self.encapsulate_again(room, v6))
    }

    #[inline(always)]
    fn decapsulate(&mut self, room: usize, v6: bool) -> Result<(), Failed> {
        // The family of what is left, from which the kernel sets `skb->protocol`: since 6.3, so only where it would not stay as it is.
        let flag = if self.is_of(v6) { 0 } else { decap_flag(v6) };
        let made = match self.adjust_room(-(room as i32), flag) {
            UNKNOWN_FLAG if flag != 0 => self.resize(-(room as i32), v6),
            made => made,
        };
        check(Helper::AdjustRoom, made)?;
        // One checksum fewer that a device may have verified: if it looked at the outer one only, the inner is still to be checked
        // by the pod. Refused where the device verified none.
        // SAFETY: a helper on the program's own context.
        unsafe { bpf_csum_level(self.raw(), u64::from(BPF_CSUM_LEVEL_DEC)) };
        Ok(())
    }

    #[inline(always)]
    fn claim(&mut self) -> bool {
        true
    }

    #[inline(always)]
    fn sum_tail(&self, offset: usize) -> u32 {
        stage::tc_sum_tail(self.raw(), offset as u32)
    }

    #[inline(always)]
    fn walk_extensions(&self, payload: usize, protocol: u8) -> u64 {
        stage::tc_walk_extensions(self.raw(), payload as u32, u32::from(protocol))
    }

    #[inline(always)]
    fn quote(&mut self, keep: usize, room: usize) -> Result<(), Failed> {
        // SAFETY: helpers on the program's own context; packet pointers are taken anew after them.
        unsafe {
            // Cut only what is longer: the kernel refuses for a packet that has been through a tunnel on this very kernel. It
            // makes a packet linear and drops GSO, too.
            if keep < self.len() {
                check(Helper::ChangeTail, bpf_skb_change_tail(self.raw(), keep as u32, 0))?;
            } else {
                self.linearize(self.len())?;
            }
            if room == 0 {
                return Ok(());
            }
            check(Helper::AdjustRoom, bpf_skb_adjust_room(self.raw(), room as i32, BPF_ADJ_ROOM_MAC, 0))
        }
    }
}

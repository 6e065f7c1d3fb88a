//! Carries out an action: the return value of a TC program, and the redirect that goes with it.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh},
    helpers::{bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_type},
};
use common::verdict::Action;

use crate::{maps::node, skb::Skb, stack::zero};

/// Address families as the kernel numbers them.
pub const AF_INET: u8 = 2;
/// See [`AF_INET`].
pub const AF_INET6: u8 = 10;

/// `PACKET_HOST` of `linux/if_packet.h`: addressed to the device that received it.
const PACKET_HOST: u32 = 0;

/// Interface index of the loopback device, in every network namespace.
const LOOPBACK: u32 = 1;

/// Carries out an action; the answer is the program's return value.
#[inline(always)]
pub fn act(skb: &Skb, action: Action) -> i32 {
    match action {
        // Not `TC_ACT_OK`: the next program on the hook, whoever's it is, gets its turn.
        Action::Continue => TC_ACT_UNSPEC,
        Action::Drop => TC_ACT_SHOT,
        Action::Pod { ifindex } => pod(skb, ifindex),
        // SAFETY: takes no pointers.
        Action::Host => verdict(unsafe { bpf_redirect(node().gateway_ifindex, u64::from(BPF_F_INGRESS)) }),
        // SAFETY: takes no pointers.
        Action::Loopback => verdict(unsafe { bpf_redirect(LOOPBACK, u64::from(BPF_F_INGRESS)) }),
        // SAFETY: takes no pointers.
        Action::Device { ifindex } => verdict(unsafe { bpf_redirect(ifindex, 0) }),
        // SAFETY: takes no parameters.
        Action::Route { ifindex } => verdict(unsafe { bpf_redirect_neigh(ifindex, ptr::null_mut(), 0, 0) }),
        Action::Neighbour { ifindex, address, v6 } => neighbour(ifindex, address, v6),
    }
}

/// Straight into the pod's own end of the veth, with no queue on the way. Only at ingress: the kernel drops such a packet
/// at egress (`skb_do_redirect` in net/core/filter.c).
#[inline(always)]
fn pod(skb: &Skb, ifindex: u32) -> i32 {
    if skb.context().pkt_type != PACKET_HOST {
        // The pod's stack judges by what the first device saw: an ARP request was a broadcast.
        // SAFETY: a helper on the program's own context.
        unsafe { bpf_skb_change_type(skb.raw(), PACKET_HOST) };
    }
    // SAFETY: takes no pointers.
    verdict(unsafe { bpf_redirect_peer(ifindex, 0) })
}

/// Lets the kernel resolve the neighbour; the packet waits in its queue meanwhile.
#[inline(always)]
fn neighbour(ifindex: u32, address: [u32; 4], v6: bool) -> i32 {
    let mut hop = MaybeUninit::<bpf_redir_neigh>::uninit();
    // SAFETY: a struct of integers.
    let hop = unsafe { zero(&mut hop) };
    hop.nh_family = u32::from(if v6 { AF_INET6 } else { AF_INET });
    // SAFETY: integers in every member of the union.
    let place = unsafe { &mut hop.__bindgen_anon_1.ipv6_nh };
    for (word, place) in address.into_iter().zip(place) {
        // SAFETY: a reference. Volatile, or LLVM would join the words to wider ones, which don't lie aligned on the stack here.
        unsafe { ptr::from_mut(place).write_volatile(word) };
    }
    // SAFETY: the struct is of the size that is said.
    verdict(unsafe {
        bpf_redirect_neigh(ifindex, ptr::from_mut(hop), size_of::<bpf_redir_neigh>() as i32, 0)
    })
}

/// A redirect helper's answer is the program's return value.
#[inline(always)]
const fn verdict(answer: i64) -> i32 {
    // TC_ACT_REDIRECT or TC_ACT_SHOT.
    answer as i32
}

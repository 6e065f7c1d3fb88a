//! The BPF programs of a Podlane node, one per hook.
//!
//! Glue only: a program lays the packet seam of [`common`] over its context, calls the hook's decision and carries out
//! the action. What is decided, and why, stands in `common::hooks`.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "helpers take and give numbers wider or narrower than what they mean"
)]

mod action;
mod atomic;
mod lpm;
mod maps;
mod on_hook;
mod opaque;
mod pointer;
mod skb;
mod sock;
mod stack;
mod stage;
mod tables;
#[cfg(feature = "trace")]
mod trace;
mod xdp;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action::XDP_PASS},
    macros::{cgroup_sock_addr, classifier, xdp},
    programs::{SockAddrContext, TcContext, XdpContext},
};
use common::{counters::Hook, hooks, sock::Call};

use crate::{skb::Skb, sock::Sock, xdp::Xdp};

/// TC ingress of a pod's host-side veth.
#[classifier]
#[inline(always)]
fn from_pod(context: TcContext) -> i32 {
    let Some(mut skb) = Skb::of(context.skb, Hook::FromPod) else { return TC_ACT_SHOT };
    hooks::from_pod(&mut skb)
}

/// TC egress of a pod's host-side veth.
#[classifier]
#[inline(always)]
fn to_pod(context: TcContext) -> i32 {
    let Some(mut skb) = Skb::of(context.skb, Hook::ToPod) else { return TC_ACT_SHOT };
    hooks::to_pod(&mut skb)
}

/// TC ingress of an uplink.
#[classifier]
#[inline(always)]
fn from_uplink(context: TcContext) -> i32 {
    let Some(mut skb) = Skb::of(context.skb, Hook::FromUplink) else { return TC_ACT_SHOT };
    hooks::from_uplink(&mut skb)
}

/// TC ingress of an uplink with XDP, in front of `from_uplink`.
///
/// A program of its own, which writes no packet by itself: where somebody looks at an uplink's packets, the kernel shares them, makes
/// a copy for a program that writes (`bpf_unclone_prologue` in net/core/filter.c) before its first instruction, and forgets
/// what XDP has written before the packet (`pskb_expand_head`).
#[classifier]
#[inline(always)]
fn from_xdp(context: TcContext) -> i32 {
    let mut skb = Skb::unprepared(context.skb, Hook::FromUplink);
    hooks::from_xdp(&mut skb).unwrap_or_else(|| skb.go_on())
}

/// TC egress of the gateway device.
#[classifier]
#[inline(always)]
fn from_host(context: TcContext) -> i32 {
    let Some(mut skb) = Skb::of(context.skb, Hook::FromHost) else { return TC_ACT_SHOT };
    hooks::from_host(&mut skb)
}

/// XDP of an uplink.
#[xdp(frags)]
#[inline(always)]
fn uplink_xdp(context: XdpContext) -> u32 {
    let Some(mut xdp) = Xdp::of(context, Hook::UplinkXdp) else { return XDP_PASS };
    hooks::uplink_xdp(&mut xdp)
}

/// `connect` to an IPv4 address.
#[cgroup_sock_addr(connect4)]
fn sock_connect4(context: SockAddrContext) -> i32 {
    Sock::of(context).resolve4(Call::Connect)
}

/// `connect` of an IPv6 socket, to an IPv6 address or to an IPv4 one that is mapped into it.
#[cgroup_sock_addr(connect6)]
fn sock_connect6(context: SockAddrContext) -> i32 {
    Sock::of(context).resolve6(Call::Connect)
}

/// A datagram sent to an IPv4 address, by `sendto` or `sendmsg`; a mapped one among them.
#[cgroup_sock_addr(sendmsg4)]
fn sock_sendmsg4(context: SockAddrContext) -> i32 {
    Sock::of(context).resolve4(Call::Send)
}

/// A datagram sent to an IPv6 address.
#[cgroup_sock_addr(sendmsg6)]
fn sock_sendmsg6(context: SockAddrContext) -> i32 {
    Sock::of(context).resolve6(Call::Send)
}

/// Whom a datagram is from, as an IPv4 socket is told.
#[cgroup_sock_addr(recvmsg4)]
fn sock_recvmsg4(context: SockAddrContext) -> i32 {
    Sock::of(context).tell4()
}

/// As `sock_recvmsg4`, an IPv6 socket.
#[cgroup_sock_addr(recvmsg6)]
fn sock_recvmsg6(context: SockAddrContext) -> i32 {
    Sock::of(context).tell6()
}

/// Whom an IPv4 socket is connected to.
#[cgroup_sock_addr(getpeername4)]
fn sock_getpeername4(context: SockAddrContext) -> i32 {
    Sock::of(context).tell4()
}

/// Whom an IPv6 socket is connected to.
#[cgroup_sock_addr(getpeername6)]
fn sock_getpeername6(context: SockAddrContext) -> i32 {
    Sock::of(context).tell6()
}

/// Several helpers are for GPL-compatible programs only (`bpf_redirect_peer`'s packet access among them).
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";

/// An endless loop, which the verifier refuses: a program that could panic does not load.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The programs run in the kernel; on the host they are only compiled, for the lints.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

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
mod lpm;
mod maps;
mod on_hook;
mod opaque;
mod pointer;
mod skb;
mod stack;
mod stage;
mod tables;
#[cfg(feature = "trace")]
mod trace;
mod xdp;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action::XDP_PASS},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use common::{counters::Hook, hooks};

use crate::{skb::Skb, xdp::Xdp};

/// TC ingress of a pod's host-side veth.
#[classifier]
fn from_pod(context: TcContext) -> i32 {
    let Some(mut skb) = Skb::of(context.skb, Hook::FromPod) else { return TC_ACT_SHOT };
    hooks::from_pod(&mut skb)
}

/// TC egress of a pod's host-side veth.
#[classifier]
fn to_pod(context: TcContext) -> i32 {
    let Some(mut skb) = Skb::of(context.skb, Hook::ToPod) else { return TC_ACT_SHOT };
    hooks::to_pod(&mut skb)
}

/// TC ingress of an uplink.
#[classifier]
fn from_uplink(context: TcContext) -> i32 {
    let Some(mut skb) = Skb::of(context.skb, Hook::FromUplink) else { return TC_ACT_SHOT };
    hooks::from_uplink(&mut skb)
}

/// TC egress of the gateway device.
#[classifier]
fn from_host(context: TcContext) -> i32 {
    let Some(mut skb) = Skb::of(context.skb, Hook::FromHost) else { return TC_ACT_SHOT };
    hooks::from_host(&mut skb)
}

/// XDP of an uplink.
#[xdp(frags)]
fn uplink_xdp(context: XdpContext) -> u32 {
    let Some(mut xdp) = Xdp::of(context, Hook::UplinkXdp) else { return XDP_PASS };
    hooks::uplink_xdp(&mut xdp)
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

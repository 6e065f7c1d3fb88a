//! Every packet's verdict, logged: only in the trace build.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use aya_log_ebpf::info;

/// Logs one packet: hook and reason by their numbers in `common::counters`, for a string costs a branch per letter.
///
/// A function of its own: a log call takes a large part of the stack.
#[inline(never)]
pub fn verdict(skb: *mut __sk_buff, hook: u32, reason: u32, bytes: u32) {
    let context = TcContext::new(skb);
    // SAFETY: the program's own context.
    let ifindex = unsafe { (*skb).ifindex };
    info!(&context, "hook {} ifindex {} reason {} bytes {}", hook, ifindex, reason, bytes);
}

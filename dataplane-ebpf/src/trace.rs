//! Every packet's verdict, logged: only in the trace build.

use aya_log_ebpf::info;

use crate::on_hook::Kind;

/// Logs one packet: hook and reason by their numbers in `common::counters`, for a string costs a branch per letter.
///
/// A function of its own: a log call takes a large part of the stack.
#[inline(never)]
pub fn verdict<K: Kind>(raw: *mut K::Raw, ifindex: u32, hook: u32, reason: u32, bytes: u32) {
    let context = K::logged(raw);
    info!(&context, "hook {} ifindex {} reason {} bytes {}", hook, ifindex, reason, bytes);
}

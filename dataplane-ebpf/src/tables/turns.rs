//! Loops that the kernel runs.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::bpf_loop;

use crate::{opaque::opaque, skb::Skb};

/// What a turn is given.
struct Turn<'a, F> {
    skb: &'a mut Skb,
    turn: &'a mut F,
}

/// Takes turns, `times` at most, until one says that it is the last.
///
/// By `bpf_loop`: the verifier walks through one turn, where it would walk through every turn of a loop.
#[inline(always)]
pub fn repeat<F: FnMut(&mut Skb, u32) -> bool>(skb: &mut Skb, times: u32, turn: &mut F) {
    let mut turn = Turn { skb, turn };
    // SAFETY: the callback is of the type that the helper asks for, and is called with what it is given here, now.
    unsafe { bpf_loop(times, take::<F> as *mut c_void, ptr::from_mut(&mut turn).cast(), 0) };
}

/// One turn; 1 ends the loop.
unsafe extern "C" fn take<F: FnMut(&mut Skb, u32) -> bool>(index: u64, turn: *mut c_void) -> i64 {
    // SAFETY: what `repeat` gives to the helper.
    let Turn { skb, turn } = unsafe { &mut *turn.cast::<Turn<'_, F>>() };
    // The verifier wants to see that it is 0 or 1.
    (opaque(usize::from(turn(skb, index as u32))) & 1) as i64
}

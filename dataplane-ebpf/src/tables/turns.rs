//! Loops that the kernel runs.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::bpf_loop;

use crate::{
    on_hook::{Kind, OnHook},
    opaque::opaque,
};

/// What a turn is given.
struct Turn<'a, K: Kind, F> {
    packet: &'a mut OnHook<K>,
    turn: &'a mut F,
}

/// Takes turns, `times` at most, until one says that it is the last.
///
/// By `bpf_loop`: the verifier walks through one turn, where it would walk through every turn of a loop.
#[inline(always)]
pub fn repeat<K, F>(packet: &mut OnHook<K>, times: u32, turn: &mut F)
where
    K: Kind,
    F: FnMut(&mut OnHook<K>, u32) -> bool,
{
    let mut turn = Turn { packet, turn };
    // SAFETY: the callback is of the type that the helper asks for, and is called with what it is given here, now.
    unsafe { bpf_loop(times, take::<K, F> as *mut c_void, ptr::from_mut(&mut turn).cast(), 0) };
}

/// One turn; 1 ends the loop.
unsafe extern "C" fn take<K, F>(index: u64, turn: *mut c_void) -> i64
where
    K: Kind,
    F: FnMut(&mut OnHook<K>, u32) -> bool,
{
    // SAFETY: what `repeat` gives to the helper.
    let Turn { packet, turn } = unsafe { &mut *turn.cast::<Turn<'_, K, F>>() };
    // The verifier wants to see that it is 0 or 1.
    (opaque(usize::from(turn(packet, index as u32))) & 1) as i64
}

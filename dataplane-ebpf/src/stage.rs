//! Translation as functions that the verifier takes on their own ("global" functions, `Documentation/bpf/verifier.rst`).
//!
//! It walks through them once, knowing nothing of their callers but the types of what they are given: a context, numbers, and
//! memory. A function that is not exported it would walk through for every call in every state.

use core::ptr;

use aya_ebpf::bindings::__sk_buff;
use common::{
    family::{Ip, V4, V6},
    nat::{self, Side, Stage, Step},
};

use crate::skb::Skb;

/// Exports the stage for one family, and calls it.
macro_rules! stage {
    ($family:ty, $translate:ident, $masquerade:ident, $inbound:ident, $undo:ident) => {
        impl Stage<$family> for Skb {
            #[inline(always)]
            fn translate(&mut self, ip: &mut Ip<$family>, side: Side) -> Step {
                Step::of($translate(self.raw(), ptr::from_mut(ip), side as u32))
            }

            #[inline(always)]
            fn masquerade(&mut self, ip: &mut Ip<$family>) -> Step {
                Step::of($masquerade(self.raw(), ptr::from_mut(ip)))
            }

            #[inline(always)]
            fn inbound(&mut self, ip: &mut Ip<$family>) -> Step {
                Step::of($inbound(self.raw(), ptr::from_mut(ip)))
            }

            #[inline(always)]
            fn undo(&mut self, ip: &mut Ip<$family>) {
                $undo(self.raw(), ptr::from_mut(ip));
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $translate(skb: *mut __sk_buff, ip: *mut Ip<$family>, side: u32) -> u32 {
            on(skb, ip, |skb, ip| nat::translate(skb, ip, Side::of(side)))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $masquerade(skb: *mut __sk_buff, ip: *mut Ip<$family>) -> u32 {
            on(skb, ip, |skb, ip| nat::masquerade(skb, ip))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $inbound(skb: *mut __sk_buff, ip: *mut Ip<$family>) -> u32 {
            on(skb, ip, |skb, ip| nat::inbound(skb, ip))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $undo(skb: *mut __sk_buff, ip: *mut Ip<$family>) -> u32 {
            on(skb, ip, |skb, ip| {
                nat::undo(skb, ip);
                Step::Untouched
            })
        }
    };
}

stage!(V4, translate4, masquerade4, inbound4, undo4);
stage!(V6, translate6, masquerade6, inbound6, undo6);

/// What a stage does with a packet, as a number.
#[inline(always)]
fn on<T>(skb: *mut __sk_buff, ip: *mut T, stage: impl FnOnce(&mut Skb, &mut T) -> Step) -> u32 {
    // SAFETY: given by the functions above, from a reference; the verifier has to see that it is not null.
    let Some(ip) = (unsafe { ip.as_mut() }) else { return Step::Untouched as u32 };
    stage(&mut Skb::again(skb), ip) as u32
}

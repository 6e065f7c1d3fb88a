//! Translation, and other long ways, as functions that the verifier takes on their own ("global" functions, `Documentation/bpf/verifier.rst`).
//!
//! It walks through them once, knowing nothing of their callers but the types of what they are given: a context, numbers, and
//! memory. A function that is not exported it would walk through for every call in every state.

use core::ptr;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use common::{
    checksum,
    family::{Family, Ip, V4, V6, walk_extensions},
    flow_cache, nat,
    stage::{Side, Stage, Step, Taken},
    tables::{Connections, Dataplane, Tables},
};

use crate::{
    on_hook::{Kind, OnHook},
    opaque::opaque,
    skb::{Skb, Tc},
    xdp::{Driver, Xdp},
};

/// Exports a part of the stage for one family and kind of program.
macro_rules! export {
    ($name:ident, $kind:ty, $raw:ty, $family:ty, |$packet:ident, $ip:ident $(, $number:ident)?| $step:expr) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(raw: *mut $raw, ip: *mut Ip<$family> $(, $number: u32)?) -> u32 {
            on::<$kind, _>(raw, ip, |$packet, $ip| $step)
        }
    };
}

/// Exports what is remembered of flows, for one family and kind of program.
macro_rules! cache {
    ($take:ident, $learn:ident, $kind:ty, $raw:ty, $family:ty) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $take(raw: *mut $raw, ip: *mut Ip<$family>, side: u32) -> u64 {
            // SAFETY: as in `on`.
            let Some(ip) = (unsafe { ip.as_mut() }) else { return Taken::NOT.number() };
            let side = Side::of(side);
            flow_cache::take(&mut OnHook::<$kind>::again_from(raw, side), ip, side).number()
        }

        export!($learn, $kind, $raw, $family, |packet, ip, side| learnt(packet, ip, Side::of(side)));
    };
}

/// What the stage does for packets of either kind of program, as calls of what is exported.
macro_rules! called {
    ($family:ty, $take:ident, $learn:ident, $translate:ident, $undo:ident) => {
        #[inline(always)]
        fn translate(&mut self, ip: &mut Ip<$family>, side: Side) -> Step {
            Step::of($translate(self.raw(), ptr::from_mut(ip), side as u32))
        }

        #[inline(always)]
        fn take(&mut self, ip: &mut Ip<$family>, side: Side) -> Taken {
            Taken::of($take(self.raw(), ptr::from_mut(ip), side as u32))
        }

        #[inline(always)]
        fn learn(&mut self, ip: &mut Ip<$family>, side: Side) {
            $learn(self.raw(), ptr::from_mut(ip), side as u32);
        }

        #[inline(always)]
        fn undo(&mut self, ip: &mut Ip<$family>) {
            $undo(self.raw(), ptr::from_mut(ip));
        }
    };
}

/// Implements the stage for one family of TC packets.
macro_rules! tc {
    ($family:ty, $take:ident, $learn:ident, $translate:ident, $masquerade:ident, $inbound:ident, $undo:ident) => {
        impl Stage<$family> for Skb {
            called!($family, $take, $learn, $translate, $undo);

            #[inline(always)]
            fn masquerade(&mut self, ip: &mut Ip<$family>) -> Step {
                Step::of($masquerade(self.raw(), ptr::from_mut(ip)))
            }

            #[inline(always)]
            fn inbound(&mut self, ip: &mut Ip<$family>) -> Step {
                Step::of($inbound(self.raw(), ptr::from_mut(ip)))
            }
        }

        cache!($take, $learn, Tc, __sk_buff, $family);
        export!($translate, Tc, __sk_buff, $family, |skb, ip, side| nat::translate(skb, ip, Side::of(side)));
        export!($masquerade, Tc, __sk_buff, $family, |skb, ip| nat::masquerade(skb, ip));
        export!($inbound, Tc, __sk_buff, $family, |skb, ip| nat::inbound(skb, ip));
        export!($undo, Tc, __sk_buff, $family, |skb, ip| undone(skb, ip));
    };
}

/// Implements the stage for one family of XDP packets. What only leaves the node comes by no XDP hook, and needs no function of
/// its own.
macro_rules! xdp {
    ($family:ty, $take:ident, $learn:ident, $translate:ident, $undo:ident) => {
        impl Stage<$family> for Xdp {
            called!($family, $take, $learn, $translate, $undo);

            #[inline(always)]
            fn masquerade(&mut self, ip: &mut Ip<$family>) -> Step {
                nat::masquerade(self, ip)
            }

            #[inline(always)]
            fn inbound(&mut self, ip: &mut Ip<$family>) -> Step {
                nat::inbound(self, ip)
            }
        }

        cache!($take, $learn, Driver, xdp_md, $family);
        export!($translate, Driver, xdp_md, $family, |xdp, ip, side| nat::translate(xdp, ip, Side::of(side)));
        export!($undo, Driver, xdp_md, $family, |xdp, ip| undone(xdp, ip));
    };
}

tc!(V4, take4, learn4, translate4, masquerade4, inbound4, undo4);
tc!(V6, take6, learn6, translate6, masquerade6, inbound6, undo6);
xdp!(V4, xdp_take4, xdp_learn4, xdp_translate4, xdp_undo4);
xdp!(V6, xdp_take6, xdp_learn6, xdp_translate6, xdp_undo6);

/// Exports what reads of a packet from some place on, for one kind of program.
macro_rules! readers {
    ($sum_tail:ident, $walk_extensions:ident, $kind:ty, $raw:ty) => {
        /// [`checksum::sum_tail`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $sum_tail(raw: *mut $raw, offset: u32) -> u32 {
            checksum::sum_tail(&OnHook::<$kind>::again(raw), place(offset))
        }

        /// [`walk_extensions`].
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $walk_extensions(raw: *mut $raw, payload: u32, protocol: u32) -> u64 {
            walk_extensions(&OnHook::<$kind>::again(raw), place(payload), protocol as u8)
        }
    };
}

readers!(tc_sum_tail, tc_walk_extensions, Tc, __sk_buff);
readers!(xdp_sum_tail, xdp_walk_extensions, Driver, xdp_md);

/// A place in a packet's headers: packet pointers are for the verifier to bound.
#[inline(always)]
fn place(offset: u32) -> usize {
    opaque(offset as usize) & 0x3ff
}

/// What a stage does with a packet, as a number.
#[inline(always)]
fn on<K: Kind, T>(raw: *mut K::Raw, ip: *mut T, stage: impl FnOnce(&mut OnHook<K>, &mut T) -> Step) -> u32 {
    // SAFETY: given by the functions above, from a reference; the verifier has to see that it is not null.
    let Some(ip) = (unsafe { ip.as_mut() }) else { return Step::Untouched as u32 };
    stage(&mut OnHook::again(raw), ip) as u32
}

/// [`nat::undo`], with an answer like the others'.
#[inline(always)]
fn undone<F, D>(packet: &mut D, ip: &mut Ip<F>) -> Step
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    nat::undo(packet, ip);
    Step::Untouched
}

/// [`flow_cache::learn`], with an answer like the others'.
#[inline(always)]
fn learnt<F, D>(packet: &mut D, ip: &Ip<F>, side: Side) -> Step
where
    F: Family,
    D: Dataplane + Connections<F> + Tables<F>,
{
    flow_cache::learn(packet, ip, side);
    Step::Untouched
}

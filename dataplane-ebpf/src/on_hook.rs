//! A packet on a hook, of whatever kind of program; and a socket, which has no packet.

use core::ptr::NonNull;

#[cfg(feature = "trace")]
use aya_ebpf::EbpfContext;
use common::{counters::Hook, packet::Failed, stage::Side, verdict::Action, wire::Wire};

use crate::pointer::locate;

/// What the kernel gives a kind of program.
pub trait Context {
    /// The kernel's context.
    type Raw;
}

/// A kind of program that gets a packet: what the kernel gives it, and what it answers.
pub trait Kind: Context + Sized {
    /// What the program returns.
    type Done: Copy;

    /// Where the packet's first piece starts.
    fn data(raw: *mut Self::Raw) -> usize;

    /// Where it ends.
    fn data_end(raw: *mut Self::Raw) -> usize;

    /// Length of all of it, in bytes; zero where the context says it at any time.
    fn length(raw: *mut Self::Raw) -> u32;

    /// The hook that has a packet from there.
    fn hook(side: Side) -> Hook;

    /// Carries out an action; the answer is the program's return value.
    fn act(packet: &mut OnHook<Self>, action: Action) -> Self::Done;

    /// See [`Dataplane::handed`](common::tables::Dataplane::handed).
    fn handed(packet: &mut OnHook<Self>) -> Result<Option<Action>, Failed>;

    /// The context as log messages want it.
    #[cfg(feature = "trace")]
    fn logged(raw: *mut Self::Raw) -> impl EbpfContext;
}

/// What a program is about: a packet, as a rule.
pub struct OnHook<C: Context> {
    raw: *mut C::Raw,
    /// Length as the program got it.
    pub received: u32,
    /// Length now, where the context does not say it (see [`Kind::length`]).
    pub length: u32,
    hook: Hook,
}

impl<C: Context> OnHook<C> {
    /// What that context is about, at that hook. A packet's length is the caller's to fill in.
    #[inline(always)]
    pub fn new(raw: *mut C::Raw, hook: Hook) -> Self {
        Self { raw, received: 0, length: 0, hook }
    }

    /// The hook that the program is attached to.
    #[inline(always)]
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// The kernel's context, for helpers.
    #[inline(always)]
    pub fn raw(&self) -> *mut C::Raw {
        self.raw
    }

    /// The context's fields.
    #[inline(always)]
    pub fn context(&self) -> &C::Raw {
        // SAFETY: the kernel calls a program with a valid context that outlives it.
        unsafe { &*self.raw }
    }
}

impl<K: Kind> OnHook<K> {
    /// The packet of that context again, in a function that the verifier takes on its own: it knows nothing of its caller's.
    ///
    /// Neither the hook nor the length as received is known there: nothing is counted but by the hooks themselves.
    #[inline(always)]
    pub fn again(raw: *mut K::Raw) -> Self {
        Self::again_from(raw, Side::Pod)
    }

    /// As `again`, of a packet that comes from there: so much of the hook that a helper's refusal is counted as its.
    #[inline(always)]
    pub fn again_from(raw: *mut K::Raw, side: Side) -> Self {
        Self { length: K::length(raw), ..Self::new(raw, K::hook(side)) }
    }

    /// Whether so many bytes from its start lie in one piece.
    #[inline(always)]
    pub fn has(&self, wanted: usize) -> bool {
        K::data(self.raw) + wanted <= K::data_end(self.raw)
    }

    /// Where `T` at `offset` starts, if it ends before the packet's first piece does.
    #[inline(always)]
    pub fn locate<T: Wire>(&self, offset: usize) -> Option<NonNull<T>> {
        locate(K::data(self.raw), K::data_end(self.raw), offset)
    }

    /// What another program has left before the packet, if there is a `T` of it.
    #[inline(always)]
    pub fn before<T: Wire>(&self, meta: usize) -> Option<NonNull<T>> {
        // The verifier takes the packet's start for the metadata's end.
        locate(meta, K::data(self.raw), 0)
    }
}

//! A packet on a hook, of whatever kind of program.

#[cfg(feature = "trace")]
use aya_ebpf::EbpfContext;
use common::{counters::Hook, verdict::Action};

/// A kind of program: what the kernel gives it, and what it answers.
pub trait Kind: Sized {
    /// The kernel's context.
    type Raw;
    /// What the program returns.
    type Done: Copy;

    /// Carries out an action; the answer is the program's return value.
    fn act(packet: &mut OnHook<Self>, action: Action) -> Self::Done;

    /// The context as log messages want it.
    #[cfg(feature = "trace")]
    fn logged(raw: *mut Self::Raw) -> impl EbpfContext;
}

/// The packet of a program.
pub struct OnHook<K: Kind> {
    raw: *mut K::Raw,
    /// Length as the program got it.
    pub received: usize,
    hook: Hook,
}

impl<K: Kind> OnHook<K> {
    /// The packet of that context, at that hook. Its length is the caller's to fill in.
    #[inline(always)]
    pub fn new(raw: *mut K::Raw, hook: Hook) -> Self {
        Self { raw, received: 0, hook }
    }

    /// The packet of that context again, in a function that the verifier takes on its own: it knows nothing of its caller's.
    ///
    /// Neither the hook nor the length as received is known there: nothing is counted but by the hooks themselves.
    #[inline(always)]
    pub fn again(raw: *mut K::Raw) -> Self {
        Self::new(raw, Hook::FromPod)
    }

    /// The hook that the program is attached to.
    #[inline(always)]
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// The kernel's context, for helpers.
    #[inline(always)]
    pub fn raw(&self) -> *mut K::Raw {
        self.raw
    }

    /// The context's fields.
    #[inline(always)]
    pub fn context(&self) -> &K::Raw {
        // SAFETY: the kernel calls a program with a valid context that outlives it.
        unsafe { &*self.raw }
    }
}

//! The maps of services.

use core::ptr;

use aya_ebpf::{btf_maps::Array, helpers::bpf_get_prandom_u32};
use common::{
    interest::Bit,
    maps::{
        Affinity, Backend, Client, FragmentKey, FragmentPorts, Frontend, FrontendKey, Service, SourceRange,
    },
    tables::Services,
};

use super::copied;
use crate::{
    lpm,
    maps::{AFFINITY, BACKENDS, FRAGMENTS, FRONTENDS, INTEREST, MAGLEV, SERVICES, SOURCE_RANGES},
    on_hook::{Context, OnHook},
};

/// `BPF_ANY` of linux/bpf.h: make an element, or replace it.
pub const ANY: u64 = 0;

impl<C: Context> Services for OnHook<C> {
    #[inline(always)]
    fn interesting(&self, bit: Bit) -> bool {
        INTEREST.get(bit.word).is_some_and(|word| shared(word) & bit.mask != 0)
    }

    #[inline(always)]
    fn frontend(&self, key: &FrontendKey) -> Option<Frontend> {
        copied(FRONTENDS.get_ptr(key))
    }

    #[inline(always)]
    fn service(&self, index: u32) -> Option<Service> {
        element(&SERVICES, index).map(bytemuck::cast::<[u64; 4], _>)
    }

    #[inline(always)]
    fn service_generation(&self, index: u32) -> Option<u32> {
        SERVICES.get(index).map(|service| shared(&service.generation))
    }

    #[inline(always)]
    fn choice(&self, index: u32) -> Option<u32> {
        MAGLEV.get(index).map(shared)
    }

    #[inline(always)]
    fn backend(&self, index: u32) -> Option<Backend> {
        element(&BACKENDS, index).map(bytemuck::cast::<[u64; 4], _>)
    }

    #[inline(always)]
    fn health(&self, index: u32) -> Option<(u8, u32)> {
        BACKENDS.get(index).map(|backend| (shared(&backend.state), shared(&backend.generation)))
    }

    #[inline(always)]
    fn in_source_ranges(&self, client: &SourceRange) -> bool {
        lpm::find(&SOURCE_RANGES, *client).is_some()
    }

    #[inline(always)]
    fn affinity(&mut self, client: &Client) -> Option<&mut Affinity> {
        // SAFETY: the element stays for as long as the program runs; other CPUs write whole words of it at most.
        AFFINITY.get_ptr_mut(client).map(|affinity| unsafe { &mut *affinity })
    }

    #[inline(always)]
    fn keep(&mut self, client: &Client, affinity: Affinity) {
        // An LRU map has room; without it the client is given another backend next time.
        let _ = AFFINITY.insert(client, affinity, ANY);
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        copied(FRAGMENTS.get_ptr(key))
    }

    #[inline(always)]
    fn cut(&mut self, key: &FragmentKey, ports: FragmentPorts) {
        // As above: without it the later fragments are dropped, and counted.
        let _ = FRAGMENTS.insert(key, ports, ANY);
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: takes nothing.
        unsafe { bpf_get_prandom_u32() }
    }
}

/// A word that user space may write at any time: loaded once, whole.
#[inline(always)]
pub fn shared<T: Copy>(word: &T) -> T {
    // SAFETY: a reference is valid and aligned.
    unsafe { ptr::from_ref(word).read_volatile() }
}

/// An element of four words, each loaded once, whole.
#[inline(always)]
fn element<T, const N: usize, const FLAGS: usize>(map: &Array<T, N, FLAGS>, index: u32) -> Option<[u64; 4]> {
    const { assert!(size_of::<T>() == 32 && align_of::<T>() == 8) };
    let words = ptr::from_ref(map.get(index)?).cast::<u64>();
    // SAFETY: within the element, which is aligned to eight bytes.
    unsafe {
        Some([
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ])
    }
}

//! The BPF maps and the kernel's routing as the tables that the decisions look up.

mod connections;
mod services;
mod sockets;
mod turns;

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::{
    bindings::{BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup},
    btf_maps::PerCpuArray,
    helpers::{self, bpf_jiffies64, bpf_ktime_get_coarse_ns},
};
use common::{
    counters::{Counter, HookCounters, Reason},
    family::{Family, V4, V6},
    maps::{
        Allowed, Budget, Endpoint, HelperError, Hop, Route, Source, Traffic, Vtep, capacity,
        connection::TICK_SHIFT,
    },
    node::Node,
    packet::{Failed, Helper, Packet},
    stage::Stage,
    tables::{Account, Dataplane, Neighbour, NextHop, Tables, Underlay},
    verdict::Action,
    wire::{Mac, protocol},
};

use crate::{
    action::{AF_INET, AF_INET6},
    atomic::increment,
    lpm,
    maps::{
        COUNTERS, EPOCHS, HELPER_ERRORS, HOPS, ICMP_BUDGET, PEER_TRAFFIC, POD_TRAFFIC, PODS4, PODS6, ROUTES4,
        ROUTES6, SOURCES4, SOURCES6, VTEPS4, VTEPS6, node,
    },
    on_hook::{Kind, OnHook},
    opaque::opaque,
    stack::zero,
};

/// The kernel's routing found the way and the neighbour's MAC.
const FOUND: i32 = BPF_FIB_LKUP_RET_SUCCESS as i32;
/// It found the way, and the neighbour's MAC is not known.
const NO_NEIGHBOUR: i32 = BPF_FIB_LKUP_RET_NO_NEIGH as i32;

/// Implements the look-ups of one family over its maps.
macro_rules! tables {
    ($family:ty, $key:ty, $pods:ident, $routes:ident, $vteps:ident, $sources:ident) => {
        impl<K: Kind> Tables<$family> for OnHook<K> {
            #[inline(always)]
            fn pod(&self, address: &<$family as Family>::Addr) -> Option<Endpoint> {
                copied($pods.get_ptr(bytemuck::cast_ref::<_, $key>(address)))
            }

            #[inline(always)]
            fn route(&self, destination: &<$family as Family>::Addr) -> Option<&'static Route> {
                lpm::find(&$routes, bytemuck::cast::<_, $key>(*destination))
            }

            #[inline(always)]
            fn vtep(&self, address: &<$family as Family>::Addr) -> Option<Vtep> {
                copied($vteps.get_ptr(bytemuck::cast_ref::<_, $key>(address)))
            }

            #[inline(always)]
            fn allowed(&self, ifindex: u32, source: &<$family as Family>::Addr) -> Option<Allowed> {
                let address = bytemuck::cast::<_, $key>(*source);
                let source = Source { ifindex: ifindex.to_be_bytes(), address };
                lpm::find(&$sources, source).copied()
            }

            #[inline(always)]
            fn next_hop(&self, query: &Underlay<$family>) -> Result<NextHop, Failed> {
                look_up(self, query)
            }
        }
    };
}

tables!(V4, [u8; 4], PODS4, ROUTES4, VTEPS4, SOURCES4);
tables!(V6, [u8; 16], PODS6, ROUTES6, VTEPS6, SOURCES6);

/// What a hash map holds, copied out at once: the kernel may give the element to another key at any time.
#[inline(always)]
fn copied<T: Copy>(element: Option<*const T>) -> Option<T> {
    // SAFETY: the kernel returns a valid element or none; it stays readable for as long as the program runs.
    element.map(|element| unsafe { *element })
}

/// Asks the kernel's routing.
#[inline(always)]
fn look_up<F: Family, K: Kind>(packet: &OnHook<K>, query: &Underlay<F>) -> Result<NextHop, Failed> {
    let mut fib = MaybeUninit::<bpf_fib_lookup>::uninit();
    // SAFETY: a struct of integers; zero stands for "not given" in each.
    let fib = unsafe { zero(&mut fib) };
    fib.family = if F::IS_V6 { AF_INET6 } else { AF_INET };
    fib.l4_protocol = protocol::UDP;
    fib.sport = u16::from_ne_bytes(query.source_port);
    fib.dport = u16::from_ne_bytes(query.destination_port);
    // As if the packet had come in by the gateway device, which the loader allows to forward: the kernel answers for no
    // other device (FWD_DISABLED) unless the whole host is a router.
    fib.ifindex = node().gateway_ifindex;
    if !F::IS_V6 {
        // IPv6 has a flow label in its place.
        fib.__bindgen_anon_2.tos = query.tos;
    }
    // SAFETY: each union starts with the address of either family; the context is the program's own, and the struct is of
    // the size that is said.
    let answer = unsafe {
        ptr::from_mut(&mut fib.__bindgen_anon_3).cast::<F::Addr>().write_unaligned(query.source);
        ptr::from_mut(&mut fib.__bindgen_anon_4).cast::<F::Addr>().write_unaligned(query.destination);
        helpers::bpf_fib_lookup(
            packet.raw().cast(),
            ptr::from_mut(fib),
            size_of::<bpf_fib_lookup>() as i32,
            0,
        )
    } as i32;
    let neighbour = match answer {
        FOUND => Neighbour::known(mac(&fib.dmac), mac(&fib.smac)),
        NO_NEIGHBOUR => {
            // The next hop took the destination's place, in its own family: a router's, or the peer itself.
            // SAFETY: integers in every member of the union.
            let address = unsafe { fib.__bindgen_anon_4.ipv6_dst };
            Neighbour::unknown(address, fib.family == AF_INET6)
        }
        answer => return Err(Failed { helper: Helper::FibLookup, code: answer }),
    };
    Ok(NextHop { ifindex: fib.ifindex, neighbour })
}

/// A MAC address out of the answer, which lies on the stack: there the verifier takes aligned accesses only, and so LLVM,
/// which is told that any access will do (a packet's will), must not make wider ones of these.
#[expect(clippy::cast_ptr_alignment, reason = "see above: it is aligned where it lies")]
#[inline(always)]
fn mac(bytes: &[u8; 6]) -> Mac {
    let words = bytes.as_ptr().cast::<u16>();
    // SAFETY: within the array, which lies at an even offset of a struct aligned to 4.
    unsafe {
        Mac::from_words([words.read_volatile(), words.add(1).read_volatile(), words.add(2).read_volatile()])
    }
}

impl<K: Kind> Dataplane for OnHook<K>
where
    Self: Packet + Stage<V4> + Stage<V6>,
{
    type Done = K::Done;

    #[inline(always)]
    fn received(&self) -> usize {
        self.received as usize
    }

    #[inline(always)]
    fn act(&mut self, action: Action) -> K::Done {
        K::act(self, action)
    }

    #[inline(always)]
    fn handed(&mut self) -> Result<Option<Action>, Failed> {
        K::handed(self)
    }

    #[inline(always)]
    fn node(&self) -> &'static Node {
        node()
    }

    #[inline(always)]
    fn count(&mut self, reason: Reason, bytes: usize) {
        #[cfg(feature = "trace")]
        crate::trace::verdict::<K>(
            self.raw(),
            self.ifindex(),
            self.hook() as u32,
            reason as u32,
            bytes as u32,
        );
        let Some(counters) = COUNTERS.get_ptr_mut(self.hook() as u32) else { return };
        let index = opaque(reason as usize);
        if index >= HookCounters::COUNT {
            return;
        }
        // SAFETY: `HookCounters` is an array of counters, which `common::counters` checks, and the index lies within; this
        // CPU's element is this program's alone.
        unsafe {
            let counter = counters.cast::<Counter>().add(index);
            (*counter).packets += 1;
            (*counter).bytes += bytes as u64;
        }
    }

    #[inline(always)]
    fn account(&mut self, account: Account, bytes: usize) {
        match account {
            Account::PodTx(slot) => sent(&POD_TRAFFIC, slot, bytes),
            Account::PodRx(slot) => received(&POD_TRAFFIC, slot, bytes),
            Account::PeerTx(slot) => sent(&PEER_TRAFFIC, slot, bytes),
            Account::PeerRx(slot) => received(&PEER_TRAFFIC, slot, bytes),
        }
    }

    #[inline(never)]
    fn failed(&mut self, failure: Failed) {
        let key = HelperError {
            hook: self.hook() as u8,
            helper: failure.helper as u8,
            reserved: [0; 2],
            code: failure.code,
        };
        if let Some(count) = HELPER_ERRORS.get_ptr_mut(key) {
            // SAFETY: this CPU's element is this program's alone.
            unsafe { *count += 1 };
        } else {
            // A full map loses the count of a failure of a new kind; the packet itself is counted as dropped.
            let _ = HELPER_ERRORS.insert(key, 1, 0);
        }
    }

    #[inline(always)]
    fn hop(&self, index: u32) -> Option<&'static Hop> {
        // SAFETY: this CPU's element is this program's alone, which reads none that it has changed meanwhile.
        HOPS.get_ptr(index).map(|hop| unsafe { &*hop })
    }

    #[inline(always)]
    fn hop_mut(&mut self, index: u32) -> Option<&mut Hop> {
        // SAFETY: this CPU's element is this program's alone.
        HOPS.get_ptr_mut(index).map(|hop| unsafe { &mut *hop })
    }

    #[inline(always)]
    fn epoch(&self, hash: u32) -> u64 {
        EPOCHS.get(hash % capacity::EPOCHS).map_or(0, services::shared)
    }

    #[inline(always)]
    fn advance(&mut self, hash: u32) {
        if let Some(epoch) = EPOCHS.get_ptr_mut(hash % capacity::EPOCHS) {
            // SAFETY: an element of words.
            unsafe { increment(epoch) };
        }
    }

    #[inline(always)]
    fn repeat<F: FnMut(&mut Self, u32) -> bool>(&mut self, times: u32, mut turn: F) {
        turns::repeat(self, times, &mut turn);
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: takes nothing.
        unsafe { bpf_jiffies64() }
    }

    #[inline(always)]
    fn ticks(&self) -> u32 {
        // SAFETY: takes nothing. Half the price of the exact clock, and a tick is a second.
        (unsafe { bpf_ktime_get_coarse_ns() } >> TICK_SHIFT) as u32
    }

    #[inline(always)]
    fn budget(&mut self) -> Option<(&mut Budget, u64)> {
        let budget = ICMP_BUDGET.get_ptr_mut(0)?;
        // SAFETY: this CPU's element is this program's alone; the clock helper takes nothing.
        unsafe { Some((&mut *budget, bpf_ktime_get_coarse_ns())) }
    }
}

#[inline(always)]
fn sent<const N: usize>(traffic: &PerCpuArray<Traffic, N>, slot: u32, bytes: usize) {
    if let Some(traffic) = traffic.get_ptr_mut(slot) {
        // SAFETY: this CPU's element is this program's alone.
        unsafe {
            (*traffic).tx_packets += 1;
            (*traffic).tx_bytes += bytes as u64;
        }
    }
}

#[inline(always)]
fn received<const N: usize>(traffic: &PerCpuArray<Traffic, N>, slot: u32, bytes: usize) {
    if let Some(traffic) = traffic.get_ptr_mut(slot) {
        // SAFETY: this CPU's element is this program's alone.
        unsafe {
            (*traffic).rx_packets += 1;
            (*traffic).rx_bytes += bytes as u64;
        }
    }
}

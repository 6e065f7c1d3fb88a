//! The connection tables, and the kernel's sockets.

use core::{mem::MaybeUninit, ptr, ptr::NonNull};

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_tuple},
    helpers::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp},
};
use common::{
    family::{Family, V4, V6},
    maps::{Connection, FlowSet, Staged, Tuple},
    tables::{Connections, Entry, NotMade},
    wire::protocol,
};

use crate::{
    maps::{CONNTRACK4, CONNTRACK6, FLOWS4, FLOWS6, STAGED4, STAGED6},
    on_hook::{Kind, OnHook},
    stack::zero,
};

/// `BPF_ANY` and `BPF_NOEXIST` of linux/bpf.h.
const ANY: u64 = 0;
const NOEXIST: u64 = 1;

/// `EEXIST` of asm-generic/errno-base.h.
const EEXIST: i32 = 17;

/// `BPF_F_CURRENT_NETNS` of linux/bpf.h: the one that the packet's device is in.
const CURRENT_NETNS: u64 = u64::MAX;

/// Implements the table of one family over its maps.
macro_rules! connections {
    ($family:ty, $key:ty, $table:ident, $staged:ident, $flows:ident, $socket_tuple:ident) => {
        impl<K: Kind> Connections<$family> for OnHook<K> {
            #[inline(always)]
            fn connection(
                &self,
                key: &Tuple<<$family as Family>::Addr>,
            ) -> Option<Entry<<$family as Family>::Addr>> {
                let place = $table.get_ptr_mut(bytemuck::cast_ref::<_, Tuple<$key>>(key))?;
                // SAFETY: the map's value, in words where the map's type has bytes: same size, same alignment. An
                // element that is removed stays as it is for as long as a program runs, or becomes another connection, which a
                // packet then counts for at worst.
                Some(unsafe { Entry::new(NonNull::new_unchecked(place.cast())) })
            }

            #[inline(always)]
            unsafe fn workspace(&mut self) -> Option<&'static mut Staged<<$family as Family>::Addr>> {
                // SAFETY: as above; this CPU's element is this program's alone, and the caller's.
                $staged.get_ptr_mut(0).map(|staged| unsafe { &mut *staged.cast() })
            }

            #[inline(always)]
            unsafe fn flows(
                &mut self,
                index: u32,
            ) -> Option<&'static mut FlowSet<<$family as Family>::Addr>> {
                // SAFETY: as above.
                $flows.get_ptr_mut(index).map(|flows| unsafe { &mut *flows.cast() })
            }

            #[inline(always)]
            fn insert(
                &mut self,
                key: &Tuple<<$family as Family>::Addr>,
                connection: &Connection<<$family as Family>::Addr>,
                replace: bool,
            ) -> Result<(), NotMade> {
                let key = bytemuck::cast_ref::<_, Tuple<$key>>(key);
                let connection = bytemuck::cast_ref::<_, Connection<$key>>(connection);
                match $table.insert(key, connection, if replace { ANY } else { NOEXIST }) {
                    Ok(()) => Ok(()),
                    Err(error) if error == -EEXIST => Err(NotMade::Exists),
                    Err(_) => Err(NotMade::Full),
                }
            }

            #[inline(always)]
            fn forget(&mut self, key: &Tuple<<$family as Family>::Addr>) {
                // It was there a moment ago, or is not: both is well.
                let _ = $table.remove(bytemuck::cast_ref::<_, Tuple<$key>>(key));
            }

            #[inline(always)]
            fn has_socket(&self, tuple: &Tuple<<$family as Family>::Addr>) -> bool {
                $socket_tuple(self, tuple)
            }
        }
    };
}

connections!(V4, [u8; 4], CONNTRACK4, STAGED4, FLOWS4, has_socket4);
connections!(V6, [u8; 16], CONNTRACK6, STAGED6, FLOWS6, has_socket6);

#[inline(always)]
fn has_socket4<K: Kind>(packet: &OnHook<K>, tuple: &Tuple<u32>) -> bool {
    let mut key = MaybeUninit::<bpf_sock_tuple>::uninit();
    // SAFETY: a union of structs of integers.
    let key = unsafe { zero(&mut key) };
    let part = &mut key.__bindgen_anon_1;
    // SAFETY: integers in every member of the union.
    let size = unsafe {
        part.ipv4.saddr = tuple.src;
        part.ipv4.daddr = tuple.dst;
        part.ipv4.sport = u16::from_ne_bytes(tuple.src_port);
        part.ipv4.dport = u16::from_ne_bytes(tuple.dst_port);
        size_of_val(&part.ipv4)
    };
    look_up(packet, key, size, tuple.protocol)
}

#[inline(always)]
fn has_socket6<K: Kind>(packet: &OnHook<K>, tuple: &Tuple<[u64; 2]>) -> bool {
    let mut key = MaybeUninit::<bpf_sock_tuple>::uninit();
    // SAFETY: a union of structs of integers.
    let key = unsafe { zero(&mut key) };
    let part = &mut key.__bindgen_anon_1;
    // SAFETY: integers in every member of the union.
    let size = unsafe {
        part.ipv6.saddr = bytemuck::cast(tuple.src);
        part.ipv6.daddr = bytemuck::cast(tuple.dst);
        part.ipv6.sport = u16::from_ne_bytes(tuple.src_port);
        part.ipv6.dport = u16::from_ne_bytes(tuple.dst_port);
        size_of_val(&part.ipv6)
    };
    look_up(packet, key, size, tuple.protocol)
}

/// Whether the kernel has a socket for a packet with that tuple; only TCP and UDP have any.
#[inline(always)]
fn look_up<K: Kind>(packet: &OnHook<K>, key: &mut bpf_sock_tuple, size: usize, upper: u8) -> bool {
    let context = packet.raw().cast();
    // SAFETY: helpers on the program's own context; the tuple is of the size that is said, and a socket that is found is
    // given back.
    unsafe {
        let socket: *mut bpf_sock = match upper {
            protocol::TCP => bpf_skc_lookup_tcp(context, ptr::from_mut(key), size as u32, CURRENT_NETNS, 0),
            protocol::UDP => bpf_sk_lookup_udp(context, ptr::from_mut(key), size as u32, CURRENT_NETNS, 0),
            _ => return false,
        };
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket.cast());
        true
    }
}

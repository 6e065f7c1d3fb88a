//! A TC context as the packet that the decisions work on.

#[cfg(target_arch = "bpf")]
use core::arch::asm;
use core::{mem::offset_of, ptr::NonNull};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_CSUM_LEVEL_DEC, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
        BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET,
        BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    bpf_f_adj_room_encap_l2,
    helpers::{
        bpf_csum_level, bpf_csum_update, bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_tail,
        bpf_skb_pull_data,
    },
    programs::sk_buff::SkBuff,
};
use common::{
    checksum,
    counters::{Hook, Reason},
    linear,
    packet::{Failed, Helper, Packet},
    tables::Dataplane as _,
    wire::{ETH_LEN, Wire},
};

/// `EALREADY` of asm-generic/errno.h.
const EALREADY: i64 = 114;

/// The packet of a TC program.
pub struct Skb {
    raw: *mut __sk_buff,
    /// Length as the program got it.
    pub received: usize,
    hook: Hook,
}

impl Skb {
    /// The packet of that context, at that hook. `None`, counted as a drop, if its headers can't be had in one piece.
    #[inline(always)]
    pub fn new(SkBuff { skb: raw }: SkBuff, hook: Hook) -> Option<Self> {
        let mut skb = Self { raw, received: 0, hook };
        skb.received = skb.len();
        match skb.linearize(linear::needed(&skb, hook == Hook::FromUplink)) {
            Ok(()) => Some(skb),
            Err(failure) => {
                skb.failed(failure);
                skb.count(Reason::HelperFailed, skb.received);
                None
            }
        }
    }

    /// The packet of that context again, in a function that the verifier takes on its own: it knows nothing of its caller's.
    ///
    /// Neither the hook nor the length as received is known there: nothing is counted but by the hooks themselves.
    #[inline(always)]
    pub fn again(raw: *mut __sk_buff) -> Self {
        Self { raw, received: 0, hook: Hook::FromPod }
    }

    /// The hook that the program is attached to.
    #[inline(always)]
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// The kernel's context, for helpers.
    #[inline(always)]
    pub fn raw(&self) -> *mut __sk_buff {
        self.raw
    }

    /// The context's fields.
    #[inline(always)]
    pub fn context(&self) -> &__sk_buff {
        // SAFETY: the kernel calls a TC program with a valid context that outlives it.
        unsafe { &*self.raw }
    }

    /// Where the packet's linear part starts.
    #[inline(always)]
    fn data(&self) -> usize {
        field::<{ offset_of!(__sk_buff, data) }>(self.raw)
    }

    /// Where it ends.
    #[inline(always)]
    fn data_end(&self) -> usize {
        field::<{ offset_of!(__sk_buff, data_end) }>(self.raw)
    }

    /// Where `T` at `offset` starts, if it ends before the linear part of the packet does.
    #[inline(always)]
    fn locate<T: Wire>(&self, offset: usize) -> Option<NonNull<T>> {
        let start = self.data() + offset;
        if start + size_of::<T>() > self.data_end() {
            return None;
        }
        // SAFETY: a packet is not at address zero. A check for it would be one on a packet pointer, which the verifier
        // refuses.
        Some(unsafe { NonNull::new_unchecked(start as *mut T) })
    }

    /// Sees to it that the headers lie in one piece. They nearly always do; a packet from a raw socket or from a driver
    /// that splits headers may not.
    #[inline(always)]
    fn linearize(&self, wanted: usize) -> Result<(), Failed> {
        if self.data() + wanted <= self.data_end() {
            return Ok(());
        }
        // SAFETY: a helper on the program's own context; packet pointers are taken anew after it.
        check(Helper::PullData, unsafe { bpf_skb_pull_data(self.raw, wanted as u32) })
    }
}

/// Loads a packet pointer from the context.
///
/// The context shows it as 32 bits, the verifier makes it a pointer of 64. LLVM, which knows only the former, may keep it in
/// a 32-bit register between load and use, and then it is a pointer no more: so the load is not LLVM's.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn field<const OFFSET: usize>(context: *const __sk_buff) -> usize {
    let pointer;
    // SAFETY: one load from the program's own context, whose fields change only when a helper moves the packet.
    unsafe {
        asm!(
            "{pointer} = *(u32 *)({context} + {offset})",
            pointer = out(reg) pointer,
            context = in(reg) context,
            offset = const OFFSET,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    pointer
}

/// The same for the lints, which run on the host.
#[cfg(not(target_arch = "bpf"))]
fn field<const OFFSET: usize>(context: *const __sk_buff) -> usize {
    // SAFETY: `OFFSET` is that of a 32-bit field.
    unsafe { context.byte_add(OFFSET).cast::<u32>().read() as usize }
}

/// A helper's answer as a result: zero is success.
#[inline(always)]
pub fn check(helper: Helper, answer: i64) -> Result<(), Failed> {
    // Helpers answer with an errno or a small enumeration: 32 bits hold them.
    if answer == 0 { Ok(()) } else { Err(Failed { helper, code: answer as i32 }) }
}

impl Packet for Skb {
    #[inline(always)]
    fn len(&self) -> usize {
        self.context().len as usize
    }

    #[inline(always)]
    fn at<T: Wire>(&self, offset: usize) -> Option<&T> {
        // SAFETY: `locate` has checked the bounds; `Wire` types have alignment 1 and are valid for any bytes. Whatever
        // moves the packet takes `&mut self`.
        self.locate::<T>(offset).map(|start| unsafe { start.as_ref() })
    }

    #[inline(always)]
    fn at_mut<T: Wire>(&mut self, offset: usize) -> Option<&mut T> {
        // SAFETY: as above, and the borrow is exclusive.
        self.locate::<T>(offset).map(|mut start| unsafe { start.as_mut() })
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.context().ifindex
    }

    #[inline(always)]
    fn has_vlan(&self) -> bool {
        // The kernel has moved the tag beside the packet before TC sees it (`skb_vlan_untag` in net/core/dev.c).
        self.context().vlan_present != 0
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        self.context().gso_size
    }

    #[inline(always)]
    fn word_changed(&mut self, old: [u8; 2], new: [u8; 2]) {
        let difference = (checksum::word(old) ^ 0xffff) + checksum::word(new);
        // SAFETY: a helper on the program's own context. It refuses where the device has summed nothing up
        // (not CHECKSUM_COMPLETE), which is no failure.
        unsafe { bpf_csum_update(self.raw, difference) };
    }

    #[inline(always)]
    fn upper_changed(&mut self, at: usize, addresses: u32, ports: u32, optional: bool) {
        let flags = if optional { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        // Apart, as only the kernel knows what the field holds: of a packet whose checksum is still to be computed (CHECKSUM_PARTIAL)
        // it is the sum of the addresses, and knows no ports.
        // SAFETY: helpers on the program's own context; packet pointers are taken anew after them. They refuse where there is
        // no such field, which the caller has seen.
        unsafe {
            if addresses != 0 {
                bpf_l4_csum_replace(
                    self.raw,
                    at as u32,
                    0,
                    u64::from(addresses),
                    flags | u64::from(BPF_F_PSEUDO_HDR),
                );
            }
            if ports != 0 {
                bpf_l4_csum_replace(self.raw, at as u32, 0, u64::from(ports), flags);
            }
        }
    }

    #[inline(always)]
    fn addresses_changed(&mut self, difference: u32) {
        // SAFETY: a helper on the program's own context. It refuses where the device has summed nothing up.
        unsafe { bpf_csum_update(self.raw, difference) };
    }

    #[inline(always)]
    fn encapsulate(&mut self, room: usize, v6: bool) -> Result<(), Failed> {
        let l3 = if v6 { BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 } else { BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 };
        // FIXED_GSO: segments keep their size, the tunnel's MTU has been taken off it already; without it a UDP GSO
        // packet is refused. NO_CSUM_RESET: nothing that a checksum covers changes.
        let flags = u64::from(
            l3 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP
                | BPF_F_ADJ_ROOM_ENCAP_L2_ETH
                | BPF_F_ADJ_ROOM_FIXED_GSO
                | BPF_F_ADJ_ROOM_NO_CSUM_RESET,
        ) | bpf_f_adj_room_encap_l2(ETH_LEN as u64);
        // SAFETY: a helper on the program's own context; packet pointers are taken anew after it.
        let made = unsafe { bpf_skb_adjust_room(self.raw, room as i32, BPF_ADJ_ROOM_MAC, flags) };
        if made != -EALREADY {
            return check(Helper::AdjustRoom, made);
        }
        // It has been through a tunnel on this very kernel (an underlay of veths), which `decapsulate` could not make it
        // forget: it needs the room only, the marks of a tunnel packet are on it still.
        let flags = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET);
        // SAFETY: as above.
        check(Helper::AdjustRoom, unsafe {
            bpf_skb_adjust_room(self.raw, room as i32, BPF_ADJ_ROOM_MAC, flags)
        })
    }

    #[inline(always)]
    fn decapsulate(&mut self, room: usize, v6: bool) -> Result<(), Failed> {
        // The family of what is left, from which the kernel sets `skb->protocol` (since 6.3).
        let l3 = if v6 { BPF_F_ADJ_ROOM_DECAP_L3_IPV6 } else { BPF_F_ADJ_ROOM_DECAP_L3_IPV4 };
        let flags = u64::from(l3 | BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET);
        // SAFETY: helpers on the program's own context; packet pointers are taken anew after them.
        unsafe {
            check(
                Helper::AdjustRoom,
                bpf_skb_adjust_room(self.raw, -(room as i32), BPF_ADJ_ROOM_MAC, flags),
            )?;
            // One checksum fewer that a device may have verified: if it looked at the outer one only, the inner is still
            // to be checked by the pod. Refused where the device verified none.
            bpf_csum_level(self.raw, u64::from(BPF_CSUM_LEVEL_DEC));
        }
        Ok(())
    }

    #[inline(always)]
    fn quote(&mut self, keep: usize, room: usize) -> Result<(), Failed> {
        // SAFETY: helpers on the program's own context; packet pointers are taken anew after them.
        unsafe {
            // Cut only what is longer: the kernel refuses for a packet that has been through a tunnel on this very kernel. It
            // makes a packet linear and drops GSO, too.
            if keep < self.len() {
                check(Helper::ChangeTail, bpf_skb_change_tail(self.raw, keep as u32, 0))?;
            } else {
                self.linearize(self.len())?;
            }
            if room == 0 {
                return Ok(());
            }
            check(Helper::AdjustRoom, bpf_skb_adjust_room(self.raw, room as i32, BPF_ADJ_ROOM_MAC, 0))
        }
    }
}

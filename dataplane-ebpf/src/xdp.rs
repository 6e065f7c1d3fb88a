//! An XDP context as the packet that the decisions work on.

use core::mem::offset_of;

#[cfg(feature = "trace")]
use aya_ebpf::EbpfContext;
use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_meta, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use common::{
    checksum,
    counters::{Hook, Reason},
    handover::{self, Handover},
    linear,
    packet::{Failed, Helper, Packet},
    stage::Side,
    tables::Dataplane as _,
    verdict::Action,
    wire::{Eth, Mac, Wire},
};

use crate::{
    on_hook::{Context, Kind, OnHook},
    pointer::{check, field},
    stage,
};

/// An XDP program.
pub struct Driver;

/// The packet of an XDP program.
pub type Xdp = OnHook<Driver>;

impl Context for Driver {
    type Raw = xdp_md;
}

impl Kind for Driver {
    type Done = u32;

    #[inline(always)]
    fn data(raw: *mut xdp_md) -> usize {
        field::<{ offset_of!(xdp_md, data) }, _>(raw)
    }

    #[inline(always)]
    fn data_end(raw: *mut xdp_md) -> usize {
        field::<{ offset_of!(xdp_md, data_end) }, _>(raw)
    }

    #[inline(always)]
    fn length(raw: *mut xdp_md) -> u32 {
        // SAFETY: a helper on the program's own context. Not the end less the start: there may be fragments behind.
        (unsafe { bpf_xdp_get_buff_len(raw) }) as u32
    }

    #[inline(always)]
    fn hook(_: Side) -> Hook {
        Hook::UplinkXdp
    }

    #[inline(always)]
    fn act(packet: &mut Xdp, action: Action) -> u32 {
        match action {
            Action::Continue => xdp_action::XDP_PASS,
            Action::Drop => xdp_action::XDP_DROP,
            // Out of another device only by TC: a driver may refuse it, and that would be a drop that nobody counts.
            Action::Device { ifindex } if ifindex == packet.ifindex() => xdp_action::XDP_TX,
            action => packet.hand_over(action),
        }
    }

    #[inline(always)]
    fn handed(_: &mut Xdp) -> Result<Option<Action>, Failed> {
        Ok(None)
    }

    #[cfg(feature = "trace")]
    #[inline(always)]
    fn logged(raw: *mut xdp_md) -> impl EbpfContext {
        XdpContext::new(raw)
    }
}

impl Xdp {
    /// The packet of that context, at that hook. `None`, counted as left to TC, if its headers don't lie in one piece.
    #[inline(always)]
    pub fn of(XdpContext { ctx: raw }: XdpContext, hook: Hook) -> Option<Self> {
        let mut xdp = Self::new(raw, hook);
        xdp.length = Driver::length(raw);
        xdp.received = xdp.length;
        if xdp.has(linear::needed(&xdp, true)) {
            return Some(xdp);
        }
        xdp.count(Reason::ToTc, xdp.received());
        None
    }

    /// Our part of the metadata, if the packet has been claimed.
    #[inline(always)]
    fn handover(&mut self) -> Option<&mut Handover> {
        let meta = field::<{ offset_of!(xdp_md, data_meta) }, _>(self.raw());
        // SAFETY: `locate` has checked the bounds, the type is valid for any bytes, and nobody else has the metadata.
        self.before::<Handover>(meta).map(|mut handover| unsafe { handover.as_mut() })
    }

    /// Leaves an action to TC.
    #[inline(always)]
    fn hand_over(&mut self, action: Action) -> u32 {
        let Some(handover) = self.handover() else { return xdp_action::XDP_ABORTED };
        *handover = Handover::of(action);
        xdp_action::XDP_PASS
    }

    /// Makes room for `room` bytes behind the Ethernet header.
    #[inline(always)]
    fn grow(&mut self, room: usize) -> Result<(), Failed> {
        // SAFETY: a helper on the program's own context; packet pointers are taken anew after it.
        check(Helper::AdjustHead, unsafe { bpf_xdp_adjust_head(self.raw(), -(room as i32)) })?;
        self.length += room as u32;
        // Moved only now: on the stack it would be in everybody's way meanwhile.
        self.move_ethernet(room, 0);
        Ok(())
    }

    /// Writes the Ethernet header that is at `from` to `to`.
    #[inline(always)]
    fn move_ethernet(&mut self, from: usize, to: usize) {
        let Some(eth) = self.at::<Eth>(from) else { return };
        let (dst, src, ether_type) = (Mac::load(&eth.dst), Mac::load(&eth.src), eth.ether_type);
        if let Some(eth) = self.at_mut::<Eth>(to) {
            dst.store(&mut eth.dst);
            src.store(&mut eth.src);
            eth.ether_type = ether_type;
        }
    }
}

impl Packet for Xdp {
    #[inline(always)]
    fn len(&self) -> usize {
        // Kept: the helper costs 3 ns, and a packet's length is asked for at each step.
        self.length as usize
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
        self.context().ingress_ifindex
    }

    #[inline(always)]
    fn has_vlan(&self) -> bool {
        // It is among the bytes, an EtherType that is none of ours: unless the device has taken it off, where the loader has XDP off or
        // warns (`confuses_vlans` in loader/src/xdp.rs).
        false
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn word_changed(&mut self, _: [u8; 2], _: [u8; 2]) {}

    #[inline(always)]
    fn upper_changed(&mut self, at: usize, addresses: u32, ports: u32, optional: bool) {
        let Some(check) = self.at_mut::<[u8; 2]>(at) else { return };
        *check = checksum::followed(*check, addresses, ports, optional);
    }

    #[inline(always)]
    fn addresses_changed(&mut self, _: u32) {}

    #[inline(always)]
    fn encapsulate(&mut self, room: usize, _: bool) -> Result<(), Failed> {
        self.grow(room)
    }

    #[inline(always)]
    fn decapsulate(&mut self, room: usize, _: bool) -> Result<(), Failed> {
        self.move_ethernet(0, room);
        // SAFETY: a helper on the program's own context; packet pointers are taken anew after it.
        check(Helper::AdjustHead, unsafe { bpf_xdp_adjust_head(self.raw(), room as i32) })?;
        self.length -= room as u32;
        Ok(())
    }

    #[inline(always)]
    fn claim(&mut self) -> bool {
        // Before anything is changed: some drivers have no metadata, and then TC has to do it all.
        // SAFETY: a helper on the program's own context; packet pointers are taken anew after it.
        if unsafe { bpf_xdp_adjust_meta(self.raw(), -(handover::LEN as i32)) } != 0 {
            return false;
        }
        let Some(handover) = self.handover() else { return false };
        // All of it: GRO joins packets of the same metadata only.
        *handover = Handover::default();
        true
    }

    #[inline(always)]
    fn sum_tail(&self, offset: usize) -> u32 {
        stage::xdp_sum_tail(self.raw(), offset as u32)
    }

    #[inline(always)]
    fn walk_extensions(&self, payload: usize, protocol: u8) -> u64 {
        stage::xdp_walk_extensions(self.raw(), payload as u32, u32::from(protocol))
    }

    #[inline(always)]
    fn quote(&mut self, keep: usize, room: usize) -> Result<(), Failed> {
        let len = self.len();
        if keep < len {
            // SAFETY: a helper on the program's own context; packet pointers are taken anew after it.
            let cut = unsafe { bpf_xdp_adjust_tail(self.raw(), keep as i32 - len as i32) };
            check(Helper::AdjustTail, cut)?;
            self.length = keep as u32;
        }
        if room == 0 { Ok(()) } else { self.grow(room) }
    }
}

//! What XDP has decided and TC carries out.
//!
//! XDP can drop a packet, send it back out of the device that it came by, or pass it on. Everything else that a decision may come
//! to is written before the packet (the kernel carries these bytes along, `bpf_xdp_adjust_meta`), for TC to read.

use crate::{verdict::Action, wire::Wire};

/// An action, in the metadata of a packet, which may lie at any address.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    /// [`MARK`] and the kind of the action; zero: there is none.
    mark: u32,
    /// Interface index, of the actions that have one.
    ifindex: u32,
    /// Address of the neighbour; IPv4 in the first word.
    address: [u32; 4],
}

// SAFETY: packed, so of alignment 1 and without padding, and integers only.
unsafe impl Wire for Handover {}

/// Length of the metadata, in bytes: a multiple of four of at most 32, which the kernel asks for.
pub const LEN: usize = size_of::<Handover>();

/// Tells our metadata from others': `POD`.
const MARK: u32 = 0x504f_4400;

const POD: u32 = MARK | 1;
const HOST: u32 = MARK | 2;
const LOOPBACK: u32 = MARK | 3;
const DEVICE: u32 = MARK | 4;
const ROUTE: u32 = MARK | 5;
const NEIGHBOUR4: u32 = MARK | 6;
const NEIGHBOUR6: u32 = MARK | 7;

impl Handover {
    /// Of an action that is one to hand over; of the others, none.
    #[inline(always)]
    #[must_use]
    pub const fn of(action: Action) -> Self {
        let (mark, ifindex, address) = match action {
            Action::Continue | Action::Drop => (0, 0, [0; 4]),
            Action::Pod { ifindex } => (POD, ifindex, [0; 4]),
            Action::Host => (HOST, 0, [0; 4]),
            Action::Loopback => (LOOPBACK, 0, [0; 4]),
            Action::Device { ifindex } => (DEVICE, ifindex, [0; 4]),
            Action::Route { ifindex } => (ROUTE, ifindex, [0; 4]),
            Action::Neighbour { ifindex, address, v6: false } => (NEIGHBOUR4, ifindex, address),
            Action::Neighbour { ifindex, address, v6: true } => (NEIGHBOUR6, ifindex, address),
        };
        Self { mark, ifindex, address }
    }

    /// The action, if there is one.
    #[inline(always)]
    #[must_use]
    pub const fn action(&self) -> Option<Action> {
        let Self { mark, ifindex, address } = *self;
        Some(match mark {
            POD => Action::Pod { ifindex },
            HOST => Action::Host,
            LOOPBACK => Action::Loopback,
            DEVICE => Action::Device { ifindex },
            ROUTE => Action::Route { ifindex },
            NEIGHBOUR4 | NEIGHBOUR6 => Action::Neighbour { ifindex, address, v6: mark == NEIGHBOUR6 },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_comes_through() {
        let address = [1, 2, 3, 4];
        for action in [
            Action::Pod { ifindex: 3 },
            Action::Host,
            Action::Loopback,
            Action::Device { ifindex: 4 },
            Action::Route { ifindex: 5 },
            Action::Neighbour { ifindex: 6, address, v6: false },
            Action::Neighbour { ifindex: 7, address, v6: true },
        ] {
            assert_eq!(Handover::of(action).action(), Some(action));
        }
        for action in [Action::Continue, Action::Drop] {
            assert_eq!(Handover::of(action), Handover::default());
            assert_eq!(Handover::of(action).action(), None);
        }
    }
}

//! What going the [short way](crate::flow_cache) comes to.

use crate::{counters::Reason, verdict::Action};

/// What a packet that went the short way came to; one number, as a BPF function can return it: an interface index, and above it one
/// of the kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken(u64);

impl Taken {
    /// It did not: it is as it was.
    pub const NOT: Self = Self(0);
    pub(crate) const POD: u64 = 1;
    pub(crate) const OVERLAY: u64 = 2;
    pub(crate) const DIRECT: u64 = 3;
    pub(crate) const CLIENT: u64 = 4;
    pub(crate) const FAILED: u64 = 5;

    #[inline(always)]
    pub(crate) const fn by(kind: u64, ifindex: u32) -> Self {
        Self(kind << 32 | ifindex as u64)
    }

    /// By number.
    #[inline(always)]
    #[must_use]
    pub const fn of(number: u64) -> Self {
        Self(number)
    }

    /// As a number.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// What is to be done with it, and what it is counted as.
    #[inline(always)]
    #[must_use]
    pub const fn settled(self) -> Option<(Reason, Action)> {
        let ifindex = self.0 as u32;
        Some(match self.0 >> 32 {
            Self::POD => (Reason::ToPod, Action::Pod { ifindex }),
            Self::OVERLAY => (Reason::ToOverlay, Action::Device { ifindex }),
            Self::DIRECT => (Reason::ToDirect, Action::Device { ifindex }),
            Self::CLIENT => (Reason::ToClient, Action::Device { ifindex }),
            Self::FAILED => (Reason::HelperFailed, Action::Drop),
            _ => return None,
        })
    }
}

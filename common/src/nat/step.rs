//! What translation came to.

use crate::{
    counters::Reason,
    verdict::{Refusal, Trouble},
};

/// Where a packet came from.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A pod of this node.
    Pod,
    /// An uplink, in a tunnel or not.
    Uplink,
    /// The node's own stack.
    Host,
}

/// One number, as a BPF function can return it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// No connection with that tuple is known. What it comes to is still to be decided.
    Unknown,
    /// A connection with that tuple is known now.
    Begun,
    /// Nothing to translate.
    Untouched,
    /// Translated.
    Translated,
    /// Translated: it has the node's own address as its source now.
    Masqueraded,
    /// An echo request to a service address.
    Echo,
    /// See [`Reason::NoSuchService`].
    NoSuchService,
    /// See [`Reason::NoBackend`].
    NoBackend,
    /// See [`Reason::NoLocalBackend`].
    NoLocalBackend,
    /// See [`Reason::SourceRange`].
    SourceRange,
    /// See [`Reason::BackendGone`].
    BackendGone,
    /// See [`Reason::FragmentUnknown`].
    FragmentUnknown,
    /// See [`Reason::ConntrackFull`].
    ConntrackFull,
    /// See [`Reason::PortsExhausted`].
    PortsExhausted,
}

impl Side {
    /// By number.
    #[inline(always)]
    #[must_use]
    pub const fn of(number: u32) -> Self {
        match number {
            0 => Self::Pod,
            1 => Self::Uplink,
            _ => Self::Host,
        }
    }
}

impl Step {
    const ALL: [Self; 14] = [
        Self::Unknown,
        Self::Begun,
        Self::Untouched,
        Self::Translated,
        Self::Masqueraded,
        Self::Echo,
        Self::NoSuchService,
        Self::NoBackend,
        Self::NoLocalBackend,
        Self::SourceRange,
        Self::BackendGone,
        Self::FragmentUnknown,
        Self::ConntrackFull,
        Self::PortsExhausted,
    ];

    /// By number; [`Step::Unknown`] is that of none.
    #[inline(always)]
    #[must_use]
    pub fn of(number: u32) -> Self {
        let mut steps = Self::ALL.iter();
        steps.find(|step| **step as u32 == number).copied().unwrap_or(Self::Unknown)
    }

    /// Whether the packet is another one now.
    #[inline(always)]
    #[must_use]
    pub const fn translated(self) -> bool {
        matches!(self, Self::Translated | Self::Masqueraded)
    }

    /// Whether the packet goes on.
    ///
    /// # Errors
    ///
    /// Why not.
    #[inline(always)]
    pub fn goes_on(self) -> Result<Self, Refusal> {
        Err(match self {
            Self::Unknown | Self::Begun | Self::Untouched | Self::Translated | Self::Masqueraded => {
                return Ok(self);
            }
            Self::Echo => Refusal::Answer(Reason::EchoReply, Trouble::Echo),
            Self::NoSuchService => Reason::NoSuchService.into(),
            Self::NoBackend => Reason::NoBackend.into(),
            Self::NoLocalBackend => Reason::NoLocalBackend.into(),
            Self::SourceRange => Reason::SourceRange.into(),
            Self::BackendGone => Reason::BackendGone.into(),
            Self::FragmentUnknown => Reason::FragmentUnknown.into(),
            Self::ConntrackFull => Reason::ConntrackFull.into(),
            Self::PortsExhausted => Reason::PortsExhausted.into(),
        })
    }
}

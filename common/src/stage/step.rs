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
    /// A peer, of its own pods or the peer itself.
    Peer,
    /// A peer, which was called by somebody outside and has handed him on.
    HandedOn,
    /// An uplink, and no peer.
    Outside,
    /// As [`Outside`](Self::Outside), of a packet that is too large to be handed on.
    Large,
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
    /// Left as it is, for the backend's node to translate. Only what is known of the packet names the backend as its destination.
    HandedOn,
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
            1 => Self::Peer,
            2 => Self::HandedOn,
            3 => Self::Outside,
            4 => Self::Large,
            _ => Self::Host,
        }
    }
}

impl Step {
    const ALL: [Self; 15] = [
        Self::Unknown,
        Self::Begun,
        Self::Untouched,
        Self::Translated,
        Self::Masqueraded,
        Self::HandedOn,
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
            Self::Unknown
            | Self::Begun
            | Self::Untouched
            | Self::Translated
            | Self::Masqueraded
            | Self::HandedOn => return Ok(self),
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

//! A decision, and what must hold of it whatever the packet.

use std::mem::discriminant;

use common::{
    counters::{Hook, Outcome, Reason},
    hooks,
    memory::Memory,
    tables::Account,
    verdict::Action,
};
use proptest::{prop_assert, prop_assert_eq, test_runner::TestCaseError};

use crate::cluster::{Here, memory};

/// Runs a packet on a hook of the first pod, of the uplink or of the gateway device.
pub fn decide(hook: Hook, here: &Here, bytes: &[u8]) -> Result<(Memory, Action), TestCaseError> {
    decide_with(hook, here, bytes, |_| {})
}

/// The same where something is special about the kernel.
pub fn decide_with(
    hook: Hook,
    here: &Here,
    bytes: &[u8],
    special: impl FnOnce(&mut Memory),
) -> Result<(Memory, Action), TestCaseError> {
    let ifindex = match hook {
        Hook::FromPod | Hook::ToPod => 100 * u32::from(here.node) + 10,
        Hook::FromUplink | Hook::UplinkXdp => 5,
        Hook::FromHost | Hook::Sock => 7,
    };
    let mut memory = memory(here, ifindex, bytes);
    special(&mut memory);
    let action = match hook {
        Hook::FromPod => hooks::from_pod(&mut memory),
        Hook::ToPod => hooks::to_pod(&mut memory),
        Hook::FromUplink => hooks::from_uplink(&mut memory),
        Hook::FromHost => hooks::from_host(&mut memory),
        Hook::UplinkXdp => hooks::uplink_xdp(&mut memory),
        Hook::Sock => unreachable!("sockets have no packets"),
    };
    hold(hook, &memory, action, bytes)?;
    Ok((memory, action))
}

fn hold(hook: Hook, memory: &Memory, action: Action, bytes: &[u8]) -> Result<(), TestCaseError> {
    let name = hook.name();
    let (generated, counted): (Vec<_>, Vec<_>) =
        memory.counts.iter().partition(|(reason, _)| reason.outcome() == Outcome::Generated);
    prop_assert_eq!(counted.len(), 1, "{} counted {:?}", name, memory.counts);
    let (reason, length) = counted[0];
    prop_assert_eq!(length, bytes.len(), "{} counted other bytes than it received", name);
    prop_assert!(generated.len() <= 1, "{} generated {:?}", name, generated);

    let told = generated.iter().any(|(reason, _)| *reason == Reason::IcmpError);
    match reason.outcome() {
        Outcome::Dropped => prop_assert!(
            told || action == Action::Drop,
            "{} dropped as {}: {:?}",
            name,
            reason.name(),
            action
        ),
        _ => prop_assert!(action != Action::Drop && !told, "{} as {}: {:?}", name, reason.name(), action),
    }
    if matches!(reason, Reason::Foreign | Reason::ToTc) {
        prop_assert_eq!(action, Action::Continue);
        prop_assert_eq!(&memory.bytes, bytes, "{} changed a packet that it leaves alone", name);
    }
    if action == Action::Drop {
        // One who is dropped is never accounted as delivered.
        let delivered = memory.accounts.iter().any(|(account, _)| matches!(account, Account::PodRx(_)));
        prop_assert!(!delivered, "{} dropped what it delivered", name);
    }
    prop_assert_eq!(
        reason == Reason::HelperFailed || reason == Reason::NoUnderlayRoute,
        !memory.failures.is_empty()
    );

    for (index, (account, _)) in memory.accounts.iter().enumerate() {
        let again =
            memory.accounts[..index].iter().any(|(other, _)| discriminant(other) == discriminant(account));
        prop_assert!(!again, "{} accounted twice: {:?}", name, memory.accounts);
    }
    Ok(())
}

/// The frame after some hops of its IP packet.
pub fn hops_taken(frame: &[u8], hops: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[12] == 8 {
        frame[14 + 8] -= hops;
        let end = 14 + 4 * usize::from(frame[14] & 15);
        frame[24..26].fill(0);
        let checksum = checksum(&[&frame[14..end]]);
        frame[24..26].copy_from_slice(&checksum);
    } else {
        frame[14 + 7] -= hops;
    }
    frame
}

/// The internet checksum over parts of even length (the last may be odd), straight from RFC 1071.
pub fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0_u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
}

/// Where the checksum of an upper protocol is, and whether a pseudo-header is in it.
pub fn upper_checksum(protocol: u8) -> Option<(usize, bool)> {
    match protocol {
        1 => Some((2, false)),
        58 => Some((2, true)),
        6 => Some((16, true)),
        17 => Some((6, true)),
        _ => None,
    }
}

/// Whether every checksum in the frame holds: of IPv4 headers, of TCP, UDP and ICMP, and those of a frame in a tunnel.
pub fn checksums_hold(frame: &[u8]) -> bool {
    let packet = &frame[14..];
    match [frame[12], frame[13]] {
        [8, 0] => {
            let header = 4 * usize::from(packet[0] & 15);
            let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            let fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
            let upper = fragment || upper_holds(packet[9], &packet[header..total], &packet[12..20]);
            checksum(&[&packet[..header]]) == [0; 2] && upper
        }
        [0x86, 0xdd] => {
            let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            upper_holds(packet[6], &packet[40..40 + length], &packet[8..40])
        }
        _ => true,
    }
}

fn upper_holds(protocol: u8, payload: &[u8], addresses: &[u8]) -> bool {
    let length = u16::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let pseudo = [addresses, &[0, protocol], &length].concat();
    match upper_checksum(protocol) {
        // RFC 7348, section 4.1, and RFC 768: there is none.
        Some((at, _)) if protocol == 17 && payload[at..at + 2] == [0; 2] => match payload {
            [_, _, 0x21, 0x18, _, _, _, _, _, _, _, _, _, _, _, _, inner @ ..] => checksums_hold(inner),
            _ => true,
        },
        Some((_, true)) => checksum(&[&pseudo, payload]) == [0; 2],
        Some((_, false)) => checksum(&[payload]) == [0; 2],
        None => true,
    }
}

//! Where XDP runs on an uplink, and why: from what is configured and what is known of the device to a plan, and from what
//! became of the plan to a choice. Nothing here touches the device.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::desired::XdpMode;

#[cfg(test)]
mod tests;

/// Largest MTU of a driver that wants each packet in one page of 4 KiB: the page less 256 bytes of headroom, 320 of the
/// kernel's own behind the packet, and the Ethernet header with a VLAN tag and checksum.
const ONE_PAGE_MTU: u32 = 4096 - 256 - 320 - 14 - 4 - 4;

/// Features by which received packets are merged before the kernel sees them.
pub const LARGE_RECEIVE: [&str; 2] = ["rx-gro-hw", "rx-lro"];

/// The feature by which a device takes the VLAN tag (802.1Q) off a packet before XDP sees it.
pub const TAKES_TAGS: &str = "rx-vlan-hw-parse";

/// A way to run XDP on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In the driver, before the kernel has made anything of the packet.
    Native,
    /// By the kernel's generic hook, behind any driver.
    Generic,
}

/// What is in force on an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// XDP in the driver.
    Native,
    /// XDP by the kernel's generic hook.
    Generic,
    /// No XDP: TC does it all.
    Off,
}

/// What is known of an uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Name of the device.
    pub device: String,
    /// Its kind, as `veth`; none for hardware.
    pub kind: Option<String>,
    /// Name of its driver, where it tells.
    pub driver: Option<String>,
    /// Its MTU.
    pub mtu: u32,
    /// The feature that is on by which it merges received packets; looked up where the choice is ours.
    pub large_receive: Option<String>,
    /// Name of a VLAN device on top of it, if it takes off the tags by which XDP could tell that device's packets from its own;
    /// looked up where XDP may run.
    pub untagged_vlan: Option<String>,
    /// Number of somebody else's XDP program on it.
    pub foreign: Option<u32>,
}

/// What to do about XDP on an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Try these in order until one succeeds.
    Try(&'static [Way]),
    /// Nothing, for this reason.
    Off(String),
}

/// Why a way was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which way.
    pub way: Way,
    /// The errno, if the kernel gave one.
    pub errno: Option<i32>,
    /// The error, for a person.
    pub error: String,
}

/// What came of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What is in force.
    pub mode: Mode,
    /// Why, for a person.
    pub why: String,
}

/// What to do on an uplink.
#[must_use]
pub fn plan(wanted: XdpMode, facts: &Facts) -> Plan {
    let Facts { device, large_receive, foreign, .. } = facts;
    let ways: &[Way] = match wanted {
        XdpMode::Auto => &[Way::Native],
        XdpMode::Native => &[Way::Native, Way::Generic],
        XdpMode::Generic => &[Way::Generic],
        XdpMode::Off => return Plan::Off(CONFIGURED.to_owned()),
    };
    if wanted == XdpMode::Auto && is_veth(facts) {
        // A stream falls to about a fifth: what the peer would hand over in one piece it has to cut first.
        return Plan::Off("veth: XDP would make its peer segment in software".to_owned());
    }
    if wanted == XdpMode::Auto
        && let Some(feature) = large_receive
    {
        return Plan::Off(format!(
            "{feature} is on: the device merges received packets, which pays more, and XDP would end it; \
             `ethtool -K {device} {feature} off`, if it can be turned off, lets XDP have them"
        ));
    }
    if wanted == XdpMode::Auto
        && let Some(why) = confuses_vlans(facts)
    {
        return Plan::Off(why);
    }
    if let Some(program) = foreign {
        return Plan::Off(format!(
            "somebody else's XDP program #{program} is on {device} (`bpftool prog show id {program}`); XDP is used as \
             soon as it is gone: end its owner, or `ip link set dev {device} xdp off`"
        ));
    }
    Plan::Try(ways)
}

/// What a tried plan came to: `attached` after these refusals.
#[must_use]
pub fn choice(wanted: XdpMode, facts: &Facts, attached: Option<Way>, refusals: &[Refusal]) -> Choice {
    let refused: Vec<String> = refusals.iter().map(|refusal| refused(facts, refusal)).collect();
    let why = match (wanted, attached) {
        (_, Some(_)) if !refused.is_empty() => refused.join("; "),
        (XdpMode::Auto, Some(_)) => format!("{} takes it", driver(facts)),
        (_, Some(Way::Native)) if is_veth(facts) => {
            format!("{CONFIGURED}; what XDP sends back arrives only if the veth's other end runs XDP, too")
        }
        (_, Some(_)) => CONFIGURED.to_owned(),
        (XdpMode::Auto, None) => format!(
            "{}; generic XDP does not pay, as it runs once the kernel has made its packet",
            refused.join("; ")
        ),
        (_, None) => refused.join("; "),
    };
    let warning = attached.and_then(|_| confuses_vlans(facts));
    let why = warning.map_or_else(|| why.clone(), |warning| format!("{why}; {warning}"));
    Choice { mode: attached.map_or(Mode::Off, Mode::from), why }
}

/// Whether XDP takes packets of VLANs for the device's own, and what to do about it.
#[must_use]
pub fn confuses_vlans(Facts { device, untagged_vlan, .. }: &Facts) -> Option<String> {
    let vlan = untagged_vlan.as_ref()?;
    Some(format!(
        "{TAKES_TAGS} is on: the device takes VLAN tags off, and XDP would take packets of {vlan} for {device}'s own; \
         `ethtool -K {device} rxvlan off`, if it can be turned off, lets XDP tell them apart"
    ))
}

const CONFIGURED: &str = "as configured";

fn is_veth(facts: &Facts) -> bool {
    facts.kind.as_deref() == Some("veth")
}

fn driver(Facts { driver, kind, .. }: &Facts) -> String {
    let name = driver.as_ref().or(kind.as_ref());
    name.map_or_else(|| "the driver".to_owned(), |name| format!("driver {name}"))
}

/// Who refused what, and what to do about it.
fn refused(facts: &Facts, Refusal { way, errno, error }: &Refusal) -> String {
    let who = if *way == Way::Native { driver(facts) } else { "the kernel".to_owned() };
    let hint = hint(facts, *way, *errno);
    format!("{who} refused {way} XDP on {}: {error}{hint}", facts.device)
}

/// What to do about a refusal, after a semicolon; or nothing.
fn hint(Facts { device, mtu, .. }: &Facts, way: Way, errno: Option<i32>) -> String {
    match errno {
        Some(libc::EBUSY) => {
            format!("; somebody else's XDP program is there, `ip link show dev {device}` has its number")
        }
        Some(libc::EEXIST) => format!(
            "; somebody else's XDP program is there in another mode, or on a device above {device}, such as a bond"
        ),
        Some(libc::EPERM) => "; run as root (CAP_NET_ADMIN and CAP_BPF)".to_owned(),
        Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE) if way == Way::Native && *mtu > ONE_PAGE_MTU => {
            format!(
                "; its MTU is {mtu}, and a driver that takes no packets in several pages takes {ONE_PAGE_MTU} at most \
                 (`ip link set dev {device} mtu {ONE_PAGE_MTU}`)"
            )
        }
        Some(libc::EOPNOTSUPP) if way == Way::Native => "; it has no native XDP".to_owned(),
        Some(libc::ENOMEM | libc::ENOSPC) => {
            format!("; it needs a transmit queue for each CPU: try fewer queues (`ethtool -L {device}`)")
        }
        _ => "; `dmesg` may say more".to_owned(),
    }
}

impl From<Way> for Mode {
    fn from(way: Way) -> Self {
        match way {
            Way::Native => Self::Native,
            Way::Generic => Self::Generic,
        }
    }
}

impl Mode {
    /// Name, as in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Mode::from(*self).fmt(f)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.mode, self.why)
    }
}

//! XDP on the uplinks: chosen once for each, and again when something has changed that it was chosen by. A driver may forget
//! packets when a program comes or goes, so what runs is left alone as long as the choice stands.

use std::{collections::BTreeMap, io};

use crate::{
    bpf::{self, BpfError, Programs},
    desired::XdpMode,
    device::Ethtool,
    netlink::{Handle, Link, NetlinkError},
    paths::NodePaths,
    state::{State, XdpState},
    xdp::{self, Choice, Facts, Mode, Plan, Way},
};

/// What runs on the uplinks.
#[derive(Debug, Default)]
pub(super) struct Xdp {
    /// The uplinks that are there.
    uplinks: Vec<Uplink>,
    /// What was last said of each, by name.
    said: BTreeMap<String, Choice>,
}

/// An uplink, and what was chosen for it.
#[derive(Clone, Debug)]
struct Uplink {
    ifindex: u32,
    wanted: XdpMode,
    facts: Facts,
    /// None until it was tried.
    choice: Option<Choice>,
}

impl Uplink {
    fn plan(&self) -> Plan {
        xdp::plan(self.wanted, &self.facts)
    }

    /// Whether it may have XDP, or has it.
    fn may_have_xdp(&self) -> bool {
        match &self.choice {
            Some(choice) => choice.mode != Mode::Off,
            None => matches!(self.plan(), Plan::Try(_)),
        }
    }

    /// Whether it was chosen by the same that is known now.
    fn stands_for(&self, other: &Self) -> bool {
        (self.ifindex, self.wanted, &self.facts) == (other.ifindex, other.wanted, &other.facts)
    }
}

impl Xdp {
    /// As a previous loader has left it. What it could not have is tried again.
    pub(super) fn remembered(state: &State) -> Self {
        let runs = |state: &&XdpState| state.choice.mode != Mode::Off;
        let uplink = |state: &XdpState| Uplink {
            ifindex: state.ifindex,
            wanted: state.wanted,
            facts: state.facts.clone(),
            choice: Some(state.choice.clone()),
        };
        Self { uplinks: state.xdp.iter().filter(runs).map(uplink).collect(), said: BTreeMap::new() }
    }

    /// Looks at the uplinks that there are now. Programs that can't stay as they are go, before others are loaded that don't
    /// expect them.
    pub(super) fn look(
        &mut self,
        paths: &NodePaths,
        netlink: &mut Handle,
        wanted: XdpMode,
        links: &[Link],
    ) -> Result<(), BpfError> {
        let before = std::mem::take(&mut self.uplinks);
        for link in links {
            let found = bpf::xdp_on(paths, link);
            let mut uplink = Uplink {
                ifindex: link.index,
                wanted,
                facts: facts(netlink, wanted, link, found.foreign)?,
                choice: None,
            };
            let known = before.iter().find(|known| known.stands_for(&uplink));
            let choice = known.and_then(|known| known.choice.clone());
            // What was chosen may have been taken away.
            uplink.choice = choice.filter(|choice| choice.mode == found.ours.map_or(Mode::Off, Mode::from));
            if uplink.choice.is_none()
                && let Some(way) = found.ours
                && !matches!(uplink.plan(), Plan::Try([first, ..]) if *first == way)
            {
                bpf::detach_xdp(paths, link.index)?;
            }
            self.uplinks.push(uplink);
        }
        Ok(())
    }

    /// Whether an uplink may have XDP.
    pub(super) fn may_run(&self) -> bool {
        self.uplinks.iter().any(Uplink::may_have_xdp)
    }

    /// Attaches the programs, each in the first way that is taken.
    pub(super) fn attach(
        &mut self,
        programs: &mut Programs,
        netlink: &mut Handle,
        links: &[Link],
        problems: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        for (uplink, link) in self.uplinks.iter_mut().zip(links) {
            let choice = attach(uplink, programs, netlink, link)?;
            if choice.mode == Mode::Off && matches!(uplink.wanted, XdpMode::Native | XdpMode::Generic) {
                let name = &link.name;
                problems.push(format!("uplink {name} has no XDP and goes on at TC: {}", choice.why));
            } else if self.said.get(&link.name) != Some(&choice) {
                say(uplink, &choice);
            }
            self.said.insert(link.name.clone(), choice.clone());
            uplink.choice = Some(choice);
        }
        Ok(())
    }

    /// Indices of the devices that have XDP.
    pub(super) fn attached(&self) -> impl Iterator<Item = u32> {
        self.uplinks.iter().filter(|uplink| uplink.may_have_xdp()).map(|uplink| uplink.ifindex)
    }

    /// For the state file.
    pub(super) fn state(&self) -> Vec<XdpState> {
        let state = |uplink: &Uplink| {
            Some(XdpState {
                ifindex: uplink.ifindex,
                wanted: uplink.wanted,
                facts: uplink.facts.clone(),
                choice: uplink.choice.clone()?,
            })
        };
        self.uplinks.iter().filter_map(state).collect()
    }
}

/// Does what was chosen, or chooses by trying.
fn attach(
    uplink: &Uplink,
    programs: &mut Programs,
    netlink: &mut Handle,
    link: &Link,
) -> Result<Choice, BpfError> {
    let ways: &[Way] = match &uplink.choice {
        Some(choice) => match choice.mode {
            Mode::Native => &[Way::Native],
            Mode::Generic => &[Way::Generic],
            Mode::Off => return Ok(choice.clone()),
        },
        None => match uplink.plan() {
            Plan::Try(ways) => ways,
            Plan::Off(why) => return Ok(Choice { mode: Mode::Off, why }),
        },
    };
    if let Some(why) = programs.without_xdp() {
        bpf::detach_xdp(programs.paths(), link.index)?;
        return Ok(Choice { mode: Mode::Off, why: why.to_owned() });
    }
    let mut refusals = Vec::new();
    for way in ways {
        match programs.ensure_xdp(netlink, link, *way) {
            Ok(()) => {
                let chosen = || xdp::choice(uplink.wanted, &uplink.facts, Some(*way), &refusals);
                return Ok(uplink.choice.clone().unwrap_or_else(chosen));
            }
            Err(error) => refusals.push(bpf::refusal(*way, error)?),
        }
    }
    Ok(xdp::choice(uplink.wanted, &uplink.facts, None, &refusals))
}

/// What the choice depends on.
fn facts(
    netlink: &mut Handle,
    wanted: XdpMode,
    link: &Link,
    foreign: Option<u32>,
) -> Result<Facts, NetlinkError> {
    let device = &link.name;
    let ethtool = Ethtool::open();
    let unknown = |error: &io::Error| log::debug!("ethtool {device}: {error}");
    let driver = ethtool.as_ref().ok().and_then(|ethtool| ethtool.driver(device).inspect_err(unknown).ok());
    let features = match &ethtool {
        Ok(ethtool) if wanted != XdpMode::Off => ethtool.features(device).inspect_err(unknown).ok(),
        _ => None,
    };
    let on = |names: &[&'static str]| features.as_ref().and_then(|features| features.first_on(names));
    let large_receive = on(&xdp::LARGE_RECEIVE).filter(|_| wanted == XdpMode::Auto).map(str::to_owned);
    let untagged_vlan = match on(&[xdp::TAKES_TAGS]) {
        Some(_) => vlan_above(netlink, link)?,
        None => None,
    };
    Ok(Facts {
        device: device.clone(),
        kind: link.kind.clone(),
        driver,
        mtu: link.mtu,
        large_receive,
        untagged_vlan,
        foreign,
    })
}

/// Name of a VLAN device on top of a link: the first, so that it is the same one each time.
fn vlan_above(netlink: &mut Handle, link: &Link) -> Result<Option<String>, NetlinkError> {
    let above = netlink.links()?.into_iter().filter(|above| above.below == Some(link.index));
    Ok(above.map(|above| above.name).min())
}

/// Logs what is in force: a warning if something better was wanted, or if it does harm.
fn say(uplink: &Uplink, choice: &Choice) {
    let Uplink { wanted, facts, .. } = uplink;
    let device = &facts.device;
    match (wanted, choice.mode) {
        (XdpMode::Off, Mode::Off) => {}
        (XdpMode::Native, Mode::Generic) => log::warn!("uplink {device}: XDP {choice}"),
        (_, Mode::Native | Mode::Generic) if xdp::confuses_vlans(facts).is_some() => {
            log::warn!("uplink {device}: XDP {choice}");
        }
        _ => log::info!("uplink {device}: XDP {choice}"),
    }
}

//! From the desired state to devices, maps and programs: all of it, in an order in which packets keep being forwarded, and
//! of which every prefix can be followed by the whole again.

mod facts;
mod pods;
mod services;
mod slots;
mod sockets;
mod xdp;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::RangeInclusive,
    path::Path,
};

use anyhow::Context as _;
use common::counters::Hook;

use self::{pods::Pods, sockets::Sockets, xdp::Xdp};
pub(super) use self::{
    services::{LOOPBACK, check_ports, set_accept_local},
    slots::RememberedSlots,
};
use super::health::HealthChecks;
use crate::{
    bpf::{self, Programs, TcWay},
    conntrack::{Collector, Settings},
    desired::Desired,
    device::{self, Gateway, Netns, NetnsId, Owner},
    netlink::{Handle, Link},
    paths::NodePaths,
    state::{PeerState, PodState, SocketsState, State, TcState, WaitingPod, XdpState},
    sync::{self, Contents, Facts, Services, Slots, SyncError, Written, apply},
};

/// What keeps the node as it should be.
pub(super) struct Reconciler {
    paths: NodePaths,
    object: Cow<'static, [u8]>,
    own: NetnsId,
    netlink: Handle,
    programs: Option<Programs>,
    /// What the maps of the programs have of services.
    services: Option<Services>,
    /// How often those have changed.
    epoch: u64,
    collector: Option<Collector>,
    health: HealthChecks,
    /// How programs are attached at traffic control.
    tc: TcWay,
    xdp: Xdp,
    sockets: Sockets,
    pod_slots: Slots,
    peer_slots: Slots,
    /// First and last of the ports that connections may have from source translation, as configured now and before.
    mapped_ports: Option<RangeInclusive<u16>>,
    /// MTU that each uplink had when it was last there.
    uplink_mtus: BTreeMap<String, u32>,
}

/// How the node is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Largest packet inside the tunnel.
    pub(super) mtu: u32,
    /// The pods that are connected.
    pub(super) pods: Vec<PodState>,
    /// The pods that are not.
    pub(super) waiting: Vec<WaitingPod>,
    /// The peers.
    pub(super) peers: Vec<PeerState>,
    /// XDP on the uplinks.
    pub(super) tc: TcState,
    pub(super) xdp: Vec<XdpState>,
    /// Services for sockets.
    pub(super) sockets: SocketsState,
    /// What is not as it should be.
    pub(super) problems: Vec<String>,
}

/// See [`Reconciler::circumstances`].
pub(super) type Circumstances = Vec<Option<(u32, bool, u32)>>;

/// Devices of the node, as they were found or made.
struct Devices {
    gateway: Link,
    uplinks: Vec<Link>,
    pods: Pods,
    /// The loopback device, while the node has to come to its own node ports by it.
    loopback: Option<Link>,
    overlay_mtu: u32,
    uplink_mtu: u32,
}

impl Reconciler {
    /// For the network namespace that this thread is in.
    pub(super) fn new(paths: NodePaths, object: Option<&Path>) -> anyhow::Result<Self> {
        let object = match object {
            Some(path) => {
                fs::read(path).with_context(|| format!("read BPF object {}", path.display()))?.into()
            }
            None => Cow::Borrowed(bpf::OBJECT),
        };
        Ok(Self {
            paths,
            object,
            own: Netns::current()?.id(),
            netlink: Handle::open().context("open a netlink socket")?,
            programs: None,
            services: None,
            epoch: 0,
            collector: None,
            health: HealthChecks::new().context("eventfd")?,
            tc: TcWay::default(),
            xdp: Xdp::default(),
            sockets: Sockets::default(),
            pod_slots: Slots::default(),
            peer_slots: Slots::default(),
            mapped_ports: None,
            uplink_mtus: BTreeMap::new(),
        })
    }

    /// Inode of the node's network namespace.
    pub(super) fn netns_inode(&self) -> u64 {
        self.own.inode
    }

    /// The programs in the kernel.
    pub(super) fn programs(&mut self) -> Option<&mut Programs> {
        self.programs.as_mut()
    }

    /// First and last of the ports that connections may have from source translation.
    pub(super) const fn mapped_ports(&self) -> Option<&RangeInclusive<u16>> {
        self.mapped_ports.as_ref()
    }

    /// Takes over what a previous loader has left of XDP, and which ports it gave to connections.
    pub(super) fn remember(&mut self, state: &State) {
        self.xdp = Xdp::remembered(state);
        self.mapped_ports.clone_from(&state.mapped_ports);
    }

    /// Brings the node to `desired`. What concerns one pod or one route alone is reported and keeps nothing else from
    /// working; any other failure leaves the programs that are attached with the entries that they have.
    pub(super) fn reconcile(
        &mut self,
        desired: &Desired,
        remembered: &RememberedSlots,
    ) -> anyhow::Result<Outcome> {
        let outcome = self.bring(desired, remembered)?;
        // Whether a driver takes XDP shows when it is tried. Where none does, programs that expect it pay for nothing.
        let in_vain = self.programs.as_ref().is_some_and(Programs::expect_xdp) && !self.xdp.may_run();
        if in_vain { self.bring(desired, remembered) } else { Ok(outcome) }
    }

    fn bring(&mut self, desired: &Desired, remembered: &RememberedSlots) -> anyhow::Result<Outcome> {
        let mut problems = Vec::new();
        let devices = self.ensure_devices(desired, &mut problems)?;
        self.choose_tc(desired)?;
        if let Some(programs) = &mut self.programs {
            programs.ensure_pinned()?;
        }
        self.xdp.look(&self.paths, &mut self.netlink, desired.xdp, &devices.uplinks)?;
        self.ensure_programs(desired, &devices, remembered)?;
        let contents = self.fill_maps(desired, &devices)?;
        self.sync_services(desired, &mut problems);
        self.empty_maps(&contents)?;
        self.attach(desired, &devices, &mut problems)?;
        self.sockets.end_lost_ones(&self.paths, &desired.sockets);
        self.tidy(desired, &devices)?;
        self.look_after_connections(desired)?;
        problems.extend(self.health.set(&desired.health_checks));
        Ok(self.outcome(desired, devices, problems))
    }

    fn ensure_devices(&mut self, desired: &Desired, problems: &mut Vec<String>) -> anyhow::Result<Devices> {
        let uplinks = self.find_uplinks(desired, problems)?;
        let mtus: Vec<u32> = self.uplink_mtus.values().copied().collect();
        let overlay_mtu = desired.overlay_mtu(&mtus)?;
        let uplink_mtu = mtus.iter().copied().min().unwrap_or(overlay_mtu);
        // What may refuse `desired` comes before what changes devices.
        let loopback = self.ensure_loopback(desired)?;
        let gateway = self.ensure_gateway(desired, overlay_mtu, problems)?;
        let pods = Pods::ensure(&mut self.netlink, self.own, desired, overlay_mtu)?;
        Ok(Devices { gateway, uplinks, pods, loopback, overlay_mtu, uplink_mtu })
    }

    fn choose_tc(&mut self, desired: &Desired) -> anyhow::Result<()> {
        let way = bpf::tc_way(desired.tc)?;
        if way == TcWay::Clsact && (self.tc != way || self.programs.is_none()) {
            log::info!(
                "programs are attached as filters of the clsact qdisc: {}",
                TcState { mode: desired.tc, way }.why()
            );
        }
        self.tc = way;
        Ok(())
    }

    /// The loopback device, if it is needed.
    fn ensure_loopback(&mut self, desired: &Desired) -> anyhow::Result<Option<Link>> {
        if !services::are_called_at_node(desired) {
            return Ok(None);
        }
        let device = LOOPBACK;
        let link = self.netlink.link(device)?;
        if let Some(link) = link.as_ref().filter(|link| !link.up) {
            anyhow::bail!(
                "device {0} is down, by which the node comes to its node ports: `ip link set {0} up`",
                link.name
            );
        }
        set_accept_local(&self.paths, true)?;
        Ok(link)
    }

    /// What there is of devices that are not the loader's and on which it depends whether the node can be brought to `desired`: of
    /// each uplink, and of the loopback device, its number, whether it is up, and its MTU.
    pub(super) fn circumstances(&mut self, desired: &Desired) -> Circumstances {
        let names = desired.node.uplinks.iter().map(String::as_str).chain([LOOPBACK]);
        let circumstance = |name| {
            let link = self.netlink.link(name).ok()??;
            Some((link.index, link.up, link.mtu))
        };
        names.map(circumstance).collect()
    }

    /// The uplinks that are there. One that has gone keeps its MTU in mind, for when it is back.
    fn find_uplinks(&mut self, desired: &Desired, problems: &mut Vec<String>) -> anyhow::Result<Vec<Link>> {
        let names = &desired.node.uplinks;
        self.uplink_mtus.retain(|name, _| names.contains(name));
        let mut found = Vec::new();
        for name in names {
            match self.netlink.link(name)? {
                Some(link) => {
                    self.uplink_mtus.insert(name.clone(), link.mtu);
                    if !link.up {
                        problems.push(format!("uplink {name} is down: `ip link set {name} up`"));
                    }
                    if let Some(feature) = device::merging_datagrams(name) {
                        problems.push(format!(
                            "uplink {name} merges datagrams of tunnels ({feature} is on), of which all but the first get \
                             lost: `ethtool -K {name} {feature} off`"
                        ));
                    }
                    found.push(link);
                }
                None => problems.push(format!("uplink {name} does not exist; it is used as soon as it does")),
            }
        }
        if self.uplink_mtus.is_empty() && !names.is_empty() {
            let names = names.join(", ");
            anyhow::bail!(
                "none of the uplinks ({names}) exists in this network namespace; see node.uplink and `ip link`"
            );
        }
        Ok(found)
    }

    fn ensure_gateway(
        &mut self,
        desired: &Desired,
        mtu: u32,
        problems: &mut Vec<String>,
    ) -> anyhow::Result<Link> {
        let node = &desired.node;
        let owner = Owner { node: &node.name };
        let peers = desired.peers.iter().flat_map(|peer| &peer.pod_cidrs);
        let gateway = Gateway {
            owner,
            name: &node.gateway_device,
            mac: node.mac,
            mtu,
            addresses: node.gateways().collect(),
            destinations: node
                .pod_cidrs
                .iter()
                .chain(peers)
                .copied()
                .chain(services::destinations(desired))
                .collect(),
        };
        device::check_gateway(&mut self.netlink, &gateway)?;
        for name in device::remove_gateways(&mut self.netlink, owner, Some(&node.gateway_device))? {
            log::info!("removed gateway device {name}, which is now {}", node.gateway_device);
        }
        let (link, errors) = device::ensure_gateway(&mut self.netlink, &gateway)?;
        problems.extend(errors.iter().map(ToString::to_string));
        Ok(link)
    }

    /// Loads the programs if none are, or others than the node needs now.
    fn ensure_programs(
        &mut self,
        desired: &Desired,
        devices: &Devices,
        remembered: &RememberedSlots,
    ) -> anyhow::Result<()> {
        let mtu = self.uplink_mtus.values().copied().max().unwrap_or(0);
        let answers = facts::answer_ports(self.mapped_ports.as_ref(), &desired.masquerade.ports);
        let found =
            facts::Found { gateway: &devices.gateway, mtu, xdp: self.xdp.may_run(), answers: &answers };
        let node = facts::node(desired, &found);
        if self.programs.as_ref().is_some_and(|programs| programs.are_for(&node, &desired.capacities)) {
            return Ok(());
        }
        log::info!("loading the programs");
        let capacities = desired.capacities;
        let first = self.programs.is_none();
        let mut programs =
            bpf::load(bpf::Request { object: &self.object, node, capacities, paths: &self.paths })?;
        let maps = programs.take_service_maps();
        self.services = maps.map(Services::adopt).transpose().context("read the maps of services")?;
        if first {
            (self.pod_slots, self.peer_slots) = remembered.with_maps(&programs.tables, desired)?;
        }
        self.programs = Some(programs);
        self.mapped_ports = Some(answers);
        Ok(())
    }

    /// Writes what maps lack, and returns what they are to have.
    fn fill_maps(&mut self, desired: &Desired, devices: &Devices) -> anyhow::Result<Contents> {
        let Some(programs) = &mut self.programs else { return Ok(Contents::default()) };
        // Of copies, so that a state that can't be reached changes nobody's counters.
        let (mut pod_slots, mut peer_slots) = (self.pod_slots.clone(), self.peer_slots.clone());
        let capacities = &desired.capacities;
        let pods = desired.pods.iter().map(|pod| pod.name.as_str());
        let fresh_pods = pod_slots.assign(pods, capacities.pods).context("pods (`pods` in [maps])")?;
        let peers = desired.peers.iter().map(|peer| peer.name.as_str());
        let fresh_peers = peer_slots.assign(peers, capacities.peers).context("peers (`peers` in [maps])")?;
        let contents: Contents = sync::contents(
            desired,
            &Facts {
                pods: &devices.pods.facts(),
                pod_slots: &pod_slots,
                peer_slots: &peer_slots,
                overlay_mtu: devices.overlay_mtu,
                uplink_mtu: devices.uplink_mtu,
            },
        );
        sync::check_room(&programs.tables, &contents)?;

        (self.pod_slots, self.peer_slots) = (pod_slots, peer_slots);
        fresh_pods.into_iter().try_for_each(|slot| programs.reset_pod(slot))?;
        fresh_peers.into_iter().try_for_each(|slot| programs.reset_peer(slot))?;
        let written = apply::add(&mut programs.tables, &contents);
        settle(programs, written)?;
        Ok(contents)
    }

    /// Removes from maps what they are not to have, now that no service chooses it any more.
    fn empty_maps(&mut self, contents: &Contents) -> anyhow::Result<()> {
        let Some(programs) = &mut self.programs else { return Ok(()) };
        let written = apply::remove(&mut programs.tables, contents);
        settle(programs, written)
    }

    fn sync_services(&mut self, desired: &Desired, problems: &mut Vec<String>) {
        let Some(services) = &mut self.services else { return };
        let first = services.is_new();
        let synced = services.sync(services::wanted(desired));
        self.sockets.backends_have_gone(first || synced.gone > 0);
        if let Some(programs) = &self.programs
            && (first || synced.changed > 0 || synced.gone > 0)
        {
            programs.expire_flows();
        }
        if synced.changed > 0 || first {
            self.epoch += 1;
            if synced.changed > 0 {
                log::info!("services: {} of {} ports written", synced.changed, services.len());
            }
            if let Err(error) = services::state(services).write(&self.paths.services()) {
                problems.push(error.to_string());
            }
        }
        problems.extend(synced.problems);
    }

    /// Sees to it that connections are forgotten, and with the last ones their bits of the interest filter.
    fn look_after_connections(&mut self, desired: &Desired) -> anyhow::Result<()> {
        if !facts::has_services(desired) && !desired.masquerade.enabled {
            self.collector = None;
            return Ok(());
        }
        let Some(services) = &mut self.services else { return Ok(()) };
        if let Some(collector) = &self.collector {
            services.clear_bits(collector.take_unneeded(self.epoch));
        }
        let settings = Settings {
            timeouts: desired.timeouts,
            underlays: desired.node.underlays().collect(),
            lingering: services.lingering_bits().clone(),
            epoch: self.epoch,
        };
        if let Some(collector) = &self.collector {
            collector.set(settings);
        } else {
            let collector = Collector::start(&self.paths, settings);
            self.collector = Some(collector.context("start the thread that forgets connections")?);
        }
        Ok(())
    }

    /// Attaches the programs and, once they are, sets the pods' devices up.
    fn attach(
        &mut self,
        desired: &Desired,
        devices: &Devices,
        problems: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let Some(programs) = &mut self.programs else { return Ok(()) };
        programs.catch_up()?;
        for (hook, device) in devices.hooks() {
            match programs.ensure_attached(&mut self.netlink, hook, device, self.tc) {
                Ok(()) => {}
                // Not a failure of ours; there will be news of it.
                Err(error) if self.netlink.link_by_index(device.index)?.is_none() => {
                    problems.push(format!("{} vanished while it was being set up ({error})", device.name));
                }
                Err(error) => return Err(error.into()),
            }
        }
        // TC does what XDP leaves to it, so it is there first.
        self.xdp.attach(programs, &mut self.netlink, &devices.uplinks, problems)?;
        self.sockets.attach(programs, desired, &devices.pods, problems)?;
        programs.commit()?;
        devices.pods.start(&mut self.netlink, desired, problems);
        Ok(())
    }

    /// Removes what is not wanted any more; the maps don't mention it since they were filled.
    fn tidy(&mut self, desired: &Desired, devices: &Devices) -> anyhow::Result<()> {
        let at_tc: BTreeSet<_> = devices.hooks().map(|(hook, device)| (hook.name(), device.index)).collect();
        let at_xdp = self.xdp.attached().map(|ifindex| (Hook::UplinkXdp.name(), ifindex));
        let on_cgroup = self.sockets.links();
        let (links, filters) = match self.tc {
            TcWay::Tcx => (at_tc, BTreeSet::new()),
            TcWay::Clsact => (BTreeSet::new(), at_tc),
        };
        let links = links.into_iter().chain(at_xdp).chain(on_cgroup).collect();
        bpf::prune_links(&self.paths, &links)?;
        bpf::prune_filters(&mut self.netlink, &self.paths, &filters)?;
        if devices.loopback.is_none() {
            set_accept_local(&self.paths, false)?;
        }
        let owner = Owner { node: &desired.node.name };
        for name in device::remove_strangers(&mut self.netlink, owner, &devices.pods.names())? {
            log::info!("removed device {name} of a pod that is gone");
        }
        Ok(())
    }

    fn outcome(&self, desired: &Desired, devices: Devices, mut problems: Vec<String>) -> Outcome {
        let peers = desired.peers.iter().map(|peer| PeerState {
            name: peer.name.clone(),
            slot: self.peer_slots.get(&peer.name),
            underlay: peer.underlay,
            vtep_mac: peer.vtep_mac,
            pod_cidrs: peer.pod_cidrs.clone(),
            direct: peer.direct,
        });
        let (pods, waiting, errors) = devices.pods.into_state(desired, &self.pod_slots);
        problems.extend(errors);
        let tc = TcState { mode: desired.tc, way: self.tc };
        let (mtu, xdp, sockets) = (devices.overlay_mtu, self.xdp.state(), self.sockets.state());
        Outcome { mtu, pods, waiting, peers: peers.collect(), tc, xdp, sockets, problems }
    }
}

/// What follows once maps have been written, or part of them.
fn settle(programs: &Programs, written: Result<Written, SyncError>) -> anyhow::Result<()> {
    if !matches!(&written, Ok(written) if *written == Written::default()) {
        programs.expire_flows();
    }
    let written = written?;
    if written != Written::default() {
        log::info!("maps: {} entries written, {} removed", written.inserted, written.removed);
    }
    Ok(())
}

impl Devices {
    /// Which program belongs on which device at TC.
    fn hooks(&self) -> impl Iterator<Item = (Hook, &Link)> {
        let gateway = std::iter::once((Hook::FromHost, &self.gateway));
        let uplinks = self.uplinks.iter().map(|link| (Hook::FromUplink, link));
        let pods = self.pods.links().flat_map(|link| [(Hook::FromPod, link), (Hook::ToPod, link)]);
        let loopback = self.loopback.iter().map(|link| (Hook::FromHost, link));
        gateway.chain(uplinks).chain(pods).chain(loopback)
    }
}

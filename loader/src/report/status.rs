//! `loader status`: what the node is, what is attached where, and how full the maps are.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::Serialize;

use super::{
    grid::{
        Column::{Number, Text},
        Grid, count, facts, list,
    },
    time::{ago, utc},
};
use crate::{
    state::{PassState, Reload, SocketsState, TcState},
    xdp::Choice,
};

/// A node, as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    /// Name of the node.
    pub node: String,
    /// When this was gathered, in seconds since 1970.
    pub time: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// The loader.
    pub loader: LoaderStatus,
    /// What the node was last brought to; `None` if no loader has left a state.
    pub facts: Option<NodeFacts>,
    /// What is not as it should be.
    pub problems: Vec<String>,
    /// How many service ports are in the maps.
    pub services: usize,
    /// Passes over the tables of connections, by name of the map; none without services and masquerading.
    pub collector: BTreeMap<String, PassState>,
    /// Programs and where they are attached.
    pub attached: Vec<Attached>,
    /// Maps and how full they are.
    pub maps: Vec<MapUse>,
    /// What is pinned.
    pub pins: Pins,
    /// How the last reload of the configuration went; none yet if absent.
    pub last_reload: Option<Reload>,
}

/// The loader of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoaderStatus {
    /// Whether one is running. If none is, the programs forward all the same.
    pub running: bool,
    /// Its process, or that of the last one.
    pub pid: Option<u32>,
    /// Its version.
    pub version: Option<String>,
    /// When it started, in seconds since 1970.
    pub started: Option<u64>,
}

/// What the node was last brought to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeFacts {
    /// MAC of the VTEP.
    pub mac: String,
    /// Underlay addresses.
    pub underlay: Vec<IpAddr>,
    /// Names of the uplinks.
    pub uplinks: Vec<String>,
    /// How programs are attached at traffic control.
    pub tc: TcState,
    /// XDP on those that are there.
    pub xdp: Vec<XdpStatus>,
    /// Services for sockets.
    pub sockets: SocketsState,
    /// Name of the gateway device.
    pub gateway_device: String,
    /// The pods' gateways.
    pub gateways: Vec<IpAddr>,
    /// VXLAN network identifier.
    pub vni: u32,
    /// VXLAN's UDP port.
    pub port: u16,
    /// MTU of the overlay.
    pub mtu: u32,
    /// Inode of the node's network namespace.
    pub netns: u64,
    /// Whether that is the one that this was gathered in.
    pub netns_is_ours: bool,
    /// How many pods are connected.
    pub pods: usize,
    /// How many pods are configured but not connected.
    pub waiting: usize,
    /// How many peers there are.
    pub peers: usize,
}

/// XDP on an uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct XdpStatus {
    /// Name of the uplink.
    pub device: String,
    /// Name of its driver, where it tells.
    pub driver: Option<String>,
    /// What is in force, and why.
    #[serde(flatten)]
    pub choice: Choice,
}

/// A program on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attached {
    /// Name of the program.
    pub program: String,
    /// Name of the device, or path of the cgroup; `None` if it can't be told from here.
    pub device: Option<String>,
    /// Interface index of the device; 0 for a cgroup.
    pub ifindex: u32,
    /// Number of the link; a filter of the `clsact` qdisc has none.
    pub link_id: Option<u32>,
    /// Number of the program.
    pub program_id: u32,
}

/// A map and how full it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapUse {
    /// Name of the map.
    pub name: String,
    /// Number of the map.
    pub id: u32,
    /// Type of the map, as `bpftool` calls it.
    pub kind: String,
    /// How many entries it has; an array has all of them, so none are counted.
    pub entries: Option<u32>,
    /// How many it can have.
    pub capacity: u32,
}

/// What is pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pins {
    /// Where.
    pub directory: PathBuf,
    /// How many maps.
    pub maps: usize,
    /// How many programs.
    pub programs: usize,
    /// How many links.
    pub links: usize,
}

impl StatusReport {
    /// As tables.
    #[must_use]
    pub fn table(&self) -> String {
        let problems = self.problems.iter().map(|problem| ("problem", problem.clone()));
        let mut text = facts(self.lines().into_iter().chain(problems));
        text += "\n";
        text += &self.attached();
        text += "\n";
        text += &self.maps();
        text
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("node", self.node.clone()), ("loader", self.loader())];
        if let Some(NodeFacts {
            mac,
            underlay,
            uplinks,
            tc,
            xdp,
            sockets,
            gateway_device,
            gateways,
            vni,
            port,
            mtu,
            ..
        }) = &self.facts
        {
            lines.extend([
                ("underlay", format!("{} on {}", list(underlay), list(uplinks))),
                ("vtep mac", mac.clone()),
                ("overlay", format!("vxlan vni {vni} port {port}")),
                ("mtu", mtu.to_string()),
                ("gateway", format!("{} on {gateway_device}", list(gateways))),
            ]);
            lines.push(("tc", tc.to_string()));
            lines.extend(
                xdp.iter().map(|XdpStatus { device, choice, .. }| ("xdp", format!("{device} {choice}"))),
            );
            lines.push(("sockets", sockets.to_string()));
        }
        if let Some(NodeFacts { netns, netns_is_ours, pods, waiting, peers, .. }) = self.facts {
            let whose = if netns_is_ours { "this one" } else { "not this one" };
            lines.push(("netns", format!("{netns} ({whose})")));
            let waiting = if waiting == 0 { String::new() } else { format!(", {waiting} not connected") };
            lines.push(("pods", format!("{pods}{waiting}")));
            lines.push(("peers", peers.to_string()));
            lines.push(("services", count(self.services, "port")));
        }
        lines.extend(
            self.collector.iter().map(|(map, pass)| ("connections", connections(map, pass, self.time))),
        );
        let Pins { directory, maps, programs, links } = &self.pins;
        let pins = [count(*maps, "map"), count(*programs, "program"), count(*links, "link")].join(", ");
        lines.extend([
            ("pins", format!("{} ({pins})", directory.display())),
            ("kernel", self.kernel.clone()),
            ("last reload", self.reload()),
        ]);
        lines
    }

    fn loader(&self) -> String {
        let LoaderStatus { running, pid, version, started } = &self.loader;
        let pid = pid.map_or_else(|| "unknown pid".to_owned(), |pid| format!("pid {pid}"));
        let version = version.as_ref().map(|version| format!(", version {version}")).unwrap_or_default();
        match (running, started) {
            (true, Some(started)) => format!("running, {pid}{version}, for {}", ago(*started, self.time)),
            (true, None) => format!("running, {pid}{version}"),
            (false, _) if !self.attached.is_empty() => {
                format!("not running; the programs go on without (last: {pid}{version})")
            }
            (false, _) => "not running".to_owned(),
        }
    }

    fn reload(&self) -> String {
        match &self.last_reload {
            None => "none yet".to_owned(),
            Some(Reload { time, ok: true, .. }) => {
                format!("done, {} ({} ago)", utc(*time), ago(*time, self.time))
            }
            Some(Reload { time, error, .. }) => {
                let error = error.as_deref().unwrap_or("unknown error");
                format!("refused, {} ({} ago): {error}", utc(*time), ago(*time, self.time))
            }
        }
    }

    fn attached(&self) -> String {
        if self.attached.is_empty() {
            return "no program is attached\n".to_owned();
        }
        let mut grid = Grid::new(&[
            Text("DEVICE"),
            Number("IFINDEX"),
            Text("PROGRAM"),
            Number("PROG ID"),
            Number("LINK ID"),
        ]);
        for Attached { program, device, ifindex, link_id, program_id } in &self.attached {
            let device = device.as_deref().unwrap_or("?");
            let link_id = link_id.map_or_else(|| "-".to_owned(), |link_id| link_id.to_string());
            grid.row([device, &ifindex.to_string(), program, &program_id.to_string(), &link_id]);
        }
        grid.show()
    }

    fn maps(&self) -> String {
        if self.maps.is_empty() {
            return "no map is pinned\n".to_owned();
        }
        let mut grid = Grid::new(&[
            Text("MAP"),
            Number("ID"),
            Text("TYPE"),
            Number("ENTRIES"),
            Number("CAPACITY"),
            Number("FULL"),
        ]);
        for MapUse { name, id, kind, entries, capacity } in &self.maps {
            let number = entries.map_or_else(|| "-".to_owned(), |entries| entries.to_string());
            let full = entries.map_or_else(
                || "-".to_owned(),
                |entries| format!("{}%", u64::from(entries) * 100 / u64::from(*capacity).max(1)),
            );
            grid.row([name.as_str(), &id.to_string(), kind, &number, &capacity.to_string(), &full]);
        }
        grid.show()
    }
}

/// What the last pass over a table came to.
fn connections(map: &str, pass: &PassState, now: u64) -> String {
    let PassState { time, microseconds, entries, capacity, removed, removed_ever, .. } = pass;
    let percent = entries * 100 / (*capacity).max(1);
    let (whole, tenths) = (microseconds / 1000, microseconds / 100 % 10);
    format!(
        "{map}: {entries} of {capacity} entries ({percent}%), looked through {} ago in {whole}.{tenths} ms; {removed} removed, \
         {removed_ever} in all",
        ago(*time, now)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bpf::TcWay,
        desired::{SocketMode, TcMode},
        xdp::Mode,
    };

    fn report() -> StatusReport {
        StatusReport {
            node: "worker-0".to_owned(),
            time: 1_800_000_100,
            kernel: "6.18.0".to_owned(),
            loader: LoaderStatus {
                running: true,
                pid: Some(4711),
                version: Some("0.1.0".to_owned()),
                started: Some(1_800_000_000),
            },
            facts: Some(NodeFacts {
                mac: "0a:00:0a:f0:00:14".to_owned(),
                underlay: vec!["10.240.0.20".parse().unwrap()],
                uplinks: vec!["eth0".to_owned()],
                xdp: vec![XdpStatus {
                    device: "eth0".to_owned(),
                    driver: Some("ixgbe".to_owned()),
                    choice: Choice { mode: Mode::Native, why: "driver ixgbe takes it".to_owned() },
                }],
                tc: TcState { mode: TcMode::Auto, way: TcWay::Clsact },
                sockets: SocketsState {
                    mode: SocketMode::On,
                    cgroup: "/sys/fs/cgroup".into(),
                    attached: true,
                    error: None,
                },
                gateway_device: "podlane0".to_owned(),
                gateways: vec!["10.200.0.1".parse().unwrap()],
                vni: 1,
                port: 8472,
                mtu: 1450,
                netns: 4_026_531_840,
                netns_is_ours: false,
                pods: 2,
                waiting: 1,
                peers: 3,
            }),
            problems: vec!["uplink eth1 is gone".to_owned()],
            services: 12,
            collector: BTreeMap::from([(
                "conntrack4".to_owned(),
                PassState {
                    time: 1_800_000_097,
                    microseconds: 1250,
                    entries: 500,
                    capacity: 1000,
                    removed: 7,
                    removed_ever: 70,
                    passes: 9,
                },
            )]),
            attached: vec![Attached {
                program: "from_uplink".to_owned(),
                device: Some("eth0".to_owned()),
                ifindex: 2,
                link_id: Some(11),
                program_id: 42,
            }],
            maps: vec![
                MapUse {
                    name: "pods4".to_owned(),
                    id: 9,
                    kind: "hash".to_owned(),
                    entries: Some(512),
                    capacity: 1024,
                },
                MapUse {
                    name: "counters".to_owned(),
                    id: 8,
                    kind: "percpu_array".to_owned(),
                    entries: None,
                    capacity: 4,
                },
            ],
            pins: Pins { directory: "/sys/fs/bpf/podlane/worker-0".into(), maps: 13, programs: 4, links: 1 },
            last_reload: None,
        }
    }

    #[test]
    fn a_running_node() {
        assert_eq!(
            report().table(),
            "node          worker-0\n\
             loader        running, pid 4711, version 0.1.0, for 1m40s\n\
             underlay      10.240.0.20 on eth0\n\
             vtep mac      0a:00:0a:f0:00:14\n\
             overlay       vxlan vni 1 port 8472\n\
             mtu           1450\n\
             gateway       10.200.0.1 on podlane0\n\
             tc            clsact: this kernel has no TCX, which came with Linux 6.6\n\
             xdp           eth0 native: driver ixgbe takes it\n\
             sockets       on: attached to /sys/fs/cgroup\n\
             netns         4026531840 (not this one)\n\
             pods          2, 1 not connected\n\
             peers         3\n\
             services      12 ports\n\
             connections   conntrack4: 500 of 1000 entries (50%), looked through 3s ago in 1.2 ms; 7 removed, 70 in all\n\
             pins          /sys/fs/bpf/podlane/worker-0 (13 maps, 4 programs, 1 link)\n\
             kernel        6.18.0\n\
             last reload   none yet\n\
             problem       uplink eth1 is gone\n\
             \n\
             DEVICE   IFINDEX   PROGRAM       PROG ID   LINK ID\n\
             eth0           2   from_uplink        42        11\n\
             \n\
             MAP        ID   TYPE           ENTRIES   CAPACITY   FULL\n\
             pods4       9   hash               512       1024    50%\n\
             counters    8   percpu_array         -          4      -\n"
        );
    }

    #[test]
    fn loaders_that_are_gone() {
        let mut report = report();
        report.loader.running = false;
        assert!(
            report
                .table()
                .contains("not running; the programs go on without (last: pid 4711, version 0.1.0)")
        );
        report.pins.links = 0;
        report.attached.clear();
        report.maps.clear();
        let table = report.table();
        assert!(table.contains("loader        not running\n"));
        assert!(table.ends_with("\nno program is attached\n\nno map is pinned\n"));
    }

    #[test]
    fn sockets() {
        let mut sockets = SocketsState { cgroup: "/a".into(), ..SocketsState::default() };
        assert_eq!(sockets.to_string(), "off: services are translated packet by packet");
        sockets.mode = SocketMode::Tcp;
        sockets.error = Some("open /a: no cgroup of version 2".to_owned());
        assert_eq!(sockets.to_string(), "tcp, but not attached: open /a: no cgroup of version 2");
        sockets.attached = true;
        assert_eq!(sockets.to_string(), "tcp: attached to /a");
    }

    #[test]
    fn reloads() {
        let mut report = report();
        report.last_reload = Some(Reload { time: 1_800_000_040, ok: true, error: None });
        assert!(report.table().contains("last reload   done, 2027-01-15 08:00:40 UTC (1m00s ago)"));
        report.last_reload =
            Some(Reload { time: 1_800_000_040, ok: false, error: Some("bad file".to_owned()) });
        assert!(report.table().contains("refused, 2027-01-15 08:00:40 UTC (1m00s ago): bad file"));
    }
}

//! A node with a service of many ports, and its connection table.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    ops::RangeInclusive,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData, MapError};
use common::maps::{Connection, Tuple, connection::TICK_NS, name};

use crate::{
    address::Mac,
    bench::topology::{self, Underlay},
    config,
    counters::{self, Counters},
    frame::Ip,
    netns::Netns,
    pod::{DEVICE, Pod},
    podlane_node::PodlaneNode,
    spec::{Family, Route},
    traffic::tcp,
};

/// Ports of the service, times source ports: a few more than a million. The backend's ports are the same.
pub(super) const PORTS: RangeInclusive<u16> = 9001..=9020;
/// Source ports.
pub(super) const SOURCE_PORTS: RangeInclusive<u16> = 10_000..=65_000;
/// Entries of the connection that stands through all of it.
pub(super) const ESTABLISHED: usize = 2;
/// The port of that connection.
const KEPT_PORT: u16 = 9000;
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 32, 255, 1);

/// Two nodes; only the first has something to do.
pub(super) struct Cluster {
    nodes: [PodlaneNode; 2],
    /// A connection through the service: the client's end and the backend's.
    pub(super) established: (TcpStream, TcpStream),
    /// Takes what arrives, so that nobody answers it with an ICMP error.
    _receivers: Vec<UdpSocket>,
}

impl Cluster {
    pub(super) fn build(capacity: u32, timeout: u32) -> Result<Self> {
        let underlay = Underlay::new("churn", Family::V4)?;
        let mut nodes = topology::podlane_stopped(underlay, &["eth0"], Route::Overlay)?;
        let [node, _] = &mut nodes;
        let address = IpAddr::from(backend(node)?.v4()?);
        node.config.maps.insert("conntrack".to_owned(), capacity);
        for kind in ["tcp-syn", "tcp-closing", "udp"] {
            node.config.conntrack.timeout.insert(kind.to_owned(), timeout);
        }
        node.config.services.push(service(address));
        nodes.iter_mut().try_for_each(PodlaneNode::start)?;
        // The loader gives pods their addresses.
        let backend = backend(&nodes[0])?;
        let receivers = backend.netns.enter(|| {
            let bind = |port| UdpSocket::bind((address, port)).context("bind a backend's port");
            PORTS.map(bind).collect::<Result<Vec<_>>>()
        })?;
        let listener = backend
            .netns
            .enter(|| TcpListener::bind((address, KEPT_PORT)).context("listen on a backend's port"))?;
        let client = &client(&nodes[0])?.netns;
        let near = tcp::connect(client, (SERVICE, KEPT_PORT).into())?;
        let (far, _) = listener.accept().context("accept a connection through the service")?;
        Ok(Self { nodes, established: (near, far), _receivers: receivers })
    }

    /// Where frames are sent from.
    pub(super) fn client(&self) -> Result<&Netns> {
        client(self.node()).map(|pod| &pod.netns)
    }

    /// MAC addresses of the client and of its gateway.
    pub(super) fn macs(&self) -> Result<(Mac, Mac)> {
        Ok((self.client()?.mac(DEVICE)?, self.node().mac()))
    }

    /// From the client to the service.
    pub(super) fn ip(&self) -> Result<Ip> {
        Ok(Ip::new(client(self.node())?.v4()?.into(), SERVICE.into()))
    }

    pub(super) fn counters(&self) -> Result<Counters> {
        self.node().counters()
    }

    /// Entries of the connection table; not counted further than asked.
    pub(super) fn entries(&self, most: usize) -> Result<usize> {
        let path: PathBuf = counters::map_path(&self.node().pins(), name::CONNTRACK4)?;
        let map = MapData::from_pin(&path).with_context(|| format!("open {}", path.display()))?;
        let map: HashMap<_, Tuple<[u8; 4]>, Connection<[u8; 4]>> =
            Map::HashMap(map).try_into().context("the `conntrack4` map")?;
        let count = map.keys().take(most).try_fold(0, |count, key| key.map(|_| count + 1));
        count.map_err(|error: MapError| error).context("walk the `conntrack4` map")
    }

    const fn node(&self) -> &PodlaneNode {
        &self.nodes[0]
    }
}

/// What a timeout of so many seconds comes to: the programs count in ticks, and the last one has to be over.
#[expect(clippy::cast_precision_loss, reason = "a tick is a second and a bit")]
pub(super) fn timeout(seconds: u32) -> f64 {
    f64::from(seconds) * (TICK_NS as f64 / 1e9)
}

fn client(node: &PodlaneNode) -> Result<&Pod> {
    node.pods.first().context("a node without pods")
}

fn backend(node: &PodlaneNode) -> Result<&Pod> {
    node.pods.get(1).context("a node without a second pod")
}

/// Each port leads to the same one of the backend: two connections never become one.
fn service(backend: IpAddr) -> config::Service {
    let ports = PORTS.chain([KEPT_PORT]).flat_map(|port| {
        [config::Protocol::Tcp, config::Protocol::Udp].map(|protocol| {
            config::ServicePort::new(protocol, port)
                .named(&format!("{protocol:?}-{port}").to_lowercase())
                .backends([backend], port)
        })
    });
    ports.fold(config::Service::new("bench/churn", &[SERVICE.into()]), config::Service::with)
}

//! Who takes new connections: Kubernetes' rules for endpoints and traffic policies.
//!
//! Of those that a policy lets a client have, the ready ones; where none is ready, those that still serve while they
//! terminate. Where there is none, the client is told, unless policy Local has hidden one on another node: then it isn't.

use std::net::IpAddr;

use ipnet::IpNet;

use super::services::{Candidates, Endpoint, Exposure, Kind, Placement, State};

/// The traffic policies of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// The internal one is Local: clients get endpoints of their own node at cluster addresses.
    pub internal_local: bool,
    /// The external one is Local: clients from outside get endpoints of the node that they call.
    pub external_local: bool,
    /// Callers from outside are handed on to another node's endpoints, which answer them directly.
    pub dsr: bool,
}

impl Endpoint {
    /// Whether it is on this node.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.placement, Placement::Local | Placement::Host)
    }
}

/// Who takes the connections of clients that get endpoints of this node only, if `local`.
#[must_use]
pub fn candidates(endpoints: &[Endpoint], local: bool) -> Candidates {
    let found = usable(endpoints, local);
    if !found.is_empty() {
        return Candidates::Endpoints(found);
    }
    if local && !usable(endpoints, false).is_empty() { Candidates::Drop } else { Candidates::Reject }
}

fn usable(endpoints: &[Endpoint], local: bool) -> Vec<usize> {
    let in_state = |state: State| -> Vec<usize> {
        let takes = |it: &Endpoint| it.state == state && it.weight > 0 && (!local || it.is_local());
        endpoints.iter().enumerate().filter(|(_, it)| takes(it)).map(|(index, _)| index).collect()
    };
    let ready = in_state(State::Ready);
    if ready.is_empty() { in_state(State::ServingTerminating) } else { ready }
}

impl Exposure {
    /// The frontends of one kind, with who answers there.
    ///
    /// The internal policy is about cluster addresses, the external one about all others and clients outside: pods and the
    /// node itself would reach the service at its cluster address anyway.
    #[must_use]
    pub fn new(
        kind: Kind,
        frontends: Vec<(IpAddr, u16)>,
        endpoints: &[Endpoint],
        policies: Policies,
        source_ranges: Vec<IpNet>,
    ) -> Self {
        let Policies { internal_local, external_local, dsr } = policies;
        let (inside_local, outside_local) = match kind {
            Kind::ClusterIp => (internal_local, internal_local),
            Kind::ExternalIp | Kind::LoadBalancer | Kind::NodePort => (false, external_local),
            Kind::HostPort => (false, false),
            Kind::HandedOn => (false, true),
        };
        let from_outside = matches!(kind, Kind::ExternalIp | Kind::LoadBalancer | Kind::NodePort);
        Self {
            kind,
            frontends,
            inside: candidates(endpoints, inside_local),
            outside: candidates(endpoints, outside_local),
            source_ranges,
            inside_local,
            outside_local,
            dsr: dsr && from_outside,
        }
    }
}

/// How many endpoints a load balancer is to be told of: the addresses on this node that are ready, of one family.
pub fn healthy(endpoints: &[Endpoint]) -> impl Iterator<Item = IpAddr> {
    let healthy = |it: &&Endpoint| it.state == State::Ready && it.weight > 0 && it.is_local();
    endpoints.iter().filter(healthy).map(|it| it.address)
}

#[cfg(test)]
mod tests;

//! What must hold of backends: where they are, and whether anybody calls them.

use std::net::IpAddr;

use super::{
    check::{Context, sctp},
    file::{Backend, Port, Service},
};
use crate::{
    config::{
        check::misplaced,
        diagnostic::{At, Place},
        suggest::nearest,
        unique::unique,
    },
    desired::services::{Family, Placement, Protocol},
};

impl Context<'_> {
    /// Checks the backends of a port, which is called in these families.
    pub(super) fn backends(&self, port: &Port, families: &[Family], service: &Service) {
        let own = port.number.as_ref().map(|port| port.value);
        let known: Vec<_> = port.backends.iter().filter_map(|it| endpoint(it, own)).collect();
        unique(self.errors, "address and port", known.iter(), |endpoint| *endpoint);
        for backend in &port.backends {
            self.backend(backend, port, families, service);
        }
    }

    fn backend(&self, backend: &Backend, port: &Port, families: &[Family], service: &Service) {
        let errors = self.errors;
        if let (Protocol::Sctp, Some(own), Some(given)) = (port.protocol, &port.number, &backend.port)
            && own.value != given.value
        {
            errors.wrong(&given.place, sctp(own.value));
        }
        if let Some(node) = &backend.node
            && self.complete
            && !self.nodes.contains(node.value.as_str())
        {
            let meant = nearest(&node.value, self.nodes.iter().copied());
            let meant = meant.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
            errors.wrong(&node.place, format!("\"{}\" is neither this node nor a peer{meant}", node.value));
        }
        let Some(At { value: address, place }) = &backend.address else { return };
        let complete = service.lists().iter().all(|list| list.complete);
        if complete && !families.contains(&Family::of(*address)) {
            let name = Family::of(*address).name();
            errors.wrong(place, format!("{address} is never called: the service has no {name} address"));
        }
        if self.complete {
            self.placed(*address, place, backend.node.as_ref());
        }
    }

    /// Where a backend is.
    fn placed(&self, address: IpAddr, place: &Place, given: Option<&At<String>>) {
        let errors = self.errors;
        let (placement, node) = self.cluster.place(address);
        if self.cluster_ips.contains(&address) {
            errors.wrong(
                place,
                format!("{address} is the address of a service; give those that answer for it"),
            );
        } else if let Some(cidr) = self.file.service_cidr_of(address) {
            let cidr = errors.refer(&cidr.place);
            errors.wrong(place, format!("{address} is in {cidr}, which has addresses of services"));
        } else if let (Placement::Local, Some(own)) = (placement, &self.file.node) {
            if let Some(message) = misplaced(errors, address, own) {
                errors.wrong(place, message);
            }
        } else if placement == Placement::External {
            let known = given.filter(|given| self.nodes.contains(given.value.as_str()));
            if let Some(given) = known {
                let message = format!("{address} is neither a pod's address of {}, nor its own", given.value);
                errors.wrong(place, message);
            } else if given.is_none() {
                let message = format!(
                    "{address} is in no pod CIDR and no node's address: reached as outside of the cluster, from this \
                     node's address"
                );
                errors.odd(place, message);
            }
        }
        if let (Some(node), Some(given)) = (node, given)
            && node != given.value
            && self.nodes.contains(given.value.as_str())
        {
            errors.wrong(&given.place, format!("{address} is an address of {node}, not of {}", given.value));
        }
    }
}

fn endpoint(backend: &Backend, own: Option<u16>) -> Option<At<(IpAddr, u16)>> {
    let address = backend.address.as_ref()?;
    let port = backend.port.as_ref().map(|port| port.value).or(own)?;
    Some(At { value: (address.value, port), place: address.place.clone() })
}

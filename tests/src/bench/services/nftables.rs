//! The table that kube-proxy keeps in its nftables mode: two maps lead from address, protocol and port to a chain per
//! service, and from there a map over a random number to one per endpoint.

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
};

use super::plan::{PORT, Protocol, Service};

/// Chains and hooks that are the same whatever services there are. The `*-check` chains look into maps that are empty as
/// long as every service has an endpoint and none has source ranges.
const BASE: &str = "\
    set cluster-ips { type ipv4_addr; }
    map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
    map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
    map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }

    chain mark-for-masquerade { meta mark set meta mark | 0x4000; }
    chain masquerading {
        meta mark & 0x4000 == 0 return
        meta mark set meta mark ^ 0x4000
        masquerade fully-random
    }
    chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
    chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
    chain nodeport-endpoints-check { ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }
    chain cluster-ips-check { ip daddr @cluster-ips drop; }
    chain services {
        ip daddr . meta l4proto . th dport vmap @service-ips
        ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
    }

    chain filter-prerouting {
        type filter hook prerouting priority -110; policy accept;
        ct state new jump firewall-check
    }
    chain filter-input {
        type filter hook input priority -110; policy accept;
        ct state new jump nodeport-endpoints-check
        ct state new jump service-endpoints-check
    }
    chain filter-forward {
        type filter hook forward priority -110; policy accept;
        ct state new jump service-endpoints-check
        ct state new jump cluster-ips-check
    }
    chain filter-output {
        type filter hook output priority -110; policy accept;
        ct state new jump service-endpoints-check
        ct state new jump firewall-check
    }
    chain filter-output-post-dnat {
        type filter hook output priority -90; policy accept;
        ct state new jump cluster-ips-check
    }
    chain nat-prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        jump services
    }
    chain nat-output {
        type nat hook output priority -100; policy accept;
        jump services
    }
    chain nat-postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        jump masquerading
    }
";

/// What `nft -f` reads. `pods` is the range of all pods' addresses, `node` an address that has node ports.
pub fn render(services: &[Service], pods: &str, node: IpAddr) -> Result<String, fmt::Error> {
    let ports = || {
        services.iter().flat_map(|service| service.protocols.iter().map(move |protocol| (service, *protocol)))
    };
    let mut text = String::from("table ip kube-proxy {\n");
    writeln!(text, "    set nodeport-ips {{ type ipv4_addr; elements = {{ {node} }}; }}")?;
    for (service, protocol) in ports() {
        service_chains(&mut text, service, protocol, pods)?;
    }
    let cluster = ports().map(|(service, protocol)| {
        let Service { cluster_ip, .. } = service;
        let (name, chain) = (protocol.name(), chain(service, protocol));
        format!("{cluster_ip} . {name} . {PORT} : goto {chain}")
    });
    let nodes = ports().filter_map(|(service, protocol)| {
        let (port, name, chain) = (service.node_port?, protocol.name(), chain(service, protocol));
        Some(format!("{name} . {port} : goto external-{chain}"))
    });
    map(&mut text, "service-ips", "ipv4_addr . inet_proto . inet_service", cluster)?;
    map(&mut text, "service-nodeports", "inet_proto . inet_service", nodes)?;
    text.push_str(BASE);
    text.push_str("}\n");
    let addresses: Vec<String> = services.iter().map(|service| service.cluster_ip.to_string()).collect();
    writeln!(text, "add element ip kube-proxy cluster-ips {{ {} }}", addresses.join(", "))?;
    Ok(text)
}

fn map(text: &mut String, name: &str, key: &str, elements: impl Iterator<Item = String>) -> fmt::Result {
    let elements: Vec<String> = elements.collect();
    writeln!(text, "    map {name} {{ type {key} : verdict; elements = {{ {} }}; }}", elements.join(", "))
}

/// Of a service under one protocol. The name says whose it is, as kube-proxy's do.
fn chain(service: &Service, protocol: Protocol) -> String {
    format!("service-{}/{}/{PORT}", service.name, protocol.name())
}

fn service_chains(text: &mut String, service: &Service, protocol: Protocol, pods: &str) -> fmt::Result {
    let Service { cluster_ip, node_port, backends, .. } = service;
    let (chain, protocol_name) = (chain(service, protocol), protocol.name());
    let mut choices = Vec::new();
    for (index, backend) in backends.iter().enumerate() {
        let (address, port) = (backend.ip(), backend.port());
        let endpoint = format!("endpoint-{chain}__{address}/{port}");
        writeln!(
            text,
            "    chain {endpoint} {{ ip saddr {address} jump mark-for-masquerade; \
             meta l4proto {protocol_name} dnat to {backend}; }}"
        )?;
        choices.push(format!("{index} : goto {endpoint}"));
    }
    writeln!(
        text,
        "    chain {chain} {{ ip daddr {cluster_ip} {protocol_name} dport {PORT} ip saddr != {pods} \
         jump mark-for-masquerade; numgen random mod {} vmap {{ {} }}; }}",
        backends.len(),
        choices.join(", ")
    )?;
    if node_port.is_some() {
        writeln!(text, "    chain external-{chain} {{ jump mark-for-masquerade; goto {chain}; }}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::services::plan;

    #[test]
    fn every_service_is_an_element_of_one_map_and_none_a_rule_that_all_walk() {
        let text = render(&plan::services(100, 3), "10.200.0.0/16", [10, 240, 0, 20].into()).unwrap();
        let elements = text.lines().find(|line| line.trim_start().starts_with("map service-ips")).unwrap();
        // The two that are called have two protocols each.
        assert_eq!(elements.matches("goto").count(), 102);
        assert_eq!(text.matches("dnat to").count(), 98 * 3 + 4);
    }
}

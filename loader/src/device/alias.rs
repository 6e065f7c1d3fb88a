//! How Podlane marks devices as its own: by their alias, which survives the loader.

use crate::netlink::Link;

/// Longest alias that the kernel takes, in bytes.
const LONGEST: usize = 255;

/// The node that a device is marked for.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Name of the node.
    pub node: &'a str,
}

impl Owner<'_> {
    /// Alias of the gateway device.
    #[must_use]
    pub fn gateway_alias(self) -> String {
        cut(format!("podlane:{}", self.node))
    }

    /// Alias of a pod's host-side device.
    #[must_use]
    pub fn pod_alias(self, pod: &str) -> String {
        cut(format!("podlane:{}:{pod}", self.node))
    }

    /// Whether `link` is the host-side device of some pod of this node.
    #[must_use]
    pub fn has_pod_device(self, link: &Link) -> bool {
        let prefix = format!("podlane:{}:", self.node);
        link.is("veth") && link.alias.as_ref().is_some_and(|alias| alias.starts_with(&prefix))
    }
}

fn cut(mut alias: String) -> String {
    alias.truncate(alias.floor_char_boundary(LONGEST));
    alias
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::XdpPrograms;

    #[test]
    fn marks_are_told_apart_and_fit() {
        let owner = Owner { node: "worker-1" };
        assert_eq!(owner.gateway_alias(), "podlane:worker-1");
        assert_eq!(owner.pod_alias("default/web"), "podlane:worker-1:default/web");
        assert_eq!(owner.pod_alias(&"ü".repeat(300)).len(), 255);
    }

    #[test]
    fn another_node_is_not_this_one() {
        let link = Link {
            index: 1,
            name: "pl0".into(),
            kind: Some("veth".into()),
            mac: None,
            mtu: 0,
            up: true,
            running: true,
            alias: Some("podlane:worker-10:default/web".into()),
            peer: None,
            below: None,
            xdp: XdpPrograms::default(),
        };
        assert!(Owner { node: "worker-10" }.has_pod_device(&link));
        assert!(!Owner { node: "worker-1" }.has_pod_device(&link));
    }
}

//! Network devices of the node: gateway device, veth pairs.

//! Loads Podlane's BPF programs on a node, keeps their maps in step with the configuration, and reports.
//!
//! From the outside in:
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the verbs of the `loader` command |
//! | [`config`] | the TOML file: read strictly, every error reported with its place |
//! | [`desired`] | what the node should look like: the configuration, validated |
//! | [`run`] | the loop: bring the node to the desired state, and again when the file changes |
//! | [`device`], [`netlink`] | network devices, addresses and routes |
//! | [`bpf`] | programs: load, pin, attach |
//! | [`sync`] | maps: from the desired state to the entries, written by difference |
//! | [`conntrack`] | connections: forgotten when they are over, listed, flushed |
//! | [`state`], [`paths`] | what a running loader leaves for the other verbs, and where |
//! | [`inspect`], [`report`] | what the verbs print: gathered, then shown |
//! | [`sockets`] | sockets whose backend has gone: ended |
//! | [`xdp`] | where XDP runs on an uplink, and why |
//! | [`maglev`] | in what order the endpoints of a service stand in its table |
//! | [`causes`], [`mac`], [`hash`], [`privilege`] | small things that several of these need |

pub mod bpf;
pub mod causes;
pub mod cli;
pub mod config;
pub mod conntrack;
pub mod desired;
pub mod device;
pub mod hash;
pub mod inspect;
pub mod mac;
pub mod maglev;
pub mod netlink;
pub mod paths;
pub mod privilege;
pub mod report;
pub mod run;
pub mod sockets;
pub mod state;
pub mod sync;
pub mod xdp;

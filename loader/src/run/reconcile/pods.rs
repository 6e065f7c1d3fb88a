//! The pods of a node, each connected or not for a reason of its own.

use std::collections::BTreeMap;

use crate::{
    desired::{Desired, Pod},
    device::{self, DeviceError, NetnsId, Owner, PodError, PodSpec},
    netlink::{Handle, Link},
    state::{PodState, WaitingPod},
    sync::{PodFacts, Slots},
};

/// The pods by name.
#[derive(Debug, Default)]
pub(super) struct Pods {
    connected: BTreeMap<String, Link>,
    waiting: BTreeMap<String, String>,
    errors: Vec<String>,
}

impl Pods {
    /// Connects every pod whose namespace is there. A pod that can't be brought to what it should be stays as it is: as
    /// long as its device is there, so is its namespace, whatever has become of the namespace's file.
    pub(super) fn ensure(
        netlink: &mut Handle,
        own: NetnsId,
        desired: &Desired,
        mtu: u32,
    ) -> Result<Self, DeviceError> {
        let owner = Owner { node: &desired.node.name };
        let mut pods = Self::default();
        for pod in &desired.pods {
            let gateways = desired.node.gateways().collect();
            let pod_cidrs = &desired.node.pod_cidrs;
            let spec = PodSpec { owner, pod, host_mac: desired.node.mac, mtu, gateways, pod_cidrs };
            let error = match device::ensure_pod(netlink, own, &spec) {
                Ok((link, problem)) => {
                    pods.errors.extend(problem.map(|problem| format!("pod {}: {problem}", pod.name)));
                    pods.connected.insert(pod.name.clone(), link);
                    continue;
                }
                Err(error) => error,
            };
            match (error, device::find_pod_device(netlink, owner, &pod.name)?) {
                (error, Some(link)) => {
                    pods.errors.push(format!("pod {} stays as it is: {error}", pod.name));
                    pods.connected.insert(pod.name.clone(), link);
                }
                (error @ PodError::Waiting(_), None) => {
                    pods.waiting.insert(pod.name.clone(), error.to_string());
                }
                (error, None) => {
                    pods.errors.push(format!("pod {}: {error}", pod.name));
                    pods.waiting.insert(pod.name.clone(), error.to_string());
                }
            }
        }
        Ok(pods)
    }

    /// Sets up what is down still, and sees to it that these pods' next packets get through.
    pub(super) fn start(&self, netlink: &mut Handle, desired: &Desired, problems: &mut Vec<String>) {
        let down = |pod: &&Pod| self.connected.get(&pod.name).is_some_and(|link| !link.up);
        let (mut started, down) = (Vec::new(), desired.pods.iter().filter(down));
        for pod in down {
            match netlink.set_up(&self.connected[&pod.name]) {
                Ok(()) => started.push(pod),
                Err(error) => problems.push(error.to_string()),
            }
        }
        for pod in started {
            match device::await_pod(pod) {
                Ok(true) => {}
                Ok(false) => log::warn!("pod {}: {} is slow to have a carrier", pod.name, pod.interface),
                Err(error) => problems.push(format!("pod {}: {error}", pod.name)),
            }
        }
    }

    /// The host-side devices.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.connected.values()
    }

    /// Names of the connected pods.
    pub(super) fn names(&self) -> Vec<&str> {
        self.connected.keys().map(String::as_str).collect()
    }

    /// What the maps need to know of the connected pods.
    pub(super) fn facts(&self) -> BTreeMap<String, PodFacts> {
        let facts = |(name, link): (&String, &Link)| (name.clone(), PodFacts { ifindex: link.index });
        self.connected.iter().map(facts).collect()
    }

    /// What other verbs are told: the connected, the waiting, and what is wrong.
    pub(super) fn into_state(
        self,
        desired: &Desired,
        slots: &Slots,
    ) -> (Vec<PodState>, Vec<WaitingPod>, Vec<String>) {
        let Self { mut connected, mut waiting, errors } = self;
        let mut pods = Vec::new();
        let mut not_connected = Vec::new();
        for pod in &desired.pods {
            match connected.remove(&pod.name) {
                Some(link) => pods.push(state(pod, link, slots)),
                None => not_connected.push(WaitingPod {
                    name: pod.name.clone(),
                    netns: pod.netns.clone(),
                    reason: waiting.remove(&pod.name).unwrap_or_default(),
                }),
            }
        }
        (pods, not_connected, errors)
    }
}

fn state(pod: &Pod, link: Link, slots: &Slots) -> PodState {
    PodState {
        name: pod.name.clone(),
        netns: pod.netns.clone(),
        interface: pod.interface.clone(),
        host_device: link.name,
        ifindex: link.index,
        slot: slots.get(&pod.name),
        addresses: pod.addresses.clone(),
        mac: pod.mac(),
    }
}

//! Reads single values: each function says what it takes, and what is wrong with anything else.

use std::{
    net::IpAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use toml::de::DeValue;

use super::suggest::nearest;
use crate::mac::{self, Mac};

/// Why a value can't be read, to follow its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault(pub(super) String);

fn fault<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault(message.into()))
}

/// What a value is, for a person.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A string.
pub(super) fn text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, Fault> {
    match value {
        DeValue::String(text) => Ok(text),
        other => fault(format!("expected a string, found {}", kind(other))),
    }
}

/// `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Fault> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        other => fault(format!("expected true or false, found {}", kind(other))),
    }
}

/// An integer of a range.
pub(super) fn integer(range: RangeInclusive<u32>) -> impl Fn(&DeValue<'_>) -> Result<u32, Fault> {
    move |value| {
        let (least, most) = (range.start(), range.end());
        let DeValue::Integer(integer) = value else {
            return fault(format!("expected an integer from {least} to {most}, found {}", kind(value)));
        };
        u32::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|integer| range.contains(integer))
            .ok_or_else(|| Fault(format!("{integer} is not from {least} to {most}")))
    }
}

/// A port.
pub(super) fn port(value: &DeValue<'_>) -> Result<u16, Fault> {
    let port = integer(1..=u32::from(u16::MAX))(value)?;
    u16::try_from(port).map_err(|_| Fault(format!("{port} is not a port")))
}

/// One of a few words.
pub(super) fn choice<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Result<T, Fault> {
    move |value| {
        let given = text(value)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == given) {
            return Ok(*meaning);
        }
        let known: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let meant = nearest(given, words.iter().map(|(word, _)| *word));
        let meant = meant.map(|word| format!("; did you mean \"{word}\"?")).unwrap_or_default();
        fault(format!("\"{given}\" is not one of {}{meant}", known.join(", ")))
    }
}

/// Longest name, as Kubernetes has it for nodes.
const NAME_MAX: usize = 253;

/// Name of a node: part of paths, so letters, digits, `-`, `_` and `.` only.
pub(super) fn node_name(value: &DeValue<'_>) -> Result<String, Fault> {
    let name = text(value)?;
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match name {
        "" => fault("empty; a node needs a name"),
        _ if name.len() > NAME_MAX => fault(format!("longer than {NAME_MAX} characters")),
        _ if name.starts_with('.') => fault("starts with a dot, and it is part of paths"),
        _ if !name.bytes().all(usable) => {
            fault("has other characters than letters, digits, '-', '_' and '.', and it is part of paths")
        }
        _ => Ok(name.to_owned()),
    }
}

/// Name of a pod, or of anything that is only shown.
pub(super) fn name(value: &DeValue<'_>) -> Result<String, Fault> {
    let name = text(value)?;
    match name {
        "" => fault("empty; give a name"),
        _ if name.len() > NAME_MAX => fault(format!("longer than {NAME_MAX} characters")),
        _ if name.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            fault("has spaces or control characters")
        }
        _ => Ok(name.to_owned()),
    }
}

/// Name of a network device, as the kernel takes it.
pub(super) fn interface(value: &DeValue<'_>) -> Result<String, Fault> {
    let name = text(value)?;
    match name {
        "" => fault("empty; give the name of a device"),
        "." | ".." => fault("not a name that a device can have"),
        _ if name.len() > 15 => fault(format!("\"{name}\" is longer than 15 characters, the kernel's limit")),
        _ if name.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%')) => {
            fault(format!("\"{name}\" has a space, '/', ':' or '%', which no device name can have"))
        }
        _ => Ok(name.to_owned()),
    }
}

/// Name of a device that the loader makes, so not `lo`.
pub(super) fn new_interface(value: &DeValue<'_>) -> Result<String, Fault> {
    interface(value).and_then(|name| match name.as_str() {
        "lo" => fault("every network namespace has its \"lo\" already; give another name"),
        _ => Ok(name),
    })
}

/// An absolute path.
pub(super) fn path(value: &DeValue<'_>) -> Result<PathBuf, Fault> {
    let path = text(value)?;
    if path.contains('\0') || !Path::new(path).is_absolute() {
        return fault(format!("\"{path}\" is not an absolute path such as /run/netns/nginx"));
    }
    Ok(PathBuf::from(path))
}

/// Absolute path of a directory.
pub(super) fn directory(value: &DeValue<'_>) -> Result<PathBuf, Fault> {
    let path = text(value)?;
    if path.contains('\0') || !Path::new(path).is_absolute() {
        return fault(format!("\"{path}\" is not an absolute path such as /sys/fs/cgroup"));
    }
    Ok(PathBuf::from(path))
}

/// MAC address of a device.
pub(super) fn mac(value: &DeValue<'_>) -> Result<Mac, Fault> {
    let given = text(value)?;
    mac::parse(given).map_err(|error| Fault(format!("\"{given}\" is {error}")))
}

/// IP address of one host.
pub(super) fn address(value: &DeValue<'_>) -> Result<IpAddr, Fault> {
    let given = text(value)?;
    let address: IpAddr = match given.parse() {
        Ok(address) => address,
        Err(_) if given.contains('/') => {
            return fault(format!("\"{given}\" is a prefix; give one address, without \"/\""));
        }
        Err(_) => return fault(format!("\"{given}\" is not an IPv4 or IPv6 address")),
    };
    match unusable(address) {
        Some(what) => fault(format!("{address} is {what}, which no host can be reached at")),
        None => Ok(address),
    }
}

/// Why an address is not one that hosts reach each other at.
fn unusable(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    match address {
        IpAddr::V4(address) if address.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if link_local => Some("a link-local address"),
        _ => None,
    }
}

/// A prefix in CIDR notation, without host bits.
pub(super) fn prefix(value: &DeValue<'_>) -> Result<IpNet, Fault> {
    let given = text(value)?;
    let Ok(prefix) = given.parse::<IpNet>() else {
        return match given.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => {
                fault(format!("\"{given}\" has no prefix length; for one address write {given}/32"))
            }
            Ok(IpAddr::V6(_)) => {
                fault(format!("\"{given}\" has no prefix length; for one address write {given}/128"))
            }
            Err(_) => fault(format!("\"{given}\" is not a prefix such as 10.200.0.0/24 or fd00:10:200::/64")),
        };
    };
    if prefix.addr() != prefix.network() {
        return fault(format!("{prefix} has host bits set; did you mean \"{}\"?", prefix.trunc()));
    }
    Ok(prefix)
}

/// A prefix in which pods have their addresses.
pub(super) fn pod_cidr(value: &DeValue<'_>) -> Result<IpNet, Fault> {
    let cidr = prefix(value)?;
    match unusable(cidr.network()) {
        Some(what) => fault(format!("{cidr} starts with {what}; pods need addresses that hosts can have")),
        None => Ok(cidr),
    }
}

/// A prefix in which services have their addresses.
pub(super) fn service_cidr(value: &DeValue<'_>) -> Result<IpNet, Fault> {
    let cidr = prefix(value)?;
    match unusable(cidr.network()) {
        Some(what) => fault(format!("{cidr} starts with {what}; services need addresses that can be called")),
        None => Ok(cidr),
    }
}

/// The node's own, which has room for the gateway and a pod.
pub(super) fn own_pod_cidr(value: &DeValue<'_>) -> Result<IpNet, Fault> {
    let cidr = pod_cidr(value)?;
    let longest = cidr.max_prefix_len() - 2;
    if cidr.prefix_len() > longest {
        return fault(format!(
            "{cidr} has no room for a gateway and a pod; /{longest} is the smallest that has"
        ));
    }
    Ok(cidr)
}

/// A range of ports, `61000-65535`.
pub(super) fn port_range(value: &DeValue<'_>) -> Result<RangeInclusive<u16>, Fault> {
    let given = text(value)?;
    given
        .split_once('-')
        .and_then(|(from, to)| Some(from.parse().ok()?..=to.parse().ok()?))
        .filter(|ports: &RangeInclusive<u16>| *ports.start() > 0 && !ports.is_empty())
        .ok_or_else(|| Fault(format!("\"{given}\" is not a range of ports such as 61000-65535")))
}

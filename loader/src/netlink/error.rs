//! What a refused request says: operation, object, errno, the kernel's own words and what to do.

use std::io;

use thiserror::Error;

/// A request that the kernel refused.
#[derive(Debug, Error)]
#[error("{operation} {object}: {source}{}{}", said(kernel.as_ref()), hint(operation, source))]
pub struct NetlinkError {
    /// What was asked for, as `create veth pair`.
    pub operation: &'static str,
    /// On what, as a device's name.
    pub object: String,
    /// The kernel's own explanation (extended acknowledgement), where it gives one.
    pub kernel: Option<String>,
    /// The errno.
    pub source: io::Error,
}

impl NetlinkError {
    /// Whether the kernel answered with this errno.
    #[must_use]
    pub fn is(&self, errno: i32) -> bool {
        self.source.raw_os_error() == Some(errno)
    }

    /// Whether what was asked about does not exist (any more).
    #[must_use]
    pub fn is_gone(&self) -> bool {
        [libc::ENODEV, libc::ENOENT, libc::ESRCH, libc::EADDRNOTAVAIL].into_iter().any(|errno| self.is(errno))
    }
}

fn said(kernel: Option<&String>) -> String {
    kernel.map_or_else(String::new, |text| format!(" (kernel: {text})"))
}

/// What to do, where the errno alone doesn't tell.
fn hint(operation: &str, error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => "; needs CAP_NET_ADMIN: run as root",
        Some(libc::EOPNOTSUPP) if operation.starts_with("create") => {
            "; the kernel has no such device type: load the module (`modprobe -a veth dummy`) or use another kernel"
        }
        Some(libc::EACCES | libc::EINVAL) if operation == "add address" => {
            "; an IPv6 address needs IPv6 enabled on the device (sysctl net.ipv6.conf.<device>.disable_ipv6=0)"
        }
        Some(libc::ENOBUFS) => "; netlink messages were lost: raise net.core.rmem_max if this goes on",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_operation_object_errno_and_remedy() {
        let error = NetlinkError {
            operation: "create dummy device",
            object: "podlane0".into(),
            kernel: Some("Unknown device type".into()),
            source: io::Error::from_raw_os_error(libc::EOPNOTSUPP),
        };
        let text = error.to_string();
        assert!(text.starts_with("create dummy device podlane0: "), "{text}");
        assert!(text.contains("(kernel: Unknown device type)"), "{text}");
        assert!(text.contains("modprobe"), "{text}");
    }
}

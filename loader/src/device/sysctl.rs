//! Settings of single devices under `/proc/sys/net`; the calling thread's network namespace is the one that counts.

use std::{fs, io, path::PathBuf};

use thiserror::Error;

/// One setting of one device.
#[derive(Clone, Copy, Debug)]
pub struct Sysctl<'a> {
    /// `ipv4` or `ipv6`.
    pub family: &'static str,
    /// Name of the device: one of Podlane's own, or the loopback device.
    pub device: &'a str,
    /// Name of the setting.
    pub key: &'static str,
}

/// A setting can't be read or written.
#[derive(Debug, Error)]
#[error("write {value} to {}: {source}; /proc/sys has to be mounted writable", path.display())]
pub struct SysctlError {
    path: PathBuf,
    value: &'static str,
    source: io::Error,
}

impl Sysctl<'_> {
    /// Brings the setting to `value`, if it isn't there yet.
    pub fn set(self, value: &'static str) -> Result<(), SysctlError> {
        let path = self.path();
        let outcome = match fs::read_to_string(&path) {
            Ok(current) if current.trim() == value => Ok(()),
            Ok(_) => fs::write(&path, value),
            Err(error) => Err(error),
        };
        outcome.map_err(|source| SysctlError { path, value, source })
    }

    /// The setting as it is.
    pub fn get(self) -> Result<String, SysctlError> {
        let path = self.path();
        match fs::read_to_string(&path) {
            Ok(value) => Ok(value.trim().to_owned()),
            Err(source) => Err(SysctlError { path, value: "nothing", source }),
        }
    }

    /// As [`set`](Self::set), and content if the kernel has no such setting: IPv6 may be compiled out or turned off.
    pub fn set_if_there(self, value: &'static str) -> Result<(), SysctlError> {
        match self.set(value) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    fn path(self) -> PathBuf {
        ["/proc/sys/net", self.family, "conf", self.device, self.key].iter().collect()
    }
}

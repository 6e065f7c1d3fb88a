//! What the figures were taken on.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::cores;

/// A machine, and what else it was doing.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// Name of the processor.
    pub processor: String,
    /// Cores that the benches could use.
    pub cores: usize,
    /// Its memory, in KiB.
    pub memory_kib: u64,
    /// When the first measurement began, in seconds since 1970.
    pub time: u64,
    /// Load averages over 1, 5 and 15 minutes before the first measurement.
    pub load_before: String,
}

impl Machine {
    /// This one, now.
    #[must_use]
    pub fn describe() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: cores::allowed().map_or(0, |cores| cores.len()),
            memory_kib: kib(&read("/proc/meminfo"), "MemTotal:"),
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            load_before: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }

    /// Whether so much else is running that the figures are rough.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let minute = self.load_before.split(' ').next().and_then(|load| load.parse::<f64>().ok());
        minute.is_some_and(|load| load > 0.5)
    }
}

/// A line of `/proc/meminfo`; 0 without it.
fn kib(meminfo: &str, name: &str) -> u64 {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() {
        assert_eq!(kib("MemTotal:        8140324 kB\nMemFree: 7 kB\n", "MemTotal:"), 8_140_324);
        assert_eq!(kib("", "MemTotal:"), 0);
    }
}

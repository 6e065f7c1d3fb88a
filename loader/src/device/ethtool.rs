//! What a device tells of its driver and offloads (`SIOCETHTOOL`), in the network namespace of the calling thread.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: u32 = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
/// The set of strings that names features, a bit each.
const ETH_SS_FEATURES: u32 = 4;
/// Bytes of a name in a set of strings, and of most others.
const NAME: usize = 32;
/// Features by which received packets are merged before the kernel sees them.
const LARGE_RECEIVE: [&str; 2] = ["rx-gro-hw", "rx-lro"];
/// Words of `struct ethtool_drvinfo`.
const DRIVER_INFO: usize = 49;

/// A socket to ask by.
#[derive(Debug)]
pub struct Ethtool(OwnedFd);

impl Ethtool {
    /// For the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        Ok(Self(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?))
    }

    /// Name of the driver.
    pub fn driver(&self, device: &str) -> io::Result<String> {
        let mut request = [0; DRIVER_INFO];
        request[0] = ETHTOOL_GDRVINFO;
        self.ask(device, &mut request)?;
        Ok(text(&bytemuck::cast_slice(&request)[4..4 + NAME]))
    }

    /// The feature that is on, if one is, by which the device merges received packets.
    pub fn large_receive(&self, device: &str) -> io::Result<Option<String>> {
        let names = self.feature_names(device)?;
        // A header of two words, then for each 32 features: available, requested, active, never changed.
        let blocks = names.len().div_ceil(32);
        let mut request = vec![0; 2 + 4 * blocks];
        request[0] = ETHTOOL_GFEATURES;
        request[1] = u32::try_from(blocks).map_err(io::Error::other)?;
        self.ask(device, &mut request)?;
        let is_on = |bit: usize| {
            request.get(2 + bit / 32 * 4 + 2).is_some_and(|active| active >> (bit % 32) & 1 == 1)
        };
        let mut on = names.into_iter().enumerate().filter(|(bit, _)| is_on(*bit)).map(|(_, name)| name);
        Ok(on.find(|name| LARGE_RECEIVE.contains(&name.as_str())))
    }

    fn feature_names(&self, device: &str) -> io::Result<Vec<String>> {
        // A header of two words, a mask of 64 bits of sets, and the size of each.
        let mut request = [0; 5];
        request[0] = ETHTOOL_GSSET_INFO;
        request[2..4].copy_from_slice(&bytemuck::cast::<u64, [u32; 2]>(1 << ETH_SS_FEATURES));
        self.ask(device, &mut request)?;
        let count = request[4];
        // A header of three words, then the names.
        let size = usize::try_from(count).map_err(io::Error::other)?;
        let mut request = vec![0; 3 + size * NAME / 4];
        request[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count]);
        self.ask(device, &mut request)?;
        Ok(bytemuck::cast_slice(&request[3..]).chunks(NAME).map(text).collect())
    }

    /// Lets the kernel answer in `request`, which begins with the command and has room for its answer.
    fn ask(&self, device: &str, request: &mut [u32]) -> io::Result<()> {
        // SAFETY: all zeros is a request without a name.
        let mut interface: libc::ifreq = unsafe { std::mem::zeroed() };
        let name = device.as_bytes();
        if name.len() >= interface.ifr_name.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in interface.ifr_name.iter_mut().zip(name) {
            *to = from.cast_signed();
        }
        interface.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
        // SAFETY: the kernel reads and writes the name and as much of `request` as its command says, which is all of it.
        let outcome = unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCETHTOOL.into(), &raw mut interface) };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// What stands before the first zero.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers() {
        let ethtool = Ethtool::open().unwrap();
        let names = ethtool.feature_names("lo").unwrap();
        assert!(LARGE_RECEIVE.iter().all(|name| names.iter().any(|known| known == name)), "{names:?}");
        assert_eq!(ethtool.large_receive("lo").unwrap(), None);
        let errno = |error: io::Error| error.raw_os_error();
        assert_eq!(ethtool.driver("lo").map_err(errno), Err(Some(libc::EOPNOTSUPP)));
        assert_eq!(ethtool.driver("none0").map_err(errno), Err(Some(libc::ENODEV)));
        assert!(ethtool.driver("much-too-long-for-a-device").is_err());
    }

    #[test]
    fn names_end_at_the_first_zero() {
        assert_eq!(text(b"veth\0\0\0"), "veth");
        assert_eq!(text(b"veth"), "veth");
    }
}

//! What a device tells of its driver and offloads, and which of those are switched off (`SIOCETHTOOL`), in the network namespace of
//! the calling thread.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::OnceLock,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: u32 = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
/// What the kernel answers if features are not as it was told to have them: `ETHTOOL_F_UNSUPPORTED` and `ETHTOOL_F_WISH`.
const NOT_AS_TOLD: i32 = 1 | 2;
/// The set of strings that names features, a bit each.
const ETH_SS_FEATURES: u32 = 4;
/// Bytes of a name in a set of strings, and of most others.
const NAME: usize = 32;
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

    /// Its features.
    pub fn features(&self, device: &str) -> io::Result<Features> {
        let names = self.feature_names(device)?;
        // A header of two words, then four for each 32 features.
        let blocks = names.len().div_ceil(32);
        let mut request = vec![0; 2 + 4 * blocks];
        request[0] = ETHTOOL_GFEATURES;
        request[1] = u32::try_from(blocks).map_err(io::Error::other)?;
        self.ask(device, &mut request)?;
        let block = |words: &[u32]| Block { available: words[0], active: words[2], fixed: words[3] };
        Ok(Features { names, blocks: request[2..].chunks_exact(4).map(block).collect() })
    }

    /// Switches off those of these features that are on and can be switched; one that the kernel does not know is none.
    pub fn switch_off(&self, device: &str, unwanted: &[&str]) -> io::Result<()> {
        let features = self.features(device)?;
        // A header of two words, then for each 32 features: to be changed, to be on.
        let mut request = vec![0; 2 + 2 * features.blocks.len()];
        request[0] = ETHTOOL_SFEATURES;
        request[1] = u32::try_from(features.blocks.len()).map_err(io::Error::other)?;
        let mut told = Vec::new();
        for (number, name) in features.names.iter().enumerate() {
            if unwanted.contains(&name.as_str()) && features.can_be_switched_off(number) {
                request[2 + number / 32 * 2] |= 1 << (number % 32);
                told.push(name.as_str());
            }
        }
        if told.is_empty() || self.ask(device, &mut request)? & NOT_AS_TOLD == 0 {
            return Ok(());
        }
        Err(io::Error::other(format!("the kernel keeps one on of {}", told.join(", "))))
    }

    /// Names of the features that the kernel knows. They are the same for every device, so they are read once.
    fn feature_names(&self, device: &str) -> io::Result<&'static [String]> {
        static NAMES: OnceLock<Vec<String>> = OnceLock::new();
        if let Some(names) = NAMES.get() {
            return Ok(names);
        }
        let names = self.read_feature_names(device)?;
        Ok(NAMES.get_or_init(|| names))
    }

    fn read_feature_names(&self, device: &str) -> io::Result<Vec<String>> {
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

    /// Lets the kernel answer in `request`, which begins with the command and has room for its answer. Returns what the call does.
    fn ask(&self, device: &str, request: &mut [u32]) -> io::Result<i32> {
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
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
    }
}

/// The features of a device, as they were when it was asked.
#[derive(Debug)]
pub struct Features {
    names: &'static [String],
    blocks: Vec<Block>,
}

/// What is said of 32 features, a bit each.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// The device has it, and lets it be switched.
    available: u32,
    active: u32,
    /// Nobody can switch it.
    fixed: u32,
}

impl Features {
    /// The first of these that is on.
    #[must_use]
    pub fn first_on<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        let is_on = |name: &&str| {
            let number = self.names.iter().position(|known| known == name);
            number.is_some_and(|number| self.has(number, |block| block.active))
        };
        names.iter().copied().find(is_on)
    }

    fn can_be_switched_off(&self, number: usize) -> bool {
        self.has(number, |block| block.active & block.available & !block.fixed)
    }

    fn has(&self, number: usize, bits: impl Fn(&Block) -> u32) -> bool {
        self.blocks.get(number / 32).is_some_and(|block| bits(block) >> (number % 32) & 1 == 1)
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
        let features = ethtool.features("lo").unwrap();
        assert_eq!(features.first_on(&["rx-lro", "tx-tcp-segmentation"]), Some("tx-tcp-segmentation"));
        assert_eq!(features.first_on(&["none"]), None);
        let errno = |error: io::Error| error.raw_os_error();
        assert_eq!(ethtool.driver("lo").map_err(errno), Err(Some(libc::EOPNOTSUPP)));
        assert_eq!(ethtool.driver("none0").map_err(errno), Err(Some(libc::ENODEV)));
        assert!(ethtool.driver("much-too-long-for-a-device").is_err());
    }

    #[test]
    fn what_is_off_unknown_or_fixed_is_not_switched() {
        let ethtool = Ethtool::open().unwrap();
        // Also without the right to: the kernel is not told anything.
        ethtool.switch_off("lo", &["rx-lro", "none", "netns-local", "loopback"]).unwrap();
        assert_eq!(ethtool.features("lo").unwrap().first_on(&["loopback"]), Some("loopback"));
    }

    #[test]
    fn names_end_at_the_first_zero() {
        assert_eq!(text(b"veth\0\0\0"), "veth");
        assert_eq!(text(b"veth"), "veth");
    }
}

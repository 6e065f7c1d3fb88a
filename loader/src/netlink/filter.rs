//! Filters of the `clsact` qdisc that are BPF programs: one of ours at most per device and direction.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
};

use super::{Handle, Link, NetlinkError};

/// Behind whatever others add without saying where: the kernel gives those 49152 and counts down.
const PRIORITY: u16 = 50_000;
/// Number among the filters of that priority.
const HANDLE: TcHandle = TcHandle { major: 0, minor: 1 };
/// `TC_H_CLSACT`, in both halves of a handle.
const CLSACT: u16 = 0xffff;
const CLSACT_QDISC: u16 = 0xfff1;
/// Packets of every protocol.
const ETH_P_ALL: u16 = 3;

/// Which of a device's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those that it receives.
    Ingress,
    /// Those that it is to send.
    Egress,
}

/// A filter of ours, or what is in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What whoever made it called it.
    pub name: String,
    /// Number of its program.
    pub program: u32,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    const fn parent(self) -> TcHandle {
        let minor = match self {
            Self::Ingress => 0xfff2,
            Self::Egress => 0xfff3,
        };
        TcHandle { major: CLSACT, minor }
    }
}

impl Handle {
    /// Sees to it that a device has the qdisc that the filters hang on.
    pub fn ensure_clsact(&mut self, device: &Link) -> Result<(), NetlinkError> {
        let mut message = message(device.index);
        message.header.handle = TcHandle { major: CLSACT, minor: 0 };
        message.header.parent = TcHandle { major: CLSACT, minor: CLSACT_QDISC };
        message.attributes.push(TcAttribute::Kind("clsact".to_owned()));
        let message = RouteNetlinkMessage::NewQueueDiscipline(message);
        match self.request(message, NLM_F_CREATE | NLM_F_EXCL) {
            Err(refusal) if !refusal.is(libc::EEXIST) => {
                Err(refusal.of("add qdisc clsact to device", &device.name))
            }
            _ => Ok(()),
        }
    }

    /// The filter at our place on a device.
    pub fn filter(&mut self, ifindex: u32, direction: Direction) -> Result<Option<Filter>, NetlinkError> {
        let mut message = message(ifindex);
        message.header.parent = direction.parent();
        match self.dump(&RouteNetlinkMessage::GetTrafficFilter(message)) {
            Ok(answers) => Ok(answers.iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewTrafficFilter(message) => at_our_place(message),
                _ => None,
            })),
            // The device is gone; or the kernel was built without filters, and may have TCX all the same.
            Err(refusal) if refusal.is(libc::ENODEV) || refusal.is(libc::EOPNOTSUPP) => Ok(None),
            Err(refusal) => Err(refusal.of("list filters of device", format!("#{ifindex}"))),
        }
    }

    /// Puts a program at our place on a device: the one that is there is replaced between two packets.
    pub fn put_filter(
        &mut self,
        device: &Link,
        direction: Direction,
        name: &str,
        program: BorrowedFd<'_>,
    ) -> Result<(), NetlinkError> {
        let failed = |refusal: super::socket::Refusal| refusal.of("add filter to device", &device.name);
        let descriptor = u32::try_from(program.as_raw_fd()).map_err(std::io::Error::other);
        let options = [
            TcFilterBpfOption::ProgFd(descriptor.map_err(|error| failed(error.into()))?),
            TcFilterBpfOption::ProgName(name.to_owned()),
            TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
        ];
        let mut message = place(device.index, direction);
        message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
        message.attributes.push(TcAttribute::Options(options.map(TcOption::Bpf).to_vec()));
        let message = RouteNetlinkMessage::NewTrafficFilter(message);
        self.request(message, NLM_F_CREATE).map(drop).map_err(failed)
    }

    /// Removes what is at our place on a device; nothing there is as good.
    pub fn delete_filter(&mut self, ifindex: u32, direction: Direction) -> Result<(), NetlinkError> {
        let mut message = place(ifindex, direction);
        message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
        match self.request(RouteNetlinkMessage::DelTrafficFilter(message), 0) {
            Err(refusal) if !(refusal.is(libc::ENOENT) || refusal.is(libc::ENODEV)) => {
                Err(refusal.of("delete filter of device", format!("#{ifindex}")))
            }
            _ => Ok(()),
        }
    }
}

fn message(ifindex: u32) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = ifindex.cast_signed();
    message
}

fn place(ifindex: u32, direction: Direction) -> TcMessage {
    let mut message = message(ifindex);
    message.header.parent = direction.parent();
    message.header.handle = HANDLE;
    message.header.info = u32::from(PRIORITY) << 16 | u32::from(ETH_P_ALL.to_be());
    message
}

fn at_our_place(message: &TcMessage) -> Option<Filter> {
    // The classifier announces itself once per priority, without a handle.
    if message.header.info >> 16 != u32::from(PRIORITY) || message.header.handle != HANDLE {
        return None;
    }
    let mut filter = Filter { name: String::new(), program: 0 };
    let options = message.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    for option in options.flatten() {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.name.clone_from(name),
            TcOption::Bpf(TcFilterBpfOption::ProgId(program)) => filter.program = *program,
            _ => {}
        }
    }
    Some(filter)
}

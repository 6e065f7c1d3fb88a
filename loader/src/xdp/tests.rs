//! What is chosen for which device.

use super::*;

fn facts(kind: Option<&str>, driver: &str) -> Facts {
    Facts {
        device: "eth0".to_owned(),
        kind: kind.map(str::to_owned),
        driver: Some(driver.to_owned()),
        mtu: 1500,
        ..Facts::default()
    }
}

fn refusal(way: Way, errno: i32) -> Refusal {
    let error = std::io::Error::from_raw_os_error(errno).to_string();
    Refusal { way, errno: Some(errno), error }
}

const NATIVE: &[Way] = &[Way::Native];
const NATIVE_THEN_GENERIC: &[Way] = &[Way::Native, Way::Generic];
const GENERIC: &[Way] = &[Way::Generic];

#[test]
fn plans() {
    let nic = facts(None, "ixgbe");
    let veth = facts(Some("veth"), "veth");
    let merging = Facts { large_receive: Some("rx-gro-hw".to_owned()), ..nic.clone() };
    let untagging = Facts { untagged_vlan: Some("eth0.100".to_owned()), ..nic.clone() };
    let taken = Facts { foreign: Some(57), ..nic.clone() };
    for (wanted, facts, expected) in [
        (XdpMode::Auto, &nic, Ok(NATIVE)),
        (XdpMode::Native, &nic, Ok(NATIVE_THEN_GENERIC)),
        (XdpMode::Generic, &nic, Ok(GENERIC)),
        (XdpMode::Off, &nic, Err("as configured")),
        (XdpMode::Auto, &veth, Err("veth: XDP would make its peer segment in software")),
        (XdpMode::Native, &veth, Ok(NATIVE_THEN_GENERIC)),
        (XdpMode::Generic, &veth, Ok(GENERIC)),
        (
            XdpMode::Auto,
            &merging,
            Err("`ethtool -K eth0 rx-gro-hw off`, if it can be turned off, lets XDP have them"),
        ),
        (XdpMode::Native, &merging, Ok(NATIVE_THEN_GENERIC)),
        (
            XdpMode::Auto,
            &untagging,
            Err("would take packets of eth0.100 for eth0's own; `ethtool -K eth0 rxvlan off`"),
        ),
        (XdpMode::Native, &untagging, Ok(NATIVE_THEN_GENERIC)),
        (XdpMode::Generic, &untagging, Ok(GENERIC)),
        (XdpMode::Auto, &taken, Err("somebody else's XDP program #57 is on eth0")),
        (XdpMode::Native, &taken, Err("`ip link set dev eth0 xdp off`")),
        (XdpMode::Generic, &taken, Err("#57")),
        (XdpMode::Off, &taken, Err("as configured")),
    ] {
        match (plan(wanted, facts), expected) {
            (Plan::Try(ways), Ok(expected)) => assert_eq!(ways, expected, "{wanted} {facts:?}"),
            (Plan::Off(why), Err(expected)) => assert!(why.contains(expected), "{wanted} {facts:?}: {why}"),
            (plan, _) => panic!("{wanted} {facts:?}: {plan:?}"),
        }
    }
}

#[test]
fn choices() {
    use Way::{Generic, Native};
    let nic = facts(None, "ixgbe");
    let jumbo = Facts { mtu: 9000, ..nic.clone() };
    let nameless = Facts { driver: None, ..nic.clone() };
    let native = |errno| vec![refusal(Native, errno)];
    let both = vec![refusal(Native, libc::EOPNOTSUPP), refusal(Generic, libc::EBUSY)];
    let veth = facts(Some("veth"), "veth");
    for (wanted, facts, attached, refusals, mode, why) in [
        (
            XdpMode::Native,
            &veth,
            Some(Native),
            vec![],
            Mode::Native,
            "as configured; what XDP sends back arrives only if the veth's other end runs XDP, too",
        ),
        (XdpMode::Auto, &nic, Some(Native), vec![], Mode::Native, "driver ixgbe takes it"),
        (XdpMode::Auto, &nameless, Some(Native), vec![], Mode::Native, "the driver takes it"),
        (XdpMode::Native, &nic, Some(Native), vec![], Mode::Native, "as configured"),
        (XdpMode::Generic, &nic, Some(Generic), vec![], Mode::Generic, "as configured"),
        (
            XdpMode::Native,
            &nic,
            Some(Generic),
            native(libc::EOPNOTSUPP),
            Mode::Generic,
            "driver ixgbe refused native XDP on eth0: Operation not supported (os error 95); it has no native XDP",
        ),
        (
            XdpMode::Native,
            &jumbo,
            Some(Generic),
            native(libc::EINVAL),
            Mode::Generic,
            "driver ixgbe refused native XDP on eth0: Invalid argument (os error 22); its MTU is 9000, and a driver that \
             takes no packets in several pages takes 3498 at most (`ip link set dev eth0 mtu 3498`)",
        ),
        (
            XdpMode::Native,
            &nic,
            Some(Generic),
            native(libc::ENOMEM),
            Mode::Generic,
            "driver ixgbe refused native XDP on eth0: Cannot allocate memory (os error 12); it needs a transmit queue for \
             each CPU: try fewer queues (`ethtool -L eth0`)",
        ),
        (
            XdpMode::Auto,
            &nic,
            None,
            native(libc::EOPNOTSUPP),
            Mode::Off,
            "driver ixgbe refused native XDP on eth0: Operation not supported (os error 95); it has no native XDP; generic \
             XDP does not pay, as it runs once the kernel has made its packet",
        ),
        (
            XdpMode::Native,
            &nic,
            None,
            both,
            Mode::Off,
            "driver ixgbe refused native XDP on eth0: Operation not supported (os error 95); it has no native XDP; the \
             kernel refused generic XDP on eth0: Device or resource busy (os error 16); somebody else's XDP program is \
             there, `ip link show dev eth0` has its number",
        ),
    ] {
        let expected = Choice { mode, why: why.to_owned() };
        assert_eq!(choice(wanted, facts, attached, &refusals), expected, "{wanted} {facts:?}");
    }
}

#[test]
fn who_chooses_xdp_by_hand_is_told_that_it_confuses_vlans() {
    let nic = facts(None, "ixgbe");
    let untagging = Facts { untagged_vlan: Some("eth0.100".to_owned()), ..nic.clone() };
    let Plan::Off(reason) = plan(XdpMode::Auto, &untagging) else { panic!("auto uses no XDP") };
    for (wanted, way) in [(XdpMode::Native, Way::Native), (XdpMode::Generic, Way::Generic)] {
        let choice = choice(wanted, &untagging, Some(way), &[]);
        assert_eq!((choice.mode, choice.why), (way.into(), format!("as configured; {reason}")));
    }
    let refused = choice(XdpMode::Generic, &untagging, None, &[refusal(Way::Generic, libc::EBUSY)]);
    assert!(!refused.why.contains("eth0.100"), "there is no XDP to confuse them: {refused}");
    assert_eq!(confuses_vlans(&nic), None);
}

#[test]
fn the_largest_mtu_in_one_page() {
    assert_eq!(ONE_PAGE_MTU, 3498);
}

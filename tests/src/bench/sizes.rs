//! How much gets through in packets of one size, with one core and with two.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    cores::Cores,
    interleave::interleaved,
    load::{self, Segments, Window},
    progress::Progress,
    spread::Spread,
    topology::{Inner, Side, Topologies},
};

/// Bytes of the datagrams of which a large packet consists: they fit a pod's packets over IPv6 in VXLAN, too.
const SEGMENT: u16 = 1400;

/// What is compared.
pub const SIDES: [Side; 5] =
    [Side::Wire, Side::KernelSameNode, Side::PodlaneSameNode, Side::KernelOtherNode, Side::PodlaneOtherNode];

/// What is sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A UDP datagram with so many bytes of payload.
    Datagram(u16),
    /// So many UDP datagrams of [`SEGMENT`] bytes, in one packet until the receiver has it.
    Segments(u16),
    /// What TCP makes of a stream: up to 64 KB.
    TcpStream,
}

impl Unit {
    /// Every one, the smallest first.
    pub const ALL: [Self; 7] = [
        Self::Datagram(64),
        Self::Datagram(512),
        Self::Datagram(SEGMENT),
        Self::Segments(4),
        Self::Segments(16),
        Self::Segments(46),
        Self::TcpStream,
    ];
    /// Those that say most.
    pub const FEW: [Self; 3] = [Self::Datagram(64), Self::Datagram(SEGMENT), Self::Segments(46)];

    /// Bytes of payload, if that is known.
    #[must_use]
    pub const fn bytes(self) -> Option<u16> {
        match self {
            Self::Datagram(bytes) => Some(bytes),
            Self::Segments(count) => Some(count * SEGMENT),
            Self::TcpStream => None,
        }
    }

    /// For tables.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Datagram(bytes) => format!("UDP, {bytes} B"),
            Self::Segments(count) => format!("UDP, {count} x {SEGMENT} B"),
            Self::TcpStream => "TCP stream".to_owned(),
        }
    }
}

/// What one side got through.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// What was sent at once.
    pub unit: Unit,
    /// Cores that sender, receiver and all between them had.
    pub cores: u8,
    /// By which side.
    pub side: Side,
    /// Bytes of payload per second, in each round.
    pub values: Vec<f64>,
}

/// Numbers of cores.
pub const CORES: [u8; 2] = [1, 2];

/// Measures.
pub fn run(
    topologies: &Topologies,
    units: &[Unit],
    (rounds, window): (usize, Window),
    family: Inner,
) -> Result<Vec<Size>> {
    let two = Cores::find()?;
    let kinds = CORES.into_iter().flat_map(|cores| units.iter().map(move |unit| (*unit, cores)));
    let sizes =
        kinds.flat_map(|(unit, cores)| SIDES.map(|side| Size { unit, cores, side, values: Vec::new() }));
    let mut sizes: Vec<Size> = sizes.collect();
    let steps = sizes.len() / SIDES.len();
    let mut progress = Progress::begin("packet sizes", (rounds, window), steps, SIDES.len());
    let take = |size: &mut Size| {
        let Size { unit, cores, side, values } = size;
        let path = topologies.path(*side, family)?;
        let on = if *cores == 1 { two.one() } else { two };
        let value = match *unit {
            Unit::Datagram(bytes) => load::bytes(path, window, on, (bytes.into(), Segments::None)),
            Unit::Segments(count) => {
                load::bytes(path, window, on, ((count * SEGMENT).into(), Segments::Of(SEGMENT)))
            }
            Unit::TcpStream => load::stream(path, window, on),
        };
        values.push(value.with_context(|| format!("{}, {} cores, {}", unit.name(), cores, side.name()))?);
        Ok(())
    };
    interleaved(&mut sizes, SIDES.len(), (rounds, &mut progress), take, tell)?;
    Ok(sizes)
}

/// How many times as much one side got through as another, with the same unit and cores.
#[must_use]
pub fn ratio(sizes: &[Size], (unit, cores): (Unit, u8), (side, to): (Side, Side)) -> Option<Spread> {
    let find = |side| sizes.iter().find(|size| (size.unit, size.cores, size.side) == (unit, cores, side));
    Some(Spread::of_ratios(&find(side)?.values, &find(to)?.values))
}

fn tell(of_one_kind: &[Size]) -> String {
    let value = |size: &Size| Some(format!("{} {}", size.side.name(), gigabits(*size.values.last()?)));
    let values: Vec<String> = of_one_kind.iter().filter_map(value).collect();
    let kind = of_one_kind.first().map(|size| format!("{}, {} of cores", size.unit.name(), size.cores));
    format!("{}, {}", kind.unwrap_or_default(), values.join("; "))
}

/// Bytes per second as they are read best.
#[must_use]
pub fn gigabits(bytes: f64) -> String {
    format!("{:.2} Gbit/s", bytes * 8.0 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_grow_and_the_largest_is_one_packet() {
        let bytes: Vec<u16> = Unit::ALL.into_iter().filter_map(Unit::bytes).collect();
        assert!(bytes.is_sorted() && bytes.first() == Some(&64), "{bytes:?}");
        assert!(bytes.last().is_some_and(|most| *most > 63_000 && *most < 65_400), "{bytes:?}");
        assert!(Unit::FEW.iter().all(|unit| Unit::ALL.contains(unit)));
    }

    #[test]
    fn ratios_are_of_the_same_kind() {
        let size = |cores, side, value| Size { unit: Unit::TcpStream, cores, side, values: vec![value] };
        let sizes = [
            size(1, Side::KernelSameNode, 2.0),
            size(2, Side::KernelSameNode, 5.0),
            size(2, Side::PodlaneSameNode, 10.0),
        ];
        let pair = (Side::PodlaneSameNode, Side::KernelSameNode);
        let median = |cores| ratio(&sizes, (Unit::TcpStream, cores), pair).map(|spread| spread.median);
        assert_eq!((median(1), median(2)), (None, Some(2.0)));
    }
}

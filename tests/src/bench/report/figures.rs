//! Plots of what was measured.

use super::{Report, Services};
use crate::bench::{
    connections::Flood,
    measure::Measure,
    options::Part,
    plot::{Bars, Colour, Content, Figure, Group, Kind, Line, Lines, Panel},
    services::{Dataplane, Scenario, Side as Called},
    sizes::{CORES, Size},
    spread::Spread,
    topology::Side,
};

const SPREADS: &str = "Medians; whiskers from the smallest to the largest of the rounds. Higher is better.";
const BANDS: &str = "Medians; bands from the smallest to the largest of the rounds. Higher is better.";

const TO_KERNEL: &str = "times the kernel's path";

/// A figure with the name of its file.
pub type Named = (&'static str, Figure);

impl Report {
    /// The plots of a part; none for one that is better read as a table.
    #[must_use]
    pub fn figures(&self, part: Part) -> Vec<Named> {
        let figures = match part {
            Part::EndToEnd => vec![self.to_kernel(), self.to_wire()],
            Part::Sizes => vec![self.by_size()],
            Part::Services => {
                vec![
                    self.services.to_kernel("Services", "services-to-kernel"),
                    self.services.by_number(),
                    self.services.loading(),
                ]
            }
            Part::DirectRouting => vec![self.direct_routing.to_kernel("Direct routing", "direct-routing")],
            Part::NodePort => vec![self.node_ports.at_xdp()],
            Part::Sockets => vec![self.sockets.by_socket()],
            Part::Connections => vec![by_connections(&self.connections)],
            Part::Programs | Part::Arrivals | Part::Churn => Vec::new(),
        };
        figures.into_iter().filter(|(_, figure)| !figure.is_empty()).collect()
    }

    fn to_kernel(&self) -> Named {
        let bars = [
            (Colour::Teal, Side::PodlaneSameNode, Side::KernelSameNode),
            (Colour::Blue, Side::PodlaneOtherNode, Side::KernelOtherNode),
            (Colour::Violet, Side::PodlaneDirectRouting, Side::KernelDirectRouting),
        ];
        let names = ["same node", "other node, VXLAN", "other node, direct routing"];
        let figure = Figure {
            title: "Pod to pod: Podlane to the kernel".to_owned(),
            note: SPREADS.to_owned(),
            legend: bars.iter().zip(names).map(|((colour, ..), name)| (*colour, name.to_owned())).collect(),
            unit: TO_KERNEL.to_owned(),
            kind: Kind::Log,
            panels: vec![self.pair_panel("", &bars)],
        };
        ("end-to-end-to-kernel", figure)
    }

    fn to_wire(&self) -> Named {
        let panel = |title, sides: &[(Colour, Side)]| {
            let bars: Vec<_> = sides.iter().map(|&(colour, side)| (colour, side, Side::Wire)).collect();
            self.pair_panel(title, &bars)
        };
        let (kernel, podlane, bare) = (Colour::Orange, Colour::Teal, Colour::Grey);
        let figure = Figure {
            title: "Pod to pod: what is left of a bare wire".to_owned(),
            note: SPREADS.to_owned(),
            legend: vec![
                (kernel, "kernel".to_owned()),
                (podlane, "Podlane".to_owned()),
                (bare, "bare eBPF".to_owned()),
            ],
            unit: "times the bare wire".to_owned(),
            kind: Kind::Linear,
            panels: vec![
                panel(
                    "Same node",
                    &[
                        (kernel, Side::KernelSameNode),
                        (podlane, Side::PodlaneSameNode),
                        (bare, Side::BareSameNode),
                    ],
                ),
                panel(
                    "Other node, VXLAN",
                    &[
                        (kernel, Side::KernelOtherNode),
                        (podlane, Side::PodlaneOtherNode),
                        (bare, Side::BareOtherNode),
                    ],
                ),
                panel(
                    "Other node, direct routing",
                    &[(kernel, Side::KernelDirectRouting), (podlane, Side::PodlaneDirectRouting)],
                ),
            ],
        };
        ("end-to-end-to-wire", figure)
    }

    /// A group for each measure, a bar for each pair.
    fn pair_panel(&self, title: &str, pairs: &[(Colour, Side, Side)]) -> Panel {
        let group = |measure: Measure| {
            let bar = |(colour, side, to): &(Colour, Side, Side)| {
                let mut ratios = self.ratios.iter();
                let found = ratios
                    .find(|ratio| ratio.measure == measure && (ratio.side, ratio.to) == (*side, *to))?;
                Some((*colour, found.times))
            };
            Group { name: measure.name().to_owned(), bars: pairs.iter().filter_map(bar).collect() }
        };
        bar_panel(title, Measure::ALL.map(group).to_vec())
    }

    fn by_size(&self) -> Named {
        let panel = |(place, kernel, podlane): (&str, Side, Side), cores: u8| {
            let line = |(colour, side)| {
                let of_side = self.sizes.iter().filter(|size| (size.side, size.cores) == (side, cores));
                let point =
                    |size: &Size| Some((f64::from(size.unit.bytes()?), scaled(&size.values, 8.0 / 1e9)));
                Line { colour, points: of_side.filter_map(point).collect() }
            };
            let sides = [(Colour::Grey, Side::Wire), (Colour::Orange, kernel), (Colour::Teal, podlane)];
            let number = if cores == 1 { "one core" } else { "two cores" };
            Panel {
                title: format!("{place}, {number}"),
                content: Content::Lines(Lines {
                    over: "bytes of UDP payload in one packet".to_owned(),
                    lines: sides.map(line).to_vec(),
                }),
            }
        };
        let places = [
            ("Same node", Side::KernelSameNode, Side::PodlaneSameNode),
            ("Other node", Side::KernelOtherNode, Side::PodlaneOtherNode),
        ];
        let figure = Figure {
            title: "Packet sizes: UDP from pod to pod".to_owned(),
            note: BANDS.to_owned(),
            legend: vec![
                (Colour::Grey, "bare wire".to_owned()),
                (Colour::Orange, "kernel".to_owned()),
                (Colour::Teal, "Podlane".to_owned()),
            ],
            unit: "Gbit/s".to_owned(),
            kind: Kind::Log,
            panels: CORES.into_iter().flat_map(|cores| places.map(|place| panel(place, cores))).collect(),
        };
        ("sizes", figure)
    }
}

impl Services {
    /// Podlane to each of kube-proxy's modes, with the most services.
    fn to_kernel(&self, what: &str, file: &'static str) -> Named {
        let most = self.series.iter().map(|series| series.side.services).max().unwrap_or(0);
        let side = |dataplane| Called { dataplane, services: most };
        let bars = [Dataplane::Iptables, Dataplane::Nftables]
            .map(|to| (colour(to), side(Dataplane::Podlane), side(to)));
        let legend = [Dataplane::Iptables, Dataplane::Nftables]
            .map(|to| (colour(to), format!("to kube-proxy's rules in {} mode", to.name())));
        let figure = Figure {
            title: if most > 1 {
                format!("{what}: Podlane to the kernel, with {most} of them")
            } else {
                format!("{what}: Podlane to the kernel")
            },
            note: SPREADS.to_owned(),
            legend: legend.to_vec(),
            unit: TO_KERNEL.to_owned(),
            kind: Kind::Log,
            panels: self.panels(|scenario| self.pair_panel(scenario, &bars)),
        };
        (file, figure)
    }

    /// New connections, among few services and among many.
    fn by_number(&self) -> Named {
        let measure = Measure::TcpConnections;
        let panel = |scenario: Scenario| {
            let line = |dataplane: &Dataplane| {
                let mut points: Vec<_> = self
                    .series
                    .iter()
                    .filter(|series| (series.scenario, series.measure) == (scenario, measure))
                    .filter(|series| series.side.dataplane == *dataplane)
                    .map(|series| (f64::from(series.side.services), scaled(&series.values, 1.0)))
                    .collect();
                points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
                Line { colour: colour(*dataplane), points }
            };
            Panel {
                title: capitalised(scenario.name()),
                content: Content::Lines(Lines {
                    over: "services".to_owned(),
                    lines: Dataplane::USUAL.iter().map(line).collect(),
                }),
            }
        };
        let figure = Figure {
            title: "Services: TCP connections per second among more and more of them".to_owned(),
            note: BANDS.to_owned(),
            legend: legend(&Dataplane::USUAL),
            unit: "connections per second".to_owned(),
            kind: Kind::Log,
            panels: self.panels(panel),
        };
        ("services-by-number", figure)
    }

    fn loading(&self) -> Named {
        let line = |dataplane: &Dataplane| {
            let of_one = self.loads.iter().filter(|load| load.side.dataplane == *dataplane);
            let point =
                of_one.map(|load| (f64::from(load.side.services), Spread::of(&[load.seconds.max(0.001)])));
            Line { colour: colour(*dataplane), points: point.collect() }
        };
        let figure = Figure {
            title: "Services: time to load all of them".to_owned(),
            note: "On two nodes at once, taken once. Lower is better.".to_owned(),
            legend: legend(&Dataplane::USUAL),
            unit: "seconds".to_owned(),
            kind: Kind::Log,
            panels: vec![Panel {
                title: String::new(),
                content: Content::Lines(Lines {
                    over: "services".to_owned(),
                    lines: Dataplane::USUAL.iter().map(line).collect(),
                }),
            }],
        };
        ("services-loading", figure)
    }

    /// Everyone to kube-proxy's iptables mode.
    fn at_xdp(&self) -> Named {
        let title = "Node ports at TC and at XDP: Podlane to the kernel's iptables mode";
        let note = format!("{SPREADS} No segmentation or checksum offload.");
        let names = ["Podlane at TC", "Podlane at XDP"];
        ("node-port", self.two_ways(title, note, Dataplane::PodlaneXdp, names))
    }

    fn by_socket(&self) -> Named {
        let title = "Services by packet and by socket: Podlane to the kernel's iptables mode";
        let names = ["by packet", "by socket"];
        ("sockets", self.two_ways(title, SPREADS.to_owned(), Dataplane::PodlaneSockets, names))
    }

    /// Podlane as it is by default, and another way.
    fn two_ways(&self, title: &str, note: String, other: Dataplane, names: [&str; 2]) -> Figure {
        let side = |dataplane| Called { dataplane, services: 1 };
        let shown = [Dataplane::Podlane, other];
        let bars = shown.map(|dataplane| (colour(dataplane), side(dataplane), side(Dataplane::Iptables)));
        Figure {
            title: title.to_owned(),
            note,
            legend: shown.map(colour).into_iter().zip(names.map(str::to_owned)).collect(),
            unit: TO_KERNEL.to_owned(),
            kind: Kind::Log,
            panels: self.panels(|scenario| self.pair_panel(scenario, &bars)),
        }
    }

    /// A panel for each scenario that was measured.
    fn panels(&self, panel: impl Fn(Scenario) -> Panel) -> Vec<Panel> {
        let measured = |scenario: &Scenario| self.series.iter().any(|series| series.scenario == *scenario);
        Scenario::ALL.into_iter().filter(measured).map(panel).collect()
    }

    fn pair_panel(&self, scenario: Scenario, pairs: &[(Colour, Called, Called)]) -> Panel {
        let group = |measure: Measure| {
            let bar = |(colour, side, to): &(Colour, Called, Called)| {
                let mut ratios = self.ratios.iter();
                let found = ratios.find(|ratio| {
                    (ratio.scenario, ratio.measure, ratio.side, ratio.to) == (scenario, measure, *side, *to)
                })?;
                Some((*colour, found.times))
            };
            Group { name: measure.name().to_owned(), bars: pairs.iter().filter_map(bar).collect() }
        };
        let groups = Measure::ALL.map(group).into_iter().filter(|group| !group.bars.is_empty());
        bar_panel(&capitalised(scenario.name()), groups.collect())
    }
}

fn by_connections(figures: &[Flood]) -> Named {
    let line = |dataplane: &Dataplane| {
        let of_one = figures.iter().filter(|figure| figure.dataplane == *dataplane);
        let point = |figure: &Flood| (f64::from(figure.connections), scaled(&figure.values, 1e-3));
        Line { colour: colour(*dataplane), points: of_one.map(point).collect() }
    };
    let figure = Figure {
        title: "UDP packets of many connections through a ClusterIP, remote backend".to_owned(),
        note: BANDS.to_owned(),
        legend: legend(&Dataplane::USUAL),
        unit: "thousand packets per second".to_owned(),
        kind: Kind::Linear,
        panels: vec![Panel {
            title: String::new(),
            content: Content::Lines(Lines {
                over: "connections".to_owned(),
                lines: Dataplane::USUAL.iter().map(line).collect(),
            }),
        }],
    };
    ("connections", figure)
}

fn bar_panel(title: &str, groups: Vec<Group>) -> Panel {
    Panel { title: title.to_owned(), content: Content::Bars(Bars { groups }) }
}

fn legend(dataplanes: &[Dataplane]) -> Vec<(Colour, String)> {
    dataplanes.iter().map(|dataplane| (colour(*dataplane), dataplane.name().to_owned())).collect()
}

const fn colour(dataplane: Dataplane) -> Colour {
    match dataplane {
        Dataplane::Iptables => Colour::Orange,
        Dataplane::Nftables => Colour::Violet,
        Dataplane::Podlane => Colour::Teal,
        Dataplane::PodlaneXdp | Dataplane::PodlaneSockets => Colour::Blue,
    }
}

fn scaled(values: &[f64], by: f64) -> Spread {
    let scaled: Vec<f64> = values.iter().map(|value| value * by).collect();
    Spread::of(&scaled)
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

//! What the command is told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{
    measure::Measure,
    services::{Dataplane, Scenario},
};

/// What to measure, and what to do with it.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) rounds: u16,
    /// How long each figure is taken.
    #[arg(long, default_value = "1", value_parser = seconds)]
    pub(super) seconds: f64,
    /// All that matters in under two minutes: three short rounds, with fewer services, sizes and numbers of
    /// connections, and without the million of them. Prints tables only.
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "write"])]
    pub(super) quick: bool,
    /// Measure these parts only.
    #[arg(long, value_delimiter = ',')]
    pub(super) only: Vec<Part>,
    /// Of the services, measure these scenarios only.
    #[arg(long, value_delimiter = ',')]
    pub(super) scenario: Vec<Scenario>,
    /// Of the services and node ports, take these measures only.
    #[arg(long, value_delimiter = ',')]
    pub(super) measure: Vec<Measure>,
    /// Of the services, compare these dataplanes only.
    #[arg(long, value_delimiter = ',')]
    pub(super) dataplane: Vec<Dataplane>,
    /// Numbers of services to compare, 1,1000,10000 if not given; the fewest are what each dataplane is compared with itself by.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=20_000))]
    pub(super) services: Vec<u16>,
    /// Backends of each service that nobody calls; those that are called have one. With more than two, a kernel that
    /// loads 10,000 services by nftables needs minutes.
    #[arg(long, default_value_t = BACKENDS, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(super) backends: u8,
    /// For arrivals: an object file of other programs with the same maps (`target/ebpf/podlane.o` of before a change), to be compared with.
    #[arg(long)]
    pub(super) before: Option<PathBuf>,
    /// Let pods talk IPv6, end to end and for packet sizes.
    #[arg(long)]
    pub(super) ipv6: bool,
    /// How to print.
    #[arg(short, long, default_value = "table")]
    pub(super) output: Format,
    /// Also write the tables to docs/benchmarks.md and the plots to docs/plots, each part when it is done.
    #[arg(long)]
    pub(super) write: bool,
}

const BACKENDS: u8 = 2;

/// A part of the benches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Pod to pod, against the kernel and against one wire.
    EndToEnd,
    /// The same with small packets and with large ones, on one core and on two.
    Sizes,
    /// Services, against kube-proxy's rules.
    Services,
    /// The same, of nodes that route to each other's pods.
    DirectRouting,
    /// Node ports at TC and at XDP, against kube-proxy's rules.
    NodePort,
    /// Services resolved for packets and for sockets, against kube-proxy's rules.
    Sockets,
    /// Packets of one connection and of many, through a service.
    Connections,
    /// What the BPF programs take.
    Programs,
    /// What a packet of the underlay takes at TC and at XDP.
    Arrivals,
    /// A million connections through a service.
    Churn,
}

impl Part {
    /// Every one, in the order in which they are measured.
    pub const ALL: [Self; 10] = [
        Self::EndToEnd,
        Self::Sizes,
        Self::Services,
        Self::DirectRouting,
        Self::NodePort,
        Self::Sockets,
        Self::Connections,
        Self::Programs,
        Self::Arrivals,
        Self::Churn,
    ];

    /// As options and marks name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndToEnd => "end-to-end",
            Self::Sizes => "sizes",
            Self::Services => "services",
            Self::DirectRouting => "direct-routing",
            Self::NodePort => "node-port",
            Self::Sockets => "sockets",
            Self::Connections => "connections",
            Self::Programs => "programs",
            Self::Arrivals => "arrivals",
            Self::Churn => "churn",
        }
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Options {
    /// What to type for another run like this one.
    #[must_use]
    pub fn command(&self) -> String {
        let Self {
            rounds, seconds, quick, only, scenario, measure, dataplane, services, backends, ipv6, ..
        } = self;
        let mut words = vec!["cargo xtask bench".to_owned()];
        if *quick {
            words.push("--quick".to_owned());
        } else {
            words.push(format!("--rounds {rounds} --seconds {seconds}"));
        }
        words.extend(list("--only", only));
        words.extend(list("--scenario", scenario));
        words.extend(list("--measure", measure));
        words.extend(list("--dataplane", dataplane));
        if !services.is_empty() {
            let numbers: Vec<String> = services.iter().map(u16::to_string).collect();
            words.push(format!("--services {}", numbers.join(",")));
        }
        if *backends != BACKENDS {
            words.push(format!("--backends {backends}"));
        }
        if *ipv6 {
            words.push("--ipv6".to_owned());
        }
        words.join(" ")
    }
}

/// An option with some of its possible values, unless there are none.
fn list<T: ValueEnum>(option: &str, chosen: &[T]) -> Option<String> {
    let values = chosen.iter().filter_map(ValueEnum::to_possible_value);
    let names: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
    (!names.is_empty()).then(|| format!("{option} {}", names.join(",")))
}

/// Reads a length of time that something can be measured in.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        Ok(_) => Err("not between 0.01 and 3600".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    pub(crate) fn parse(line: &str) -> Result<Options, clap::Error> {
        Ok(Line::try_parse_from(line.split(' '))?.options)
    }

    #[test]
    fn a_command_is_shown_as_it_was_typed() {
        for rest in [
            "--quick --only services,node-port",
            "--rounds 9 --seconds 0.5 --services 1,10000 --ipv6",
            "--rounds 5 --seconds 1 --scenario cluster-ip-remote --measure tcp-stream --dataplane podlane --backends 3",
        ] {
            let line = format!("cargo xtask bench {rest}");
            let typed = format!("bench {rest}");
            assert_eq!(parse(&typed).unwrap().command(), line);
        }
    }

    #[test]
    fn a_quick_run_does_not_write_the_page() {
        assert!(parse("bench --quick --write").is_err());
        assert!(parse("bench --write").is_ok());
    }

    #[test]
    fn parts_are_named_as_they_are_chosen() {
        for part in Part::ALL {
            assert_eq!(part.to_possible_value().unwrap().get_name(), part.name());
        }
    }
}

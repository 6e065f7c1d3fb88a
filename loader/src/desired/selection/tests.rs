//! Tables of cases: the states and places of endpoints, and who takes connections.

use super::*;

/// Endpoints by what they are, in words: `L` on this node, `H` this node, `R` another node, `X` outside; then `r` ready,
/// `t` serving and terminating, `n` not ready; then `0` if it has no weight.
fn endpoints(words: &str) -> Vec<Endpoint> {
    let endpoint = |(n, word): (u8, &str)| {
        let mut letters = word.chars();
        let placement = match letters.next().unwrap() {
            'L' => Placement::Local,
            'H' => Placement::Host,
            'R' => Placement::Remote,
            _ => Placement::External,
        };
        let state = match letters.next().unwrap() {
            'r' => State::Ready,
            't' => State::ServingTerminating,
            _ => State::NotReady,
        };
        Endpoint {
            address: [10, 200, 0, n].into(),
            port: 80,
            node: None,
            weight: u16::from(letters.next().is_none()),
            state,
            placement,
        }
    };
    (1..).zip(words.split_whitespace()).map(endpoint).collect()
}

/// `reject`, `drop`, or the indices.
fn show(candidates: &Candidates) -> String {
    match candidates {
        Candidates::Reject => "reject".to_owned(),
        Candidates::Drop => "drop".to_owned(),
        Candidates::Endpoints(indices) => {
            indices.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn who_takes_connections() {
    for (given, cluster, local) in [
        ("", "reject", "reject"),
        ("Ln Rn", "reject", "reject"),
        ("Lr Rr", "0 1", "0"),
        ("Hr Rr Xr", "0 1 2", "0"),
        ("Rr Lr Hr", "0 1 2", "1 2"),
        // Ready ones before terminating ones, wherever those are; policy Local looks at its own only.
        ("Lt Rr", "1", "0"),
        ("Lr Lt Rt", "0", "0"),
        ("Ln Rr", "1", "drop"),
        ("Ln Rt", "1", "drop"),
        ("Lt Rt", "0 1", "0"),
        ("Lt Ln", "0", "0"),
        ("Rr Rt", "0", "drop"),
        ("Xr", "0", "drop"),
        ("Rn Xn", "reject", "reject"),
        // No weight, no new connections: as if it were not there.
        ("Lr0 Rr", "1", "drop"),
        ("Lr0 Lt", "1", "1"),
        ("Lr0", "reject", "reject"),
        ("Lr0 Lr Rt0", "1", "1"),
    ] {
        let endpoints = endpoints(given);
        assert_eq!(show(&candidates(&endpoints, false)), cluster, "{given}, policy Cluster");
        assert_eq!(show(&candidates(&endpoints, true)), local, "{given}, policy Local");
    }
}

#[test]
fn which_policy_is_about_which_frontends() {
    let endpoints = endpoints("Lr Rr");
    let of = |kind, internal_local, external_local| {
        let policies = Policies { internal_local, external_local, dsr: false };
        let it = Exposure::new(kind, Vec::new(), &endpoints, policies, Vec::new());
        (show(&it.inside), show(&it.outside), it.inside_local, it.outside_local)
    };
    let case =
        |inside: &str, outside: &str| (inside.to_owned(), outside.to_owned(), inside == "0", outside == "0");
    for external in [false, true] {
        assert_eq!(of(Kind::ClusterIp, false, external), case("0 1", "0 1"));
        assert_eq!(of(Kind::ClusterIp, true, external), case("0", "0"));
        assert_eq!(of(Kind::HostPort, true, external), case("0 1", "0 1"));
    }
    for kind in [Kind::NodePort, Kind::ExternalIp, Kind::LoadBalancer] {
        for internal in [false, true] {
            assert_eq!(of(kind, internal, false), case("0 1", "0 1"));
            assert_eq!(of(kind, internal, true), case("0 1", "0"));
        }
    }
}

#[test]
fn health_is_about_what_is_ready_here() {
    let count = |words: &str| healthy(&endpoints(words)).count();
    assert_eq!([count("Lr Hr Rr Xr"), count("Lt Ln Lr0"), count("")], [2, 0, 0]);
}

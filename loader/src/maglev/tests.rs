//! Properties of the tables, over many sets of endpoints.

use super::*;

/// So many endpoints of equal weight, the `seed`th of such sets.
fn endpoints(count: u16, seed: u16) -> Vec<(SocketAddr, u16)> {
    let [high, low] = seed.to_be_bytes();
    (0..count)
        .map(|n| {
            let [a, b] = n.to_be_bytes();
            let ipv6 = seed % 2 == 1;
            let ip: IpAddr = if ipv6 {
                [0xfd00, seed, 0x200, 0, 0, 0, 0, n].into()
            } else {
                [10, 200_u8.wrapping_add(high), low.wrapping_add(a), b].into()
            };
            (SocketAddr::new(ip, 8080), 1)
        })
        .collect()
}

/// How many elements each index has.
fn shares(table: &[u16], count: usize) -> Vec<usize> {
    let mut shares = vec![0; count];
    for index in table {
        shares[usize::from(*index)] += 1;
    }
    shares
}

/// Who stands at each element.
fn names(table: &[u16], endpoints: &[(SocketAddr, u16)]) -> Vec<SocketAddr> {
    table.iter().map(|index| endpoints[usize::from(*index)].0).collect()
}

#[test]
fn lengths() {
    for (count, expected) in [
        (0, 0),
        (1, 1),
        (2, 251),
        (3, 251),
        (4, 1021),
        (15, 1021),
        (16, 4093),
        (63, 4093),
        (64, 16381),
        (256, 65521),
        (MAX_ENDPOINTS, 65521),
    ] {
        assert_eq!(length(count), expected, "{count}");
    }
    assert_eq!(MAX_ENDPOINTS, 1023);
    for count in [0, 1, 2, 10, 20] {
        assert_eq!(table(&endpoints(count, 0)).len(), length(count.into()));
    }
}

#[test]
fn equal_weights_differ_by_one_element_at_most() {
    for seed in 0..20 {
        for count in [1, 2, 3, 7, 15, 16, 40] {
            let shares = shares(&table(&endpoints(count, seed)), count.into());
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{count} endpoints: {least} to {most}");
        }
    }
}

#[test]
fn shares_follow_the_weights() {
    for seed in 0..20 {
        let mut endpoints = endpoints(12, seed);
        let weights = [1, 2, 3, 5, 10, 10, 0, 20, 7, 7, 30, 5];
        endpoints.iter_mut().zip(weights).for_each(|(endpoint, weight)| endpoint.1 = weight);
        let table = table(&endpoints);
        for (share, weight) in shares(&table, 12).into_iter().zip(weights) {
            let ideal = usize::from(weight) * table.len() / 100;
            assert!(share.abs_diff(ideal) <= 2, "weight {weight}: {share} for {ideal}");
        }
    }
}

#[test]
fn whoever_has_a_weight_has_an_element() {
    let mut endpoints = endpoints(3, 4);
    endpoints[0].1 = 1000;
    endpoints[1].1 = 0;
    let shares = shares(&table(&endpoints), 3);
    assert_eq!((shares[1], shares[2]), (0, 1));
    assert!(table(&[]).is_empty());
    for endpoint in &mut endpoints {
        endpoint.1 = 0;
    }
    assert!(table(&endpoints).is_empty());
    endpoints[2].1 = 9;
    assert_eq!(table(&endpoints), [2]);
}

#[test]
fn the_order_of_the_endpoints_does_not_matter() {
    for seed in 0..10 {
        let mut endpoints = endpoints(11, seed);
        endpoints[3].1 = 4;
        let before = names(&table(&endpoints), &endpoints);
        endpoints.reverse();
        endpoints.swap(2, 7);
        assert_eq!(names(&table(&endpoints), &endpoints), before);
    }
}

/// Those of the endpoint that goes have to move; beside them few do: at most a tenth of the table more, and less than one in
/// twenty-five on the average.
#[test]
fn one_of_n_less_moves_little_more_than_its_own() {
    for count in [4, 10, 15, 40] {
        let mut moved_beside = 0;
        let mut elements = 0;
        for seed in 0..10 {
            let all = endpoints(count, seed);
            let before = names(&table(&all), &all);
            for gone in [0, count / 2, count - 1] {
                let mut left = all.clone();
                let (gone, _) = left.remove(gone.into());
                let after = names(&table(&left), &left);
                if after.len() != before.len() {
                    continue;
                }
                let own = before.iter().filter(|name| **name == gone).count();
                assert!(own <= before.len() / usize::from(count) + 1);
                let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
                assert!(moved >= own);
                assert!(
                    (moved - own) * 10 <= before.len(),
                    "{count}: {} of {} moved beside",
                    moved - own,
                    before.len()
                );
                moved_beside += moved - own;
                elements += before.len();
            }
        }
        assert!(moved_beside * 25 <= elements, "{count}: {moved_beside} of {elements}");
    }
}

#[test]
fn a_table_stays_what_it_is_in_every_release() {
    let endpoints = endpoints(3, 0);
    let hash = table(&endpoints).iter().fold(0_u64, |hash, index| mix(hash ^ u64::from(*index)));
    assert_eq!(
        hash, 11_027_000_888_152_447_315,
        "connections that come to another node after its upgrade go on only if this is the same"
    );
}

#[test]
fn random_has_one_element_per_unit_of_weight() {
    let mut endpoints = endpoints(4, 0);
    endpoints.iter_mut().zip([20, 0, 10, 50]).for_each(|(endpoint, weight)| endpoint.1 = weight);
    let table = random(&endpoints);
    assert_eq!(shares(&table, 4), [2, 0, 1, 5]);
    assert_eq!(table.len(), random_length(&[20, 0, 10, 50]));
    assert!(random(&[]).is_empty());
    assert_eq!(random_length(&[]), 0);
}

#[test]
fn every_table_has_the_length_that_is_promised() {
    for seed in 0..200 {
        assert_eq!(table(&endpoints(10, seed)).len(), length(10));
    }
}

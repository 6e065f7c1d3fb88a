//! Elements of `services` and `backends`, word by word: what belongs together is in one word.

use std::net::IpAddr;

use common::maps::{Backend, Selection, Service, backend_state};

use crate::sync::Shared;

/// Words of a [`Service`].
mod service_word {
    pub(super) const INSIDE: usize = 0;
    pub(super) const OUTSIDE: usize = 1;
    pub(super) const GENERATION_AND_GROUP: usize = 2;
    pub(super) const AFFINITY_AND_FLAGS: usize = 3;
}

/// Words of a [`Backend`].
mod backend_word {
    pub(super) const ADDRESS: [usize; 2] = [0, 1];
    /// Port, family, state and generation.
    pub(super) const LIFE: usize = 2;
    pub(super) const GROUP_AND_FLAGS: usize = 3;
}

/// An element of `services`.
pub(super) fn read_service(services: &Shared, id: u32) -> Service {
    bytemuck::cast([0, 1, 2, 3].map(|word| services.load(id, word)))
}

/// The same, if it is somebody's. Most are not: they are told by their one word that says so.
pub(super) fn read_used_service(services: &Shared, id: u32) -> Option<Service> {
    let [_, group]: [u32; 2] = bytemuck::cast(services.load(id, service_word::GENERATION_AND_GROUP));
    (group != 0).then(|| read_service(services, id))
}

/// Fills an element of `services` that no frontend refers to yet, for connections that begin from now on.
pub(super) fn fill_service(services: &Shared, id: u32, service: Service) {
    let [inside, outside, generation_and_group, affinity_and_flags]: [u64; 4] = bytemuck::cast(service);
    services.store(id, service_word::GENERATION_AND_GROUP, generation_and_group);
    services.store(id, service_word::AFFINITY_AND_FLAGS, affinity_and_flags);
    services.store(id, service_word::INSIDE, inside);
    services.store(id, service_word::OUTSIDE, outside);
}

/// Changes what a service selects, each selection in one step.
pub(super) fn select(services: &Shared, id: u32, inside: Selection, outside: Selection) {
    services.store(id, service_word::INSIDE, inside.pack());
    services.store(id, service_word::OUTSIDE, outside.pack());
}

/// Changes a service's affinity and flags, in one step.
pub(super) fn set_options(services: &Shared, id: u32, affinity: u32, flags: u32) {
    services.store(id, service_word::AFFINITY_AND_FLAGS, bytemuck::cast([affinity, flags]));
}

/// Makes an element of `services` nobody's, and its connections stale.
pub(super) fn clear_service(services: &Shared, id: u32, first_generation: u32) {
    let generation = next(read_service(services, id).generation, first_generation);
    services.store(id, service_word::GENERATION_AND_GROUP, bytemuck::cast([generation, 0]));
    services.store(id, service_word::INSIDE, Selection::Reject.pack());
    services.store(id, service_word::OUTSIDE, Selection::Reject.pack());
    services.store(id, service_word::AFFINITY_AND_FLAGS, 0);
}

/// An element of `backends`.
pub(super) fn read_backend(backends: &Shared, id: u32) -> Backend {
    bytemuck::cast([0, 1, 2, 3].map(|word| backends.load(id, word)))
}

/// The same, if it is somebody's.
pub(super) fn read_used_backend(backends: &Shared, id: u32) -> Option<Backend> {
    let [_, _, family, ..] = backends.load(id, backend_word::LIFE).to_ne_bytes();
    (family != 0).then(|| read_backend(backends, id))
}

/// Fills an element of `backends` that nothing refers to yet.
pub(super) fn fill_backend(backends: &Shared, id: u32, backend: Backend) {
    let words: [u64; 4] = bytemuck::cast(backend);
    for word in backend_word::ADDRESS {
        backends.store(id, word, words[word]);
    }
    backends.store(id, backend_word::LIFE, words[backend_word::LIFE]);
    backends.store(id, backend_word::GROUP_AND_FLAGS, words[backend_word::GROUP_AND_FLAGS]);
}

/// Changes a backend's state and flags.
pub(super) fn update_backend(backends: &Shared, id: u32, state: u8, flags: u32) {
    let backend = Backend { state, flags, ..read_backend(backends, id) };
    let words: [u64; 4] = bytemuck::cast(backend);
    backends.store(id, backend_word::LIFE, words[backend_word::LIFE]);
    backends.store(id, backend_word::GROUP_AND_FLAGS, words[backend_word::GROUP_AND_FLAGS]);
}

/// Makes an element of `backends` nobody's, and its connections stale: to be called when no packet that has chosen it is
/// under way any more.
pub(super) fn clear_backend(backends: &Shared, id: u32, first_generation: u32) {
    let before = read_backend(backends, id);
    let after = Backend {
        family: 0,
        state: backend_state::GONE,
        generation: next(before.generation, first_generation),
        group: 0,
        flags: 0,
        ..before
    };
    let words: [u64; 4] = bytemuck::cast(after);
    backends.store(id, backend_word::LIFE, words[backend_word::LIFE]);
    backends.store(id, backend_word::GROUP_AND_FLAGS, words[backend_word::GROUP_AND_FLAGS]);
}

/// The generation behind `generation`. An element that never had one begins where the ones of a map that this one may have
/// taken the place of, which connections may still know, have not come to.
pub(super) fn next(generation: u32, first: u32) -> u32 {
    if generation == 0 { first.max(1) } else { generation.wrapping_add(1).max(1) }
}

/// An address as maps of both families have it.
pub(super) fn wide(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut wide = [0; 16];
            wide[..4].copy_from_slice(&address.octets());
            wide
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// The address that a map of both families has.
pub(super) fn narrow(wide: [u8; 16], family: u8) -> IpAddr {
    match (family, wide) {
        (4, [a, b, c, d, ..]) => [a, b, c, d].into(),
        _ => wide.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_that_is_cleared_makes_its_connections_stale() {
        let services = Shared::in_memory(2, size_of::<Service>());
        let service = Service { inside: 7, outside: 8, generation: 3, group: 4, affinity: 5, flags: 6 };
        fill_service(&services, 1, service);
        assert_eq!(read_service(&services, 1), service);
        assert_eq!(read_used_service(&services, 1), Some(service));
        assert_eq!(read_used_service(&services, 0), None);
        clear_service(&services, 1, 1000);
        assert_eq!(read_used_service(&services, 1), None);
        assert_eq!(read_service(&services, 1), Service { generation: 4, ..Service::default() });
        clear_service(&services, 0, 1000);
        assert_eq!(read_service(&services, 0).generation, 1000);
    }

    #[test]
    fn a_backend_changes_its_state_and_nothing_else() {
        let backends = Shared::in_memory(1, size_of::<Backend>());
        let backend = Backend {
            address: wide([10, 0, 0, 1].into()),
            port: 80_u16.to_be_bytes(),
            family: 4,
            state: backend_state::READY,
            generation: 9,
            group: 2,
            flags: 1,
        };
        fill_backend(&backends, 0, backend);
        assert_eq!(read_backend(&backends, 0), backend);
        update_backend(&backends, 0, backend_state::NOT_READY, 4);
        assert_eq!(
            read_backend(&backends, 0),
            Backend { state: backend_state::NOT_READY, flags: 4, ..backend }
        );
        assert_eq!(read_used_backend(&backends, 0).map(|backend| backend.group), Some(2));
        clear_backend(&backends, 0, 1);
        assert_eq!(read_used_backend(&backends, 0), None);
        let cleared = read_backend(&backends, 0);
        assert_eq!((cleared.family, cleared.generation, cleared.group), (0, 10, 0));
    }
}

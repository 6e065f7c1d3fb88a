//! Names of services, by their numbers in the maps.

use std::collections::HashMap;

use crate::{paths::NodePaths, state::ServicesState};

/// Names of the service ports of a node, by index into `services`.
pub(super) struct ServiceNames {
    by_id: HashMap<u32, (String, u16)>,
}

impl ServiceNames {
    /// Those of the services that the last loader wrote.
    pub(super) fn read(paths: &NodePaths) -> anyhow::Result<Self> {
        let state = ServicesState::read(&paths.services())?;
        let ids = state.services.into_iter().flat_map(|service| {
            let name = (service.service, service.port);
            service.exposures.into_iter().map(move |exposure| (exposure.id, name.clone()))
        });
        Ok(Self { by_id: ids.collect() })
    }

    /// Name and port of a service.
    pub(super) fn of(&self, id: u32) -> String {
        self.by_id.get(&id).map_or_else(|| format!("#{id}"), |(name, port)| format!("{name}:{port}"))
    }

    /// The numbers of the service of that name: all its ports', or with `name:port` that port's.
    pub(super) fn ids(&self, wanted: &str) -> anyhow::Result<Vec<u32>> {
        let is_wanted = |(name, port): &(String, u16)| *name == wanted || format!("{name}:{port}") == wanted;
        let ids: Vec<u32> =
            self.by_id.iter().filter(|(_, name)| is_wanted(name)).map(|(id, _)| *id).collect();
        anyhow::ensure!(!ids.is_empty(), "no service {wanted} is on this node; `loader services` lists them");
        Ok(ids)
    }
}

//! Pools that come and go with ports: where a port will live, and when a pool is given back.
//!
//! Called by `reconfigure` and at each tick. Invariant: what NFs may have mapped is never filled with
//! packets of other ports than its own. A domain that is new gets a pool that is new; a pool that
//! all ports have left goes, memory and all, once its buffers are home. Who still maps it keeps what
//! was in it.

use mvmp_policy::Config;
use mvmp_policy::config::PortSpec;

use super::state::{Control, PoolEntry, PortEntry};
use crate::platform::build_domain;
use crate::platform::ports::{data_room, max_frame};
use crate::worker::Command;
use crate::worker::buffers::Buffers;
use crate::worker::port::Io;

/// Ports of one domain that are to be opened, and where.
pub(super) struct Home {
    pub(super) ports: Vec<PortSpec>,
    /// The pool of their domain, if there is one.
    pool: Option<usize>,
}

/// What a port was before it was opened anew: its number, specification, worker and pool.
type Before = (usize, PortSpec, usize, usize);

impl Control {
    /// Where each port that is new, or comes back, will live. Ports that a device of the file joins
    /// must be of one pool.
    pub(super) fn homes(&self, new: &Config) -> Result<Vec<Home>, String> {
        let mut homes = Vec::new();
        for domain in new.domains() {
            let specs: Vec<&PortSpec> = domain.ports.iter().map(|&at| &new.ports[at]).collect();
            let pool = self.pool_in_use(&specs)?;
            let mut ports = Vec::new();
            for &spec in &specs {
                match self.port_number(&spec.name) {
                    Some(number) if !self.ports[number].present => ports.push(spec.clone()),
                    None => ports.push(spec.clone()),
                    Some(_) if self.config.port(&spec.name).is_some() => {}
                    Some(_) => {
                        let name = &spec.name;
                        return Err(format!(
                            "the port {name} is still being closed: apply once more"
                        ));
                    }
                }
            }
            if !ports.is_empty() {
                let pool = pool.or_else(|| self.former_pool(&specs));
                homes.push(Home { ports, pool });
            }
        }
        Ok(homes)
    }

    /// The pool that those of these ports have that are not gone.
    pub(super) fn pool_in_use(&self, specs: &[&PortSpec]) -> Result<Option<usize>, String> {
        let known = specs.iter().filter_map(|spec| self.port_number(&spec.name));
        let known = known.filter(|&number| self.stays(number));
        let mut known = known.map(|number| &self.ports[number]);
        let Some(first) = known.next() else {
            return Ok(None);
        };
        match known.find(|port| port.pool != first.pool) {
            None => Ok(Some(first.pool)),
            Some(stray) => Err(format!(
                "the ports {} and {} would be joined by a device, but have pools of their own: that needs a restart",
                first.spec.name, stray.spec.name
            )),
        }
    }

    /// A pool that one of these had, if it is there still, was theirs alone, and has room for them.
    fn former_pool(&self, specs: &[&PortSpec]) -> Option<usize> {
        let numbers: Vec<Option<usize>> = specs
            .iter()
            .map(|spec| self.port_number(&spec.name))
            .collect();
        let room = data_room(specs, specs.iter().map(|spec| max_frame(spec)).max()?);
        let is_theirs = |pool: &&PoolEntry| {
            !pool.retiring
                && !pool.ports.is_empty()
                && pool.ports.iter().all(|&port| numbers.contains(&Some(port)))
                && pool.pool.data_room_bytes() >= room
        };
        let pool = self.pools.iter().find(is_theirs);
        pool.map(|pool| pool.id.into())
    }

    /// A port that is there, or whose place the configuration keeps.
    fn stays(&self, number: usize) -> bool {
        let port = &self.ports[number];
        port.present || self.config.port(&port.spec.name).is_some()
    }

    /// Opens the ports that are new; they serve once the workers know the devices.
    pub(super) fn take_in_ports(&mut self, homes: Vec<Home>) -> Result<Vec<(usize, Io)>, String> {
        let ports = self.ports.len();
        let lists: Vec<Vec<usize>> = self.pools.iter().map(|pool| pool.ports.clone()).collect();
        let (mut before, mut made) = (Vec::new(), Vec::new());
        let opened = self.try_take_in(homes, &mut before, &mut made);
        if opened.is_err() {
            for (number, spec, worker, pool) in before {
                let port = &mut self.ports[number];
                (port.spec, port.worker, port.pool) = (spec, worker, pool);
            }
            self.ports.truncate(ports);
            self.pools.truncate(lists.len());
            for (pool, list) in self.pools.iter_mut().zip(lists) {
                pool.ports = list;
            }
            return opened;
        }
        for (worker, buffers) in made {
            self.workers[worker].tell(Command::AddPool(Box::new(buffers)));
        }
        opened
    }

    fn try_take_in(
        &mut self,
        homes: Vec<Home>,
        before: &mut Vec<Before>,
        made: &mut Vec<(usize, Buffers)>,
    ) -> Result<Vec<(usize, Io)>, String> {
        let mut opened = Vec::new();
        for home in homes {
            let pool = match home.pool {
                Some(pool) => pool,
                None => self.make_pool(&home.ports, made)?,
            };
            for spec in home.ports {
                let number = match self.port_number(&spec.name) {
                    Some(number) => {
                        let port = &mut self.ports[number];
                        let old = std::mem::replace(&mut port.spec, spec);
                        before.push((number, old, port.worker, port.pool));
                        port.counters.ended.set(0);
                        number
                    }
                    None => {
                        self.ports.push(PortEntry::new(spec, 0, pool));
                        self.ports.len() - 1
                    }
                };
                self.settle(number, pool);
                let io = self
                    .open_io(number)
                    .map_err(|error| format!("port {}: {error}", self.ports[number].spec.name))?;
                opened.push((number, io));
            }
        }
        Ok(opened)
    }

    /// Notes where a port lives from now on.
    fn settle(&mut self, number: usize, pool: usize) {
        for entry in &mut self.pools {
            entry.ports.retain(|&port| port != number);
            if usize::from(entry.id) == pool {
                entry.ports.push(number);
                (self.ports[number].worker, self.ports[number].pool) = (entry.worker, pool);
            }
        }
    }

    /// A pool for a domain of its own, on the worker that has the fewest.
    fn make_pool(
        &mut self,
        ports: &[PortSpec],
        made: &mut Vec<(usize, Buffers)>,
    ) -> Result<usize, String> {
        let pools_of = |worker: &usize| {
            let own = self.pools.iter().filter(|pool| pool.worker == *worker);
            own.count()
        };
        let worker = (0..self.workers.len()).min_by_key(pools_of).unwrap_or(0);
        // An NF keeps what it was told of a pool: its number stands for no other meanwhile.
        let known = self.sessions.values().map(|session| session.known_pools);
        let known = known.fold(0, |all, pools| all | pools);
        let is_free = |&id: &usize| self.pool(id).is_none() && known & (1 << id) == 0;
        let most = usize::from(mvmp_wire::PRIVATE_POOL);
        let id = (0..most).find(is_free).ok_or_else(|| {
            format!("a platform has at most {most} pools, those included that NFs still map")
        })?;
        let specs: Vec<&PortSpec> = ports.iter().collect();
        let domain = build_domain(id, worker, &specs, self.config.platform.buffers)?;
        self.pools.push(domain.entry);
        made.push((worker, domain.buffers));
        Ok(id)
    }

    /// Has pools given back that all ports have left.
    pub(super) fn retire_pools(&mut self) {
        for at in 0..self.pools.len() {
            let pool = &self.pools[at];
            // A worker keeps its first one: frames that NFs build go there if no better place is known.
            let is_first = !self.pools[..at].iter().any(|it| it.worker == pool.worker);
            let is_kept = pool.retiring || pool.for_nfs || is_first;
            let home = u64::from(pool.pool.available()) + pool.counters.kept.get();
            if !is_kept
                && home == u64::from(pool.pool.buffers())
                && !pool.ports.iter().any(|&port| self.stays(port))
            {
                let (worker, pool) = (pool.worker, pool.id);
                self.pools[at].retiring = true;
                self.workers[worker].tell(Command::RetirePool { pool });
            }
        }
    }

    /// A worker has given a pool back, or keeps it: something has come to it meanwhile.
    pub(super) fn pool_retired(&mut self, id: u8, buffers: Option<Box<Buffers>>) {
        let Some(at) = self.pools.iter().position(|pool| pool.id == id) else {
            return;
        };
        if buffers.is_none() {
            self.pools[at].retiring = false;
            return;
        }
        let gone = self.pools.remove(at);
        tracing::info!(
            pool = gone.pool.name(),
            "no port is left: memory given back"
        );
    }
}

//! Devices that NFs define for themselves (paper §3.3): over ports that `may_define` names, open for
//! one handle, gone with it.
//!
//! Such a device is a device like any other while it lives. Its name is that of the instance and
//! the one that the NF gave it, so that nobody else can open it by chance.

use mvmp_policy::config::DeviceSpec;
use mvmp_policy::{Config, ConfigError};
use mvmp_wire::message::ErrorCode;
use serde_json::Value;

use super::authorize::{self, Refusal};
use super::opening::{is_libpcaps, of_libpcap};
use super::reconfigure::DEVICES_MAX;
use super::session::Session;
use super::state::{Control, PortEntry};

/// Devices of its own that one NF can have open.
const OWN_MAX: usize = 8;

impl Control {
    /// Makes the device that an NF describes; returns its number.
    pub(super) fn define(&mut self, nf: u32, name: &str, table: &Value) -> Result<usize, Refusal> {
        let Some(session) = self.sessions.get(&nf) else {
            return Err(Refusal::new(ErrorCode::Other, "no such session"));
        };
        if name.is_empty() {
            let message = "a device of one's own needs a name";
            return Err(Refusal::new(ErrorCode::Config, message));
        }
        let own = format!("{}.{}.{name}", session.role, session.instance);
        if self.device_number(&own).is_some() {
            let message = format!("this NF has defined a device `{name}` already");
            return Err(Refusal::new(ErrorCode::Config, message));
        }
        let has = self
            .devices
            .iter()
            .filter(|device| device.owner == Some(nf));
        if has.filter(|device| !device.gone).count() >= OWN_MAX {
            let message = format!("an NF has at most {OWN_MAX} devices of its own");
            return Err(Refusal::new(ErrorCode::NoRoom, message));
        }
        if says_libpcap(table) {
            return Err(of_libpcap());
        }
        let mut spec = Config::from_device_json(name, table, &self.config.ports).map_err(wrong)?;
        spec.name.clone_from(&own);
        authorize::may_define(&self.config, &session.role, spec.ports())?;
        self.have_one_worker(&spec)?;
        let mut new = self.config.clone();
        new.devices.push(spec);
        if new.devices.len() > DEVICES_MAX {
            let message = format!("a platform has at most {DEVICES_MAX} devices");
            return Err(Refusal::new(ErrorCode::NoRoom, message));
        }
        self.owners.insert(own.clone(), nf);
        self.install_devices(&new);
        self.config = new;
        self.tell_workers(&[]);
        self.device_number(&own)
            .ok_or_else(|| Refusal::new(ErrorCode::Config, "the device cannot be made"))
    }

    /// Ports of several pools can be joined for one NF, ports of several workers cannot.
    fn have_one_worker(&self, spec: &DeviceSpec) -> Result<(), Refusal> {
        let ports = spec.ports().filter_map(|port| self.port_number(port));
        let ports: Vec<&PortEntry> = ports.map(|port| &self.ports[port]).collect();
        let stray = ports.iter().find(|port| port.worker != ports[0].worker);
        stray.map_or(Ok(()), |stray| {
            let (one, other) = (&ports[0].spec.name, &stray.spec.name);
            let message = format!("different workers serve the ports `{one}` and `{other}`");
            let hint = "a device of the configuration that joins them gives them one worker, from its next start on";
            Err(Refusal::new(ErrorCode::Config, message).hint(hint))
        })
    }

    /// A device of an NF's own goes when nobody has it open.
    pub(super) fn forget_own_device(&mut self, device: usize) {
        let entry = &self.devices[device];
        let mut handles = self
            .sessions
            .values()
            .flat_map(|session| session.handles.values());
        if entry.owner.is_none() || entry.gone || handles.any(|handle| handle.device == device) {
            return;
        }
        let name = entry.name.clone();
        self.owners.remove(&name);
        self.config.devices.retain(|device| device.name != name);
        self.devices[device].gone = true;
        self.tell_workers(&[]);
    }

    /// The NF that has defined the device of this name.
    pub(super) fn owner_of(&self, device: &str) -> Option<u32> {
        self.owners.get(device).copied()
    }

    /// A new configuration keeps the devices that NFs have defined, as far as their ports stay.
    pub(super) fn keep_own_devices(&self, new: &mut Config) {
        for device in &self.config.devices {
            let mut ports = device.ports();
            let own = self.owners.contains_key(&device.name);
            if own && ports.all(|port| new.port(port).is_some()) {
                new.devices.push(device.clone());
            }
        }
    }

    /// The configuration as its file says it.
    pub(super) fn without_own_devices(&self) -> Config {
        let mut config = self.config.clone();
        let own = |name: &String| self.owners.contains_key(name);
        config.devices.retain(|device| !own(&device.name));
        config
    }

    /// What an NF may do with a device: what the table grants, or everything with its own, as long
    /// as it may define it.
    pub(super) fn rights(
        &self,
        session: &Session,
        device: usize,
        rx: Option<bool>,
        tx: Option<bool>,
    ) -> Result<(bool, bool), Refusal> {
        let device = &self.devices[device];
        match device.owner {
            None => authorize::rights(&self.config, &session.role, &device.name, rx, tx),
            Some(owner) if owner == session.nf => {
                let ports = device
                    .ports
                    .iter()
                    .map(|&port| &*self.ports[port].spec.name);
                authorize::may_define(&self.config, &session.role, ports)?;
                Ok((rx.unwrap_or(true), tx.unwrap_or(true)))
            }
            Some(_) => Err(Refusal::new(
                ErrorCode::NotAuthorized,
                format!("the device `{}` is another NF's own", device.name),
            )),
        }
    }
}

/// What an NF hears of a table that is wrong: it has no lines.
fn wrong(error: ConfigError) -> Refusal {
    let message = format!("{}: {}", error.key, error.message);
    let hint = error.hint;
    Refusal {
        hint,
        ..Refusal::new(ErrorCode::Config, message)
    }
}

/// Whether any text in it is a rule of libpcap's dialect. The depth is bounded by the message's.
fn says_libpcap(value: &Value) -> bool {
    match value {
        Value::String(text) => is_libpcaps(text),
        Value::Array(items) => items.iter().any(says_libpcap),
        Value::Object(fields) => fields.values().any(says_libpcap),
        _ => false,
    }
}

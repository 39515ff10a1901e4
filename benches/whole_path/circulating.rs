//! Traffic that is not zeros: frames are sent once into ports whose rx ring is their tx ring (DPDK's
//! `net_ring`), and the NFs send back whatever comes, so that they go round for ever.
//!
//! ```text
//! seeding NF ─▶ port ─▶ rules ─▶ NFs ─┐
//!                ▲────────────────────┘
//! ```
//!
//! None may be lost on the way, or the traffic would dry up: fewer circulate than any ring has slots,
//! any drop fails the run, and at the end all rules become `none` and the frames are counted as they fall out.

use std::path::Path;
use std::time::{Duration, Instant};

use mvmp_nf::{ConnectOptions, Link, Nf, OpenOptions};
use serde_json::{Value, json};

use crate::Failure;
use crate::operator::Operator;
use crate::platform::Served;

/// What goes round.
pub struct Circulating {
    pub frames: Vec<Vec<u8>>,
    /// The same platform when nothing is wanted any more.
    pub drained: String,
}

/// The role that seeds, and the device that it may send to.
pub const SEEDER: &str = "seed";
const SEEDED: &str = "d0";
const PATIENCE: Duration = Duration::from_secs(10);

impl Circulating {
    /// Sends each frame once.
    pub fn seed(&self, folder: &Path, platform: &mut Served) -> Result<(), Failure> {
        let options = ConnectOptions {
            socket: Some(folder.into()),
            wait: PATIENCE,
        };
        let nf = Nf::connect(SEEDER, options)?;
        let device = nf.open(SEEDED, OpenOptions::default())?;
        let frames: Vec<&[u8]> = self.frames.iter().map(Vec::as_slice).collect();
        let taken = device.send_within(&frames, None, Link::Ethernet, Some(PATIENCE), &|| false)?;
        if taken != frames.len() {
            return Err(format!("only {taken} of {} frames were taken", frames.len()).into());
        }
        until(|| {
            let (stats, _) = platform.stats()?;
            let built = stats["handles"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|handle| number(&handle["out"]["built"]))
                .sum::<u64>();
            Ok((
                built == frames.len() as u64,
                format!("{built} frames were sent"),
            ))
        })?;
        nf.close();
        Ok(())
    }

    /// Nothing was lost so far.
    pub fn check(&self, stats: &Value) -> Result<(), Failure> {
        match dropped(stats) {
            0 => Ok(()),
            lost => Err(format!("{lost} drops: fewer frames circulate than were sent").into()),
        }
    }

    /// Lets them fall out, and counts them.
    pub fn drain(&self, folder: &Path, platform: &mut Served) -> Result<(), Failure> {
        Operator::connect(folder)?.apply(&self.drained)?;
        let wanted = self.frames.len() as u64;
        until(|| {
            let fallen = dropped(&platform.stats()?.0);
            Ok((
                fallen == wanted,
                format!("{fallen} of {wanted} frames are there at the end"),
            ))
        })
    }
}

fn until(mut state: impl FnMut() -> Result<(bool, String), Failure>) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (reached, what) = state()?;
        if reached {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(what.into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// All drops of ports and handles, whatever their names.
pub fn dropped(stats: &Value) -> u64 {
    let empty = json!({});
    let drops = |of: &Value| -> u64 {
        of["drops"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, n)| number(n))
            .sum()
    };
    let ports = stats["ports"].as_object().into_iter().flatten();
    let handles = stats["handles"].as_array().into_iter().flatten();
    ports
        .map(|(_, port)| drops(port) + drops(port.get("tx").unwrap_or(&empty)))
        .chain(handles.map(|handle| drops(handle) + drops(&handle["out"])))
        .sum()
}

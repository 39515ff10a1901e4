//! An NF's process: `nf SOCKET_DIR ROLE DEVICE_IN DEVICE_OUT|- BURST`. Without a device out it releases.

use std::time::Duration;

use mvmp_nf::{Burst, ConnectOptions, Nf, NfError, OpenOptions, Wait, Which};

use crate::Failure;
use crate::machine::{self, NF_CPU};

pub fn serve(words: &[String]) -> Result<(), Failure> {
    let [folder, role, input, output, size] = words else {
        return Err("nf SOCKET_DIR ROLE DEVICE_IN DEVICE_OUT|- BURST".into());
    };
    machine::pin(NF_CPU);
    let nf = Nf::connect(
        role,
        ConnectOptions {
            socket: Some(folder.into()),
            wait: Duration::from_secs(10),
        },
    )?;
    let input = nf.open(input, OpenOptions::default())?;
    let output = match output.as_str() {
        "-" => None,
        device if device == input.device() => Some(input.clone()),
        device => Some(nf.open(device, OpenOptions::default())?),
    };
    println!("ready");
    let size: usize = size.parse()?;
    let mut burst = Burst::with_capacity(size);
    loop {
        match input.rx_burst(size, &mut burst) {
            Ok(0) => match input.wait(None, &|| false) {
                Ok(Wait::Ended) | Err(NfError::PlatformLost { .. }) => return Ok(()),
                other => drop(other?),
            },
            Ok(_) => {
                if let Some(output) = &output {
                    output.tx_burst(&mut burst, &Which::All, None)?;
                }
                burst.release();
            }
            Err(NfError::PlatformLost { .. } | NfError::Detached(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

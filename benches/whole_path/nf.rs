//! An NF's process: `nf SOCKET_DIR ROLE DEVICE_IN,… DEVICE_OUT|- BURST`. Without a device out it releases; where
//! in and out are the same, what came by a device is sent by it.

use std::time::Duration;

use mvmp_nf::{Burst, ConnectOptions, Handle, Nf, NfError, OpenOptions, Wait, Which};

use crate::Failure;
use crate::machine::{self, NF_CPU};

pub fn serve(words: &[String]) -> Result<(), Failure> {
    let [folder, role, input, output, size] = words else {
        return Err("nf SOCKET_DIR ROLE DEVICE_IN,… DEVICE_OUT|- BURST".into());
    };
    machine::pin(NF_CPU);
    let nf = Nf::connect(
        role,
        ConnectOptions {
            socket: Some(folder.into()),
            wait: Duration::from_secs(10),
        },
    )?;
    let open = |device: &str| nf.open(device, OpenOptions::default());
    let inputs = input.split(',').map(open).collect::<Result<Vec<_>, _>>()?;
    let outputs = match output.as_str() {
        "-" => Vec::new(),
        same if same == input => inputs.clone(),
        device => vec![open(device)?; inputs.len()],
    };
    println!("ready");
    match forward(&inputs, &outputs, size.parse()?) {
        Ok(()) | Err(NfError::PlatformLost { .. } | NfError::Detached(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn forward(inputs: &[Handle], outputs: &[Handle], size: usize) -> Result<(), NfError> {
    let mut burst = Burst::with_capacity(size);
    loop {
        let mut got = 0;
        for (at, input) in inputs.iter().enumerate() {
            let count = input.rx_burst(size, &mut burst)?;
            if count == 0 {
                continue;
            }
            got += count;
            if let Some(output) = outputs.get(at) {
                output.tx_burst(&mut burst, &Which::All, None)?;
            }
            burst.release();
        }
        if got == 0 && Handle::wait_all(inputs, None, &|| false)? == Wait::Ended {
            return Ok(());
        }
    }
}

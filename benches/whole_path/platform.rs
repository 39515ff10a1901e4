//! The platform's process, `platform CONFIG SOCKET NICE`, and how the measuring process speaks to it.
//!
//! Lines on stdin: `stats` answers with the statistics, `finish PORT,…` takes ports out of
//! service, waits until every buffer is home, checks the books and says `right` or what is wrong.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use mvmp_core::{Options, Platform};
use mvmp_policy::Config;
use serde_json::Value;

use crate::arguments::Arguments;
use crate::machine::{self, PLATFORM_CPU};
use crate::{Failure, cases};

/// The shared socket in the platform's folder.
pub const SOCKET: &str = "mvmp.sock";

pub fn serve(words: &[String]) -> Result<(), Failure> {
    let [config, socket, nice] = words else {
        return Err("platform CONFIG SOCKET NICE".into());
    };
    // As a daemon is: apart from the NFs.
    machine::own_session(nice.parse()?);
    machine::pin(PLATFORM_CPU);
    let config = Config::from_toml(&std::fs::read_to_string(config)?, config)
        .map_err(|error| error.to_string())?;
    let mut platform = Platform::start(
        config,
        &Options {
            socket: socket.into(),
            harden: false,
        },
    )?;
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line?;
        match line.split_once(' ') {
            None if line == "stats" => println!("{}", platform.stats()),
            Some(("finish", ports)) => println!(
                "{}",
                finish(&platform, ports).map_or_else(|wrong| wrong, |()| "right".into())
            ),
            _ => return Err(format!("{line}: stats, or finish PORT,…").into()),
        }
    }
    platform.stop();
    Ok(())
}

fn finish(platform: &Platform, ports: &str) -> Result<(), String> {
    for port in ports.split(',') {
        platform.remove_port(port)?;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let stats = platform.stats();
        match books(&stats) {
            Ok(()) => return Ok(()),
            // What NFs still held when the port went comes back by and by.
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Err(wrong) => return Err(wrong),
        }
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(u64::MAX)
}

fn sum(drops: &Value) -> u64 {
    drops
        .as_object()
        .map_or(0, |drops| drops.values().map(number).sum())
}

/// DESIGN, "Books": each sum, and every buffer at home.
fn books(stats: &Value) -> Result<(), String> {
    let equal = |what: &str, one: u64, other: u64| {
        if one == other {
            Ok(())
        } else {
            Err(format!("{what}: {one} is not {other}"))
        }
    };
    for (name, port) in stats["ports"].as_object().into_iter().flatten() {
        equal(
            &format!("port {name}: received = dispatched + drops"),
            number(&port["received"]),
            number(&port["dispatched"]) + sum(&port["drops"]),
        )?;
        let tx = &port["tx"];
        equal(
            &format!("port {name}: accepted = transmitted + drops"),
            number(&tx["accepted"]),
            number(&tx["transmitted"]) + sum(&tx["drops"]),
        )?;
    }
    for handle in stats["handles"].as_array().into_iter().flatten() {
        let name = &handle["nf"];
        equal(
            &format!("{name}: offered = delivered + drops"),
            number(&handle["offered"]),
            number(&handle["delivered"]) + sum(&handle["drops"]),
        )?;
        let out: u64 = ["sent", "forwarded", "released", "nf_died"]
            .iter()
            .map(|key| number(&handle["out"][key]))
            .sum();
        equal(
            &format!("{name}: delivered = what became of it"),
            number(&handle["delivered"]),
            out + number(&handle["held"]),
        )?;
    }
    for pool in stats["pools"].as_array().into_iter().flatten() {
        equal(
            "free = buffers",
            number(&pool["free"]),
            number(&pool["buffers"]),
        )?;
        equal("open shares", number(&pool["shares"]), 0)?;
    }
    for (name, nf) in stats["nfs"].as_object().into_iter().flatten() {
        equal(&format!("{name}: refused"), number(&nf["refused"]), 0)?;
    }
    Ok(())
}

/// A platform that runs in a process of its own.
pub struct Served {
    pub child: Child,
    words: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Served {
    pub fn start(
        config: &str,
        folder: &Path,
        counts: &str,
        arguments: &Arguments,
    ) -> Result<Self, Failure> {
        let file = folder.join("platform.toml");
        std::fs::write(&file, config)?;
        let mut child = cases::command(&std::env::current_exe()?, counts, arguments)?
            .arg("platform")
            .args([&file, &folder.join(SOCKET)])
            .arg(arguments.nice.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let words = child.stdin.take();
        let out = child.stdout.take().ok_or("the platform has no stdout")?;
        let mut served = Self {
            child,
            words,
            answers: BufReader::new(out).lines(),
        };
        loop {
            // EAL may say something on stdout first.
            if served.answer()? == "ready" {
                return Ok(served);
            }
        }
    }

    fn answer(&mut self) -> Result<String, Failure> {
        Ok(self.answers.next().ok_or("the platform has ended")??)
    }

    fn say(&mut self, words: &str) -> Result<String, Failure> {
        writeln!(
            self.words.as_mut().ok_or("the platform was told to stop")?,
            "{words}"
        )?;
        self.answer()
    }

    pub fn stats(&mut self) -> Result<(Value, Instant), Failure> {
        let text = self.say("stats")?;
        Ok((serde_json::from_str(&text)?, Instant::now()))
    }

    /// Takes ports (commas between) out of service and checks the books.
    pub fn finish(&mut self, ports: &str) -> Result<(), Failure> {
        match self.say(&format!("finish {ports}"))?.as_str() {
            "right" => Ok(()),
            wrong => Err(format!("the books are wrong: {wrong}").into()),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.words.take());
        // Whatever it says now, the run is over.
        let _ = self.child.wait();
    }
}

//! The cases: which platform, which NFs, which figure.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::circulating::Circulating;
use crate::machine::{OnCpu, on_cpu};
use crate::platform::Served;
use crate::{Failure, applying, idle, policies};

/// How one NF's process is started.
#[derive(Clone)]
pub struct NfLine {
    role: String,
    /// One device, or several with commas between.
    input: String,
    /// `-`: it releases.
    output: String,
    burst: usize,
    python: Option<PathBuf>,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq)]
pub enum Figure {
    /// Packets that left by the port, Mpps.
    Transmitted,
    /// Packets that every NF has received and given back, Mpps: the least of them.
    Shared,
    /// CPU of platform and NFs together, percent of one core.
    Idle,
    /// The longest time without a packet, ms.
    Gap,
}

pub struct Case {
    pub name: String,
    pub what: String,
    pub figure: Figure,
    pub config: String,
    pub nfs: Vec<NfLine>,
    /// Taken out of service at the end.
    pub ports: Vec<String>,
    /// The traffic, where the ports do not make it.
    pub circulating: Option<Circulating>,
}

impl Case {
    pub fn is_rate(&self) -> bool {
        matches!(self.figure, Figure::Transmitted | Figure::Shared)
    }

    /// It belongs to the table of policies and tunnels.
    pub fn is_of_policies(&self) -> bool {
        self.circulating.is_some() || self.figure == Figure::Gap
    }
}

pub struct Measured {
    pub figure: f64,
    pub note: String,
    pub facts: Value,
}

/// What the NFs written in Rust ask for at a time.
const BURST: usize = 64;

pub fn nf(role: &str, input: &str, output: &str, burst: usize) -> NfLine {
    NfLine {
        role: role.into(),
        input: input.into(),
        output: output.into(),
        burst,
        python: None,
    }
}

fn config(port: &str, rest: &str) -> String {
    format!(
        "[platform]\nworkers = [0]\n[ports]\nnull = \"net_null0,size=64,{port}\"\n[devices.in]\nmode = \"direct\"\nports = [\"null\"]\n{rest}"
    )
}

fn null() -> Vec<String> {
    vec!["null".into()]
}

fn forward(name: String, what: String, line: NfLine) -> Case {
    Case {
        name,
        what,
        figure: Figure::Transmitted,
        config: config("copy=0", "[nfs.wire]\ndevices = [\"in\"]\n"),
        nfs: vec![line],
        ports: null(),
        circulating: None,
    }
}

fn share(n: usize) -> Case {
    Case {
        name: format!("share-{n}"),
        what: format!(
            "{n} NF process{} on one direct device, each receives and releases every packet",
            if n == 1 { "" } else { "es" }
        ),
        figure: Figure::Shared,
        config: config(
            "copy=0",
            &format!("[nfs.ids]\ndevices = [\"in:rx\"]\ninstances = {n}\n"),
        ),
        nfs: vec![nf("ids", "in", "-", BURST); n],
        ports: null(),
        circulating: None,
    }
}

/// NF 0 receives from the port, passes on over v0, … the last sends to the port.
fn chain(k: usize) -> Case {
    let (mut rest, mut nfs) = (String::new(), Vec::new());
    for link in 0..k - 1 {
        rest += &format!("[devices.v{link}]\nmode = \"rootless\"\n");
    }
    for at in 0..k {
        let input = if at == 0 {
            "in".to_owned()
        } else {
            format!("v{}", at - 1)
        };
        let output = if at == k - 1 {
            "in".to_owned()
        } else {
            format!("v{at}")
        };
        let devices = if k == 1 {
            "\"in\"".to_owned()
        } else {
            format!("\"{input}:rx\", \"{output}:tx\"")
        };
        rest += &format!("[nfs.nf{at}]\ndevices = [{devices}]\n");
        nfs.push(nf(&format!("nf{at}"), &input, &output, BURST));
    }
    let what = format!(
        "chain: port → {k} NF process{} → port, joined by rootless devices",
        if k == 1 { "" } else { "es" }
    );
    Case {
        name: format!("chain-{k}"),
        what,
        figure: Figure::Transmitted,
        config: config("copy=0", &rest),
        nfs,
        ports: null(),
        circulating: None,
    }
}

fn python(interpreter: &Path, burst: usize) -> Case {
    let line = NfLine {
        python: Some(interpreter.to_owned()),
        ..nf("wire", "in", "in", burst)
    };
    let what =
        format!("a Python NF, `rx_burst({burst})`: counts one column's values by numpy, forwards");
    forward(format!("python-{burst}"), what, line)
}

fn idle_case() -> Case {
    Case {
        name: "idle".into(),
        what: "no traffic, five NF processes open and waiting: CPU of all, % of one core".into(),
        figure: Figure::Idle,
        config: config(
            "copy=0,no-rx=1",
            "[nfs.ids]\ndevices = [\"in\"]\ninstances = 5\n",
        ),
        nfs: vec![nf("ids", "in", "-", BURST); 5],
        ports: null(),
        circulating: None,
    }
}

pub fn all(arguments: &Arguments) -> Result<Vec<Case>, Failure> {
    let mut cases = vec![chain(1)];
    cases.extend([1, 2, 4, 8].map(share));
    cases.extend([3, 5].map(chain));
    if let Some(interpreter) = &arguments.python {
        cases.extend([256, 32].map(|burst| python(interpreter, burst)));
    }
    cases.push(idle_case());
    cases.extend(policies::all());
    cases.push(applying::case());
    for wanted in &arguments.only {
        if !cases.iter().any(|case| case.name == *wanted) {
            let known: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
            return Err(format!("--only {wanted}: the cases are {}", known.join(", ")).into());
        }
    }
    cases.retain(|case| arguments.only.is_empty() || arguments.only.contains(&case.name));
    Ok(cases)
}

/// An NF's process; ended with the case.
pub struct Started(pub Child);

impl Drop for Started {
    fn drop(&mut self) {
        // SIGTERM, so that a tool around it can say what it found.
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let _ = self.0.wait();
    }
}

/// A program of ours, counted by callgrind if that was asked for.
pub fn command(program: &Path, counts: &str, arguments: &Arguments) -> Result<Command, Failure> {
    let Some(folder) = &arguments.callgrind else {
        return Ok(Command::new(program));
    };
    std::fs::create_dir_all(folder)?;
    let out = folder.join(counts);
    let mut command = Command::new("valgrind");
    command
        .args(["-q", "--tool=callgrind", "--dump-instr=yes"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program);
    Ok(command)
}

fn start(
    line: &NfLine,
    folder: &Path,
    counts: &str,
    arguments: &Arguments,
) -> Result<Started, Failure> {
    let mut command = match &line.python {
        Some(interpreter) => {
            let mut command = command(interpreter, counts, arguments)?;
            command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python_forward.py"));
            command
        }
        None => {
            let mut command = command(&std::env::current_exe()?, counts, arguments)?;
            command.arg("nf");
            command
        }
    };
    command.arg(folder).args([
        &line.role,
        &line.input,
        &line.output,
        &line.burst.to_string(),
    ]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take();
    let started = Started(child);
    let first = BufReader::new(out.ok_or("an NF has no stdout")?)
        .lines()
        .next()
        .ok_or(format!("NF {} has ended", line.role))??;
    if first == "ready" {
        Ok(started)
    } else {
        Err(format!("NF {} says {first}", line.role).into())
    }
}

/// Measures one case once, with processes of its own.
pub fn run(case: &Case, arguments: &Arguments) -> Result<Measured, Failure> {
    if case.figure == Figure::Gap {
        return applying::run(arguments);
    }
    let folder = tempfile::tempdir()?;
    let counts = |of: &str| format!("{}.{of}.callgrind", case.name);
    let mut platform = Served::start(&case.config, folder.path(), &counts("platform"), arguments)?;
    let nfs = case
        .nfs
        .iter()
        .enumerate()
        .map(|(n, line)| start(line, folder.path(), &counts(&format!("nf{n}")), arguments))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(circulating) = &case.circulating {
        circulating.seed(folder.path(), &mut platform)?;
    }
    let platform_pid = platform.child.id();
    std::thread::sleep(arguments.warm_up);
    let worker = || on_cpu(std::iter::once(platform_pid), "mvmp-worker");
    let all_nfs = || on_cpu(nfs.iter().map(|nf| nf.0.id()), "");
    let (before, from) = platform.stats()?;
    let on_cpu_before = (worker(), all_nfs());
    let (figure, mut note) = if case.figure == Figure::Idle {
        idle::percent(&platform, &nfs)
    } else {
        std::thread::sleep(arguments.seconds);
        let (after, until) = platform.stats()?;
        let seconds = (until - from).as_secs_f64();
        let (figure, note) = rate(case, &before, &after, seconds);
        let share = |before: OnCpu, after: OnCpu| {
            format!(
                "ran {:.0} % (waited {:.0} %)",
                100.0 * (after.ran - before.ran) / seconds,
                100.0 * (after.waited - before.waited) / seconds
            )
        };
        (
            figure,
            format!(
                "{note}; worker {}, NFs {}",
                share(on_cpu_before.0, worker()),
                share(on_cpu_before.1, all_nfs())
            ),
        )
    };
    if let Some(circulating) = &case.circulating {
        circulating.check(&platform.stats()?.0)?;
        circulating.drain(folder.path(), &mut platform)?;
    }
    platform.finish(&case.ports.join(","))?;
    if arguments.callgrind.is_some() {
        let stats = platform.stats()?.0;
        let ports = stats["ports"].as_object().into_iter().flatten();
        let received: u64 = ports
            .filter_map(|(_, port)| port["received"].as_u64())
            .sum();
        note = format!("{received} packets received in all");
    }
    Ok(Measured {
        figure,
        note,
        facts: before["platform"]["facts"].clone(),
    })
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn rate(case: &Case, before: &Value, after: &Value, seconds: f64) -> (f64, String) {
    let since = |path: &str| {
        (count(after.pointer(path).unwrap_or(&Value::Null))
            - count(before.pointer(path).unwrap_or(&Value::Null))) as f64
    };
    let of_ports = |key: &str| -> f64 {
        let ports = case.ports.iter();
        ports
            .map(|port| since(&format!("/ports/{port}/{key}")))
            .sum()
    };
    let received = of_ports("received") / seconds / 1e6;
    let busy = 100.0 * since("/workers/0/busy_loops") / since("/workers/0/loops").max(1.0);
    let handles = after["handles"].as_array().map_or(0, Vec::len);
    let became = |at: usize| {
        ["sent", "forwarded", "released"]
            .iter()
            .map(|key| since(&format!("/handles/{at}/out/{key}")))
            .sum::<f64>()
    };
    let packets = match case.figure {
        Figure::Transmitted => of_ports("tx/transmitted"),
        _ => (0..handles).map(became).fold(f64::INFINITY, f64::min),
    };
    let note = format!(
        "received {received:.1} Mpps, worker busy {busy:.0} %, wakes {:.0}/s",
        since("/workers/0/wakes") / seconds
    );
    (packets / seconds / 1e6, note)
}

//! Measures the whole path: port → platform → NF processes → platform → port.
//!
//! Platform and testpmd have CPU 0, all NF processes share CPU 1, ports are `net_null` with 64-byte
//! frames, or `net_ring` where frames must differ. Every platform's books are checked at its end; wrong books end
//! the run.
//!
//! With `--callgrind` the platform and the NFs run under valgrind, which counts instructions: the same
//! on a busy machine as on a quiet one, where times are not.
//!
//! The same program is the platform's process and the NF's: `whole_path platform …`, `whole_path nf …`,
//! `whole_path watch …`.

mod applying;
mod arguments;
mod cases;
mod circulating;
mod idle;
mod machine;
mod nf;
mod operator;
mod platform;
mod plot;
mod policies;
mod report;
mod testpmd;
mod traffic;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;
use report::Series;

pub(crate) type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("whole_path: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("platform") => platform::serve(&words[1..]),
        Some("nf") => nf::serve(&words[1..]),
        Some("watch") => applying::watch(&words[1..]),
        _ => measure(&Arguments::parse()),
    }
}

fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let cases = cases::all(arguments)?;
    if let Some(page) = &arguments.markdown {
        report::check_page(page)?;
    }
    machine::own_session(arguments.nice);
    let mut series: Vec<Series> = cases
        .iter()
        .map(|case| Series::new(case.name.clone(), case.what.clone()))
        .collect();
    let mut yardstick = Series::new(
        "testpmd".into(),
        "`dpdk-testpmd`, io mode, one core, one `net_null` port".into(),
    );
    let mut ping_pong = Series::new(
        "ping-pong".into(),
        "a cache line there and back between CPU 0 and CPU 1, ns".into(),
    );
    let mut facts = serde_json::Value::Null;
    for run in 0..arguments.runs {
        ping_pong.add(machine::ping_pong_ns());
        let per_core = if arguments.testpmd {
            Some(testpmd::mpps(arguments)?)
        } else {
            None
        };
        per_core.iter().for_each(|&mpps| yardstick.add(mpps));
        for (case, series) in cases.iter().zip(&mut series) {
            let measured =
                cases::run(case, arguments).map_err(|error| format!("{}: {error}", case.name))?;
            facts = measured.facts;
            series.add(measured.figure);
            if let Some(mpps) = per_core.filter(|_| case.is_rate()) {
                series.ratio.push(measured.figure / mpps);
            }
            eprintln!(
                "run {} of {}: {:<12} {:8.2}   {}",
                run + 1,
                arguments.runs,
                case.name,
                measured.figure,
                measured.note
            );
        }
        eprintln!(
            "run {} of {}: testpmd {}, ping-pong {:.0} ns",
            run + 1,
            arguments.runs,
            per_core.map_or("left out".into(), |mpps| format!("{mpps:.2}")),
            ping_pong.last()
        );
    }
    let own_table = |case: &cases::Case| !arguments.huge && case.is_of_policies();
    let (policies, paths): (Vec<_>, Vec<_>) = cases
        .iter()
        .zip(&series)
        .partition(|(case, _)| own_table(case));
    let name = if arguments.huge {
        "whole path, huge pages"
    } else {
        "whole path"
    };
    for (name, table) in [(name, paths), ("policies and tunnels", policies)] {
        if table.is_empty() {
            continue;
        }
        let table: Vec<&Series> = table.into_iter().map(|(_, series)| series).collect();
        let mut text = report::markdown(&table, &yardstick, &ping_pong, &facts, arguments);
        if let Some(file) = &arguments.markdown {
            text += &report::draw(file, &table)?;
        }
        println!("{text}");
        if let Some(file) = &arguments.markdown {
            report::write_between_marks(file, name, &text)?;
        }
    }
    Ok(())
}

//! What the measuring program is asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Measures the whole path: port → platform → NF processes → platform → port.
///
/// Every run takes each case once, and dpdk-testpmd (Debian: dpdk-dev) as the yardstick, so that a figure and
/// what it is compared with come from the same minute. CPU 0 is the platform's and testpmd's, CPU 1 the NFs'.
#[derive(Debug, Parser)]
#[command(name = "whole_path")]
pub struct Arguments {
    /// Measured time of each case and run, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1")]
    pub seconds: Duration,
    /// Time before that, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0.7")]
    pub warm_up: Duration,
    /// Rounds through all cases
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = 5)]
    pub runs: u32,
    /// Only these cases, with commas between; without it all
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    pub only: Vec<String>,
    /// An interpreter that has mvmp; without it the cases of Python NFs are left out
    #[arg(long)]
    pub python: Option<PathBuf>,
    /// Page whose tables are written anew, between its marks
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Do without the yardstick
    #[arg(long = "no-testpmd", action = clap::ArgAction::SetFalse)]
    pub testpmd: bool,
    /// Priority of our processes beside other sessions' on the machine; below 0 needs root
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub nice: i32,
    /// The table goes where that of runs with huge pages is (reserve them before)
    #[arg(long)]
    pub huge: bool,
    /// Count instructions under valgrind, leave the counts here; see benches/instructions.py
    #[arg(long, value_name = "FOLDER")]
    pub callgrind: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text} is no number"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("a time above 0 is wanted".into()),
    }
}

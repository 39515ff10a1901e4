//! The figures as a table.

use std::path::Path;

use serde_json::Value;

use crate::arguments::Arguments;
use crate::plot::{Point, svg};
use crate::policies::rules_of;
use crate::{Failure, machine};

/// One case's figures over all runs.
pub struct Series {
    pub name: String,
    pub what: String,
    figures: Vec<f64>,
    /// To testpmd's figure in the same run.
    pub ratio: Vec<f64>,
}

impl Series {
    pub fn new(name: String, what: String) -> Self {
        Self {
            name,
            what,
            figures: Vec::new(),
            ratio: Vec::new(),
        }
    }

    pub fn add(&mut self, figure: f64) {
        self.figures.push(figure);
    }

    pub fn last(&self) -> f64 {
        self.figures.last().copied().unwrap_or(0.0)
    }

    fn row(&self) -> String {
        let [min, median, max] = spread(&self.figures);
        let ratio = if self.ratio.is_empty() {
            "–".into()
        } else {
            format!("{:.2}", spread(&self.ratio)[1])
        };
        format!(
            "| {} | {} | {min:.2} | **{median:.2}** | {max:.2} | {ratio} |\n",
            self.name, self.what
        )
    }
}

fn spread(figures: &[f64]) -> [f64; 3] {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    [
        at(0),
        at(sorted.len() / 2),
        at(sorted.len().saturating_sub(1)),
    ]
}

pub fn markdown(
    series: &[&Series],
    yardstick: &Series,
    ping_pong: &Series,
    facts: &Value,
    arguments: &Arguments,
) -> String {
    let pages = facts["page_bytes"].as_u64().unwrap_or(0) / 1024;
    let mut text = format!(
        "Machine: {}; {}; pages of the packet memory: {pages} KiB. Commit: {}. Runs: {}, {} s each, all cases and testpmd interleaved; priority beside other sessions (nice): {}.\n\n",
        machine::line(),
        facts["dpdk"].as_str().unwrap_or("?"),
        machine::commit(),
        arguments.runs,
        arguments.seconds.as_secs_f64(),
        arguments.nice,
    );
    text += "| case | what (Mpps unless said otherwise) | min | median | max | ÷ testpmd (median) |\n|---|---|---|---|---|---|\n";
    if arguments.testpmd {
        text += &yardstick.row();
    }
    series.iter().for_each(|series| text += &series.row());
    text += &ping_pong.row();
    text
}

/// That the page can take the tables: said before hours of measuring, not after.
pub fn check_page(page: &Path) -> Result<(), Failure> {
    std::fs::OpenOptions::new()
        .write(true)
        .open(page)
        .map_err(|error| format!("--markdown {}: {error}", page.display()))?;
    Ok(())
}

/// Replaces what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
pub fn write_between_marks(file: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let (begin, end) = (
        format!("<!-- {name}: begin -->"),
        format!("<!-- {name}: end -->"),
    );
    let page = std::fs::read_to_string(file)?;
    let (before, rest) = page
        .split_once(&begin)
        .ok_or(format!("{}: no {begin}", file.display()))?;
    let (_, after) = rest
        .split_once(&end)
        .ok_or(format!("{}: no {end}", file.display()))?;
    std::fs::write(file, format!("{before}{begin}\n{text}{end}{after}"))?;
    Ok(())
}

/// Draws the cost per rule beside the page, if the table has it; the page's line that shows the picture.
pub fn draw(page: &Path, series: &[&Series]) -> Result<String, Failure> {
    const PICTURE: &str = "cost-per-rule.svg";
    let points: Vec<Point> = series
        .iter()
        .filter_map(|series| {
            let [min, median, max] = spread(&series.figures);
            Some(Point {
                rules: rules_of(&series.name)?,
                ns: [max, median, min].map(|mpps| 1e3 / mpps),
            })
        })
        .collect();
    if points.is_empty() {
        return Ok(String::new());
    }
    std::fs::write(page.with_file_name(PICTURE), svg(&points))?;
    Ok(format!(
        "\n![Cost of a packet by the number of rules]({PICTURE})\n"
    ))
}

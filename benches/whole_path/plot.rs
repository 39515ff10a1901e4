//! The cost per rule as a picture, in SVG: nanoseconds a packet over the number of rules, which is logarithmic.

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 52.0;
/// Lines across, beside the lowest.
const LINES: u32 = 5;

/// One number of rules: fewest, median and most nanoseconds a packet.
pub struct Point {
    pub rules: f64,
    pub ns: [f64; 3],
}

/// The step of a scale of [`LINES`] lines that holds `most`: 1, 2 or 5 times a power of ten.
fn step(most: f64) -> f64 {
    let least = most / f64::from(LINES);
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|&step| step >= least)
        .unwrap_or(10.0 * power)
}

/// The picture; of no points an empty scale.
pub fn svg(points: &[Point]) -> String {
    let most = points.iter().map(|point| point.ns[2]).fold(1.0, f64::max);
    let step = step(most);
    let decades = points
        .iter()
        .map(|point| point.rules.log10())
        .fold(1.0, f64::max);
    let x = |rules: f64| LEFT + rules.log10() / decades * (WIDTH - LEFT - RIGHT);
    let y = |ns: f64| HEIGHT - BOTTOM - ns / (step * f64::from(LINES)) * (HEIGHT - TOP - BOTTOM);
    let text = |x: f64, y: f64, anchor: &str, words: &str| {
        format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>\n")
    };
    let line = |from: (f64, f64), to: (f64, f64), colour: &str| {
        format!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>\n",
            from.0, from.1, to.0, to.1
        )
    };
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    picture += &text(
        LEFT,
        20.0,
        "start",
        "Cost of a packet, ns (median, least to most), whole path",
    );
    picture += &text(
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 12.0,
        "middle",
        "rules over 16 devices",
    );
    for at in 0..=LINES {
        let ns = f64::from(at) * step;
        picture += &line((LEFT, y(ns)), (WIDTH - RIGHT, y(ns)), "#ddd");
        picture += &text(LEFT - 8.0, y(ns) + 4.0, "end", &format!("{ns}"));
    }
    let path: Vec<String> = points
        .iter()
        .map(|point| format!("{:.1},{:.1}", x(point.rules), y(point.ns[1])))
        .collect();
    picture += &format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#0b6\" stroke-width=\"2\"/>\n",
        path.join(" ")
    );
    for point in points {
        let (x, [least, median, most]) = (x(point.rules), point.ns);
        picture += &line((x, y(least)), (x, y(most)), "#063");
        picture += &format!(
            "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"#063\"/>\n",
            y(median)
        );
        picture += &text(x, y(most) - 10.0, "middle", &format!("{median:.0}"));
        picture += &text(
            x,
            HEIGHT - BOTTOM + 18.0,
            "middle",
            &format!("{}", point.rules),
        );
    }
    picture + "</svg>\n"
}

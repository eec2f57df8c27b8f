//! The picture: a bar for each measurement, whose length is the time of the subject over that of mio.

use std::fmt::Write;

use super::{Results, COLOURS, SUBJECTS};

/// The left edge of the bars in a panel.
const LEFT: f64 = 210.0;
/// The length of the bar of mio.
const UNIT: f64 = 110.0;
/// The ratio at which a longer bar is cut off.
const MAX_RATIO: f64 = 2.0;

const BAR: f64 = 5.0;
const ROW: f64 = BAR * SUBJECTS.len() as f64 + 7.0;
const TOP: f64 = 62.0;
const PANEL: f64 = LEFT + UNIT * MAX_RATIO + 60.0;

pub fn draw(results: &[Results]) -> String {
    let rows = results.iter().map(|results| results.cases.len()).max().unwrap_or(0);
    let (width, height) = (PANEL * results.len() as f64, TOP + ROW * rows as f64 + 10.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (index, results) in results.iter().enumerate() {
        writeln!(svg, "<g transform=\"translate({} 0)\">", PANEL * index as f64).unwrap();
        panel(&mut svg, results);
        svg += "</g>\n";
    }
    svg + "</svg>\n"
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>").unwrap();
}

fn rect(svg: &mut String, [x, y, width, height]: [f64; 4], colour: &str) {
    writeln!(svg, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>")
        .unwrap();
}

fn panel(svg: &mut String, results: &Results) {
    text(svg, 10.0, 20.0, "start", &format!("{}: time over mio's, less is better", results.backend));
    for (index, (subject, colour)) in SUBJECTS.iter().zip(COLOURS).enumerate() {
        let x = 10.0 + 75.0 * index as f64;
        rect(svg, [x, 30.0, 10.0, 10.0], colour);
        text(svg, x + 14.0, 39.0, "start", subject);
    }
    let bottom = TOP + ROW * results.cases.len() as f64;
    for tenths in [0, 5, 10, 15, 20] {
        let x = LEFT + UNIT * f64::from(tenths) / 10.0;
        let colour = if tenths == 10 { "#495057" } else { "#dee2e6" };
        rect(svg, [x, TOP - 4.0, 1.0, bottom - TOP + 4.0], colour);
        text(svg, x, TOP - 8.0, "middle", &format!("{:.1}", f64::from(tenths) / 10.0));
    }
    for (index, result) in results.cases.iter().enumerate() {
        let y = TOP + ROW * index as f64;
        text(svg, LEFT - 8.0, y + ROW / 2.0 + 1.0, "end", &result.case);
        // Each ratio is kevio's time over that of a subject, so that their quotient is the time of the subject over mio's.
        let Some(over_mio) = result.of("mio").map(|mio| mio.ratio[1]) else { continue };
        for (place, (subject, colour)) in SUBJECTS.iter().zip(COLOURS).enumerate() {
            let Some(measurement) = result.of(subject) else { continue };
            let (ratio, y) = (over_mio / measurement.ratio[1], y + BAR * place as f64);
            rect(svg, [LEFT, y, (UNIT * ratio.min(MAX_RATIO)).max(1.0), BAR - 1.0], colour);
            if ratio > MAX_RATIO {
                let x = LEFT + UNIT * MAX_RATIO + 4.0;
                writeln!(svg, "<text x=\"{x}\" y=\"{:.1}\" font-size=\"8\">{ratio:.1}</text>", y + BAR).unwrap();
            }
        }
    }
}

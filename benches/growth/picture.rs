//! The picture: a panel for each operation with a line for each subject. Both axes are logarithmic.

use std::error::Error;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::{COLOURS, SUBJECTS};
use super::results::{Growth, Series};

/// The number of panels in a row: the operations of registrations, of timers and of wakers begin a row each.
const COLUMNS: usize = 6;
const PANEL: (u32, u32) = (176, 150);
/// The height of the title of a backend.
const TITLE: u32 = 30;

/// The subjects in the order of drawing, and the widths of their lines. A line is visible below the thinner ones that cover it.
const LINES: [(&str, u32); 4] = [("bare", 7), ("mio", 4), ("kevio, SourceFd", 3), ("kevio", 2)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

pub fn draw(results: &[Growth]) -> String {
    let heights: Vec<u32> =
        results.iter().map(|growth| TITLE + PANEL.1 * operations(growth).len().div_ceil(COLUMNS) as u32).collect();
    let mut svg = String::new();
    let size = (PANEL.0 * COLUMNS as u32, heights.iter().sum());
    let mut rest = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    rest.fill(&WHITE).expect("a string takes every shape");
    for (growth, height) in results.iter().zip(heights) {
        let (area, below) = rest.split_vertically(height);
        backend(&area, growth).expect("a string takes every shape");
        rest = below;
    }
    rest.present().expect("a string takes every shape");
    drop(rest);
    svg
}

/// Returns the series of each operation.
fn operations(growth: &Growth) -> Vec<&[Series]> {
    growth.series.chunk_by(|one, next| one.operation == next.operation).collect()
}

fn colour(subject: &str) -> RGBColor {
    let known = SUBJECTS.iter().position(|known| *known == subject);
    let digits = known.map_or("#ffa94d", |index| COLOURS[index]);
    let number = u32::from_str_radix(&digits[1..], 16).expect("a colour is six digits");
    let [_, red, green, blue] = number.to_be_bytes();
    RGBColor(red, green, blue)
}

/// Returns a style whose letters have this height in pixels. plotters divides the height by 1.24.
fn font(pixels: f64) -> TextStyle<'static> {
    ("sans-serif", pixels * 1.24).into_font().color(&BLACK)
}

/// Draws a title with the legend, and the panels.
fn backend(area: &Area<'_>, growth: &Growth) -> Drawn {
    let (title, panels) = area.split_vertically(TITLE);
    let left = font(13.0).pos(Pos::new(HPos::Left, VPos::Center));
    let middle = TITLE as i32 / 2;
    title.draw_text(
        &format!("{}: growth by the number of registrations, timers and wakers", growth.backend),
        &left,
        (8, middle),
    )?;
    let mut x = 480;
    for (subject, width) in LINES.iter().rev() {
        title.draw(&PathElement::new(vec![(x, middle), (x + 24, middle)], colour(subject).stroke_width(*width)))?;
        title.draw_text(subject, &left, (x + 30, middle))?;
        x += 60 + 8 * subject.len() as i32;
    }
    let operations = operations(growth);
    let rows = operations.len().div_ceil(COLUMNS);
    for (area, series) in panels.split_evenly((rows, COLUMNS)).iter().zip(operations) {
        panel(area, series)?;
    }
    Ok(())
}

/// Returns the decades that contain the values, two at least, so that a small change does not fill the panel.
fn decades(points: &[(usize, f64)]) -> Range<f64> {
    let logarithms = points.iter().map(|(_, value)| value.log10());
    let low = logarithms.clone().fold(f64::INFINITY, f64::min).floor();
    let high = logarithms.fold(low + 2.0, f64::max).ceil();
    10_f64.powf(low)..10_f64.powf(high)
}

/// Formats a power of ten: 1000 nanoseconds are 1 µs.
fn with_unit(value: f64, units: [&str; 4]) -> String {
    let power = ((value.log10() / 3.0 + 0.01) as usize).min(3);
    format!("{:.0} {}", value / 1000_f64.powi(power as i32), units[power])
}

fn panel(area: &Area<'_>, series: &[Series]) -> Drawn {
    let points: Vec<(usize, f64)> = series.iter().flat_map(Series::points).collect();
    let units = if series[0].is_memory() { ["B", "kB", "MB", "GB"] } else { ["ns", "µs", "ms", "s"] };
    let mut chart = ChartBuilder::on(area)
        .caption(&series[0].operation, font(11.0))
        .margin_right(14)
        .margin_bottom(4)
        .x_label_area_size(16)
        .y_label_area_size(42)
        .build_cartesian_2d((100.0..1e6).log_scale(), decades(&points).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(222, 226, 230))
        .axis_style(RGBColor(173, 181, 189))
        .label_style(font(9.0))
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|size| with_unit(*size, ["", "k", "M", "G"]))
        .y_label_formatter(&|value| with_unit(*value, units))
        .draw()?;
    for (subject, width) in LINES {
        for series in series.iter().filter(|series| series.subject == subject) {
            let points = series.points().into_iter().map(|(size, value)| (size as f64, value));
            chart.draw_series(LineSeries::new(points, colour(subject).stroke_width(width)))?;
        }
    }
    Ok(())
}

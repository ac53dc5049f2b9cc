//! The HTML page of a report: one file, no scripts, plots as inline SVG, readable in light and dark.

use super::report::{Report, Spread};
use std::fmt::Write;

/// The whole page.
pub fn page(report: &Report) -> String {
    let latency: Vec<Line<'_>> =
        [("ttft", &report.ttft), ("itl", &report.inter_token), ("e2e", &report.end_to_end)]
            .into_iter()
            .filter(|(_, spread)| spread.count > 0)
            .map(|(class, spread)| Line { class, points: curve(spread) })
            .collect();
    let over_time = |class, value: &dyn Fn(&super::report::SliceReport) -> Option<f64>| Line {
        class,
        points: report.slices.iter().filter_map(|slice| Some((slice.at, value(slice)?))).collect(),
    };
    let ttft = [over_time("ttft", &|slice| slice.ttft_p50), over_time("p99", &|slice| slice.ttft_p99)];
    let rate = [
        over_time("good", &|slice| Some(slice.good_per_second)),
        over_time("bad", &|slice| Some(slice.failed_per_second)),
    ];
    let tokens = [over_time("good", &|slice| Some(slice.tokens_per_second))];
    let end = report.seconds;
    let nines = ["50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"];
    let nine_ticks: Vec<(f64, String)> = nines
        .iter()
        .enumerate()
        .map(|(n, name)| (if n == 0 { 2f64.log10() } else { n as f64 }, (*name).to_owned()))
        .collect();
    let nines_max = latency.iter().flat_map(|line| &line.points).map(|point| point.0).fold(1.0, f64::max);
    let plots = [
        (
            "Latency by percentile",
            "ms, log",
            "<b class=ttft>TTFT</b> <b class=itl>between tokens</b> <b class=e2e>end to end</b>",
            plot(&latency, nines_max, &nine_ticks, Scale::Log),
        ),
        (
            "Time to first token over time",
            "ms, log",
            "<b class=ttft>median</b> <b class=p99>99th percentile</b>",
            plot(&ttft, end, &time_ticks(end), Scale::Log),
        ),
        (
            "Requests per second",
            "by end time",
            "<b class=good>good</b> <b class=bad>failed</b>",
            plot(&rate, end, &time_ticks(end), Scale::Linear),
        ),
        ("Tokens per second", "by arrival", "", plot(&tokens, end, &time_ticks(end), Scale::Linear)),
    ];
    let mut page = format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Load report</title>\n<style>{STYLE}</style>\n<h1>Load report</h1>\n<p class=sub>{} &middot; {} &middot; {:.1} s measured</p>\n",
        escape(&report.url),
        escape(&report.load),
        report.seconds
    );
    page.push_str(&tiles(report));
    page.push_str("<main>\n");
    for (title, unit, legend, svg) in plots {
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "<section><h2>{title} <small>{unit}</small></h2><p class=legend>{legend}</p>{svg}</section>"
        );
    }
    page.push_str("</main>\n");
    page.push_str(&tables(report));
    page.push_str("</html>\n");
    page
}

fn tiles(report: &Report) -> String {
    let mut tiles = vec![
        ("requests/s", format!("{:.1}", report.requests_per_second)),
        ("goodput", format!("{:.2} %", report.goodput * 100.0)),
        ("failed", format!("{} of {}", report.failed, report.sent)),
        ("TTFT p50 / p99", format!("{:.1} / {:.1} ms", report.ttft.p50, report.ttft.p99)),
        ("between tokens p99", format!("{:.2} ms", report.inter_token.p99)),
        ("tokens/s", format!("{:.0}", report.tokens_per_second)),
    ];
    if let Some(held) = &report.held {
        tiles.insert(0, ("streams dropped", format!("{} of {}", held.dropped, held.wanted)));
    }
    let cells: String =
        tiles.iter().map(|(name, value)| format!("<div><b>{value}</b><span>{name}</span></div>")).collect();
    format!("<div class=tiles>{cells}</div>\n")
}

fn tables(report: &Report) -> String {
    let mut text = String::from("<table><tr><th>ms<th>count<th>mean<th>p50<th>p90<th>p99<th>p99.9<th>max\n");
    for (name, Spread { count, mean, p50, p90, p99, p999, max, .. }) in report.spreads() {
        let _ = writeln!(
            text,
            "<tr><td>{name}<td>{count}<td>{mean:.2}<td>{p50:.2}<td>{p90:.2}<td>{p99:.2}<td>{p999:.2}<td>{max:.2}"
        );
    }
    text.push_str("</table>\n");
    if !report.failures.is_empty() {
        text.push_str("<table><tr><th>failure<th>count\n");
        for (kind, count) in &report.failures {
            let _ = writeln!(text, "<tr><td>{}<td>{count}", escape(kind));
        }
        text.push_str("</table>\n");
    }
    let _ = writeln!(
        text,
        "<p class=sub>Latency counts from the moment a request was meant to be sent. Goodput: TTFT within {} ms and \
         mean time between tokens within {} ms. {} records received; {} streams without [DONE].</p>",
        report.ttft_limit_ms, report.itl_limit_ms, report.events, report.without_done
    );
    text
}

/// One line of a plot.
struct Line<'a> {
    class: &'a str,
    points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Scale {
    Linear,
    Log,
}

/// Percentile as a number of nines, so that tails have room.
fn curve(spread: &Spread) -> Vec<(f64, f64)> {
    spread
        .curve
        .iter()
        .map(|(percentile, value)| (-(1.0 - percentile / 100.0).max(1e-9).log10(), *value))
        .collect()
}

fn plot(lines: &[Line<'_>], x_max: f64, x_ticks: &[(f64, String)], scale: Scale) -> String {
    let values: Vec<f64> = lines.iter().flat_map(|line| line.points.iter().map(|point| point.1)).collect();
    if values.is_empty() {
        return "<p class=sub>nothing to plot</p>".to_owned();
    }
    let top = values.iter().copied().fold(0.0, f64::max);
    let (low, high, y_ticks) = match scale {
        Scale::Linear => linear_axis(top),
        Scale::Log => log_axis(values.iter().copied().fold(f64::MAX, f64::min), top),
    };
    let x = |value: f64| LEFT + (value / x_max.max(1e-9)).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| {
        let value = if scale == Scale::Log { value.max(1e-3).log10() } else { value };
        BOTTOM - ((value - low) / (high - low)).clamp(0.0, 1.0) * (BOTTOM - TOP)
    };
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img>");
    for tick in y_ticks {
        let at = y(tick);
        let _ = write!(
            svg,
            "<line class=grid x1={LEFT} x2={} y1={at:.1} y2={at:.1} /><text x={} y={:.1} text-anchor=end>{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            short(tick)
        );
    }
    for (tick, name) in x_ticks.iter().filter(|(tick, _)| *tick <= x_max * 1.001) {
        let at = x(*tick);
        let _ = write!(
            svg,
            "<line class=grid x1={at:.1} x2={at:.1} y1={TOP} y2={BOTTOM} /><text x={at:.1} y={} text-anchor=middle>{name}</text>",
            BOTTOM + 16.0
        );
    }
    for Line { class, points } in lines {
        if let [(at, value)] = points[..] {
            let _ = write!(svg, "<circle class={class} cx={:.1} cy={:.1} r=2 />", x(at), y(value));
            continue;
        }
        let points: Vec<String> =
            points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        let _ = write!(svg, "<polyline class={class} points=\"{}\" />", points.join(" "));
    }
    svg.push_str("</svg>");
    svg
}

/// From zero to a round number above `top`.
fn linear_axis(top: f64) -> (f64, f64, Vec<f64>) {
    let step = round_step(top.max(1e-3) / 4.0);
    let count = (top / step).ceil().max(1.0);
    (0.0, step * count, (0..=count as usize).map(|n| n as f64 * step).collect())
}

/// Powers of ten around the values; the axis itself is in logarithms.
fn log_axis(least: f64, top: f64) -> (f64, f64, Vec<f64>) {
    let low = least.max(1e-3).log10().floor();
    let high = top.max(1e-3).log10().ceil().max(low + 1.0);
    (low, high, (low as i32..=high as i32).map(|power| 10f64.powi(power)).collect())
}

fn time_ticks(seconds: f64) -> Vec<(f64, String)> {
    let step = round_step(seconds / 6.0);
    (0..=7).map(|n| f64::from(n) * step).map(|at| (at, format!("{} s", short(at)))).collect()
}

/// The next of 1, 2, 5, 10 ... at or above `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-6).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= step * 0.999).unwrap_or(power * 10.0)
}

fn short(value: f64) -> String {
    let text = if value >= 1e6 {
        return format!("{}M", short(value / 1e6));
    } else if value >= 1e4 {
        return format!("{}k", short(value / 1e3));
    } else {
        format!("{value:.3}")
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 236.0;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#667;--page:#fff;--card:#f5f6f8;--grid:#dcdfe4;
--a:#0b6bcb;--b:#b4540a;--c:#2a7d4f;--d:#c2293b}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#9aa3ad;--page:#14171a;--card:#1d2125;--grid:#343a41;
--a:#6cb2ff;--b:#f0a55b;--c:#6fcf97;--d:#ff7b88}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1rem;margin:0}small,.sub{color:var(--soft);font-weight:400}
.tiles{display:flex;flex-wrap:wrap;gap:.75rem;margin:1rem 0}.tiles div{background:var(--card);border-radius:8px;padding:.6rem .9rem}
.tiles b{display:block;font-size:1.2rem;font-variant-numeric:tabular-nums}.tiles span{color:var(--soft)}
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:1rem}
section{background:var(--card);border-radius:8px;padding:.8rem 1rem}.legend{margin:.1rem 0 .4rem;min-height:1.2em}.legend b{margin-right:1em;font-weight:600}
svg{width:100%;height:auto;font-size:11px}text{fill:var(--soft)}.grid{stroke:var(--grid);stroke-width:1}
polyline{fill:none;stroke-width:1.8;stroke:currentColor}circle{fill:currentColor}
.ttft,.good{color:var(--a)}.itl,.p99{color:var(--b)}.e2e{color:var(--c)}.bad{color:var(--d)}
table{border-collapse:collapse;margin:1.2rem 0;font-variant-numeric:tabular-nums}td,th{padding:.3rem .8rem;text-align:right;border-bottom:1px solid var(--grid)}
td:first-child,th:first-child{text-align:left}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round_and_hold_the_values() {
        assert_eq!(linear_axis(87.0), (0.0, 100.0, vec![0.0, 50.0, 100.0]));
        assert_eq!(log_axis(0.4, 120.0), (-1.0, 3.0, vec![0.1, 1.0, 10.0, 100.0, 1000.0]));
        assert_eq!(
            (round_step(3.1), short(12_500.0), short(0.5)),
            (5.0, "12.5k".to_owned(), "0.5".to_owned())
        );
    }
}

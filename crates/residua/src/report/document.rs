//! What every page has: one HTML file with its style, its curves and the script that draws them.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::json;

use super::chart::Chart;

/// A whole page: what comes before its charts, the charts, and what comes behind them. It needs no other file.
pub(crate) fn document(title: &str, head: &Markup, charts: &[Chart], rest: &Markup) -> String {
    let body = html! {
        (head)
        section.charts aria-label="Charts" {
            @for (index, chart) in charts.iter().enumerate() {
                figure data-chart=(index) {
                    figcaption { h2 { (chart.title) } }
                    div.legend {}
                    div.plot tabindex="0" role="img" aria-label=(chart.title) {}
                    div.tip hidden {}
                    @if chart.is_thinned {
                        p.note { "Of long curves the extremes of neighbouring points are drawn." }
                    }
                }
            }
            @if charts.is_empty() { p.note { "Nothing has been measured yet." } }
        }
        noscript { p.note { "The charts are drawn by a script in this page." } }
        (rest)
    };
    // Inside a script element only `<` could end it.
    let data = json!({ "charts": charts }).to_string().replace('<', "\\u003c");
    let script = html! {
        script type="application/json" id="data" { (PreEscaped(data)) }
        script { (PreEscaped(include_str!("script.js"))) }
    };
    page(title, &body, &script)
}

/// A page without charts that a script draws.
pub(crate) fn still_document(title: &str, body: &Markup) -> String {
    page(title, body, &html! {})
}

fn page(title: &str, body: &Markup, script: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";
                meta name="generator" content={ "residua " (env!("CARGO_PKG_VERSION")) };
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                (body)
                footer { "Made by residua " (env!("CARGO_PKG_VERSION")) "." }
                (script)
            }
        }
    }
    .into_string()
}

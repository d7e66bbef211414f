//! Several networks' propagation in one page.

use maud::html;

use super::propagation::{Propagation, UnitPropagation};
use crate::report::chart::{Axis, Chart, Curve};
use crate::report::document::document;

/// A page of the propagation of networks by name, unit after unit: norms of gradients and features, the terms of Eq. 5, and the
/// errors of Eqs. 4 and 5. It needs no other file.
pub fn propagation_page(networks: &[(String, Propagation)]) -> String {
    let charts: Vec<Chart> = [
        chart("Gradients, relative to the last unit's", "|dE/dx_l| / |dE/dx_L|", networks, |found, unit| {
            let last = found.units.last().map(|unit| unit.gradient)?;
            Some(unit.gradient / last)
        }),
        chart("What a shortcut carries back of the gradient", "|J a g| / |g|", networks, |_, unit| {
            Some(unit.carried)
        }),
        chart("Direct term of Eq. 5 over the gradient", "|direct| / |dE/dx_l|", networks, |_, unit| {
            Some(unit.direct / unit.gradient)
        }),
        chart("Weight term of Eq. 5 over the gradient", "|weight| / |dE/dx_l|", networks, |_, unit| {
            Some(unit.weight / unit.gradient)
        }),
        chart("Direct term across stages over the gradient", "|direct| / |dE/dx_l|", networks, |_, unit| {
            Some(unit.direct_across / unit.gradient)
        }),
        chart("Features", "|x_l|", networks, |_, unit| Some(unit.input)),
        chart("Residuals over features", "|F_l| / |x_l|", networks, |_, unit| {
            Some(unit.residual / unit.input)
        }),
        chart("Error of Eq. 4", "relative", networks, |_, unit| unit.forward_error),
        chart("Error of Eq. 5", "relative", networks, |_, unit| unit.backward_error),
    ]
    .into_iter()
    .filter(|chart| !chart.curves.is_empty())
    .collect();
    let head = html! {
        header {
            h1 { "How signals and gradients propagate" }
            p { "Of one batch in training mode, unit after unit; Eqs. 4, 5 and 8 of " em { "Identity Mappings in Deep Residual Networks" } "." }
        }
        section {
            div.wide {
                table.results {
                    thead { tr {
                        th {}
                        th scope="col" { "early / late gradient" }
                        th scope="col" { "error of Eq. 4" }
                        th scope="col" { "error of Eq. 5" }
                        th scope="col" { "attenuation of the stages" }
                        th scope="col" { "by Eq. 8" }
                        th scope="col" { "direct share across stages" }
                        th scope="col" { "projections' shares" }
                    } }
                    tbody {
                        @for (index, (name, found)) in networks.iter().enumerate() {
                            tr {
                                th scope="row" { span.mark data-run=(index % 12) {} (name) }
                                td { (if_any(found.early_over_late)) }
                                td { (if_any(found.worst(|unit| unit.forward_error))) }
                                td { (if_any(found.worst(|unit| unit.backward_error))) }
                                td { (list(found.stages.iter().map(|stage| Some(stage.attenuation)))) }
                                td { (list(found.stages.iter().map(|stage| stage.expected_attenuation))) }
                                td { (short(found.direct_share_across())) }
                                td { (list(found.projection_shares().into_iter().map(Some))) }
                            }
                        }
                    }
                }
            }
            p.note { "Errors are the largest of all units that a stage's equations reach. They hold where nothing follows the addition and the shortcut is the identity. The direct share across stages is what of the first unit's gradient has come \
                through shortcuts alone; a projection's share is what of the gradient at a unit that changes dimensions has come through its projection." }
        }
    };
    document("Propagation", &head, &charts, &html! {})
}

fn chart(
    title: &'static str,
    label: &'static str,
    networks: &[(String, Propagation)],
    value: impl Fn(&Propagation, &UnitPropagation) -> Option<f64>,
) -> Chart {
    let curve = |(run, (name, found)): (usize, &(String, Propagation))| {
        let points = found.units.iter().zip(1u64..);
        let points = points.filter_map(|(unit, number)| Some((number, value(found, unit)?)));
        let points = points.filter(|point| point.1.is_finite() && point.1 > 0.).collect();
        Curve { label: name.clone(), run, is_dashed: false, is_on_right: false, points }
    };
    let curves = networks.iter().enumerate().map(curve).filter(|curve| !curve.points.is_empty()).collect();
    let left = Axis { label, is_logarithmic: true, is_switchable: true, has_zero: false };
    Chart { title: title.to_owned(), step: "unit", left, right: None, curves, is_thinned: false }
}

fn short(value: f64) -> String {
    match value {
        // Of nothing there is no share.
        value if value.is_nan() => "-".to_owned(),
        0.001..1000. => format!("{value:.3}"),
        0. => "0".to_owned(),
        _ => format!("{value:.1e}"),
    }
}

fn if_any(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), short)
}

/// What stages or projections have, and - where there are none.
fn list(values: impl Iterator<Item = Option<f64>>) -> String {
    let values: Vec<_> = values.map(if_any).collect();
    if values.is_empty() { "-".to_owned() } else { values.join(", ") }
}

//! `residua paper list`: the experiments and their rows.

use std::process::ExitCode;

use clap::Args;
use residua::study::paper::{Budget, Experiment, Row, Sources};
use serde_json::{Value, json};

use super::{Chosen, experiments};
use crate::output::print;
use crate::words::words;

/// List the paper's tables and figures with the recipes and published errors of their rows.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Tables and figures.
    #[arg(default_value = "all", value_name = "EXPERIMENT", value_parser = words::<Chosen>())]
    experiments: Vec<Chosen>,
    /// Whose recipes.
    #[arg(long, default_value_t = Budget::Full, value_name = "BUDGET", value_parser = words::<Budget>())]
    budget: Budget,
    /// Print a JSON array with the whole recipes.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let experiments = experiments(&arguments.experiments);
    if arguments.json {
        let rows: Vec<Value> =
            experiments.iter().flat_map(|&experiment| rows(experiment, arguments.budget)).collect();
        print(Value::from(rows))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut blocks = Vec::with_capacity(experiments.len());
    for experiment in experiments {
        blocks.push(table(experiment, arguments.budget)?);
    }
    print(blocks.join("\n\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn rows(experiment: Experiment, budget: Budget) -> Vec<Value> {
    let value = |row: Row| {
        let plan =
            row.trial.as_ref().and_then(|trial| budget.plan(trial, &Sources::from_list(Vec::new()), 1).ok());
        json!({
            "experiment": experiment,
            "row": row.name,
            "label": row.label,
            "network": row.network,
            "published": row.published,
            "recipe": plan.map(|plan| plan.recipe),
        })
    };
    experiment.rows().into_iter().map(value).collect()
}

fn table(experiment: Experiment, budget: Budget) -> anyhow::Result<String> {
    let sources = Sources::from_list(Vec::new());
    let mut lines = vec![format!("{experiment}  {}", experiment.title())];
    let rows = experiment.rows();
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or_default();
    for Row { name, network, published, trial, .. } in &rows {
        let recipe = match trial {
            None => format!("{network}: quoted by the paper"),
            Some(trial) => {
                let recipe = budget.plan(trial, &sources, 1)?.recipe;
                let network = &recipe.network;
                let details = [
                    network.ordering.map(|ordering| ordering.to_string()),
                    network.shortcut.map(|shortcut| shortcut.to_string()),
                    network.block.map(|block| block.to_string()),
                ];
                let details: Vec<_> = details.into_iter().flatten().collect();
                let group = network.bn_group.map_or(String::new(), |group| format!(" in groups of {group}"));
                format!(
                    "{} ({}) on {}, {} iterations of {}{group}",
                    network.model,
                    details.join(", "),
                    trial.data.title(),
                    recipe.schedule.iterations,
                    recipe.optimiser.batch
                )
            }
        };
        lines.push(format!("  {name:<width$}  {:>20}  {recipe}", percent(&published.text())));
    }
    Ok(lines.join("\n"))
}

fn percent(published: &str) -> String {
    if published == "fail" { published.to_owned() } else { format!("{published} %") }
}

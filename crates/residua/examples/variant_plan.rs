//! A variant of a network: asked for by name and refinements, and printed layer by layer before any tensor is made.
//!
//! Prints its units, what they cost, and how much memory training it takes.

use std::error::Error;

use residua::nn::{Block, Memory, MemoryPlan, NetworkOptions, Ordering, Shortcut};

fn main() -> Result<(), Box<dyn Error>> {
    let options = NetworkOptions {
        ordering: Some(Ordering::ReluBeforeAddition),
        shortcut: Some(Shortcut::ConstantScaling { shortcut: 0.5, residual: 0.5 }),
        block: Some(Block::Bottleneck),
        ..NetworkOptions::named("resnet29")
    };
    let config = options.resolve(10)?;
    println!("{options:?}\nmeans a network of {} layers:\n", config.depth);

    let plan = config.plan()?;
    for (stage, units) in (1..).zip(&plan.stages) {
        for unit in units {
            let convolutions = unit.convolutions.iter().map(|layer| format!("{0}x{0}", layer.size));
            let convolutions = convolutions.collect::<Vec<_>>().join(", ");
            let projection = if unit.projection.is_some() { ", with a projection" } else { "" };
            println!(
                "stage {stage}: {} to {} channels, {convolutions}{projection}",
                unit.inputs(),
                unit.outputs()
            );
        }
    }

    let summary = config.summary(32, 32)?;
    println!("\n{} parameters, {} multiply-adds an image", summary.parameters, summary.multiply_adds);
    for &memory in Memory::ALL {
        let bytes = MemoryPlan::of(&config, 128, 32, 32, memory)?.peak_bytes;
        println!("training on batches of 128 in {memory} memory: {:.2} GB", bytes as f64 / 1e9);
    }
    Ok(())
}

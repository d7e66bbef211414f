//! Memory does not grow with the number of steps.
#![cfg(target_os = "linux")]

use residua::data::Batch;
use residua::device::Device;
use residua::nn::{Memory, NetworkOptions, Part, Pass, ResNet};
use residua::run::OptimiserOptions;
use residua::train::{Sgd, step};

/// Bytes of resident memory that 9,000 steps may add: allocators keep a little, a leaked feature map would be far more
/// (one map of this network's first stage in every step would be 37 MB).
const ALLOWED_GROWTH: u64 = 6 << 20;

#[test]
fn ten_thousand_steps_take_no_more_memory_than_one_thousand() {
    let device = Device::flex().autodiff();
    let mut network =
        ResNet::init(&NetworkOptions::named("preresnet8").resolve(10).unwrap(), 1, &device).unwrap();
    let mut sgd = Sgd::new(&OptimiserOptions::default());
    let (height, width) = (4, 8);
    let images = (0..2 * height * width * 3).map(|index| (index % 17) as f32 / 8. - 1.).collect();
    let batch = Batch::new(images, vec![3, 7], height, width);
    let mut after_a_thousand = 0;
    for iteration in 0..10_000 {
        // Passes with all parts, with those in front frozen, and with those behind.
        if iteration % 100 == 0 {
            let frozen = [vec![], vec![Part::Stem, Part::Stage(1)], vec![Part::Stage(2), Part::Norm]];
            let frozen = frozen[iteration as usize / 100 % 3].iter().copied().collect();
            network = network.freeze(&frozen).unwrap();
        }
        let pass = Pass::train(1, iteration).with_memory(Memory::ALL[iteration as usize % Memory::ALL.len()]);
        (network, _) = step(network, &mut sgd, &batch, pass, 1e-4).unwrap();
        if iteration == 1_000 {
            after_a_thousand = resident_bytes();
        }
    }
    let growth = resident_bytes().saturating_sub(after_a_thousand);
    println!("resident memory grew by {growth} bytes from {after_a_thousand}");
    assert!(growth < ALLOWED_GROWTH, "{growth} bytes");
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

//! Wide networks: counts against those of a PyTorch network written from their paper (`tests/fixtures/wide_networks.py`), and what a
//! width does to files.

use residua::nn::{Block, DimensionChange, NetworkOptions, Ordering, ResNetConfig};
use serde::Deserialize;

#[derive(Deserialize)]
struct Count {
    depth: usize,
    width: usize,
    classes: usize,
    parameters: u64,
    multiply_adds: u64,
}

#[test]
fn parameters_and_multiply_adds_are_those_of_pytorch() {
    let counts: Vec<Count> = serde_json::from_str(include_str!("fixtures/wide_counts.json")).unwrap();
    assert!(counts.len() >= 30, "{} counts", counts.len());
    for Count { depth, width, classes, parameters, multiply_adds } in counts {
        let model = format!("wrn-{depth}-{width}");
        let config = NetworkOptions::named(&model).resolve(classes).unwrap();
        let summary = config.summary(32, 32).unwrap();
        assert_eq!(
            (summary.parameters, summary.multiply_adds),
            (parameters, multiply_adds),
            "{model}, {classes} classes"
        );
    }
}

#[test]
fn the_name_of_a_wide_network_says_all_of_it() {
    let wide = NetworkOptions::named("wrn-28-10").resolve(10).unwrap();
    assert_eq!((wide.depth, wide.width, wide.block), (26, 10, Block::Basic));
    assert_eq!((wide.ordering, wide.dimensions), (Ordering::FullPreActivation, DimensionChange::B));
    let refined = NetworkOptions { width: Some(10), ..NetworkOptions::named("preresnet26") };
    assert_eq!(refined.resolve(10).unwrap(), wide);
    assert_eq!(wide.name(), "wrn-28-10");
    assert_eq!(wide.options().resolve(10).unwrap(), wide);
    // Depths that are ImageNet's elsewhere.
    let shallow = NetworkOptions::named("wrn-52-2").resolve(10).unwrap();
    assert_eq!((shallow.depth, shallow.name().as_str()), (50, "wrn-52-2"));
    assert_eq!(shallow.options().resolve(10).unwrap(), shallow);
    let widths = wide.plan().unwrap().stages.iter().map(|units| units[0].outputs()).collect::<Vec<_>>();
    assert_eq!(widths, [160, 320, 640]);
    assert_eq!(wide.plan().unwrap().stem.convolution.outputs, 16);
    let unchanged = NetworkOptions { width: Some(10), ..NetworkOptions::named("wrn-28-10") };
    assert_eq!(unchanged.resolve(10).unwrap(), wide);
}

/// Numbers of torchvision's `wide_resnet50_2` and `wide_resnet101_2`.
#[test]
fn bottleneck_units_are_wider_inside() {
    for (model, parameters) in [("resnet50", 68_883_240), ("resnet101", 126_886_696)] {
        let options = NetworkOptions { width: Some(2), ..NetworkOptions::named(model) };
        let config = options.resolve(1000).unwrap();
        assert_eq!(config.summary(224, 224).unwrap().parameters, parameters, "{model}");
        assert_eq!(config.name(), model);
        assert_eq!(config.options().resolve(1000).unwrap(), config);
    }
}

/// What files say of networks of width 1 is what they said before there was a width.
#[test]
fn a_width_of_one_is_not_written() {
    for (width, is_written) in [(None, false), (Some(1), false), (Some(2), true)] {
        let options = NetworkOptions { width, ..NetworkOptions::named("preresnet20") };
        let config = options.resolve(10).unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(json.contains("width"), is_written, "{json}");
        assert_eq!(serde_json::from_str::<ResNetConfig>(&json).unwrap(), config);
        let written_out = options.written_out().unwrap();
        assert_eq!(written_out.width.is_some(), is_written);
        assert_eq!(written_out.resolve(10).unwrap(), config);
    }
    let one = NetworkOptions::named("wrn-40-1").written_out().unwrap();
    assert_eq!((one.width, one.resolve(10).unwrap().name().as_str()), (None, "preresnet38"));
}

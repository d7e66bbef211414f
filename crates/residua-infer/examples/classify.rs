//! Names what a picture shows: `classify WEIGHTS.safetensors PICTURE`, where `residua train` has written the weights.

use std::{env, num::NonZeroUsize, path::Path};

use residua_infer::{Classifier, read_image};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [_, weights, picture] = &env::args().collect::<Vec<_>>()[..] else {
        return Err("give two files".into());
    };
    let (classifier, info) = Classifier::load(Path::new(weights), NonZeroUsize::MIN)?;
    let pixels = read_image(Path::new(picture), &info.view())?;
    let likeliest = &classifier.classify(&[&pixels], &info.normalisation, 1)?[0][0];
    println!("{} ({:.1} %)", info.classes[likeliest.class], 100. * likeliest.probability);
    Ok(())
}

//! Any text as a recipe: an error, or a recipe that is written and read back alike.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use residua::run::Recipe;

fuzz_target!(|text: &str| {
    let path = Path::new("recipe.toml");
    if let Ok(recipe) = Recipe::parse(text, path) {
        assert_eq!(Recipe::parse(&recipe.to_toml(), path).expect("its own text is a recipe"), recipe);
        recipe.changes_on_resume(&recipe).expect("nothing has changed");
    }
});

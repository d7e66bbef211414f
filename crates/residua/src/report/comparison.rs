//! In what the recipes of several runs differ.

use std::collections::BTreeSet;

use crate::run::Recipe;

/// An option that is not the same in all runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The option, as `section.name`.
    pub option: String,
    /// Its value in each run; none where it is not set.
    pub values: Vec<Option<String>>,
}

/// The options in which recipes differ, by name.
pub fn differences(recipes: &[&Recipe]) -> Vec<Difference> {
    let options: Vec<_> = recipes.iter().map(|recipe| recipe.options()).collect();
    let names: BTreeSet<_> = options.iter().flat_map(|options| options.keys()).collect();
    names
        .into_iter()
        .map(|name| Difference {
            option: name.clone(),
            values: options.iter().map(|options| options.get(name).cloned()).collect(),
        })
        .filter(|difference| difference.values.iter().any(|value| *value != difference.values[0]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::NamedRecipe;

    #[test]
    fn only_what_differs_is_named() {
        let quick = Recipe::named(NamedRecipe::Quick);
        let mut other = quick.clone();
        other.seed = 7;
        other.network.shortcut = Some("scale:0.5,0.5".parse().unwrap());
        let found = differences(&[&quick, &other, &quick]);
        let values = |a: Option<&str>, b: &str| {
            let a = a.map(str::to_owned);
            vec![a.clone(), Some(b.to_owned()), a]
        };
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0],
            Difference { option: "network.shortcut".into(), values: values(None, "scale:0.5,0.5") }
        );
        assert_eq!(found[1], Difference { option: "seed".into(), values: values(Some("1"), "7") });
        assert!(differences(&[&quick]).is_empty() && differences(&[]).is_empty());
    }
}

//! Which of a file's tensors are a network's weights, and what they are called without what was put around them.

use std::collections::BTreeMap;

use super::Skipped;
use crate::network::NamedTensors;

/// Keys under which files keep a network's weights among other things; of several the first counts. Averaged weights are what
/// their networks are tested with.
const NESTED: [&str; 6] =
    ["state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "module"];

/// What wrappers of networks put in front of all names.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// A network's weights by their bare names, and what else the file has.
#[derive(Debug)]
pub(super) struct Dictionary {
    pub(super) tensors: NamedTensors,
    pub(super) skipped: Vec<Skipped>,
}

impl Dictionary {
    /// The weights among a file's tensors; `others` are names of tensors of integers.
    pub(super) fn of(tensors: NamedTensors, others: &[String]) -> Self {
        let mut dictionary = Self { tensors, skipped: Vec::new() };
        while dictionary.enter_nested() || dictionary.strip_prefix() {}
        let counters = others.iter().filter(|name| is_counter(name)).count();
        dictionary.skip("num_batches_tracked", counters);
        let rest: Vec<&String> = others.iter().filter(|name| !is_counter(name)).collect();
        if let Some(first) = rest.first() {
            dictionary.skip(&format!("tensors of integers, such as {first}"), rest.len());
        }
        let before = dictionary.tensors.len();
        dictionary.tensors.retain(|name, _| !is_counter(name));
        dictionary.skip("num_batches_tracked", before - dictionary.tensors.len());
        dictionary
    }

    /// Keeps what stands under the first key that is known, if there is something beside it.
    fn enter_nested(&mut self) -> bool {
        let is_there = |key: &&str| {
            let prefix = format!("{key}.");
            self.tensors.keys().any(|name| name.starts_with(&prefix))
        };
        let Some(key) = NESTED.iter().copied().find(is_there) else { return false };
        let prefix = format!("{key}.");
        let (inside, beside): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.tensors).into_iter().partition(|(name, _)| name.starts_with(&prefix));
        self.tensors =
            inside.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect();
        let mut keys: BTreeMap<String, usize> = BTreeMap::new();
        for name in beside.keys() {
            let key = name.split('.').next().unwrap_or(name);
            *keys.entry(key.to_owned()).or_default() += 1;
        }
        for (key, count) in keys {
            self.skip(&format!("{key} beside {}", prefix.trim_end_matches('.')), count);
        }
        true
    }

    fn strip_prefix(&mut self) -> bool {
        let is_everywhere = |prefix: &&str| self.tensors.keys().all(|name| name.starts_with(*prefix));
        let Some(prefix) = PREFIXES.iter().find(|prefix| !self.tensors.is_empty() && is_everywhere(prefix))
        else {
            return false;
        };
        let tensors = std::mem::take(&mut self.tensors).into_iter();
        self.tensors = tensors.map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect();
        true
    }

    fn skip(&mut self, what: &str, count: usize) {
        if count > 0 {
            self.skipped.push(Skipped { what: what.to_owned(), count });
        }
    }
}

/// How many batches a normalisation has seen: PyTorch's, for averages that no network here takes.
fn is_counter(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::TensorValues;

    fn of(names: &[&str], others: &[&str]) -> (Vec<String>, Vec<String>) {
        let tensor = TensorValues { shape: vec![1], values: vec![0.] };
        let tensors = names.iter().map(|name| ((*name).to_owned(), tensor.clone())).collect();
        let others: Vec<String> = others.iter().map(|name| (*name).to_owned()).collect();
        let Dictionary { tensors, skipped } = Dictionary::of(tensors, &others);
        (tensors.into_keys().collect(), skipped.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn weights_are_found_behind_keys_and_prefixes() {
        for names in [
            ["conv1.weight", "fc.bias"],
            ["state_dict.module.conv1.weight", "state_dict.module.fc.bias"],
            ["model.conv1.weight", "model.fc.bias"],
            ["module._orig_mod.conv1.weight", "module._orig_mod.fc.bias"],
            ["_orig_mod.module.conv1.weight", "_orig_mod.module.fc.bias"],
        ] {
            assert_eq!(
                of(&names, &[]),
                (vec!["conv1.weight".to_owned(), "fc.bias".to_owned()], vec![]),
                "{names:?}"
            );
        }
    }

    #[test]
    fn what_is_passed_over_is_told() {
        let names = ["optimizer.a", "optimizer.b", "state_dict.fc.bias", "state_dict_ema.fc.bias"];
        let others = ["state_dict.bn1.num_batches_tracked", "step"];
        let (weights, skipped) = of(&names, &others);
        assert_eq!(weights, ["fc.bias"]);
        assert_eq!(
            skipped,
            [
                "2 optimizer beside state_dict_ema",
                "1 state_dict beside state_dict_ema",
                "1 num_batches_tracked",
                "1 tensors of integers, such as step"
            ]
        );
    }
}

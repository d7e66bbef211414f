//! What convolutions read, as far as bytes have to stand for it.

use std::collections::BTreeMap;

use residua_kernels::Quantisation;
use serde::{Deserialize, Serialize};

/// The least and the largest number that each convolution of a network has read of some images, by the name of its weights. A network that
/// computes in bytes divides each range into 255 steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, [f32; 2]>")]
pub struct InputRanges(BTreeMap<String, [f32; 2]>);

impl InputRanges {
    /// Makes a convolution's range contain these numbers. What is no number changes nothing.
    pub fn widen(&mut self, weights: &str, numbers: &[f32]) {
        let [least, largest] = self.0.entry(weights.to_owned()).or_insert([0.; 2]);
        for number in numbers {
            (*least, *largest) = (least.min(*number), largest.max(*number));
        }
    }

    /// Makes every range contain the other's.
    pub fn merge(&mut self, other: &Self) {
        for (weights, range) in &other.0 {
            self.widen(weights, range);
        }
    }

    /// Names of the weights of the convolutions that there are ranges of.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How bytes stand for what the convolution with these weights reads.
    pub(crate) fn quantisation(&self, weights: &str) -> Option<Quantisation> {
        self.0.get(weights).map(|[least, largest]| Quantisation::of(*least..=*largest))
    }
}

impl TryFrom<BTreeMap<String, [f32; 2]>> for InputRanges {
    type Error = String;

    fn try_from(ranges: BTreeMap<String, [f32; 2]>) -> Result<Self, String> {
        let is_range = |[least, largest]: [f32; 2]| least <= largest && (largest - least).is_finite();
        match ranges.iter().find(|(_, range)| !is_range(**range)) {
            Some((weights, [least, largest])) => {
                Err(format!("'{weights}': {least} to {largest} is no range of numbers"))
            }
            None => Ok(Self(ranges)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_zero_and_all_they_have_seen() {
        let mut ranges = InputRanges::default();
        ranges.widen("a", &[0.5, 2., f32::NAN]);
        let mut others = InputRanges::default();
        others.widen("a", &[-1.]);
        others.widen("b", &[3.]);
        ranges.merge(&others);
        let json = serde_json::to_string(&ranges).unwrap();
        assert_eq!(json, r#"{"a":[-1.0,2.0],"b":[0.0,3.0]}"#);
        assert_eq!(serde_json::from_str::<InputRanges>(&json).unwrap(), ranges);
        assert_eq!(ranges.quantisation("a").unwrap().rounded(0.), 0.);
        assert!(ranges.quantisation("c").is_none());
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [r#"{"a":[1,0]}"#, r#"{"a":[-3e38,3e38]}"#] {
            let message = serde_json::from_str::<InputRanges>(text).unwrap_err().to_string();
            assert!(message.contains("'a'"), "{message}");
        }
    }
}

//! Whether a network is as often right as it says.

use serde::Serialize;

use super::scored::Answer;

/// How sure a network is of its answers, and how often they are right (Guo et al. 2017, *On Calibration of Modern Neural Networks*, section 2). The
/// bins are a reliability diagram's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error: `sum over bins of (images / all images) |accuracy - confidence|`, 0 to 1.
    pub expected_error: f64,
    /// The mean over all images of the probability of the class that they are taken for.
    pub confidence: f64,
    /// Bins of equal width, from confidence 0 to 1.
    pub bins: Vec<CalibrationBin>,
}

/// The images whose answers have a confidence above `above` and of at most `to`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Where the bin begins; it is not in it.
    pub above: f64,
    /// Where the bin ends.
    pub to: f64,
    /// How many images there are.
    pub images: u64,
    /// The share of them that is classified rightly, 0 to 1; none where there are no images.
    pub accuracy: Option<f64>,
    /// Their mean confidence; none where there are no images.
    pub confidence: Option<f64>,
}

/// How many bins there are.
const BINS: usize = 15;

impl Calibration {
    /// The calibration of some answers, of which there is one.
    pub(super) fn of(answers: &[Answer]) -> Self {
        let mut sums = [(0u64, 0u64, 0f64); BINS];
        for answer in answers {
            let (images, right, confidence) = &mut sums[bin_of(answer.confidence)];
            *images += 1;
            *right += u64::from(answer.is_right());
            *confidence += answer.confidence;
        }
        let count = answers.len() as f64;
        let gap = |&(_, right, confidence): &(u64, u64, f64)| (right as f64 - confidence).abs() / count;
        let bin = |(index, &(images, right, confidence)): (usize, &(u64, u64, f64))| {
            let mean = |sum: f64| (images > 0).then(|| sum / images as f64);
            CalibrationBin {
                above: index as f64 / BINS as f64,
                to: (index + 1) as f64 / BINS as f64,
                images,
                accuracy: mean(right as f64),
                confidence: mean(confidence),
            }
        };
        Self {
            expected_error: sums.iter().map(gap).sum(),
            confidence: answers.iter().map(|answer| answer.confidence).sum::<f64>() / count,
            bins: sums.iter().enumerate().map(bin).collect(),
        }
    }
}

/// The bin that a confidence of 0 to 1 is in.
fn bin_of(confidence: f64) -> usize {
    ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_confidence_is_in_one_bin() {
        for (confidence, bin) in
            [(0., 0), (1e-9, 0), (1. / 15., 0), (0.2, 2), (0.2 + 1e-9, 3), (0.999, 14), (1., 14)]
        {
            assert_eq!(bin_of(confidence), bin, "{confidence}");
        }
    }
}

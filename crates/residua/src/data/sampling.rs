//! Which images an epoch has, and in which order.

use super::random_stream::{Purpose, permutation, random_stream, shuffle};
use residua_infer::words;

/// Which images an epoch of as many samples as there are images has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// Every image once.
    #[default]
    Once,
    /// Every class equally often, to one sample. Images of small classes come several times, each as often as any other of its class to
    /// one time; of large classes some are left out, others in each epoch.
    Balanced,
}

words!(Sampling, "sampling", {
    Once => "once": "every image once an epoch",
    Balanced => "balanced": "every class equally often",
});

impl Sampling {
    /// The images of an epoch in their order, for images with these labels.
    pub(super) fn order(self, seed: u64, epoch: u64, labels: &[u16]) -> Vec<u32> {
        match self {
            Self::Once => permutation(seed, Purpose::Order, epoch, labels.len()),
            Self::Balanced => balanced(seed, epoch, labels),
        }
    }
}

fn balanced(seed: u64, epoch: u64, labels: &[u16]) -> Vec<u32> {
    let largest = labels.iter().copied().max().unwrap_or_default();
    let mut classes = vec![Vec::new(); usize::from(largest) + 1];
    (0..).zip(labels).for_each(|(image, &label)| classes[usize::from(label)].push(image));
    classes.retain(|images| !images.is_empty());
    let mut random = random_stream(seed, Purpose::BalancedOrder, epoch);
    // What is left over when samples are shared out among classes goes to some of them, others in each epoch.
    let mut places: Vec<u32> = (0..classes.len() as u32).collect();
    shuffle(&mut places, &mut random);
    let (share, left) = (labels.len() / classes.len(), labels.len() % classes.len());
    let mut order = Vec::with_capacity(labels.len());
    for (images, place) in classes.iter_mut().zip(places) {
        let end = order.len() + share + usize::from((place as usize) < left);
        while order.len() < end {
            shuffle(images, &mut random);
            let missing = end - order.len();
            order.extend(images.iter().take(missing));
        }
    }
    shuffle(&mut order, &mut random);
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn classes_come_equally_often_and_so_do_the_images_of_each(
            labels in prop::collection::vec(0..5u16, 1..60), seed in 0..9u64, epoch in 0..9u64,
        ) {
            let order = Sampling::Balanced.order(seed, epoch, &labels);
            prop_assert_eq!(order.len(), labels.len());
            let mut images = vec![0usize; labels.len()];
            order.iter().for_each(|&image| images[image as usize] += 1);
            let of_class = |class: u16| {
                let counts = images.iter().zip(&labels).filter(move |(_, label)| **label == class);
                counts.map(|(count, _)| *count).collect::<Vec<_>>()
            };
            let counts: Vec<_> = (0..5).map(of_class).filter(|counts| !counts.is_empty()).collect();
            let samples: Vec<usize> = counts.iter().map(|counts| counts.iter().sum()).collect();
            prop_assert!(samples.iter().max().unwrap() - samples.iter().min().unwrap() <= 1, "{samples:?}");
            for counts in counts {
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
            }
        }
    }

    #[test]
    fn every_epoch_is_another_one_and_stays_what_it_is() {
        let labels = [0, 0, 0, 0, 0, 1, 1, 2];
        let epochs: Vec<_> = (0..4).map(|epoch| Sampling::Balanced.order(1, epoch, &labels)).collect();
        assert!(epochs.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(epochs[0], Sampling::Balanced.order(1, 0, &labels));
        assert_eq!(Sampling::Once.order(1, 0, &labels), permutation(1, Purpose::Order, 0, 8));
    }
}

//! Whether results lie in the paper's order, and how sure that is.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Agreement in order between results and the paper's, over the pairs of rows that the paper separates by a point or more.
///
/// A failure is worse than any number; two failures are no pair. A tie counts half.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    /// Pairs of rows with results that the paper separates.
    pub pairs: usize,
    /// Those in the paper's order.
    pub agreeing: f64,
    /// Bounds of the share of agreeing pairs that hold with 95 %: percentiles over 2,000 draws of rows and, within them, of runs.
    /// Few rows and runs make it look surer than it is.
    pub interval: [f64; 2],
    /// Rows of a single run, which has no spread that the interval could take into account.
    pub single_runs: usize,
    /// How often rows in random order agree as well or better.
    pub chance: f64,
}

/// A row with results.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Only rows of one group are compared: errors on different data sets are not.
    pub group: usize,
    /// The paper's error in percent; infinite if it says "fail".
    pub published: f64,
    /// Test errors of the runs in percent; infinite if they diverged.
    pub runs: Vec<f64>,
}

/// What the paper must separate rows by, in points of a percent.
const MARGIN: f64 = 1.;
const DRAWS: usize = 2000;

/// The agreement of rows with results; none if the paper separates no two of them.
pub fn agreement(rows: &[Ranked]) -> Option<Agreement> {
    let rows: Vec<&Ranked> = rows.iter().filter(|row| !row.runs.is_empty()).collect();
    let medians: Vec<f64> = rows.iter().map(|row| median(&row.runs)).collect();
    let all: Vec<usize> = (0..rows.len()).collect();
    let (agreeing, pairs) = count(&rows, &all, &medians);
    if pairs == 0 {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut shares = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        let drawn: Vec<usize> = all.iter().map(|_| random.random_range(0..rows.len())).collect();
        let again: Vec<f64> = rows.iter().map(|row| redrawn_median(&row.runs, &mut random)).collect();
        let (agreeing, pairs) = count(&rows, &drawn, &again);
        shares.extend((pairs > 0).then(|| agreeing / pairs as f64));
    }
    shares.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = shares.len().saturating_sub(1);
        shares.get((share * last as f64).round() as usize).copied().unwrap_or(agreeing / pairs as f64)
    };
    let better =
        (0..DRAWS).filter(|_| count(&rows, &all, &shuffled(&rows, &medians, &mut random)).0 >= agreeing);
    Some(Agreement {
        pairs,
        agreeing,
        interval: [at(0.025), at(0.975)],
        single_runs: rows.iter().filter(|row| row.runs.len() == 1).count(),
        chance: better.count() as f64 / DRAWS as f64,
    })
}

/// Pairs among the drawn rows that agree, and all that count.
fn count(rows: &[&Ranked], drawn: &[usize], medians: &[f64]) -> (f64, usize) {
    let (mut agreeing, mut pairs) = (0., 0);
    for (index, &a) in drawn.iter().enumerate() {
        for &b in &drawn[index + 1..] {
            let (left, right) = (rows[a], rows[b]);
            let is_separated = left.published != right.published
                && (left.published - right.published).abs() >= MARGIN - 1e-9;
            if left.group != right.group || !is_separated {
                continue;
            }
            pairs += 1;
            let is_less = left.published < right.published;
            agreeing += match medians[a].total_cmp(&medians[b]) {
                std::cmp::Ordering::Equal => 0.5,
                order => f64::from(u8::from(order.is_lt() == is_less)),
            };
        }
    }
    (agreeing, pairs)
}

/// The medians in random order within each group.
fn shuffled(rows: &[&Ranked], medians: &[f64], random: &mut ChaCha8Rng) -> Vec<f64> {
    let mut shuffled = medians.to_vec();
    let mut groups: Vec<usize> = rows.iter().map(|row| row.group).collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        let places: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].group == group).collect();
        let mut order = places.clone();
        order.shuffle(random);
        for (&place, &from) in places.iter().zip(&order) {
            shuffled[place] = medians[from];
        }
    }
    shuffled
}

fn redrawn_median(runs: &[f64], random: &mut ChaCha8Rng) -> f64 {
    let drawn: Vec<f64> = runs.iter().map(|_| runs[random.random_range(0..runs.len())]).collect();
    median(&drawn)
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    if low == high { low } else { (low + high) / 2. }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(of: &[(f64, &[f64])]) -> Vec<Ranked> {
        of.iter()
            .map(|(published, runs)| Ranked { group: 0, published: *published, runs: runs.to_vec() })
            .collect()
    }

    const FAIL: f64 = f64::INFINITY;

    #[test]
    fn pairs_a_point_apart_count() {
        // 6.61 and 6.37 are no pair; 12.35 and the failures are, with all others but themselves.
        let found = agreement(&rows(&[
            (6.61, &[12.]),
            (6.37, &[13.]),
            (12.35, &[20.]),
            (FAIL, &[90.]),
            (FAIL, &[15.]),
        ]))
        .unwrap();
        assert_eq!((found.pairs, found.agreeing), (8, 7.));
        assert!(found.interval[0] < 0.875 && found.interval[1] == 1., "{found:?}");
        assert!(found.chance > 0. && found.chance < 0.2, "{found:?}");
        assert_eq!(found.single_runs, 5);
    }

    #[test]
    fn no_pair_is_no_agreement() {
        assert_eq!(agreement(&[]), None);
        assert_eq!(agreement(&rows(&[(6.61, &[12.]), (6.37, &[13.]), (20., &[])])), None);
        assert_eq!(agreement(&rows(&[(FAIL, &[12.]), (FAIL, &[13.])])), None);
        let apart = [Ranked { group: 1, published: 25., runs: vec![3.] }];
        assert_eq!(agreement(&[rows(&[(6.61, &[12.])]), apart.to_vec()].concat()), None);
    }

    #[test]
    fn ties_and_divergence() {
        let tie = agreement(&rows(&[(6., &[FAIL]), (FAIL, &[FAIL])])).unwrap();
        assert_eq!((tie.pairs, tie.agreeing), (1, 0.5));
        let order = agreement(&rows(&[(6., &[5., 9., FAIL]), (8., &[10.])])).unwrap();
        assert_eq!((order.agreeing, order.single_runs), (1., 1));
    }

    proptest! {
        #[test]
        fn the_papers_own_numbers_agree_and_their_reverse_does_not(
            published in proptest::collection::vec(0f64..100., 2..12),
        ) {
            let with = |sign: f64| -> Vec<Ranked> {
                published.iter().map(|&value| Ranked { group: 0, published: value, runs: vec![sign * value] }).collect()
            };
            if let Some(found) = agreement(&with(1.)) {
                prop_assert_eq!((found.agreeing, found.interval), (found.pairs as f64, [1., 1.]));
                prop_assert_eq!(agreement(&with(-1.)).unwrap().agreeing, 0.);
            }
        }
    }
}

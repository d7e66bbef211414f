//! The part of each batch that one of several processes makes.

/// One of equal parts of each batch, numbered from 0 on; by default all of it. Together the parts are the batch, in order: the same images,
/// varied and mixed alike, for any number of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    place: usize,
    parts: usize,
}

impl Default for Share {
    fn default() -> Self {
        Self { place: 0, parts: 1 }
    }
}

impl Share {
    /// Part `place` of `parts`; none where there is no such part.
    pub fn new(place: usize, parts: usize) -> Option<Self> {
        (place < parts).then_some(Self { place, parts })
    }

    /// How many parts there are.
    pub fn parts(self) -> usize {
        self.parts
    }

    /// Images in a part of a batch, whose size must be a multiple of the number of parts.
    pub fn len_of(self, batch: usize) -> usize {
        batch / self.parts
    }

    /// Images of a batch in front of this part.
    pub fn images_before(self, batch: usize) -> usize {
        self.place * self.len_of(batch)
    }

    /// This part of a list of `len` things, in order; parts of it differ by one at most.
    pub fn range_of(self, len: usize) -> std::ops::Range<usize> {
        let begin = |place: usize| (len as u128 * place as u128 / self.parts as u128) as usize;
        begin(self.place)..begin(self.place + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other() {
        assert_eq!(Share::new(2, 2), None);
        for parts in [1, 2, 3, 7] {
            let shares = || (0..parts).map(|place| Share::new(place, parts).unwrap());
            for len in [0, 1, 5, 21, 1000] {
                let all: Vec<usize> = shares().flat_map(|share| share.range_of(len)).collect();
                assert!(all.iter().copied().eq(0..len), "{parts} {len}");
                assert!(shares().all(|share| share.range_of(len).len().abs_diff(len / parts) <= 1));
            }
            let before: Vec<usize> = shares().map(|share| share.images_before(4 * parts)).collect();
            assert!(before.iter().copied().eq((0..parts).map(|place| 4 * place)));
        }
    }
}

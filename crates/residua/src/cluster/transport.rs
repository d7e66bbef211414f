//! How ranks reach each other.

/// The way between the ranks of a cluster. All ranks call the same methods in the same order, each from one thread; every call returns
/// when this rank has what it is sent.
pub(super) trait Transport {
    /// This rank.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn ranks(&self) -> usize;

    /// Sends the r-th of equal parts of `sent` to rank r, and receives a part from each, in the order of the ranks. Both are of one length,
    /// a multiple of the number of ranks.
    fn all_to_all(&mut self, sent: &[f32], received: &mut [f32]);

    /// Receives what all ranks send, in their order: `received` has the length of `sent` for each.
    fn all_gather(&mut self, sent: &[f32], received: &mut [f32]);

    /// The same of bytes, of which ranks send different numbers: `lengths`, which every rank knows.
    fn all_gather_bytes(&mut self, sent: &[u8], lengths: &[usize]) -> Vec<Vec<u8>>;

    /// Ends all ranks, this one too, with an exit code.
    fn end_all(&mut self, code: i32);
}

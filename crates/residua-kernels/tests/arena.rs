//! Memory that is lent and comes back.

use std::collections::BTreeMap;

use residua_kernels::Buffer;
use residua_kernels::arena::{Arena, Memory};

fn arena(address: usize, capacity: usize) -> Arena {
    let mut arena = Arena::default();
    arena.give_back(Memory { address, capacity });
    arena
}

#[test]
fn what_comes_back_is_lent_again() {
    let mut arena = arena(4096, 1 << 20);
    let [first, second, third] = [100, 200, 300].map(|bytes| arena.take(bytes));
    assert_eq!((first.address, second.address, third.address), (4096, 4096 + 128, 4096 + 384));
    let at = second.address;
    arena.give_back(second);
    assert_eq!(arena.take(256).address, at);
    // Neighbours become one gap, in whatever order they come back.
    arena.give_back(third);
    arena.give_back(first);
    arena.give_back(Memory { address: at, capacity: 256 });
    assert_eq!(*arena.gaps(), BTreeMap::from([(4096, 1 << 20)]));
}

#[test]
fn lent_memory_never_overlaps() {
    let mut arena = arena(1 << 20, 1 << 30);
    let mut lent: Vec<Memory> = Vec::new();
    for round in 0..2000usize {
        let random = round.wrapping_mul(2_654_435_761) % 1013;
        if random % 3 == 0 && !lent.is_empty() {
            arena.give_back(lent.swap_remove(random % lent.len()));
        } else {
            lent.push(arena.take(random * 37));
        }
        let mut parts: Vec<_> = lent.iter().map(|part| (part.address, part.capacity)).collect();
        parts.extend(arena.gaps().iter().map(|(&address, &length)| (address, length)));
        parts.sort_unstable();
        // Parts and gaps fill the space, each once.
        assert!(parts.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0));
        assert_eq!(parts.iter().map(|part| part.1).sum::<usize>(), 1 << 30);
    }
}

#[test]
fn a_buffer_is_aligned_and_becomes_bytes() {
    for len in [1, 1025, (5 << 20) + 3] {
        let mut buffer = Buffer::<f32>::of(len);
        assert_eq!(buffer.as_ptr().align_offset(64), 0);
        buffer.fill(1.);
        let bytes = buffer.into_bytes();
        assert_eq!(bytes.len(), (4 * len).next_multiple_of(64));
        assert!(bytes[..4 * len].as_chunks().0.iter().all(|&bytes| f32::from_ne_bytes(bytes) == 1.));
    }
}

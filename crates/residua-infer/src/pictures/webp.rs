//! WebP files whose headers promise what is not there.

/// Takes back a promise of EXIF or XMP data that a file does not have: decoders look for them, and the picture is whole without.
pub(super) fn keep_promises(bytes: &mut [u8]) {
    const CHUNKS: usize = 12;
    const FLAGS: usize = CHUNKS + 8;
    if bytes.get(CHUNKS..CHUNKS + 4) != Some(b"VP8X") || bytes.len() <= FLAGS {
        return;
    }
    for (flag, name) in [(0x08, b"EXIF"), (0x04, b"XMP ")] {
        if bytes[FLAGS] & flag != 0 && !has_chunk(&bytes[CHUNKS..], name) {
            bytes[FLAGS] &= !flag;
        }
    }
}

/// Whether there is a whole chunk of this name.
fn has_chunk(mut chunks: &[u8], name: &[u8; 4]) -> bool {
    while let [a, b, c, d, s0, s1, s2, s3, rest @ ..] = chunks {
        let size = u32::from_le_bytes([*s0, *s1, *s2, *s3]) as usize;
        if [*a, *b, *c, *d] == *name {
            return size <= rest.len();
        }
        // Chunks begin at even places.
        chunks = rest.get(size.saturating_add(size % 2)..).unwrap_or_default();
    }
    false
}

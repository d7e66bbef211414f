//! Arrays as NumPy stores them.

/// The bytes of a `.npy` file (format 1.0) of little-endian `f32` numbers, the last index running fastest.
///
/// # Panics
/// When the values do not fill the shape.
pub fn encode_npy(shape: &[usize], values: &[f32]) -> Vec<u8> {
    assert_eq!(shape.iter().product::<usize>(), values.len(), "values of an array of shape {shape:?}");
    let shape = match shape {
        [length] => format!("({length},)"),
        shape => format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    let description = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    // The values begin at a multiple of 64 bytes, behind a line's end.
    let before = MAGIC.len() + size_of::<u16>();
    let length = (before + description.len() + 1).next_multiple_of(64) - before;
    let mut bytes = Vec::with_capacity(before + length + size_of_val(values));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(length as u16).to_le_bytes());
    bytes.extend_from_slice(description.as_bytes());
    bytes.resize(before + length - 1, b' ');
    bytes.push(b'\n');
    for value in values {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Followed by the version, 1.0.
const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.save` of `numpy.array([[1, 2, 3], [-4, 5, 0.5]], "<f4")`, NumPy 2.
    #[test]
    fn the_bytes_are_those_that_numpy_writes() {
        let mut expected = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        expected.extend(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
        expected.resize(127, b' ');
        expected.push(b'\n');
        expected.extend([1f32, 2., 3., -4., 5., 0.5].into_iter().flat_map(f32::to_le_bytes));
        assert_eq!(encode_npy(&[2, 3], &[1., 2., 3., -4., 5., 0.5]), expected);
    }

    #[test]
    fn a_row_and_an_array_without_rows_are_written_as_tuples() {
        for (shape, written) in [(&[2][..], "(2,)"), (&[0, 64], "(0, 64)"), (&[], "()")] {
            let bytes = encode_npy(shape, &vec![0.; shape.iter().product()]);
            let header = String::from_utf8_lossy(&bytes[10..128]);
            assert!(header.contains(&format!("'shape': {written}, }}")), "{header}");
            assert_eq!(bytes.len(), 128 + 4 * shape.iter().product::<usize>());
        }
    }
}

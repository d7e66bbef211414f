//! Rows with the cells of a column below each other.

/// The lines of a table: the first `words` columns of words, to the left, then numbers, to the right.
pub(crate) fn table<const N: usize>(rows: &[[String; N]], words: usize) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let cell = |(column, text): (usize, &String)| match column < words {
        true => format!("{text:<0$}", widths[column]),
        false => format!("{text:>0$}", widths[column]),
    };
    let line = |row: &[String; N]| row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

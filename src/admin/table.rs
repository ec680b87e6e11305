//! Rows as the console shows them: columns with their types, cells as text.

use bytes::BytesMut;

use crate::protocol::message;

/// The oid of `text`.
pub const TEXT: u32 = 25;
/// The oid of `int4`.
pub const INT4: u32 = 23;
/// The oid of `int8`.
pub const INT8: u32 = 20;
/// The oid of `bytea`.
pub const BYTEA: u32 = 17;
/// The oid of `numeric`.
pub const NUMERIC: u32 = 1700;

/// A column: its name and the oid of its type.
pub type Column = (&'static str, u32);
/// A value; `None` is NULL.
pub type Cell = Option<String>;

/// An answer of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows, each as wide as there are columns.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table of these rows.
    pub fn new(columns: &[Column], rows: Vec<Vec<Cell>>) -> Self {
        debug_assert!(
            rows.iter().all(|row| row.len() == columns.len()),
            "{columns:?} {rows:?}"
        );
        Self {
            columns: columns.to_vec(),
            rows,
        }
    }

    /// Appends RowDescription and DataRows to `out`.
    pub fn write(&self, out: &mut BytesMut) {
        message::row_description(out, &self.columns);
        for row in &self.rows {
            let cells: Vec<_> = row
                .iter()
                .map(|cell| cell.as_ref().map(String::as_bytes))
                .collect();
            message::data_row(out, &cells);
        }
    }
}

/// A cell with a text.
pub fn text(value: impl Into<String>) -> Cell {
    Some(value.into())
}

/// A cell with an `int4`; what does not fit is the largest there is.
pub fn int(value: impl TryInto<i32>) -> Cell {
    Some(value.try_into().unwrap_or(i32::MAX).to_string())
}

/// A cell with a `numeric`.
pub fn number(value: u64) -> Cell {
    Some(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::{INT4, TEXT, Table, int, text};

    #[test]
    fn a_number_too_large_for_its_type_is_the_largest() {
        assert_eq!(int(7_usize), text("7"));
        assert_eq!(int(u64::MAX), text("2147483647"));
    }

    #[test]
    fn rows_go_out_in_text_format() {
        let mut out = bytes::BytesMut::new();
        Table::new(&[("a", TEXT), ("b", INT4)], vec![vec![None, int(1_usize)]]).write(&mut out);
        let row = b"D\0\0\0\x0f\0\x02\xff\xff\xff\xff\0\0\0\x011";
        assert!(out.ends_with(row), "{out:?}");
        assert_eq!(out[0], b'T');
    }
}

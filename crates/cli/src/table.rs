//! A table of text, for a terminal or a job's log.

/// What is between two columns.
const GAP: usize = 2;

/// A column: its title and a cell for each row, empty where there is nothing to say.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    title: &'static str,
    cells: Vec<String>,
}

impl Column {
    /// A column of these cells.
    pub(crate) fn new(title: &'static str, cells: impl Iterator<Item = Option<String>>) -> Self {
        Self { title, cells: cells.map(Option::unwrap_or_default).collect() }
    }

    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.chars().count());
        cells.chain([self.title.len()]).max().unwrap_or(0)
    }
}

/// The table's lines, with the titles first. Columns without anything in them are left out; and from the last one on, those for which
/// `width` has no room.
pub(crate) fn lines(columns: Vec<Column>, width: Option<usize>) -> Vec<String> {
    let mut shown: Vec<(Column, usize)> = Vec::new();
    let mut used = 0;
    for column in columns.into_iter().filter(|column| column.cells.iter().any(|cell| !cell.is_empty())) {
        let wide = column.width();
        let gap = if shown.is_empty() { 0 } else { GAP };
        if !shown.is_empty() && width.is_some_and(|width| used + gap + wide > width) {
            continue;
        }
        used += gap + wide;
        shown.push((column, wide));
    }
    let rows = shown.iter().map(|(column, _)| column.cells.len()).max().unwrap_or(0);
    let line = |row: Option<usize>| {
        let cell = |(column, wide): &(Column, usize)| {
            let text = match row {
                None => column.title,
                Some(row) => column.cells.get(row).map_or("", String::as_str),
            };
            format!("{text:<wide$}")
        };
        shown.iter().map(cell).collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    std::iter::once(None).chain((0..rows).map(Some)).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(title: &'static str, cells: &[&str]) -> Column {
        Column::new(title, cells.iter().map(|cell| Some((*cell).to_owned())))
    }

    #[test]
    fn what_does_not_fit_or_says_nothing_is_left_out() {
        let all = || {
            vec![
                column("NAME", &["a", "größe"]),
                column("URL", &["https://long", ""]),
                column("PIN", &["", ""]),
                column("BY", &["d", "e"]),
            ]
        };
        assert_eq!(lines(all(), None), ["NAME   URL           BY", "a      https://long  d", "größe                e"]);
        assert_eq!(lines(all(), Some(12)), ["NAME   BY", "a      d", "größe  e"]);
        assert_eq!(lines(all(), Some(1)), ["NAME", "a", "größe"]);
    }
}

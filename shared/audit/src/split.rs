//! Where the rows and cells of a CSV lie in its bytes (RFC 4180).
//!
//! Bytes are looked at 64 at a time for the few that mean something; nothing is copied but cells with a quote inside.
//! The reading is lenient where producers are careless: a line ends with LF, CR or both, empty lines are none, a quote
//! inside an unquoted cell is a character, and so is what follows a closing quote. A row that spans a bound keeps its
//! place: [`Splitter::scan`] goes on where it stopped, whatever pieces the bytes came in.

use wide::u8x16;

/// Cells of one row that are told apart; a row with more is no table's.
pub(crate) const MAX_COLUMNS: usize = 10_000;

/// Bytes that are looked at together.
const BLOCK: usize = 64;
/// Set in the start of a cell that lies in the arena.
const IN_ARENA: u32 = 1 << 31;

/// A cell's place: in the bytes that were scanned, or in the arena.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

/// A row's place and number of cells.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) span: std::ops::Range<usize>,
    /// All of them, also beyond the width.
    pub(crate) cells: usize,
}

/// The rows of some bytes. Each has `width` cells here, empty ones if it has another number.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    cells: Vec<Span>,
    /// Cells whose text is not as it is written: quotes inside them are doubled.
    arena: Vec<u8>,
}

impl Rows {
    /// A cell's bytes, unquoted.
    #[inline]
    pub(crate) fn cell<'b>(&'b self, bytes: &'b [u8], index: usize) -> &'b [u8] {
        let Some(span) = self.cells.get(index) else { return &[] };
        let (start, end) = (span.start & !IN_ARENA, span.end);
        let from = if span.start & IN_ARENA == 0 { bytes } else { &self.arena };
        from.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The cells of one column: the length of each, and all bytes from its start on.
    #[inline]
    pub(crate) fn column<'b>(
        &'b self,
        bytes: &'b [u8],
        place: usize,
        width: usize,
    ) -> impl Iterator<Item = (usize, &'b [u8])> {
        let cells = self.cells.get(place..).unwrap_or_default().iter().step_by(width.max(1));
        cells.map(move |span| {
            let start = span.start & !IN_ARENA;
            let from = if span.start & IN_ARENA == 0 { bytes } else { &self.arena };
            ((span.end - start) as usize, from.get(start as usize..).unwrap_or_default())
        })
    }

    /// Puts another text in a cell's place.
    pub(crate) fn replace(&mut self, index: usize, text: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(text);
        if let Some(span) = self.cells.get_mut(index) {
            *span = Span { start: place(start) | IN_ARENA, end: place(self.arena.len()) };
        }
    }

    /// Rows for which there is room from the start.
    pub(crate) fn with_room(rows: usize, width: usize) -> Self {
        let cells = Vec::with_capacity(rows * width);
        Self { rows: Vec::with_capacity(rows), cells, arena: Vec::new() }
    }

    /// Cells of all rows together.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }
}

/// A place in a chunk: chunks and lines are limited far below what fits.
#[allow(clippy::cast_possible_truncation, reason = "a chunk is below 2^31 bytes")]
fn place(at: usize) -> u32 {
    at as u32 & !IN_ARENA
}

/// Why a scan stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All bytes were looked at, and the last row is not complete.
    More,
    /// As many rows or bytes as were wanted; what is left begins at this place.
    Full(usize),
    /// A row has more cells than any table.
    Columns,
}

/// How much is wanted of a scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Cells a row has.
    pub(crate) width: usize,
    pub(crate) rows: usize,
    /// A row that ends behind this many bytes is the last.
    pub(crate) bytes: usize,
}

/// Where in a cell the scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// Before its first byte, or in one without quotes.
    Plain,
    Quotes,
    /// Behind a quote, at this place, that ends the quotes or is the first of two.
    Closing(usize),
    /// Behind closed quotes.
    Tail,
}

/// Finds rows and cells.
pub(crate) struct Splitter {
    delimiter: u8,
    quote: u8,
    /// How far the bytes have been looked at.
    scanned: usize,
    row_start: usize,
    cell_start: usize,
    /// Cells of the row so far.
    cells: usize,
    within: Within,
    /// Whether the cell's text is not as it is written.
    escaped: bool,
    open: bool,
}

impl Splitter {
    pub(crate) fn new(delimiter: u8, quote: u8) -> Self {
        Self {
            delimiter,
            quote,
            scanned: 0,
            row_start: 0,
            cell_start: 0,
            cells: 0,
            within: Within::Plain,
            escaped: false,
            open: false,
        }
    }

    /// Bytes that were looked at of the row that is not complete: what was read beyond may be of others.
    pub(crate) fn pending(&self) -> usize {
        self.scanned.saturating_sub(self.row_start)
    }

    /// Whether the bytes have ended within quotes.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Looks at the bytes that were not looked at. `ended`: no more will come, and what is left is a row.
    pub(crate) fn scan(
        &mut self,
        bytes: &[u8],
        ended: bool,
        wanted: &Wanted,
        out: &mut Rows,
    ) -> Stop {
        loop {
            let rest = bytes.get(self.scanned..).unwrap_or_default();
            let (mut marks, seen) = match rest.first_chunk::<BLOCK>() {
                Some(block) => (self.marks(block), BLOCK),
                None if ended && !rest.is_empty() => {
                    let mut block = [0; BLOCK];
                    block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                    (self.marks(&block), rest.len())
                }
                None => break,
            };
            // The padding means nothing: no contract's delimiter or quote is a NUL.
            while marks != 0 {
                let at = self.scanned + marks.trailing_zeros() as usize;
                marks &= marks - 1;
                // Almost every mark, without the questions that quotes raise.
                if self.within == Within::Plain && bytes.get(at) == Some(&self.delimiter) {
                    if self.cells < wanted.width {
                        out.cells.push(Span { start: place(self.cell_start), end: place(at) });
                    }
                    self.cells += 1;
                    self.cell_start = at + 1;
                    if self.cells > MAX_COLUMNS {
                        return Stop::Columns;
                    }
                    continue;
                }
                if let Some(stop) = self.mark(bytes, at, wanted, out) {
                    return stop;
                }
            }
            self.scanned += seen;
        }
        if !ended {
            return Stop::More;
        }
        self.open = self.within == Within::Quotes;
        let begun = bytes.len() > self.row_start;
        if begun && !self.end_cell(bytes, bytes.len(), wanted, out) {
            return Stop::Columns;
        }
        if begun {
            self.end_row(bytes.len(), wanted, out);
        }
        Stop::Full(bytes.len())
    }

    /// The bytes of a block that mean something, a bit each.
    #[inline]
    fn marks(&self, block: &[u8; BLOCK]) -> u64 {
        let (delimiter, quote) = (u8x16::splat(self.delimiter), u8x16::splat(self.quote));
        let (lf, cr) = (u8x16::splat(b'\n'), u8x16::splat(b'\r'));
        let (lanes, _) = block.as_chunks::<16>();

        lanes.iter().rev().fold(0u64, |bits, lane| {
            let lane = u8x16::new(*lane);
            let is =
                lane.simd_eq(delimiter) | lane.simd_eq(quote) | lane.simd_eq(lf) | lane.simd_eq(cr);
            (bits << 16) | u64::from(is.to_bitmask())
        })
    }

    /// What a byte that may mean something means at its place.
    fn mark(&mut self, bytes: &[u8], at: usize, wanted: &Wanted, out: &mut Rows) -> Option<Stop> {
        let byte = bytes.get(at).copied().unwrap_or_default();
        match self.within {
            Within::Plain => {}
            Within::Quotes => {
                if byte == self.quote {
                    self.within = Within::Closing(at);
                }
                return None;
            }
            Within::Closing(quote) if at == quote + 1 && byte == self.quote => {
                self.escaped = true;
                self.within = Within::Quotes;
                return None;
            }
            Within::Closing(quote) if at > quote + 1 => {
                self.escaped = true;
                self.within = Within::Tail;
            }
            Within::Closing(_) | Within::Tail => {}
        }
        if byte == self.delimiter {
            let fits = self.end_cell(bytes, at, wanted, out);
            return (!fits).then_some(Stop::Columns);
        }
        if byte == self.quote {
            if self.within == Within::Plain && at == self.cell_start {
                self.within = Within::Quotes;
            }
            return None;
        }
        if at == self.row_start {
            // An empty line, or the second half of a line's end. So many that they fill a chunk are let go.
            (self.row_start, self.cell_start) = (at + 1, at + 1);
            return (out.rows.is_empty() && at + 1 >= wanted.bytes).then(|| self.rest_from(at + 1));
        }
        if !self.end_cell(bytes, at, wanted, out) {
            return Some(Stop::Columns);
        }
        self.end_row(at, wanted, out);
        if out.rows.len() >= wanted.rows || at + 1 >= wanted.bytes {
            return Some(self.rest_from(at + 1));
        }
        None
    }

    /// The caller goes on with what is left, from its first byte.
    fn rest_from(&mut self, at: usize) -> Stop {
        self.scanned = 0;
        (self.row_start, self.cell_start) = (0, 0);
        Stop::Full(at)
    }

    /// Ends a cell before `at`; `false` if its row has too many.
    fn end_cell(&mut self, bytes: &[u8], at: usize, wanted: &Wanted, out: &mut Rows) -> bool {
        if self.cells < wanted.width {
            let span = match self.within {
                Within::Plain => Span { start: place(self.cell_start), end: place(at) },
                Within::Closing(quote) if quote + 1 == at && !self.escaped => {
                    Span { start: place(self.cell_start + 1), end: place(quote) }
                }
                _ => {
                    let start = out.arena.len();
                    let raw = bytes.get(self.cell_start..at).unwrap_or_default();
                    unescape(raw, self.quote, &mut out.arena);
                    Span { start: place(start) | IN_ARENA, end: place(out.arena.len()) }
                }
            };
            out.cells.push(span);
        }
        self.cells += 1;
        self.cell_start = at + 1;
        self.within = Within::Plain;
        self.escaped = false;
        self.cells <= MAX_COLUMNS
    }

    fn end_row(&mut self, at: usize, wanted: &Wanted, out: &mut Rows) {
        let cells = std::mem::take(&mut self.cells);
        if cells != wanted.width && wanted.width <= MAX_COLUMNS {
            let before = out.rows.len() * wanted.width;
            out.cells.truncate(before);
            out.cells.resize(before + wanted.width, Span::default());
        }
        out.rows.push(Row { span: self.row_start..at, cells });
        (self.row_start, self.cell_start) = (at + 1, at + 1);
    }
}

/// The text of a cell that begins with a quote.
fn unescape(raw: &[u8], quote: u8, out: &mut Vec<u8>) {
    let mut rest = raw.get(1..).unwrap_or_default();
    while let Some(at) = memchr::memchr(quote, rest) {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + 1..).unwrap_or_default();
        match rest.split_first() {
            Some((next, after)) if *next == quote => {
                out.push(quote);
                rest = after;
            }
            // Closed: from here on a quote is a character.
            _ => break,
        }
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: usize = usize::MAX;

    /// A row's number of cells, and as many of them as are wanted.
    type Cells = (usize, Vec<Vec<u8>>);

    /// Rows of cells, read in pieces of a size; the width is that of the first row.
    fn split(bytes: &[u8], piece: usize, width: usize) -> (Vec<Cells>, bool) {
        let mut splitter = Splitter::new(b',', b'"');
        let wanted = Wanted { width, rows: ALL, bytes: ALL };
        let mut rows = Rows::default();
        let mut seen = 0;
        while seen < bytes.len() {
            seen = (seen + piece).min(bytes.len());
            assert_eq!(splitter.scan(&bytes[..seen], false, &wanted, &mut rows), Stop::More);
        }
        splitter.scan(bytes, true, &wanted, &mut rows);
        let cells =
            |n: usize| (n * width..(n + 1) * width).map(|i| rows.cell(bytes, i).to_vec()).collect();
        let cells = rows.rows.iter().enumerate().map(|(n, row)| (row.cells, cells(n))).collect();
        (cells, splitter.is_open())
    }

    /// The same by another's state machine.
    fn oracle(bytes: &[u8], width: usize) -> Vec<Cells> {
        let mut core = csv_core::Reader::new();
        let (mut out, mut ends) = (vec![0; bytes.len() + 1], vec![0; bytes.len() + 2]);
        let (mut rows, mut at) = (Vec::new(), 0);
        loop {
            let (mut written, mut ended) = (0, 0);
            let result = loop {
                let input = bytes.get(at..).unwrap_or_default();
                let (result, read, more, cells) =
                    core.read_record(input, &mut out[written..], &mut ends[ended..]);
                at += read;
                written += more;
                ended += cells;
                if result != csv_core::ReadRecordResult::InputEmpty || input.is_empty() {
                    break result;
                }
            };
            match result {
                csv_core::ReadRecordResult::Record => {
                    let mut from = 0;
                    let cells = ends[..ended]
                        .iter()
                        .map(|end| out[std::mem::replace(&mut from, *end)..*end].to_vec());
                    let mut cells: Vec<_> = cells.collect();
                    if cells.len() != width {
                        cells = vec![Vec::new(); width];
                    }
                    rows.push((ended, cells));
                }
                _ => return rows,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn cells_are_what_a_state_machine_says(
            text in "([a,\"\n\r]|[ab]{1,20}|\"[a,\"\n]{0,9}\"){0,40}",
            piece in 1usize..100,
            width in 1usize..5,
        ) {
            let bytes = text.as_bytes();
            prop_assert_eq!(split(bytes, piece, width).0, oracle(bytes, width));
        }
    }

    #[test]
    fn quotes_that_are_left_open_are_known() {
        assert!(split(b"a,\"b\nc,d\n", 3, 2).1);
        assert!(!split(b"a,\"b\"\"\nc\"\n", 3, 2).1);
    }

    #[test]
    fn a_scan_stops_where_it_is_told_and_goes_on_with_the_rest() {
        let bytes = b"a,b\r\nc,d\ne,f";
        let mut splitter = Splitter::new(b',', b'"');
        let mut rows = Rows::default();
        let wanted = Wanted { width: 2, rows: 1, bytes: ALL };
        let Stop::Full(at) = splitter.scan(bytes, true, &wanted, &mut rows) else { panic!() };
        assert_eq!((at, rows.rows.len(), rows.cell(bytes, 1)), (4, 1, &b"b"[..]));
        let rest = &bytes[at..];
        let mut rows = Rows::default();
        let wanted = Wanted { width: 2, rows: ALL, bytes: 3 };
        let Stop::Full(at) = splitter.scan(rest, true, &wanted, &mut rows) else { panic!() };
        assert_eq!((at, rows.cell(rest, 0)), (5, &b"c"[..]));
    }

    #[test]
    fn too_many_cells_are_no_row() {
        let bytes = vec![b','; MAX_COLUMNS];
        let mut splitter = Splitter::new(b',', b'"');
        let wanted = Wanted { width: 2, rows: ALL, bytes: ALL };
        assert_eq!(splitter.scan(&bytes, true, &wanted, &mut Rows::default()), Stop::Columns);
    }
}

//! Pages of a file that anybody may have written, as the reader of values wants them.
//!
//! Every number of a page is held against its bytes before it is believed, and what the reader takes on trust is checked
//! here: it would panic on some files, and make room for whatever others claim. A row group's readers share one
//! [`Account`] of what they hold. Where a batch of rows would hold too much, they say that it is crowded, and the same rows
//! are read again in smaller batches; where one row does, the file is unreadable.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::{CompressionCodec as Codec, Encoding, Type as Physical};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::bits::{Delta, runs, spelt_out};
use super::thrift::{Header, Kind, NoHeader, header};

/// Bytes of one page, unpacked and with its strings spelt out.
const PAGE: usize = 64 << 20;
/// Bytes of the pages and dictionaries that the columns are at.
const CURRENT: u64 = 256 << 20;
/// Bytes of strings in pages that a batch still needs after its columns have gone on to the next.
const PAST: u64 = 64 << 20;
/// Values of repeated columns in a batch.
const VALUES: u64 = 1 << 20;
/// Bytes of a page's header: it may have the least and the greatest of the page's strings.
const HEADERS: [u64; 3] = [8 << 10, 256 << 10, 4 << 20];
/// Strings of a page that has their lengths in front: all of them are read at once.
const LENGTHS: usize = 1 << 22;

/// A column of the file that is read.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// Its place among the columns of the file.
    pub(super) column: usize,
    pub(super) physical: Physical,
    /// Bytes of a value, of strings the least.
    pub(super) width: usize,
    pub(super) max_definition: u32,
    pub(super) max_repetition: u32,
}

/// What the readers of one row group hold and tell.
#[derive(Debug, Default)]
pub(super) struct Account {
    current: AtomicU64,
    past: AtomicU64,
    crowded: AtomicBool,
    failed: Mutex<Option<io::Error>>,
}

impl Account {
    /// Whether reading ended because a batch holds too much.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    /// Why the file could not be read, where that is nothing of its content.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.failed.lock().ok()?.take()
    }
}

/// Some rows of a row group: from `start` on, in batches of `batch` rows.
pub(super) struct Group {
    pub(super) file: Arc<File>,
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) index: usize,
    /// Where the footer begins.
    pub(super) end: u64,
    pub(super) leaves: Arc<[Leaf]>,
    pub(super) start: u64,
    pub(super) batch: u64,
    pub(super) account: Arc<Account>,
}

/// Where a column lies in the file; `None` where that cannot be.
pub(super) fn range(group: &RowGroupMetaData, column: usize, end: u64) -> Option<Range<u64>> {
    let chunk = group.columns().get(column)?;
    let data = u64::try_from(chunk.data_page_offset()).ok()?;
    let dictionary = chunk.dictionary_page_offset().and_then(|at| u64::try_from(at).ok());
    let from = dictionary.filter(|at| (1..data).contains(at)).unwrap_or(data);
    let to = from.checked_add(u64::try_from(chunk.compressed_size()).ok()?)?;
    (chunk.file_path().is_none() && to <= end).then_some(from..to)
}

impl RowGroups for Group {
    fn num_rows(&self) -> usize {
        let rows = self.metadata.row_groups().get(self.index).map(RowGroupMetaData::num_rows);
        rows.and_then(|rows| usize::try_from(rows).ok()).unwrap_or_default()
    }

    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>> {
        let group = self.metadata.row_groups().get(self.index);
        let (Some(leaf), Some(group)) = (self.leaves.get(leaf), group) else {
            return Err(wrong("a column is missing"));
        };
        let range = range(group, leaf.column, self.end);
        let range = range.ok_or_else(|| wrong("a column lies outside of the file"))?;
        let codec = group.columns().get(leaf.column).map(|chunk| chunk.compression_codec());
        let repeated = self.leaves.iter().filter(|leaf| leaf.max_repetition > 0).count();
        let pages = Pages {
            file: self.file.clone(),
            rest: range,
            leaf: leaf.clone(),
            codec: codec.unwrap_or(Codec::UNCOMPRESSED),
            rows: self.num_rows() as u64,
            next: None,
            dictionary: None,
            begun: false,
            page_held: 0,
            dictionary_held: 0,
            past_held: 0,
            tail: 0,
            last_batch: None,
            window: Window {
                start: self.start,
                batch: self.batch.max(1),
                most: VALUES / (repeated.max(1) as u64),
                row: 0,
                values: 0,
            },
            account: self.account.clone(),
        };
        Ok(Box::new(One(Some(pages))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.metadata.row_groups().iter().skip(self.index).take(1))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// The pages of a column in its one row group.
struct One(Option<Pages>);

impl Iterator for One {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let pages: Box<dyn PageReader> = Box::new(self.0.take()?);
        Some(Ok(pages))
    }
}

impl PageIterator for One {}

struct Pages {
    file: Arc<File>,
    /// What is not yet read of the column.
    rest: Range<u64>,
    leaf: Leaf,
    codec: Codec,
    /// Rows that the row group has by the footer.
    rows: u64,
    /// The header of the page that `rest` begins with, if it has been read.
    next: Option<Header>,
    /// Values of the dictionary.
    dictionary: Option<u32>,
    /// Whether a page of data has been read.
    begun: bool,
    page_held: u64,
    dictionary_held: u64,
    past_held: u64,
    /// Bytes of strings in the pages of the batch that the last row is in.
    tail: u64,
    last_batch: Option<u64>,
    window: Window,
    account: Arc<Account>,
}

/// Where in its batches a column is.
struct Window {
    start: u64,
    batch: u64,
    /// Values of a repeated column that a batch may have.
    most: u64,
    /// Rows begun.
    row: u64,
    /// Values of the batch that the last row is in.
    values: u64,
}

impl Window {
    /// The batch that a row is in; rows before the first are in none.
    fn of(&self, row: u64) -> Option<u64> {
        row.checked_sub(self.start).map(|row| row / self.batch)
    }

    /// Takes `n` values of one repetition level; `false` where the batch has too many.
    fn take(&mut self, level: u32, n: u64) -> bool {
        if level > 0 {
            self.values += n;
        } else {
            let before = self.row.checked_sub(1).and_then(|row| self.of(row));
            self.row += n;
            let last = self.row.saturating_sub(1);
            self.values = match self.of(last) {
                now if now == before => self.values + n,
                Some(_) => (last - self.start) % self.batch + 1,
                None => 0,
            };
        }
        self.row <= self.start || self.values <= self.most
    }
}

/// Where the parts of a page begin, and what is in it.
struct Parts {
    /// Where the values begin.
    values_at: usize,
    /// Values that are not null.
    defined: usize,
    /// The row that its first value is of.
    first_row: u64,
}

fn wrong(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

impl Pages {
    fn read(&self, from: u64, length: usize) -> Result<Vec<u8>> {
        let mut file = &*self.file;
        let mut bytes = vec![0; length];
        let read = file.seek(SeekFrom::Start(from)).and_then(|_| file.read_exact(&mut bytes));
        match read {
            Ok(()) => Ok(bytes),
            Err(error) => {
                if let Ok(mut failed) = self.account.failed.lock() {
                    *failed = Some(error);
                }
                Err(wrong("the file could not be read"))
            }
        }
    }

    /// The header of the next page; `None` at the end of the column.
    fn peek(&mut self) -> Result<Option<&Header>> {
        while self.next.is_none() {
            let left = self.rest.end - self.rest.start;
            if left == 0 {
                return Ok(None);
            }
            let found = self.read_header(left)?;
            let size = (found.length as u64).checked_add(found.packed as u64);
            if size.is_none_or(|size| size > left) {
                return Err(wrong("a page ends beyond its column"));
            }
            if matches!(
                found.page,
                Kind::Other | Kind::V1 { values: 0, .. } | Kind::V2 { values: 0, .. }
            ) {
                self.rest.start += size.unwrap_or_default();
            } else if found.unpacked > PAGE {
                return Err(wrong(&format!(
                    "a page has {} bytes; at most {PAGE} are read",
                    found.unpacked
                )));
            } else {
                self.next = Some(found);
            }
        }
        Ok(self.next.as_ref())
    }

    fn read_header(&self, left: u64) -> Result<Header> {
        for most in HEADERS {
            let length = usize::try_from(left.min(most)).unwrap_or_default();
            match header(&self.read(self.rest.start, length)?) {
                Ok(found) => return Ok(found),
                Err(NoHeader::Short) if most < left => {}
                Err(_) => break,
            }
        }
        Err(wrong("a page has no header that can be read"))
    }

    /// Passes over the next page, whose header has been read.
    fn pass(&mut self) -> Option<Header> {
        let header = self.next.take()?;
        self.rest.start += header.length as u64 + header.packed as u64;
        Some(header)
    }

    fn page(&mut self) -> Result<Option<Page>> {
        if self.peek()?.is_none() {
            if self.window.row != self.rows {
                let (row, rows) = (self.window.row, self.rows);
                return Err(wrong(&format!("a column has {row} rows of the row group's {rows}")));
            }
            return Ok(None);
        }
        let at = self.rest.start;
        let Some(header) = self.pass() else { return Ok(None) };
        let body = self.read(at + header.length as u64, header.packed)?;
        let size = header.unpacked;
        match header.page {
            Kind::Other => Ok(None),
            Kind::Dictionary { values, encoding, sorted } => {
                let page = unpack(self.codec, body, size)?;
                self.check_dictionary(&page, values)?;
                self.dictionary = Some(values);
                self.hold(0, page.len() as u64)?;
                let buf = Bytes::from(page);
                Ok(Some(Page::DictionaryPage {
                    buf,
                    num_values: values,
                    encoding,
                    is_sorted: sorted,
                }))
            }
            Kind::V1 { values, encoding, runs } => {
                let page = unpack(self.codec, body, size)?;
                let mut at = 0;
                let mut levels = |max: u32, are_runs: bool| {
                    if max == 0 {
                        return Some(0..0);
                    }
                    let length: [u8; 4] = page.get(at..at + 4)?.try_into().ok()?;
                    let from = at + 4;
                    at = from.checked_add(usize::try_from(u32::from_le_bytes(length)).ok()?)?;
                    (are_runs && at <= page.len()).then_some(from..at)
                };
                let repetitions = levels(self.leaf.max_repetition, runs.1);
                let definitions = levels(self.leaf.max_definition, runs.0);
                let (Some(repetitions), Some(definitions)) = (repetitions, definitions) else {
                    return Err(wrong("a page has no levels that can be read"));
                };
                let parts = self.levels(&page, repetitions, definitions, at, values)?;
                let (buf, encoding) = self.data(page, &parts, encoding, values)?;
                Ok(Some(Page::DataPage {
                    buf,
                    num_values: values,
                    encoding,
                    def_level_encoding: Encoding::RLE,
                    rep_level_encoding: Encoding::RLE,
                    statistics: None,
                }))
            }
            Kind::V2 { values, nulls, rows, encoding, definition, repetition, is_packed } => {
                let split = repetition.checked_add(definition);
                let split = split.filter(|split| *split <= body.len().min(size));
                let split = split.ok_or_else(|| wrong("a page's levels go beyond it"))?;
                let page = if is_packed && self.codec != Codec::UNCOMPRESSED {
                    let mut page = body.get(..split).unwrap_or_default().to_vec();
                    let packed = body.get(split..).unwrap_or_default().to_vec();
                    if size > split {
                        page.extend(unpack(self.codec, packed, size - split)?);
                    }
                    page
                } else {
                    body
                };
                if page.len() != size || nulls > values {
                    return Err(wrong("a page is not what its header says"));
                }
                let before = self.window.row;
                let parts = self.levels(&page, 0..repetition, repetition..split, split, values)?;
                if self.window.row - before != u64::from(rows) {
                    return Err(wrong("a page has other rows than its header says"));
                }
                let (buf, encoding) = self.data(page, &parts, encoding, values)?;
                Ok(Some(Page::DataPageV2 {
                    buf,
                    num_values: values,
                    encoding,
                    num_nulls: nulls,
                    num_rows: rows,
                    def_levels_byte_len: u32::try_from(definition).unwrap_or_default(),
                    rep_levels_byte_len: u32::try_from(repetition).unwrap_or_default(),
                    is_compressed: false,
                    statistics: None,
                }))
            }
        }
    }

    /// Reads a page's levels: counts its rows, and the values that are not null.
    fn levels(
        &mut self,
        page: &[u8],
        repetitions: Range<usize>,
        definitions: Range<usize>,
        values_at: usize,
        values: u32,
    ) -> Result<Parts> {
        let count = usize::try_from(values).unwrap_or_default();
        let bits = |max: u32| u8::try_from(32 - max.leading_zeros()).unwrap_or_default();
        let Leaf { max_definition, max_repetition, .. } = self.leaf;
        let window = &mut self.window;
        let mut first_row = window.row;
        if max_repetition == 0 {
            window.row += u64::from(values);
        } else {
            let (mut crowded, mut begun) = (false, false);
            let levels = page.get(repetitions).unwrap_or_default();
            let read = runs(levels, bits(max_repetition), count, |level, n| {
                // A column begins with a row.
                if level > max_repetition || (level > 0 && window.row == 0) {
                    return None;
                }
                if !std::mem::replace(&mut begun, true) && level > 0 {
                    first_row = window.row - 1;
                }
                crowded = !window.take(level, n as u64);
                (!crowded).then_some(())
            });
            if crowded {
                let (row, most) = (window.row, window.most);
                return Err(self.crowd(&format!(
                    "row {row} of a row group has more than {most} values in a column"
                )));
            }
            read.ok_or_else(|| wrong("a page's repetition levels are none"))?;
        }
        if self.window.row > self.rows {
            return Err(wrong("a column has more rows than its row group"));
        }
        let mut defined = count;
        if max_definition > 0 {
            defined = 0;
            let levels = page.get(definitions).unwrap_or_default();
            runs(levels, bits(max_definition), count, |level, n| {
                if level == max_definition {
                    defined += n;
                }
                (level <= max_definition).then_some(())
            })
            .ok_or_else(|| wrong("a page's definition levels are none"))?;
        }
        Ok(Parts { values_at, defined, first_row })
    }

    /// The values of a page as they are safe to read, and how.
    fn data(
        &mut self,
        mut page: Vec<u8>,
        parts: &Parts,
        encoding: Encoding,
        values: u32,
    ) -> Result<(Bytes, Encoding)> {
        self.begun = true;
        let count = usize::try_from(values).unwrap_or_default();
        if parts.defined == 0 {
            // Whatever stands there is of no value.
            page.truncate(parts.values_at);
            self.hold_page(page.len() as u64, 0, parts.first_row)?;
            return Ok((Bytes::from(page), Encoding::PLAIN));
        }
        let data = page.get(parts.values_at..).unwrap_or_default();
        let retained = self.check_values(data, encoding, parts.defined, count)?;
        self.hold_page(page.len() as u64, retained as u64, parts.first_row)?;
        Ok((Bytes::from(page), encoding))
    }

    /// Checks what the reader does not; the bytes of strings that it keeps for as long as the batch.
    fn check_values(
        &self,
        data: &[u8],
        encoding: Encoding,
        defined: usize,
        count: usize,
    ) -> Result<usize> {
        let physical = self.leaf.physical;
        let is_fixed = !matches!(physical, Physical::BYTE_ARRAY | Physical::BOOLEAN);
        let head = |most: usize| {
            Delta::head(data).filter(|head| (defined..=count.min(most)).contains(&head.values))
        };
        let checked = match encoding {
            Encoding::PLAIN if physical == Physical::INT96 => {
                self.check_instants(data)?;
                Some(0)
            }
            Encoding::PLAIN if is_fixed || physical == Physical::BOOLEAN => Some(0),
            Encoding::PLAIN => Some(data.len()),
            Encoding::RLE if physical == Physical::BOOLEAN => Some(0),
            Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY => self
                .dictionary
                .filter(|_| is_fixed || physical == Physical::BYTE_ARRAY)
                .and_then(|size| {
                    if physical == Physical::FIXED_LEN_BYTE_ARRAY {
                        let (width, keys) = data.split_first()?;
                        runs(keys, *width, defined, |key, _| (key < size).then_some(()))?;
                    }
                    Some(0)
                }),
            Encoding::DELTA_BINARY_PACKED => {
                let is_whole = matches!(physical, Physical::INT32 | Physical::INT64);
                head(usize::MAX).filter(|_| is_whole).map(|_| 0)
            }
            Encoding::DELTA_LENGTH_BYTE_ARRAY if physical == Physical::BYTE_ARRAY => {
                let lengths = head(LENGTHS).and_then(|head| head.lengths(data));
                lengths.and_then(|(lengths, at)| {
                    let total: u64 = lengths.into_iter().map(u64::from).sum();
                    (total <= (data.len() - at) as u64).then_some(data.len())
                })
            }
            Encoding::DELTA_BYTE_ARRAY
                if matches!(physical, Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY) =>
            {
                head(LENGTHS)
                    .and_then(|_| spelt_out(data, count))
                    .filter(|spelt_out| *spelt_out <= PAGE)
            }
            Encoding::BYTE_STREAM_SPLIT if is_fixed && physical != Physical::INT96 => {
                (defined.checked_mul(self.leaf.width) == Some(data.len())).then_some(0)
            }
            _ => None,
        };
        checked.ok_or_else(|| wrong(&format!("a page of {encoding} values is none")))
    }

    fn check_dictionary(&self, page: &[u8], values: u32) -> Result<()> {
        let least = u64::from(values).checked_mul(self.leaf.width as u64);
        let is_sound = self.leaf.physical != Physical::BOOLEAN
            && self.dictionary.is_none()
            && !self.begun
            && least.is_some_and(|least| least <= page.len() as u64);
        if !is_sound {
            return Err(wrong("a dictionary is none, or is not where it belongs"));
        }
        if self.leaf.physical == Physical::INT96 {
            self.check_instants(page)?;
        }
        Ok(())
    }

    /// Whether instants of 96 bits, nanoseconds of a Julian day, are microseconds between the years 0 and 9999: others are
    /// not told apart once they are read.
    fn check_instants(&self, data: &[u8]) -> Result<()> {
        let (instants, _) = data.as_chunks::<12>();
        let is_sound = instants.iter().all(|instant| {
            let (nanos, day) = instant.split_at(8);
            let nanos = nanos.try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX);
            let day = day.try_into().map(u32::from_le_bytes).unwrap_or_default();
            nanos % 1000 == 0 && nanos < 86_400_000_000_000 && (1_721_060..5_373_485).contains(&day)
        });
        let what = "an INT96 timestamp is finer than a microsecond or beyond the calendar";
        if is_sound { Ok(()) } else { Err(wrong(what)) }
    }

    /// Accounts for a page that has been read; `retained` bytes of it stay as long as its last batch.
    fn hold_page(&mut self, page: u64, retained: u64, first_row: u64) -> Result<()> {
        let window = &self.window;
        let first = window.of(first_row);
        let last = window.row.checked_sub(1).and_then(|row| window.of(row));
        let is_same_batch = first == self.last_batch;
        let past = if is_same_batch { self.tail } else { 0 };
        self.tail = match last {
            None => 0,
            Some(_) if last == first => past + retained,
            Some(_) => retained,
        };
        self.last_batch = last;
        let others = self.account.past.load(Ordering::Relaxed) - self.past_held;
        self.account.past.store(others + past, Ordering::Relaxed);
        self.past_held = past;
        self.hold(page, self.dictionary_held)?;
        if others + past > PAST {
            let row = self.window.row;
            return Err(self.crowd(&format!("row {row} of a row group has too many strings")));
        }
        Ok(())
    }

    fn hold(&mut self, page: u64, dictionary: u64) -> Result<()> {
        let own = self.page_held + self.dictionary_held;
        let others = self.account.current.load(Ordering::Relaxed) - own;
        (self.page_held, self.dictionary_held) = (page, dictionary);
        self.account.current.store(others + page + dictionary, Ordering::Relaxed);
        if others + page + dictionary > CURRENT {
            let what = format!("the pages that one row lies in have more than {CURRENT} bytes");
            return Err(wrong(&what));
        }
        Ok(())
    }

    /// That there is too much for one batch, or, where a batch is a row, for a row.
    fn crowd(&self, what: &str) -> ParquetError {
        if self.window.batch > 1 {
            self.account.crowded.store(true, Ordering::Relaxed);
        }
        wrong(what)
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.page()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        let is_flat = self.leaf.max_repetition == 0;
        let of_values = |values: u32| PageMetadata {
            // The rows of a repeated column are counted as it is read, never passed over.
            num_rows: None,
            num_levels: usize::try_from(values).ok().filter(|_| is_flat),
            is_dict: false,
        };
        Ok(self.peek()?.map(|header| match header.page {
            Kind::V1 { values, .. } | Kind::V2 { values, .. } => of_values(values),
            Kind::Dictionary { .. } | Kind::Other => {
                PageMetadata { num_rows: None, num_levels: None, is_dict: true }
            }
        }))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.peek()?;
        if let Some(Kind::V1 { values, .. } | Kind::V2 { values, .. }) =
            self.pass().map(|header| header.page)
        {
            self.begun = true;
            self.window.row += u64::from(values);
        }
        Ok(())
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        Ok(match self.peek()? {
            None => true,
            Some(header) => matches!(header.page, Kind::V2 { .. }),
        })
    }
}

/// Unpacks a page, which must have the size that its header says.
fn unpack(codec: Codec, packed: Vec<u8>, size: usize) -> Result<Vec<u8>> {
    let stream = |reader: &mut dyn Read| {
        let mut page = Vec::with_capacity(size);
        let read = reader.take(size as u64 + 1).read_to_end(&mut page);
        read.is_ok().then_some(page)
    };
    let page = match codec {
        Codec::UNCOMPRESSED => Some(packed),
        Codec::SNAPPY => match snap::raw::decompress_len(&packed) {
            Ok(length) if length == size => snap::raw::Decoder::new().decompress_vec(&packed).ok(),
            _ => None,
        },
        Codec::GZIP => stream(&mut flate2::read::MultiGzDecoder::new(packed.as_slice())),
        Codec::ZSTD => zstd::bulk::decompress(&packed, size).ok(),
        Codec::LZ4_RAW => lz4_flex::block::decompress(&packed, size).ok(),
        other => return Err(wrong(&format!("pages packed by {other:?} are not read"))),
    };
    page.filter(|page| page.len() == size).ok_or_else(|| wrong("a page does not unpack"))
}

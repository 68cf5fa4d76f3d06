//! As much of Thrift's compact protocol as Parquet's own bounds need: page headers, and the shape of a footer's schema.
//!
//! What it reads was written by anybody. Nothing is allocated by a number that is read here, and nesting is bounded.

use parquet::basic::Encoding;

/// Levels of structs and lists that are skipped.
const DEPTH: usize = 32;

/// Bytes that are being read; `None` wherever they end, or say what cannot be.
pub(super) struct Compact<'a> {
    data: &'a [u8],
    at: usize,
}

/// The types of the protocol that are told apart.
mod kind {
    pub(super) const TRUE: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const BYTE: u8 = 3;
    pub(super) const I16: u8 = 4;
    pub(super) const I32: u8 = 5;
    pub(super) const I64: u8 = 6;
    pub(super) const DOUBLE: u8 = 7;
    pub(super) const BINARY: u8 = 8;
    pub(super) const LIST: u8 = 9;
    pub(super) const SET: u8 = 10;
    pub(super) const MAP: u8 = 11;
    pub(super) const STRUCT: u8 = 12;
    pub(super) const UUID: u8 = 13;
}

impl<'a> Compact<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.data.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn i32(&mut self) -> Option<i32> {
        let value = self.varint()?;
        let half = i64::try_from(value >> 1).ok()?;
        i32::try_from(half ^ -i64::from(value & 1 == 1)).ok()
    }

    fn advance(&mut self, bytes: usize) -> Option<()> {
        let end = self.at.checked_add(bytes).filter(|end| *end <= self.data.len());
        // What goes beyond the data has read them all.
        self.at = end.unwrap_or(self.data.len());
        end.map(|_| ())
    }

    /// Reads a struct; what `field` does not read itself, and says so by `false`, is skipped.
    fn structure(
        &mut self,
        mut field: impl FnMut(&mut Self, u64, u8) -> Option<bool>,
    ) -> Option<()> {
        let mut id = 0u64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            id = match head >> 4 {
                0 => u64::try_from(self.i32()?).ok()?,
                delta => id + u64::from(delta),
            };
            if !field(self, id, head & 0xf)? {
                self.skip(head & 0xf, DEPTH)?;
            }
        }
    }

    /// The items of a list and their type.
    fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            few => u64::from(few),
        };
        Some((count, head & 0xf))
    }

    fn skip(&mut self, ty: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match ty {
            kind::TRUE | kind::FALSE => Some(()),
            kind::BYTE => self.advance(1),
            kind::I16 | kind::I32 | kind::I64 => self.varint().map(|_| ()),
            kind::DOUBLE => self.advance(8),
            kind::UUID => self.advance(16),
            kind::BINARY => {
                let length = self.varint()?;
                self.advance(usize::try_from(length).ok()?)
            }
            kind::LIST | kind::SET => {
                let (count, ty) = self.list()?;
                self.items(count, &[ty], depth)
            }
            kind::MAP => {
                let count = self.varint()?;
                if count == 0 {
                    return Some(());
                }
                let types = self.byte()?;
                self.items(count, &[types >> 4, types & 0xf], depth)
            }
            kind::STRUCT => loop {
                let head = self.byte()?;
                if head == 0 {
                    return Some(());
                }
                if head >> 4 == 0 {
                    self.varint()?;
                }
                self.skip(head & 0xf, depth)?;
            },
            _ => None,
        }
    }

    fn items(&mut self, count: u64, types: &[u8], depth: usize) -> Option<()> {
        for _ in 0..count {
            for ty in types {
                match *ty {
                    // In a list a boolean is a byte of its own.
                    kind::TRUE | kind::FALSE => self.advance(1)?,
                    ty => self.skip(ty, depth)?,
                }
            }
        }
        Some(())
    }
}

/// What a page's header says, as far as it is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Header {
    /// Bytes of the header itself.
    pub(super) length: usize,
    pub(super) unpacked: usize,
    pub(super) packed: usize,
    pub(super) page: Kind,
}

/// Which page it is.
#[derive(Clone, Debug, Default)]
pub(super) enum Kind {
    /// An index, or what is yet to be invented: passed over.
    #[default]
    Other,
    Dictionary {
        values: u32,
        encoding: Encoding,
        sorted: bool,
    },
    V1 {
        values: u32,
        encoding: Encoding,
        /// Whether definition levels, and repetition levels, are runs: of columns without any, writers say what they like.
        runs: (bool, bool),
    },
    V2 {
        values: u32,
        nulls: u32,
        rows: u32,
        encoding: Encoding,
        definition: usize,
        repetition: usize,
        is_packed: bool,
    },
}

/// Why there is no header.
pub(super) enum NoHeader {
    /// The bytes end within it.
    Short,
    /// It says what cannot be.
    Wrong,
}

/// The numbers of a struct by their fields' ids, 0 where they are missing; booleans are 1 and 2.
struct Numbers([Option<i32>; 9]);

impl Numbers {
    fn read(from: &mut Compact<'_>) -> Option<Self> {
        let mut numbers = [None; 9];
        from.structure(|from, id, ty| {
            let place = usize::try_from(id).ok().and_then(|id| numbers.get_mut(id));
            let Some(place) = place else { return Some(false) };
            match ty {
                kind::I32 => *place = Some(from.i32()?),
                kind::TRUE | kind::FALSE => *place = Some(i32::from(ty)),
                _ => return Some(false),
            }
            Some(true)
        })?;
        Some(Self(numbers))
    }

    fn get(&self, id: usize) -> Option<i32> {
        self.0.get(id).copied().flatten()
    }

    fn count(&self, id: usize) -> Option<u32> {
        self.get(id).and_then(|n| u32::try_from(n).ok())
    }

    fn size(&self, id: usize) -> Option<usize> {
        self.get(id).and_then(|n| usize::try_from(n).ok())
    }

    fn encoding(&self, id: usize) -> Option<Encoding> {
        Some(match self.get(id)? {
            0 => Encoding::PLAIN,
            2 => Encoding::PLAIN_DICTIONARY,
            RLE => Encoding::RLE,
            5 => Encoding::DELTA_BINARY_PACKED,
            6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
            7 => Encoding::DELTA_BYTE_ARRAY,
            8 => Encoding::RLE_DICTIONARY,
            9 => Encoding::BYTE_STREAM_SPLIT,
            _ => return None,
        })
    }
}

/// Runs of equal values, and packed ones between them.
const RLE: i32 = 3;

/// Reads a page's header from the bytes that it begins.
pub(super) fn header(data: &[u8]) -> Result<Header, NoHeader> {
    let mut from = Compact::new(data);
    let mut own = [None; 4];
    let (mut v1, mut dictionary, mut v2) = (None, None, None);
    let read = from.structure(|from, id, ty| {
        match (id, ty) {
            (1..=3, kind::I32) => {
                let value = from.i32()?;
                if let Some(place) = usize::try_from(id).ok().and_then(|id| own.get_mut(id)) {
                    *place = Some(value);
                }
            }
            (5, kind::STRUCT) => v1 = Some(Numbers::read(from)?),
            (7, kind::STRUCT) => dictionary = Some(Numbers::read(from)?),
            (8, kind::STRUCT) => v2 = Some(Numbers::read(from)?),
            _ => return Some(false),
        }
        Some(true)
    });
    if read.is_none() {
        return Err(if from.at >= data.len() { NoHeader::Short } else { NoHeader::Wrong });
    }
    let size = |id: usize| own.get(id).copied().flatten().and_then(|n| usize::try_from(n).ok());
    let page = || {
        Some(match own.get(1).copied().flatten()? {
            0 => {
                let page = v1?;
                Kind::V1 {
                    values: page.count(1)?,
                    encoding: page.encoding(2)?,
                    runs: (page.get(3)? == RLE, page.get(4)? == RLE),
                }
            }
            2 => {
                let page = dictionary?;
                Kind::Dictionary {
                    values: page.count(1)?,
                    encoding: page.encoding(2)?,
                    sorted: page.get(3) == Some(i32::from(kind::TRUE)),
                }
            }
            3 => {
                let page = v2?;
                Kind::V2 {
                    values: page.count(1)?,
                    nulls: page.count(2)?,
                    rows: page.count(3)?,
                    encoding: page.encoding(4)?,
                    definition: page.size(5)?,
                    repetition: page.size(6)?,
                    is_packed: page.get(7) != Some(i32::from(kind::FALSE)),
                }
            }
            _ => Kind::Other,
        })
    };
    let header = || {
        let (unpacked, packed) = (size(2)?, size(3)?);
        Some(Header { length: from.at, unpacked, packed, page: page()? })
    };
    header().ok_or(NoHeader::Wrong)
}

/// Columns and groups of a schema.
const ELEMENTS: u64 = 20_000;
/// Levels of groups; a list is three.
const LEVELS: usize = 64;

/// Whether a footer's schema is a tree of bounded depth and size: whoever builds it does so by recursion.
pub(super) fn is_bounded(footer: &[u8]) -> Option<()> {
    let mut from = Compact::new(footer);
    let mut bounded = None;
    from.structure(|from, id, ty| {
        if (id, ty) != (2, kind::LIST) {
            return Some(false);
        }
        let (count, ty) = from.list()?;
        if ty != kind::STRUCT || count > ELEMENTS || bounded.is_some() {
            return None;
        }
        // Children yet to come, level by level.
        let mut open: Vec<i32> = Vec::new();
        for element in 0..count {
            let mut children = 0;
            from.structure(|from, id, ty| {
                if (id, ty) != (5, kind::I32) {
                    return Some(false);
                }
                children = from.i32()?;
                Some(true)
            })?;
            while open.last() == Some(&0) {
                open.pop();
            }
            match open.last_mut() {
                Some(left) => *left -= 1,
                None if element > 0 => return None,
                None => {}
            }
            if u64::try_from(children).ok()? > count - element || open.len() > LEVELS {
                return None;
            }
            open.push(children);
        }
        bounded = open.iter().all(|left| *left == 0).then_some(());
        Some(true)
    })?;
    bounded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of five values in a dictionary's, 26 bytes unpacked and 20 packed; `levels` is how its levels are written.
    fn v1(levels: u8) -> Vec<u8> {
        let statistics = [0x1c, 0x28, 3, b'm', b'a', b'x', 0x18, 3, b'm', b'i', b'n', 0x11, 0];
        let own =
            [0x15, 0, 0x15, 52, 0x15, 40, 0x2c, 0x15, 10, 0x15, 16, 0x15, levels, 0x15, levels];
        [own.as_slice(), &statistics, &[0, 0]].concat()
    }

    #[test]
    fn headers_are_read_and_what_is_beside_them_is_passed_over() {
        for (levels, are_runs) in [(6, true), (8, false)] {
            let bytes = [v1(levels), vec![1, 2, 3]].concat();
            let Ok(found) = header(&bytes) else { panic!("no header") };
            assert_eq!((found.length, found.unpacked, found.packed), (bytes.len() - 3, 26, 20));
            let Kind::V1 { values: 5, encoding: Encoding::RLE_DICTIONARY, runs } = found.page
            else {
                panic!("{:?}", found.page)
            };
            assert_eq!(runs, (are_runs, are_runs));
        }
    }

    #[test]
    fn a_header_that_is_cut_or_says_what_cannot_be_is_none() {
        let bytes = v1(6);
        for end in 0..bytes.len() {
            assert!(matches!(header(&bytes[..end]), Err(NoHeader::Short)), "{end}");
        }
        // Fewer than no bytes, and values of an encoding to come.
        for (at, byte) in [(3, 51), (10, 60)] {
            let mut bytes = v1(6);
            bytes[at] = byte;
            assert!(matches!(header(&bytes), Err(NoHeader::Wrong)), "{at}");
        }
        let nested = [vec![0x9c], vec![0x1c; 10_000]].concat();
        assert!(header(&nested).is_err());
    }

    #[test]
    fn schemas_are_trees_of_bounded_depth() {
        let node = |children: u8| vec![0x48, 1, b'a', 0x15, children * 2, 0];
        let footer = |nodes: &[u8]| {
            let nodes: Vec<u8> = nodes.iter().flat_map(|children| node(*children)).collect();
            let count = u8::try_from(nodes.len() / 6).unwrap();
            [vec![0x15, 2, 0x19, 0xfc, count], nodes, vec![0]].concat()
        };
        let deep = [vec![1; 60], vec![0]].concat();
        for good in [&[0][..], &[2, 0, 0], &[2, 1, 0, 0], &deep] {
            assert!(is_bounded(&footer(good)).is_some(), "{good:?}");
        }
        let deeper = [vec![1; 66], vec![0]].concat();
        for bad in [&[1][..], &[0, 0], &[1, 0, 0], &[3, 0, 0], &[2, 1, 0], &deeper] {
            assert!(is_bounded(&footer(bad)).is_none(), "{bad:?}");
        }
    }
}

//! Levels and lengths inside a page, read before anybody makes room for what they say.
//!
//! The reader of the values takes much on trust that a file can get wrong. Here it is found out: whether levels are ones,
//! how many values a page really has, how long the strings are that it spells by prefixes.

/// Runs of RLE and bit-packed integers (`width` bits each, at most 32), `count` values in all: `run` takes a value and how
/// often it comes. `None` if they end too early or `run` says so.
pub(super) fn runs(
    data: &[u8],
    width: u8,
    count: usize,
    mut run: impl FnMut(u32, usize) -> Option<()>,
) -> Option<()> {
    let mut left = count;
    let mut at = 0;
    if width > 32 {
        return None;
    }
    let bytes_of_value = usize::from(width).div_ceil(8);
    while left > 0 {
        let head = varint(data, &mut at)?;
        let length = usize::try_from(head >> 1).ok()?;
        if head & 1 == 0 {
            let bytes = data.get(at..at.checked_add(bytes_of_value)?)?;
            at += bytes_of_value;
            let value = bytes.iter().rev().fold(0u32, |value, b| value << 8 | u32::from(*b));
            let length = length.min(left);
            run(value, length)?;
            left -= length;
        } else {
            let groups = length.min(left.div_ceil(8));
            // Some writers cut the last group short.
            let end = at.checked_add(groups.checked_mul(usize::from(width))?)?.min(data.len());
            let packed = data.get(at..end)?;
            let values = groups.checked_mul(8)?.min(left);
            if packed.len() < (values * usize::from(width)).div_ceil(8) {
                return None;
            }
            let (mut buffer, mut bits, mut bytes) = (0u64, 0, packed.iter());
            for _ in 0..values {
                while bits < width {
                    buffer |= u64::from(*bytes.next()?) << bits;
                    bits += 8;
                }
                let value = u32::try_from(buffer & ((1 << width) - 1)).ok()?;
                buffer >>= width;
                bits -= width;
                run(value, 1)?;
            }
            at = end;
            left -= values;
        }
    }
    Some(())
}

fn varint(data: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *data.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn zigzag(data: &[u8], at: &mut usize) -> Option<i64> {
    let value = varint(data, at)?;
    Some(i64::try_from(value >> 1).ok()? ^ -i64::from(value & 1 == 1))
}

/// The head of integers in DELTA_BINARY_PACKED.
pub(super) struct Delta {
    per_miniblock: usize,
    miniblocks: usize,
    /// The values that it says there are.
    pub(super) values: usize,
    first: i64,
    at: usize,
}

/// Values of a block: writers use 128.
const BLOCK: usize = 1 << 16;

impl Delta {
    pub(super) fn head(data: &[u8]) -> Option<Self> {
        let mut at = 0;
        let mut number = || usize::try_from(varint(data, &mut at)?).ok();
        let (block, miniblocks, values) = (number()?, number()?, number()?);
        let first = zigzag(data, &mut at)?;
        let per_miniblock = block.checked_div(miniblocks)?;
        let is_sound = (1..=BLOCK).contains(&block)
            && per_miniblock * miniblocks == block
            && per_miniblock % 32 == 0;
        is_sound.then_some(Self { per_miniblock, miniblocks, values, first, at })
    }

    /// Lengths, and where they end. The caller has bounded their number.
    pub(super) fn lengths(mut self, data: &[u8]) -> Option<(Vec<u32>, usize)> {
        let mut lengths = Vec::with_capacity(self.values);
        let mut last = self.first;
        if self.values > 0 {
            lengths.push(u32::try_from(last).ok()?);
        }
        while lengths.len() < self.values {
            let least = zigzag(data, &mut self.at)?;
            let widths = data.get(self.at..self.at.checked_add(self.miniblocks)?)?;
            self.at += self.miniblocks;
            for width in widths {
                let left = self.values - lengths.len();
                if left == 0 {
                    break;
                }
                if *width > 32 {
                    return None;
                }
                let bytes = usize::from(*width) * self.per_miniblock / 8;
                let packed = data.get(self.at..self.at.checked_add(bytes)?)?;
                self.at += bytes;
                let (mut buffer, mut bits, mut packed) = (0u64, 0, packed.iter());
                for _ in 0..left.min(self.per_miniblock) {
                    while bits < *width {
                        buffer |= u64::from(*packed.next()?) << bits;
                        bits += 8;
                    }
                    let delta = i64::try_from(buffer & ((1 << width) - 1)).ok()?;
                    buffer >>= width;
                    bits -= width;
                    last = last.checked_add(least)?.checked_add(delta)?;
                    lengths.push(u32::try_from(last).ok()?);
                }
            }
        }
        Some((lengths, self.at))
    }
}

/// The bytes that strings of DELTA_BYTE_ARRAY have once they are spelt out, at most `most` strings.
pub(super) fn spelt_out(data: &[u8], most: usize) -> Option<usize> {
    let head = Delta::head(data).filter(|head| head.values <= most)?;
    let (prefixes, at) = head.lengths(data)?;
    let data = data.get(at..)?;
    let head = Delta::head(data).filter(|head| head.values == prefixes.len())?;
    let (suffixes, at) = head.lengths(data)?;
    let (mut total, mut suffixed, mut last) = (0usize, 0usize, 0u32);
    for (prefix, suffix) in prefixes.into_iter().zip(suffixes) {
        if prefix > last {
            return None;
        }
        last = prefix.checked_add(suffix)?;
        total = total.checked_add(usize::try_from(last).ok()?)?;
        suffixed = suffixed.checked_add(usize::try_from(suffix).ok()?)?;
    }
    (suffixed <= data.len() - at).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(data: &[u8], width: u8, count: usize) -> Option<Vec<u32>> {
        let mut values = Vec::new();
        runs(data, width, count, |value, n| {
            values.extend(std::iter::repeat_n(value, n));
            Some(())
        })?;
        Some(values)
    }

    #[test]
    fn runs_are_repeated_or_packed_and_never_beyond_the_data() {
        assert_eq!(all(&[8, 1, 3, 0b1010_0101], 1, 9), Some(vec![1, 1, 1, 1, 1, 0, 1, 0, 0]));
        // The last group is cut short: five values of three bits are two bytes.
        assert_eq!(all(&[3, 0x88, 0x46], 3, 5), Some(vec![0, 1, 2, 3, 4]));
        assert_eq!(all(&[3, 0x88], 3, 5), None);
        assert_eq!(
            all(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1], 1, 3),
            Some(vec![1; 3])
        );
        assert_eq!(all(&[2, 7], 0, 1), Some(vec![0]));
        assert_eq!(all(&[], 1, 1), None);
        assert_eq!(all(&[0xff; 11], 1, 1), None);
    }

    #[test]
    fn strings_that_share_prefixes_are_measured_before_they_are_spelt_out() {
        // Two blocks of lengths: `axis`, `axle`, `babble`, `babyhood` of the format's own example.
        let delta = |first: u8, least: u8, deltas: &[u8]| {
            let mut block = vec![0x80, 1, 4, 4, first, least, 8, 0, 0, 0];
            block.extend_from_slice(deltas);
            block.resize(10 + 32, 0);
            block
        };
        // Prefixes 0, 2, 0, 3: differences 2, -2, 3 from the least, -2. Suffixes 4, 2, 6, 5: -2, 4, -1.
        let prefixes = delta(0, 3, &[4, 0, 5]);
        let suffixes = delta(8, 3, &[0, 6, 1]);
        let page = [prefixes, suffixes, b"axislebabbleyhood".to_vec()].concat();
        assert_eq!(spelt_out(&page, 4), Some(22));
        assert_eq!(spelt_out(&page, 3), None);
        assert_eq!(spelt_out(&page[..page.len() - 1], 4), None);
        for end in 0..page.len() {
            assert_eq!(spelt_out(&page[..end], 4), None);
        }
    }
}

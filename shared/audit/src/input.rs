//! The object's bytes: counted as they are stored, and unpacked.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sluicegate_contract::Compression;

/// How many times its own size an object may unpack to, beyond a first [`FREE`] bytes: a bomb is refused early.
pub const MAX_EXPANSION: u64 = 1000;
const FREE: u64 = 64 << 20;

/// What is known of the source while others own its reader.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    bytes: Arc<AtomicU64>,
    failed: Arc<AtomicBool>,
}

impl Progress {
    /// Bytes read so far, as they are stored.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the source itself failed, and not what was made of its bytes.
    pub(crate) fn source_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

struct Counted<R> {
    inner: R,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        match &read {
            Ok(n) => {
                self.progress.bytes.fetch_add(*n as u64, Ordering::Relaxed);
            }
            Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                self.progress.failed.store(true, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        read
    }
}

/// Refuses to give out much more than was put in.
struct Bounded<R> {
    inner: R,
    progress: Progress,
    given: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.given += read as u64;
        let allowed = FREE.max(self.progress.bytes().saturating_mul(MAX_EXPANSION));
        if self.given > allowed {
            let message = format!("unpacks to more than {MAX_EXPANSION} times its size");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(read)
    }
}

/// The bytes of an object, unpacked by content, within the same bounds as an audit's.
pub fn unpacked<'a>(source: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    open(source, Compression::Detect).map(|(reader, _)| reader)
}

/// The bytes of an object, unpacked, and how far its source has been read.
pub(crate) fn open<'a>(
    source: impl Read + Send + 'a,
    compression: Compression,
) -> io::Result<(Box<dyn Read + Send + 'a>, Progress)> {
    let progress = Progress::default();
    let mut counted = Counted { inner: source, progress: progress.clone() };
    let mut head = Vec::new();
    counted.by_ref().take(4).read_to_end(&mut head)?;
    let found = match head.as_slice() {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
        _ => Compression::None,
    };
    if compression != Compression::Detect && compression != found {
        let message = format!("the contract says {compression:?}, the bytes say {found:?}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message.to_lowercase()));
    }
    let whole = io::Cursor::new(head).chain(counted);
    let bounded = |inner: Box<dyn Read + Send + 'a>| -> Box<dyn Read + Send + 'a> {
        Box::new(Bounded { inner, progress: progress.clone(), given: 0 })
    };
    let reader = match found {
        Compression::Gzip => {
            let packed = BufReader::with_capacity(64 << 10, whole);
            bounded(Box::new(flate2::bufread::MultiGzDecoder::new(packed)))
        }
        Compression::Zstd => {
            let packed = BufReader::with_capacity(64 << 10, whole);
            bounded(Box::new(zstd::Decoder::with_buffer(packed)?))
        }
        Compression::None | Compression::Detect => Box::new(whole),
    };
    Ok((reader, progress))
}

/// Bytes asked of a reader at once.
const READ: usize = 128 << 10;

/// Bytes that were read, in room that is filled again and again: clearing it each time would cost as much as reading.
#[derive(Default)]
pub(crate) struct Buffer {
    room: Vec<u8>,
    filled: usize,
}

impl Buffer {
    /// What was read.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.room.get(..self.filled).unwrap_or_default()
    }

    /// Reads some more; `false` at the end.
    pub(crate) fn read_more(&mut self, reader: &mut impl Read) -> io::Result<bool> {
        if self.room.len() < self.filled + READ {
            self.room.resize((self.filled + READ).max(self.room.len() * 2), 0);
        }
        loop {
            match reader.read(self.room.get_mut(self.filled..).unwrap_or_default()) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(read) => {
                    self.filled += read;
                    return Ok(read > 0);
                }
            }
        }
    }

    /// Forgets the first bytes.
    pub(crate) fn drop_front(&mut self, count: usize) {
        self.room.copy_within(count.min(self.filled)..self.filled, 0);
        self.filled -= count.min(self.filled);
    }

    /// Gives out all that was read, and goes on in `spare` with what lies behind `end`.
    pub(crate) fn take(&mut self, end: usize, spare: Vec<u8>) -> Vec<u8> {
        let mut next = Self { room: spare, filled: 0 };
        next.prepend(self.bytes().get(end..).unwrap_or_default());
        std::mem::replace(self, next).room
    }

    /// Puts bytes before those that were read.
    pub(crate) fn prepend(&mut self, bytes: &[u8]) {
        let wanted = bytes.len() + self.filled;
        if self.room.len() < wanted {
            self.room.resize(wanted, 0);
        }
        self.room.copy_within(..self.filled, bytes.len());
        if let Some(front) = self.room.get_mut(..bytes.len()) {
            front.copy_from_slice(bytes);
        }
        self.filled = wanted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    fn unpack(bytes: &[u8], compression: Compression) -> io::Result<(Vec<u8>, u64)> {
        let (mut reader, progress) = open(bytes, compression)?;
        let mut out = Vec::new();
        reader.read_to_end(&mut out)?;
        Ok((out, progress.bytes()))
    }

    #[test]
    fn packing_is_seen_by_content_and_every_stored_byte_is_counted() {
        let packed = [gzip(b"one,"), gzip(b"two")].concat();
        assert_eq!(
            unpack(&packed, Compression::Detect).unwrap(),
            (b"one,two".into(), packed.len() as u64)
        );
        let packed = zstd::encode_all(&b"three"[..], 1).unwrap();
        assert_eq!(
            unpack(&packed, Compression::Zstd).unwrap(),
            (b"three".into(), packed.len() as u64)
        );
        assert_eq!(unpack(b"ab", Compression::Detect).unwrap(), (b"ab".into(), 2));
        assert!(unpack(&packed, Compression::Gzip).is_err());
        assert!(unpack(b"plain", Compression::Gzip).is_err());
    }

    #[test]
    fn a_truncated_gzip_and_a_bomb_are_errors() {
        let packed = gzip(&[b'x'; 10_000]);
        assert!(unpack(&packed[..packed.len() - 9], Compression::Detect).is_err());
        let mut bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
        for _ in 0..80 {
            bomb.write_all(&vec![0; 1 << 20]).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        let error = unpack(&bomb, Compression::Detect).unwrap_err();
        assert!(error.to_string().contains("times its size"), "{error}");
    }
}

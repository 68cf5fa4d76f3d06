//! A raw object as a blocking reader, fed from the store through a bounded channel.
//!
//! A stream that breaks is taken up again where it broke: a raw object never changes (RAW-1). After a few breaks without
//! progress the reader fails, and so does the message.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use jiff::Timestamp;
use sluicegate_lake::{Ambient, ByteStream, Meta, Store, StoreError};
use tokio::sync::mpsc;

/// Bytes that are handed over at once: each time may wake a thread.
const HANDFUL: usize = 256 << 10;
/// Handfuls in the channel: with S3's pieces of at most a few hundred KB, some MB.
const AHEAD: usize = 8;
/// How often a stream may break at the same place.
const BREAKS: u32 = 4;

/// Feeds a [`Reader`].
pub(crate) struct Pump {
    store: Arc<dyn Store>,
    key: String,
    size: u64,
    at: u64,
    stream: ByteStream,
    sender: mpsc::Sender<Result<Handful, io::Error>>,
    ambient: Arc<dyn Ambient>,
    /// When there is no more time.
    until: Option<Timestamp>,
}

type Handful = VecDeque<Bytes>;

/// What the audit reads from.
pub(crate) struct Reader {
    receiver: mpsc::Receiver<Result<Handful, io::Error>>,
    handful: Handful,
}

/// Opens an object; nothing flows until [`Pump::run`].
pub(crate) async fn open(
    store: Arc<dyn Store>,
    key: &str,
    ambient: Arc<dyn Ambient>,
    until: Option<Timestamp>,
) -> Result<(Meta, Pump, Reader), StoreError> {
    let (meta, stream) = store.read(key, None).await?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    let (key, size) = (key.to_owned(), meta.size);
    let pump = Pump { store, key, size, at: 0, stream, sender, ambient, until };
    Ok((meta, pump, Reader { receiver, handful: Handful::new() }))
}

impl Pump {
    fn out_of_time(&self) -> StoreError {
        StoreError::Other {
            key: self.key.clone(),
            reason: format!("out of time after {} of {} bytes; it comes again", self.at, self.size),
        }
    }

    /// Feeds the reader until the object ends or nobody reads any more.
    pub(crate) async fn run(mut self) -> Result<(), StoreError> {
        let mut breaks = 0;
        let (mut handful, mut held) = (Handful::new(), 0);
        loop {
            if self.until.is_some_and(|until| self.ambient.now() >= until) {
                let error = self.out_of_time();
                let _ = self.sender.send(Err(io::Error::other(error.to_string()))).await;
                return Err(error);
            }
            let error = match self.stream.next().await {
                Some(Ok(piece)) => {
                    self.at += piece.len() as u64;
                    breaks = 0;
                    held += piece.len();
                    handful.push_back(piece);
                    if held >= HANDFUL || self.at >= self.size {
                        held = 0;
                        if self.sender.send(Ok(std::mem::take(&mut handful))).await.is_err() {
                            return Ok(());
                        }
                    }
                    continue;
                }
                None if self.at >= self.size => return Ok(()),
                None => StoreError::TryAgain {
                    key: self.key.clone(),
                    reason: format!("the stream ended after {} of {} bytes", self.at, self.size),
                },
                Some(Err(error)) => error,
            };
            breaks += 1;
            let again = if breaks <= BREAKS && error.is_try_again() {
                self.store.read(&self.key, Some(self.at..self.size)).await
            } else {
                Err(error)
            };
            match again {
                Ok((_, stream)) => self.stream = stream,
                Err(error) => {
                    let told = io::Error::other(error.to_string());
                    // Nobody listening means that the verdict is in.
                    let _ = self.sender.send(Err(told)).await;
                    return Err(error);
                }
            }
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(piece) = self.handful.front_mut() {
                let n = piece.len().min(buffer.len());
                piece.copy_to_slice(buffer.get_mut(..n).unwrap_or_default());
                if piece.is_empty() {
                    self.handful.pop_front();
                }
                if n > 0 || buffer.is_empty() {
                    return Ok(n);
                }
                continue;
            }
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(handful) => self.handful = handful?,
            }
        }
    }
}

//! One section of a packed checkpoint while it is written: tensors get their places first, and bytes leave as shards.

use std::ops::Range;

use super::Sink;
use super::job::Job;
use crate::Error;
use crate::manifest::{ALIGNMENT, Packing, Shard, shard_name};

/// One section while it is written.
pub(super) struct Writer {
    pub(super) dir: String,
    pub(super) shard_bytes: u64,
    pub(super) shards: Vec<Shard>,
    pub(super) tensors: Vec<Packing>,
    /// Bytes of the shards that were made before; what falls among them is dropped.
    made: u64,
    /// Where the next byte goes, and the end of what has been laid out.
    position: u64,
    end: u64,
    shard: Vec<u8>,
}

impl Writer {
    pub(super) fn new(dir: &str, shard_bytes: u64, made: Option<&Vec<Shard>>) -> Self {
        let shards = made.cloned().unwrap_or_default();
        let made = shards.iter().map(|shard| shard.bytes).sum();
        let (tensors, shard) = (Vec::new(), Vec::new());
        Self { dir: dir.to_owned(), shard_bytes, shards, tensors, made, position: made, end: 0, shard }
    }

    /// Gives the tensor of `job` its place.
    pub(super) fn lay(&mut self, job: &Job) {
        let offset = self.end.next_multiple_of(ALIGNMENT);
        self.end = offset + job.kept_bytes;
        let Job { name, form, shape, kept_bytes, .. } = job;
        let (name, shape) = (name.clone(), shape.clone());
        self.tensors.push(Packing { name, form: *form, shape, offset, bytes: *kept_bytes });
    }

    fn place(&self, job: &Job) -> Range<u64> {
        let laid = self.tensors.iter().find(|tensor| tensor.name == job.name).expect("every job is laid out");
        laid.offset..laid.offset + laid.bytes
    }

    /// Bytes that are yet to be put.
    pub(super) fn room(&self) -> u64 {
        self.end.saturating_sub(self.made)
    }

    pub(super) fn is_made(&self, job: &Job) -> bool {
        self.place(job).end <= self.made
    }

    /// Goes to the place of a tensor, of which shards made before may hold a part.
    pub(super) async fn begin(&mut self, section: &str, sink: &mut impl Sink, job: &Job) -> Result<(), Error> {
        let offset = self.place(job).start;
        if offset < self.position {
            self.position = offset;
            return Ok(());
        }
        let gap = vec![0; (offset - self.position) as usize];
        self.append(section, sink, &gap).await
    }

    pub(super) async fn append(&mut self, section: &str, sink: &mut impl Sink, bytes: &[u8]) -> Result<(), Error> {
        let known = self.made.saturating_sub(self.position).min(bytes.len() as u64);
        self.position += bytes.len() as u64;
        let mut bytes = &bytes[known as usize..];
        while !bytes.is_empty() {
            if self.shard.capacity() == 0 {
                // A vector that grows by itself takes twice the room that it needs.
                let left = self.end - self.shards.iter().map(|shard| shard.bytes).sum::<u64>();
                self.shard.reserve_exact(self.shard_bytes.min(left) as usize);
            }
            let room = self.shard_bytes as usize - self.shard.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.shard.extend_from_slice(now);
            bytes = later;
            if self.shard.len() as u64 == self.shard_bytes {
                self.put(section, sink).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn finish(&mut self, section: &str, sink: &mut impl Sink) -> Result<(), Error> {
        if !self.shard.is_empty() {
            self.put(section, sink).await?;
        }
        self.shard = Vec::new();
        Ok(())
    }

    async fn put(&mut self, section: &str, sink: &mut impl Sink) -> Result<(), Error> {
        let index = self.shards.len();
        let sha256 = sink.put(section, index, &self.shard).await?;
        let bytes = self.shard.len() as u64;
        self.shards.push(Shard { file: shard_name(section, index, &sha256), bytes, sha256 });
        self.shard.clear();
        Ok(())
    }
}

//! The writer of one section: tensors are placed first, then their bytes are cut into shards.

use std::ops::Range;

use super::ShardSink;
use super::job::TensorJob;
use crate::Error;
use crate::manifest::{ALIGNMENT, PackedTensor, Shard, shard_name};

/// A section that is being written.
pub(super) struct SectionWriter {
    pub(super) dir: String,
    pub(super) shard_bytes: u64,
    pub(super) shards: Vec<Shard>,
    pub(super) tensors: Vec<PackedTensor>,
    /// Bytes of the shards that an interrupted pass finished. Bytes before this offset are dropped.
    finished: u64,
    /// The offset of the next byte.
    position: u64,
    /// The end of the placed tensors.
    end: u64,
    shard: Vec<u8>,
}

impl SectionWriter {
    pub(super) fn new(dir: &str, shard_bytes: u64, finished: Option<&Vec<Shard>>) -> Self {
        let shards = finished.cloned().unwrap_or_default();
        let finished = shards.iter().map(|shard| shard.bytes).sum();
        let (tensors, shard) = (Vec::new(), Vec::new());
        Self { dir: dir.to_owned(), shard_bytes, shards, tensors, finished, position: finished, end: 0, shard }
    }

    /// Assigns the tensor of `job` its offset.
    pub(super) fn place_tensor(&mut self, job: &TensorJob) {
        let offset = self.end.next_multiple_of(ALIGNMENT);
        self.end = offset + job.packed_bytes;
        self.tensors.push(PackedTensor {
            name: job.name.clone(),
            layout: job.layout,
            shape: job.source.shape.clone(),
            offset,
            bytes: job.packed_bytes,
        });
    }

    fn range(&self, job: &TensorJob) -> Range<u64> {
        let tensor = self.tensors.iter().find(|tensor| tensor.name == job.name).expect("every job has been placed");
        tensor.offset..tensor.offset + tensor.bytes
    }

    /// Returns the bytes that are not in finished shards.
    pub(super) fn remaining_bytes(&self) -> u64 {
        self.end.saturating_sub(self.finished)
    }

    /// Returns whether finished shards hold all of the tensor.
    pub(super) fn is_finished(&self, job: &TensorJob) -> bool {
        self.range(job).end <= self.finished
    }

    /// Moves to the offset of a tensor, of which finished shards may hold a part.
    pub(super) async fn begin_tensor(
        &mut self,
        section: &str,
        sink: &mut impl ShardSink,
        job: &TensorJob,
    ) -> Result<(), Error> {
        let offset = self.range(job).start;
        if offset < self.position {
            self.position = offset;
            return Ok(());
        }
        let padding = vec![0; (offset - self.position) as usize];
        self.append(section, sink, &padding).await
    }

    pub(super) async fn append(&mut self, section: &str, sink: &mut impl ShardSink, bytes: &[u8]) -> Result<(), Error> {
        let finished = self.finished.saturating_sub(self.position).min(bytes.len() as u64);
        self.position += bytes.len() as u64;
        let mut bytes = &bytes[finished as usize..];
        while !bytes.is_empty() {
            if self.shard.capacity() == 0 {
                // A vector that grows by doubling would take twice the memory.
                let remaining = self.end - self.shards.iter().map(|shard| shard.bytes).sum::<u64>();
                self.shard.reserve_exact(self.shard_bytes.min(remaining) as usize);
            }
            let room = self.shard_bytes as usize - self.shard.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.shard.extend_from_slice(now);
            bytes = later;
            if self.shard.len() as u64 == self.shard_bytes {
                self.write_shard(section, sink).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn finish(&mut self, section: &str, sink: &mut impl ShardSink) -> Result<(), Error> {
        if !self.shard.is_empty() {
            self.write_shard(section, sink).await?;
        }
        self.shard = Vec::new();
        Ok(())
    }

    async fn write_shard(&mut self, section: &str, sink: &mut impl ShardSink) -> Result<(), Error> {
        let index = self.shards.len();
        let sha256 = sink.put(section, index, &self.shard).await?;
        let bytes = self.shard.len() as u64;
        self.shards.push(Shard { file: shard_name(section, index, &sha256), bytes, sha256 });
        self.shard.clear();
        Ok(())
    }
}
